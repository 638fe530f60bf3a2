/* The targets of the five-test report: what each value is, and its limit. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/bench_recommend.h"

enum { TOP_GENRES = 3, GENRES_MAX = 64, TOP = 5, FRANCHISE_TOP = 3 };

double batch_qps(const struct batch_result *batch)
{
    return batch->ms > 0 ? 1000 * (double)batch->size / batch->ms : 0;
}

/* ---- test 1: the same franchise ---------------------------------------------------------- */

/* What films of a series share: the title before the year, a colon, and a number at the end.
 * "Toy Story 2 (1999)" gives "Toy Story". */
static size_t franchise_length(const char *title)
{
    const char *year = strstr(title, " (");
    size_t length = year ? (size_t)(year - title) : strlen(title);
    const char *colon = memchr(title, ':', length);
    if (colon && colon != title)
        length = (size_t)(colon - title);
    size_t number = length;
    while (number > 0 &&
           (isdigit((unsigned char)title[number - 1]) || strchr("IVX", title[number - 1])))
        number--;
    if (number > 1 && number < length && title[number - 1] == ' ')
        length = number - 1;
    return length;
}

static bool same_franchise(const char *a, const char *b)
{
    size_t n = franchise_length(a);
    return n > 0 && n == franchise_length(b) && strncasecmp(a, b, n) == 0;
}

/* Share of the best three that belong to the item's series, of as many as the catalogue has. */
static double franchise_share(const struct recommend_bench *b)
{
    size_t exist = 0, found = 0;
    struct akin_item item;
    for (size_t row = 0; row < b->info.items; row++) {
        akin_catalog_item(b->catalog, row, &item);
        exist += row != b->row && same_franchise(b->item.title, item.title);
    }
    size_t want = exist < FRANCHISE_TOP ? exist : FRANCHISE_TOP;
    for (size_t i = 0; i < FRANCHISE_TOP && i < b->similar.found; i++) {
        akin_catalog_item(b->catalog, b->similar.results[i].row, &item);
        found += same_franchise(b->item.title, item.title);
    }
    return want ? 100.0 * (double)found / (double)want : NAN;
}

static double mean_similarity(const struct measured *m)
{
    size_t count = m->found < TOP ? m->found : TOP;
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)m->results[i].similarity;
    return count ? 100 * sum / (double)count : NAN;
}

/* ---- test 2: genres that the user likes -------------------------------------------------- */

struct genre_count {
    const char *genre;
    size_t count;
};

static int more_first(const void *a, const void *b)
{
    const struct genre_count *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count)
                                : strcmp(x->genre, y->genre);
}

/* The genres of what a user rated, most frequent first; those past GENRES_MAX are not counted. */
static size_t genres_of_user(const struct recommend_bench *b, size_t user,
                             struct genre_count *genres)
{
    size_t rated = 0, count = 0;
    const struct akin_rating *ratings = akin_catalog_user_ratings(b->catalog, user, &rated);
    for (size_t r = 0; r < rated; r++) {
        struct akin_item item;
        akin_catalog_item(b->catalog, ratings[r].row, &item);
        for (size_t g = 0; g < item.genre_count; g++) {
            size_t at = 0;
            while (at < count && strcmp(genres[at].genre, item.genres[g]) != 0)
                at++;
            if (at == GENRES_MAX)
                continue;
            if (at == count)
                genres[count++] = (struct genre_count){item.genres[g], 0};
            genres[at].count++;
        }
    }
    qsort(genres, count, sizeof *genres, more_first);
    return count;
}

static bool has_genre(const struct akin_item *item, const char *genre)
{
    for (size_t g = 0; g < item->genre_count; g++)
        if (strcmp(item->genres[g], genre) == 0)
            return true;
    return false;
}

