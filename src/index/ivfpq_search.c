/* Kind "ivfpq": searching. Codes of the probed cells are summed by tables, what passes the floor of
 * the candidates so far joins them; candidates are scored from their eight-bit rows, the best of
 * those from the originals. A candidate is one number, its score above its row: the order is total,
 * so the best are the same whatever the order in which they were met. */
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "base/thread.h"
#include "compute/best.h"
#include "index/greatest.h"
#include "index/ivfpq_parts.h"

enum { SCAN_BLOCKS = 8, SCAN_ROWS = SCAN_BLOCKS * PQ4_BLOCK_ROWS, EXTRA_ROWS = 8,
       CHUNK_ROWS = 1024, PREFETCH_BYTES = 4096 };

struct scratch {
    struct scratch *next;
    struct prepared prepared;
    uint16_t sums[SCAN_ROWS];
    uint32_t selected[SCAN_ROWS], chunk[CHUNK_ROWS];
    int32_t dots[CHUNK_ROWS];
    uint64_t *candidates, *rescored;
    size_t candidate_capacity, rescored_capacity;
    struct hit *hits;
    size_t hit_capacity;
    float *row;                 /* [dim] an original, widened */
};

void scratch_destroy(struct scratch **scratch)
{
    for (struct scratch *s = *scratch, *next; s; s = next) {
        next = s->next;
        prepared_deinit(&s->prepared);
        memory_free(s->candidates);
        memory_free(s->rescored);
        memory_free(s->hits);
        memory_free(s->row);
        memory_free(s);
    }
    *scratch = NULL;
}

static struct scratch *scratch_take(struct ivfpq *v)
{
    mutex_lock(v->lock);
    struct scratch *s = v->free;
    if (s)
        v->free = s->next;
    mutex_unlock(v->lock);
    if (s)
        return s;
    s = memory_alloc(1, sizeof *s);
    if (s) {
        s->row = memory_alloc_aligned(v->rows.dim, sizeof *s->row);
        if (!prepared_init(&s->prepared, v) || !s->row)
            scratch_destroy(&s);
    }
    return s;
}

static void scratch_give(struct ivfpq *v, struct scratch *s)
{
    mutex_lock(v->lock);
    s->next = v->free;
    v->free = s;
    mutex_unlock(v->lock);
}

/* ---- the plan --------------------------------------------------------------------------- */

static const struct ivfpq_plan *listed(const struct ivfpq *v, size_t depth, float recall)
{
    const struct ivfpq_plan *plans = v->header->plans[depth];
    size_t i = 0;
    while (i + 1 < IVFPQ_PLANS && !(plans[i].recall >= recall))
        i++;
    return &plans[i];
}

/* A filter that passes one row in ten makes the 10 nearest of it the 100 nearest of all. Deeper
 * than what was measured, candidates grow with the depth and cells with its square root. */
struct ivfpq_plan ivfpq_plan(const struct ivfpq *v, float recall, size_t k, size_t allowed)
{
    double rows = (double)v->header->rows, share = (double)(allowed ? allowed : 1) / rows;
    double depth = (double)(k ? k : 1) / share;
    struct ivfpq_plan plan = *listed(v, depth > 10, recall);
    double probes = plan.probes, candidates = plan.candidates, cells = v->header->cells;
    if (depth > 10)                     /* cheapest alone, it may go for candidates instead */
        probes = fmax(probes, listed(v, 0, recall)->probes);
    if (depth > 100) {
        candidates *= depth / 100;
        probes *= sqrt(depth / 100);
    }
    candidates = candidates * share + 2 * (double)k + EXTRA_ROWS;
    if (share < 1)                      /* they cost no more than without a filter */
        candidates = fmax(candidates, probes / cells * rows / IVFPQ_CHEAP_ROWS);
    plan.probes = (uint32_t)fmax(1, fmin(probes, cells));
    plan.candidates = (uint32_t)fmin(candidates, (double)allowed);
    return plan;
}

/* ---- one query -------------------------------------------------------------------------- */

