/* The results of a request from its candidates: the best by score, or by maximal marginal relevance
 * (Carbonell and Goldstein, 1998)
 *
 *   (1 - diversity) * score as 0 to 1  -  diversity * largest cosine to a result so far
 *
 * over DIVERSE_MOST of the best, for the first DIVERSE_RESULTS; and without what is nearly the same
 * as another result, or as what the request leaves out, if that is asked for. */
#include <string.h>

#include "base/memory.h"
#include "compute/best.h"
#include "recommend/request.h"

enum {
    POOL_EACH = 4, POOL_LEAST = 100,
    DIVERSE_MOST = 1000, DIVERSE_RESULTS = 200,
    SKIPPED_STEP = 256,
};

/* Cosines in the text space from here on are those of one thing twice: other cuts, other spellings
 * (docs/recommend.md says what it finds among films). */
#define NEAR_DUPLICATE 0.9f

struct picker {
    struct asked *asked;
    struct hit *pool;           /* [count] best first */
    float *nearest;             /* [count] largest cosine to a result so far; 2: taken or out */
    float *products;            /* [count] */
    uint32_t *rows;             /* [count] */
    size_t count;
    struct akin_recommendation *results;
    size_t found;
};

static const float *vector_of(const struct picker *p, uint32_t row)
{
    return p->asked->space->vectors + row * p->asked->space->dim;
}

/* The best `wanted` of all candidates to s->hits. */
static enum akin_status select_best(struct asked *a, size_t wanted, size_t *count,
                                    struct akin_error *error)
{
    struct scratch *s = a->s;
    *count = 0;
    wanted = wanted < s->candidate_count ? wanted : s->candidate_count;
    if (wanted == 0)
        return AKIN_OK;
    if (!array_reserve((void **)&s->hits, &s->hit_capacity, wanted, sizeof *s->hits))
        return error_memory(error);
    struct best best = { .hits = s->hits, .capacity = wanted };
    for (size_t i = 0; i < s->candidate_count; i++)
        best_offer(&best, (struct hit){ s->candidates[i].score, s->candidates[i].row });
    *count = best.count;
    best_drain(&best, s->hits);
    return AKIN_OK;
}

void request_result(const struct asked *a, uint32_t row, struct akin_recommendation *result)
{
    const struct candidate *c = &a->s->candidates[a->s->slots[row] - 1];
    float parts[PARTS];
    for (int part = 0; part < PARTS; part++)
        parts[part] = a->weights[part] * c->values[part];
    *result = (struct akin_recommendation){
        .row = row, .similarity = c->values[PART_TEXT], .score = c->score,
        .parts = { .text = parts[PART_TEXT], .title = parts[PART_TITLE],
                   .taste = parts[PART_TASTE], .popularity = parts[PART_POPULARITY],
                   .context = parts[PART_CONTEXT], .graph = parts[PART_GRAPH] },
    };
}

static void take(struct picker *p, uint32_t row)
{
    request_result(p->asked, row, &p->results[p->found++]);
}

/* Whether it is nearly the same as an item that the request leaves out. */
static bool is_known(const struct picker *p, uint32_t row)
{
    const struct scratch *s = p->asked->s;
    float products[SKIPPED_STEP];
    for (size_t i = 0; i < s->skip_count; i += SKIPPED_STEP) {
        size_t live = s->skip_count - i < SKIPPED_STEP ? s->skip_count - i : SKIPPED_STEP;
        request_products(p->asked->space, p->asked->r->backend, vector_of(p, row), s->skip + i,
                         live, products);
        for (size_t j = 0; j < live; j++)
            if (products[j] >= NEAR_DUPLICATE)
                return true;
    }
    return false;
}

/* What is left of the pool learns of a new result. */
static void tell(struct picker *p, uint32_t row)
{
    request_products(p->asked->space, p->asked->r->backend, vector_of(p, row), p->rows, p->count,
                     p->products);
    for (size_t i = 0; i < p->count; i++)
        if (p->products[i] > p->nearest[i])
            p->nearest[i] = p->products[i];
}

/* The best place of the pool, or its count where nothing is left. */
static size_t choose(const struct picker *p, float diversity)
{
    size_t at = p->count;
    float top = p->pool[0].score, range = top - p->pool[p->count - 1].score, most = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (p->nearest[i] > 1.5f)
            continue;
        float relevance = range > 0 ? 1 - (top - p->pool[i].score) / range : 1;
        float value = (1 - diversity) * relevance - diversity * p->nearest[i];
        if (at == p->count || value > most) {
            at = i;
            most = value;
        }
    }
    return at;
}

static void pick(struct picker *p)
{
    const struct akin_request *request = p->asked->request;
    size_t diverse = request->diversity > 0 ? DIVERSE_RESULTS : 0;
    bool once = request->no_near_duplicates;
    for (size_t i = 0; i < p->count; i++)
        p->rows[i] = p->pool[i].row;
    while (p->found < request->k) {
        size_t at = choose(p, p->found < diverse ? request->diversity : 0);
        if (at == p->count)
            return;
        bool out = once && (p->nearest[at] >= NEAR_DUPLICATE || is_known(p, p->rows[at]));
        p->nearest[at] = 2;
        if (out)
            continue;
        take(p, p->rows[at]);
        tell(p, p->rows[at]);
    }
}

/* Marks are the scratch of a picker: two floats and a row for each of the pool. */
static enum akin_status pick_apart(struct picker *p, struct akin_error *error)
{
    struct scratch *s = p->asked->s;
    if (p->count == 0)
        return AKIN_OK;
    if (!array_reserve((void **)&s->marks, &s->mark_capacity, 3 * p->count, sizeof *s->marks))
        return error_memory(error);
    p->pool = s->hits;
    p->nearest = s->marks;
    p->products = s->marks + p->count;
    p->rows = (uint32_t *)(void *)(s->marks + 2 * p->count);
    for (size_t i = 0; i < p->count; i++)
        p->nearest[i] = -1;
    pick(p);
    return AKIN_OK;
}

enum akin_status request_pick(struct asked *a, struct akin_recommendation *results, size_t *found,
                              struct akin_error *error)
{
    const struct akin_request *request = a->request;
    struct picker p = { .asked = a, .results = results };
    bool apart = request->diversity > 0 || request->no_near_duplicates;
    size_t wanted = request->k;
    if (apart) {
        wanted = POOL_EACH * request->k > POOL_LEAST ? POOL_EACH * request->k : POOL_LEAST;
        wanted = wanted < DIVERSE_MOST || request->k > DIVERSE_MOST ? wanted : DIVERSE_MOST;
    }
    TRY(select_best(a, wanted, &p.count, error));
    if (apart)
        TRY(pick_apart(&p, error));
    for (size_t i = 0; !apart && i < p.count; i++)
        take(&p, a->s->hits[i].row);
    *found = p.found;
    return AKIN_OK;
}
