// Means of rows of a list: a thread has eight columns of a node and reads sixteen bytes of each of
// its rows, some of them ahead; it adds them in the order of the list. The time is that of the
// second-level cache, where the rows of a catalogue lie. A list is its threads' work alone: one
// that is very long is slow, and right.
#include "compute/cuda/graph_cuda.cuh"

namespace {

enum { THREADS = 192, PIECE = 8, AHEAD = 4 };

__device__ inline uint4 load(const half_t *row)
{
    return *reinterpret_cast<const uint4 *>(row);
}

__device__ inline void add(float sums[PIECE], uint4 row)
{
    const uint32_t words[4] = {row.x, row.y, row.z, row.w};
    UNROLL
    for (int i = 0; i < 4; i++) {
        sums[2 * i] += low_half(words[i]);
        sums[2 * i + 1] += high_half(words[i]);
    }
}

__global__ void __launch_bounds__(THREADS) mean_kernel(graph_gather g)
{
    size_t pieces = g.dim / PIECE, number = (size_t)blockIdx.x * THREADS + threadIdx.x;
    size_t at = number / pieces, column = number % pieces * PIECE;
    if (at >= g.count)
        return;
    uint32_t node = g.list ? g.list[at] : (uint32_t)at;
    uint32_t first = g.offsets[node], end = g.offsets[node + 1];
    float sums[PIECE] = {};
    for (uint32_t e = first; e < end; e += AHEAD) {
        uint4 rows[AHEAD];
        UNROLL
        for (uint32_t i = 0; i < AHEAD; i++)
            if (i < end - e)
                rows[i] = load(g.rows + (size_t)g.members[e + i] * g.dim + column);
        UNROLL
        for (uint32_t i = 0; i < AHEAD; i++)
            if (i < end - e)
                add(sums, rows[i]);
    }
    float factor = end > first ? 1.0f / (float)(end - first) : 0.0f;
    UNROLL
    for (int i = 0; i < PIECE; i++)
        sums[i] *= factor;
    if (g.own)
        add(sums, load(g.own + (size_t)node * g.dim + column));
    uint4 out = {pack<half_t>(sums[0], sums[1]), pack<half_t>(sums[2], sums[3]),
                 pack<half_t>(sums[4], sums[5]), pack<half_t>(sums[6], sums[7])};
    *reinterpret_cast<uint4 *>(g.out + at * g.dim + column) = out;
}

}

void graph_mean(platform *p, const graph_gather *gather)
{
    graph_gather g = *gather;
    size_t threads = g.count * (g.dim / PIECE);
    if (threads == 0)
        return;
    LAUNCH(mean_kernel, (unsigned)((threads + THREADS - 1) / THREADS), THREADS, 0,
           platform_stream(p), g);
    platform_started(p, "means of neighbours");
}
