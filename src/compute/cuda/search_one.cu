// One query: its rows stream past once, eight lanes a row, so the time is that of reading them; no
// matrix, but a number for each row stays. What scores enough is picked out by a second kernel,
// whose last block to finish writes the answer into memory of the host. In float32 the k best keys
// are found among all of them, ties or not.
#include "compute/cuda/search_cuda.cuh"

namespace {

enum { WARPS = 8, THREADS = 32 * WARPS, GROUPS = THREADS / GROUP, LANES_ROWS = 32 / GROUP };
enum { TOGETHER = 4 };          // rows of a group in flight
enum { PART = 64 };             // rows of a block are a multiple of this: a word of the mask
static_assert(ONE_SUBSETS * sizeof(uint32_t) <= ONE_ROOM * sizeof(uint64_t)
              && THREADS * sizeof(uint32_t) <= ONE_ROOM * sizeof(uint64_t),
              "what pick_kernel has in place of the candidates");

// ---- scores of all rows -------------------------------------------------------------------------

template <typename T> struct sums_of { typedef float sum; };
template <> struct sums_of<int8_t> { typedef int32_t sum; };

// A piece of a row: eight numbers, or sixteen bytes, against the query in shared memory.
enum { BYTES_PIECE = 16 };
__host__ __device__ inline size_t piece_of(half_t) { return 8; }
__host__ __device__ inline size_t piece_of(float) { return 8; }
__host__ __device__ inline size_t piece_of(int8_t) { return BYTES_PIECE; }

__device__ inline float add_piece(const half_t *row, const unsigned char *query, size_t at, size_t,
                                  float sum)
{
    return add_eight(row, reinterpret_cast<const float *>(query), at, sum);
}

__device__ inline float add_piece(const float *row, const unsigned char *query, size_t at, size_t,
                                  float sum)
{
    return add_eight(row, reinterpret_cast<const float *>(query), at, sum);
}

// The query in two digits: high [dim], low [dim].
__device__ inline int32_t add_piece(const int8_t *row, const unsigned char *query, size_t at,
                                    size_t dim, int32_t sum)
{
    uint4 piece = *reinterpret_cast<const uint4 *>(row + at);
    uint4 high = *reinterpret_cast<const uint4 *>(query + at);
    uint4 low = *reinterpret_cast<const uint4 *>(query + dim + at);
    int32_t highs = dot_bytes(piece.x, high.x, 0);
    highs = dot_bytes(piece.y, high.y, highs);
    highs = dot_bytes(piece.z, high.z, highs);
    highs = dot_bytes(piece.w, high.w, highs);
    sum = dot_bytes(piece.x, low.x, sum);
    sum = dot_bytes(piece.y, low.y, sum);
    sum = dot_bytes(piece.z, low.z, sum);
    sum = dot_bytes(piece.w, low.w, sum);
    return sum + 128 * highs;
}

__device__ inline float whole(float sum, const search_rows &, size_t)
{
    return group_sum(sum);
}

__device__ inline float whole(int32_t sum, const search_rows &rows, size_t row)
{
    int lane = (int)(threadIdx.x % 32);
    UNROLL
    for (int step = GROUP / 2; step > 0; step /= 2)
        sum += (int32_t)warp_shuffle((uint32_t)sum, lane ^ step);
    return (float)sum * rows.scales[row];
}

struct layout {
    size_t query, mask, maxima, bytes;
};

__host__ __device__ inline layout layout_of(size_t dim, size_t part)
{
    layout l;
    l.query = 0;
    l.mask = dim * sizeof(float);
    l.maxima = l.mask + part / 64 * sizeof(uint64_t);
    l.bytes = l.maxima + WARPS * sizeof(float);
    return l;
}

// A block has rows part blockIdx.x ... of those that are listed; each `warps` of its warps leave
// the best of theirs.
template <typename T>
__global__ void __launch_bounds__(THREADS)
    scores_kernel(search_single j, const T *matrix, size_t part, unsigned warps,
                  search_given given)
{
    SHARED(unsigned char, block);
    layout l = layout_of(j.rows.dim, part);
    unsigned char *query = block + l.query;
    uint64_t *mask = reinterpret_cast<uint64_t *>(block + l.mask);      // [part / 64]
    float *maxima = reinterpret_cast<float *>(block + l.maxima);        // [WARPS]
    size_t dim = j.rows.dim, first = blockIdx.x * part;
    size_t end = first + part < j.rows.listed ? first + part : j.rows.listed;
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    // an int8 query has half as many bytes, and what is behind them is not looked at
    const float *from = j.query ? j.query : given.wide;
    for (size_t i = threadIdx.x; i < dim; i += THREADS)
        reinterpret_cast<float *>(query)[i] = from[i];
    const uint64_t *allowed = mask_for(j.mask, j.mask_number);
    for (size_t i = threadIdx.x; allowed && i < part / 64; i += THREADS)
        mask[i] = first / 64 + i < j.mask.words ? allowed[first / 64 + i] : 0;
    __syncthreads();
    float best = -INFINITY;
    size_t piece = piece_of(T()), each = (size_t)LANES_ROWS * TOGETHER;
    for (size_t at = first + warp * each; at < end; at += WARPS * each) {
        typename sums_of<T>::sum sums[TOGETHER] = {};
        size_t rows[TOGETHER];
        UNROLL
        for (int u = 0; u < TOGETHER; u++) {
            size_t i = at + (size_t)u * LANES_ROWS + lane / GROUP;
            rows[u] = row_at(j.rows, i < end ? i : first);
        }
        UNROLL_4
        for (size_t d = piece * (lane % GROUP); d < dim; d += piece * GROUP)
            UNROLL
            for (int u = 0; u < TOGETHER; u++)
                sums[u] = add_piece(matrix + rows[u] * dim, query, d, dim, sums[u]);
        UNROLL
        for (int u = 0; u < TOGETHER; u++) {
            size_t i = at + (size_t)u * LANES_ROWS + lane / GROUP;
            float score = whole(sums[u], j.rows, rows[u]);
            bool may = i < end && (!allowed || mask[(i - first) / 64] >> i % 64 & 1);
            if (!may)
                score = -INFINITY;
            best = fmaxf(best, score);
            if (i < end && lane % GROUP == 0)
                j.scores[i] = score;
        }
    }
    best = warp_max(best);
    if (lane == 0)
        maxima[warp] = best;
    __syncthreads();
    if (threadIdx.x < WARPS / warps) {
        for (unsigned w = 0; w < warps; w++)
            best = w ? fmaxf(best, maxima[threadIdx.x * warps + w]) : maxima[threadIdx.x * warps];
        j.maxima[blockIdx.x * (WARPS / warps) + threadIdx.x] = best;
    }
}

// ---- the answer ---------------------------------------------------------------------------------

__device__ inline void tell(const search_single &j, unsigned found, enum search_state state)
{
    __syncthreads();            // who wrote hits has done so
    if (threadIdx.x != 0)
        return;
    *j.answers.found = found;
    *j.answers.state = state;
    __threadfence_system();
    if (j.ticket)
        *static_cast<volatile uint32_t *>(j.ticket) = j.number;
}

__global__ void __launch_bounds__(THREADS)
    pick_kernel(search_single j, size_t subsets, search_given given)
{
    SHARED(uint64_t, keys);             // [ONE_ROOM], the candidates, in the end
    float *query = reinterpret_cast<float *>(keys + ONE_ROOM);
    unsigned *counters = reinterpret_cast<unsigned *>(query + j.rows.dim);
    unsigned *shared = counters + SELECT_COUNTERS;      // rows held; whether this block is the last
    uint32_t *bests = reinterpret_cast<uint32_t *>(keys);               // [subsets], at first
    uint32_t *held = reinterpret_cast<uint32_t *>(keys);                // [THREADS], then
    const float *from = j.query ? j.query : given.wide;
    for (size_t i = threadIdx.x; i < j.rows.dim; i += THREADS)
        query[i] = from[i];
    for (size_t i = threadIdx.x; i < subsets; i += THREADS)
        bests[i] = ordered(j.maxima[i]);
    __syncthreads();
    uint32_t last = kth_greatest([=](size_t i) { return bests[i]; }, subsets, (unsigned)j.k,
                                 THRESHOLD_LEAST, counters);
    float least = threshold_of(last, j.error);
    size_t stride = (size_t)gridDim.x * THREADS;
    for (size_t first = (size_t)blockIdx.x * THREADS; first < j.rows.listed; first += stride) {
        size_t i = first + threadIdx.x;
        __syncthreads();
        if (threadIdx.x == 0)
            shared[0] = 0;
        __syncthreads();
        float score = i < j.rows.listed ? j.scores[i] : -INFINITY;
        if (score > -INFINITY && score >= least)
            held[atomicAdd(&shared[0], 1)] = row_at(j.rows, i);
        __syncthreads();
        for (unsigned turn = 0; turn < shared[0]; turn += GROUPS) {
            unsigned at = turn + threadIdx.x / GROUP;
            uint32_t row = at < shared[0] ? held[at] : 0;
            float exact = group_dot(j.rows.wide + (size_t)row * j.rows.dim, query, j.rows.dim);
            if (at >= shared[0] || threadIdx.x % GROUP != 0)
                continue;
            unsigned slot = atomicAdd(&j.counters[0], 1);
            if (slot < ONE_ROOM)
                j.candidates[slot] = key_of(exact, row);
        }
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0)
        shared[1] = atomicAdd(&j.counters[1], 1) + 1 == gridDim.x;
    __syncthreads();
    if (!shared[1])
        return;
    // others wrote these: not from this processor's own cache
    const volatile uint64_t *candidates = j.candidates;
    unsigned n = *static_cast<volatile unsigned *>(&j.counters[0]);
    __syncthreads();
    if (threadIdx.x < 2)
        j.counters[threadIdx.x] = 0;
    for (unsigned i = threadIdx.x; i < n && i < ONE_ROOM; i += THREADS)
        keys[i] = candidates[i];
    __syncthreads();
    if (n <= ONE_ROOM)
        rank_keys(keys, n, (unsigned)j.k, j.answers.hits);
    tell(j, n < j.k ? n : (unsigned)j.k, n <= ONE_ROOM ? SEARCH_PROVEN : SEARCH_UNPROVEN);
}

// ---- float32 ------------------------------------------------------------------------------------

enum { DIGITS = 256, ALL_THREADS = 512 };

// One block. The k-th greatest key, eight bits at a time from the top, and those not below it: keys
// differ, so they are k.
__global__ void __launch_bounds__(ALL_THREADS) select_all_kernel(search_single j)
{
    SHARED(uint64_t, keys);             // [SEARCH_DEVICE_K_MAX], to an even number
    unsigned *counts = reinterpret_cast<unsigned *>(keys + SEARCH_DEVICE_K_MAX);    // [DIGITS]
    unsigned *shared = counts + DIGITS;         // digit, those above it, taken
    auto key = [=](size_t i) -> uint64_t {
        return j.scores[i] == -INFINITY ? 0 : key_of(j.scores[i], row_at(j.rows, i));
    };
    uint64_t prefix = 0;
    unsigned wanted = (unsigned)j.k;
    for (int shift = 56; shift >= 0; shift -= 8) {
        for (unsigned i = threadIdx.x; i < DIGITS; i += ALL_THREADS)
            counts[i] = 0;
        __syncthreads();
        for (size_t i = threadIdx.x; i < j.rows.listed; i += ALL_THREADS) {
            uint64_t mine = key(i);
            if (mine && (shift == 56 || mine >> (shift + 8) == prefix >> (shift + 8)))
                atomicAdd(&counts[mine >> shift & 255], 1);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            unsigned above = 0;
            int digit = DIGITS - 1;
            while (digit > 0 && above + counts[digit] < wanted)
                above += counts[digit--];
            shared[0] = (unsigned)digit;
            shared[1] = above;
        }
        __syncthreads();
        prefix |= (uint64_t)shared[0] << shift;
        wanted -= shared[1];            // with fewer than k in all every digit is 0
        __syncthreads();
    }
    if (threadIdx.x == 0)
        shared[2] = 0;
    __syncthreads();
    for (size_t i = threadIdx.x; i < j.rows.listed; i += ALL_THREADS) {
        uint64_t mine = key(i);
        if (!mine || mine < prefix)
            continue;
        unsigned at = atomicAdd(&shared[2], 1);
        if (at < SEARCH_DEVICE_K_MAX)
            keys[at] = mine;
    }
    __syncthreads();
    rank_keys(keys, shared[2], (unsigned)j.k, j.answers.hits);
    tell(j, shared[2], SEARCH_PROVEN);
}

template <typename T>
unsigned start_scores(platform *p, const search_single &j, const T *matrix,
                      const search_given &given)
{
    auto *kernel = scores_kernel<T>;
    size_t words = (j.rows.listed + PART - 1) / PART, most = 4 * platform_processors(p);
    most = most < ONE_SUBSETS ? most : (size_t)ONE_SUBSETS;
    size_t part = (words + most - 1) / most * PART;
    size_t blocks = (j.rows.listed + part - 1) / part;
    unsigned warps = 1;                 // whose best is one number: ONE_SUBSETS in all, at most
    while (blocks * (WARPS / warps) > ONE_SUBSETS && warps < WARPS)
        warps *= 2;
    size_t shared = layout_of(j.rows.dim, part).bytes;
    platform_allow_shared(p, reinterpret_cast<const void *>(kernel), shared);
    LAUNCH(kernel, (unsigned)blocks, THREADS, shared, platform_stream(p), j, matrix, part, warps,
           given);
    return (unsigned)(blocks * (WARPS / warps));
}

}

void search_one(platform *p, const search_single *single, const search_given *factors,
                const search_given *query)
{
    search_single j = *single;
    search_given exact = *query;
    if (j.pass == SEARCH_PASS_FP32) {
        start_scores(p, j, j.rows.wide, exact);
        size_t shared = SEARCH_DEVICE_K_MAX * sizeof(uint64_t) + (DIGITS + 3) * sizeof(unsigned);
        LAUNCH(select_all_kernel, 1, ALL_THREADS, shared, platform_stream(p), j);
    } else {
        unsigned subsets = j.pass == SEARCH_PASS_INT8 ? start_scores(p, j, j.rows.bytes, *factors)
                                                      : start_scores(p, j, j.rows.narrow, exact);
        size_t blocks = (j.rows.listed + 4 * THREADS - 1) / (4 * THREADS);
        size_t processors = platform_processors(p);
        size_t shared = ONE_ROOM * sizeof(uint64_t) + j.rows.dim * sizeof(float)
                        + (SELECT_COUNTERS + 2) * sizeof(unsigned);
        LAUNCH(pick_kernel, (unsigned)(blocks < processors ? blocks : processors), THREADS, shared,
               platform_stream(p), j, (size_t)subsets, exact);
    }
    platform_started(p, "a search");
}
