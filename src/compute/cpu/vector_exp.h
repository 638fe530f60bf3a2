/* The exponential over vectors of vector_avx512.h or vector_avx2.h, one of which is included
 * before, and what every loop over such vectors needs. */
#include <stddef.h>

enum { LANES = 16 };

#define ALWAYS_INLINE static inline __attribute__((always_inline))

static inline size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* e^(x + rest) for x <= 0 and a rest that is tiny beside it; 0 where x is below -87.3, where 2^n
 * leaves the normal numbers. x = n ln 2 + r: adding 1.5 * 2^23 rounds to n and leaves it in the low
 * bits, from where it goes into the exponent of e^r. The polynomial is a minimax fit of
 * (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2 with relative error 0.05 u in e^r. */
ALWAYS_INLINE v16 exp_nonpositive(v16 x, v16 rest)
{
    v16 shifted = v_fma(x, v_set(0x1.715476p+0f), v_set(0x1.8p23f)),
        n = v_sub(shifted, v_set(0x1.8p23f));
    v16 r = v_fnma(n, v_set(0x1.62e400p-1f), x);    /* ln 2 in two parts, n times the first exact */
    r = v_add(v_fnma(n, v_set(0x1.7f7d1cp-20f), r), rest);
    v16 p = v_set(0x1.6a234ep-10f);
    p = v_fma(p, r, v_set(0x1.123a6cp-7f));
    p = v_fma(p, r, v_set(0x1.5558f4p-5f));
    p = v_fma(p, r, v_set(0x1.555490p-3f));
    p = v_fma(p, r, v_set(0x1.fffffcp-2f));
    p = v_add(v_fma(v_mul(r, r), p, r), v_set(1));
    return v_zero_below(v_add_exponent(p, shifted), x, -0x1.5d58ap+6f);
}
