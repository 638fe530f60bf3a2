/* See cooccur.h. */
#include "recommend/cooccur.h"

#include <math.h>

#include "base/thread.h"
#include "catalog/catalog.h"
#include "compute/best.h"

#define PRIOR 5.0

struct cooccur {
    const struct catalog *catalog;
    size_t items;
    uint64_t *starts;           /* [items + 1] of each item's raters */
    uint32_t *raters;           /* numbers of users, ascending */
    float *inverse;             /* [items] 1 / sqrt(raters + PRIOR) */
};

enum akin_status cooccur_create(const struct catalog *catalog, struct cooccur **cooccur,
                                struct akin_error *error)
{
    struct akin_catalog_info info;
    struct cooccur *c = memory_alloc(1, sizeof *c);
    if (!c)
        return error_memory(error);
    catalog_info(catalog, &info);
    c->catalog = catalog;
    c->items = info.items;
    c->starts = memory_alloc(c->items + 2, sizeof *c->starts);
    c->raters = memory_alloc(info.ratings + 1, sizeof *c->raters);
    c->inverse = memory_alloc(c->items + 1, sizeof *c->inverse);
    if (!c->starts || !c->raters || !c->inverse) {
        cooccur_destroy(&c);
        return error_memory(error);
    }
    for (size_t row = 0; row < c->items; row++) {
        size_t count = catalog_item_ratings(catalog, row);
        c->starts[row + 2] = c->starts[row + 1] + count;
        c->inverse[row] = (float)(1 / sqrt((double)count + PRIOR));
    }
    for (size_t user = 0; user < info.users; user++) {
        size_t count = 0;
        const struct akin_rating *ratings = catalog_user_ratings(catalog, user, &count);
        for (size_t i = 0; i < count; i++)
            c->raters[c->starts[ratings[i].row + 1]++] = (uint32_t)user;
    }
    *cooccur = c;
    return AKIN_OK;
}

void cooccur_destroy(struct cooccur **cooccur)
{
    struct cooccur *c = *cooccur;
    if (!c)
        return;
    memory_free(c->starts);
    memory_free(c->raters);
    memory_free(c->inverse);
    memory_free(c);
    *cooccur = NULL;
}

uint64_t cooccur_bytes(const struct cooccur *c)
{
    return c->items * (sizeof *c->starts + sizeof *c->inverse) +
           c->starts[c->items] * sizeof *c->raters;
}

/* How many of the raters taken rated each item, to `counting`; returns what a count is worth. */
static float count_shared(const struct cooccur *c, size_t row, struct gather *counting)
{
    uint64_t first = c->starts[row], raters = c->starts[row + 1] - first;
    uint64_t taken = raters < COOCCUR_RATERS ? raters : COOCCUR_RATERS;
    for (uint64_t i = 0; i < taken; i++) {
        size_t count = 0;
        uint32_t user = c->raters[first + i * raters / taken];
        const struct akin_rating *ratings = catalog_user_ratings(c->catalog, user, &count);
        for (size_t j = 0; j < count; j++)
            gather_add(counting, ratings[j].row, 1);
    }
    return taken ? c->inverse[row] * (float)raters / (float)taken : 0;
}

void cooccur_gather(const struct cooccur *c, size_t row, struct gather *counting,
                    struct gather *out)
{
    float share = count_shared(c, row, counting);
    for (size_t i = 0; i < counting->count; i++) {
        uint32_t other = counting->touched[i];
        if (other != row)
            gather_add(out, other, share * counting->values[other] * c->inverse[other]);
    }
    gather_clear(counting);
}

size_t cooccur_row(const struct cooccur *c, size_t row, struct gather *counting,
                   struct item_weight out[COOCCUR_ROW])
{
    struct hit hits[COOCCUR_ROW];
    struct best best = { .hits = hits, .capacity = COOCCUR_ROW };
    float share = count_shared(c, row, counting);
    for (size_t i = 0; i < counting->count; i++) {
        uint32_t other = counting->touched[i];
        if (other != row)
            best_offer(&best, (struct hit){ share * counting->values[other] * c->inverse[other],
                                            other });
    }
    gather_clear(counting);
    for (size_t i = 0; i < best.count; i++)
        out[i] = (struct item_weight){ hits[i].row, hits[i].score };
    return best.count;
}

/* ---- all rows --------------------------------------------------------------------------- */

struct rows_job {
    const struct cooccur *cooccur;
    const uint64_t *starts;
    struct item_weight *entries;
    struct gather *counting;    /* [threads] */
};

static void make_row(void *context, size_t row, int worker)
{
    struct rows_job *job = context;
    if (job->starts[row] < job->starts[row + 1])
        cooccur_row(job->cooccur, row, &job->counting[worker], job->entries + job->starts[row]);
}

enum akin_status cooccur_rows(const struct cooccur *c, struct thread_pool *pool,
                              struct item_rows *rows, struct akin_error *error)
{
    size_t threads = pool ? (size_t)thread_pool_size(pool) : 1, ready = 0;
    uint64_t *starts = memory_alloc(c->items + 1, sizeof *starts);
    struct gather *counting = memory_alloc(threads, sizeof *counting);
    *rows = (struct item_rows){ .items = c->items, .starts = starts };
    for (size_t row = 0; starts && row < c->items; row++)
        starts[row + 1] = starts[row] + (c->starts[row] < c->starts[row + 1] ? COOCCUR_ROW : 0);
    struct item_weight *entries =
        starts ? memory_alloc(starts[c->items] + 1, sizeof *entries) : NULL;
    rows->entries = entries;
    while (counting && ready < threads && gather_init(&counting[ready], c->items))
        ready++;
    bool made = entries && ready == threads;
    struct rows_job job = { c, starts, entries, counting };
    if (made && pool)
        thread_pool_each(pool, c->items, make_row, &job);
    for (size_t row = 0; made && !pool && row < c->items; row++)
        make_row(&job, row, 0);
    for (size_t i = 0; counting && i < threads; i++)
        gather_deinit(&counting[i]);
    memory_free(counting);
    return made ? AKIN_OK : error_memory(error);
}

void item_rows_free(struct item_rows *rows)
{
    memory_free((void *)rows->starts);
    memory_free((void *)rows->entries);
    *rows = (struct item_rows){ 0 };
}

uint64_t item_rows_bytes(const struct item_rows *rows)
{
    return rows->starts ? rows->items * sizeof *rows->starts +
                              rows->starts[rows->items] * sizeof *rows->entries : 0;
}

void item_rows_gather(const struct item_rows *rows, size_t row, float weight, struct gather *out)
{
    for (uint64_t i = rows->starts[row]; i < rows->starts[row + 1]; i++)
        if (rows->entries[i].row < out->items)
            gather_add(out, rows->entries[i].row, weight * rows->entries[i].weight);
}
