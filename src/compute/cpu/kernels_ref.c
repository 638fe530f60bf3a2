/* The specification: plain C, no cleverness, and what a processor without AVX2 runs. Every other
 * version is tested against it. Scores call fmaf so that they have the bits of the vector levels;
 * the matrix product does not, because fmaf is slow where the processor has no such instruction. */
#include "compute/cpu/kernels.h"

#include <float.h>
#include <math.h>

#include "compute/cpu/grid.h"
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

static void attend_query(const struct head *head, const float *q, float *out, float *weights)
{
    float scale = 1 / sqrtf((float)head->dim), top = -INFINITY, total = 0;
    for (size_t j = 0; j < head->keys; j++) {
        float sum = 0;
        for (size_t d = 0; d < head->dim; d++)
            sum += q[d] * head->k[j * head->stride + d];
        weights[j] = sum * scale;
        top = fmaxf(top, weights[j]);
    }
    for (size_t j = 0; j < head->keys; j++)
        total += weights[j] = expf(weights[j] - top);
    memset(out, 0, head->dim * sizeof *out);
    for (size_t j = 0; j < head->keys; j++)
        for (size_t d = 0; d < head->dim; d++)
            out[d] += weights[j] * head->v[j * head->stride + d];
    for (size_t d = 0; d < head->dim; d++)
        out[d] /= total;
}

static void attend_f32(const struct head *head, struct attend_scratch *scratch)
{
    for (size_t i = 0; i < head->queries; i++)
        attend_query(head, head->q + i * head->stride, head->out + i * head->out_stride,
                     scratch->top);
}

