/* What loops over a row need, in vectors of vector_exp.h. */
#include <math.h>
#include <stdint.h>

/* Any number of the row where it has a NaN: whoever subtracts it gets the NaN. */
ALWAYS_INLINE float greatest(const float *x, size_t cols)
{
    v16 top[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
        top[v] = v_set(-INFINITY);
    size_t c = 0;
    for (; c + 4 * LANES <= cols; c += 4 * LANES)
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++)
            top[v] = v_max(top[v], v_load(x + c + v * LANES));
    for (; c < cols; c += LANES) {
        size_t live = smaller(cols - c, LANES);
        top[0] = v_max(top[0], v_first_or(v_load_first(x + c, live), live, v_set(-INFINITY)));
    }
    return v_largest(v_max(v_max(top[0], top[1]), v_max(top[2], top[3])));
}

/* The bits of columns c to c + live, at most sixteen; c is a multiple of 16. */
ALWAYS_INLINE unsigned kept(const uint8_t *keep, size_t c, size_t live)
{
    if (!keep)
        return 0xffff;
    return keep[c / 8] | (live > 8 ? (unsigned)keep[c / 8 + 1] << 8 : 0);
}
