/* The baseline has no fused multiply-add: half of the chains multiply, half of them add, which
 * keeps the units of both busy. */
#include "compute/cpu/peak_loops.h"

typedef float v4 __attribute__((vector_size(16)));

#define KEEP(c) __asm__ volatile("" : "+x"(c));
#define STEP(c) c += one;
#define STEP_MUL(c) c *= one;

static double fp32(void)
{
    v4 one = {1, 1, 1, 1}, zero = {0, 0, 0, 0};
    KEEP(one)
    v4 a0 = zero, a1 = zero, a2 = zero, a3 = zero, a4 = zero, a5 = zero, a6 = zero;
    v4 m0 = one, m1 = one, m2 = one, m3 = one, m4 = one, m5 = one, m6 = one;
#define ADDERS(X) X(a0) X(a1) X(a2) X(a3) X(a4) X(a5) X(a6)
#define MULTIPLIERS(X) X(m0) X(m1) X(m2) X(m3) X(m4) X(m5) X(m6)
    for (int turn = 0; turn < PEAK_TURNS; turn++) {
        ADDERS(STEP)
        MULTIPLIERS(STEP_MUL)
        ADDERS(KEEP)
        MULTIPLIERS(KEEP)
    }
    return 4.0 * 14 * PEAK_TURNS;
}

void peak_use_ref(struct peak_loops *loops)
{
    *loops = (struct peak_loops){.fp32 = fp32};
}
