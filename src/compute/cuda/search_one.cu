// One query: the rows stream past once, eight lanes a row, so the time is that of reading them.
// Each warp keeps its best; a block joins those of its warps. And the end of every search: lists
// are joined, and float32 scores decide.
#include "compute/cuda/search_cuda.cuh"

namespace {

enum { WARPS = 8, THREADS = 32 * WARPS, GROUP = 8, ROWS = 32 / GROUP };
enum { UNROLLED = 2 };          // rows of a group in flight

// The inner product of a row with a query in shared memory, by the eight lanes of a group, each
// with every eighth piece: the same bits wherever the row lies. All lanes return it.
__device__ inline float add_eight(const half_t *row, const float *query, size_t at, float sum)
{
    uint4 piece = *reinterpret_cast<const uint4 *>(row + at);
    const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
    UNROLL
    for (int i = 0; i < 4; i++) {
        sum = fmaf(low_half(words[i]), query[at + 2 * i], sum);
        sum = fmaf(high_half(words[i]), query[at + 2 * i + 1], sum);
    }
    return sum;
}

__device__ inline float add_eight(const float *row, const float *query, size_t at, float sum)
{
    UNROLL
    for (int i = 0; i < 8; i++)
        sum = fmaf(row[at + i], query[at + i], sum);
    return sum;
}

template <typename T>
__device__ inline float group_dot(const T *row, const float *query, size_t dim)
{
    int lane = (int)(threadIdx.x % 32);
    float sum = 0;
    for (size_t at = 8 * (size_t)(lane % GROUP); at < dim; at += 8 * GROUP)
        sum = add_eight(row, query, at, sum);
    for (int step = GROUP / 2; step > 0; step /= 2)
        sum += warp_shuffle(sum, lane ^ step);
    return sum;
}

// The best of a warp: up to KEYS keys in shared memory, of which the first `kept` stay when they are
// cut.
struct best {
    uint64_t *keys;
    unsigned count, kept;
    float threshold;
};

template <int KEYS> __device__ inline void best_cut(best &b)
{
    enum { LANE = KEYS / 32 };
    unsigned lane = threadIdx.x % 32;
    uint64_t keys[LANE];
    __syncwarp();
    UNROLL
    for (unsigned i = 0; i < LANE; i++)
        keys[i] = 32 * i + lane < b.count ? b.keys[32 * i + lane] : 0;
    if (b.count > 0)                    // the same in all lanes
        sort_keys<LANE>(keys);
    __syncwarp();
    UNROLL
    for (unsigned i = 0; i < LANE; i++)
        b.keys[32 * i + lane] = keys[i];
    __syncwarp();
    uint64_t last = b.keys[b.kept - 1];
    b.count = b.count < b.kept ? b.count : b.kept;
    b.threshold = last ? key_score(last) : -INFINITY;
}

// Each lane brings one key or none (0).
template <int KEYS> __device__ inline void best_add(best &b, uint64_t key)
{
    uint32_t lane = threadIdx.x % 32, yes = warp_ballot(key != 0);
    if (!yes)
        return;
    if (key)
        b.keys[b.count + (unsigned)count_bits(yes & ((1u << lane) - 1))] = key;
    b.count += (unsigned)count_bits(yes);
    if (b.count > KEYS - 32)
        best_cut<KEYS>(b);
}

// The block's warps' best to the first warp's.
template <int KEYS> __device__ inline void join(best &b, uint64_t *all)
{
    unsigned lane = threadIdx.x % 32;
    best_cut<KEYS>(b);
    __syncthreads();
    if (threadIdx.x / 32 != 0)
        return;
    for (unsigned w = 1; w < WARPS; w++)
        for (unsigned i = 0; i < b.kept; i += 32)
            best_add<KEYS>(b, i + lane < b.kept ? all[w * KEYS + i + lane] : 0);
    best_cut<KEYS>(b);
}

template <int KEYS> __device__ inline best best_begin(uint64_t *all, unsigned kept)
{
    return {all + threadIdx.x / 32 * KEYS, 0, kept, -INFINITY};
}

template <typename T, int KEYS>
__global__ void __launch_bounds__(THREADS) one_kernel(const T *rows, size_t count, size_t dim,
                                                      const float *query, size_t number,
                                                      search_mask mask, unsigned kept,
                                                      uint64_t *out)
{
    SHARED(uint64_t, keys);             // [WARPS][KEYS]
    float *shared_query = reinterpret_cast<float *>(keys + WARPS * KEYS);
    for (size_t i = threadIdx.x; i < dim; i += THREADS)
        shared_query[i] = query[i];
    __syncthreads();
    unsigned lane = threadIdx.x % 32;
    const uint64_t *allowed = mask_for(mask, number);
    best b = best_begin<KEYS>(keys, kept);
    size_t each = (size_t)ROWS * UNROLLED, stride = (size_t)gridDim.x * WARPS * each;
    for (size_t first = ((size_t)blockIdx.x * WARPS + threadIdx.x / 32) * each; first < count;
         first += stride) {
        float scores[UNROLLED];
        UNROLL
        for (int u = 0; u < UNROLLED; u++) {
            size_t row = first + (size_t)u * ROWS + lane / GROUP;
            scores[u] = group_dot(rows + (row < count ? row : 0) * dim, shared_query, dim);
        }
        UNROLL
        for (int u = 0; u < UNROLLED; u++) {
            size_t row = first + (size_t)u * ROWS + lane / GROUP;
            bool found = lane % GROUP == 0 && row < count && scores[u] > b.threshold
                         && passes(allowed, (uint32_t)row);
            best_add<KEYS>(b, found ? key_of(scores[u], (uint32_t)row) : 0);
        }
    }
    join<KEYS>(b, keys);
    if (threadIdx.x < 32)
        for (unsigned i = lane; i < kept; i += 32)
            out[blockIdx.x * kept + i] = i < b.count ? keys[i] : 0;
}

struct merge_job {
    search_rows rows;
    const float *queries, *error;
    const uint64_t *lists;
    size_t list_count, kept, k;
    struct hit *hits;
    uint32_t *found, *proven;
};

template <int KEYS>
__global__ void __launch_bounds__(THREADS) merge_kernel(merge_job j)
{
    SHARED(uint64_t, keys);             // [WARPS][KEYS]
    float *query = reinterpret_cast<float *>(keys + WARPS * KEYS);
    size_t number = blockIdx.x, dim = j.rows.dim, all = j.list_count * j.kept;
    const uint64_t *lists = j.lists + number * all;
    unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (size_t i = threadIdx.x; i < dim; i += THREADS)
        query[i] = j.queries[number * dim + i];
    best b = best_begin<KEYS>(keys, (unsigned)j.kept);
    for (size_t i = 32 * warp; i < all; i += THREADS)
        best_add<KEYS>(b, i + lane < all ? lists[i + lane] : 0);
    join<KEYS>(b, keys);                      // the first warp's keys
    __syncthreads();
    // Whatever is not among them has at most the score of the last one.
    uint64_t last = keys[j.kept - 1];
    __syncthreads();
    for (unsigned i = warp * ROWS; i < j.kept; i += WARPS * ROWS) {
        unsigned at = i + lane / GROUP;
        uint64_t key = at < j.kept ? keys[at] : 0;
        uint32_t row = key ? key_row(key) : 0;
        float score = group_dot(j.rows.wide + row * dim, query, dim);
        if (key && lane % GROUP == 0)
            keys[at] = key_of(score, row);
    }
    __syncthreads();
    if (warp != 0)
        return;
    b.count = (unsigned)j.kept;
    best_cut<KEYS>(b);
    unsigned found = 0;
    for (unsigned i = lane; i < j.kept; i += 32)
        if (i < j.k && keys[i]) {
            j.hits[number * j.k + i].score = key_score(keys[i]);
            j.hits[number * j.k + i].row = key_row(keys[i]);
        }
    while (found < j.k && found < j.kept && keys[found])
        found++;
    if (lane == 0) {
        j.found[number] = found;
        j.proven[number] = !last || key_score(keys[j.k - 1]) > key_score(last) + j.error[number];
    }
}

enum { NARROW_WARPS = 4 };

__global__ void __launch_bounds__(32 * NARROW_WARPS)
    narrow_kernel(const float *queries, size_t count, size_t dim, float margin, half_t *narrow,
                  float *error)
{
    size_t query = (size_t)blockIdx.x * NARROW_WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (query >= count)
        return;
    float squares = 0;
    for (size_t i = lane; i < dim; i += 32) {
        float x = queries[query * dim + i];
        narrow[query * dim + i] = from_float<half_t>(x);
        squares = fmaf(x, x, squares);
    }
    squares = warp_sum(squares);
    if (lane == 0)
        error[query] = margin * sqrtf(squares);
}

template <int KEYS> size_t shared_bytes(size_t dim)
{
    return (size_t)WARPS * KEYS * sizeof(uint64_t) + dim * sizeof(float);
}

template <typename T, int KEYS>
void start_one(platform *p, const T *matrix, const search_rows *rows, const float *query,
               size_t number, const search_mask *mask, size_t kept, uint64_t *out)
{
    auto *kernel = one_kernel<T, KEYS>;
    LAUNCH(kernel, SEARCH_ONE_LISTS, THREADS, shared_bytes<KEYS>(rows->dim), platform_stream(p),
           matrix, rows->count, rows->dim, query, number, *mask, (unsigned)kept, out);
}

template <int KEYS> void start_merge(platform *p, const merge_job &j, size_t queries)
{
    auto *kernel = merge_kernel<KEYS>;
    LAUNCH(kernel, (unsigned)queries, THREADS, shared_bytes<KEYS>(j.rows.dim), platform_stream(p),
           j);
}

// As the rows, narrow or wide.
template <typename T>
void start_one_kept(platform *p, const T *matrix, const search_rows *rows, const float *query,
                    size_t number, const search_mask *mask, size_t kept, uint64_t *out)
{
    if (kept > 64)
        start_one<T, warp_keys(256)>(p, matrix, rows, query, number, mask, kept, out);
    else
        start_one<T, warp_keys(64)>(p, matrix, rows, query, number, mask, kept, out);
}

}

