/* The inner loops in eight and sixteen bits against their contract. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "compute/cpu/half.h"
#include "kernelcheck.h"

static const size_t counts[] = { 1, 3, 4, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 384, 1000 };

/* ---- gelu_rough_f32 ---------------------------------------------------------------------- */

void check_gelu_rough_f32(const struct kernels *k)
{
    enum { BLOCK = 4096 };
    float *x = guarded(BLOCK), *was = guarded(BLOCK);
    double worst = 0;
    for (uint32_t bits = 0; bits < 0xffffffffu - BLOCK * 1009u; ) {
        at(bits, 0, 0);
        for (size_t i = 0; i < BLOCK; i++, bits += 1009)
            memcpy(&was[i], &bits, sizeof bits);
        memcpy(x, was, BLOCK * sizeof *x);
        k->gelu_rough_f32(x, BLOCK, 1, BLOCK);
        bool odd_right = true;
        for (size_t i = 0; i < BLOCK; i++) {
            double exact = 0.5 * (double)was[i] * erfc(-(double)was[i] * M_SQRT1_2);
            if (isnan(was[i]) || was[i] == INFINITY)
                odd_right &= isnan(was[i]) ? isnan(x[i]) : x[i] == INFINITY;
            else if (isinf(was[i]))
                odd_right &= fabsf(x[i]) <= 0x1p-14f;
            else
                worst = fmax(worst, fabs((double)x[i] - exact) - UNIT * fabs(exact));
        }
        expect(odd_right, "NaN or infinity");
    }
    expect(worst <= 0x1p-14, "off by more than 2^-14");
    release_all();
    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        size_t cols = counts[c], stride = cols + 3, total = 2 * stride + cols;
        at(3, cols, 0);
        float *a = random_floats(total, WIDE), *b = copy_of(a, total);
        k->gelu_rough_f32(a, stride, 3, cols);
        for (size_t i = 0; i < total; i++)
            if (i % stride < cols)
                k->gelu_rough_f32(&b[i], 1, 1, 1);
        expect(same_bits(a, b, total) && canary_intact(a),
               "one number alone has other bits, or a gap was written");
        release_all();
    }
}

/* ---- quantize_u8 ------------------------------------------------------------------------- */

/* Every byte against the row, in double: off by half a level at most, beside what float32 drops. */
static bool quantized_right(const uint8_t *out, const float *x, const float *factor, size_t count,
                            float scale, float zero_point)
{
    bool right = zero_point >= 0 && zero_point <= 255 && rintf(zero_point) == zero_point;
    for (size_t i = 0; i < count; i++) {
        double y = (double)x[i] * (factor ? (double)factor[i] : 1);
        double back = ((double)out[i] - (double)zero_point) * (double)scale;
        right &= fabs(back - y) <= 1.001 * (double)scale + FLT_MIN * 255;
        if (out[i] > 0 && out[i] < 255)     /* not cut */
            right &= fabs(back - y) <= 0.501 * (double)scale + FLT_MIN * 255;
    }
    return right;
}

static void quantize_one(const struct kernels *k, const float *x, const float *factor,
                         size_t count, bool finite)
{
    size_t padded = (count + 63) / 64 * 64;
    uint8_t *out = guarded_bytes(padded), *same = guarded_bytes(padded);
    float scale = -1, zero_point = -1, scale2 = -2, zero_point2 = -2;
    at(count, padded, finite);
    k->quantize_u8(out, x, factor, count, padded, &scale, &zero_point);
    reference.quantize_u8(same, x, factor, count, padded, &scale2, &zero_point2);
    expect(!memcmp(out, same, padded) && same_values(&scale, &scale2, 1) &&
           zero_point == zero_point2, "other bits than the reference");
    expect(canary_intact(out), "wrote in front of the output");
    bool zeros = true;
    for (size_t i = count; i < padded; i++)
        zeros &= out[i] == 0;
    expect(zeros, "padding is not zero");
    if (finite)
        expect(quantized_right(out, x, factor, count, scale, zero_point), "wrong value");
    else
        expect(isnan(scale) && zero_point == 0 && out[0] == 0, "NaN, infinity or overflow lost");
}

