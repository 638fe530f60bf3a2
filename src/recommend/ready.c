/* Answers that are ready: a request for an item and nothing else is answered from the neighbour
 * cache, whose lists are the answers to such requests. A list has rows and scores. What a result
 * has beside is computed for the few that are asked for, but for taste, which is what the other
 * parts leave of the score, to a rounding. And the other way round: what makes the lists. */
#include "catalog/catalog.h"
#include "recommend/neighbors.h"
#include "recommend/request.h"

/* Less than this of a score is rounding. */
#define TASTE_LEAST 1e-6f

/* ---- from a list ------------------------------------------------------------------------ */

static bool is_plain(const struct asked *a)
{
    const struct akin_request *q = a->request;
    return !a->anew && q->similar && !a->personal && !q->query && !q->filter && !q->context &&
           !q->exclude_count && q->popularity < 0 && !(q->diversity > 0) &&
           !q->no_near_duplicates && q->k <= AKIN_NEIGHBORS_MAX;
}

/* Lists by parts are to the recall of the request that made them. */
static bool has_lists(const struct asked *a)
{
    const struct ready *ready = &a->r->ready;
    return ready->neighbors && a->blend == ready->blend && a->points &&
           (!a->blend || a->request->recall <= ready->recall);
}

static void fill_parts(struct asked *a, const struct akin_neighbor *list, size_t count,
                       struct akin_recommendation *results)
{
    struct scratch *s = a->s;
    uint32_t rows[AKIN_NEIGHBORS_MAX];
    float products[AKIN_NEIGHBORS_MAX];
    for (size_t i = 0; i < count; i++)
        rows[i] = list[i].row;
    request_products(a->space, a->r->backend, s->vector, rows, count, products);
    space_year_terms(a->space, a->r->backend, s->vector, s->year_terms);
    for (size_t i = 0; i < count; i++) {
        float text = space_without_year(a->space, s->year_terms, rows[i], products[i]);
        struct akin_score_parts parts = {
            .text = a->weights[PART_TEXT] * text,
            .title = a->weights[PART_TITLE] * titles_cosine(a->aids->titles, a->row, rows[i]),
        };
        float rest = list[i].score - parts.text - parts.title;
        parts.taste = rest > TASTE_LEAST ? rest : 0;
        results[i] = (struct akin_recommendation){ .row = rows[i], .similarity = text,
                                                   .score = list[i].score, .parts = parts };
    }
}

enum akin_status request_ready(struct asked *a, struct akin_recommendation *results, size_t *found,
                               bool *ready, struct akin_error *error)
{
    struct akin_neighbor list[AKIN_NEIGHBORS_MAX];
    size_t count;
    *ready = false;
    if (!is_plain(a) || !has_lists(a))
        return AKIN_OK;
    if (a->blend)
        TRY(request_reserve_years(a, error));
    if (!neighbors_lookup(a->r->ready.neighbors, a->row, list, &count))
        return AKIN_OK;
    *ready = true;
    *found = count < a->request->k ? count : a->request->k;
    if (a->blend) {
        request_weigh(a);
        fill_parts(a, list, *found, results);
        return AKIN_OK;
    }
    for (size_t i = 0; i < *found; i++)
        results[i] = (struct akin_recommendation){ .row = list[i].row, .similarity = list[i].score,
                                                   .score = list[i].score,
                                                   .parts = { .text = list[i].score } };
    return AKIN_OK;
}

/* ---- to a list -------------------------------------------------------------------------- */

enum akin_status neighbors_compute_answers(void *context, const uint32_t *rows, size_t count,
                                           const struct neighbors_sink *sink, size_t *done,
                                           struct akin_error *error)
{
    const struct neighbors_answers *source = context;
    struct akin_recommendation results[AKIN_NEIGHBORS_MAX];
    struct akin_request request;
    recommend_request_default(&request);
    request.k = AKIN_NEIGHBORS_MAX;
    request.ranking = AKIN_RANK_PARTS;
    for (size_t i = 0; i < count; i++) {
        struct akin_item item;
        size_t found;
        catalog_item(source->catalog, rows[i], &item);
        request.similar = item.id;
        TRY(recommend_anew(source->recommender, &request, results, &found, error));
        struct akin_neighbor *list = sink->begin(sink->context);
        for (size_t j = 0; j < found; j++)
            list[j] = (struct akin_neighbor){ (uint32_t)results[j].row, results[j].score };
        sink->end(sink->context, rows[i], found);
    }
    *done = count;
    return AKIN_OK;
}
