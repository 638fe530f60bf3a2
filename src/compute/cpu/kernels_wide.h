/* The loops of the vector levels, written once over vectors of sixteen floats: kernels_avx512.c
 * makes such a vector of one register, kernels_avx2.c of two, and includes this file behind. What
 * the including file defines: v16 and the v_ functions, and the tile sizes GEMM_ROWS,
 * GEMM_VECTORS, SCORE_QUERIES and SCORE_ROWS. The order of every sum is fixed by the sixteen lanes,
 * so both levels give the same bits. */

#include <math.h>
#include <string.h>

#include "compute/cpu/grid.h"
#include "compute/cpu/vector_exp.h"

enum { GEMM_COLS = GEMM_VECTORS * LANES };

/* ---- GELU ------------------------------------------------------------------------------- */

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|), and Phi(-t) = e^(-t^2/2) R(t). R is smooth and slowly
 * falling: a rational fit of degrees 4/5 on 0..14.5, relative error 0.1 u; all its coefficients are
 * positive, so nothing cancels. What rounding drops of t^2/2 is handed on as well, else the far
 * tail would lose six bits. Beyond 14.5 the result is max(x, 0). */
ALWAYS_INLINE v16 gelu(v16 x)
{
    v16 t = v_min(v_set(14.5f), v_abs(x)), half = v_mul(t, v_set(-0.5f));  /* NaN stays */
    v16 square = v_mul(half, t), dropped = v_fms(half, t, square);
    v16 e = exp_nonpositive(square, dropped);
    v16 p = v_set(0.004116525214729527f);
    p = v_fma(p, t, v_set(0.040634765039136295f));
    p = v_fma(p, t, v_set(0.18323979674686422f));
    p = v_fma(p, t, v_set(0.4383013614066107f));
    p = v_fma(p, t, v_set(0.5f));
    v16 q = v_set(0.010318478801988822f);
    q = v_fma(q, t, v_set(0.10186269589148188f));
    q = v_fma(q, t, v_set(0.4694828885478621f));
    q = v_fma(q, t, v_set(1.2025226930577033f));
    q = v_fma(q, t, v_set(1.6744877034148073f));
    q = v_fma(q, t, v_set(1));
    return v_fnma(v_mul(t, e), v_div(p, q), v_max(v_set(0), x));
}

/* max(x, 0) - t Phi(-t) with t = |x| up to 4.085, the second term as a polynomial without constant:
 * a minimax fit, largest error 5.6e-5. */
ALWAYS_INLINE v16 gelu_rough(v16 x)
{
    v16 t = v_min(v_set(4.085f), v_abs(x)); /* NaN stays */
    v16 p = v_set(4.008196265203878e-05f);
    p = v_fma(p, t, v_set(-0.0006591994897462428f));
    p = v_fma(p, t, v_set(0.0037497146986424923f));
    p = v_fma(p, t, v_set(-0.005169356241822243f));
    p = v_fma(p, t, v_set(-0.02970287762582302f));
    p = v_fma(p, t, v_set(0.11475381255149841f));
    p = v_fma(p, t, v_set(-0.03657595440745354f));
    p = v_fma(p, t, v_set(-0.3863837718963623f));
    p = v_fma(p, t, v_set(0.4985666573047638f));
    return v_fnma(p, t, v_max(v_set(0), x));
}

static void gelu_rough_f32(float *x, size_t stride, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c += LANES) {
            size_t live = smaller(cols - c, LANES);
            float *at = x + r * stride + c;
            v_store_first(at, live, gelu_rough(v_load_first(at, live)));
        }
}

static void gelu_f32(float *x, size_t stride, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c += LANES) {
            size_t live = smaller(cols - c, LANES);
            float *at = x + r * stride + c;
            v_store_first(at, live, gelu(v_load_first(at, live)));
        }
}

static void relu_f32(float *x, size_t stride, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c += LANES) {
            size_t live = smaller(cols - c, LANES);
            float *at = x + r * stride + c;
            v_store_first(at, live, v_max(v_set(0), v_load_first(at, live)));
        }
}

/* ---- elementwise ------------------------------------------------------------------------ */

#define ELEMENTWISE(name, params, y, expression)                                     \
    static void name params                                                          \
    {                                                                                \
        for (size_t i = 0; i < count; i += LANES) {                                  \
            size_t live = smaller(count - i, LANES);                                 \
            v16 a = v_load_first(x + i, live), b = y;                                \
            v_store_first(x + i, live, expression);                                  \
        }                                                                            \
    }

ELEMENTWISE(add_f32, (float *x, const float *y, size_t count), v_load_first(y + i, live),
            v_add(a, b))
