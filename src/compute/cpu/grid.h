/* The 256 levels on which a row of activations is put (kernels.h, quantize_u8). */
#pragma once

#include <float.h>
#include <math.h>

struct grid {
    float scale, zero_point, inverse;   /* inverse 0: every byte is 0 */
};

/* From the row's least and greatest number, 0 among them; `poison` is NaN where the row has a NaN
 * or an infinity, else 0. */
static inline struct grid grid_of(float low, float high, float poison)
{
    float range = high - low + poison;
    if (!(range <= FLT_MAX))
        return (struct grid){ .scale = NAN };
    if (range < 255 * FLT_MIN)
        return (struct grid){ 0 };
    float inverse = 255 / range;
    return (struct grid){ .scale = range / 255, .zero_point = rintf(-low * inverse),
                          .inverse = inverse };
}
