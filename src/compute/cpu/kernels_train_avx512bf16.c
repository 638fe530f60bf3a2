/* The loops of training in AVX-512 BF16: two products of bfloat16 numbers into one float32 lane,
 * the upper one first. */
#include "compute/cpu/train_kernels.h"

#include <string.h>

#include "compute/cpu/vector_avx512.h"
#include "compute/cpu/vector_exp.h"
#include "compute/cpu/train_row_parts.h"

/* 12 x 2 sums, two registers of the right, one of the left: 27 of 32. */
enum { TILE_ROWS = 12, TILE_VECTORS = 2 };
#define TILE_CASES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)

static inline __m512bh load_pairs(const uint32_t *p)
{
    return (__m512bh)_mm512_loadu_si512(p);
}

static inline __m512bh load_first_pairs(const uint32_t *p, size_t n)
{
    return (__m512bh)_mm512_maskz_loadu_epi32(first_lanes(n), p);
}

static inline __m512bh set_pair(const uint32_t *p)
{
    int32_t pair;       /* the left may lie as bfloat16 numbers do */
    memcpy(&pair, p, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}

#define TILE_NAME product_bf16
#define TILE_TYPE uint32_t
#define TILE_VECTOR __m512bh
#define TILE_LOAD load_pairs
#define TILE_LOAD_FIRST load_first_pairs
#define TILE_SET set_pair
#define TILE_STEP(sum, a, b) _mm512_dpbf16_ps(sum, a, b)
#include "compute/cpu/train_product_tile.h"

/* ---- packing ------------------------------------------------------------------------------ */

/* Lanes of the upper 256 bits become upper halves of pairs, those of the lower 256 lower halves. */
static inline __m512i zip(__m512i halves)
{
    static const uint16_t order[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                       21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                       11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_loadu_si512(order), halves);
}

ALWAYS_INLINE __m512i load_rows_f32(const float *x, size_t stride, bool both, size_t live)
{
    v16 second = both ? v_load_first(x + stride, live) : v_set(0);
    return zip((__m512i)_mm512_cvtne2ps_pbh(v_load_first(x, live), second));
}

ALWAYS_INLINE __m512i load_rows_bf16(const uint16_t *x, size_t stride, bool both, size_t live)
{
    __m256i second = both ? _mm256_maskz_loadu_epi16(first_lanes(live), x + stride)
                          : _mm256_setzero_si256();
    __m256i first = _mm256_maskz_loadu_epi16(first_lanes(live), x);
    return zip(_mm512_inserti64x4(_mm512_castsi256_si512(second), first, 1));
}

ALWAYS_INLINE void store_pairs(uint32_t *out, size_t live, __m512i pairs)
{
    _mm512_mask_storeu_epi32(out, first_lanes(live), pairs);
}

#define PACK_NAME pack_pairs_f32
#define PACK_FROM float
#define PACK_TO uint32_t
#define PACK_ROWS 2
#define PACK_LOAD load_rows_f32
#define PACK_STORE store_pairs
#include "compute/cpu/train_pack.h"

#define PACK_NAME pack_pairs_bf16
#define PACK_FROM uint16_t
#define PACK_TO uint32_t
#define PACK_ROWS 2
#define PACK_LOAD load_rows_bf16
#define PACK_STORE store_pairs
#include "compute/cpu/train_pack.h"

/* ---- rows of logits ----------------------------------------------------------------------- */

static void exp_row_bf16(uint16_t *out, const float *x, size_t cols, float sums[2])
{
    sums[0] = greatest(x, cols);
    v16 top = v_set(sums[0]), sum[4] = { v_set(0), v_set(0), v_set(0), v_set(0) };
    size_t c = 0;
    for (; c + 4 * LANES <= cols; c += 4 * LANES) {
        v16 e[4];
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++) {
            e[v] = exp_nonpositive(v_sub(v_load(x + c + v * LANES), top), v_set(0));
            sum[v] = v_add(sum[v], e[v]);
        }
        _mm512_storeu_si512(out + c, (__m512i)_mm512_cvtne2ps_pbh(e[1], e[0]));
        _mm512_storeu_si512(out + c + 2 * LANES, (__m512i)_mm512_cvtne2ps_pbh(e[3], e[2]));
    }
    for (size_t v = 0; c < cols; v++, c += LANES) {
        size_t live = smaller(cols - c, LANES);
        v16 e = exp_nonpositive(v_sub(v_load_first(x + c, live), top), v_set(0));
        _mm256_mask_storeu_epi16(out + c, first_lanes(live), (__m256i)_mm512_cvtneps_pbh(e));
        sum[v] = v_add(sum[v], v_first_or(e, live, v_set(0)));
    }
    sums[1] = v_sum(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
}

static void hide_bf16(uint16_t *out, const float *x, const uint8_t *keep, float scale,
                      size_t cols)
{
    v16 factor = v_set(scale);
    for (size_t c = 0; c < cols; c += LANES) {
        size_t live = smaller(cols - c, LANES);
        v16 value = v_mul(v_max(v_set(0), v_load_first(x + c, live)), factor);
        value = v_keep_bits(value, kept(keep, c, live));
        _mm256_mask_storeu_epi16(out + c, first_lanes(live), (__m256i)_mm512_cvtneps_pbh(value));
    }
}

void train_kernels_use_avx512bf16(struct train_kernels *k)
{
    k->product_bf16 = product_bf16;
    k->hide_bf16 = hide_bf16;
    k->exp_row_bf16 = exp_row_bf16;
    k->pack_pairs_f32 = pack_pairs_f32;
    k->pack_pairs_bf16 = pack_pairs_bf16;
}
