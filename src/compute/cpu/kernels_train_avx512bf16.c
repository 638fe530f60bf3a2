/* The loops of training in AVX-512 BF16: two products of bfloat16 numbers into one float32 lane,
 * the upper one first. */
#include "compute/cpu/train_kernels.h"

#include <string.h>

#include "compute/cpu/vector_avx512.h"
#include "compute/cpu/vector_exp.h"

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

/* Upper halves from `first`, lower halves from `second`: sixteen pairs. */
static inline __m512i join(__m256i first, __m256i second)
{
    return _mm512_or_si512(_mm512_slli_epi32(_mm512_cvtepu16_epi32(first), 16),
                           _mm512_cvtepu16_epi32(second));
}

static void zip_f32(uint32_t *out, size_t width, size_t step, const float *first,
                    const float *second, size_t cols)
{
    for (size_t panel = 0; panel < cols; panel += width, out += step)
        for (size_t c = 0; c < smaller(width, cols - panel); c += 16) {
            __mmask16 live = first_lanes(smaller(smaller(width, cols - panel) - c, 16));
            __m512 a = _mm512_setzero_ps(), b = _mm512_setzero_ps();
            if (first)
                a = _mm512_maskz_loadu_ps(live, first + panel + c);
            if (second)
                b = _mm512_maskz_loadu_ps(live, second + panel + c);
            __m512i pairs = join((__m256i)_mm512_cvtneps_pbh(a), (__m256i)_mm512_cvtneps_pbh(b));
            _mm512_mask_storeu_epi32(out + c, live, pairs);
        }
}

static void zip_bf16(uint32_t *out, size_t width, size_t step, const uint16_t *first,
                     const uint16_t *second, size_t cols)
{
    for (size_t panel = 0; panel < cols; panel += width, out += step)
        for (size_t c = 0; c < smaller(width, cols - panel); c += 16) {
            __mmask16 live = first_lanes(smaller(smaller(width, cols - panel) - c, 16));
            __m256i a = _mm256_setzero_si256(), b = _mm256_setzero_si256();
            if (first)
                a = _mm256_maskz_loadu_epi16(live, first + panel + c);
            if (second)
                b = _mm256_maskz_loadu_epi16(live, second + panel + c);
            _mm512_mask_storeu_epi32(out + c, live, join(a, b));
        }
}

void train_kernels_use_avx512bf16(struct train_kernels *k)
{
    k->product_bf16 = product_bf16;
    k->zip_f32 = zip_f32;
    k->zip_bf16 = zip_bf16;
}
