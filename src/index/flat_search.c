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

enum { CHUNK_BLOCKS = 8, CHUNK_ROWS = CHUNK_BLOCKS * FLAT_BLOCK_ROWS };
/* One chunk of so many tells where the threshold of all will be. */
enum { SAMPLED = 16 };

struct estimates {
    struct flat_task *task;
    const struct sketch_query *query;
    const uint64_t *allowed;
    float threshold;
};

/* The least value among the `wanted` largest keys, which are left; -infinity where there are no
 * more of them. */
static float keep_largest(struct candidates *c, size_t wanted)
{
    if (c->count < wanted)
        return -INFINITY;
    flat_largest(c->keys, c->count, wanted);
    c->count = wanted;
    float least = INFINITY;
    for (size_t i = 0; i < wanted; i++)
        least = fminf(least, flat_key_value(c->keys[i]));
    return least;
}

/* Leaves the `wanted` best estimates of every step-th chunk, of those that reach the threshold. */
static bool scan_estimates(struct estimates *e, size_t wanted, size_t step)
{
    const struct flat *flat = e->task->flat;
    struct flat_scratch *s = e->task->scratch;
    struct candidates *c = &s->one;
    size_t bytes = sketch_block_bytes(flat->space), full = 3 * wanted + 64;
    c->count = 0;
    for (size_t first = 0; first < flat->screen.count; first += step * CHUNK_ROWS) {
        size_t rows = flat->screen.count - first, block = first / FLAT_BLOCK_ROWS;
        rows = rows < CHUNK_ROWS ? rows : CHUNK_ROWS;
        sketch_estimate(flat->space, e->query, flat->sketches + block * bytes,
                        (rows + FLAT_BLOCK_ROWS - 1) / FLAT_BLOCK_ROWS, s->estimates);
        size_t found = pick_above(flat->backend, s->found, s->estimates, e->threshold, rows);
        for (size_t i = 0; i < found; i++) {
            size_t row = first + s->found[i];
            if (flat_allows(e->allowed, row) &&
                !candidates_add(c, s->estimates[s->found[i]], (uint32_t)row))
                return false;
        }
        if (c->count >= full)
            e->threshold = keep_largest(c, wanted);
    }
    if (c->count > wanted)
        keep_largest(c, wanted);
    return true;
}

/* The query as sketches of this space read it; kept for the next part of the index where that is
 * the next to be searched. */
static const struct sketch_query *prepare(const struct flat_task *task, struct segment_hint *hint,
                                          bool alone)
{
    const struct flat *flat = task->flat;
    if (!hint || !alone)
        return sketch_prepare(flat->space, task->vector, task->scratch->prepared);
    if (hint->prepared && hint->prepared_space == flat->space_hash)
        return hint->prepared;
    memory_free(hint->memory);
    hint->memory = memory_alloc_aligned(sketch_query_bytes(flat->space), 1);
    hint->prepared_space = flat->space_hash;
    hint->prepared = hint->memory ? sketch_prepare(flat->space, task->vector, hint->memory) : NULL;
    return hint->prepared ? hint->prepared
                          : sketch_prepare(flat->space, task->vector, task->scratch->prepared);
}

/* The least estimate among the candidates, where there are as many as wanted. */
static void tell_estimate(const struct flat_task *task, size_t wanted, struct segment_hint *hint)
{
    const struct candidates *c = &task->scratch->one;
    if (!hint || hint->space || c->count < wanted)
        return;
    float least = INFINITY;
    for (size_t i = 0; i < c->count; i++)
        least = fminf(least, flat_key_value(c->keys[i]));
    hint->estimate = least;
    hint->space = task->flat->space_hash;
}

/* The best `wanted` estimates of rows that are allowed, as candidates. Where the best of another
 * part in the same space are known, what is worse than all of them is none of the best of both. A
 * sample sets the threshold
 * so that somewhat more rows reach it, which saves most of the selecting; where it was too high,
 * all are looked at again without it. */
