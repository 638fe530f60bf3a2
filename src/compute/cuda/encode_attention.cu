// Attention inside each sequence of a packed batch, all heads and sequences in one launch: a warp
// has sixteen queries of one head, the keys come 64 at a time, weights stay in registers and are
// normalised at the end (FlashAttention-2, Dao 2023). Texts here have tens of tokens, so most warps
// see their keys once; warps do not wait for each other.
#include "compute/cuda/encode_cuda.cuh"

namespace {

enum { KEYS = 64, KEY_TILES = KEYS / 8, WARPS = 4, PAD = 8 };

const float LOG2_E = 1.4426950408889634f;

template <int DIM> size_t shared_bytes()
{
    return (size_t)WARPS * 2 * KEYS * (DIM + PAD) * sizeof(half_t);
}

// Keys or values [KEYS][DIM + PAD] of a head; those from `count` on are zeros, as far as a fragment
// reaches.
template <int DIM>
__device__ inline void load_rows(half_t *tile, const half_t *rows, size_t stride, uint32_t count)
{
    const uint32_t pieces = DIM / 8;
    UNROLL
    for (uint32_t first = 0; first < KEYS; first += 32 / pieces) {
        uint32_t row = first + threadIdx.x % 32 / pieces, piece = threadIdx.x % pieces;
        if (first / 16 * 16 >= count)
            continue;
        uint4 value = {0, 0, 0, 0};
        if (row < count)
            value = *reinterpret_cast<const uint4 *>(rows + row * stride + 8 * piece);
        *reinterpret_cast<uint4 *>(tile + row * (DIM + PAD) + 8 * piece) = value;
    }
}

__device__ inline uint32_t pair_at(const half_t *row, uint32_t col, bool valid)
{
    return valid ? *reinterpret_cast<const uint32_t *>(row + col) : 0;
}

// s [16][KEYS] = queries keys^T, in powers of two; keys from `count` on weigh nothing.
template <int DIM>
__device__ inline void scores(float s[KEY_TILES][4], const uint32_t query[DIM / 16][4],
                              const half_t *keys, uint32_t count, float factor)
{
    int lane = (int)(threadIdx.x % 32), matrix = lane / 8;
    uint32_t t = (uint32_t)(lane % 4);
    UNROLL
    for (int n = 0; n < KEY_TILES; n += 2) {
        for (int i = 0; i < 8; i++)
            s[n + i / 4][i % 4] = 0;
        if (8 * (uint32_t)n >= count)
            continue;           // nobody looks at them
        UNROLL
        for (int k = 0; k < DIM / 16; k++) {
            uint32_t right[4];
            warp_load_matrices(right, keys + (8 * n + matrix / 2 * 8 + lane % 8) * (DIM + PAD)
                                      + 16 * k + matrix % 2 * 8);
            warp_multiply<half_t>(s[n], query[k], right);
            warp_multiply<half_t>(s[n + 1], query[k], right + 2);
        }
        for (int i = 0; i < 8; i++) {
            uint32_t key = 8 * (uint32_t)(n + i / 4) + 2 * t + (uint32_t)(i % 2);
            s[n + i / 4][i % 4] = key < count ? s[n + i / 4][i % 4] * factor : -INFINITY;
        }
    }
}

// sums [16][DIM] += weights [16][KEYS] values [KEYS][DIM]
template <int DIM>
__device__ inline void add_values(float sums[DIM / 8][4], const float s[KEY_TILES][4],
                                  const half_t *values, uint32_t count)
{
    int lane = (int)(threadIdx.x % 32), matrix = lane / 8;
    UNROLL
    for (int k = 0; k < KEYS / 16; k++) {
        if (16 * (uint32_t)k >= count)
            continue;
        uint32_t left[4] = {pack<half_t>(s[2 * k][0], s[2 * k][1]),
                            pack<half_t>(s[2 * k][2], s[2 * k][3]),
                            pack<half_t>(s[2 * k + 1][0], s[2 * k + 1][1]),
                            pack<half_t>(s[2 * k + 1][2], s[2 * k + 1][3])};
        UNROLL
        for (int n = 0; n < DIM / 8; n += 2) {
            uint32_t right[4];
            warp_load_matrices_transposed(
                right, values + (16 * k + matrix % 2 * 8 + lane % 8) * (DIM + PAD) + 8 * n
                       + matrix / 2 * 8);
            warp_multiply<half_t>(sums[n], left, right);
            warp_multiply<half_t>(sums[n + 1], left, right + 2);
        }
    }
}

template <int DIM>
__global__ void __launch_bounds__(32 * WARPS) attention_kernel(encode_batch batch,
                                                               const half_t *qkv, size_t heads,
                                                               half_t *out)
{
    SHARED(half_t, shared);
    size_t warp = threadIdx.x / 32, index = (size_t)blockIdx.x * WARPS + warp;
    if (index >= batch.counts[1])
        return;
    half_t *keys = shared + warp * 2 * KEYS * (DIM + PAD), *values = keys + KEYS * (DIM + PAD);
    query_tile tile = batch.tiles[index];
    size_t hidden = heads * DIM, stride = 3 * hidden;
    const half_t *rows = qkv + tile.first * stride + blockIdx.y * DIM;
    uint32_t lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, row = tile.query + g;
    uint32_t query[DIM / 16][4];
    UNROLL
    for (int k = 0; k < DIM / 16; k++)
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t r = row + 8 * (i % 2);
            query[k][i] = pair_at(rows + r * stride, 16 * (uint32_t)k + 2 * t + 8 * (i / 2),
                                  r < tile.count);
        }
    float top[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0}, sums[DIM / 8][4] = {};
    const float factor = LOG2_E / sqrtf((float)DIM);
    for (uint32_t key = 0; key < tile.count; key += KEYS) {
        uint32_t count = tile.count - key < KEYS ? tile.count - key : (uint32_t)KEYS;
        __syncwarp();           // the last keys have been used
        load_rows<DIM>(keys, rows + hidden + key * stride, stride, count);
        load_rows<DIM>(values, rows + 2 * hidden + key * stride, stride, count);
        __syncwarp();
        float s[KEY_TILES][4];
        scores<DIM>(s, query, keys, count, factor);
        for (int half = 0; half < 2; half++) {
            float higher = top[half];
            UNROLL
            for (int n = 0; n < KEY_TILES; n++)
                if (8 * (uint32_t)(n / 2 * 2) < count)
                    higher = fmaxf(higher, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
            higher = quad_max(higher);
            float shrink = exp2f(top[half] - higher);
            top[half] = higher;
            total[half] *= shrink;
            UNROLL
            for (int n = 0; n < DIM / 8; n++) {
                sums[n][2 * half] *= shrink;
                sums[n][2 * half + 1] *= shrink;
            }
            UNROLL
            for (int n = 0; n < KEY_TILES; n++)
                for (int i = 2 * half; i < 2 * half + 2; i++)
                    if (8 * (uint32_t)(n / 2 * 2) < count) {
                        s[n][i] = exp2f(s[n][i] - higher);
                        total[half] += s[n][i];
                    }
        }
        add_values<DIM>(sums, s, values, count);
    }
    for (uint32_t half = 0; half < 2; half++) {
        float inverse = 1.0f / quad_sum(total[half]);
        uint32_t r = row + 8 * half;
        half_t *to = out + (tile.first + r) * hidden + blockIdx.y * DIM + 2 * t;
        if (r < tile.count)
            UNROLL
            for (int n = 0; n < DIM / 8; n++)
                *reinterpret_cast<uint32_t *>(to + 8 * n)
                    = pack<half_t>(sums[n][2 * half] * inverse, sums[n][2 * half + 1] * inverse);
    }
}

template <int DIM>
void start(platform *p, const encode_batch *batch, const half_t *qkv, size_t heads, half_t *out)
{
    auto *kernel = attention_kernel<DIM>;
    platform_allow_shared(p, reinterpret_cast<const void *>(kernel), shared_bytes<DIM>());
    dim3 grid((unsigned)((batch->tiles_started + WARPS - 1) / WARPS), (unsigned)heads);
    const encode_batch with = *batch;
    LAUNCH(kernel, grid, 32 * WARPS, shared_bytes<DIM>(), platform_stream(p), with, qkv, heads,
           out);
    platform_started(p, "attention");
}

}

void encode_attention(platform *p, const encode_batch *batch, const half_t *qkv, size_t heads,
                      size_t dim, half_t *out)
{
    if (dim == 32)
        start<32>(p, batch, qkv, heads, out);
    else
        start<64>(p, batch, qkv, heads, out);
}
