// Many queries at once: a block keeps a tile of queries in shared memory and streams its part of
// the rows past them on tensor cores. Scores never leave the registers but for survivors: those not
// below the query's threshold. That is found before, from the same product over a sample of the
// rows, of which each lane keeps the best of the few that it has: the k-th greatest of these bests
// is no greater than that of all rows. In which order survivors come decides nothing.
#include "compute/cuda/search_cuda.cuh"

namespace {

// A tile of rows; bytes of each that are a stage; survivors that a query has room for in a block.
enum { ROWS = 128, DEPTH = 128, CHUNKS = DEPTH / 16, STAGES = 3, WAITING = 32 };
enum { WARPS_N = 4, COLUMNS = ROWS / WARPS_N, TILES_N = COLUMNS / 8 };
enum { SUBSETS = WARPS_N * 4 };     // of a tile: each four lanes of a warp that share a query
enum { FEWER_AFTER = 64 };          // results
enum { ROOM = 4096, UNSAMPLED = 2048 };     // survivors of a query; rows

template <typename T> struct arithmetic;
template <> struct arithmetic<half_t> { typedef float sum; };
template <> struct arithmetic<int8_t> { typedef int32_t sum; };

__device__ inline void multiply(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    warp_multiply<half_t>(c, a, b);
}

__device__ inline void multiply(int32_t c[4], const uint32_t a[4], const uint32_t b[2])
{
    warp_multiply_bytes<int8_t>(c, a, b);
}

__device__ inline const unsigned char *matrix_of(const search_rows &rows, half_t)
{
    return reinterpret_cast<const unsigned char *>(rows.narrow);
}

__device__ inline const unsigned char *matrix_of(const search_rows &rows, int8_t)
{
    return reinterpret_cast<const unsigned char *>(rows.bytes);
}

__device__ inline const unsigned char *matrix_of(const search_queries &queries, half_t)
{
    return reinterpret_cast<const unsigned char *>(queries.narrow);
}

__device__ inline const unsigned char *matrix_of(const search_queries &queries, int8_t)
{
    return reinterpret_cast<const unsigned char *>(queries.bytes);
}

template <typename T, int Q> struct tiling {
    enum { QUERIES = Q, TILES_M = Q >= 64 ? 4 : 2, WARPS_M = Q / (16 * TILES_M) };
    enum { WARPS = WARPS_M * WARPS_N, THREADS = 32 * WARPS, STAGE_BYTES = ROWS * DEPTH };
    static_assert(THREADS >= Q, "a thread for each query's mask");
};

size_t depth_of(size_t bytes)
{
    return (bytes + DEPTH - 1) / DEPTH * DEPTH;
}

// What a block shares, one behind the other.
struct shared_layout {
    size_t queries, stages, thresholds, bits, counts, bytes;
};

__host__ __device__ inline shared_layout layout_of(int queries, size_t depth)
{
    shared_layout l;
    l.queries = (size_t)queries * WAITING * sizeof(uint64_t);   // behind the survivors
    l.stages = l.queries + (size_t)queries * depth;
    l.thresholds = l.stages + STAGES * ROWS * DEPTH;
    l.bits = l.thresholds + (size_t)queries * sizeof(float);
    l.counts = l.bits + (size_t)queries * ROWS / 8;
    l.bytes = l.counts + (size_t)(queries + 1) * sizeof(unsigned);
    return l;
}

// Sixteen bytes number `chunk` of row `row` of a tile: neighbours below each other in banks of
// their own.
__device__ inline int place(int row, int chunk, int chunks)
{
    return (row * chunks + (chunk ^ (row % 8))) * 16;
}

// The tile of queries, zeros where there are none.
template <int THREADS>
__device__ inline void load_queries(unsigned char *tile, const unsigned char *matrix, size_t bytes,
                                    size_t first, size_t count, int queries, int chunks)
{
    for (int i = (int)threadIdx.x; i < queries * chunks; i += THREADS) {
        int row = i / chunks, chunk = i % chunks;
        bool valid = first + row < count && 16 * (size_t)chunk < bytes;
        copy_async(tile + place(row, chunk, chunks),
                   matrix + (valid ? (first + row) * bytes + 16 * (size_t)chunk : 0), valid);
    }
}

// Part `step` of a tile of rows.
template <int THREADS>
__device__ inline void load_rows(unsigned char *stage, const unsigned char *matrix,
                                 const search_rows &rows, size_t bytes, size_t first, int step)
{
    for (int i = (int)threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
        int row = i / CHUNKS, chunk = i % CHUNKS;
        size_t at = (size_t)step * DEPTH + 16 * (size_t)chunk;
        bool valid = first + row < rows.listed && at < bytes;
        copy_async(stage + place(row, chunk, CHUNKS),
                   matrix + (valid ? row_at(rows, first + row) * bytes + at : 0), valid);
    }
}

// sums [16 TILES_M queries][COLUMNS] += a stage's part
template <typename Tiling, typename Sum>
__device__ inline void multiply_stage(Sum sums[Tiling::TILES_M][TILES_N][4],
                                      const unsigned char *queries, const unsigned char *stage,
                                      int step, int query_chunks, int warp_query, int warp_row)
{
    int lane = (int)(threadIdx.x % 32), matrix = lane / 8;
    UNROLL
    for (int k = 0; k < DEPTH / 32; k++) {
        uint32_t a[Tiling::TILES_M][4];
        UNROLL
        for (int m = 0; m < Tiling::TILES_M; m++)
            warp_load_matrices(a[m], queries + place(warp_query + 16 * m + lane % 16,
                                                     step * CHUNKS + 2 * k + lane / 16,
                                                     query_chunks));
        UNROLL
        for (int n = 0; n < TILES_N; n += 2) {
            uint32_t b[4];
            warp_load_matrices(b, stage + place(warp_row + 8 * n + matrix / 2 * 8 + lane % 8,
                                                2 * k + matrix % 2, CHUNKS));
            UNROLL
            for (int m = 0; m < Tiling::TILES_M; m++) {
                multiply(sums[m][n], a[m], b);
                multiply(sums[m][n + 1], a[m], b + 2);
            }
        }
    }
}

// What a lane has of a tile: its columns' scales, in int8.
template <typename T> struct columns;

template <> struct columns<half_t> {
    __device__ void load(const search_rows &, size_t) {}
    __device__ float score(float sum, int, int) const { return sum; }
    // No less than the greatest score of one query.
    __device__ float bound(const float sums[TILES_N][4], int half) const
    {
        float best = -INFINITY;
        UNROLL
        for (int n = 0; n < TILES_N; n++)
            best = fmaxf(best, fmaxf(sums[n][2 * half], sums[n][2 * half + 1]));
        return best;
    }
};

template <> struct columns<int8_t> {
    float scales[TILES_N][2], most, least;
    __device__ void load(const search_rows &rows, size_t first)
    {
        most = 0;
        least = INFINITY;
        UNROLL
        for (int n = 0; n < TILES_N; n++)
            UNROLL
            for (int j = 0; j < 2; j++) {
                size_t i = first + 8 * n + j;
                scales[n][j] = i < rows.listed ? rows.scales[row_at(rows, i)] : 0;
                most = fmaxf(most, scales[n][j]);
                least = fminf(least, scales[n][j]);
            }
    }
    __device__ float score(int32_t sum, int n, int j) const { return (float)sum * scales[n][j]; }
    __device__ float bound(const int32_t sums[TILES_N][4], int half) const
    {
        int32_t best = INT32_MIN;
        UNROLL
        for (int n = 0; n < TILES_N; n++) {
            best = best > sums[n][2 * half] ? best : sums[n][2 * half];
            best = best > sums[n][2 * half + 1] ? best : sums[n][2 * half + 1];
        }
        return (float)best * (best > 0 ? most : least);
    }
};

__device__ inline void keep(const search_scan &scan, size_t query, uint64_t key)
{
    unsigned at = atomicAdd(&scan.survivor_count[query], 1);
    if (at < scan.room)
        scan.survivors[query * scan.room + at] = key;
}

// What waits for one query goes to memory, by a warp.
__device__ inline void flush(const search_scan &scan, size_t query, const uint64_t *waiting,
                             unsigned *count)
{
    unsigned lane = threadIdx.x % 32, held = *count < WAITING ? *count : (unsigned)WAITING;
    uint32_t at = 0;
    if (lane == 0)
        at = atomicAdd(&scan.survivor_count[query], held);
    at = warp_shuffle(at, 0);
    if (lane < held && at + lane < scan.room)
        scan.survivors[query * scan.room + at + lane] = waiting[lane];
    __syncwarp();
    if (lane == 0)
        *count = 0;
}

// A query's scores of a lane's columns. may: bits of the 32 columns of the warp.
template <typename T, typename Sum>
__device__ inline float best_of(const Sum sums[TILES_N][4], const columns<T> &own, int half, int t,
                                uint32_t may)
{
    float best = -INFINITY;
    UNROLL
    for (int n = 0; n < TILES_N; n++)
        UNROLL
        for (int j = 0; j < 2; j++)
            if (may >> (8 * n + 2 * t + j) & 1)
                best = fmaxf(best, own.score(sums[n][2 * half + j], n, j));
    return best;
}

struct waiting_room {
    uint64_t *keys;             // [WAITING] of the query
    unsigned *count;
    float threshold;
};

template <typename T, typename Sum>
__device__ inline void keep_survivors(const search_scan &scan, size_t query,
                                      const waiting_room &room, const Sum sums[TILES_N][4],
                                      const columns<T> &own, int half, int t, uint32_t may,
                                      size_t column)
{
    UNROLL
    for (int n = 0; n < TILES_N; n++)
        UNROLL
        for (int j = 0; j < 2; j++) {
            float score = own.score(sums[n][2 * half + j], n, j);
            int at = 8 * n + 2 * t + j;
            if (!(score >= room.threshold) || !(may >> at & 1))
                continue;
            uint64_t key = key_of(score, row_at(scan.rows, column + at));
            unsigned slot = atomicAdd(room.count, 1);
            if (slot < WAITING)
                room.keys[slot] = key;
            else
                keep(scan, query, key);
        }
}

template <typename T, int Q, bool SAMPLE>
__global__ void __launch_bounds__(tiling<T, Q>::THREADS) many_kernel(search_scan scan)
{
    typedef tiling<T, Q> Tiling;
    typedef typename arithmetic<T>::sum Sum;
    SHARED(unsigned char, block);
    size_t bytes = scan.rows.dim * sizeof(T), depth = (bytes + DEPTH - 1) / DEPTH * DEPTH;
    shared_layout l = layout_of(Q, depth);
    uint64_t *waiting = reinterpret_cast<uint64_t *>(block);        // [Q][WAITING]
    unsigned char *queries = block + l.queries, *stages = block + l.stages;
    float *thresholds = reinterpret_cast<float *>(block + l.thresholds);
    uint32_t *bits = reinterpret_cast<uint32_t *>(block + l.bits);  // [Q][ROWS / 32]
    unsigned *counts = reinterpret_cast<unsigned *>(block + l.counts), *wanted = counts + Q;
    int thread = (int)threadIdx.x, warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
    int warp_query = warp / WARPS_N * 16 * Tiling::TILES_M, warp_n = warp % WARPS_N;
    size_t query = (size_t)blockIdx.x * Q;
    // tiles of this block, each `stride` of those of the rows after the one before
    size_t tiles = SAMPLE ? scan.sampled : scan.tiles;
    size_t part = (tiles + gridDim.y - 1) / gridDim.y, first = blockIdx.y * part;
    size_t stride = SAMPLE ? scan.tiles / scan.sampled : 1;
    int mine = (int)(first >= tiles ? 0 : tiles - first < part ? tiles - first : part);
    int steps = (int)(depth / DEPTH), query_chunks = (int)(depth / 16), all = mine * steps;
    const unsigned char *matrix = matrix_of(scan.rows, T());
    const uint64_t *mask = nullptr;     // of query number `thread`
    if (thread == 0)
        *wanted = 0;
    __syncthreads();
    if (thread < Q) {
        bool asked = query + thread < scan.queries.count
                     && !(scan.gathered && scan.gathered[query + thread]);
        thresholds[thread] = !asked ? INFINITY : SAMPLE ? 0 : scan.thresholds[query + thread];
        counts[thread] = 0;
        if (asked) {
            mask = mask_for(scan.mask, query + thread);
            atomicAdd(wanted, 1);
        }
    }
    __syncthreads();
    if (*wanted == 0)
        return;
    load_queries<Tiling::THREADS>(queries, matrix_of(scan.queries, T()), bytes, query,
                                  scan.queries.count, Q, query_chunks);
    int loaded = 0, loaded_step = 0;    // stages asked for; which part of its tile the next one is
    size_t loaded_row = first * stride * ROWS;
    auto load_next = [&] {
        if (loaded < all)
            load_rows<Tiling::THREADS>(stages + loaded % STAGES * Tiling::STAGE_BYTES, matrix,
                                       scan.rows, bytes, loaded_row, loaded_step);
        copy_commit();
        loaded++;
        if (++loaded_step == steps) {
            loaded_step = 0;
            loaded_row += stride * ROWS;
        }
    };
    for (int i = 0; i < STAGES - 1; i++)
        load_next();
    Sum sums[Tiling::TILES_M][TILES_N][4] = {};
    columns<T> own;
    uint64_t allowed[2] = {~0ull, ~0ull};
    size_t row = first * stride * ROWS;
    for (int at = 0, step = 0; at < all; at++) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        if (step == 0) {
            own.load(scan.rows, row + warp_n * COLUMNS + 2 * t);
            if (mask)
                for (size_t i = 0; i < 2; i++)
                    allowed[i] = row / 64 + i < scan.mask.words ? mask[row / 64 + i] : 0;
            for (int q = warp; !SAMPLE && q < Q; q += Tiling::WARPS)
                if (counts[q] > WAITING / 2)
                    flush(scan, query + q, waiting + q * WAITING, &counts[q]);
        }
        load_next();
        multiply_stage<Tiling>(sums, queries, stages + at % STAGES * Tiling::STAGE_BYTES, step,
                               query_chunks, warp_query, warp_n * COLUMNS);
        if (++step < steps)
            continue;
        step = 0;
        if (thread < Q)
            for (int i = 0; i < 4; i++)
                bits[4 * thread + i] = (uint32_t)(allowed[i / 2] >> 32 * (i % 2));
        __syncthreads();
        size_t column = row + warp_n * COLUMNS;
        size_t left = scan.rows.listed > column ? scan.rows.listed - column : 0;
        uint32_t there = left >= COLUMNS ? ~0u : (1u << left) - 1;
        UNROLL
        for (int m = 0; m < Tiling::TILES_M; m++)
            UNROLL
            for (int half = 0; half < 2; half++) {
                int q = warp_query + 16 * m + 8 * half + g;
                uint32_t may = bits[4 * q + warp_n] & there;
                if (SAMPLE && query + q < scan.queries.count)
                    scan.maxima[(query + q) * scan.subsets + row / (stride * ROWS) * SUBSETS
                                + warp_n * 4 + t] = best_of(sums[m], own, half, t, may);
                if (!SAMPLE && own.bound(sums[m], half) >= thresholds[q])
                    keep_survivors(scan, query + q,
                                   waiting_room{waiting + q * WAITING, &counts[q], thresholds[q]},
                                   sums[m], own, half, t, may, column);
                UNROLL
                for (int n = 0; n < TILES_N; n++)
                    sums[m][n][2 * half] = sums[m][n][2 * half + 1] = 0;
            }
        row += stride * ROWS;
    }
    copy_wait<0>();
    __syncthreads();
    for (int q = warp; !SAMPLE && q < Q; q += Tiling::WARPS)
        if (counts[q])
            flush(scan, query + q, waiting + q * WAITING, &counts[q]);
}

