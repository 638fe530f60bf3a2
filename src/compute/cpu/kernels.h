/* Seam 2: the inner loops. One row here is one operation: a slot in struct kernels, a reference in
 * kernels_ref.c, a check and a benchmark in tests/kernelcheck.c (a row without check_<name> does
 * not compile).
 *
 * Rules that hold for every row
 * - Pointers need the alignment of a float, `const void *` none. Only what is named is read or
 *   written. Outputs do not overlap inputs unless the row says so.
 * - What one output is depends on its own inputs and sizes only, in a fixed order: never on how
 * many rows or columns the call has. So the same text has the same bits in any batch.
 * - The vector levels (avx2, avx512) give the same bits as each other: both run kernels_wide.h.
 * - NaN and infinities propagate as in plain C unless the row says otherwise.
 *
 * Error classes (u = 2^-24), against the exact result on the same inputs
 *   exact    elementwise, one rounding: same bits on every level
 *   bounded  sums: |x - exact| <= (n + 2) u * sum |terms|, n the number of terms
 *   ulp N    |x - exact| <= N units in the last place of the exact result, or FLT_MIN
 *
 * gemm_f32         out[r][c] (+)= sum over k of x[r][k] * panel[k][c], for r < rows <= gemm.mr and
 *                  c < cols <= gemm.nr. Starts from bias[c] (NULL: 0), or from out[r][c] where
 *                  `accumulate` is set (bias is then not used), and adds the products for k = 0, 1,
 *                  2 ... one after the other in float32, fused on the vector levels. So cutting the
 *                  depth into several calls changes no bit. panel is [depth][gemm.nr]; all of it is
 *                  read. bounded, n = depth + 1.
 * score_dot_f32    scores[q][r] = sum a[k] b[k] for query q (queries[q * dim]) and row rows[r];
 * score_l2_f32     scores[q][r] = -sum (a[k] - b[k])^2. scores is [query_count][row_count]. Sixteen
 *                  partial sums, fused: number j takes k = j, j + 16, ...; the missing end counts
 * as zeros; then a tree: j + (j+8), + (j+4), + (j+2), + (j+1). Same bits on every level. bounded, n
 * = dim (l2: n = 2 dim + 2). softmax_f32      One step of a softmax over blocks: with m = max(*max,
 * scale * x), turns x into exp(scale * x - m), *sum into *sum * f + sum x, *max into m, and returns
 *                  f = exp(old max - m), 0 where the old one was -inf. scale > 0, count >= 1.
 *                  exp: ulp 4 of its own argument; sum: bounded.
 * layernorm_f32    out = (s - mean) / sqrt(variance + epsilon) * gamma + beta with s = x + y (y may
 * be NULL; out may be x or y). Two passes, float32, sixteen partial sums as above. With n = count:
 * error <= (n / 16 + 12) u (|s| + mean |s|) / sigma * |gamma| + 4 u |out|. gelu_f32         x = x *
 * Phi(x), the exact form 0.5 x (1 + erf(x / sqrt 2)), in place on x[r * stride
 *                  + c], r < rows, c < cols. ulp 5. -inf gives 0.
 * relu_f32         x = x < 0 ? 0 : x, likewise. exact.
 * add_f32          x += y. exact.
 * max_f32          x = x > y ? x : y, elementwise, but a NaN in either stays. exact.
 * scale_f32        x *= factor. exact.
 * widen_f16        float32 of IEEE half or bfloat16 numbers, `in` unaligned, little-endian. exact.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*    name           result  parameters */
#define KERNELS(X)                                                                               \
    X(gemm_f32,      void,   (float *out, size_t out_stride, const float *x, size_t x_stride,    \
                              const float *panel, size_t depth, size_t rows, size_t cols,        \
                              const float *bias, bool accumulate))                               \
    X(score_dot_f32, void,   (float *scores, const float *queries, size_t query_count,           \
                              const float *const *rows, size_t row_count, size_t dim))           \
    X(score_l2_f32,  void,   (float *scores, const float *queries, size_t query_count,           \
                              const float *const *rows, size_t row_count, size_t dim))           \
    X(softmax_f32,   float,  (float *x, size_t count, float scale, float *max, float *sum))      \
    X(layernorm_f32, void,   (float *out, const float *x, const float *y, const float *gamma,    \
                              const float *beta, float epsilon, size_t count))                   \
    X(gelu_f32,      void,   (float *x, size_t stride, size_t rows, size_t cols))                \
    X(relu_f32,      void,   (float *x, size_t stride, size_t rows, size_t cols))                \
    X(add_f32,       void,   (float *x, const float *y, size_t count))                           \
    X(max_f32,       void,   (float *x, const float *y, size_t count))                           \
    X(scale_f32,     void,   (float *x, float factor, size_t count))                             \
    X(widen_f16,     void,   (float *out, const void *in, size_t count))                         \
    X(widen_bf16,    void,   (float *out, const void *in, size_t count))

/* How a matrix product is cut, chosen together with its micro-kernel. */
struct gemm_blocks {
    size_t mr, nr;          /* one call of the micro-kernel: rows, columns of a panel */
    size_t rows, depth;     /* a block of x that stays in the second-level cache */
};

struct kernels {
#define X(name, result, params) result (*name) params;
    KERNELS(X)
#undef X
    struct gemm_blocks gemm;
};

/* Upper limits of gemm.mr and gemm.nr on every level, for scratch of fixed size. */
enum { GEMM_MR_MAX = 16, GEMM_NR_MAX = 64 };

/* The fastest version of every operation that `cpu_flags` (base/cpu.h) allow. */
void kernels_select(struct kernels *k, unsigned cpu_flags);

/* Each instruction set's file exports exactly this: it overwrites the slots that it improves. */
void kernels_use_ref(struct kernels *k);
void kernels_use_avx2(struct kernels *k);
void kernels_use_avx512(struct kernels *k);
