/* A tower of the graph with weights of eight bits, for one vector at a time: a request reads a
 * quarter of what float32 is. A row of weights is signed bytes times a scale of its own; what is
 * multiplied by it is rounded to sixteen bits, and the sum is exact (score_s16s8 in
 * compute/cpu/kernels.h). So the bits are the same on every level. */
#pragma once

#include "recommend/graph_sage.h"

struct graph_bytes {
    size_t dim, stride;         /* stride: of rows, dim and zeros behind */
    int8_t *weights;            /* [2][dim][stride] of up and down */
    float *scales;              /* [2][dim] */
    const float *rest;          /* of the tower: biases, gain, offset; borrowed */
};

/* Of a tower of `graph`, which outlives it. AKIN_MEMORY. */
enum akin_status graph_bytes_make(const struct graph_sage *graph, enum graph_tower tower,
                                  struct graph_bytes *bytes, struct akin_error *error);
void graph_bytes_deinit(struct graph_bytes *bytes);

/* out [dim] times *scale is `row`, nearly. */
void graph_bytes_round(const float *row, size_t dim, int8_t *out, float *scale);

/* Floats of scratch. */
static inline size_t graph_bytes_scratch(size_t dim)
{
    return 3 * dim + 32;
}

/* As graph_sage_tower, nearly. Allocates nothing. */
void graph_bytes_tower(const struct graph_bytes *bytes, const struct kernels *kernels, float *x,
                       float *scratch);