template <typename T, int Q, bool SAMPLE> void start(platform *p, const search_scan &scan)
{
    auto *kernel = many_kernel<T, Q, SAMPLE>;
    size_t shared = layout_of(Q, depth_of(scan.rows.dim * sizeof(T))).bytes;
    size_t blocks = (scan.queries.count + Q - 1) / Q, tiles = SAMPLE ? scan.sampled : scan.tiles;
    size_t processors = platform_processors(p);
    size_t each = blocks < processors ? processors / blocks : 1;   // one fits on each
    platform_allow_shared(p, reinterpret_cast<const void *>(kernel), shared);
    LAUNCH(kernel, dim3((unsigned)blocks, (unsigned)(each < tiles ? each : tiles)),
           (tiling<T, Q>::THREADS), shared, platform_stream(p), scan);
    platform_started(p, "a search");
}

// Queries of a block: enough for those that there are, and no more than its shared memory has room
// for; 0: not even a few.
size_t block_queries(const platform *p, const search_scan *scan)
{
    size_t depth = depth_of(scan->rows.dim * (scan->int8 ? sizeof(int8_t) : sizeof(half_t)));
    size_t most = scan->queries.count <= 32 ? 32 : scan->queries.count <= 64 ? 64 : 128;
    while (most >= 32 && layout_of((int)most, depth).bytes > platform_shared_bytes(p))
        most /= 2;
    return most >= 32 ? most : 0;
}

