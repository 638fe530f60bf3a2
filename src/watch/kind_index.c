#include "watch/kind_index.h"

#include "base/memory.h"
#include "base/thread.h"

/* What the scores of event_kinds_score and those of the rows that were made bytes of may differ by,
 * twice: each number is rounded a few times more, 2^-24 each, and lengths are 1. */
#define MARGIN 2e-6f

struct kind_index {
    struct backend *backend;
    struct screen_rows rows;
    uint8_t *codes;
    float *scales, *radii, *norms;
    size_t code_capacity, scale_capacity, radius_capacity, norm_capacity;
    float *wide;                /* [threads][dim] */
};

struct taking {
    struct kind_index *index;
    const struct event_kinds *kinds;
};

struct kind_index *kind_index_create(struct backend *backend)
{
    struct kind_index *index = memory_alloc(1, sizeof *index);
    if (index)
        index->backend = backend;
    return index;
}

void kind_index_destroy(struct kind_index **index)
{
    struct kind_index *i = *index;
    if (!i)
        return;
    memory_free(i->codes);
    memory_free(i->scales);
    memory_free(i->radii);
    memory_free(i->norms);
    memory_free(i->wide);
    memory_free(i);
    *index = NULL;
}

size_t kind_index_count(const struct kind_index *index)
{
    return index->rows.count;
}

/* ---- filling ------------------------------------------------------------------------------ */

static bool reserve(struct kind_index *i, size_t count)
{
    struct screen_rows *rows = &i->rows;
    size_t tail = SCREEN_TAIL / rows->stride + 1;
    if (!array_reserve((void **)&i->codes, &i->code_capacity, count + tail, rows->stride)
        || !array_reserve((void **)&i->scales, &i->scale_capacity, count, sizeof *i->scales)
        || !array_reserve((void **)&i->radii, &i->radius_capacity, count, sizeof *i->radii)
        || !array_reserve((void **)&i->norms, &i->norm_capacity, count, sizeof *i->norms))
        return false;
    rows->codes = i->codes;
    rows->terms = (struct row_terms){ i->scales, i->radii, i->norms, NULL };
    return true;
}

static void take_row(struct kind_index *i, const struct event_kinds *kinds, size_t at, float *row)
{
    const struct screen_rows *rows = &i->rows;
    float numbers[4], scale = kinds->scales[at];
    cpu_kernels(i->backend)->widen_f16(row, kinds->halves + at * rows->dim, rows->dim);
    for (size_t k = 0; k < rows->dim; k++)
        row[k] = scale > 0 ? row[k] * scale : 0;
    screen_encode(row, rows->dim, i->codes + at * rows->stride, numbers);
    i->scales[at] = numbers[0];
    i->radii[at] = numbers[1];
    i->norms[at] = numbers[2];
}

static void take_some(void *context, size_t begin, size_t end, int worker)
{
    const struct taking *t = context;
    struct kind_index *i = t->index;
    for (size_t at = i->rows.count + begin; at < i->rows.count + end; at++)
        take_row(i, t->kinds, at, i->wide + (size_t)worker * i->rows.dim);
}

bool kind_index_take(struct kind_index *i, const struct event_kinds *kinds, size_t end)
{
    struct thread_pool *pool = cpu_threads(i->backend);
    struct screen_rows *rows = &i->rows;
    if (!kinds->dimension)
        return false;
    if (!i->wide) {
        size_t threads = pool ? (size_t)thread_pool_size(pool) : 1;
        i->wide = memory_alloc(threads * kinds->dimension, sizeof *i->wide);
        rows->dim = kinds->dimension;
        rows->stride = screen_stride(rows->dim);
        rows->score = SCORE_INNER_PRODUCT;
        rows->length_max = 1.01;
    }
    if (!i->wide || !reserve(i, end))
        return false;
    struct taking taking = { i, kinds };
    if (pool)
        thread_pool_run(pool, end - rows->count, take_some, &taking);
    else
        take_some(&taking, 0, end - rows->count, 0);
    rows->count = end;
    return true;
}

/* ---- searching ---------------------------------------------------------------------------- */

