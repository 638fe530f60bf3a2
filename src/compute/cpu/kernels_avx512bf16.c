/* AVX-512 BF16: two products of bfloat16 numbers into one float32 lane. */
#include "compute/cpu/kernels.h"

#include <immintrin.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* 12 x 2 accumulators, two registers of the panel, one broadcast: 27 of 32. */
enum { ROWS = 12, VECTORS = 2, COLS = 16 * VECTORS };

static inline __mmask16 first_lanes(size_t live)
{
    return live >= 16 ? 0xffff : (__mmask16)((1u << live) - 1);
}

static inline __m512bh load_pairs(const uint16_t *p)
{
    return (__m512bh)_mm512_loadu_si512(p);
}

static inline __m512bh set_pair(const uint16_t *p)
{
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}

/* `rows` is a constant where this is inlined, so the accumulators are registers. */
ALWAYS_INLINE void tile(float *out, size_t out_stride, const uint16_t *x, size_t x_stride,
                        const uint16_t *panel, size_t depth, const int rows, size_t cols,
                        const float *bias)
{
    __m512 sums[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        sums[r][0] = bias ? _mm512_loadu_ps(bias) : _mm512_setzero_ps();
        sums[r][1] = bias ? _mm512_loadu_ps(bias + 16) : _mm512_setzero_ps();
    }
    for (size_t k = 0; k < depth; k += 2) {
        const uint16_t *at = panel + k * COLS;
        __m512bh b0 = load_pairs(at), b1 = load_pairs(at + 32);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            __m512bh a = set_pair(x + (size_t)r * x_stride + k);
            sums[r][0] = _mm512_dpbf16_ps(sums[r][0], a, b0);
            sums[r][1] = _mm512_dpbf16_ps(sums[r][1], a, b1);
        }
    }
    __mmask16 low = first_lanes(cols), high = first_lanes(cols > 16 ? cols - 16 : 0);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        float *to = out + (size_t)r * out_stride;
        _mm512_mask_storeu_ps(to, low, sums[r][0]);
        _mm512_mask_storeu_ps(to + 16, high, sums[r][1]);
    }
}

static void gemm_bf16(float *out, size_t out_stride, const uint16_t *x, size_t x_stride,
                      const uint16_t *panel, size_t depth, size_t rows, size_t cols,
                      const float *bias)
{
    switch (rows) {
#define CASE(n)                                                                                 \
    case n:                                                                                     \
        tile(out, out_stride, x, x_stride, panel, depth, n, cols, bias);                        \
        break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#undef CASE
    }
}

static void narrow_bf16(uint16_t *out, const float *x, size_t count, size_t padded)
{
    for (size_t i = 0; i < padded; i += 16) {
        __mmask16 live = i < count ? first_lanes(count - i) : 0, written = first_lanes(padded - i);
        __m256i halves = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(live, x + i));
        _mm256_mask_storeu_epi16(out + i, written, halves);
    }
}

void kernels_use_avx512bf16(struct kernels *k)
{
    k->gemm_bf16 = gemm_bf16;
    k->narrow_bf16 = narrow_bf16;
    k->bf16 = (struct gemm_blocks){ .mr = ROWS, .nr = COLS, .rows = 96, .granule = 2 };
}