template <bool SAMPLE> void start_any(platform *p, const search_scan &scan)
{
    size_t queries = block_queries(p, &scan);
    if (scan.int8 && queries == 128)
        start<int8_t, 128, SAMPLE>(p, scan);
    else if (scan.int8 && queries == 64)
        start<int8_t, 64, SAMPLE>(p, scan);
    else if (scan.int8)
        start<int8_t, 32, SAMPLE>(p, scan);
    else if (queries == 128)
        start<half_t, 128, SAMPLE>(p, scan);
    else if (queries == 64)
        start<half_t, 64, SAMPLE>(p, scan);
    else
        start<half_t, 32, SAMPLE>(p, scan);
}

}

// So many rows are sampled that about a quarter of `planned` are not below the threshold: a sample
// of s of n rows whose k-th best is the threshold leaves k n / s. There is room for many more,
// since the error of the pass adds to them and rows do not lie at random. With few rows all
// survive.
bool search_many_plan(const platform *p, search_scan *scan)
{
    size_t n = scan->rows.listed, k = scan->k, planned = k <= FEWER_AFTER ? 1024 : 4096;
    scan->room = ROOM;
    scan->tiles = (n + ROWS - 1) / ROWS;
    size_t wanted = (4 * k * n / planned + ROWS - 1) / ROWS, least = 2 * k / SUBSETS + 1;
    scan->sampled = n <= UNSAMPLED ? 0 : wanted > least ? wanted : least;
    scan->sampled = scan->sampled < scan->tiles ? scan->sampled : scan->tiles;
    scan->subsets = scan->sampled * SUBSETS;
    return block_queries(p, scan) > 0;
}

void search_many_sample(platform *p, const search_scan *scan)
{
    if (scan->sampled)
        start_any<true>(p, *scan);
}

void search_many(platform *p, const search_scan *scan)
{
    start_any<false>(p, *scan);
}
