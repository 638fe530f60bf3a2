/* One query: all rows, the rows of a list, or the best estimates; and what a search is split into.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "index/flat_handle.h"

/* A listed row costs as much as two rows of a scan (measured: 384 bytes each, out of the
 * third-level cache), and as much as ten estimates. */
enum { LIST_COST = 2, LIST_ESTIMATES = 10 };
/* A group of fewer queries than this for each thread is slower than one query after the other. */
enum { GROUP_MIN = 8 };

/* ---- exact ------------------------------------------------------------------------------ */

static bool add_found(struct flat_task *task, const uint64_t *allowed, size_t count)
{
    struct flat_scratch *s = task->scratch;
    struct candidates *c = &s->one;
    for (size_t i = 0; i < count; i++)
        if (flat_allows(allowed, s->found[i]) && !candidates_add(c, s->values[i], s->found[i]))
            return false;
    return c->count < c->limit || candidates_tighten(c, task);
}

static bool scan_list(struct flat_task *task, size_t count)
{
    struct flat_scratch *s = task->scratch;
    size_t found = screen_list(task->flat->backend, &task->flat->screen, &task->query, s->list,
                               count, task->threshold, s->found, s->values);
    return add_found(task, NULL, found);
}

/* The rows whose bits are set, one after the other. */
static bool scan_allowed(struct flat_task *task, const uint64_t *allowed)
{
    size_t rows = task->flat->screen.count, words = (rows + 63) / 64, count = 0;
    for (size_t w = 0; w < words; w++) {
        uint64_t word = allowed[w];
        if (w + 1 == words && rows % 64)
            word &= ~0ull >> (64 - rows % 64);
        for (; word; word &= word - 1) {
            task->scratch->list[count++] = (uint32_t)(64 * w + (size_t)__builtin_ctzll(word));
            if (count == SCREEN_STEP && !scan_list(task, count))
                return false;
            count %= SCREEN_STEP;
        }
    }
    return !count || scan_list(task, count);
}

static bool scan_all(struct flat_task *task, const uint64_t *allowed)
{
    const struct flat *flat = task->flat;
    struct flat_scratch *s = task->scratch;
    for (size_t row = 0; row < flat->screen.count; row += SCREEN_STEP) {
        size_t rest = flat->screen.count - row, count = rest < SCREEN_STEP ? rest : SCREEN_STEP;
        size_t found = screen_range(flat->backend, &flat->screen, &task->query, row, count,
                                    task->threshold, s->found, s->values);
        if (!add_found(task, allowed, found))
            return false;
    }
    return true;
}

void flat_search_all(const struct flat *flat, struct flat_scratch *scratch,
                     const struct segment_query *query, size_t at, const struct segment_hits *hits)
{
    const float *vector = query->queries + at * flat->screen.dim;
    struct best best = { .hits = hits->hits + at * query->k, .capacity = query->k };
    for (size_t row = 0; row < flat->screen.count; ) {
        size_t count = 0;
        float scores[SCREEN_TILE_MAX];
        for (; row < flat->screen.count && count < SCREEN_TILE_MAX; row++)
            if (flat_allows(query->allowed, row))
                scratch->list[count++] = (uint32_t)row;
        originals_score(flat->backend, &flat->originals, vector, scratch->list, count,
                        scratch->widened, scores);
        for (size_t i = 0; i < count; i++)
            best_offer(&best, (struct hit){ scores[i], scratch->list[i] });
    }
    hits->found[at] = best.count;
    best_drain(&best, best.hits);
}

/* ---- estimates -------------------------------------------------------------------------- */

/* The best `wanted` estimates of rows that are allowed, as candidates. */
static bool best_estimates(struct flat_task *task, const uint64_t *allowed, size_t wanted)
{
    const struct flat *flat = task->flat;
    struct flat_scratch *s = task->scratch;
    struct candidates *c = &s->one;
    size_t blocks = (flat->screen.count + FLAT_BLOCK_ROWS - 1) / FLAT_BLOCK_ROWS;
    size_t bytes = sketch_block_bytes(flat->space), full = 3 * wanted + 64;
    const struct sketch_query *query = sketch_prepare(flat->space, task->vector, s->prepared);
    float threshold = -INFINITY;
    for (size_t b = 0; b < blocks; b += 8) {
        size_t live = blocks - b < 8 ? blocks - b : 8, first = b * FLAT_BLOCK_ROWS;
        size_t rows = flat->screen.count - first, found;
        rows = rows < live * FLAT_BLOCK_ROWS ? rows : live * FLAT_BLOCK_ROWS;
        sketch_estimate(flat->space, query, flat->sketches + b * bytes, live, s->estimates);
        found = pick_above(flat->backend, s->found, s->estimates, threshold, rows);
        for (size_t i = 0; i < found; i++) {
            uint32_t row = s->found[i] + (uint32_t)first;
            if (flat_allows(allowed, row) && !candidates_add(c, s->estimates[s->found[i]], row))
                return false;
        }
        if (c->count < full)
            continue;
        flat_largest(c->keys, c->count, wanted);
        c->count = wanted;
        threshold = INFINITY;
        for (size_t i = 0; i < wanted; i++)
            threshold = fminf(threshold, flat_key_value(c->keys[i]));
    }
    if (c->count > wanted) {
        flat_largest(c->keys, c->count, wanted);
        c->count = wanted;
    }
    return true;
}

