/* AVX-512, and its BF16 and VNNI where the processor has them. */
#include "compute/cpu/peak_loops.h"

#include <immintrin.h>

#include "base/cpu.h"

#define KEEP(c) __asm__ volatile("" : "+v"(c));

static double fp32(void)
{
    __m512 a = _mm512_set1_ps(0.5f);
    KEEP(a)
#define STEP(c) c = _mm512_fmadd_ps(a, a, c);
    PEAK_LOOP(__m512, _mm512_setzero_ps(), STEP, KEEP)
#undef STEP
    return 2.0 * 16 * PEAK_CHAINS * PEAK_TURNS;
}

__attribute__((target("avx512bf16"))) static double bf16(void)
{
    __m512i ones = _mm512_set1_epi16(0x3f80);
    KEEP(ones)
    __m512bh a = (__m512bh)ones;
#define STEP(c) c = _mm512_dpbf16_ps(c, a, a);
    PEAK_LOOP(__m512, _mm512_setzero_ps(), STEP, KEEP)
#undef STEP
    return 2.0 * 32 * PEAK_CHAINS * PEAK_TURNS;
}

__attribute__((target("avx512vnni"))) static double int8(void)
{
    __m512i a = _mm512_set1_epi8(1);
    KEEP(a)
#define STEP(c) c = _mm512_dpbusd_epi32(c, a, a);
    PEAK_LOOP(__m512i, _mm512_setzero_si512(), STEP, KEEP)
#undef STEP
    return 2.0 * 64 * PEAK_CHAINS * PEAK_TURNS;
}

void peak_use_avx512(struct peak_loops *loops, unsigned cpu_flags)
{
    loops->fp32 = fp32;
    if (cpu_flags & CPU_AVX512_BF16)
        loops->bf16 = bf16;
    if (cpu_flags & CPU_AVX512_VNNI)
        loops->int8 = int8;
}
