/* Scaled dot-product attention inside each sequence, exact, one head at a time.
 *
 * Both products run on the matrix micro-kernel: the keys of a block are transposed into panels (the
 * depth is the head's dimension), the values are panels as they are (the depth is the keys). Keys
 * are taken in blocks of ATTENTION_KEYS with a running maximum and sum, as in Milakov and
 * Gimelshein, "Online normalizer calculation for softmax" (2018); the unnormalised result lies in
 * `out` meanwhile. So scores exist for one tile of queries and one block of keys only. Where blocks
 * begin depends on the sequence's length alone, hence so do the bits. */
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "compute/cpu/backend_cpu.h"

bool attention_scratch_init(struct attention_scratch *s, const struct kernels *k, float **block)
{
    size_t keys = round_up(ATTENTION_KEYS, k->gemm.nr), dims = round_up(ATTENTION_DIMS, k->gemm.nr);
    size_t key_floats = keys * ATTENTION_DIMS, value_floats = dims * ATTENTION_KEYS;
    size_t score_floats = (size_t)GEMM_MR_MAX * ATTENTION_KEYS;
    ASSERT(k->gemm.mr <= GEMM_MR_MAX && k->gemm.nr <= GEMM_NR_MAX);
    *block = memory_alloc_aligned(key_floats + value_floats + score_floats + 2 * TOKENS_MAX,
                                  sizeof(float));
    if (!*block)
        return false;
    memset(*block, 0, (key_floats + value_floats) * sizeof(float));     /* padding is read */
    s->key_panels = *block;
    s->value_panels = s->key_panels + key_floats;
    s->scores = s->value_panels + value_floats;
    s->max = s->scores + score_floats;
    s->sum = s->max + TOKENS_MAX;
    return true;
}

/* One head of one sequence: q, k and v point at its first token, `stride` floats from token to
 * token; out likewise with `out_stride`. */
struct head {
    const float *q, *k, *v;
    float *out;
    size_t stride, out_stride, tokens, dim;
};

/* to[d * nr + key] = k[key * stride + d] for four keys and four dimensions */
static void transpose_four(float *to, size_t nr, const float *k, size_t stride)
{
    typedef float four __attribute__((vector_size(16)));
    typedef int32_t order __attribute__((vector_size(16)));
    four rows[4], pairs[4];
    for (size_t i = 0; i < 4; i++)
        memcpy(&rows[i], k + i * stride, sizeof rows[i]);
    pairs[0] = __builtin_shuffle(rows[0], rows[1], (order){ 0, 4, 1, 5 });
    pairs[1] = __builtin_shuffle(rows[2], rows[3], (order){ 0, 4, 1, 5 });
    pairs[2] = __builtin_shuffle(rows[0], rows[1], (order){ 2, 6, 3, 7 });
    pairs[3] = __builtin_shuffle(rows[2], rows[3], (order){ 2, 6, 3, 7 });
    for (size_t i = 0; i < 4; i += 2) {
        four even = __builtin_shuffle(pairs[i], pairs[i + 1], (order){ 0, 1, 4, 5 });
        four odd = __builtin_shuffle(pairs[i], pairs[i + 1], (order){ 2, 3, 6, 7 });
        memcpy(to + i * nr, &even, sizeof even);
        memcpy(to + (i + 1) * nr, &odd, sizeof odd);
    }
}

/* panels[key / nr][d][key % nr] = k[key][d] for a block of keys and of dimensions. Columns behind
 * the last key keep what an earlier block left: nobody uses what they give. nr is a multiple of 4.
 */
static void pack_keys(float *panels, const float *k, size_t stride, size_t keys, size_t dims,
                      size_t nr)
{
    size_t key = 0;
    for (; key + 4 <= keys && dims % 4 == 0; key += 4)
        for (size_t d = 0; d < dims; d += 4)
            transpose_four(panels + key / nr * nr * dims + d * nr + key % nr, nr,
                           k + key * stride + d, stride);
    for (; key < keys; key++) {
        float *column = panels + key / nr * nr * dims + key % nr;
        const float *from = k + key * stride;
        for (size_t d = 0; d < dims; d++)
            column[d * nr] = from[d];
    }
}

/* panels[d / nr][key][d % nr] = v[key][d], likewise. */
static void pack_values(float *panels, const float *v, size_t stride, size_t keys, size_t dims,
                        size_t nr)
{
    for (size_t first = 0; first < dims; first += nr) {
        size_t cols = min_size(nr, dims - first);
        for (size_t key = 0; key < keys; key++)
            memcpy(panels + first * keys + key * nr, v + key * stride + first, cols * sizeof *v);
    }
}

