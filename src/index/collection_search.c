/* Searching a snapshot: each part gives its k best, lists are merged by score and id. */
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "index/collection_parts.h"

enum { SEARCH_HITS_MAX = 1 << 20 };     /* of one round; bounds our memory */

struct found {
    float score;
    int64_t id;
};

struct allowed {
    const uint64_t *bits;               /* NULL: all */
    size_t count;
    uint64_t number;                    /* of the bits; 0: they have none */
};

struct search {
    const struct collection *c;
    const struct snapshot *snapshot;
    const struct akin_index_query *query;
    const float *queries;               /* [count][dim] of this round */
    size_t count, k;                    /* k: at most the rows that there are */
    struct hit *hits;                   /* [count][k] of one part */
    size_t *hit_count;                  /* [count] */
    struct found *best, *merged;        /* [count][k], [k] for each worker */
    size_t *best_count;                 /* [count] */
    struct segment_hint *hints;         /* [count] */
    const struct view *view;            /* the chunk that is scanned, */
    const struct allowed *view_allowed; /* and which of its rows may be found */
    struct allowed *allowed;            /* [views] */
    uint64_t *bits;                     /* of all, where there is a filter */
};

/* Best first: score down, NaN last, id up. */
static bool better(struct found a, struct found b)
{
    bool a_nan = isnan(a.score), b_nan = isnan(b.score);
    if (a_nan != b_nan)
        return b_nan;
    if (!a_nan && a.score != b.score)
        return a.score > b.score;
    return a.id < b.id;
}

/* ---- sealed parts ------------------------------------------------------------------------ */

/* Hits of a part stand in order of score and row, hence of id. */
static void merge_hits(const struct search *s, const struct part *part, size_t q)
{
    struct found *best = s->best + q * s->k;
    const struct hit *hits = s->hits + q * s->k;
    size_t a = 0, b = 0, count = 0, have = s->best_count[q], more = s->hit_count[q];
    if (!have) {
        for (; b < more; b++)
            best[b] = (struct found){ hits[b].score, part_id(part, hits[b].row) };
        s->best_count[q] = more;
        return;
    }
    for (; count < s->k && (a < have || b < more); count++) {
        struct found other = { 0 };
        if (b < more)
            other = (struct found){ hits[b].score, part_id(part, hits[b].row) };
        bool ours = a < have && (b >= more || better(best[a], other));
        s->merged[count] = ours ? best[a] : other;
        a += ours;
        b += !ours;
    }
    memcpy(best, s->merged, count * sizeof *best);
    s->best_count[q] = count;
}

/* What the next part need not go below. */
static void raise_hint(const struct search *s, size_t q)
{
    if (s->best_count[q] == s->k) {
        float worst = s->best[q * s->k + s->k - 1].score;
        if (worst > s->hints[q].reached)
            s->hints[q].reached = worst;
    }
}

static enum akin_status search_sealed(const struct search *s, const struct view *view,
                                      const struct allowed *allowed, struct akin_error *error)
{
    size_t k = s->k < allowed->count ? s->k : allowed->count;
    if (!k)
        return AKIN_OK;
    struct segment_query query = {
        .queries = s->queries, .count = s->count, .k = k,
        .allowed = allowed->bits, .allowed_count = allowed->count,
        .exact = s->query->exact, .recall = s->query->recall, .hints = s->hints,
    };
    TRY(part_search(s->c, view->part, &query, allowed->number,
                    &(struct segment_hits){ s->hits, s->hit_count }, error));
    for (size_t q = s->count; k < s->k && q-- > 0;)     /* to rows of s->k */
        memmove(s->hits + q * s->k, s->hits + q * k, s->hit_count[q] * sizeof *s->hits);
    for (size_t q = 0; q < s->count; q++) {
        merge_hits(s, view->part, q);
        raise_hint(s, q);
    }
    return AKIN_OK;
}

/* ---- the tail ---------------------------------------------------------------------------- */

/* Puts `found` among best [count] of room k. */
static void insert(struct found *best, size_t *count, size_t k, struct found found)
{
    size_t low = 0, high = *count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (better(best[middle], found))
            low = middle + 1;
        else
            high = middle;
    }
    size_t moved = *count - low - (*count == k);
    memmove(best + low + 1, best + low, moved * sizeof *best);
    best[low] = found;
    *count += *count < k;
}

