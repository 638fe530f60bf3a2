/* The inner loops of training that go over rows, and attention of one head; kernels.h states the
 * rules and the classes of error. References in kernels_train_rows_ref.c, the vector levels in
 * train_rows_wide.h and train_attend_wide.h, checks in tests/kernelcheck_train_rows.c.
 *
 * dropout_bits     Bit i of keep[b] = number i of block `block` + b is kept, for b < blocks. exact.
 * dropout_scale    out[i] = x[i] * scale where bit i % 8 of keep[i / 8] is set, else 0; out may be
 *                  x. exact.
 * dropout_add      out[i] = x[i] + y[i] * scale where it is set, else x[i]: fused on the vector
 *                  levels; out may be x or y. bounded, n = 1.
 * norm_moments     moments[r] = mean of row r of x and 1 / sqrt(variance + TRAIN_EPSILON), as
 *                  layernorm_f32 of kernels.h has them.
 * norm_backward    gradient: of norm(x) before, of x after: inverse * (g - mean(g) - n * mean(g n))
 *                  with g = gradient * gain and n = (x - mean) * inverse. Sixteen partial sums and
 *                  a tree. error <= (dim + 8) u inverse (|g| + mean |g| + |n| mean |g n|) and what
 *                  the error of n makes of it.
 * norm_gradients   For each column: gain += gradient * n (fused on the vector levels) and
 *                  offset += gradient, row after row; n as above, of moments. bounded, n = rows.
 * attend_forward   One head, below.
 * attend_backward
 *
 * Of one row, or one column of norm_gradients, the bits depend on nothing else. */
#pragma once

#include <stdbool.h>

#include "compute/cpu/train_dropout.h"

/* One head of one sample: out = drop(softmax(q k^T / sqrt(dim))) v. The numbers are float32, or
 * bfloat16 where `half` is set: then the products, and what goes into them, may be rounded to it.
 * Strides count numbers. */
struct attend_head {
    const void *q, *k, *v;              /* [queries or keys][dim] */
    size_t q_stride, kv_stride;
    size_t queries, keys, dim;
    bool causal, half;
    const struct dropout *dropout;      /* threshold 0: none */
    uint64_t block;                     /* of dropout, of query 0 and key 0; each query has
                                           dropout_blocks(keys) */
    float *top, *inverse;               /* [queries] of the softmax: the largest of q k /
                                           sqrt(dim), and 1 / the sum of e^(that - top) */
    void *scratch;                      /* attend_scratch_bytes, on 64 bytes; no meaning between
                                           calls */
};

/* The gradients of q, k and v from that of out: float32, written, not added to. */
struct attend_gradients {
    const float *out_gradient;          /* [queries][stride] */
    const void *out;                    /* of attend_forward: float32, or rounded to bfloat16 */
    float *q, *k, *v;
    size_t stride, out_stride, q_stride, kv_stride;     /* stride: of out_gradient */
};

/* What attention works on at a time. */
enum { ATTEND_TRAIN_QUERIES = 32, ATTEND_TRAIN_KEYS = 64 };

#define TRAIN_EPSILON 1e-5f

#define TRAIN_ROW_KERNELS(X)                                                                     \
    X(dropout_bits,  void,   (uint8_t *keep, const struct dropout *d, uint64_t block,            \
                              size_t blocks))                                                    \
    X(dropout_scale, void,   (float *out, const float *x, const uint8_t *keep, float scale,      \
                              size_t count))                                                     \
    X(dropout_add,   void,   (float *out, const float *x, const float *y, const uint8_t *keep,   \
                              float scale, size_t count))                                        \
    X(norm_moments,  void,   (float (*moments)[2], const float *x, size_t rows, size_t dim))      \
    X(norm_backward, void,   (float *gradient, const float *x, const float *gain, size_t rows,   \
                              size_t dim))                                                       \
    X(norm_gradients, void,  (float *gain, float *offset, const float *gradient, const float *x, \
                              const float (*moments)[2], size_t stride, size_t rows,             \
                              size_t cols))                                                      \
    X(attend_forward, void,  (const struct attend_head *h, float *out, size_t out_stride))       \
    X(attend_backward, void, (const struct attend_head *h, const struct attend_gradients *g))

struct train_row_kernels {
#define X(name, result, params) result (*name) params;
    TRAIN_ROW_KERNELS(X)
#undef X
};

/* The fastest version of each that `cpu_flags` (base/cpu.h) allow. */
void train_rows_select(struct train_row_kernels *k, unsigned cpu_flags);

/* Each instruction set's file exports exactly this. */
void train_rows_use_ref(struct train_row_kernels *k);
void train_rows_use_avx2(struct train_row_kernels *k);
void train_rows_use_avx512(struct train_row_kernels *k);
void train_rows_use_avx512bf16(struct train_row_kernels *k);

/* Of struct attend_head, for the longest queries and keys that it will have. */
size_t attend_train_scratch_bytes(size_t queries, size_t keys, size_t dim);
