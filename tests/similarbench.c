/* How many of a franchise `recommend --similar` finds, and how long requests take:
 *
 *   similarbench DATA FRANCHISES.csv      rows of "franchise,movieId,title"
 *   similarbench DATA FRANCHISES.csv parts    recall by parts alone
 *   similarbench DATA                     times alone
 *
 * Recall@10 of a film is hits / min(10, other members) among all items of the catalogue; of a
 * franchise the mean of its films; macro the mean of franchises. By published vectors, by parts,
 * and by parts with the index of akin_recommender_prepare. Beside it what a collapse to the popular
 * would show in: how many different items the answers name, and how novel they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "catalog/catalog.h"
#include "compute/backend.h"
#include "recommend/recommend.h"
#include "recommend/space.h"
#include "recommend/users.h"

enum { FRANCHISES_MAX = 100, MEMBERS_MAX = 100, K = 10, REQUESTS = 1000, BATCH_ROUNDS = 7 };

struct franchise {
    char name[64];
    size_t rows[MEMBERS_MAX], count;
};

static struct franchise franchises[FRANCHISES_MAX];
static size_t franchise_count;
static struct catalog *catalog;
static struct akin_catalog_info info;
static struct recommender *r;

static void must(enum akin_status status, const struct akin_error *error)
{
    if (status == AKIN_OK)
        return;
    fprintf(stderr, "similarbench: %s\n", error->message);
    exit(1);
}

/* ---- franchises ------------------------------------------------------------------------- */

static struct franchise *franchise_of(const char *name, size_t bytes)
{
    for (size_t i = 0; i < franchise_count; i++)
        if (strlen(franchises[i].name) == bytes && !memcmp(franchises[i].name, name, bytes))
            return &franchises[i];
    if (franchise_count == FRANCHISES_MAX || bytes >= sizeof franchises[0].name)
        return NULL;
    struct franchise *f = &franchises[franchise_count++];
    memcpy(f->name, name, bytes);
    return f;
}

static void read_franchises(const char *path)
{
    struct akin_error error = { 0 };
    struct line_reader *reader;
    const char *line;
    size_t bytes, missing = 0, row;
    char id[64];
    must(line_reader_open(path, &reader, &error), &error);
    must(line_reader_next(reader, &line, &bytes, &error), &error);      /* the header */
    for (;;) {
        must(line_reader_next(reader, &line, &bytes, &error), &error);
        const char *comma = line ? memchr(line, ',', bytes) : NULL;
        if (!comma)
            break;
        struct franchise *f = franchise_of(line, (size_t)(comma - line));
        snprintf(id, sizeof id, "ml_%.*s", (int)strcspn(comma + 1, ","), comma + 1);
        if (!f || f->count == MEMBERS_MAX || catalog_find_id(catalog, id, &row, NULL) != AKIN_OK)
            missing++;
        else
            f->rows[f->count++] = row;
    }
    line_reader_close(&reader);
    if (missing)
        printf("%zu films are not in the catalogue\n", missing);
}

struct outcome {
    double recall[FRANCHISES_MAX], macro, novelty;
    size_t covered, asked;
};

static double ask_member(const struct franchise *f, size_t member, enum akin_ranking ranking,
                         unsigned char *named, double *novelty)
{
    struct akin_request request;
    struct akin_recommendation results[K];
    struct akin_item item;
    struct akin_list_report report;
    struct akin_error error = { 0 };
    size_t found, hits = 0, others = f->count - 1;
    recommend_request_default(&request);
    catalog_item(catalog, f->rows[member], &item);
    request.similar = item.id;
    request.ranking = ranking;
    request.k = K;
    must(recommend(r, &request, NULL, results, NULL, &found, NULL, &error), &error);
    for (size_t i = 0; i < found; i++) {
        named[results[i].row] = 1;
        for (size_t j = 0; j < f->count; j++)
            hits += f->rows[j] == results[i].row;
    }
    must(recommend_report(r, results, found, &report, &error), &error);
    *novelty += report.novelty_bits;
    return (double)hits / (double)(others < K ? others : K);
}

static void measure(enum akin_ranking ranking, struct outcome *out)
{
    unsigned char *named = memory_alloc(info.items, 1);
    *out = (struct outcome){ 0 };
    for (size_t i = 0; i < franchise_count; i++) {
        struct franchise *f = &franchises[i];
        for (size_t j = 0; j < f->count && f->count > 1; j++, out->asked++)
            out->recall[i] +=
                ask_member(f, j, ranking, named, &out->novelty) / (double)f->count;
        out->macro += out->recall[i] / (double)franchise_count;
    }
    for (size_t row = 0; row < info.items; row++)
        out->covered += named[row];
    out->novelty /= (double)out->asked;
    memory_free(named);
}

static void print_recall(const struct outcome *outcomes, size_t count, const char *first)
{
    printf("%-24s %6s", "recall@10", "films");
    for (size_t c = 0; c < count; c++)
        printf(" %9s", c == 0 ? first : c == 1 ? "parts" : "prepared");
    printf("\n");
    for (size_t i = 0; i < franchise_count; i++) {
        printf("%-24s %6zu", franchises[i].name, franchises[i].count);
        for (size_t c = 0; c < count; c++)
            printf(" %9.3f", outcomes[c].recall[i]);
        printf("\n");
    }
    printf("%-24s %6zu", "macro", outcomes[0].asked);
    for (size_t c = 0; c < count; c++)
        printf(" %9.3f", outcomes[c].macro);
    printf("\n%-24s %6s", "different items named", "");
    for (size_t c = 0; c < count; c++)
        printf(" %9zu", outcomes[c].covered);
    printf("\n%-24s %6s", "novelty, bits", "");
    for (size_t c = 0; c < count; c++)
        printf(" %9.2f", outcomes[c].novelty);
    printf("\n\n");
}

