/* The inner loops of training, a table beside that of kernels.h and under the same rules: a row
 * here is a slot, a reference in kernels_train_ref.c, a check and a benchmark
 * in tests/kernelcheck_train.c; error classes are those of kernels.h.
 *
 * product_f32      out[r][c] = start + sum over k of left(r, k) * right(k, c), for r < rows <=
 *                  product.mr and c < cols <= product.nr; left(r, k) = left[r * left_row +
 *                  k * left_k], right(k, c) = right[k * right_k + c]. Starts from bias[c] (NULL:
 *                  0), or from out[r][c] where `accumulate` is set (bias is then not used), and
 *                  adds the products for k = 0, 1, 2 ... one after the other in float32, fused on
 *                  the vector levels: cutting the depth changes no bit. Only what is named is read.
 *                  bounded, n = depth + 1.
 * product_bf16     The same of bfloat16 numbers in pairs along k: left and right are pairs, depth
 *                  and strides count pairs, and the products of the upper half of a pair are added
 *                  before those of the lower half, one after the other, fused, in float32. So the
 *                  bits are those of numbers in order where the first of two lies in the upper
 *                  half, wherever the cut between two pairs falls. Denormals may count as 0.
 *                  bounded, n = 2 depth + 1, and depth FLT_MIN beside.
 * pack_f32         Columns of x [rows][stride] as panels of `width`: out[c / width * step +
 *                  r * width + c % width] = x[r * stride + c]. exact.
 * pack_pairs_f32   The same in pairs of rows, rounded as narrow_bf16 does: row r / 2 of a panel has
 *                  row r in the upper half, r + 1 in the lower half, zeros behind the last row.
 *                  exact.
 * pack_pairs_bf16  The same of bfloat16 numbers. exact.
 * sum_panels_f32   sums[c] += weights[r] * panels[c / width * step + r * width + c % width] for r <
 *                  rows, one after the other, fused on the vector levels; weights NULL: ones.
 *                  width <= 16. bounded, n = rows + 1.
 * sum_panels_bf16  The same of pairs; rows counts pairs, of which the upper half has the weight of
 *                  row 2 r and comes first. Every pair has two weights. bounded, n = 2 rows + 1.
 * exp_row_f32      x[c] = e^(x[c] - top) for c < cols, with top the greatest number; sums[0] = top,
 *                  sums[1] = the sum of them, in 64 partial sums: number j takes c = j, j + 64, ...
 *                  NaN where the row has one. ulp 2, of x - top rounded once; the sum bounded.
 * exp_row_bf16     The same to `out`, rounded as narrow_bf16 does; the sum is of what is not
 *                  rounded. x stays.
 * hide_f32         out[c] = (x[c] < 0 ? 0 : x[c]) * scale where bit c % 8 of keep[c / 8] is set, or
 *                  keep is NULL, else 0; out may be x. exact.
 * hide_bf16        The same, then rounded as narrow_bf16 does. exact.
 * mask_f32         x[i] = hidden[i] > 0 ? x[i] * scale : 0. exact.
 * mask_bf16        The same where hidden is bfloat16. exact.
 * all_finite       Whether no number is infinite or NaN. exact.
 * update_adam      With g = gradient * factor + decay * value, first = beta1 * first + take1 * g,
 *                  second = beta2 * second + take2 * g * g: value = value * keep - rate * first /
 *                  (sqrt(second) * root + epsilon), each operation rounded. exact.
 * update_sgd       value -= rate * (gradient * factor + decay * value), likewise. exact.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct update_terms {
    float factor, keep, decay, beta1, take1, beta2, take2, root, epsilon, rate;
};

#define TRAIN_KERNELS(X) TRAIN_PRODUCT_KERNELS(X) TRAIN_FLAT_KERNELS(X)

#define TRAIN_PRODUCT_KERNELS(X)                                                                 \
    X(product_f32,   void,   (float *out, size_t out_stride, const float *left, size_t left_row, \
                              size_t left_k, const float *right, size_t right_k, size_t depth,   \
                              size_t rows, size_t cols, const float *bias, bool accumulate))     \
    X(product_bf16,  void,   (float *out, size_t out_stride, const uint32_t *left,               \
                              size_t left_row, size_t left_k, const uint32_t *right,             \
                              size_t right_k, size_t depth, size_t rows, size_t cols,            \
                              const float *bias, bool accumulate))                               \
    X(pack_f32,      void,   (float *out, size_t width, size_t step, const float *x,             \
                              size_t stride, size_t rows, size_t cols))                          \
    X(pack_pairs_f32, void,  (uint32_t *out, size_t width, size_t step, const float *x,          \
                              size_t stride, size_t rows, size_t cols))                          \
    X(pack_pairs_bf16, void, (uint32_t *out, size_t width, size_t step, const uint16_t *x,       \
                              size_t stride, size_t rows, size_t cols))                          \
    X(sum_panels_f32, void,  (float *sums, const float *panels, size_t width, size_t step,       \
                              size_t rows, size_t cols, const float *weights))                   \
    X(sum_panels_bf16, void, (float *sums, const uint32_t *panels, size_t width, size_t step,    \
                              size_t rows, size_t cols, const float *weights))

#define TRAIN_FLAT_KERNELS(X)                                                                    \
    X(exp_row_f32,   void,   (float *x, size_t cols, float sums[2]))                             \
    X(exp_row_bf16,  void,   (uint16_t *out, const float *x, size_t cols, float sums[2]))        \
    X(hide_f32,      void,   (float *out, const float *x, const uint8_t *keep, float scale,      \
                              size_t cols))                                                      \
    X(hide_bf16,     void,   (uint16_t *out, const float *x, const uint8_t *keep, float scale,   \
                              size_t cols))                                                      \
    X(mask_f32,      void,   (float *x, const float *hidden, float scale, size_t count))         \
    X(mask_bf16,     void,   (float *x, const uint16_t *hidden, float scale, size_t count))      \
    X(all_finite,    bool,   (const float *x, size_t count))                                     \
    X(update_adam,   void,   (float *values, const float *gradients, float *first,               \
                              float *second, const struct update_terms *terms, size_t count))    \
    X(update_sgd,    void,   (float *values, const float *gradients,                             \
                              const struct update_terms *terms, size_t count))

struct train_kernels {
#define X(name, result, params) result (*name) params;
    TRAIN_KERNELS(X)
#undef X
    struct { size_t mr, nr; } product;      /* one call of product_f32 and of product_bf16 */
};

/* Upper limits of product.mr and product.nr. */
enum { PRODUCT_MR_MAX = 12, PRODUCT_NR_MAX = 32 };

/* The fastest version of every operation that `cpu_flags` (base/cpu.h) allow. */
void train_kernels_select(struct train_kernels *k, unsigned cpu_flags);

/* Each instruction set's files export exactly one of these. */
void train_kernels_use_ref(struct train_kernels *k);
void train_kernels_use_avx2(struct train_kernels *k);
void train_kernels_use_avx512(struct train_kernels *k);
void train_kernels_use_avx512bf16(struct train_kernels *k);
