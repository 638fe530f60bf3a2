// What the files of the CUDA encoder share. Nothing outside src/compute/cuda includes it.
// Activations are fp16 [tokens][columns], sums and LayerNorm are float32. Rows are padded to whole
// tiles: what padding rows hold is never read by others.
#pragma once

#include "compute/cuda/platform.cuh"

extern "C" {
#include "compute/encoder_device.h"
}

enum { ENCODE_ROWS = 128 };     // rows of every buffer are a multiple of this
enum { ENCODE_HIDDEN_MAX = 1024, ENCODE_COLUMN_UNIT = 64 };

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

struct encode_tables {
    const half_t *word, *position, *type;       // type may be NULL
    const float *gamma, *beta;
    float epsilon;
};

// out [rows][cols] = x [rows][depth] weight [cols][depth]^T + bias [cols]
struct encode_linear {
    const half_t *weight;
    const float *bias;
    size_t cols, depth;
};

struct encode_norm {
    const float *gamma, *beta;
    float epsilon;
};

void encode_embed(platform *p, const encode_batch *batch, const encode_tables *tables,
                  size_t hidden, half_t *out);
void encode_multiply(platform *p, const encode_linear *linear, const half_t *x, size_t rows,
                     half_t *out);
void encode_multiply_gelu(platform *p, const encode_linear *linear, const half_t *x, size_t rows,
                          half_t *out);
// x = LayerNorm(x + linear(in)), in place. sums [rows][cols] is scratch. The same bits with many
// rows, where it is one kernel, and with few.
void encode_multiply_norm(platform *p, const encode_linear *linear, const encode_norm *norm,
                          const half_t *in, size_t rows, half_t *x, float *sums);
// out [rows][heads * dim] from qkv [rows][3 * heads * dim]; dim is 32 or 64.
void encode_attention(platform *p, const encode_batch *batch, const half_t *qkv, size_t heads,
                      size_t dim, half_t *out);
// out [sequences][hidden]
void encode_pool(platform *p, const encode_batch *batch, const half_t *x, size_t hidden,
                 enum pooling pooling, bool normalize, float *out);
