// Many queries at once: a block keeps a tile of queries in shared memory and streams its part of
// the rows past them on tensor cores. Scores never leave the registers but for survivors: those
// above the query's threshold, which rises whenever its buffer is cut to the best. The order in
// which threads put survivors down decides nothing, since the cut is by key.
#include "compute/cuda/search_cuda.cuh"

namespace {

enum { DEPTH = 64, CHUNKS = DEPTH / 8, ROWS = 64, STAGES = 3 };

// QUERIES of a block, KEPT best of each, room for CAPACITY candidates.
template <int Q, int K, int C> struct tiling {
    enum { QUERIES = Q, KEPT = K, CAPACITY = C, WARPS_M = Q / 32, WARPS_N = Q == 128 ? 2 : 4 };
    enum { WARPS = WARPS_M * WARPS_N, THREADS = 32 * WARPS, WARP_ROWS = ROWS / WARPS_N };
    enum { ROW_TILES = WARP_ROWS / 8, STAGE_NUMBERS = ROWS * DEPTH, LANE = warp_keys(K) / 32 };
    static_assert(K + ROWS <= C && C <= 32 * LANE, "a tile of rows always finds room");
    static size_t shared(size_t dim)
    {
        return sizeof(uint64_t) * Q * C + sizeof(half_t) * (Q * dim + STAGES * STAGE_NUMBERS)
               + 2 * sizeof(float) * Q;
    }
};

struct job {
    search_rows rows;
    search_mask mask;
    const half_t *queries;      // [query_count][dim]
    size_t query_count, lists;
    uint64_t *out;              // [query_count][lists][KEPT]
};

// Chunk `chunk` of row `row` of a tile with rows of `chunks` chunks: neighbours below each other in
// banks of their own.
__device__ inline int place(int row, int chunk, int chunks)
{
    return (row * chunks + (chunk ^ (row % 8))) * 8;
}

template <int THREADS>
__device__ inline void load(half_t *tile, const half_t *matrix, size_t stride, size_t first,
                            size_t end, size_t column, int rows, int chunks)
{
    for (int i = (int)threadIdx.x; i < rows * chunks; i += THREADS) {
        int row = i / chunks, chunk = i % chunks;
        bool valid = first + row < end;
        copy_async(tile + place(row, chunk, chunks),
                   matrix + (valid ? first + row : 0) * stride + column + 8 * chunk, valid);
    }
}

// scores [32 queries][WARP_ROWS] += a stage's part
template <typename Tiling>
__device__ inline void multiply(float scores[2][Tiling::ROW_TILES][4], const half_t *queries,
                                const half_t *stage, int step, int query_chunks, int warp_query,
                                int warp_row)
{
    int lane = (int)(threadIdx.x % 32), matrix = lane / 8;
    UNROLL
    for (int k = 0; k < DEPTH / 16; k++) {
        uint32_t a[2][4], b[4];
        UNROLL
        for (int m = 0; m < 2; m++)
            warp_load_matrices(a[m], queries + place(warp_query + 16 * m + lane % 16,
                                                     step * CHUNKS + 2 * k + lane / 16,
                                                     query_chunks));
        UNROLL
        for (int n = 0; n < Tiling::ROW_TILES; n += 2) {
            warp_load_matrices(b, stage + place(warp_row + 8 * n + matrix / 2 * 8 + lane % 8,
                                                2 * k + matrix % 2, CHUNKS));
            UNROLL
            for (int m = 0; m < 2; m++) {
                warp_multiply<half_t>(scores[m][n], a[m], b);
                warp_multiply<half_t>(scores[m][n + 1], a[m], b + 2);
            }
        }
    }
}

// A query's buffer to its KEPT best, which then stand first; by a warp.
template <typename Tiling>
__device__ inline void cut(uint64_t *buffer, unsigned *count, float *threshold)
{
    unsigned lane = threadIdx.x % 32, held = *count;
    uint64_t keys[Tiling::LANE];
    UNROLL
    for (unsigned i = 0; i < Tiling::LANE; i++)
        keys[i] = 32 * i + lane < held ? buffer[32 * i + lane] : 0;
    sort_keys<Tiling::LANE>(keys);
    __syncwarp();
    UNROLL
    for (unsigned i = 0; i < Tiling::LANE; i++) {
        unsigned at = 32 * i + lane;
        if (at < Tiling::KEPT)
            buffer[at] = keys[i];
        if (at == Tiling::KEPT - 1 && keys[i])
            *threshold = key_score(keys[i]);
    }
    if (lane == 0)
        *count = held < Tiling::KEPT ? held : (unsigned)Tiling::KEPT;
}

template <typename Tiling>
__global__ void __launch_bounds__(Tiling::THREADS) many_kernel(job j)
{
    SHARED(uint64_t, buffers);          // [QUERIES][CAPACITY]
    half_t *queries = reinterpret_cast<half_t *>(buffers + Tiling::QUERIES * Tiling::CAPACITY);
    half_t *stages = queries + Tiling::QUERIES * j.rows.dim;
    float *thresholds = reinterpret_cast<float *>(stages + STAGES * Tiling::STAGE_NUMBERS);
    unsigned *counts = reinterpret_cast<unsigned *>(thresholds + Tiling::QUERIES);
    int warp = (int)(threadIdx.x / 32), lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    int warp_query = warp / Tiling::WARPS_N * 32;
    int warp_row = warp % Tiling::WARPS_N * Tiling::WARP_ROWS;
    size_t query = (size_t)blockIdx.x * Tiling::QUERIES;
    size_t part = ((j.rows.count + j.lists - 1) / j.lists + ROWS - 1) / ROWS * ROWS;
    size_t first = blockIdx.y * part, end = first + part < j.rows.count ? first + part
                                                                        : j.rows.count;
    int steps = (int)(j.rows.dim / DEPTH), query_chunks = (int)(j.rows.dim / 8);
    int tiles = first < end ? (int)((end - first + ROWS - 1) / ROWS) : 0, all = tiles * steps;
    for (int i = (int)threadIdx.x; i < Tiling::QUERIES; i += Tiling::THREADS) {
        thresholds[i] = -INFINITY;
        counts[i] = 0;
    }
    load<Tiling::THREADS>(queries, j.queries, j.rows.dim, query, j.query_count, 0,
                          Tiling::QUERIES, query_chunks);
    for (int step = 0; step < STAGES - 1; step++) {
        if (step < all)
            load<Tiling::THREADS>(stages + step * Tiling::STAGE_NUMBERS, j.rows.narrow, j.rows.dim,
                                  first + step / steps * ROWS, end, step % steps * DEPTH, ROWS,
                                  CHUNKS);
        copy_commit();
    }
    const uint64_t *masks[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        size_t q = query + warp_query + 8 * i + g;
        masks[i] = q < j.query_count ? mask_for(j.mask, q) : nullptr;
    }
    float scores[2][Tiling::ROW_TILES][4] = {};
    for (int step = 0; step < all; step++) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        int next = step + STAGES - 1;
        if (next < all)
            load<Tiling::THREADS>(stages + next % STAGES * Tiling::STAGE_NUMBERS, j.rows.narrow,
                                  j.rows.dim, first + next / steps * ROWS, end,
                                  next % steps * DEPTH, ROWS, CHUNKS);
        copy_commit();
        multiply<Tiling>(scores, queries, stages + step % STAGES * Tiling::STAGE_NUMBERS,
                         step % steps, query_chunks, warp_query, warp_row);
        if (step % steps != steps - 1)
            continue;
        UNROLL
        for (int m = 0; m < 2; m++)
            UNROLL
            for (int n = 0; n < Tiling::ROW_TILES; n++)
                UNROLL
                for (int i = 0; i < 4; i++) {
                    int q = warp_query + 16 * m + 8 * (i / 2) + g;
                    size_t row = first + step / steps * ROWS + warp_row + 8 * n + 2 * t + i % 2;
                    float score = scores[m][n][i];
                    scores[m][n][i] = 0;
                    if (score > thresholds[q] && row < end
                        && passes(masks[2 * m + i / 2], (uint32_t)row))
                        buffers[q * Tiling::CAPACITY + atomicAdd(&counts[q], 1)]
                            = key_of(score, (uint32_t)row);
                }
        __syncthreads();
        for (int q = warp; q < Tiling::QUERIES; q += Tiling::WARPS)
            if (counts[q] > (unsigned)(Tiling::CAPACITY - ROWS))
                cut<Tiling>(buffers + q * Tiling::CAPACITY, &counts[q], &thresholds[q]);
    }
    copy_wait<0>();
    __syncthreads();
    for (int q = warp; q < Tiling::QUERIES && query + q < j.query_count; q += Tiling::WARPS) {
        uint64_t *buffer = buffers + q * Tiling::CAPACITY;
        cut<Tiling>(buffer, &counts[q], &thresholds[q]);
        __syncwarp();
        for (int i = lane; i < Tiling::KEPT; i += 32)
            j.out[((query + q) * j.lists + blockIdx.y) * Tiling::KEPT + i]
                = i < (int)counts[q] ? buffer[i] : 0;
    }
}