/* ---- times ------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_times(const char *what, double *ms, size_t count)
{
    qsort(ms, count, sizeof *ms, by_value);
    printf("%-34s p50 %7.4f ms   p99 %7.4f ms\n", what, ms[count / 2], ms[count * 99 / 100]);
}

enum kind { USERS, USERS_WORDS, ITEMS, HISTORIES, WORDS, KINDS };

static void ask_often(enum kind kind)
{
    static const char *const names[] = { "for a user", "for a user, ready query", "like an item",
                                         "after a history of ten", "ready query" };
    static double ms[REQUESTS];
    struct akin_error error = { 0 };
    struct rng rng;
    rng_seed(&rng, 3);
    for (size_t i = 0; i < REQUESTS; i++) {
        struct akin_request request;
        struct akin_recommendation results[K];
        struct akin_recommend_timing timing;
        struct akin_item item;
        const char *history[10];
        const float *query = NULL;
        size_t found, row = rng_below(&rng, info.items);
        recommend_request_default(&request);
        request.ranking = AKIN_RANK_PARTS;
        catalog_item(catalog, row, &item);
        if (kind == USERS || kind == USERS_WORDS)
            request.user = catalog_user_id(catalog, rng_below(&rng, info.users));
        if (kind == USERS_WORDS || kind == WORDS) {
            request.query = "ready";
            query = catalog_item_vector(catalog, row);
        }
        if (kind == ITEMS)
            request.similar = item.id;
        for (size_t h = 0; kind == HISTORIES && h < 10; h++) {
            catalog_item(catalog, rng_below(&rng, info.items), &item);
            history[h] = item.id;
            request.history = history;
            request.history_count = 10;
        }
        must(recommend(r, &request, query, results, NULL, &found, &timing, &error), &error);
        ms[i] = timing.total_ms;
    }
    print_times(names[kind], ms, REQUESTS);
}

static void ask_batches(void)
{
    static const size_t sizes[] = { 1, 10, 100, 1000 };
    float *vectors = memory_alloc_aligned(1000, info.dimension * sizeof *vectors);
    struct akin_recommendation *results = memory_alloc(1000 * K, sizeof *results);
    size_t *found = memory_alloc(1000, sizeof *found);
    struct akin_error error = { 0 };
    for (size_t i = 0; i < 1000; i++)       /* midpoints: off the data, as queries are */
        for (size_t j = 0; j < info.dimension; j++)
            vectors[i * info.dimension + j] =
                catalog_item_vector(catalog, i * (info.items / 1000 ? info.items / 1000 : 1) %
                                                 info.items)[j] +
                catalog_item_vector(catalog, (i * 7919 + 13) % info.items)[j];
    for (size_t s = 0; s < 4; s++) {
        double seconds[BATCH_ROUNDS];
        for (size_t round = 0; round < BATCH_ROUNDS; round++) {
            uint64_t began = clock_monotonic_ns();
            must(recommend_vectors(r, vectors, sizes[s], K, NULL, results, found, &error), &error);
            seconds[round] = seconds_since(began);
        }
        qsort(seconds, BATCH_ROUNDS, sizeof *seconds, by_value);
        printf("batch of %4zu ready vectors        %9.0f queries/s\n", sizes[s],
               (double)sizes[s] / seconds[BATCH_ROUNDS / 2]);
    }
    memory_free(vectors);
    memory_free(results);
    memory_free(found);
}

int main(int argc, char **argv)
{
    struct akin_error error = { 0 };
    struct backend *backend = NULL;
    struct users *users = NULL;
    struct outcome outcomes[3];
    struct users_settings live = { 0 };
    const struct space *space;
    if (argc < 2) {
        fprintf(stderr, "usage: similarbench DATA [FRANCHISES.csv]\n");
        return 2;
    }
    struct thread_pool *pool = thread_pool_create(thread_cpus());
    must(cpu_backend_create(cpu_detect(), pool, &backend, &error), &error);
    must(catalog_open(argv[1], CATALOG_ALL, &catalog, &error), &error);
    catalog_info(catalog, &info);
    uint64_t began = clock_monotonic_ns();
    must(recommender_open(backend, catalog, &r, &error), &error);
    printf("%zu items, %zu ratings; opened in %.0f ms\n", info.items, info.ratings,
           ms_since(began));
    must(recommender_space(r, &space, &error), &error);
    live = (struct users_settings){ .catalog = catalog, .dim = info.dimension,
                                    .vectors = space->vectors,
                                    .kernels = cpu_kernels(backend) };
    users_settings_default(&live.live);
    live.live.store = false;
    must(users_open(&live, &users, &error), &error);
    recommender_use_live(r, users);
    if (argc > 2) {
        read_franchises(argv[2]);
        measure(AKIN_RANK_PARTS, &outcomes[1]);
        if (argc > 3) {
            print_recall(outcomes + 1, 1, "parts");
            return 0;
        }
        measure(AKIN_RANK_VECTORS, &outcomes[0]);
    }
    began = clock_monotonic_ns();
    must(recommender_prepare(r, (struct akin_progress){ 0 }, &error), &error);
    printf("prepared in %.0f ms\n", ms_since(began));
    if (argc > 2) {
        measure(AKIN_RANK_PARTS, &outcomes[2]);
        print_recall(outcomes, 3, "vectors");
    }
    for (enum kind kind = USERS; kind < KINDS; kind++)
        if (info.users || kind >= ITEMS)
            ask_often(kind);
    ask_batches();
    recommender_close(&r);
    users_close(&users);
    catalog_close(&catalog);
    cpu_backend_destroy(&backend);
    thread_pool_destroy(&pool);
    return 0;
}