static void offer_row(const struct search *s, const struct part *part, const float *query,
                      size_t row, struct found *best, size_t *count)
{
    const uint64_t *allowed = s->view_allowed->bits;
    if (allowed && !(allowed[row / 64] >> row % 64 & 1))
        return;
    struct found found = { .id = part->ids[row] };
    found.score = cpu_score(s->c->host.backend, query, part->own_vectors + row * s->c->dim,
                            s->c->dim, collection_score(s->c));
    if (*count < s->k || better(found, best[*count - 1]))
        insert(best, count, s->k, found);
}

/* Where bounds do not hold. */
static void scan_all(const struct search *s, const float *query, struct found *best, size_t *count)
{
    const struct part *part = s->view->part;
    for (size_t row = 0; row < s->view->rows; row++)
        offer_row(s, part, query, row, best, count);
}

/* Rows as bytes; those that may be better than the k-th best so far are scored. */
static void scan_chunk(void *context, size_t q, int worker)
{
    const struct search *s = context;
    const struct view *view = s->view;
    const float *query = s->queries + q * s->c->dim;
    struct found *best = s->best + q * s->k;
    size_t *count = &s->best_count[q];
    struct screen_rows rows = part_screen(view->part, view->rows, collection_score(s->c));
    struct screen_query screen;
    _Alignas(64) int8_t digits[INDEX_DIMENSION_MAX];
    uint32_t found[SCREEN_STEP + 16];
    float values[SCREEN_STEP + 16];
    (void)worker;
    if (!screen_prepare(&rows, query, digits, &screen)) {
        scan_all(s, query, best, count);
        return;
    }
    for (size_t row = 0; row < view->rows; row += SCREEN_STEP) {
        size_t rest = view->rows - row, step = rest < SCREEN_STEP ? rest : SCREEN_STEP;
        float threshold = -INFINITY;
        if (*count == s->k && !isnan(best[s->k - 1].score))
            threshold = screen_threshold(&screen, screen_value(&rows, &screen,
                                                               best[s->k - 1].score));
        size_t more = screen_range(s->c->host.backend, &rows, &screen, row, step, threshold,
                                   found, values);
        for (size_t i = 0; i < more; i++)
            offer_row(s, view->part, query, found[i], best, count);
    }
}

static void search_tail(struct search *s, const struct view *view, const struct allowed *allowed)
{
    if (!allowed->count)
        return;
    s->view = view;
    s->view_allowed = allowed;
    if (s->count == 1)                  /* waits for nobody */
        scan_chunk(s, 0, 0);
    else
        thread_pool_each(s->c->host.pool, s->count, scan_chunk, s);
}

/* ---- filters ----------------------------------------------------------------------------- */

static enum akin_status filter_view(const struct view *view, const struct filter *filter,
                                    uint64_t *bits, struct allowed *out, struct akin_error *error)
{
    const struct part *part = view->part;
    struct columns none;
    size_t count = 0;
    if (part->own_columns) {
        TRY(columns_tail_evaluate(part->own_columns, view->rows, filter, bits, &count, error));
    } else if (part->sealed) {
        TRY(columns_evaluate(&part->columns, filter, bits, &count, error));
    } else {
        TRY(columns_open(&none, &(struct segment_blocks){ 0 }, view->rows, error));
        TRY(columns_evaluate(&none, filter, bits, &count, error));
    }
    if (view->bits && view->bits->dead) {
        count = 0;
        for (size_t i = 0; i < filter_words(view->rows); i++) {
            bits[i] &= view->bits->alive[i];
            count += (size_t)__builtin_popcountll(bits[i]);
        }
    }
    *out = (struct allowed){ bits, count, 0 };
    return AKIN_OK;
}

/* What may be found of each part: what lives, and passes the filter where there is one. */
static enum akin_status allow(struct search *s, struct akin_error *error)
{
    const struct snapshot *snapshot = s->snapshot;
    const char *text = s->query->filter;
    size_t words = 0;
    s->allowed = memory_alloc(snapshot->count, sizeof *s->allowed);
    if (!s->allowed)
        return error_memory(error);
    for (size_t i = 0; i < snapshot->count; i++) {
        const struct view *view = &snapshot->views[i];
        s->allowed[i] = (struct allowed){ view->bits ? view->bits->alive : NULL, view_live(view),
                                          view->bits ? view->bits->number : 0 };
        words += filter_words(view->rows);
    }
    if (!text)
        return AKIN_OK;
    struct filter *filter = NULL;
    TRY(filter_compile(NULL, 0, text, &filter, error));
    enum akin_status status = AKIN_OK;
    s->bits = memory_alloc_aligned(words, sizeof *s->bits);
    if (!s->bits)
        status = error_memory(error);
    uint64_t *bits = s->bits;
    for (size_t i = 0; i < snapshot->count && status == AKIN_OK; i++) {
        status = filter_view(&snapshot->views[i], filter, bits, &s->allowed[i], error);
        bits += filter_words(snapshot->views[i].rows);
    }
    filter_destroy(&filter);
    return status;
}