struct one {
    struct ivfpq *v;
    const struct segment_query *query;
    struct ivfpq_plan plan;
    bool survivors;             /* few enough pass the filter to score them all */
};

static bool passes(const struct one *o, uint32_t row)
{
    const uint64_t *allowed = o->query->allowed;
    return row < o->v->header->rows && (!allowed || allowed[row / 64] >> row % 64 & 1);
}

struct pool {
    uint64_t *keys;             /* [2 * keep + SCAN_ROWS] */
    size_t count, keep;
    int32_t floor;              /* what scores less is not among the best `keep` */
};

static void shrink(struct pool *pool)
{
    if (pool->count <= pool->keep)
        return;
    keep_greatest(pool->keys, pool->count, pool->keep);
    pool->count = pool->keep;
    pool->floor = key_score(pool->keys[pool->keep - 1]);
}

/* Cells lie anywhere in memory: while a piece is scanned the one after it is fetched, at the end of
 * a cell the first of cell `next`. */
static void scan_cell(const struct one *o, struct scratch *s, uint32_t cell, uint32_t next,
                      struct pool *pool)
{
    const struct ivfpq *v = o->v;
    const struct ivf_cell *at = &v->cells[cell];
    int32_t base = s->prepared.bases[cell];
    for (size_t row = 0; row < at->rows; row += SCAN_ROWS) {
        int64_t floor = (int64_t)pool->floor - base;
        if (floor > (int64_t)s->prepared.table_most)
            return;
        size_t count = at->rows - row < SCAN_ROWS ? at->rows - row : SCAN_ROWS;
        size_t block = at->first + row / PQ4_BLOCK_ROWS;
        bool last = row + SCAN_ROWS >= at->rows;
        scan_codes(v, block, (count + PQ4_BLOCK_ROWS - 1) / PQ4_BLOCK_ROWS,
                   last ? v->cells[next].first : block + SCAN_BLOCKS, s->prepared.tables, s->sums);
        size_t found = v->kernels->select_u16(s->selected, s->sums, count,
                                              floor > 0 ? (uint16_t)floor : 0);
        const uint32_t *entries = v->entries + block * PQ4_BLOCK_ROWS;
        for (size_t i = 0; i < found; i++) {
            uint32_t entry = entries[s->selected[i]];
            if (passes(o, entry))
                pool->keys[pool->count++] = int_key(base + s->sums[s->selected[i]], entry);
        }
        if (pool->count > 2 * pool->keep)
            shrink(pool);
    }
}

/* Scores rows [count] from their records and keeps the best `keep` of them and of those before. */
static void score_records(const struct one *o, struct scratch *s, const uint32_t *rows,
                          size_t count, size_t keep, size_t *kept)
{
    const struct ivfpq *v = o->v;
    const struct prepared *p = &s->prepared;
    bool l2 = segment_is_l2(v);
    v->kernels->score_s16s8(s->dots, p->query, v->records, v->stride, rows, count, v->depth);
    for (size_t i = 0; i < count; i++) {
        struct ivf_tail tail = record_tail(v, v->records + rows[i] * v->stride);
        float score = (float)s->dots[i] * (p->query_scale * tail.scale);
        s->rescored[(*kept)++] = float_key(l2 ? score - tail.half_norm : score, rows[i]);
    }
    if (*kept > keep) {
        keep_greatest(s->rescored, *kept, keep);
        *kept = keep;
    }
}

/* Every row that passes the filter. */
static void score_survivors(const struct one *o, struct scratch *s, size_t keep, size_t *kept)
{
    size_t rows = o->v->header->rows, words = (rows + 63) / 64, count = 0;
    for (size_t w = 0; w < words; w++) {
        for (uint64_t bits = o->query->allowed[w]; bits; bits &= bits - 1) {
            size_t row = w * 64 + (size_t)__builtin_ctzll(bits);
            if (row < rows)
                s->chunk[count++] = (uint32_t)row;
        }
        if (count > CHUNK_ROWS - 64) {
            score_records(o, s, s->chunk, count, keep, kept);
            count = 0;
        }
    }
    if (count)
        score_records(o, s, s->chunk, count, keep, kept);
}

