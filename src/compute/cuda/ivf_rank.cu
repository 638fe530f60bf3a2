// Inverted files on CUDA, the last kernel: candidates are scored from their rows of eight bits, in
// whole numbers, and the last block of a query scores the best of them from the originals, in the
// order of sums of cpu_score (sixteen partial sums and a tree), so the scores have its bits. This
// file is compiled without contraction.
#include "compute/cuda/ivf_cuda.cuh"

#include <cmath>

namespace {

enum { STAGED = 4096 };         // keys that are compared in shared memory
enum { SUMS = 16, ROWS = IVF_THREADS / SUMS };

struct rank_block {
    uint64_t *staged;           // [STAGED]
    uint64_t *kept;             // [IVF_DEVICE_KEPT_MAX] keys, then scores and rows
    float *query;               // [dim]; before, as uint32: the query in twelve bits
    float *scores;              // [IVF_DEVICE_KEPT_MAX]
    ivf_select *select;
};

__host__ __device__ inline size_t query_bytes(const ivf_data &d)
{
    size_t narrow = d.depth * sizeof(int16_t), wide = d.dim * sizeof(float);
    return ((narrow > wide ? narrow : wide) + 15) / 16 * 16;
}

__host__ __device__ inline size_t rank_bytes(const ivf_data &d)
{
    return (STAGED + IVF_DEVICE_KEPT_MAX) * sizeof(uint64_t) + query_bytes(d)
           + IVF_DEVICE_KEPT_MAX * sizeof(float) + sizeof(ivf_select);
}

// A float as a number of the same order; NaN is the least.
__device__ inline uint32_t ordered(float score)
{
    uint32_t bits = score_bits(score);
    if (score != score)
        return 0;
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

__device__ inline float number_at(const ivf_data &d, size_t at)
{
    return d.half ? to_float(static_cast<const half_t *>(d.vectors)[at])
                  : static_cast<const float *>(d.vectors)[at];
}

// The score of an original, by sixteen lanes; all of them have it.
__device__ inline float exact_score(const ivf_data &d, const float *query, uint32_t row)
{
    unsigned lane = threadIdx.x % 32;
    float sum = 0;
    for (unsigned step = 0; step < d.dim; step += SUMS) {
        unsigned i = step + lane % SUMS;
        float left = i < d.dim ? query[i] : 0, right = 0;
        if (i < d.dim)
            right = number_at(d, (size_t)row * d.dim + i);
        float difference = left - right;
        sum = d.l2 ? fmaf(difference, difference, sum) : fmaf(left, right, sum);
    }
    for (unsigned step = SUMS / 2; step > 0; step /= 2)
        sum += warp_shuffle(sum, (int)(lane ^ step));
    return d.l2 ? -sum : sum;
}

// As hit_better has it.
__device__ inline bool better(float score, uint32_t row, float other, uint32_t other_row)
{
    bool nan = score != score, other_nan = other != other;
    if (nan != other_nan)
        return other_nan;
    if (!nan && score != other)
        return score > other;
    return row < other_row;
}

// The best by eight bits, `count` of them, to b.kept; returns how many.
__device__ inline unsigned keep_best(const ivf_work &w, size_t q, unsigned listed,
                                     const rank_block &b)
{
    const uint64_t *keys = w.keys + q * w.candidates_room;
    unsigned wanted = w.job->kept < listed ? w.job->kept : listed;
    uint64_t least = 0;
    for (unsigned i = threadIdx.x; i < listed && i < STAGED; i += IVF_THREADS)
        b.staged[i] = read_fresh(keys + i);
    __syncthreads();
    if (wanted < listed && wanted > 0)
        least = listed <= STAGED ? least_kept<false>(b.staged, listed, wanted, b.select)
                                 : least_kept<true>(keys, listed, wanted, b.select);
    if (threadIdx.x == 0)
        b.select->out[0] = 0;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < listed; i += IVF_THREADS) {
        uint64_t key = i < STAGED ? b.staged[i] : read_fresh(keys + i);
        unsigned at = key >= least ? atomicAdd(&b.select->out[0], 1u) : wanted;
        if (at < wanted)
            b.kept[at] = key;
    }
    __syncthreads();
    return wanted;
}

__device__ inline void finish(const ivf_data &d, const ivf_work &w, size_t q, unsigned listed,
                              const rank_block &b)
{
    unsigned kept = keep_best(w, q, listed, b), k = w.job->k;
    for (unsigned i = threadIdx.x; i < d.dim; i += IVF_THREADS)
        b.query[i] = w.queries[q * d.dim + i];
    __syncthreads();
    for (unsigned first = 0; first < kept; first += ROWS) {
        unsigned i = first + threadIdx.x / SUMS;
        uint32_t row = ivf_key_row(b.kept[i < kept ? i : 0]);
        float score = exact_score(d, b.query, row);
        if (i < kept && threadIdx.x % SUMS == 0)
            b.scores[i] = score;
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < kept; i += IVF_THREADS) {
        float score = b.scores[i];
        uint32_t row = ivf_key_row(b.kept[i]);
        unsigned place = 0;
        for (unsigned other = 0; other < kept; other++)
            place += better(b.scores[other], ivf_key_row(b.kept[other]), score, row);
        if (place < k) {
            w.hits[q * k + place].score = score;
            w.hits[q * k + place].row = row;
        }
    }
    if (threadIdx.x == 0)
        w.found[q] = kept < k ? kept : k;
}

__global__ void __launch_bounds__(IVF_THREADS) rank_kernel(ivf_data d, ivf_work w)
{
    SHARED(uint64_t, staged);
    rank_block b;
    b.staged = staged;
    b.kept = staged + STAGED;
    b.query = reinterpret_cast<float *>(b.kept + IVF_DEVICE_KEPT_MAX);
    b.scores = b.query + query_bytes(d) / sizeof(float);
    b.select = reinterpret_cast<ivf_select *>(b.scores + IVF_DEVICE_KEPT_MAX);
    size_t q = blockIdx.x;
    ivf_state *state = w.state + q;
    unsigned listed = state->listed, teams = IVF_THREADS / 8;
    float scale = state->query_scale;
    uint32_t *narrow = reinterpret_cast<uint32_t *>(b.query);
    for (unsigned i = threadIdx.x; i < d.depth / 2; i += IVF_THREADS)
        narrow[i] = reinterpret_cast<const uint32_t *>(w.narrow + q * d.depth)[i];
    __syncthreads();
    for (unsigned at = blockIdx.y * teams; at < listed; at += gridDim.y * teams) {
        unsigned i = at + threadIdx.x / 8;
        uint32_t row = w.list[q * w.candidates_room + (i < listed ? i : 0)];
        int sum = team_dot(d.records + (size_t)row * d.depth, narrow, d.depth);
        struct ivf_tail tail = d.record_tails[row];
        float score = (float)sum * (scale * tail.scale);
        if (i < listed && threadIdx.x % 8 == 0)
            w.keys[q * w.candidates_room + i]
                = ivf_key(ordered(d.l2 ? score - tail.half_norm : score), row);
    }
    if (last_block(&state->ranked, gridDim.y, b.select->scratch))
        finish(d, w, q, listed, b);
}

}

size_t ivf_rank_shared(const ivf_data *d)
{
    return rank_bytes(*d);
}

void ivf_rank(platform *p, const ivf_data *d, const ivf_work *w, size_t queries)
{
    size_t most = platform_processors(p), blocks = queries < most ? most / queries : 1;
    auto *kernel = rank_kernel;
    platform_allow_shared(p, reinterpret_cast<const void *>(kernel), rank_bytes(*d));
    LAUNCH(kernel, dim3((unsigned)queries, (unsigned)blocks), IVF_THREADS, rank_bytes(*d),
           platform_stream(p), *d, *w);
    platform_started(p, "the order of candidates");
}
