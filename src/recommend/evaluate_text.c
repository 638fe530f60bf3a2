/* The rows of the table that need no interactions: similarity of texts. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "catalog/catalog.h"
#include "compute/cpu/kernels.h"
#include "recommend/evaluate.h"

static const float fast = 0.3f;     /* of the running mean; the first items weigh as 1 / t */

static void normalize(float *x, size_t dim)
{
    double squares = 0;
    for (size_t d = 0; d < dim; d++)
        squares += (double)x[d] * (double)x[d];
    float factor = squares > 0 ? (float)(1 / sqrt(squares)) : 0;
    for (size_t d = 0; d < dim; d++)
        x[d] *= factor;
}

static bool mean_vector(const float *vectors, size_t count, size_t dim, float *mean)
{
    double *sums = memory_alloc(dim, sizeof *sums);
    if (!sums)
        return false;
    for (size_t i = 0; i < count; i++)
        for (size_t d = 0; d < dim; d++)
            sums[d] += (double)vectors[i * dim + d];
    for (size_t d = 0; d < dim; d++)
        mean[d] = (float)(sums[d] / (double)count);
    memory_free(sums);
    return true;
}

static bool find(const struct catalog *catalog, const char *name, size_t *row)
{
    char id[512];
    if (snprintf(id, sizeof id, "ml_%s", name) < (int)sizeof id &&
        catalog_find_id(catalog, id, row, NULL) == AKIN_OK)
        return true;
    return catalog_find_id(catalog, name, row, NULL) == AKIN_OK;
}

enum akin_status split_text_create(const struct catalog *catalog, const struct split *split,
                             struct split_text *text, struct akin_error *error)
{
    struct akin_catalog_info info = { 0 };
    if (catalog)
        catalog_info(catalog, &info);
    const float *vectors = catalog ? catalog_item_vectors(catalog) : NULL;
    *text = (struct split_text){ .dim = info.dimension };
    if (!vectors || !info.items)
        return AKIN_OK;
    size_t floats, dim = info.dimension;
    float *mean = memory_alloc(dim, sizeof *mean);
    if (size_mul(split->item_count, dim, &floats))
        text->vectors = memory_alloc(floats, sizeof *text->vectors);
    text->rows = memory_alloc(split->item_count, sizeof *text->rows);
    if (!mean || !text->vectors || !text->rows || !mean_vector(vectors, info.items, dim, mean)) {
        memory_free(mean);
        split_text_deinit(text);
        return error_memory(error);
    }
    for (size_t i = 0; i < split->item_count; i++) {
        size_t row;
        float *to = text->vectors + i * dim;
        text->rows[i] = to;
        if (!find(catalog, split->items[i], &row))
            continue;
        for (size_t d = 0; d < dim; d++)
            to[d] = vectors[row * dim + d] - mean[d];
        normalize(to, dim);
    }
    memory_free(mean);
    return AKIN_OK;
}

void split_text_deinit(struct split_text *text)
{
    memory_free(text->vectors);
    memory_free(text->rows);
    *text = (struct split_text){ 0 };
}

void split_text_say(const struct split_text *text, const struct kernels *kernels,
              enum blend_text kind, const uint32_t *history, size_t count, size_t items,
              float *vector, float *scores)
{
    size_t dim = text->dim, first = kind == BLEND_TEXT_ITEM ? count - 1 : 0;
    memset(vector, 0, dim * sizeof *vector);
    for (size_t e = first; e < count; e++) {
        float slow = 1 / (float)(e - first + 1), a = slow > fast ? slow : fast;
        kernels->scale_f32(vector, 1 - a, dim);
        kernels->add_scaled_f32(vector, text->rows[history[e]], a, dim);
    }
    normalize(vector, dim);
    kernels->score_dot_f32(scores, vector, 1, text->rows, items, dim);
}
