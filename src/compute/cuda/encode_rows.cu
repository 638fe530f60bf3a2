// Kernels of the encoder that go over rows: tokens to rows, LayerNorm where the kernel of the
// product does not have whole rows, rows to vectors.
#include "compute/cuda/encode_cuda.cuh"

namespace {

enum { WARPS = 4, PAIRS = ENCODE_HIDDEN_MAX / ENCODE_COLUMN_UNIT, POOL_THREADS = 128 };

struct pair {
    float x, y;
};

__device__ inline pair pair_of(const half_t *row, size_t col)
{
    uint32_t both = *reinterpret_cast<const uint32_t *>(row + col);
    return {low_half(both), high_half(both)};
}

__device__ inline void equalize(float values[2], uint32_t both, const encode_narrowing &narrow,
                                size_t col)
{
    if (narrow.bytes) {
        values[0] = equalized(both, 0, narrow, col);
        values[1] = equalized(both, 1, narrow, col);
    }
}

// A warp's row: a lane has `pairs` pairs of it, from number `first` of the matrix on, `apart` from
// each other.
__device__ inline void narrow_row(const float values[PAIRS][2], int pairs,
                                  const encode_narrowing &narrow, size_t first, size_t apart,
                                  size_t row)
{
    if (!narrow.bytes)
        return;
    float low = values[0][0], high = low;
    UNROLL
    for (int n = 0; n < PAIRS; n++)
        if (n < pairs) {
            low = fminf(low, fminf(values[n][0], values[n][1]));
            high = fmaxf(high, fmaxf(values[n][0], values[n][1]));
        }
    narrow_scale scale = scale_between(-warp_max(-low), warp_max(high));
    float inverse = 1.0f / scale.step;
    if (threadIdx.x % 32 == 0)
        narrow.rows[row] = scale;
    UNROLL
    for (int n = 0; n < PAIRS; n++)
        if (n < pairs)
            *reinterpret_cast<uint16_t *>(narrow.bytes + first + (size_t)n * apart)
                = narrow_pair(values[n], scale.low, inverse);
}

// out = LayerNorm(word + type + position), one warp a token; lane l has the columns 64 i + 2 l and
// the next.
__global__ void __launch_bounds__(32 * WARPS) embed_kernel(encode_batch batch,
                                                           encode_tables tables, size_t hidden,
                                                           half_t *out, encode_narrowing narrow)
{
    size_t token = (size_t)blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t sequences = batch.counts[0];
    if (token >= batch.offsets[sequences])
        return;
    const half_t *word = tables.word + (size_t)batch.ids[token] * hidden;
    const half_t *position = tables.position + (size_t)batch.positions[token] * hidden;
    float values[PAIRS][2], total = 0, squares = 0;
    UNROLL
    for (int i = 0; i < PAIRS; i++) {
        size_t col = 64 * (size_t)i + 2 * lane;
        if (col >= hidden)
            continue;
        pair w = pair_of(word, col), p = pair_of(position, col), type = {0, 0};
        if (tables.type)
            type = pair_of(tables.type, col);
        values[i][0] = w.x + type.x + p.x;
        values[i][1] = w.y + type.y + p.y;
        total += values[i][0] + values[i][1];
    }
    float mean = warp_sum(total) / (float)hidden;
    UNROLL
    for (int i = 0; i < PAIRS; i++)
        if (64 * (size_t)i + 2 * lane < hidden)
            for (int j = 0; j < 2; j++) {
                float apart = values[i][j] - mean;
                squares = fmaf(apart, apart, squares);
            }
    float factor = 1.0f / sqrtf(warp_sum(squares) / (float)hidden + tables.norm.epsilon);
    UNROLL
    for (int i = 0; i < PAIRS; i++) {
        size_t col = 64 * (size_t)i + 2 * lane;
        if (col >= hidden)
            continue;
        uint32_t both = normed_pair(values[i], mean, factor, tables.norm, col);
        *reinterpret_cast<uint32_t *>(out + token * hidden + col) = both;
        equalize(values[i], both, narrow, col);
    }
    narrow_row(values, (int)(hidden / 64), narrow, token * hidden + 2 * lane, 64, token);
}

// One warp a row; sums in the order of a block that has whole rows, with eight warps.
__device__ inline float eighths_sum(float x)
{
    x = quad_sum(x);
    float total = warp_shuffle(x, 0);
    for (int w = 1; w < 8; w++)
        total += warp_shuffle(x, 4 * w);
    return total;
}

__global__ void __launch_bounds__(32 * WARPS) norm_kernel(encode_norm norm, const float *sums,
                                                          half_t *x, size_t cols,
                                                          encode_narrowing narrow)
{
    int lane = (int)(threadIdx.x % 32), pairs = (int)(cols / ENCODE_COLUMN_UNIT);
    size_t row = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    size_t begin = (size_t)(lane / 4) * (cols / 8) + 2 * (size_t)(lane % 4);
    float values[PAIRS][2], total = 0, squares = 0;
    UNROLL
    for (int n = 0; n < PAIRS; n++)
        if (n < pairs) {
            size_t at = row * cols + begin + 8 * (size_t)n;
            pair before = pair_of(x, at);
            values[n][0] = sums[at] + before.x;
            values[n][1] = sums[at + 1] + before.y;
            total += values[n][0];
            total += values[n][1];
        }
    float mean = eighths_sum(total) / (float)cols;
    UNROLL
    for (int n = 0; n < PAIRS; n++)
        for (int i = 0; i < 2; i++)
            if (n < pairs) {
                float apart = values[n][i] - mean;
                squares = fmaf(apart, apart, squares);
            }
    float factor = 1.0f / sqrtf(eighths_sum(squares) / (float)cols + norm.epsilon);
    UNROLL
    for (int n = 0; n < PAIRS; n++)
        if (n < pairs) {
            size_t c = begin + 8 * (size_t)n;
            uint32_t both = normed_pair(values[n], mean, factor, norm, c);
            *reinterpret_cast<uint32_t *>(x + row * cols + c) = both;
            equalize(values[n], both, narrow, c);
        }
    narrow_row(values, pairs, narrow, row * cols + begin, 8, row);
}

// Sums over tokens in order, a thread a column; then the length, over columns in a fixed order.
__global__ void __launch_bounds__(POOL_THREADS) pool_kernel(encode_batch batch, const half_t *x,
                                                            size_t hidden, enum pooling pooling,
                                                            bool normalize, float *out)
{
    SHARED(float, partial);     // [POOL_THREADS / 32]
    uint32_t sequence = blockIdx.x;
    if (sequence >= batch.counts[0])
        return;
    size_t first = batch.offsets[sequence], end = batch.offsets[sequence + 1];
    float *vector = out + sequence * hidden, squares = 0;
    if (pooling == POOLING_CLS)
        end = first + 1;
    for (size_t col = threadIdx.x; col < hidden; col += POOL_THREADS) {
        float value = to_float(x[first * hidden + col]);
        for (size_t token = first + 1; token < end; token++) {
            float next = to_float(x[token * hidden + col]);
            value = pooling == POOLING_MAX ? fmaxf(value, next) : value + next;
        }
        if (pooling == POOLING_MEAN)
            value /= (float)(end - first);
        vector[col] = value;
        squares = fmaf(value, value, squares);
    }
    if (!normalize)
        return;
    squares = warp_sum(squares);
    if (threadIdx.x % 32 == 0)
        partial[threadIdx.x / 32] = squares;
    __syncthreads();
    float total = partial[0];
    for (int w = 1; w < POOL_THREADS / 32; w++)
        total += partial[w];
    float factor = total > 0 ? 1.0f / sqrtf(total) : 1.0f;
    for (size_t col = threadIdx.x; col < hidden; col += POOL_THREADS)
        vector[col] *= factor;
}

}