static bool best_estimates(struct flat_task *task, const struct segment_query *asked,
                           struct segment_hint *hint, size_t wanted)
{
    struct candidates *c = &task->scratch->one;
    struct estimates e = { task, prepare(task, hint, asked->count == 1), asked->allowed,
                           -INFINITY };
    if (hint && hint->space == task->flat->space_hash) {
        e.threshold = hint->estimate;
        return scan_estimates(&e, wanted, 1);
    }
    size_t share = wanted / SAMPLED, sampled = share + 3 * (size_t)sqrt((double)share) + 8;
    if (!scan_estimates(&e, sampled, SAMPLED))
        return false;
    e.threshold = keep_largest(c, sampled);
    if (!scan_estimates(&e, wanted, 1))
        return false;
    if (c->count < wanted && e.threshold != -INFINITY) {
        e.threshold = -INFINITY;
        if (!scan_estimates(&e, wanted, 1))
            return false;
    }
    tell_estimate(task, wanted, hint);
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
    struct segment_hint *hint = query->hints ? &query->hints[at] : NULL;
    size_t wanted = 0;
    bool done = false;
    if (hint && hint->reached > -INFINITY)
        candidates_demand(&task, hint->reached);
    candidates_reset(&scratch->one, query->k);
    switch (choose(flat, query, &wanted)) {
    case ESTIMATE:
        done = best_estimates(&task, query, hint, wanted) && screen_candidates(&task);
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

bool flat_bound(const struct flat *flat, const float *query, const uint32_t *list, size_t count,
                float *values, float *errors)
{
    struct screen_query prepared;
    struct flat_scratch *s = flat_scratch_take(flat);
    ASSERT(flat->screen.score == SCORE_INNER_PRODUCT);
    if (!s)
        return false;
    bool holds = screen_prepare(&flat->screen, query, s->digits, &prepared);
    for (size_t i = 0; holds && i < count; i += SCREEN_STEP) {
        size_t live = count - i < SCREEN_STEP ? count - i : SCREEN_STEP;
        holds = screen_list(flat->backend, &flat->screen, &prepared, list + i, live, -INFINITY,
                            s->found, s->values) == live;
        memcpy(values + i, s->values, live * sizeof *values);
        for (size_t j = 0; j < live; j++)
            errors[i + j] = screen_error(&flat->screen, &prepared, list[i + j]) * (1 + 0x1p-20f);
    }
    flat_scratch_give(flat, s);
    return holds;
}

/* ---- all queries ------------------------------------------------------------------------ */

struct job {
    const struct flat *flat;
    const struct segment_query *query;
    const struct segment_hits *hits;
    struct flat_scratch **scratch;      /* [threads] */
    size_t group, each;                 /* queries of a group and of an item */
    bool failed;                        /* set to true only; read when all are done */
};

static void search_item(void *context, size_t item, int worker)
{
    struct job *job = context;
    struct flat_scratch *s = job->scratch[worker];
    size_t first = item * job->each, rest = job->query->count - first;
    bool done = job->group == 1
        ? flat_search_one(job->flat, s, job->query, first, job->hits)
        : flat_search_groups(job->flat, s, job->query, first, rest < job->each ? rest : job->each,
                             job->group, job->hits);
    if (!done)
        __atomic_store_n(&job->failed, true, __ATOMIC_RELAXED);
}

/* As many queries for each thread, in groups that are as full as they go; 1: each by itself. */
static void share(struct job *job, size_t threads)
{
    size_t wanted, each = (job->query->count + threads - 1) / threads;
    size_t most = screen_group_size(job->flat->backend);
    job->group = job->each = 1;
    if (each < GROUP_MIN || choose(job->flat, job->query, &wanted) != SCAN)
        return;
    size_t rounds = (each + FLAT_GROUPS * most - 1) / (FLAT_GROUPS * most);
    job->each = (each + rounds - 1) / rounds;
    size_t groups = (job->each + most - 1) / most;
    job->group = (job->each + groups - 1) / groups;
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
    struct job job = { .flat = flat, .query = query, .hits = hits, .scratch = scratch };
    share(&job, threads);
    size_t items = (query->count + job.each - 1) / job.each;
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