ELEMENTWISE(max_f32, (float *x, const float *y, size_t count), v_load_first(y + i, live),
            v_keep_nan(a, v_max(a, b)))
ELEMENTWISE(scale_f32, (float *x, float factor, size_t count), v_set(factor), v_mul(a, b))
ELEMENTWISE(blend_f32, (float *x, float keep, const float *y, float take, size_t count),
            v_mul(v_load_first(y + i, live), v_set(take)), v_add(v_mul(a, v_set(keep)), b))
ELEMENTWISE(add_scaled_f32, (float *x, const float *y, float factor, size_t count),
            v_load_first(y + i, live), v_fma(v_set(factor), b, a))

static float exp_sum_f32(float *x, float top, size_t count)
{
    v16 sums = v_set(0);
    for (size_t i = 0; i < count; i += LANES) {
        size_t live = smaller(count - i, LANES);
        v16 below = v_sub(v_load_first(x + i, live), v_set(top));
        v_store_first(x + i, live, exp_nonpositive(below, v_set(0)));
        sums = v_add(sums, v_load_first(x + i, live));  /* dead lanes are zeros here */
    }
    return v_sum(sums);
}

static void widen_f16(float *out, const void *in, size_t count)
{
    for (size_t i = 0; i < count; i += LANES)
        v_store_first(out + i, smaller(count - i, LANES),
                      v_widen_f16((const char *)in + 2 * i, smaller(count - i, LANES)));
}

static void widen_bf16(float *out, const void *in, size_t count)
{
    for (size_t i = 0; i < count; i += LANES)
        v_store_first(out + i, smaller(count - i, LANES),
                      v_widen_bf16((const char *)in + 2 * i, smaller(count - i, LANES)));
}

/* ---- rows ------------------------------------------------------------------------------- */

/* out = x + y, and that; y may be NULL */
ALWAYS_INLINE v16 residual(float *out, const float *x, const float *y, size_t i, size_t live)
{
    v16 value = v_load_first(x + i, live);
    if (y)
        value = v_add(value, v_load_first(y + i, live));
    v_store_first(out + i, live, value);
    return value;
}

ALWAYS_INLINE float sum_of_four(const v16 sums[4])
{
    return v_sum(v_add(v_add(sums[0], sums[1]), v_add(sums[2], sums[3])));
}

static void layernorm_f32(float *out, const float *x, const float *y, const float *gamma,
                          const float *beta, float epsilon, size_t count)
{
    v16 zero = v_set(0), totals[4] = { zero, zero, zero, zero };
    size_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES)
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++)
            totals[j] = v_add(totals[j], residual(out, x, y, i + j * LANES, LANES));
    for (; i < count; i += LANES)
        totals[0] = v_add(totals[0], residual(out, x, y, i, smaller(count - i, LANES)));
    v16 mean = v_set(sum_of_four(totals) / (float)count);
    v16 squares[4] = { zero, zero, zero, zero };
    for (i = 0; i + 4 * LANES <= count; i += 4 * LANES)
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            v16 d = v_sub(v_load(out + i + j * LANES), mean);
            squares[j] = v_fma(d, d, squares[j]);
        }
    for (; i < count; i += LANES) {
        size_t live = smaller(count - i, LANES);
        v16 d = v_first_or(v_sub(v_load_first(out + i, live), mean), live, zero);
        squares[0] = v_fma(d, d, squares[0]);
    }
    v16 inverse = v_set(1 / sqrtf(sum_of_four(squares) / (float)count + epsilon));
    for (i = 0; i < count; i += LANES) {
        size_t live = smaller(count - i, LANES);
        v16 d = v_mul(v_sub(v_load_first(out + i, live), mean), inverse);
        v_store_first(out + i, live,
                      v_fma(d, v_load_first(gamma + i, live), v_load_first(beta + i, live)));
    }
}

/* Sixteen numbers of a row; dead lanes are zeros, which are inside every range. */
ALWAYS_INLINE v16 factored(const float *x, const float *factor, size_t i, size_t live)
{
    v16 y = v_load_first(x + i, live);
    return factor ? v_mul(y, v_load_first(factor + i, live)) : y;
}

/* The extremes, and NaN where a number is NaN or infinite: two of each, because each waits for its
 * predecessor. */