void search_narrow(platform *p, const float *queries, size_t count, size_t dim, float margin,
                   half_t *narrow, float *error)
{
    LAUNCH(narrow_kernel, (unsigned)((count + NARROW_WARPS - 1) / NARROW_WARPS), 32 * NARROW_WARPS,
           0, platform_stream(p), queries, count, dim, margin, narrow, error);
    platform_started(p, "the narrowing of queries");
}

void search_one(platform *p, const search_rows *rows, const float *query, size_t number,
                const search_mask *mask, size_t kept, bool exact, uint64_t *out)
{
    if (exact)
        start_one_kept(p, rows->wide, rows, query, number, mask, kept, out);
    else
        start_one_kept(p, rows->narrow, rows, query, number, mask, kept, out);
    platform_started(p, "a search");
}

void search_merge(platform *p, const search_rows *rows, const float *queries, size_t query_count,
                  const uint64_t *lists, size_t list_count, size_t kept, size_t k,
                  const float *error, struct hit *hits, uint32_t *found, uint32_t *proven)
{
    merge_job j = {*rows, queries, error, lists, list_count, kept, k, hits, found, proven};
    if (kept > 64)
        start_merge<warp_keys(256)>(p, j, query_count);
    else
        start_merge<warp_keys(64)>(p, j, query_count);
    platform_started(p, "the end of a search");
}