/* out [rows][cols] (+)= x [rows][depth] * panels */
static void multiply(const struct kernels *k, float *out, size_t out_stride, const float *x,
                     size_t x_stride, const float *panels, size_t depth, size_t rows, size_t cols,
                     bool accumulate)
{
    for (size_t first = 0; first < cols; first += k->gemm.nr)
        k->gemm_f32(out + first, out_stride, x, x_stride, panels + first * depth, depth, rows,
                    min_size(k->gemm.nr, cols - first), NULL, accumulate);
}

/* The queries [row, row + rows) against the keys [key, key + keys) of a block. Panels hold the
 * whole head when it is small, or are packed piece by piece. */
static void tile(const struct kernels *k, const struct attention_scratch *s,
                 const struct head *head, size_t row, size_t rows, size_t key, size_t keys)
{
    bool packed = head->dim <= ATTENTION_DIMS;
    float scale = 1 / sqrtf((float)head->dim);
    for (size_t d = 0; d < head->dim; d += ATTENTION_DIMS) {
        size_t dims = min_size(ATTENTION_DIMS, head->dim - d);
        if (!packed)
            pack_keys(s->key_panels, head->k + key * head->stride + d, head->stride, keys, dims,
                      k->gemm.nr);
        multiply(k, s->scores, ATTENTION_KEYS, head->q + row * head->stride + d, head->stride,
                 s->key_panels, dims, rows, keys, d > 0);
    }
    for (size_t r = 0; r < rows; r++) {
        float factor = k->softmax_f32(s->scores + r * ATTENTION_KEYS, keys, scale,
                                      s->max + row + r, s->sum + row + r);
        if (key > 0)
            k->scale_f32(head->out + (row + r) * head->out_stride, factor, head->dim);
    }
    for (size_t d = 0; d < head->dim; d += ATTENTION_DIMS) {
        size_t dims = min_size(ATTENTION_DIMS, head->dim - d);
        if (!packed)
            pack_values(s->value_panels, head->v + key * head->stride + d, head->stride, keys, dims,
                        k->gemm.nr);
        multiply(k, head->out + row * head->out_stride + d, head->out_stride, s->scores,
                 ATTENTION_KEYS, s->value_panels, keys, rows, dims, key > 0);
    }
}

static void attend(const struct kernels *k, const struct attention_scratch *s,
                   const struct head *head)
{
    for (size_t t = 0; t < head->tokens; t++) {
        s->max[t] = -INFINITY;
        s->sum[t] = 0;
    }
    for (size_t key = 0; key < head->tokens; key += ATTENTION_KEYS) {
        size_t keys = min_size(ATTENTION_KEYS, head->tokens - key);
        if (head->dim <= ATTENTION_DIMS) {
            pack_keys(s->key_panels, head->k + key * head->stride, head->stride, keys, head->dim,
                      k->gemm.nr);
            pack_values(s->value_panels, head->v + key * head->stride, head->stride, keys,
                        head->dim, k->gemm.nr);
        }
        for (size_t row = 0; row < head->tokens; row += k->gemm.mr)
            tile(k, s, head, row, min_size(k->gemm.mr, head->tokens - row), key, keys);
    }
    for (size_t t = 0; t < head->tokens; t++)
        k->scale_f32(head->out + t * head->out_stride, 1 / s->sum[t], head->dim);
}

/* All heads of one sequence; threads may share them. */
struct sequence {
    const struct lane *lane;
    const float *qkv;           /* [tokens][3 * hidden] */
    float *out;                 /* [tokens][hidden] */
    size_t tokens, hidden, dim;
};

static void sequence_heads(void *context, size_t begin, size_t end, int worker)
{
    const struct sequence *s = context;
    const struct attention_scratch *scratch =
        worker ? &s->lane->members[worker].attention : &s->lane->attention;
    for (size_t h = begin; h < end; h++) {
        const float *q = s->qkv + h * s->dim;
        struct head head = { .q = q, .k = q + s->hidden, .v = q + 2 * s->hidden,
                             .out = s->out + h * s->dim, .stride = 3 * s->hidden,
                             .out_stride = s->hidden, .tokens = s->tokens, .dim = s->dim };
        attend(lane_kernels(s->lane), scratch, &head);
    }
}

void cpu_attention(struct lane *lane, struct tensor *out, const struct tensor *qkv,
                   const struct packed_batch *batch, size_t heads)
{
    size_t hidden = out->cols;
    ASSERT(heads > 0 && hidden % heads == 0 && qkv->cols == 3 * hidden);
    ASSERT(qkv->rows == batch->tokens && out->rows == batch->tokens);
    for (size_t s = 0; s < batch->sequences; s++) {
        size_t first = batch->offsets[s], tokens = batch->offsets[s + 1] - first;
        ASSERT(first + tokens <= batch->tokens && tokens <= TOKENS_MAX);
        struct sequence sequence = { .lane = lane, .qkv = qkv->data + first * qkv->cols,
                                     .out = out->data + first * hidden, .tokens = tokens,
                                     .hidden = hidden, .dim = hidden / heads };
        lane_share(lane, heads, sequence_heads, &sequence);
    }
}
