/* AVX2 and FMA. Eight-bit products take three instructions, as VPDPBUSD is not there. */
#include "compute/cpu/peak_loops.h"

#include <immintrin.h>

#define KEEP(c) __asm__ volatile("" : "+x"(c));

static double fp32(void)
{
    __m256 a = _mm256_set1_ps(0.5f);
    KEEP(a)
#define STEP(c) c = _mm256_fmadd_ps(a, a, c);
    PEAK_LOOP(__m256, _mm256_setzero_ps(), STEP, KEEP)
#undef STEP
    return 2.0 * 8 * PEAK_CHAINS * PEAK_TURNS;
}

/* KEEP(a) in every step: else the product, which is always the same, is computed once. */
static double int8(void)
{
    __m256i a = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
    KEEP(ones)
#define STEP(c)                                                                                    \
    KEEP(a)                                                                                        \
    c = _mm256_add_epi32(c, _mm256_madd_epi16(_mm256_maddubs_epi16(a, a), ones));
    PEAK_LOOP(__m256i, _mm256_setzero_si256(), STEP, KEEP)
#undef STEP
    return 2.0 * 32 * PEAK_CHAINS * PEAK_TURNS;
}

void peak_use_avx2(struct peak_loops *loops)
{
    loops->fp32 = fp32;
    loops->int8 = int8;
}
