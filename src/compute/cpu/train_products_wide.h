/* The loops of train_kernels.h for the vector levels, over vectors of sixteen floats. What the
 * including file defines: p16 (sixteen pairs of bfloat16 numbers) and its functions, TILE_ROWS,
 * TILE_VECTORS and TILE_CASES. Both levels give the same bits. */

#include <math.h>
#include <string.h>

#include "compute/cpu/vector_exp.h"

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
#define PACK_VECTOR v16
#define PACK_LOAD(x, stride, both, live) v_load_first(x, live)
#define PACK_STORE v_store_first
#define PACK_SUM(sum, x, stride, both, live, packed) v_add(sum, packed)
#include "compute/cpu/train_pack.h"

/* ---- rows of logits ----------------------------------------------------------------------- */

static void softmax_f32(float *x, size_t cols, float factor, float sums[2])
{
    v16 top = v_set(-INFINITY), sum = v_set(0);
    for (size_t c = 0; c < cols; c += LANES) {
        size_t live = smaller(cols - c, LANES);
        top = v_max(top, v_first_or(v_load_first(x + c, live), live, v_set(-INFINITY)));
    }
    sums[0] = v_largest(top);
    top = v_set(sums[0]);
    for (size_t c = 0; c < cols; c += LANES) {
        size_t live = smaller(cols - c, LANES);
        v16 e = exp_nonpositive(v_sub(v_load_first(x + c, live), top), v_set(0));
        v_store_first(x + c, live, e);
        sum = v_add(sum, v_first_or(e, live, v_set(0)));
    }
    sums[1] = v_sum(sum);
    v16 scale = v_set(factor / sums[1]);
    for (size_t c = 0; c < cols; c += LANES) {
        size_t live = smaller(cols - c, LANES);
        v_store_first(x + c, live, v_mul(v_load_first(x + c, live), scale));
    }
}