ALWAYS_INLINE struct grid row_grid(const float *x, const float *factor, size_t count)
{
    v16 low[2] = { v_set(0), v_set(0) }, high[2] = { low[0], low[0] },
        poison[2] = { low[0], low[0] };
    size_t i = 0;
    for (; i + 2 * LANES <= count; i += 2 * LANES)
#pragma GCC unroll 2
        for (size_t j = 0; j < 2; j++) {
            v16 y = factored(x, factor, i + j * LANES, LANES);
            low[j] = v_min(y, low[j]);
            high[j] = v_max(y, high[j]);
            poison[j] = v_fma(y, v_set(0), poison[j]);
        }
    for (; i < count; i += LANES) {
        v16 y = factored(x, factor, i, smaller(count - i, LANES));
        low[0] = v_min(y, low[0]);
        high[0] = v_max(y, high[0]);
        poison[0] = v_fma(y, v_set(0), poison[0]);
    }
    v16 below = v_sub(v_set(0), v_min(low[0], low[1]));
    return grid_of(-v_largest(below), v_largest(v_max(high[0], high[1])),
                   v_sum(v_add(poison[0], poison[1])));
}

static void quantize_u8(uint8_t *out, const float *x, const float *factor, size_t count,
                        size_t padded, float *scale, float *zero_point)
{
    struct grid grid = row_grid(x, factor, count);
    if (grid.inverse > 0) {
        v16 inverse = v_set(grid.inverse);
        int zero = (int)grid.zero_point;
        size_t i = 0;
        for (; i + 4 * LANES <= count; i += 4 * LANES)
            v_store_u8_four(out + i, v_mul(factored(x, factor, i, LANES), inverse),
                            v_mul(factored(x, factor, i + LANES, LANES), inverse),
                            v_mul(factored(x, factor, i + 2 * LANES, LANES), inverse),
                            v_mul(factored(x, factor, i + 3 * LANES, LANES), inverse), zero);
        for (; i < count; i += LANES) {
            size_t live = smaller(count - i, LANES);
            v16 y = factored(x, factor, i, live);
            v_store_u8(out + i, live, v_mul(y, inverse), zero);
        }
    } else {
        memset(out, 0, count);
    }
    memset(out + count, 0, padded - count);
    *scale = grid.scale;
    *zero_point = grid.zero_point;
}

/* ---- scores ----------------------------------------------------------------------------- */

/* Sixteen dimensions from k on, or the `live` that are left. */
ALWAYS_INLINE void score_step(v16 sums[SCORE_QUERIES][SCORE_ROWS], const float *queries,
                              const float *const *rows, size_t dim, size_t k, const int query_count,
                              const int row_count, const bool l2, size_t live)
{
    v16 b[SCORE_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < row_count; r++)
        b[r] = v_load_first(rows[r] + k, live);
#pragma GCC unroll 8
    for (int q = 0; q < query_count; q++) {
        v16 a = v_load_first(queries + (size_t)q * dim + k, live);
#pragma GCC unroll 8
        for (int r = 0; r < row_count; r++) {
            v16 d = l2 ? v_sub(a, b[r]) : a;
            sums[q][r] = v_fma(d, l2 ? d : b[r], sums[q][r]);
        }
    }
}

/* queries x rows of them at once: each sum has its own accumulator, each load serves several. */
ALWAYS_INLINE void score_tile(float *scores, size_t stride, const float *queries,
                              const float *const *rows, size_t dim, const int query_count,
                              const int row_count, const bool l2)
{
    v16 sums[SCORE_QUERIES][SCORE_ROWS];
    for (int q = 0; q < query_count; q++)
        for (int r = 0; r < row_count; r++)
            sums[q][r] = v_set(0);
    size_t k = 0;
    for (; k + LANES <= dim; k += LANES)
        score_step(sums, queries, rows, dim, k, query_count, row_count, l2, LANES);
    if (k < dim)
        score_step(sums, queries, rows, dim, k, query_count, row_count, l2, dim - k);
    float flat[SCORE_QUERIES * SCORE_ROWS];
    if (query_count * row_count % 4 == 0) {
#pragma GCC unroll 8
        for (int i = 0; i < query_count * row_count; i += 4)
            v_sum4(flat + i, sums[i / row_count][i % row_count],
                   sums[(i + 1) / row_count][(i + 1) % row_count],
                   sums[(i + 2) / row_count][(i + 2) % row_count],
                   sums[(i + 3) / row_count][(i + 3) % row_count]);
    } else {
        for (int i = 0; i < query_count * row_count; i++)
            flat[i] = v_sum(sums[i / row_count][i % row_count]);
    }
    for (int q = 0; q < query_count; q++)
        for (int r = 0; r < row_count; r++)
            scores[(size_t)q * stride + (size_t)r] =
                l2 ? -flat[q * row_count + r] : flat[q * row_count + r];
}