/* Candidates' rows through the bytes, so that the end is that of an exact search among them. */
static bool screen_candidates(struct flat_task *task)
{
    struct flat_scratch *s = task->scratch;
    struct candidates *c = &s->one;
    size_t count = c->count;
    if (!array_reserve((void **)&s->spare, &s->spare_capacity, count, sizeof *s->spare))
        return false;
    uint64_t *keys = s->spare;      /* the two swap, so that the old list survives the new one */
    size_t capacity = s->spare_capacity;
    s->spare = c->keys;
    s->spare_capacity = c->capacity;
    c->keys = keys;
    c->capacity = capacity;
    candidates_reset(c, task->k);
    c->limit = SIZE_MAX;            /* the spare list is in use */
    for (size_t i = 0; i < count; i += SCREEN_STEP) {
        size_t live = count - i < SCREEN_STEP ? count - i : SCREEN_STEP;
        for (size_t j = 0; j < live; j++)
            s->list[j] = flat_key_row(s->spare[i + j]);
        if (!scan_list(task, live))
            return false;
    }
    return true;
}

/* ---- one query -------------------------------------------------------------------------- */

enum plan { SCAN, LIST, ESTIMATE };

static enum plan choose(const struct flat *flat, const struct segment_query *query, size_t *wanted)
{
    size_t rows = flat->screen.count;
    size_t allowed = query->allowed ? query->allowed_count : rows;
    if (!query->exact && query->recall < 1 && flat->space && allowed > rows / LIST_ESTIMATES) {
        *wanted = flat_candidates(flat->header, query->k, query->recall, allowed);
        if (*wanted < rows / LIST_ESTIMATES)
            return ESTIMATE;
    }
    return query->allowed && allowed < rows / LIST_COST ? LIST : SCAN;
}

bool flat_search_one(const struct flat *flat, struct flat_scratch *scratch,
                     const struct segment_query *query, size_t at, const struct segment_hits *hits)
{
    struct flat_task task = {
        .flat = flat, .scratch = scratch, .vector = query->queries + at * flat->screen.dim,
        .k = query->k, .threshold = -INFINITY,
    };
    if (!screen_prepare(&flat->screen, task.vector, scratch->digits, &task.query)) {
        flat_search_all(flat, scratch, query, at, hits);
        return true;
    }
    size_t wanted = 0;
    bool done = false;
    candidates_reset(&scratch->one, query->k);
    switch (choose(flat, query, &wanted)) {
    case ESTIMATE:
        done = best_estimates(&task, query->allowed, wanted) && screen_candidates(&task);
        break;
    case LIST:
        done = scan_allowed(&task, query->allowed);
        break;
    case SCAN:
        done = scan_all(&task, query->allowed);
        break;
    }
    return done && candidates_finish(&scratch->one, &task, hits->hits + at * query->k,
                                     &hits->found[at]);
}

/* ---- all queries ------------------------------------------------------------------------ */

struct job {
    const struct flat *flat;
    const struct segment_query *query;
    const struct segment_hits *hits;
    struct flat_scratch **scratch;      /* [threads] */
    size_t group;                       /* queries of an item */
    bool failed;                        /* set to true only; read when all are done */
};

static void search_item(void *context, size_t item, int worker)
{
    struct job *job = context;
    struct flat_scratch *s = job->scratch[worker];
    size_t first = item * job->group, rest = job->query->count - first;
    bool done = job->group == 1
        ? flat_search_one(job->flat, s, job->query, first, job->hits)
        : flat_search_group(job->flat, s, job->query, first, rest < job->group ? rest : job->group,
                            job->hits);
    if (!done)
        __atomic_store_n(&job->failed, true, __ATOMIC_RELAXED);
}

/* Queries that are multiplied with each row together; 1: each by itself. */
static size_t group_size(const struct flat *flat, const struct segment_query *query, size_t threads)
{
    size_t wanted, each = (query->count + threads - 1) / threads;
    size_t most = screen_group_size(flat->backend);
    if (each < GROUP_MIN || choose(flat, query, &wanted) != SCAN)
        return 1;
    /* as many groups on each thread, as full as they go */
    size_t rounds = (each + most - 1) / most;
    return (each + rounds - 1) / rounds;
}

static enum akin_status check_query(const struct flat *flat, const struct segment_query *query,
                                    struct akin_error *error)
{
    if (query->k < 1 || query->k > K_MAX)
        return error_set(error, AKIN_ARGUMENT, "k is %zu; it must be in 1..%d", query->k, K_MAX);
    for (size_t i = 0; i < query->count * flat->screen.dim; i++)
        if (!isfinite(query->queries[i]))
            return error_set(error, AKIN_ARGUMENT, "query %zu: column %zu is not finite",
                             i / flat->screen.dim, i % flat->screen.dim);
    return AKIN_OK;
}

enum akin_status flat_search(const struct flat *flat, const struct segment_query *query,
                             const struct segment_hits *hits, struct akin_error *error)
{
    struct flat_scratch *few[16] = { 0 }, **scratch = few;
    size_t threads = query->count > 1 && flat->pool ? (size_t)thread_pool_size(flat->pool) : 1;
    TRY(check_query(flat, query, error));
    if (threads > 16 && !(scratch = memory_alloc(threads, sizeof *scratch)))
        return error_memory(error);
    struct job job = { flat, query, hits, scratch, group_size(flat, query, threads), false };
    size_t items = (query->count + job.group - 1) / job.group;
    threads = items < 2 ? 1 : threads;
    for (size_t i = 0; i < threads; i++) {
        scratch[i] = flat_scratch_take(flat);
        job.failed |= !scratch[i];
    }
    if (!job.failed && threads > 1)
        thread_pool_each(flat->pool, items, search_item, &job);
    else
        for (size_t i = 0; !job.failed && i < items; i++)
            search_item(&job, i, 0);
    for (size_t i = 0; i < threads; i++)
        if (scratch[i])
            flat_scratch_give(flat, scratch[i]);
    if (scratch != few)
        memory_free(scratch);
    return job.failed ? error_memory(error) : AKIN_OK;
}
