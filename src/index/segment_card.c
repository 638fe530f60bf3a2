/* Segments on a card. Rows of a flat segment and of a graph go there padded with zeros to the
 * dimensions that a card takes; what comes back is scored again here, so that scores are those of
 * the CPU and merge with those of rows that never were on the card. */
#include "index/segment_card.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/thread.h"
#include "compute/best.h"
#include "index/ivfpq.h"

/* A number of a query that fp16 does not hold leaves the query to the CPU. */
static const float QUERY_MOST = 60000;

struct segment_card {
    const struct segment *segment;
    struct index_card card;
    struct ivf_device *ivf;             /* one of the two */
    struct search_device *rows;
    size_t dim, padded;
    float *queries;                     /* [query_room][padded], where they have to be padded */
    size_t query_room;
};

bool segment_card_wanted(const struct segment *segment)
{
    const struct segment_rows *rows = segment_originals(segment);
    if (rows->count < SEGMENT_CARD_ROWS_MIN)
        return false;
    return segment_kind(segment) != SEGMENT_GRAPH ||
           rows->count <= SEGMENT_CARD_GRAPH_BYTES / sizeof(uint16_t) / rows->dim;
}

/* ---- rows ------------------------------------------------------------------------------- */

static bool row_copy(const struct segment_card *c, float **copy)
{
    const struct segment_rows *rows = segment_originals(c->segment);
    size_t numbers;
    *copy = NULL;
    if (rows->element == ELEMENT_F32 && c->dim == c->padded)
        return true;                    /* they do as they lie */
    if (size_mul(rows->count, c->padded, &numbers))
        *copy = memory_alloc_aligned(numbers, sizeof **copy);
    for (size_t row = 0; *copy && row < rows->count; row++) {
        float *out = *copy + row * c->padded;
        segment_original(c->segment, row, out);
        memset(out + c->dim, 0, (c->padded - c->dim) * sizeof *out);
    }
    return *copy != NULL;
}

static enum akin_status create_rows(struct segment_card *c, struct akin_error *error)
{
    const struct segment_rows *rows = segment_originals(c->segment);
    float *copy;
    if (rows->score != SCORE_INNER_PRODUCT)
        return error_set(error, AKIN_UNSUPPORTED, "kind %s with the metric l2 is not searched on "
                         "a card; kind ivfpq is", segment_kind_name(segment_kind(c->segment)));
    if (c->padded > SEARCH_DEVICE_DIM_MAX)
        return error_set(error, AKIN_UNSUPPORTED, "vectors of %zu dimensions: a card takes up to "
                         "%d", c->dim, SEARCH_DEVICE_DIM_MAX);
    if (!row_copy(c, &copy))
        return error_set(error, AKIN_MEMORY, "no memory for %zu rows of %zu numbers on their way "
                         "to the card", rows->count, c->padded);
    enum akin_status status = c->card.search->create(c->card.ordinal, copy ? copy : rows->vectors,
                                                     rows->count, c->padded, &c->rows, error);
    memory_free(copy);
    return status;
}

enum akin_status segment_card_create(const struct segment *segment, const struct index_card *card,
                                     struct segment_card **made, struct akin_error *error)
{
    struct segment_card *c = memory_alloc(1, sizeof *c);
    struct ivfpq *ivfpq = segment_ivfpq(segment);
    if (!c)
        return error_memory(error);
    size_t dim = segment_originals(segment)->dim, unit = SEARCH_DEVICE_DIM_UNIT;
    *c = (struct segment_card){ .segment = segment, .card = *card, .dim = dim,
                                .padded = (dim + unit - 1) / unit * unit };
    enum akin_status status;
    if (ivfpq) {
        struct ivf_lists lists = ivfpq_lists(ivfpq);
        status = card->ivf->create(card->ordinal, &lists, &c->ivf, error);
    } else {
        status = create_rows(c, error);
    }
    if (status == AKIN_OK)
        *made = c;
    else
        segment_card_destroy(&c);
    return status;
}

void segment_card_destroy(struct segment_card **card)
{
    struct segment_card *c = *card;
    if (!c)
        return;
    if (c->ivf)
        c->card.ivf->destroy(&c->ivf);
    if (c->rows)
        c->card.search->destroy(&c->rows);
    memory_free(c->queries);
    memory_free(c);
    *card = NULL;
}

/* ---- search ----------------------------------------------------------------------------- */

