/* The loops of train_rows.h in plain C. */
#include "compute/cpu/train_rows.h"

#include <math.h>
#include <string.h>

#include "base/philox.h"

static bool kept(const uint8_t *keep, size_t i)
{
    return keep[i / 8] >> i % 8 & 1;
}

static void dropout_bits(uint8_t *keep, const struct dropout *d, uint64_t block, size_t blocks)
{
    uint32_t key[2] = { (uint32_t)d->keys[0], (uint32_t)d->keys[1] };
    for (size_t b = 0; b < blocks; b++) {
        uint32_t words[4];
        uint64_t number = block + b;
        philox_4x32((uint32_t[]){ (uint32_t)number, (uint32_t)(number >> 32), d->site, d->step },
                    key, words);
        keep[b] = 0;
        for (size_t i = 0; i < 8; i++) {
            uint32_t word = words[i / 2] >> 16 * (i % 2) & 0xffff;
            keep[b] = (uint8_t)(keep[b] | (word >= d->threshold) << i);
        }
    }
}

static void dropout_scale(float *out, const float *x, const uint8_t *keep, float scale,
                          size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = kept(keep, i) ? x[i] * scale : 0;
}

static void dropout_add(float *out, const float *x, const float *y, const uint8_t *keep,
                        float scale, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = x[i] + (kept(keep, i) ? y[i] * scale : 0);
}

/* Sums of rows are in double here: the levels differ from this one, not from the contract. */
static void row_moments(const float *x, size_t dim, float moments[2])
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)x[i];
    double mean = sum / (double)dim;
    for (size_t i = 0; i < dim; i++)
        square += ((double)x[i] - mean) * ((double)x[i] - mean);
    moments[0] = (float)mean;
    moments[1] = (float)(1 / sqrt(square / (double)dim + (double)TRAIN_EPSILON));
}

static void norm_moments(float (*moments)[2], const float *x, size_t rows, size_t dim)
{
    for (size_t r = 0; r < rows; r++)
        row_moments(x + r * dim, dim, moments[r]);
}

static void norm_backward(float *gradient, const float *x, const float *gain, size_t rows,
                          size_t dim)
{
    for (size_t r = 0; r < rows; r++) {
        const float *row = x + r * dim;
        float *at = gradient + r * dim, m[2];
        row_moments(row, dim, m);
        double sum = 0, product = 0;
        for (size_t i = 0; i < dim; i++) {
            sum += (double)(at[i] * gain[i]);
            product += (double)(at[i] * gain[i]) * (double)((row[i] - m[0]) * m[1]);
        }
        float mean = (float)(sum / (double)dim), slope = (float)(product / (double)dim);
        for (size_t i = 0; i < dim; i++)
            at[i] = m[1] * (at[i] * gain[i] - mean - (row[i] - m[0]) * m[1] * slope);
    }
}

static void norm_gradients(float *gain, float *offset, const float *gradient, const float *x,
                           const float (*moments)[2], size_t stride, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            float g = gradient[r * stride + c];
            gain[c] += g * ((x[r * stride + c] - moments[r][0]) * moments[r][1]);
            offset[c] += g;
        }
}

/* ---- attention -------------------------------------------------------------------------- */

static float number_at(const void *x, size_t i, bool half)
{
    float value;
    if (!half)
        return ((const float *)x)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static size_t seen(const struct attend_head *h, size_t i)
{
    return h->causal && i + 1 < h->keys ? i + 1 : h->keys;
}

/* scores[key] = q k / sqrt(dim); returns the largest of them */
static float scores_of(float *scores, const struct attend_head *h, size_t query, size_t keys)
{
    float top = -INFINITY;
    for (size_t j = 0; j < keys; j++) {
        float sum = 0;
        for (size_t d = 0; d < h->dim; d++)
            sum += number_at(h->q, query * h->q_stride + d, h->half) *
                   number_at(h->k, j * h->kv_stride + d, h->half);
        scores[j] = sum / sqrtf((float)h->dim);
        top = scores[j] > top ? scores[j] : top;
    }
    return top;
}

/* The bits of one query lie behind its scores in the scratch. */
static uint8_t *query_bits(const struct attend_head *h, size_t query)
{
    uint8_t *keep = (uint8_t *)((float *)h->scratch + h->keys);
    size_t blocks = dropout_blocks(h->keys);
    if (h->dropout->threshold)
        dropout_bits(keep, h->dropout, h->block + query * blocks, blocks);
    else
        memset(keep, 0xff, blocks);
    return keep;
}

static void attend_forward(const struct attend_head *h, float *out, size_t out_stride)
{
    float *scores = h->scratch, factor = h->dropout->threshold ? h->dropout->scale : 1;
    for (size_t i = 0; i < h->queries; i++) {
        size_t keys = seen(h, i);
        float top = scores_of(scores, h, i, keys);
        double total = 0;
        const uint8_t *keep = query_bits(h, i);
        for (size_t j = 0; j < keys; j++)
            total += (double)(scores[j] = expf(scores[j] - top));
        h->top[i] = top;
        h->inverse[i] = (float)(1 / total);
        for (size_t d = 0; d < h->dim; d++) {
            float sum = 0;
            for (size_t j = 0; j < keys; j++)
                if (kept(keep, j))
                    sum += scores[j] * number_at(h->v, j * h->kv_stride + d, h->half);
            out[i * out_stride + d] = sum * (h->inverse[i] * factor);
        }
    }
}

/* What one pair of query and key adds to the gradients. */
static void pair_back(const struct attend_head *h, const struct attend_gradients *g, size_t i,
                      size_t j, float weight, float score_gradient)
{
    float scale = 1 / sqrtf((float)h->dim);
    for (size_t d = 0; d < h->dim; d++) {
        g->v[j * g->kv_stride + d] += weight * g->out_gradient[i * g->stride + d];
        g->q[i * g->q_stride + d] +=
            score_gradient * scale * number_at(h->k, j * h->kv_stride + d, h->half);
        g->k[j * g->kv_stride + d] +=
            score_gradient * scale * number_at(h->q, i * h->q_stride + d, h->half);
    }
}

static void attend_backward(const struct attend_head *h, const struct attend_gradients *g)
{
    float *scores = h->scratch, factor = h->dropout->threshold ? h->dropout->scale : 1;
    for (size_t j = 0; j < h->keys; j++) {
        memset(g->k + j * g->kv_stride, 0, h->dim * sizeof *g->k);
        memset(g->v + j * g->kv_stride, 0, h->dim * sizeof *g->v);
    }
    for (size_t i = 0; i < h->queries; i++) {
        size_t keys = seen(h, i);
        const uint8_t *keep = query_bits(h, i);
        const float *out_gradient = g->out_gradient + i * g->stride;
        float delta = 0;
        for (size_t d = 0; d < h->dim; d++) {
            g->q[i * g->q_stride + d] = 0;
            delta += out_gradient[d] * number_at(g->out, i * g->out_stride + d, h->half);
        }
        scores_of(scores, h, i, keys);
        for (size_t j = 0; j < keys; j++) {
            float weight = expf(scores[j] - h->top[i]) * h->inverse[i], slope = 0;
            for (size_t d = 0; d < h->dim; d++)
                slope += out_gradient[d] * number_at(h->v, j * h->kv_stride + d, h->half);
            float dropped = kept(keep, j) ? factor : 0;
            pair_back(h, g, i, j, weight * dropped, weight * (slope * dropped - delta));
        }
    }
}

void train_rows_use_ref(struct train_row_kernels *k)
{
#define X(name, result, params) k->name = name;
    TRAIN_ROW_KERNELS(X)
#undef X
}
