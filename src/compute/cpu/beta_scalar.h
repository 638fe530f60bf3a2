/* What beta_attempt.h is written over, one float at a time. Including files define ALWAYS_INLINE:
 * the same source is compiled for cards. Without contraction of a * b + c the bits are those of the
 * vector levels. */
#include <math.h>
#include <string.h>

#include "base/philox.h"
#include "compute/beta_key.h"

typedef float v16;

enum { LANES = 1 };

ALWAYS_INLINE v16 v_set(float x) { return x; }
ALWAYS_INLINE v16 v_add(v16 a, v16 b) { return a + b; }
ALWAYS_INLINE v16 v_sub(v16 a, v16 b) { return a - b; }
ALWAYS_INLINE v16 v_mul(v16 a, v16 b) { return a * b; }
ALWAYS_INLINE v16 v_div(v16 a, v16 b) { return a / b; }
ALWAYS_INLINE v16 v_fma(v16 a, v16 b, v16 c) { return fmaf(a, b, c); }
ALWAYS_INLINE v16 v_fms(v16 a, v16 b, v16 c) { return fmaf(a, b, -c); }
ALWAYS_INLINE v16 v_max(v16 a, v16 b) { return a > b ? a : b; }
ALWAYS_INLINE v16 v_min(v16 a, v16 b) { return a < b ? a : b; }
ALWAYS_INLINE v16 v_abs(v16 a) { return fabsf(a); }
ALWAYS_INLINE v16 v_sqrt(v16 a) { return sqrtf(a); }
ALWAYS_INLINE unsigned v_positive(v16 a) { return a > 0; }
ALWAYS_INLINE v16 v_where_below(v16 a, v16 b, v16 yes, v16 no) { return a < b ? yes : no; }

ALWAYS_INLINE uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

ALWAYS_INLINE float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

ALWAYS_INLINE v16 v_add_exponent(v16 a, v16 power)
{
    return float_of(bits_of(a) + (bits_of(power) << 23));
}

/* x = m 2^e with m from sqrt(1/2) to sqrt(2) */
ALWAYS_INLINE v16 v_split(v16 x, v16 *e)
{
    int32_t n = (int32_t)(bits_of(x) - BETA_ROOT_HALF) >> 23;
    *e = (float)n;
    return float_of(bits_of(x) - ((uint32_t)n << 23));
}

/* The first three words of the block, in the middles of 2^23 parts of 0 to 1 */
ALWAYS_INLINE void v_uniform(v16 uniform[3], const uint32_t *arms, const struct beta_key *key,
                             uint32_t attempt)
{
    uint32_t counter[4] = { arms[0], key->round[0], key->round[1], beta_word(key, attempt) };
    uint32_t words[4];
    philox_4x32(counter, key->seed, words);
    for (int i = 0; i < 3; i++)
        uniform[i] = fmaf((float)(int32_t)(words[i] >> 9), 0x1p-23f, 0x1p-24f);
}
