#include "watch/kind_card.h"

#include <math.h>

#include "base/memory.h"
#include "compute/cpu/kernels.h"

enum { ROWS_AT_ONCE = 8192 };

/* What the card's scores and those of event_kinds_score may differ by: lengths are 1, and both
 * round a sum of so many products. */
static float margin_of(size_t dimension)
{
    return ((float)dimension + 16) * 0x1p-23f;
}

void kind_card_close(struct kind_card *c)
{
    if (c->device)
        c->ops->destroy(&c->device);
    memory_free(c->rows);
    *c = (struct kind_card){ 0 };
}

static void fill_rows(struct kind_card *c, const struct event_kinds *kinds,
                      const struct kernels *kernels, size_t count)
{
    size_t dim = kinds->dimension;
    for (size_t i = 0; i < count; i++) {
        float *row = c->rows + i * dim, scale = kinds->scales[c->count + i];
        kernels->widen_f16(row, kinds->halves + (c->count + i) * dim, dim);
        for (size_t k = 0; k < dim; k++)
            row[k] = scale > 0 ? row[k] * scale : 0;
    }
}

enum akin_status kind_card_take(struct kind_card *c, const struct event_kinds *kinds,
                                const struct kernels *kernels, bool *done,
                                struct akin_error *error)
{
    size_t dim = kinds->dimension, left = kinds->count - c->count;
    size_t count = left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE;
    *done = count == left;
    if (!count)
        return AKIN_OK;
    if (!dim || dim % SEARCH_DEVICE_DIM_UNIT || dim > SEARCH_DEVICE_DIM_MAX)
        return error_set(error, AKIN_UNSUPPORTED, "vectors of %zu numbers are not searched on a "
                         "card", dim);
    if (!c->rows)
        c->rows = memory_alloc_aligned((size_t)ROWS_AT_ONCE * dim, sizeof *c->rows);
    if (!c->rows)
        return error_memory(error);
    fill_rows(c, kinds, kernels, count);
    TRY(c->device ? c->ops->append(c->device, c->rows, count, error)
                  : c->ops->create(c->ordinal, c->rows, count, dim, &c->device, error));
    c->count += count;
    return AKIN_OK;
}

enum akin_status kind_card_search(struct kind_card *c, const struct event_kinds *kinds,
                                  const struct kernels *kernels, const float *query,
                                  struct hit *hits, size_t *count, struct akin_error *error)
{
    size_t dim = kinds->dimension, found = 0, kept = 0;
    struct device_query asked = { .queries = c->rows, .query_count = 1, .k = SEARCH_DEVICE_K_MAX };
    double square = 0;
    for (size_t k = 0; k < dim; k++)
        square += (double)query[k] * (double)query[k];
    if (!isfinite(square) || !(square > 0))
        return error_set(error, AKIN_ARGUMENT, "the query has no direction");
    for (size_t k = 0; k < dim; k++)
        c->rows[k] = (float)((double)query[k] / sqrt(square));
    TRY(c->ops->search(c->device, &asked, hits, &found, NULL, error));
    float reach = found < c->count && found ? hits[found - 1].score + margin_of(dim) : -INFINITY;
    if (!event_kinds_score_some(kinds, kernels, query, hits, found))
        return error_memory(error);
    for (size_t i = 0; i < found; i++)
        if (hits[i].score >= reach)
            hits[kept++] = hits[i];
    *count = kept;
    return AKIN_OK;
}