static bool all_finite(const float *x, size_t count)
{
    float low = 0, high = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(x[i]))
            return false;
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    return high - low <= FLT_MAX;
}

void check_quantize_u8(const struct kernels *k)
{
    for (size_t c = 0; c < COUNT_OF(counts); c++)
        for (int kind = 0; kind < VALUES; kind++) {
            size_t count = counts[c];
            float *x = random_floats(count, (enum values)kind);
            quantize_one(k, x, NULL, count, true);
            quantize_one(k, x, random_floats(count, PLAIN), count, true);
            for (size_t i = 0; i < count; i++)
                x[i] = fabsf(x[i]) + 0.25f;
            quantize_one(k, x, NULL, count, true);
            for (size_t i = 0; i < count; i++)
                x[i] = -x[i];
            quantize_one(k, x, NULL, count, true);
            x = odd_floats(count);
            quantize_one(k, x, NULL, count, all_finite(x, count));
            memset(x, 0, count * sizeof *x);
            quantize_one(k, x, NULL, count, true);
            x[count / 2] = NAN;
            quantize_one(k, x, NULL, count, false);
            release_all();
        }
    float x[4] = { -1, 0, 0.5f, 1.55f }, scale, zero_point;
    uint8_t out[4];
    k->quantize_u8(out, x, NULL, 4, 4, &scale, &zero_point);
    expect(fabsf(scale - 0.01f) < 1e-8f && zero_point == 100 && out[0] == 0 && out[1] == 100 &&
           out[2] == 150 && out[3] == 255, "-1 .. 1.55");
}

/* ---- gemm_u8s8 --------------------------------------------------------------------------- */

/* What integers meet each other: 255 x 127, 255 x -128, 0 and random. */
enum bytes { RANDOM, LARGEST, LOWEST, ALTERNATING, BYTES };

static uint8_t activation_byte(enum bytes kind)
{
    return kind == RANDOM ? (uint8_t)rng_below(&rng, 256) : 255;
}

static int8_t weight_byte(enum bytes kind, size_t k)
{
    switch (kind) {
    case LARGEST:
        return 127;
    case LOWEST:
        return -128;
    case ALTERNATING:
        return k / 2 % 2 ? 127 : -128;
    default:
        return (int8_t)((int)rng_below(&rng, 256) - 128);
    }
}

struct byte_case {
    struct u8_rows x;
    struct s8_panel panel;
    size_t depth, rows, cols, nr;
};

static struct byte_case byte_case(const struct kernels *k, size_t rows, size_t cols, size_t depth,
                                  enum bytes kind)
{
    size_t nr = k->u8s8.nr, stride = depth + 5;
    uint8_t *values = guarded_bytes((rows - 1) * stride + depth);
    int8_t *weights = guarded_bytes(depth * nr);
    float *sum = guarded(nr), *zero_point = guarded(rows);
    for (size_t i = 0; i < (rows - 1) * stride + depth; i++)
        values[i] = activation_byte(kind);
    for (size_t c = 0; c < nr; c++) {
        int32_t total = 0;
        for (size_t d = 0; d < depth; d++)
            total += weights[d / 4 * nr * 4 + c * 4 + d % 4] = weight_byte(kind, d);
        sum[c] = (float)total;
    }
    for (size_t r = 0; r < rows; r++)
        zero_point[r] = (float)rng_below(&rng, 256);
    return (struct byte_case){
        .x = { values, stride, random_floats(rows, PLAIN), zero_point },
        .panel = { weights, random_floats(nr, PLAIN), sum, random_floats(nr, PLAIN) },
        .depth = depth, .rows = rows, .cols = cols, .nr = nr,
    };
}

