// What the files of the CUDA encoder share. Nothing outside src/compute/cuda includes it.
// Activations are fp16 [tokens][columns], sums and LayerNorm are float32. Rows are padded to whole
// tiles: what padding rows hold is never read by others.
//
// In eight bits (docs/decisions/027-cuda-narrow.md) what goes into qkv and into the feed-forward
// part is bytes as well: a LayerNorm's rows over their equalisers, on 256 levels between each row's
// extremes; results of GELU on 256 levels from its least value to the largest of 64 columns.
// Weights are on 255 levels per output. What comes out of a product is float32 or fp16 as ever.
#pragma once

#include "compute/cuda/platform.cuh"

extern "C" {
#include "compute/encoder_device.h"
}

enum { ENCODE_ROWS = 128 };     // rows of every buffer are a multiple of this
enum { ENCODE_HIDDEN_MAX = 1024, ENCODE_COLUMN_UNIT = 64, ENCODE_BYTES_UNIT = 128 };

// 16 queries of a sequence, for each of whose heads a warp computes attention.
struct query_tile {
    uint32_t first, count;      // tokens of the sequence
    uint32_t query;             // the first one, from 0 inside the sequence
};

enum { QUERY_TILE = 16 };

// A batch as it lies on the device. Where a recording is played, fewer sequences and tiles may be
// there than blocks were started for.
struct encode_batch {
    const uint32_t *counts;     // sequences, tiles
    const int32_t *ids, *positions;
    const uint32_t *offsets;
    const query_tile *tiles;
    size_t rows, sequences, tiles_started;      // rows: padded tokens
};

struct encode_norm {
    const float *gamma, *beta;
    float epsilon;
};

struct encode_tables {
    const half_t *word, *position, *type;       // type may be NULL
    encode_norm norm;
};

// out [rows][cols] = x [rows][depth] weight [cols][depth]^T + bias [cols]. Of fp16 numbers, or of
// bytes: an output's weights are bytes * step, `sum` of which is theirs over the depth; where x is
// of GELU, bias has in it what its least value adds.
struct encode_linear {
    const half_t *weight;       // NULL: bytes
    const float *bias;
    size_t cols, depth;
    const int8_t *bytes;        // [cols][depth]
    const float *step, *sum;    // [cols]
    const float *inverse;       // [depth] one over the equaliser of x
};

// fmaf is written out, so that all kernels round at the same places.
__device__ inline uint32_t normed_pair(const float values[2], float mean, float factor,
                                       const encode_norm &norm, size_t col)
{
    return pack<half_t>(fmaf((values[0] - mean) * factor, norm.gamma[col], norm.beta[col]),
                        fmaf((values[1] - mean) * factor, norm.gamma[col + 1],
                             norm.beta[col + 1]));
}

// A row of bytes b stands for low + step * b.
struct narrow_scale {
    float step, low;
};

// Rows as bytes [rows][cols] for whoever multiplies them; bytes NULL: nobody does.
struct encode_narrowing {
    uint8_t *bytes;
    narrow_scale *rows;         // [rows]
    const float *inverse;       // [cols] of that map
};

// Results of GELU as bytes: GELU_LEAST + step * b, a step for each 64 columns.
enum { GROUP_COLS = 64 };
#define GELU_LEAST (-0.17f)     // it is -0.16997

struct encode_groups {
    uint8_t *bytes;             // [rows][cols]
    float *steps;               // [rows][cols / GROUP_COLS]
};

__device__ inline narrow_scale scale_between(float low, float high)
{
    float step = (high - low) / 255.0f;
    return {step > 1e-30f ? step : 1e-30f, low};
}

__device__ inline uint32_t narrow_byte(float x, float low, float inverse)
{
    return (uint32_t)fminf(fmaxf(rintf(round_product(x - low, inverse)), 0.0f), 255.0f);
}

__device__ inline uint16_t narrow_pair(const float values[2], float low, float inverse)
{
    return (uint16_t)(narrow_byte(values[0], low, inverse)
                      | narrow_byte(values[1], low, inverse) << 8);
}

// Number `i` of a pair of fp16 numbers, which is in column col + i, over its equaliser.
__device__ inline float equalized(uint32_t pair, int i, const encode_narrowing &to, size_t col)
{
    return round_product(i ? high_half(pair) : low_half(pair), to.inverse[col + (size_t)i]);
}

// narrow: where the rows go as bytes, too.
void encode_embed(platform *p, const encode_batch *batch, const encode_tables *tables,
                  size_t hidden, half_t *out, const encode_narrowing *narrow);
void encode_multiply(platform *p, const encode_linear *linear, const half_t *x, size_t rows,
                     half_t *out);
void encode_multiply_gelu(platform *p, const encode_linear *linear, const half_t *x, size_t rows,
                          half_t *out);
// x = LayerNorm(x + linear(in)), in place. sums [encode_sum_rows()][cols] is scratch. The same bits
// with many rows, where it is one kernel, and with few.
void encode_multiply_norm(platform *p, const encode_linear *linear, const encode_norm *norm,
                          const half_t *in, size_t rows, half_t *x, float *sums,
                          const encode_narrowing *narrow);
// The same of bytes.
void encode_multiply_bytes(platform *p, const encode_linear *linear, const encode_narrowing *x,
                           size_t rows, half_t *out);
void encode_multiply_bytes_gelu(platform *p, const encode_linear *linear, const encode_narrowing *x,
                                size_t rows, const encode_groups *out);
// Whether the card has the shared memory for groups of a factor so deep.
bool encode_groups_fit(const platform *p, size_t depth);
// sums [encode_groups_sum_rows()][cols]
void encode_multiply_groups_norm(platform *p, const encode_linear *linear, const encode_norm *norm,
                                 const encode_groups *in, size_t rows, half_t *x, float *sums,
                                 const encode_narrowing *narrow);
// So many rows at most of up to `rows` go through `sums`: where many are one kernel, only few.
size_t encode_sum_rows(const platform *p, size_t rows, size_t cols);
size_t encode_groups_sum_rows(const platform *p, size_t rows, size_t cols, size_t depth);
// x = LayerNorm(x + sums), where a kernel before could not; bias is in sums.
void encode_norm_rows(platform *p, const encode_norm *norm, const float *sums, size_t rows,
                      size_t cols, half_t *x, const encode_narrowing *narrow);
// out [rows][heads * dim] from qkv [rows][3 * heads * dim]; dim is 32 or 64.
void encode_attention(platform *p, const encode_batch *batch, const half_t *qkv, size_t heads,
                      size_t dim, half_t *out);
// out [sequences][hidden]
void encode_pool(platform *p, const encode_batch *batch, const half_t *x, size_t hidden,
                 enum pooling pooling, bool normalize, float *out);
