/* The specification: plain C, no cleverness, and what a processor without AVX2 runs. Every other
 * version is tested against it. Scores call fmaf so that they have the bits of the vector levels;
 * the matrix product does not, because fmaf is slow where the processor has no such instruction. */
#include "compute/cpu/kernels.h"

#include <math.h>

#include "compute/cpu/half.h"

enum { LANES = 16, NR = 16 };

static void gemm_f32(float *out, size_t out_stride, const float *x, size_t x_stride,
                     const float *panel, size_t depth, size_t rows, size_t cols, const float *bias,
                     bool accumulate)
{
    for (size_t r = 0; r < rows; r++) {
        float sums[NR];     /* loops of constant length, so that they become registers */
        const float *start = accumulate ? out + r * out_stride : bias;
        for (size_t c = 0; c < NR; c++)
            sums[c] = start && c < cols ? start[c] : 0;
        for (size_t k = 0; k < depth; k++)
            for (size_t c = 0; c < NR; c++)
                sums[c] += x[r * x_stride + k] * panel[k * NR + c];
        for (size_t c = 0; c < NR; c++)
            if (c < cols)
                out[r * out_stride + c] = sums[c];
    }
}

static float sum_tree(const float sums[LANES])
{
    float tree[LANES];
    memcpy(tree, sums, sizeof tree);
    for (size_t width = LANES / 2; width; width /= 2)
        for (size_t j = 0; j < width; j++)
            tree[j] += tree[j + width];
    return tree[0];
}

static float score(const float *a, const float *b, size_t dim, bool l2)
{
    float sums[LANES] = { 0 };
    for (size_t k = 0; k < dim; k += LANES)
        for (size_t j = 0; j < LANES; j++) {
            float left = k + j < dim ? a[k + j] : 0, right = k + j < dim ? b[k + j] : 0;
            float difference = left - right;
            sums[j] = l2 ? fmaf(difference, difference, sums[j]) : fmaf(left, right, sums[j]);
        }
    return l2 ? -sum_tree(sums) : sum_tree(sums);
}

static void score_dot_f32(float *scores, const float *queries, size_t query_count,
                          const float *const *rows, size_t row_count, size_t dim)
{
    for (size_t q = 0; q < query_count; q++)
        for (size_t r = 0; r < row_count; r++)
            scores[q * row_count + r] = score(queries + q * dim, rows[r], dim, false);
}

static void score_l2_f32(float *scores, const float *queries, size_t query_count,
                         const float *const *rows, size_t row_count, size_t dim)
{
    for (size_t q = 0; q < query_count; q++)
        for (size_t r = 0; r < row_count; r++)
            scores[q * row_count + r] = score(queries + q * dim, rows[r], dim, true);
}

static float softmax_f32(float *x, size_t count, float scale, float *max, float *sum)
{
    float top = *max, total = 0;
    for (size_t i = 0; i < count; i++) {
        x[i] *= scale;
        if (x[i] > top)
            top = x[i];
    }
    for (size_t i = 0; i < count; i++) {
        x[i] = expf(x[i] - top);
        total += x[i];
    }
    float factor = expf(*max - top);
    *sum = *sum * factor + total;
    *max = top;
    return factor;
}

static void layernorm_f32(float *out, const float *x, const float *y, const float *gamma,
                          const float *beta, float epsilon, size_t count)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++) {
        out[i] = y ? x[i] + y[i] : x[i];
        sum += (double)out[i];
    }
    double mean = sum / (double)count;
    for (size_t i = 0; i < count; i++)
        squares += ((double)out[i] - mean) * ((double)out[i] - mean);
    double inverse = 1 / sqrt(squares / (double)count + (double)epsilon);
    for (size_t i = 0; i < count; i++)
        out[i] = (float)(((double)out[i] - mean) * inverse * (double)gamma[i] + (double)beta[i]);
}

static float gelu(float x)
{
    return x == -INFINITY ? 0 : (float)(0.5 * (double)x * erfc(-(double)x * M_SQRT1_2));
}

static void gelu_f32(float *x, size_t stride, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            x[r * stride + c] = gelu(x[r * stride + c]);
}

static void relu_f32(float *x, size_t stride, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            x[r * stride + c] = x[r * stride + c] < 0 ? 0 : x[r * stride + c];
}

static void add_f32(float *x, const float *y, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] += y[i];
}

static void max_f32(float *x, const float *y, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = x[i] > y[i] || isnan(x[i]) ? x[i] : y[i];
}

static void scale_f32(float *x, float factor, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] *= factor;
}

static uint16_t load_u16(const void *in, size_t i)
{
    uint16_t value;
    memcpy(&value, (const char *)in + 2 * i, sizeof value);
    return value;
}

static void widen_f16(float *out, const void *in, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = f16_to_f32(load_u16(in, i));
}

static void widen_bf16(float *out, const void *in, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = bf16_to_f32(load_u16(in, i));
}

void kernels_use_ref(struct kernels *k)
{
#define X(name, result, params) k->name = name;
    KERNELS(X)
#undef X
    k->gemm = (struct gemm_blocks){ .mr = 8, .nr = NR, .rows = 128, .depth = 512 };
}