bool kind_search_begin(struct kind_search *s, const struct kind_index *i, const float *query,
                       size_t wanted)
{
    size_t dim = i->rows.dim;
    double square = 0;
    *s = (struct kind_search){ .wanted = wanted, .threshold = -INFINITY };
    for (size_t k = 0; k < dim; k++)
        square += (double)query[k] * (double)query[k];
    if (!isfinite(square) || !(square > 0))
        return false;
    s->query = memory_alloc(dim, sizeof *s->query);
    s->digits = memory_alloc(i->rows.stride, sizeof *s->digits);
    s->lower.hits = memory_alloc(wanted, sizeof *s->lower.hits);
    s->lower.capacity = wanted;
    if (!s->query || !s->digits || !s->lower.hits)
        return false;
    for (size_t k = 0; k < dim; k++)
        s->query[k] = (float)((double)query[k] / sqrt(square));
    return screen_prepare(&i->rows, s->query, s->digits, &s->prepared);
}

static bool reserve_candidates(struct kind_search *s, size_t more)
{
    return array_reserve((void **)&s->candidates, &s->capacity, s->count + more,
                         sizeof *s->candidates);
}

/* The score is known to lie between these. */
static void add_candidate(struct kind_search *s, uint32_t row, float lower, float upper)
{
    s->candidates[s->count++] = (struct hit){ upper, row };
    best_offer(&s->lower, (struct hit){ lower, row });
}

static void raise_threshold(struct kind_search *s)
{
    if (s->lower.count == s->wanted)
        s->threshold = screen_threshold(&s->prepared, s->lower.hits[0].score - MARGIN);
}

bool kind_search_range(struct kind_search *s, const struct kind_index *i, size_t begin, size_t end)
{
    uint32_t found[SCREEN_STEP + 16];
    float values[SCREEN_STEP + 16];
    for (size_t at = begin; at < end; at += SCREEN_STEP) {
        size_t step = end - at < SCREEN_STEP ? end - at : SCREEN_STEP;
        size_t count = screen_range(i->backend, &i->rows, &s->prepared, at, step, s->threshold,
                                    found, values);
        if (!reserve_candidates(s, count))
            return false;
        for (size_t c = 0; c < count; c++) {
            float error = screen_error(&i->rows, &s->prepared, found[c]);
            add_candidate(s, found[c], values[c] - error, values[c] + error);
        }
        raise_threshold(s);
    }
    return true;
}

bool kind_search_plain(struct kind_search *s, const struct event_kinds *kinds,
                       const struct kernels *kernels, const float *query, size_t begin, size_t end)
{
    struct hit hits[SCREEN_STEP];
    for (size_t at = begin; at < end; at += SCREEN_STEP) {
        size_t step = end - at < SCREEN_STEP ? end - at : SCREEN_STEP;
        for (size_t c = 0; c < step; c++)
            hits[c] = (struct hit){ 0, (uint32_t)(at + c) };
        if (!reserve_candidates(s, step)
            || !event_kinds_score_some(kinds, kernels, query, hits, step))
            return false;
        for (size_t c = 0; c < step; c++)
            if (hits[c].score >= s->threshold)
                add_candidate(s, hits[c].row, hits[c].score, hits[c].score);
        raise_threshold(s);
    }
    return true;
}

bool kind_search_finish(struct kind_search *s, const struct event_kinds *kinds,
                        const struct kernels *kernels, const float *query)
{
    bool full = s->lower.count == s->wanted;
    float reach = full ? s->lower.hits[0].score - MARGIN : -INFINITY;
    struct best best = { s->lower.hits, 0, s->wanted };
    size_t kept = 0;
    for (size_t c = 0; c < s->count; c++)   /* upper ends; in float32 they may be a little off */
        if (s->candidates[c].score >= reach - MARGIN)
            s->candidates[kept++] = s->candidates[c];
    if (!event_kinds_score_some(kinds, kernels, query, s->candidates, kept))
        return false;
    for (size_t c = 0; c < kept; c++)
        best_offer(&best, s->candidates[c]);
    reach = best.count == s->wanted ? best.hits[0].score : -INFINITY;
    for (size_t c = s->count = 0; c < kept; c++)
        if (s->candidates[c].score >= reach)
            s->candidates[s->count++] = s->candidates[c];
    return true;
}

void kind_search_end(struct kind_search *s)
{
    memory_free(s->query);
    memory_free(s->digits);
    memory_free(s->lower.hits);
    memory_free(s->candidates);
    *s = (struct kind_search){ 0 };
}
