/* The loops of training in plain C: what the others are held to, and what runs where nothing better
 * does. */
#include "compute/cpu/train_kernels.h"

#include <string.h>

#include "compute/cpu/half.h"
#include "compute/cpu/train_flat.h"

enum { MR = 8, NR = 16 };

static float upper(uint32_t pair)
{
    return bf16_to_f32((uint16_t)(pair >> 16));
}

static float lower(uint32_t pair)
{
    return bf16_to_f32((uint16_t)pair);
}

static void start_sums(float *sums, const float *out, const float *bias, size_t cols,
                       bool accumulate)
{
    const float *start = accumulate ? out : bias;
    memset(sums, 0, NR * sizeof *sums);
    if (start)
        memcpy(sums, start, cols * sizeof *sums);
}

static void product_f32(float *out, size_t out_stride, const float *left, size_t left_row,
                        size_t left_k, const float *right, size_t right_k, size_t depth,
                        size_t rows, size_t cols, const float *bias, bool accumulate)
{
    for (size_t r = 0; r < rows; r++) {
        float sums[NR];
        start_sums(sums, out + r * out_stride, bias, cols, accumulate);
        for (size_t k = 0; k < depth; k++) {
            float a = left[r * left_row + k * left_k];
            for (size_t c = 0; c < cols; c++)
                sums[c] += a * right[k * right_k + c];
        }
        memcpy(out + r * out_stride, sums, cols * sizeof *sums);
    }
}

static void product_bf16(float *out, size_t out_stride, const uint32_t *left, size_t left_row,
                         size_t left_k, const uint32_t *right, size_t right_k, size_t depth,
                         size_t rows, size_t cols, const float *bias, bool accumulate)
{
    for (size_t r = 0; r < rows; r++) {
        float sums[NR];
        start_sums(sums, out + r * out_stride, bias, cols, accumulate);
        for (size_t k = 0; k < depth; k++) {
            uint32_t a;     /* the left may lie as bfloat16 numbers do */
            memcpy(&a, left + r * left_row + k * left_k, sizeof a);
            for (size_t c = 0; c < cols; c++) {
                uint32_t b = right[k * right_k + c];
                sums[c] = sums[c] + upper(a) * upper(b) + lower(a) * lower(b);
            }
        }
        memcpy(out + r * out_stride, sums, cols * sizeof *sums);
    }
}

static void pack_f32(float *out, size_t width, size_t step, const float *x, size_t stride,
                     size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            out[c / width * step + r * width + c % width] = x[r * stride + c];
}

static void pack_pairs_f32(uint32_t *out, size_t width, size_t step, const float *x, size_t stride,
                           size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            uint32_t *pair = &out[c / width * step + r / 2 * width + c % width];
            uint32_t bits = f32_to_bf16(x[r * stride + c]);
            *pair = r % 2 ? *pair | bits : bits << 16;
        }
}

static void pack_pairs_bf16(uint32_t *out, size_t width, size_t step, const uint16_t *x,
                            size_t stride, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            uint32_t *pair = &out[c / width * step + r / 2 * width + c % width];
            uint32_t bits = x[r * stride + c];
            *pair = r % 2 ? *pair | bits : bits << 16;
        }
}

static void sum_panels_f32(float *sums, const float *panels, size_t width, size_t step,
                           size_t rows, size_t cols, const float *weights)
{
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < rows; r++)
            sums[c] += (weights ? weights[r] : 1) *
                       panels[c / width * step + r * width + c % width];
}

static void sum_panels_bf16(float *sums, const uint32_t *panels, size_t width, size_t step,
                            size_t rows, size_t cols, const float *weights)
{
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < rows; r++) {
            uint32_t pair = panels[c / width * step + r * width + c % width];
            sums[c] += (weights ? weights[2 * r] : 1) * upper(pair);
            sums[c] += (weights ? weights[2 * r + 1] : 1) * lower(pair);
        }
}

static float greatest(const float *x, size_t cols)
{
    float top = -INFINITY;
    for (size_t c = 0; c < cols; c++)
        top = x[c] > top ? x[c] : top;
    return top;
}

static float sum_of(float partial[64])
{
    for (size_t width = 32; width; width /= 2)
        for (size_t i = 0; i < width; i++)
            partial[i] += partial[i + width];
    return partial[0];
}

static void exp_row_f32(float *x, size_t cols, float sums[2])
{
    float partial[64] = { 0 };
    sums[0] = greatest(x, cols);
    for (size_t c = 0; c < cols; c++) {
        x[c] = expf(x[c] - sums[0]);
        partial[c % 64] += x[c];
    }
    sums[1] = sum_of(partial);
}

static void exp_row_bf16(uint16_t *out, const float *x, size_t cols, float sums[2])
{
    float partial[64] = { 0 };
    sums[0] = greatest(x, cols);
    for (size_t c = 0; c < cols; c++) {
        float e = expf(x[c] - sums[0]);
        out[c] = f32_to_bf16(e);
        partial[c % 64] += e;
    }
    sums[1] = sum_of(partial);
}

static float hidden(const float *x, const uint8_t *keep, float scale, size_t c)
{
    if (keep && !(keep[c / 8] >> c % 8 & 1))
        return 0;
    return (x[c] < 0 ? 0 : x[c]) * scale;
}

static void hide_f32(float *out, const float *x, const uint8_t *keep, float scale, size_t cols)
{
    for (size_t c = 0; c < cols; c++)
        out[c] = hidden(x, keep, scale, c);
}

static void hide_bf16(uint16_t *out, const float *x, const uint8_t *keep, float scale,
                      size_t cols)
{
    for (size_t c = 0; c < cols; c++)
        out[c] = f32_to_bf16(hidden(x, keep, scale, c));
}

void train_kernels_use_ref(struct train_kernels *k)
{
    k->product_f32 = product_f32;
    k->product_bf16 = product_bf16;
    k->pack_f32 = pack_f32;
    k->pack_pairs_f32 = pack_pairs_f32;
    k->pack_pairs_bf16 = pack_pairs_bf16;
    k->sum_panels_f32 = sum_panels_f32;
    k->sum_panels_bf16 = sum_panels_bf16;
    k->exp_row_f32 = exp_row_f32;
    k->exp_row_bf16 = exp_row_bf16;
    k->hide_f32 = hide_f32;
    k->hide_bf16 = hide_bf16;
    k->mask_f32 = mask_f32;
    k->mask_bf16 = mask_bf16;
    k->all_finite = all_finite;
    k->update_adam = update_adam;
    k->update_sgd = update_sgd;
    k->product.mr = MR;
    k->product.nr = NR;
}
