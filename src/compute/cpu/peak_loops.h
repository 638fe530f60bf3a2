/* Loops that compute in registers only, one for each precision. Every instruction set's file
 * exports exactly one function, which overwrites the loops that it has a faster one for.
 *
 * Independent accumulators hide the latency of two units. They have names because an array would
 * be spilled to memory; the empty asm keeps the compiler from folding the loop. */
#pragma once

#include <stddef.h>

enum { PEAK_TURNS = 4000 };

/* Runs about 10 to 100 microseconds and returns the operations it did; NULL: no instructions. */
struct peak_loops {
    double (*fp32)(void), (*bf16)(void), (*int8)(void);
};

/* `cpu_flags`: those of base/cpu.h that may be used. */
void peak_use_ref(struct peak_loops *loops);
void peak_use_avx2(struct peak_loops *loops);
void peak_use_avx512(struct peak_loops *loops, unsigned cpu_flags);
void peak_use_amx(struct peak_loops *loops, unsigned cpu_flags);

enum { PEAK_CHAINS = 12 };
#define PEAK_TWELVE(X) X(c0) X(c1) X(c2) X(c3) X(c4) X(c5) X(c6) X(c7) X(c8) X(c9) X(c10) X(c11)

/* STEP(c) is what is measured, KEEP(c) makes the compiler believe that c changed. */
#define PEAK_LOOP(vector, zero, STEP, KEEP)                                                        \
    vector c0 = zero, c1 = zero, c2 = zero, c3 = zero, c4 = zero, c5 = zero, c6 = zero, c7 = zero; \
    vector c8 = zero, c9 = zero, c10 = zero, c11 = zero;                                           \
    for (int turn = 0; turn < PEAK_TURNS; turn++) {                                                \
        PEAK_TWELVE(STEP)                                                                          \
        PEAK_TWELVE(KEEP)                                                                          \
    }
