/* The greatest number of a row, for the loops over vectors of vector_exp.h. */
#include <math.h>

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
