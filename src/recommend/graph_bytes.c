/* See graph_bytes.h. */
#include "recommend/graph_bytes.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "compute/cpu/kernels.h"

enum { WEIGHT_MAX = 127, DEPTH_UNIT = 32, QUERY_MAX = INT16_MAX };

/* The greatest number that a vector may have: no sum of `dim` products leaves 31 bits. */
static float query_max(size_t dim)
{
    size_t most = INT32_MAX / (WEIGHT_MAX * dim);
    return (float)(most < QUERY_MAX ? most : QUERY_MAX);
}

static float greatest(const float *x, size_t count)
{
    float most = 0;
    for (size_t i = 0; i < count; i++)
        most = fmaxf(most, fabsf(x[i]));
    return most;
}

void graph_bytes_round(const float *row, size_t dim, int8_t *out, float *scale)
{
    float most = greatest(row, dim);
    most = most / WEIGHT_MAX >= FLT_MIN ? most : 0;
    *scale = most / WEIGHT_MAX;
    for (size_t d = 0; d < dim; d++)
        out[d] = most > 0 ? (int8_t)lrintf(row[d] * (WEIGHT_MAX / most)) : 0;
}

enum akin_status graph_bytes_make(const struct graph_sage *graph, enum graph_tower tower,
                                  struct graph_bytes *bytes, struct akin_error *error)
{
    size_t dim = graph->dim, stride = (dim + DEPTH_UNIT - 1) / DEPTH_UNIT * DEPTH_UNIT;
    struct graph_bytes made = { .dim = dim, .stride = stride };
    made.weights = memory_alloc_aligned(2 * dim * stride, sizeof *made.weights);
    made.scales = memory_alloc(2 * dim, sizeof *made.scales);
    if (!made.weights || !made.scales) {
        graph_bytes_deinit(&made);
        return error_memory(error);
    }
    memset(made.weights, 0, 2 * dim * stride);
    for (size_t r = 0; r < 2 * dim; r++)
        graph_bytes_round(graph->rows[(size_t)tower * 2 * dim + r], dim,
                          made.weights + r * stride, &made.scales[r]);
    made.rest = graph->values + (size_t)tower * graph_tower_values(dim);
    *bytes = made;
    return AKIN_OK;
}

void graph_bytes_deinit(struct graph_bytes *bytes)
{
    memory_free(bytes->weights);
    memory_free(bytes->scales);
    *bytes = (struct graph_bytes){ 0 };
}

/* out [dim] = a matrix times x, plus bias; out may be x. sums [dim], query [stride]. */
static void multiply(const struct graph_bytes *b, const struct kernels *kernels, size_t matrix,
                     const float *x, const float *bias, float *out, int32_t *sums, int16_t *query)
{
    float most = greatest(x, b->dim), limit = query_max(b->dim);
    float to = most > 0 ? limit / most : 0, back = most / limit;
    const float *scales = b->scales + matrix * b->dim;
    for (size_t d = 0; d < b->dim; d++)
        query[d] = (int16_t)lrintf(x[d] * to);
    kernels->score_s16s8(sums, query, b->weights + matrix * b->dim * b->stride, b->stride, NULL,
                         b->dim, b->stride);
    for (size_t r = 0; r < b->dim; r++)
        out[r] = (float)sums[r] * (scales[r] * back) + bias[r];
}

void graph_bytes_tower(const struct graph_bytes *b, const struct kernels *kernels, float *x,
                       float *scratch)
{
    size_t dim = b->dim, square = dim * dim;
    float *wide = scratch;
    int32_t *sums = (int32_t *)(scratch + dim);
    int16_t *query = (int16_t *)(scratch + 2 * dim);
    memset(query, 0, b->stride * sizeof *query);
    multiply(b, kernels, 0, x, b->rest + square, wide, sums, query);
    kernels->relu_f32(wide, dim, 1, dim);
    multiply(b, kernels, 1, wide, b->rest + 2 * square + dim, wide, sums, query);
    kernels->layernorm_f32(x, x, wide, b->rest + 2 * square + 2 * dim,
                           b->rest + 2 * square + 3 * dim, 1e-5f, dim);
}
