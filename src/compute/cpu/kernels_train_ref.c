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
                     size_t rows, size_t cols, float *sums)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            out[c / width * step + r * width + c % width] = x[r * stride + c];
            if (sums)
                sums[c] += x[r * stride + c];
        }
}

static void pack_pairs_f32(uint32_t *out, size_t width, size_t step, const float *x, size_t stride,
                           size_t rows, size_t cols, float *sums)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            uint32_t *pair = &out[c / width * step + r / 2 * width + c % width];
            uint32_t bits = f32_to_bf16(x[r * stride + c]);
            *pair = r % 2 ? *pair | bits : bits << 16;
            if (sums)
                sums[c] += x[r * stride + c];
        }
}

static void pack_pairs_bf16(uint32_t *out, size_t width, size_t step, const uint16_t *x,
                            size_t stride, size_t rows, size_t cols, float *sums)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            uint32_t *pair = &out[c / width * step + r / 2 * width + c % width];
            uint32_t bits = x[r * stride + c];
            *pair = r % 2 ? *pair | bits : bits << 16;
            if (sums)
                sums[c] += lower(bits);
        }
}

static void softmax_f32(float *x, size_t cols, float factor, float sums[2])
{
    float top = -INFINITY, partial[16] = { 0 };
    for (size_t c = 0; c < cols; c++)
        top = x[c] > top ? x[c] : top;
    for (size_t c = 0; c < cols; c++) {
        x[c] = expf(x[c] - top);
        partial[c % 16] += x[c];
    }
    for (size_t width = 8; width; width /= 2)
        for (size_t i = 0; i < width; i++)
            partial[i] += partial[i + width];
    sums[0] = top;
    sums[1] = partial[0];
    for (size_t c = 0; c < cols; c++)
        x[c] *= factor / partial[0];
}

void train_kernels_use_ref(struct train_kernels *k)
{
    k->product_f32 = product_f32;
    k->product_bf16 = product_bf16;
    k->pack_f32 = pack_f32;
    k->pack_pairs_f32 = pack_pairs_f32;
    k->pack_pairs_bf16 = pack_pairs_bf16;
    k->softmax_f32 = softmax_f32;
    k->mask_f32 = mask_f32;
    k->mask_bf16 = mask_bf16;
    k->all_finite = all_finite;
    k->update_adam = update_adam;
    k->update_sgd = update_sgd;
    k->product.mr = MR;
    k->product.nr = NR;
}