/* The very bits: the sum in 64 bits, then the contract's two fused operations. */
static bool bytes_right(const struct byte_case *b, const float *before, const float *after,
                        size_t stride, bool accumulate)
{
    for (size_t r = 0; r < b->rows; r++)
        for (size_t c = 0; c < stride && r * stride + c < (b->rows - 1) * stride + b->cols; c++) {
            float want = before[r * stride + c], got = after[r * stride + c];
            if (c < b->cols) {
                int64_t sum = 0;
                for (size_t d = 0; d < b->depth; d++)
                    sum += (int64_t)b->x.values[r * b->x.stride + d] *
                           b->panel.values[d / 4 * b->nr * 4 + c * 4 + d % 4];
                float centred = fmaf(-b->x.zero_point[r], b->panel.sum[c], (float)sum);
                want = fmaf(centred, b->x.scale[r] * b->panel.scale[c],
                            accumulate ? want : b->panel.bias[c]);
            }
            if (!same_bits(&want, &got, 1))
                return false;
        }
    return true;
}

static void bytes_one(const struct kernels *k, size_t rows, size_t cols, size_t depth,
                      enum bytes kind, bool accumulate)
{
    struct byte_case b = byte_case(k, rows, cols, depth, kind);
    size_t stride = cols + 3, outs = (rows - 1) * stride + cols;
    float *before = random_floats(outs, PLAIN), *out = copy_of(before, outs),
          *again = copy_of(before, outs);
    at(rows, cols, depth);
    k->gemm_u8s8(out, stride, &b.x, &b.panel, depth, rows, cols, accumulate);
    expect(bytes_right(&b, before, out, stride, accumulate),
           "wrong bits, or wrote between the rows");
    expect(canary_intact(out), "wrote in front of the output");
    for (size_t r = 0; r < rows; r++) {
        struct u8_rows one = { b.x.values + r * b.x.stride, b.x.stride, b.x.scale + r,
                               b.x.zero_point + r };
        k->gemm_u8s8(again + r * stride, stride, &one, &b.panel, depth, 1, cols, accumulate);
    }
    expect(same_bits(out, again, outs), "a row alone has other bits than in a tile");
    release_all();
}

void check_gemm_u8s8(const struct kernels *k)
{
    static const size_t depths[] = { 1, 2, 3, 16, 17, 96, 384 };
    size_t granule = k->u8s8.granule, turn = 0;
    for (size_t rows = 1; rows <= k->u8s8.mr; rows += rows < 14 ? 1 : 5)
        for (size_t cols = 1; cols <= k->u8s8.nr; cols += cols % 16 == 15 || cols % 16 == 0 ? 1 : 7)
            for (size_t d = 0; d < COUNT_OF(depths); d++, turn++)
                bytes_one(k, rows, cols, (depths[d] + granule - 1) / granule * granule,
                          (enum bytes)(turn % BYTES), turn / BYTES % 2);
    for (int kind = 0; kind < BYTES; kind++)    /* the stated limit of the sums */
        bytes_one(k, 2, 3, NARROW_DEPTH_MAX, (enum bytes)kind, false);
}

/* ---- bfloat16 ---------------------------------------------------------------------------- */

