/* See made_ratings.h. Numbers of ratings per user are lognormal above the published minimum of 20;
 * an item's share falls with its rank to the power 0.9, which gives the first 16 % of items 90 % of
 * the ratings, about as in MovieLens. Numbers are written by hand: printf would take most of the
 * time. */
#include "cli/made_ratings.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"

enum {
    FULL_ITEMS = 62423, FULL_USERS = 162541, FULL_RATINGS = 25000000,
    ITEMS_MIN = 1000, RATED_MIN = 20, BLOCK_BYTES = 1 << 20, ROW_BYTES_MAX = 64,
    FIRST_SECOND = 789652009, LAST_SECOND = 1574327703,     /* of MovieLens 25M */
};

struct made_sizes made_sizes_for(size_t ratings)
{
    size_t users = (size_t)((double)ratings * FULL_USERS / FULL_RATINGS);
    size_t items = ITEMS_MIN + ratings / 400;
    return (struct made_sizes){ .items = items < FULL_ITEMS ? items : FULL_ITEMS,
                                .users = users ? users : 1, .ratings = ratings };
}

/* ---- what is drawn ---------------------------------------------------------------------- */

struct maker {
    const struct made_sizes *sizes;
    struct rng rng;
    double *shares;         /* [items]: of the items up to this one */
    uint32_t *ids;          /* [items]: an item of this rank */
    uint32_t *counts;       /* [users] */
    uint32_t *stamps;       /* [items]: the user who rated it last */
    uint32_t *rated;        /* [items]: of one user */
    char *block;
    size_t used;
    struct file_writer *writer;
};