template <typename Tiling> void start(platform *p, const job &j)
{
    auto *kernel = many_kernel<Tiling>;
    size_t shared = Tiling::shared(j.rows.dim);
    platform_allow_shared(p, reinterpret_cast<const void *>(kernel), shared);
    dim3 grid((unsigned)((j.query_count + Tiling::QUERIES - 1) / Tiling::QUERIES),
              (unsigned)j.lists);
    LAUNCH(kernel, grid, Tiling::THREADS, shared, platform_stream(p), j);
    platform_started(p, "a search");
}

typedef tiling<32, 256, 512> widest;

// Queries of a block: as many as leave room for rows and candidates.
size_t block_queries(const platform *p, size_t dim, size_t kept)
{
    if (kept > 64)
        return 32;
    if (kept <= 16 && dim <= 384
        && tiling<128, 16, 96>::shared(dim) <= platform_shared_bytes(p))
        return 128;
    return dim <= 768 && tiling<64, 16, 128>::shared(dim) <= platform_shared_bytes(p) ? 64 : 32;
}

template <int Q, int C> void start_kept(platform *p, const job &j, size_t kept)
{
    if (kept == 16)
        start<tiling<Q, 16, C>>(p, j);
    else if (kept == 32)
        start<tiling<Q, 32, 128>>(p, j);
    else
        start<tiling<Q, 64, 128>>(p, j);
}

}

// As many blocks as the card has processors: one fits on each.
size_t search_many_lists(const platform *p, size_t queries, size_t dim, size_t kept)
{
    size_t each = block_queries(p, dim, kept), tiles = (queries + each - 1) / each;
    size_t processors = platform_processors(p);
    return tiles < processors ? processors / tiles : 1;
}

bool search_many_fits(const platform *p, size_t dim, size_t kept)
{
    return kept <= 64 || widest::shared(dim) <= platform_shared_bytes(p);
}

void search_many(platform *p, const search_rows *rows, const half_t *queries, size_t query_count,
                 const search_mask *mask, size_t kept, size_t lists, uint64_t *out)
{
    job j = {*rows, *mask, queries, query_count, lists, out};
    size_t each = block_queries(p, rows->dim, kept);
    if (kept > 64)
        start<widest>(p, j);
    else if (each == 128)
        start<tiling<128, 16, 96>>(p, j);
    else if (each == 64)
        start_kept<64, 128>(p, j, kept);
    else
        start_kept<32, 128>(p, j, kept);
}