void encode_embed(platform *p, const encode_batch *batch, const encode_tables *tables,
                  size_t hidden, half_t *out, const encode_narrowing *narrow)
{
    const encode_batch with = *batch;
    const encode_tables from = *tables;
    const encode_narrowing to = *narrow;
    LAUNCH(embed_kernel, (unsigned)(batch->rows / WARPS), 32 * WARPS, 0, platform_stream(p), with,
           from, hidden, out, to);
    platform_started(p, "the embedding of tokens");
}

void encode_norm_rows(platform *p, const encode_norm *norm, const float *sums, size_t rows,
                      size_t cols, half_t *x, const encode_narrowing *narrow)
{
    const encode_norm with = *norm;
    const encode_narrowing to = *narrow;
    LAUNCH(norm_kernel, (unsigned)(rows / WARPS), 32 * WARPS, 0, platform_stream(p), with, sums, x,
           cols, to);
    platform_started(p, "a LayerNorm");
}

void encode_pool(platform *p, const encode_batch *batch, const half_t *x, size_t hidden,
                 enum pooling pooling, bool normalize, float *out)
{
    const encode_batch with = *batch;
    LAUNCH(pool_kernel, (unsigned)batch->sequences, POOL_THREADS,
           POOL_THREADS / 32 * sizeof(float), platform_stream(p), with, x, hidden, pooling,
           normalize, out);
    platform_started(p, "pooling");
}
