/* The loops of train_kernels.h for the vector levels, over vectors of sixteen floats. What the
 * including file defines: p16 (sixteen pairs of bfloat16 numbers) and its functions, TILE_ROWS,
 * TILE_VECTORS and TILE_CASES. Both levels give the same bits. */

#include <string.h>

#include "compute/cpu/vector_exp.h"
#include "compute/cpu/train_row_parts.h"
#include "compute/cpu/train_flat.h"

ALWAYS_INLINE v16 set_one(const float *p)
{
    return v_set(*p);
}

#define TILE_NAME product_f32
#define TILE_TYPE float
#define TILE_VECTOR v16
#define TILE_LOAD v_load
#define TILE_LOAD_FIRST v_load_first
#define TILE_SET set_one
#define TILE_STEP(sum, a, b) v_fma(a, b, sum)
#include "compute/cpu/train_product_tile.h"

ALWAYS_INLINE p16 set_pair(const uint32_t *p)
{
    uint32_t pair;      /* the left may lie as bfloat16 numbers do */
    memcpy(&pair, p, sizeof pair);
    return p_set(pair);
}

ALWAYS_INLINE v16 p_dot(v16 sum, p16 a, p16 b)
{
    return v_fma(p_lower(a), p_lower(b), v_fma(p_upper(a), p_upper(b), sum));
}

#define TILE_NAME product_bf16
#define TILE_TYPE uint32_t
#define TILE_VECTOR p16
#define TILE_LOAD p_load
#define TILE_LOAD_FIRST p_load_first
#define TILE_SET set_pair
#define TILE_STEP(sum, a, b) p_dot(sum, a, b)
#include "compute/cpu/train_product_tile.h"

/* ---- packing ------------------------------------------------------------------------------ */

#define PACK_NAME pack_f32
#define PACK_FROM float
#define PACK_TO float
#define PACK_ROWS 1
#define PACK_LOAD(x, stride, both, live) v_load_first(x, live)
#define PACK_STORE v_store_first
#include "compute/cpu/train_pack.h"

/* A few panels at once: independent sums. */
enum { SUM_PANELS = 4 };

ALWAYS_INLINE void sum_floats(float *sums, const float *panels, size_t width, size_t step,
                              size_t rows, const int count, const size_t *live,
                              const float *weights)
{
    v16 total[SUM_PANELS];
#pragma GCC unroll 4
    for (int p = 0; p < count; p++)
        total[p] = v_load_first(sums + (size_t)p * width, live[p]);
    for (size_t r = 0; r < rows; r++) {
        v16 weight = v_set(weights ? weights[r] : 1);
#pragma GCC unroll 4
        for (int p = 0; p < count; p++) {
            v16 x = v_load_first(panels + (size_t)p * step + r * width, live[p]);
            total[p] = v_fma(weight, x, total[p]);
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < count; p++)
        v_store_first(sums + (size_t)p * width, live[p], total[p]);
}

ALWAYS_INLINE void sum_pairs(float *sums, const uint32_t *panels, size_t width, size_t step,
                             size_t rows, const int count, const size_t *live,
                             const float *weights)
{
    v16 total[SUM_PANELS];
#pragma GCC unroll 4
    for (int p = 0; p < count; p++)
        total[p] = v_load_first(sums + (size_t)p * width, live[p]);
    for (size_t r = 0; r < rows; r++) {
        v16 first = v_set(weights ? weights[2 * r] : 1);
        v16 second = v_set(weights ? weights[2 * r + 1] : 1);
#pragma GCC unroll 4
        for (int p = 0; p < count; p++) {
            p16 pairs = p_load_first(panels + (size_t)p * step + r * width, live[p]);
            total[p] = v_fma(first, p_upper(pairs), total[p]);
            total[p] = v_fma(second, p_lower(pairs), total[p]);
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < count; p++)
        v_store_first(sums + (size_t)p * width, live[p], total[p]);
}

#define SUM_ALL(name, type, one)                                                                 \
    static void name(float *sums, const type *panels, size_t width, size_t step, size_t rows,    \
                     size_t cols, const float *weights)                                          \
    {                                                                                            \
        size_t live[SUM_PANELS] = { width, width, width, width }, c = 0;                         \
        for (; c + SUM_PANELS * width <= cols; c += SUM_PANELS * width) {                        \
            one(sums + c, panels, width, step, rows, SUM_PANELS, live, weights);                 \
            panels += SUM_PANELS * step;                                                         \
        }                                                                                        \
        for (; c < cols; c += width, panels += step) {                                           \
            live[0] = smaller(width, cols - c);                                                  \
            one(sums + c, panels, width, step, rows, 1, live, weights);                          \
        }                                                                                        \
    }

SUM_ALL(sum_panels_f32, float, sum_floats)
SUM_ALL(sum_panels_bf16, uint32_t, sum_pairs)

/* ---- rows of logits ----------------------------------------------------------------------- */

static void exp_row_f32(float *x, size_t cols, float sums[2])
{
    sums[0] = greatest(x, cols);
    v16 top = v_set(sums[0]), sum[4] = { v_set(0), v_set(0), v_set(0), v_set(0) };
    size_t c = 0;
    for (; c + 4 * LANES <= cols; c += 4 * LANES)
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++) {
            float *at = x + c + v * LANES;
            v16 e = exp_nonpositive(v_sub(v_load(at), top), v_set(0));
            v_store(at, e);
            sum[v] = v_add(sum[v], e);
        }
    for (size_t v = 0; c < cols; v++, c += LANES) {
        size_t live = smaller(cols - c, LANES);
        v16 e = exp_nonpositive(v_sub(v_load_first(x + c, live), top), v_set(0));
        v_store_first(x + c, live, e);
        sum[v] = v_add(sum[v], v_first_or(e, live, v_set(0)));
    }
    sums[1] = v_sum(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
}

/* ---- hidden rows -------------------------------------------------------------------------- */

static void hide_f32(float *out, const float *x, const uint8_t *keep, float scale, size_t cols)
{
    v16 factor = v_set(scale);
    size_t c = 0;
    for (; c + LANES <= cols; c += LANES) {
        v16 value = v_mul(v_max(v_set(0), v_load(x + c)), factor);
        v_store(out + c, v_keep_bits(value, kept(keep, c, LANES)));
    }
    if (c < cols) {
        v16 value = v_mul(v_max(v_set(0), v_load_first(x + c, cols - c)), factor);
        v_store_first(out + c, cols - c, v_keep_bits(value, kept(keep, c, cols - c)));
    }
}

/* ---- the table --------------------------------------------------------------------------- */

static void use_wide(struct train_kernels *k)
{
    k->product_f32 = product_f32;
    k->product_bf16 = product_bf16;
    k->pack_f32 = pack_f32;
    k->sum_panels_f32 = sum_panels_f32;
    k->sum_panels_bf16 = sum_panels_bf16;
    k->exp_row_f32 = exp_row_f32;
    k->hide_f32 = hide_f32;
    k->mask_f32 = mask_f32;
    k->mask_bf16 = mask_bf16;
    k->all_finite = all_finite;
    k->update_adam = update_adam;
    k->update_sgd = update_sgd;
    k->product.mr = TILE_ROWS;
    k->product.nr = 16 * TILE_VECTORS;
}