static void score_probed(const struct one *o, struct scratch *s, size_t keep, size_t *kept)
{
    struct pool pool = { .keys = s->candidates, .keep = o->plan.candidates, .floor = INT32_MIN };
    for (size_t i = 0; i < o->plan.probes; i++) {
        const uint32_t *cell = s->prepared.order + i;
        scan_cell(o, s, cell[0], cell[i + 1 < o->plan.probes], &pool);
    }
    shrink(&pool);
    for (size_t i = 0; i < pool.count; ) {
        size_t count = 0;
        while (i < pool.count && count < CHUNK_ROWS)
            s->chunk[count++] = key_row(pool.keys[i++]);
        score_records(o, s, s->chunk, count, keep, kept);
    }
}

static bool reserve(const struct one *o, struct scratch *s, size_t keep)
{
    size_t candidates = o->survivors ? 0 : 2 * (size_t)o->plan.candidates + SCAN_ROWS;
    return array_reserve((void **)&s->candidates, &s->candidate_capacity, candidates,
                         sizeof *s->candidates) &&
           array_reserve((void **)&s->rescored, &s->rescored_capacity, keep + CHUNK_ROWS,
                         sizeof *s->rescored) &&
           array_reserve((void **)&s->hits, &s->hit_capacity, keep, sizeof *s->hits);
}

/* How many are scored from the originals. */
static size_t kept_for(size_t k, size_t allowed)
{
    size_t keep = k + k / 4 + EXTRA_ROWS;
    return keep < allowed ? keep : allowed;
}

static bool search_one(const struct one *o, size_t q, struct scratch *s, struct hit *hits,
                       size_t *found)
{
    struct ivfpq *v = o->v;
    const float *query = o->query->queries + q * v->rows.dim;
    size_t k = o->query->k, keep = kept_for(k, o->query->allowed_count), kept = 0;
    if (!reserve(o, s, keep))
        return false;
    prepare(v, query, &s->prepared);
    if (o->survivors)
        score_survivors(o, s, keep, &kept);
    else
        score_probed(o, s, keep, &kept);
    size_t bytes = v->rows.dim * element_bytes(v->rows.element);
    for (size_t i = 0; i < kept && bytes <= PREFETCH_BYTES; i++)
        segment_row_prefetch(&v->rows, key_row(s->rescored[i]));
    for (size_t i = 0; i < kept; i++) {
        uint32_t row = key_row(s->rescored[i]);
        const float *original = s->row;
        if (v->rows.element == ELEMENT_F32)
            original = segment_row_bytes(&v->rows, row, s->row);
        else
            segment_row(v->backend, &v->rows, row, NULL, s->row);
        s->hits[i] =
            (struct hit){cpu_score(v->backend, query, original, v->rows.dim, v->rows.score), row};
    }
    best_sort(s->hits, kept);
    *found = kept < k ? kept : k;
    memcpy(hits, s->hits, *found * sizeof *hits);
    return true;
}

/* ---- many ------------------------------------------------------------------------------- */

struct batch {
    const struct one *one;
    const struct segment_hits *hits;
    struct scratch **scratch;       /* [threads] */
    bool *failed;                   /* [threads] */
};

static void search_batched(void *context, size_t q, int worker)
{
    const struct batch *b = context;
    if (!search_one(b->one, q, b->scratch[worker], b->hits->hits + q * b->one->query->k,
                    &b->hits->found[q]))
        b->failed[worker] = true;
}

static enum akin_status search_batch(const struct one *one, const struct segment_hits *hits,
                                     struct akin_error *error)
{
    struct ivfpq *v = one->v;
    size_t threads = (size_t)thread_pool_size(v->pool);
    struct scratch *scratch[THREADS_MAX];
    bool failed[THREADS_MAX] = { false }, fine = true;
    size_t taken = 0;
    for (; taken < threads && fine; taken += fine) {
        scratch[taken] = scratch_take(v);
        fine = scratch[taken] != NULL;
    }
    struct batch batch = { one, hits, scratch, failed };
    if (fine)
        thread_pool_each(v->pool, one->query->count, search_batched, &batch);
    for (size_t i = 0; i < taken; i++) {
        fine &= !failed[i];
        scratch_give(v, scratch[i]);
    }
    return fine ? AKIN_OK : error_memory(error);
}