static size_t draw_rank(struct maker *m)
{
    double at = (double)(rng_next(&m->rng) >> 11) * 0x1p-53 * m->shares[m->sizes->items - 1];
    size_t low = 0, high = m->sizes->items - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (m->shares[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void draw_items(struct maker *m)
{
    double sum = 0;
    for (size_t i = 0; i < m->sizes->items; i++) {
        m->shares[i] = sum += pow((double)i + 1, -0.9);
        m->ids[i] = (uint32_t)i + 1;
    }
    rng_shuffle(&m->rng, m->ids, m->sizes->items);
}

static enum akin_status draw_counts(struct maker *m, struct akin_error *error)
{
    size_t users = m->sizes->users, most = m->sizes->items / 8;
    double *weights = memory_alloc(users, sizeof *weights), sum = 0;
    if (!weights)
        return error_memory(error);
    for (size_t i = 0; i < users; i++)
        sum += weights[i] = exp(1.2 * (double)rng_normal(&m->rng));
    double spare = (double)m->sizes->ratings - (double)users * RATED_MIN;
    size_t given = 0;
    for (size_t i = 0; i < users; i++) {
        double more = spare > 0 ? spare * weights[i] / sum : 0;
        m->counts[i] = RATED_MIN + (uint32_t)(more < (double)most ? more : (double)most);
        given += m->counts[i];
    }
    for (size_t i = 0; given < m->sizes->ratings; i = (i + 1) % users) {
        size_t step = (m->sizes->ratings - given) / users + 1;
        if (m->counts[i] + step > 2 * most)
            break;
        m->counts[i] += (uint32_t)step;
        given += step;
    }
    memory_free(weights);
    return AKIN_OK;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Different items for a user (numbered from 1), ascending. */
static void draw_rated(struct maker *m, uint32_t user)
{
    size_t count = m->counts[user - 1];
    for (size_t i = 0; i < count;) {
        uint32_t id = m->ids[draw_rank(m)];
        if (m->stamps[id - 1] == user)
            continue;
        m->stamps[id - 1] = user;
        m->rated[i++] = id;
    }
    qsort(m->rated, count, sizeof *m->rated, ascending);
}

/* ---- what is written -------------------------------------------------------------------- */

static void put_number(struct maker *m, uint64_t number, char behind)
{
    char digits[24];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count)
        m->block[m->used++] = digits[--count];
    m->block[m->used++] = behind;
}

static enum akin_status flush(struct maker *m, struct akin_error *error)
{
    TRY(file_writer_write(m->writer, m->block, m->used, error));
    m->used = 0;
    return AKIN_OK;
}

static enum akin_status write_films(struct maker *m, struct akin_error *error)
{
    static const char *const genres[] = { "Drama", "Comedy", "Thriller", "Romance", "Action" };
    struct bytes text = { 0 };
    bytes_append_text(&text, "movieId,title,genres\n");
    for (size_t i = 0; i < m->sizes->items; i++)
        bytes_printf(&text, "%zu,Made Up %zu (%zu),%s|%s\n", i + 1, i + 1, 1920 + i % 100,
                     genres[i % 5], genres[(i + 1 + i / 5 % 4) % 5]);
    enum akin_status status =
        text.failed ? error_memory(error)
                    : file_writer_write(m->writer, text.data, text.count, error);
    bytes_deinit(&text);
    return status;
}

static enum akin_status write_user(struct maker *m, uint32_t user, struct akin_error *error)
{
    uint64_t time = FIRST_SECOND + rng_below(&m->rng, LAST_SECOND - FIRST_SECOND);
    draw_rated(m, user);
    for (size_t i = 0; i < m->counts[user - 1]; i++) {
        uint64_t halves = 1 + rng_below(&m->rng, 10);
        if (m->used + ROW_BYTES_MAX > BLOCK_BYTES)
            TRY(flush(m, error));
        put_number(m, user, ',');
        put_number(m, m->rated[i], ',');
        put_number(m, halves / 2, '.');
        put_number(m, halves % 2 * 5, ',');
        put_number(m, time + rng_below(&m->rng, 7200), '\n');
    }
    return AKIN_OK;
}

static enum akin_status write_ratings(struct maker *m, struct akin_progress progress,
                                      struct akin_error *error)
{
    TRY(file_writer_write(m->writer, "userId,movieId,rating,timestamp\n", 32, error));
    for (size_t user = 1; user <= m->sizes->users; user++) {
        if (user % 256 == 0 && progress.update &&
            !progress.update(progress.cookie, "made-up ratings", user, m->sizes->users))
            return error_set(error, AKIN_CANCELLED, "stopped while ratings were made up");
        TRY(write_user(m, (uint32_t)user, error));
    }
    return flush(m, error);
}

static enum akin_status make(struct maker *m, const char *folder, struct akin_progress progress,
                             struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(path_make_folders(folder, error));
    draw_items(m);
    TRY(draw_counts(m, error));
    TRY(path_join(path, sizeof path, folder, "movies.csv", error));
    TRY(file_writer_open(path, &m->writer, error));
    TRY(write_films(m, error));
    TRY(file_writer_commit(&m->writer, error));
    TRY(path_join(path, sizeof path, folder, "ratings.csv", error));
    TRY(file_writer_open(path, &m->writer, error));
    TRY(write_ratings(m, progress, error));
    return file_writer_commit(&m->writer, error);
}

enum akin_status made_ratings_write(const char *folder, const struct made_sizes *sizes,
                                    uint64_t seed, struct akin_progress progress,
                                    struct akin_error *error)
{
    size_t items = sizes->items;
    ASSERT(items >= 8 * RATED_MIN && items < UINT32_MAX && sizes->users < UINT32_MAX);
    struct maker m = { .sizes = sizes, .shares = memory_alloc(items, sizeof *m.shares),
                       .ids = memory_alloc(items, sizeof *m.ids),
                       .counts = memory_alloc(sizes->users, sizeof *m.counts),
                       .stamps = memory_alloc(items, sizeof *m.stamps),
                       .rated = memory_alloc(items, sizeof *m.rated),
                       .block = memory_alloc(BLOCK_BYTES, 1) };
    rng_seed(&m.rng, seed);
    enum akin_status status = AKIN_OK;
    if (!m.shares || !m.ids || !m.counts || !m.stamps || !m.rated || !m.block)
        status = error_memory(error);
    if (status == AKIN_OK)
        status = make(&m, folder, progress, error);
    file_writer_abort(&m.writer);
    memory_free(m.shares);
    memory_free(m.ids);
    memory_free(m.counts);
    memory_free(m.stamps);
    memory_free(m.rated);
    memory_free(m.block);
    return status;
}
