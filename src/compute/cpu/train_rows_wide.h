/* The loops of train_rows.h for the vector levels, over vectors of sixteen floats. The including
 * file defines keep_vectors, the bits of eight blocks of dropout, several times. */
#include <math.h>
#include <string.h>

#include "compute/cpu/train_rows.h"

/* ---- dropout ---------------------------------------------------------------------------- */

static void dropout_bits(uint8_t *keep, const struct dropout *d, uint64_t block, size_t blocks)
{
    uint64_t bits[4];
    size_t b = 0;
    for (; b + 32 <= blocks; b += 32) {
        keep_vectors(bits, d, block + b, 4);
        memcpy(keep + b, bits, 32);
    }
    for (; b < blocks; b += 8) {
        keep_vectors(bits, d, block + b, 1);
        memcpy(keep + b, bits, smaller(8, blocks - b));
    }
}

/* The bits of numbers i to i + live, of which the first is the lowest; i is a multiple of 16. */
ALWAYS_INLINE unsigned bits_at(const uint8_t *keep, size_t i, size_t live)
{
    return keep[i / 8] | (live > 8 ? (unsigned)keep[i / 8 + 1] << 8 : 0);
}

static void dropout_scale(float *out, const float *x, const uint8_t *keep, float scale,
                          size_t count)
{
    for (size_t i = 0; i < count; i += LANES) {
        size_t live = smaller(count - i, LANES);
        v16 value = v_mul(v_load_first(x + i, live), v_set(scale));
        v_store_first(out + i, live, v_keep_bits(value, bits_at(keep, i, live)));
    }
}

static void dropout_add(float *out, const float *x, const float *y, const uint8_t *keep,
                        float scale, size_t count)
{
    for (size_t i = 0; i < count; i += LANES) {
        size_t live = smaller(count - i, LANES);
        v16 factor = v_keep_bits(v_set(scale), bits_at(keep, i, live));
        v_store_first(out + i, live,
                      v_fma(v_load_first(y + i, live), factor, v_load_first(x + i, live)));
    }
}

/* ---- norm ------------------------------------------------------------------------------- */

struct moments {
    v16 mean, inverse;
};

ALWAYS_INLINE struct moments moments_of(const float *x, size_t dim)
{
    v16 sum = v_set(0), square = v_set(0);
    for (size_t i = 0; i < dim; i += LANES)
        sum = v_add(sum, v_load_first(x + i, smaller(dim - i, LANES)));
    v16 mean = v_set(v_sum(sum) / (float)dim);
    for (size_t i = 0; i < dim; i += LANES) {
        size_t live = smaller(dim - i, LANES);
        v16 d = v_first_or(v_sub(v_load_first(x + i, live), mean), live, v_set(0));
        square = v_fma(d, d, square);
    }
    return (struct moments){ mean, v_set(1 / sqrtf(v_sum(square) / (float)dim + TRAIN_EPSILON)) };
}

static void norm_moments(float (*moments)[2], const float *x, size_t rows, size_t dim)
{
    for (size_t r = 0; r < rows; r++) {
        struct moments m = moments_of(x + r * dim, dim);
        v_store_first(&moments[r][0], 1, m.mean);
        v_store_first(&moments[r][1], 1, m.inverse);
    }
}

static void norm_backward(float *gradient, const float *x, const float *gain, size_t rows,
                          size_t dim)
{
    v16 share = v_set(1 / (float)dim);
    for (size_t r = 0; r < rows; r++) {
        const float *row = x + r * dim;
        float *at = gradient + r * dim;
        struct moments m = moments_of(row, dim);
        v16 sum = v_set(0), product = v_set(0);
        for (size_t i = 0; i < dim; i += LANES) {
            size_t live = smaller(dim - i, LANES);  /* g is 0 in dead lanes */
            v16 g = v_mul(v_load_first(at + i, live), v_load_first(gain + i, live));
            v16 n = v_mul(v_sub(v_load_first(row + i, live), m.mean), m.inverse);
            sum = v_add(sum, g);
            product = v_fma(g, n, product);
        }
        v16 mean = v_mul(v_set(v_sum(sum)), share), slope = v_mul(v_set(v_sum(product)), share);
        for (size_t i = 0; i < dim; i += LANES) {
            size_t live = smaller(dim - i, LANES);
            v16 g = v_mul(v_load_first(at + i, live), v_load_first(gain + i, live));
            v16 n = v_mul(v_sub(v_load_first(row + i, live), m.mean), m.inverse);
            v_store_first(at + i, live, v_mul(v_fnma(n, slope, v_sub(g, mean)), m.inverse));
        }
    }
}

ALWAYS_INLINE void gradient_columns(float *gain, float *offset, const float *gradient,
                                    const float *x, const float (*moments)[2], size_t stride,
                                    size_t rows, size_t live)
{
    v16 gains = v_load_first(gain, live), offsets = v_load_first(offset, live);
    for (size_t r = 0; r < rows; r++) {
        v16 g = v_load_first(gradient + r * stride, live);
        v16 n = v_mul(v_sub(v_load_first(x + r * stride, live), v_set(moments[r][0])),
                      v_set(moments[r][1]));
        gains = v_fma(g, n, gains);
        offsets = v_add(offsets, g);
    }
    v_store_first(gain, live, gains);
    v_store_first(offset, live, offsets);
}

static void norm_gradients(float *gain, float *offset, const float *gradient, const float *x,
                           const float (*moments)[2], size_t stride, size_t rows, size_t cols)
{
    for (size_t c = 0; c < cols; c += LANES)
        gradient_columns(gain + c, offset + c, gradient + c, x + c, moments, stride, rows,
                         smaller(cols - c, LANES));
}

#include "compute/cpu/train_attend_wide.h"

static void use(struct train_row_kernels *k)
{
#define X(name, result, params) k->name = name;
    TRAIN_ROW_KERNELS(X)
#undef X
}