void check_narrow_bf16(const struct kernels *k)
{
    enum { BLOCK = 4096 };
    float *x = guarded(BLOCK);
    uint16_t *out = guarded_bytes(2 * BLOCK), *same = guarded_bytes(2 * BLOCK);
    for (uint32_t bits = 0; bits < 0xffffffffu - BLOCK * 509u; ) {
        at(bits, 0, 0);
        for (size_t i = 0; i < BLOCK; i++, bits += 509)
            memcpy(&x[i], &bits, sizeof bits);
        k->narrow_bf16(out, x, BLOCK, BLOCK);
        reference.narrow_bf16(same, x, BLOCK, BLOCK);
        bool right = true;
        for (size_t i = 0; i < BLOCK; i++) {
            float back = bf16_to_f32(out[i]);
            if (isnan(x[i]))
                right &= isnan(back);
            else if (fabsf(x[i]) < FLT_MIN)
                right &= back == 0 && !signbit(back) == !signbit(x[i]);
            else if (isfinite(back))
                right &= fabs((double)back - (double)x[i]) <= 0x1p-8 * fabs((double)x[i]);
            else
                right &= fabsf(x[i]) >= 0x1.ffp127f && !signbit(back) == !signbit(x[i]);
        }
        expect(right, "wrong value");
        expect(!memcmp(out, same, 2 * BLOCK), "other bits than the reference");
    }
    release_all();
    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        size_t count = counts[c], padded = (count + 31) / 32 * 32;
        at(count, padded, 0);
        x = odd_floats(count);
        out = guarded_bytes(2 * padded), same = guarded_bytes(2 * padded);
        k->narrow_bf16(out, x, count, padded);
        reference.narrow_bf16(same, x, count, padded);
        expect(!memcmp(out, same, 2 * padded) && canary_intact(out), "a short row");
        release_all();
    }
}

/* ---- half -------------------------------------------------------------------------------- */

/* Between neighbours of the result no half lies nearer: checked in double. */
static bool nearest_half(float x, uint16_t half)
{
    float back = f16_to_f32(half);
    if (isnan(x))
        return isnan(back);
    if (isinf(back))
        return fabsf(x) >= 65520 && !signbit(back) == !signbit(x);
    double step = fabsf(back) < 0x1p-14f ? 0x1p-24 : ldexp(1, ilogb((double)back) - 10);
    return fabs((double)back - (double)x) <= step / 2 && !signbit(back) == !signbit(x);
}

void check_narrow_f16(const struct kernels *k)
{
    enum { BLOCK = 4096 };
    float *x = guarded(BLOCK);
    uint16_t *out = guarded_bytes(2 * BLOCK), *same = guarded_bytes(2 * BLOCK);
    for (uint32_t bits = 0; bits < 0xffffffffu - BLOCK * 509u; ) {
        at(bits, 0, 0);
        for (size_t i = 0; i < BLOCK; i++, bits += 509)
            memcpy(&x[i], &bits, sizeof bits);
        k->narrow_f16(out, x, BLOCK);
        reference.narrow_f16(same, x, BLOCK);
        bool right = true;
        for (size_t i = 0; i < BLOCK; i++)
            right &= nearest_half(x[i], out[i]);
        expect(right, "wrong value");
        expect(!memcmp(out, same, 2 * BLOCK), "other bits than the reference");
    }
    for (uint32_t first = 0; first < 0x10000; first += BLOCK) {     /* ties, and all halves */
        bool kept = true;
        for (uint32_t i = 0; i < BLOCK; i++)
            x[i] = f16_to_f32((uint16_t)(first + i));
        k->narrow_f16(out, x, BLOCK);
        for (uint32_t i = 0; i < BLOCK; i++)
            kept &= isnan(x[i]) || out[i] == first + i;
        expect(kept, "a half does not come back");
        for (uint32_t i = 0; i < BLOCK; i++)
            x[i] = 0.5f * x[i] + 0.5f * f16_to_f32((uint16_t)(first + i + 1));
        k->narrow_f16(out, x, BLOCK);
        reference.narrow_f16(same, x, BLOCK);
        expect(!memcmp(out, same, 2 * BLOCK), "ties: other bits than the reference");
        for (uint32_t i = 0; i < BLOCK; i++)
            kept &= !isfinite(x[i]) || out[i] % 2 == 0;
        expect(kept, "a tie is not rounded to even");
    }
    release_all();
    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        size_t count = counts[c];
        at(count, 0, 0);
        x = odd_floats(count);
        out = guarded_bytes(2 * count), same = guarded_bytes(2 * count);
        k->narrow_f16(out, x, count);
        reference.narrow_f16(same, x, count);
        expect(!memcmp(out, same, 2 * count) && canary_intact(out), "a short row");
        release_all();
    }
}