ALWAYS_INLINE void score_f32(float *scores, const float *queries, size_t query_count,
                             const float *const *rows, size_t row_count, size_t dim, const bool l2)
{
    size_t q = 0;
    for (; q + SCORE_QUERIES <= query_count; q += SCORE_QUERIES) {
        const float *a = queries + q * dim;
        float *to = scores + q * row_count;
        size_t r = 0;
        for (; r + SCORE_ROWS <= row_count; r += SCORE_ROWS)
            score_tile(to + r, row_count, a, rows + r, dim, SCORE_QUERIES, SCORE_ROWS, l2);
        for (; r < row_count; r++)
            score_tile(to + r, row_count, a, rows + r, dim, SCORE_QUERIES, 1, l2);
    }
    /* One query: memory is the limit, so rows one after the other, each with the next one on its
     * way. */
    for (; q < query_count; q++)
        for (size_t r = 0; r < row_count; r++) {
            if (q == 0 && r + 2 < row_count)
                for (size_t k = 0; k < dim; k += LANES)
                    __builtin_prefetch(rows[r + 2] + k);
            score_tile(scores + q * row_count + r, row_count, queries + q * dim, rows + r, dim, 1,
                       1, l2);
        }
}

static void score_dot_f32(float *scores, const float *queries, size_t query_count,
                          const float *const *rows, size_t row_count, size_t dim)
{
    score_f32(scores, queries, query_count, rows, row_count, dim, false);
}

static void score_l2_f32(float *scores, const float *queries, size_t query_count,
                         const float *const *rows, size_t row_count, size_t dim)
{
    score_f32(scores, queries, query_count, rows, row_count, dim, true);
}

/* ---- matrix product --------------------------------------------------------------------- */

/* `rows` is a constant where this is inlined, so the accumulators are registers. */
ALWAYS_INLINE void gemm_tile(float *out, size_t out_stride, const float *x, size_t x_stride,
                             const float *panel, size_t depth, const int rows, size_t cols,
                             const float *bias, bool accumulate)
{
    v16 sums[GEMM_ROWS][GEMM_VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < GEMM_VECTORS; v++) {
            const float *start = accumulate ? out + (size_t)r * out_stride : bias;
            size_t first = (size_t)v * LANES,
                   live = cols > first ? smaller(cols - first, LANES) : 0;
            sums[r][v] = start ? v_load_first(start + first, live) : v_set(0);
        }
    for (size_t k = 0; k < depth; k++) {
        v16 b[GEMM_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < GEMM_VECTORS; v++)
            b[v] = v_load(panel + k * GEMM_COLS + (size_t)v * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            v16 a = v_set(x[(size_t)r * x_stride + k]);
#pragma GCC unroll 4
            for (int v = 0; v < GEMM_VECTORS; v++)
                sums[r][v] = v_fma(a, b[v], sums[r][v]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < GEMM_VECTORS; v++) {
            size_t first = (size_t)v * LANES,
                   live = cols > first ? smaller(cols - first, LANES) : 0;
            v_store_first(out + (size_t)r * out_stride + first, live, sums[r][v]);
        }
}

static void gemm_f32(float *out, size_t out_stride, const float *x, size_t x_stride,
                     const float *panel, size_t depth, size_t rows, size_t cols, const float *bias,
                     bool accumulate)
{
    switch (rows) {
#define CASE(n)                                                                                 \
    case n:                                                                                     \
        gemm_tile(out, out_stride, x, x_stride, panel, depth, n, cols, bias, accumulate);       \
        break;
        GEMM_CASES(CASE)
#undef CASE
    }
}

/* The edge of a graph: a difference in one bit per dimension, and the sums that make it a measure.
 */
static void edge_bits(uint64_t *bits, struct edge_sums *sums, const uint8_t *row, float row_scale,
                      const uint8_t *centre, float scale, size_t dim)
{
    v16 zero = v_set(0), middle = v_set(128), row_factor = v_set(row_scale), factor = v_set(scale);
    v16 squares = zero, absolutes = zero, dots = zero, signs = zero;
    for (size_t k = 0; k < dim; k += 64) {
        uint64_t word = 0;
        for (size_t i = 0; i < 64; i += LANES) {
            v16 y = v_mul(row_factor, v_sub(v_load_u8(row + k + i), middle));
            v16 c = v_mul(factor, v_sub(v_load_u8(centre + k + i), middle)), d = v_sub(y, c);
            unsigned positive = v_positive(d);
            squares = v_fma(d, d, squares);
            absolutes = v_add(absolutes, v_abs(d));
            dots = v_fma(c, d, dots);
            signs = v_add(signs, v_negate_unless(c, positive));
            word |= (uint64_t)positive << i;
        }
        bits[k / 64] = word;
    }
    *sums = (struct edge_sums){ v_sum(squares), v_sum(absolutes), v_sum(dots), v_sum(signs) };
}

#include "compute/cpu/attend_wide.h"

static void use_wide(struct kernels *k)
{
#define X(name, result, params) k->name = name;
    KERNELS_WIDE(X)
#undef X
}