/* ---- a round ----------------------------------------------------------------------------- */

static enum akin_status search_round(struct search *s, struct akin_error *error)
{
    memset(s->best_count, 0, s->count * sizeof *s->best_count);
    memory_free(s->hints[0].memory);        /* of a query alone; others have none */
    for (size_t q = 0; q < s->count; q++)
        s->hints[q] = segment_hint_none();
    for (size_t i = 0; i < s->snapshot->sealed; i++)
        TRY(search_sealed(s, &s->snapshot->views[i], &s->allowed[i], error));
    for (size_t i = s->snapshot->sealed; i < s->snapshot->count; i++)
        search_tail(s, &s->snapshot->views[i], &s->allowed[i]);
    return AKIN_OK;
}

static void write_results(const struct search *s, size_t q, int64_t *ids, float *scores)
{
    size_t k = s->query->k;
    for (size_t i = 0; i < k; i++) {
        bool hit = i < s->best_count[q];
        ids[i] = hit ? s->best[q * s->k + i].id : -1;
        scores[i] = hit ? s->best[q * s->k + i].score : -INFINITY;
    }
}

static enum akin_status check_query(const struct collection *c,
                                    const struct akin_index_query *query,
                                    struct akin_error *error)
{
    if (query->k > K_MAX)
        return error_set(error, AKIN_LIMIT, "k is %zu: at most %d neighbours at once", query->k,
                         K_MAX);
    if (!(query->recall >= 0 && query->recall <= 1))
        return error_set(error, AKIN_ARGUMENT, "recall %g: expected a share of 0 to 1",
                         (double)query->recall);
    return check_finite(query->vectors, query->count, c->dim, "query", error);
}

enum akin_status collection_search(const struct collection *c,
                                   const struct akin_index_query *asked, int64_t *ids,
                                   float *scores, struct akin_error *error)
{
    struct akin_index_query query = *asked;
    TRY(check_query(c, &query, error));
    if (query.recall == 0)
        query.recall = COLLECTION_RECALL;
    struct snapshot *snapshot = snapshot_take(c);
    struct search s = { .c = c, .snapshot = snapshot, .query = &query };
    s.k = query.k < snapshot->live ? query.k : snapshot->live;
    size_t step = s.k ? SEARCH_HITS_MAX / s.k : query.count;
    step = step == 0 ? 1 : step > query.count ? query.count : step;
    enum akin_status status = allow(&s, error);
    float *unit = c->metric == AKIN_METRIC_COSINE ? memory_alloc_aligned(step, c->dim * 4) : NULL;
    if (status != AKIN_OK)
        goto done;
    s.hits = memory_alloc_aligned(step, (s.k + 1) * sizeof *s.hits);
    s.best = memory_alloc_aligned(step + 1, (s.k + 1) * sizeof *s.best);
    s.hit_count = memory_alloc(2 * step, sizeof *s.hit_count);
    s.hints = memory_alloc(step, sizeof *s.hints);
    if (!s.hits || !s.best || !s.hit_count || !s.hints ||
        (c->metric == AKIN_METRIC_COSINE && !unit))
        TRY_DONE(error_memory(error));
    s.merged = s.best + step * s.k;
    s.best_count = s.hit_count + step;
    for (size_t at = 0; at < query.count; at += s.count) {
        s.count = query.count - at < step ? query.count - at : step;
        s.queries = query.vectors + at * c->dim;
        for (size_t q = 0; unit && q < s.count; q++)
            unit_row(s.queries + q * c->dim, c->dim, unit + q * c->dim);
        s.queries = unit ? unit : s.queries;
        if (s.k)
            TRY_DONE(search_round(&s, error));
        for (size_t q = 0; q < s.count; q++)
            write_results(&s, q, ids + (at + q) * query.k, scores + (at + q) * query.k);
    }
done:
    memory_free(unit);
    memory_free(s.allowed);
    memory_free(s.bits);
    memory_free(s.hits);
    memory_free(s.best);
    memory_free(s.hit_count);
    memory_free(s.hints && step ? s.hints[0].memory : NULL);     /* no query: no hint */
    memory_free(s.hints);
    snapshot_release(snapshot);
    return status;
}