/* false: no memory, or a number that the card does not hold. */
static bool pad_queries(struct segment_card *c, const struct segment_query *query,
                        const float **padded)
{
    size_t numbers = query->count * c->dim;
    for (size_t i = 0; i < numbers; i++)
        if (!(fabsf(query->queries[i]) < QUERY_MOST))
            return false;
    *padded = query->queries;
    if (c->dim == c->padded)
        return true;
    if (query->count > c->query_room) {
        memory_free(c->queries);
        c->queries = memory_alloc_aligned(query->count, c->padded * sizeof *c->queries);
        c->query_room = c->queries ? query->count : 0;
    }
    for (size_t q = 0; c->queries && q < query->count; q++) {
        float *out = c->queries + q * c->padded;
        memcpy(out, query->queries + q * c->dim, c->dim * sizeof *out);
        memset(out + c->dim, 0, (c->padded - c->dim) * sizeof *out);
    }
    *padded = c->queries;
    return c->queries != NULL;
}

struct scoring {
    const struct segment_card *card;
    const struct segment_query *query;
    const struct segment_hits *hits;
};

static void score_again(void *context, size_t q, int worker)
{
    const struct scoring *s = context;
    struct hit *hits = s->hits->hits + q * s->query->k;
    (void)worker;
    for (size_t i = 0; i < s->hits->found[q]; i++)
        hits[i].score = segment_score(s->card->segment, s->query->queries + q * s->card->dim,
                                      hits[i].row);
    best_sort(hits, s->hits->found[q]);
}

static enum akin_status search_rows(struct segment_card *c, const struct segment_query *query,
                                    uint64_t number, const struct segment_hits *hits,
                                    bool *answered, struct akin_error *error)
{
    struct device_query asked = {
        .query_count = query->count, .k = query->k, .masks = query->allowed,
        .mask_count = query->allowed ? 1 : 0, .masks_number = number,
        .mask_words = (segment_originals(c->segment)->count + 63) / 64,
    };
    if (query->k == 0 || query->k > SEARCH_DEVICE_K_MAX || query->count == 0 ||
        !pad_queries(c, query, &asked.queries))
        return AKIN_OK;
    enum akin_status status =
        c->card.search->search(c->rows, &asked, hits->hits, hits->found, NULL, error);
    if (status != AKIN_OK)
        return status == AKIN_UNSUPPORTED ? AKIN_OK : status;
    struct scoring scoring = { c, query, hits };
    struct thread_pool *pool = segment_pool(c->segment);
    *answered = true;
    if (query->count > 1 && pool)
        thread_pool_each(pool, query->count, score_again, &scoring);
    else
        for (size_t q = 0; q < query->count; q++)
            score_again(&scoring, q, 0);
    return AKIN_OK;
}

/* seconds NULL: nobody wants to know. */
static enum akin_status search_lists(struct segment_card *c, const struct segment_query *query,
                                     uint64_t number, const struct segment_hits *hits,
                                     double *seconds, bool *answered, struct akin_error *error)
{
    struct ivf_query asked;
    if (!ivfpq_device_query(segment_ivfpq(c->segment), query, &asked))
        return AKIN_OK;
    asked.allowed_number = number;
    enum akin_status status =
        seconds ? c->card.ivf->measure(c->ivf, &asked, hits->hits, hits->found, seconds, error)
                : c->card.ivf->search(c->ivf, &asked, hits->hits, hits->found, error);
    *answered = status == AKIN_OK;
    return status == AKIN_UNSUPPORTED ? AKIN_OK : status;
}

enum akin_status segment_card_search(struct segment_card *c, const struct segment_query *query,
                                     uint64_t number, const struct segment_hits *hits,
                                     bool *answered, struct akin_error *error)
{
    *answered = false;
    return c->rows ? search_rows(c, query, number, hits, answered, error)
                   : search_lists(c, query, number, hits, NULL, answered, error);
}

enum akin_status segment_card_measure(struct segment_card *c, const struct segment_query *query,
                                      uint64_t number, const struct segment_hits *hits,
                                      double *seconds, bool *answered, struct akin_error *error)
{
    *answered = false;
    *seconds = NAN;
    if (c->rows || !c->card.ivf->measure)
        return AKIN_OK;
    enum akin_status status = search_lists(c, query, number, hits, seconds, answered, error);
    if (!*answered)
        *seconds = NAN;
    return status;
}

size_t segment_card_bytes(const struct segment_card *c)
{
    return c->ivf ? c->card.ivf->memory(c->ivf) : c->card.search->memory(c->rows);
}
