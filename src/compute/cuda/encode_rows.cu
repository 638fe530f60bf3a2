// First and last kernels of the encoder: tokens to rows, rows to vectors.
#include "compute/cuda/encode_cuda.cuh"

namespace {

enum { WARPS = 4, PAIRS = ENCODE_HIDDEN_MAX / 64, POOL_THREADS = 128 };

struct pair {
    float x, y;
};

__device__ inline pair pair_of(const half_t *row, size_t col)
{
    return {to_float(row[col]), to_float(row[col + 1])};
}

// out = LayerNorm(word + type + position), one warp a token; lane l has the columns 64 i + 2 l and
// the next.
__global__ void __launch_bounds__(32 * WARPS) embed_kernel(encode_batch batch,
                                                           encode_tables tables, size_t hidden,
                                                           half_t *out)
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
    float factor = 1.0f / sqrtf(warp_sum(squares) / (float)hidden + tables.epsilon);
    UNROLL
    for (int i = 0; i < PAIRS; i++) {
        size_t col = 64 * (size_t)i + 2 * lane;
        if (col < hidden)
            *reinterpret_cast<uint32_t *>(out + token * hidden + col) = pack<half_t>(
                fmaf((values[i][0] - mean) * factor, tables.gamma[col], tables.beta[col]),
                fmaf((values[i][1] - mean) * factor, tables.gamma[col + 1], tables.beta[col + 1]));
    }
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
                  size_t hidden, half_t *out)
{
    LAUNCH(embed_kernel, (unsigned)(batch->rows / WARPS), 32 * WARPS, 0, platform_stream(p), *batch,
           *tables, hidden, out);
    platform_started(p, "the embedding of tokens");
}

void encode_pool(platform *p, const encode_batch *batch, const half_t *x, size_t hidden,
                 enum pooling pooling, bool normalize, float *out)
{
    LAUNCH(pool_kernel, (unsigned)batch->sequences, POOL_THREADS,
           POOL_THREADS / 32 * sizeof(float), platform_stream(p), *batch, x, hidden, pooling,
           normalize, out);
    platform_started(p, "pooling");
}