static void attend_rough(const struct head *head, struct attend_scratch *scratch)
{
    attend_f32(head, scratch);
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

static void gelu_rough_f32(float *x, size_t stride, size_t rows, size_t cols)
{
    gelu_f32(x, stride, rows, cols);
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

static void blend_f32(float *x, float keep, const float *y, float take, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = keep * x[i] + take * y[i];
}

static void add_scaled_f32(float *x, const float *y, float factor, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = fmaf(factor, y[i], x[i]);
}

static float exp_sum_f32(float *x, float top, size_t count)
{
    float sums[LANES] = { 0 };
    for (size_t i = 0; i < count; i++) {
        float e = expf(x[i] - top);
        x[i] = e < FLT_MIN ? 0 : e;
        sums[i % LANES] += x[i];
    }
    return sum_tree(sums);
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

static void narrow_f16(uint16_t *out, const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = f32_to_f16(x[i]);
}

static void widen_bf16(float *out, const void *in, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = bf16_to_f32(load_u16(in, i));
}

/* ---- eight and sixteen bits -------------------------------------------------------------- */

static void quantize_u8(uint8_t *out, const float *x, const float *factor, size_t count,
                        size_t padded, float *scale, float *zero_point)
{
    float low = 0, high = 0, poison = 0;
    for (size_t i = 0; i < count; i++) {
        float y = factor ? x[i] * factor[i] : x[i];
        low = y < low ? y : low;
        high = y > high ? y : high;
        poison += y * 0;
    }
    struct grid grid = grid_of(low, high, poison);
    memset(out, 0, padded);
    for (size_t i = 0; i < count && grid.inverse > 0; i++) {
        float y = factor ? x[i] * factor[i] : x[i],
              level = rintf(y * grid.inverse) + grid.zero_point;
        out[i] = (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
    }
    *scale = grid.scale;
    *zero_point = grid.zero_point;
}

static void gemm_u8s8(float *out, size_t out_stride, const struct u8_rows *x,
                      const struct s8_panel *panel, size_t depth, size_t rows, size_t cols,
                      bool accumulate)
{
    for (size_t r = 0; r < rows; r++) {
        int32_t sums[NR] = { 0 };
        for (size_t k = 0; k < depth; k += 4)
            for (size_t c = 0; c < NR; c++)
                for (size_t i = 0; i < 4; i++)
                    sums[c] += x->values[r * x->stride + k + i] * panel->values[k * NR + c * 4 + i];
        for (size_t c = 0; c < cols; c++) {
            float *to = out + r * out_stride + c,
                  centred = fmaf(-x->zero_point[r], panel->sum[c], (float)sums[c]);
            *to = fmaf(centred, x->scale[r] * panel->scale[c], accumulate ? *to : panel->bias[c]);
        }
    }
}

static void narrow_bf16(uint16_t *out, const float *x, size_t count, size_t padded)
{
    for (size_t i = 0; i < padded; i++)
        out[i] = i < count ? f32_to_bf16(x[i]) : 0;
}

/* Denormals count as 0 on the way in, and results that are denormal become 0. */
static float flush(float x)
{
    return fabsf(x) < FLT_MIN ? copysignf(0, x) : x;
}

static void gemm_bf16(float *out, size_t out_stride, const uint16_t *x, size_t x_stride,
                      const uint16_t *panel, size_t depth, size_t rows, size_t cols,
                      const float *bias)
{
    for (size_t r = 0; r < rows; r++) {
        float sums[NR];
        for (size_t c = 0; c < NR; c++)
            sums[c] = bias ? bias[c] : 0;
        for (size_t k = 0; k < depth; k += 2)
            for (size_t i = 2; i-- > 0; ) {
                float a = flush(bf16_to_f32(x[r * x_stride + k + i]));
                for (size_t c = 0; c < NR; c++) {
                    float b = flush(bf16_to_f32(panel[k * NR + c * 2 + i]));
                    sums[c] = flush(fmaf(a, b, sums[c]));
                }
            }
        for (size_t c = 0; c < cols; c++)
            out[r * out_stride + c] = sums[c];
    }
}

/* Sixteen partial sums and their tree, as the vector levels have them. */
static float tree_sum(const float sums[16])
{
    float t[16];
    memcpy(t, sums, sizeof t);
    for (size_t width = 8; width; width /= 2)
        for (size_t i = 0; i < width; i++)
            t[i] += t[i + width];
    return t[0];
}

static void edge_bits(uint64_t *bits, struct edge_sums *sums, const uint8_t *row, float row_scale,
                      const uint8_t *centre, float scale, size_t dim)
{
    float squares[16] = { 0 }, absolutes[16] = { 0 }, dots[16] = { 0 }, signs[16] = { 0 };
    memset(bits, 0, dim / 8);
    for (size_t k = 0; k < dim; k++) {
        float y = row_scale * (float)(row[k] - 128), c = scale * (float)(centre[k] - 128);
        float d = y - c;
        size_t lane = k % 16;
        squares[lane] = fmaf(d, d, squares[lane]);
        absolutes[lane] += fabsf(d);
        dots[lane] = fmaf(c, d, dots[lane]);
        signs[lane] += d > 0 ? c : -c;
        bits[k / 64] |= (uint64_t)(d > 0) << k % 64;
    }
    *sums = (struct edge_sums){ tree_sum(squares), tree_sum(absolutes), tree_sum(dots),
                                tree_sum(signs) };
}

/* ---- screening -------------------------------------------------------------------------- */

/* As they come: a table of four for each field. */
static void sketch_tables(uint8_t *tables, const uint8_t *fields, size_t planes)
{
    memcpy(tables, fields, 16 * planes);
}

static float sketch_score(const uint8_t *block, size_t r, const struct sketch_form *form,
                          const struct sketch_terms *terms)
{
    size_t rows = form->rows, half = rows / 2, at = r < half ? 2 * r : 2 * (r - half) + 1;
    const uint8_t *heads = block + form->planes * rows;
    const float *factor = (const float *)(heads + form->heads * rows * 4);
    int32_t sum = 0, head = 0;
    for (size_t p = 0; p < form->planes; p++)
        for (size_t j = 0; j < 4; j++)
            sum += terms->tables[16 * p + 4 * j + (block[p * rows + at] >> 2 * j & 3)];
    for (size_t h = 0; h < form->heads; h++)
        for (size_t i = 0; i < 4; i++)
            head += terms->head[4 * h + i] * heads[(h * rows + r) * 4 + i];
    float inner = fmaf(terms->step, (float)sum, fmaf(terms->head_step, (float)head, terms->offset));
    if (form->biased)
        return fmaf(inner, factor[r], factor[rows + r]) + terms->shift;
    return fmaf(inner, factor[r], terms->shift);
}

static void sketch_scores(float *scores, const uint8_t *blocks, size_t count,
                          const struct sketch_form *form, const struct sketch_terms *terms)
{
    for (size_t b = 0; b < count; b++)
        for (size_t r = 0; r < form->rows; r++)
            scores[b * form->rows + r] =
                sketch_score(blocks + b * sketch_form_bytes(form), r, form, terms);
}

static void dot_u8s8(int32_t *sums, const uint8_t *rows, size_t stride, const uint32_t *ids,
                     size_t count, const int8_t *query, size_t dim)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *row = rows + (ids ? ids[i] : i) * stride;
        int32_t sum = 0;
        for (size_t k = 0; k < dim; k++)
            sum += row[k] * query[k];
        sums[i] = sum;
    }
}

static size_t pick_f32(uint32_t *at, const float *values, float threshold, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        if (!(values[i] < threshold))
            at[found++] = (uint32_t)i;
    return found;
}

static size_t pick_dots(uint32_t *at, float *values, const int32_t *sums,
                        const struct row_terms *terms, const struct dot_query *query,
                        float threshold, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        float v = fmaf(terms->scale[i] * query->step, (float)(sums[i] - query->offset),
                       terms->bias ? terms->bias[i] : 0);
        float most = fmaf(terms->norm[i], query->slack_norm,
                          fmaf(terms->radius[i], query->slack_radius, v));
        if (most < threshold)
            continue;
        at[found] = (uint32_t)i;
        values[found++] = v;
    }
    return found;
}

static void pick_tile(uint64_t *masks, const float *values, size_t stride, size_t rows, size_t cols,
                      const struct row_terms *terms, const float *slack_radius,
                      const float *slack_norm, const float *threshold)
{
    for (size_t r = 0; r < rows; r++) {
        masks[r] = 0;
        for (size_t c = 0; c < cols; c++) {
            float v = values[r * stride + c] + (terms->bias ? terms->bias[r] : 0);
            float most = fmaf(terms->norm[r], slack_norm[c],
                              fmaf(terms->radius[r], slack_radius[c], v));
            masks[r] |= (uint64_t)!(most < threshold[c]) << c;
        }
    }
}

static void dot_tile_u8s8(int32_t *out, size_t out_stride, const int8_t *queries,
                          size_t query_stride, size_t query_count, const uint8_t *rows,
                          size_t row_stride, const uint32_t *ids, size_t row_count, size_t dim)
{
    for (size_t q = 0; q < query_count; q++)
        dot_u8s8(out + q * out_stride, rows, row_stride, ids, row_count,
                 queries + q * query_stride, dim);
}

static uint32_t edge_scores(float *out, const struct edge_codes *edges,
                            const struct edge_query *query, size_t dim, float bound)
{
    uint32_t sums[EDGES] = { 0 }, below = 0;
    for (size_t g = 0; g < dim / 4; g++)
        for (size_t e = 0; e < EDGES; e++)
            sums[e] += query->table[g * 16 + (edges->codes[g * 16 + e % 16] >> e / 16 * 4 & 15)];
    for (size_t e = 0; e < EDGES; e++) {
        float start = fmaf(edges->offset_scale, (float)edges->offset[e], query->start);
        float slope = edges->slope_scale * (float)edges->slope[e];
        out[e] = fmaf(slope, fmaf(query->step, (float)sums[e], query->low), start);
        below |= (uint32_t)(out[e] < bound) << e;
    }
    return below;
}

void kernels_use_ref(struct kernels *k)
{
#define X(name, result, params) k->name = name;
    KERNELS_WIDE(X) KERNELS_NARROW(X) KERNELS_SCAN(X) KERNELS_GRAPH(X)
#undef X
    kernels_use_pq_ref(k);
    kernels_use_beta_ref(k);
    k->gemm = (struct gemm_blocks){ .mr = 8, .nr = NR, .rows = 128, .depth = 512, .granule = 1 };
    k->u8s8 = (struct gemm_blocks){ .mr = 8, .nr = NR, .rows = 96, .granule = 4 };
    k->bf16 = (struct gemm_blocks){ .mr = 8, .nr = NR, .rows = 96, .granule = 2 };
}