static uint16_t *random_halves(size_t count, enum values kind)
{
    float *x = random_floats(count, kind);
    uint16_t *halves = guarded_bytes(2 * count);
    for (size_t i = 0; i < count; i++)
        halves[i] = f32_to_bf16(x[i]);
    return halves;
}

struct half_case {
    uint16_t *x, *panel;
    float *bias;
    size_t x_stride, out_stride, depth, rows, cols, nr;
};

static bool halves_right(const struct half_case *h, const float *before, const float *after)
{
    for (size_t r = 0; r < h->rows; r++)
        for (size_t c = 0; c < h->out_stride &&
                           r * h->out_stride + c < (h->rows - 1) * h->out_stride + h->cols; c++) {
            float was = before[r * h->out_stride + c], is = after[r * h->out_stride + c];
            if (c >= h->cols) {
                if (!same_bits(&was, &is, 1))
                    return false;
                continue;
            }
            double exact = h->bias ? (double)h->bias[c] : 0, magnitude = fabs(exact);
            for (size_t d = 0; d < h->depth; d++) {
                double term = (double)bf16_to_f32(h->x[r * h->x_stride + d]) *
                              (double)bf16_to_f32(h->panel[d / 2 * h->nr * 2 + c * 2 + d % 2]);
                exact += term;
                magnitude += fabs(term);
            }
            if (!within(is, exact, ((double)h->depth + 3) * UNIT * magnitude +
                                       (double)(h->depth + 1) * (double)FLT_MIN))
                return false;
        }
    return true;
}

static void halves_one(const struct kernels *k, size_t rows, size_t cols, size_t depth,
                       enum values kind)
{
    struct half_case h = { .x_stride = depth + 3, .out_stride = cols + 5, .depth = depth,
                           .rows = rows, .cols = cols, .nr = k->bf16.nr };
    size_t outs = (rows - 1) * h.out_stride + cols;
    at(rows, cols, depth);
    h.x = random_halves((rows - 1) * h.x_stride + depth, kind);
    h.panel = random_halves(depth * h.nr, kind == CANCELLING ? PLAIN : kind);
    h.bias = rows % 2 ? random_floats(h.nr, kind) : NULL;
    float *before = random_floats(outs, kind), *out = copy_of(before, outs),
          *again = copy_of(before, outs);
    k->gemm_bf16(out, h.out_stride, h.x, h.x_stride, h.panel, depth, rows, cols, h.bias);
    expect(halves_right(&h, before, out), "wrong value, or wrote between the rows");
    expect(canary_intact(out), "wrote in front of the output");
    for (size_t r = 0; r < rows; r++)
        k->gemm_bf16(again + r * h.out_stride, h.out_stride, h.x + r * h.x_stride, h.x_stride,
                     h.panel, depth, 1, cols, h.bias);
    expect(same_bits(out, again, outs), "a row alone has other bits than in a tile");
    release_all();
}

void check_gemm_bf16(const struct kernels *k)
{
    static const size_t depths[] = { 1, 2, 3, 16, 17, 96, 192 };
    size_t granule = k->bf16.granule, turn = 0;
    for (size_t rows = 1; rows <= k->bf16.mr; rows += rows < 14 ? 1 : 5)
        for (size_t cols = 1; cols <= k->bf16.nr; cols += cols % 16 == 15 || cols % 16 == 0 ? 1 : 7)
            for (size_t d = 0; d < COUNT_OF(depths); d++)
                halves_one(k, rows, cols, (2 * depths[d] + granule - 1) / granule * granule,
                           (enum values)(turn++ % VALUES));
}