static enum akin_status search_exact(struct ivfpq *v, const struct segment_query *query, size_t k,
                                     const struct segment_hits *hits, struct akin_error *error)
{
    struct topk_request request = { .dim = v->rows.dim, .queries = query->queries,
                                    .query_count = query->count, .k = k, .score = v->rows.score,
                                    .allowed = query->allowed };
    return segment_topk(v->backend, &v->rows, &request, hits, error);
}

/* Nanoseconds, roughly: codes stream at about a row each, records are fetched one by one. */
static bool survivors_cheaper(const struct ivfpq *v, const struct ivfpq_plan *plan, size_t allowed)
{
    double rows = (double)v->header->rows, share = (double)plan->probes / v->header->cells;
    double codes = rows * share * v->header->groups / 24;
    return (double)allowed * 12 < codes + (double)plan->candidates * 20 + 2000;
}

enum way { WAY_NONE, WAY_EXACT, WAY_PROBED };

/* How a query is answered; fills `one`, whose query is `own`. */
static enum way choose_way(struct ivfpq *v, const struct segment_query *query,
                           struct segment_query *own, struct one *one)
{
    size_t rows = v->header->rows, allowed = query->allowed ? query->allowed_count : rows;
    float recall = query->recall > 0 ? query->recall : 0.95f;
    *own = *query;
    own->allowed_count = allowed < rows ? allowed : rows;
    if (!own->allowed_count || !query->k || !query->count)
        return WAY_NONE;
    *one = (struct one){ .v = v, .query = own };
    one->plan = ivfpq_plan(v, recall, query->k, own->allowed_count);
    one->survivors = query->allowed && survivors_cheaper(v, &one->plan, own->allowed_count);
    bool all = query->k >= own->allowed_count && !one->survivors;
    return query->exact || recall > 0.9995f || all ? WAY_EXACT : WAY_PROBED;
}

enum akin_status ivfpq_search(struct ivfpq *v, const struct segment_query *query,
                              const struct segment_hits *hits, struct akin_error *error)
{
    if (query->k > K_MAX)
        return error_set(error, AKIN_LIMIT, "k is %zu: at most %d neighbours at once", query->k,
                         K_MAX);
    struct segment_query own;
    struct one one;
    enum way way = choose_way(v, query, &own, &one);
    for (size_t q = 0; way == WAY_NONE && q < query->count; q++)
        hits->found[q] = 0;
    if (way == WAY_NONE)
        return AKIN_OK;
    if (way == WAY_EXACT)
        return search_exact(v, query, query->k, hits, error);
    if (query->count > 1)
        return search_batch(&one, hits, error);
    struct scratch *s = scratch_take(v);
    bool fine = s && search_one(&one, 0, s, hits->hits, &hits->found[0]);
    if (s)
        scratch_give(v, s);
    return fine ? AKIN_OK : error_memory(error);
}

/* ---- a device --------------------------------------------------------------------------- */

bool ivfpq_device_query(struct ivfpq *v, const struct segment_query *query,
                        struct ivf_query *asked)
{
    struct segment_query own;
    struct one one;
    if (query->k > K_MAX || choose_way(v, query, &own, &one) != WAY_PROBED || one.survivors)
        return false;
    *asked = (struct ivf_query){
        .queries = query->queries, .count = query->count, .k = query->k,
        .kept = kept_for(query->k, own.allowed_count), .probes = one.plan.probes,
        .candidates = one.plan.candidates, .allowed = query->allowed,
    };
    return asked->kept <= IVF_DEVICE_KEPT_MAX && asked->candidates <= IVF_DEVICE_CANDIDATES_MAX;
}