/* Share of recommendations with one of the three genres that the user rated most. */
static double genre_alignment(const struct recommend_bench *b)
{
    size_t hits = 0, all = 0;
    for (size_t u = 0; u < b->user_count; u++) {
        struct genre_count genres[GENRES_MAX];
        const struct measured *m = &b->users[u].measured;
        size_t count = genres_of_user(b, b->users[u].user, genres);
        if (count == 0)
            continue;
        for (size_t i = 0; i < m->found; i++) {
            struct akin_item item;
            bool hit = false;
            akin_catalog_item(b->catalog, m->results[i].row, &item);
            for (size_t g = 0; g < TOP_GENRES && g < count; g++)
                hit = hit || has_genre(&item, genres[g].genre);
            hits += hit;
            all++;
        }
    }
    return all ? 100.0 * (double)hits / (double)all : NAN;
}

static double mean_user_ms(const struct recommend_bench *b)
{
    double sum = 0;
    for (size_t i = 0; i < b->user_count; i++)
        sum += b->users[i].measured.ms;
    return b->user_count ? sum / (double)b->user_count : NAN;
}

/* ---- test 4: the filter ------------------------------------------------------------------ */

static double filter_accuracy(const struct recommend_bench *b)
{
    size_t right = 0;
    for (size_t i = 0; i < b->filtered.found; i++) {
        struct akin_item item;
        akin_catalog_item(b->catalog, b->filtered.results[i].row, &item);
        right += has_genre(&item, b->genre);
    }
    return b->filtered.found ? 100.0 * (double)right / (double)b->filtered.found : NAN;
}

/* ---- all of them ------------------------------------------------------------------------- */

size_t recommend_targets(const struct recommend_bench *b, struct bench_target *targets)
{
    const char *no_users = "no users with ratings", *no_genre = "the item has no genre";
    double per_query_100 = b->batches[1].ms / (double)b->batches[1].size;
    double per_query_1000 = b->batches[2].ms / (double)b->batches[2].size;
    double headroom = b->machine.memory_bytes
                          ? 100 * (1 - (double)b->peak_rss_bytes / (double)b->machine.memory_bytes)
                          : NAN;
    double top = b->similar.found ? 100 * (double)b->similar.results[0].similarity : NAN;
    bool filter = *b->filter != '\0';
    const struct bench_target all[] = {
        {"single query", "ms", BENCH_BELOW, b->similar.ms, 1, ""},
        {"franchise films among the top 3", "%", BENCH_AT_LEAST, franchise_share(b), 100,
         "the item has no series"},
        {"similarity of the best result", "%", BENCH_AT_LEAST, top, 90, "no result"},
        {"similarity of the top 5, mean", "%", BENCH_AT_LEAST, mean_similarity(&b->similar), 85,
         "no result"},
        {"one user", "ms", BENCH_BELOW, mean_user_ms(b), 2, no_users},
        {"genres that the user rated most", "%", BENCH_AT_LEAST, genre_alignment(b), 80, no_users},
        {"batch of 100, total", "ms", BENCH_BELOW, b->batches[1].ms, 30, ""},
        {"batch of 100, throughput", "QPS", BENCH_AT_LEAST, batch_qps(&b->batches[1]), 1000, ""},
        {"time per query, 1000 against 100", "times", BENCH_BELOW,
         per_query_100 > 0 ? per_query_1000 / per_query_100 : NAN, 1.2, "too fast to tell"},
        {"filter accuracy", "%", BENCH_AT_LEAST, filter ? filter_accuracy(b) : NAN, 100, no_genre},
        {"filtered query", "ms", BENCH_BELOW, filter ? b->filtered.ms : NAN, 1, no_genre},
        {"base memory", "GB", BENCH_BELOW, (double)b->rss_bytes / 1e9, 2, ""},
        {"peak memory", "GB", BENCH_BELOW, (double)b->peak_rss_bytes / 1e9, 5, ""},
        {"memory headroom", "%", BENCH_AT_LEAST, headroom, 90, "memory size unknown"},
    };
    memcpy(targets, all, sizeof all);
    return sizeof all / sizeof all[0];
}
