// What linear maps in fp16 and in eight bits have in common: tiles of both factors come by
// cp.async, the next while one is multiplied, into swizzled shared memory; the ends of a kernel
// write whole tiles, after LayerNorm where the block has whole rows. A tile is 128 bytes deep: 64
// fp16 numbers or 128 bytes, whose fragments lie alike (PTX ISA, mma.m16n8k16 and mma.m16n8k32).
#pragma once

#include "compute/cuda/encode_cuda.cuh"

namespace {

enum { DEPTH_BYTES = 128, CHUNK_BYTES = 16, CHUNKS = DEPTH_BYTES / CHUNK_BYTES };
enum { PRODUCT_BYTES = 32, PRODUCTS = DEPTH_BYTES / PRODUCT_BYTES };    // of a warp's instruction

// A block's tile of the result and its warps' parts.
template <int M, int N, int WM, int WN, int S> struct tiling {
    enum { ROWS = M, COLS = N, WARPS_M = WM, WARPS_N = WN, STAGES = S };
    enum { THREADS = 32 * WM * WN, WARP_ROWS = M / WM, WARP_COLS = N / WN };
    enum { ROW_TILES = WARP_ROWS / 16, COL_TILES = WARP_COLS / 8 };
    enum { STAGE_BYTES = (M + N) * DEPTH_BYTES, OUT_STRIDE = N + 8, BYTE_STRIDE = N + 16 };
    enum { ROW_TOTALS = 4 };
    static_assert(WARP_ROWS % 16 == 0 && WARP_COLS % 16 == 0, "whole products");
    // stages, and where they were a tile of halves, totals of rows, a tile of bytes
    __host__ __device__ static size_t shared()
    {
        size_t stages = (size_t)STAGES * STAGE_BYTES;
        size_t out = (size_t)ROWS * OUT_STRIDE * sizeof(half_t)
                     + sizeof(float) * ROW_TOTALS * ROWS * WN + (size_t)ROWS * BYTE_STRIDE;
        return stages > out ? stages : out;
    }
};

typedef tiling<128, 128, 2, 2, 3> many_rows;
enum { NORM_COLS = 384 };
typedef tiling<64, NORM_COLS, 1, 8, 2> norm_rows;
enum { FEW = 512 };             // rows: up to here a card is not full

// Where a thread's block and warp are.
struct tile_place {
    size_t row, col;            // of the block's tile
    int warp_row, warp_col;     // of the warp's part in it
};

template <typename Tiling> __device__ inline tile_place place_of_thread()
{
    int warp = (int)(threadIdx.x / 32);
    return {(size_t)blockIdx.y * Tiling::ROWS, (size_t)blockIdx.x * Tiling::COLS,
            warp / Tiling::WARPS_N * Tiling::WARP_ROWS, warp % Tiling::WARPS_N * Tiling::WARP_COLS};
}

template <typename Tiling> inline dim3 tile_grid(size_t rows, size_t cols)
{
    return dim3((unsigned)((cols + Tiling::COLS - 1) / Tiling::COLS),
                (unsigned)(rows / Tiling::ROWS));
}

// Whether LayerNorm is in the kernel of the product. Some cards have too little shared memory.
inline bool whole_rows(const platform *p, size_t rows, size_t cols, size_t shared)
{
    return cols == NORM_COLS && rows > FEW && shared <= platform_shared_bytes(p);
}

// Of up to `rows`, where whole_rows() decides.
inline size_t rows_apart(const platform *p, size_t rows, size_t cols, size_t shared)
{
    return whole_rows(p, rows, cols, shared) ? (size_t)FEW : rows;
}

// Where chunk `chunk` of row `row` + `lane` lies; row is a multiple of eight. Rows one below the
// other are in banks of their own.
__device__ inline int chunk_at(int row, int lane, int chunk)
{
    return (row + lane) * DEPTH_BYTES + ((chunk ^ (lane % CHUNKS)) * CHUNK_BYTES);
}

// The factors of a product: both row-major, `depth` bytes a row.
struct factors {
    const unsigned char *in, *weight;
    size_t cols, depth;
};

// What a thread brings of the tiles [ROWS][DEPTH_BYTES] of a matrix: one chunk of every so many
// rows. All that does not change from tile to tile is here, because a thread has no more
// instructions to spare for a copy than for a product.
template <int ROWS, int THREADS> struct tile_source {
    enum { APART = THREADS / CHUNKS, COPIES = ROWS / APART };
    static_assert(THREADS % (CHUNKS * CHUNKS) == 0 && ROWS % APART == 0, "whole rounds");
    const unsigned char *from;
    size_t apart;               // bytes between its rows
    uint32_t valid;             // bit i: row i is there
    int to;

    // From row `first` of `count` on.
    __device__ tile_source(const unsigned char *matrix, size_t depth, size_t first, size_t count)
    {
        int row = (int)threadIdx.x / CHUNKS, chunk = (int)threadIdx.x % CHUNKS;
        from = matrix + (first + (size_t)row) * depth + (size_t)(CHUNK_BYTES * chunk);
        apart = APART * depth;
        to = chunk_at(0, row, chunk);
        valid = 0;
        UNROLL
        for (int i = 0; i < COPIES; i++)
            valid |= (uint32_t)(first + (size_t)(row + i * APART) < count) << i;
    }

    // The next tile.
    __device__ inline void load(unsigned char *tile)
    {
        UNROLL
        for (int i = 0; i < COPIES; i++)
            copy_async(tile + to + i * APART * DEPTH_BYTES, from + (size_t)i * apart,
                       valid >> i & 1);
        from += DEPTH_BYTES;
    }
};

// use(stage) for each step of the depth in order; then the stages may be written over.
template <typename Tiling, typename Use>
__device__ inline void each_stage(const factors &f, unsigned char *stages, const tile_place &at,
                                  Use use)
{
    tile_source<Tiling::ROWS, Tiling::THREADS> left(f.in, f.depth, at.row, at.row + Tiling::ROWS);
    tile_source<Tiling::COLS, Tiling::THREADS> right(f.weight, f.depth, at.col, f.cols);
    int steps = (int)(f.depth / DEPTH_BYTES), into = 0, from = 0;
    auto load = [&](int step) {
        if (step < steps) {
            left.load(stages + into);
            right.load(stages + into + Tiling::ROWS * DEPTH_BYTES);
        }
        copy_commit();
        into = into < (Tiling::STAGES - 1) * Tiling::STAGE_BYTES ? into + Tiling::STAGE_BYTES : 0;
    };
    for (int step = 0; step < Tiling::STAGES - 1; step++)
        load(step);
    ROLLED
    for (int step = 0; step < steps; step++) {
        copy_wait<Tiling::STAGES - 2>();
        __syncthreads();        // all have what was waited for, and are done with the oldest stage
        load(step + Tiling::STAGES - 1);
        use(stages + from);
        from = from < (Tiling::STAGES - 1) * Tiling::STAGE_BYTES ? from + Tiling::STAGE_BYTES : 0;
    }
    copy_wait<0>();
    __syncthreads();
}

// Fragments of instruction k of a stage: 16 rows of the left factor; 16 of the right one. row and
// col are multiples of eight.
__device__ inline void left_fragment(uint32_t a[4], const unsigned char *left, int row, int k)
{
    int lane = (int)(threadIdx.x % 32);
    warp_load_matrices(a, left + chunk_at(row, lane % 16, 2 * k + lane / 16));
}

__device__ inline void right_fragment(uint32_t b[4], const unsigned char *right, int col, int k)
{
    int lane = (int)(threadIdx.x % 32), matrix = lane / 8;
    warp_load_matrices(b, right + chunk_at(col, matrix / 2 * 8 + lane % 8, 2 * k + matrix % 2));
}

__device__ inline void add_product(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    warp_multiply<half_t>(c, a, b);
}

__device__ inline void add_product(int32_t c[4], const uint32_t a[4], const uint32_t b[2])
{
    warp_multiply_bytes<uint8_t>(c, a, b);
}

template <typename Tiling, typename Sum>
__device__ inline void multiply(Sum sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                const unsigned char *stage, const tile_place &at)
{
    const unsigned char *left = stage, *right = stage + Tiling::ROWS * DEPTH_BYTES;
    UNROLL
    for (int k = 0; k < PRODUCTS; k++) {
        uint32_t a[Tiling::ROW_TILES][4], b[4];
        UNROLL
        for (int m = 0; m < Tiling::ROW_TILES; m++)
            left_fragment(a[m], left, at.warp_row + 16 * m, k);
        UNROLL
        for (int n = 0; n < Tiling::COL_TILES; n += 2) {
            right_fragment(b, right, at.warp_col + 8 * n, k);
            UNROLL
            for (int m = 0; m < Tiling::ROW_TILES; m++) {
                add_product(sums[m][n], a[m], b);
                add_product(sums[m][n + 1], a[m], b + 2);
            }
        }
    }
}

__device__ inline float gelu(float x)
{
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

// A tile [ROWS][COLS] of `Number` from shared memory, in whole sixteen bytes.
template <typename Tiling, typename Number>
__device__ inline void store_tile(Number *out, size_t cols, const Number *tile, int stride,
                                  const tile_place &at)
{
    const int wide = CHUNK_BYTES / (int)sizeof(Number), pieces = Tiling::COLS / wide;
    static_assert(Tiling::ROWS * pieces % Tiling::THREADS == 0, "whole rounds");
    UNROLL
    for (int i = 0; i < Tiling::ROWS * pieces / Tiling::THREADS; i++) {
        int piece = (int)threadIdx.x + i * Tiling::THREADS;
        int r = piece / pieces, c = piece % pieces * wide;
        if (at.col + (size_t)c < cols)
            *reinterpret_cast<uint4 *>(out + (at.row + (size_t)r) * cols + at.col + (size_t)c)
                = *reinterpret_cast<const uint4 *>(tile + r * stride + c);
    }
}

// ---- LayerNorm of whole rows -------------------------------------------------------------------

struct adds {
    __device__ static float quad(float x) { return quad_sum(x); }
    __device__ static float join(float a, float b) { return a + b; }
};
struct least {
    __device__ static float quad(float x) { return -quad_max(-x); }
    __device__ static float join(float a, float b) { return fminf(a, b); }
};
struct most {
    __device__ static float quad(float x) { return quad_max(x); }
    __device__ static float join(float a, float b) { return fmaxf(a, b); }
};

// Over a row's columns: of a quad, then of the warps in order. totals are of rows
// warp_row + 16 m + 8 half + lane / 4; partial [ROWS][WARPS_N] is shared and of this call alone.
template <typename Tiling, typename Kind>
__device__ inline void row_totals(float totals[Tiling::ROW_TILES][2], float *partial, int warp_row)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    int warp = (int)(threadIdx.x / 32) % Tiling::WARPS_N;
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            float mine = Kind::quad(totals[m][half]);
            if (t == 0)
                partial[(warp_row + 16 * m + 8 * half + g) * Tiling::WARPS_N + warp] = mine;
        }
    __syncthreads();
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            const float *row = partial + (warp_row + 16 * m + 8 * half + g) * Tiling::WARPS_N;
            totals[m][half] = row[0];
            for (int w = 1; w < Tiling::WARPS_N; w++)
                totals[m][half] = Kind::join(totals[m][half], row[w]);
        }
}

struct norm_job {
    const float *bias;
    encode_norm norm;
    half_t *x;                  // [rows][cols], in and out
    encode_narrowing narrow;    // bytes NULL: not wanted
};

// Rows of bytes from what `sums` holds: the numbers of x over their equalisers.
template <typename Tiling>
__device__ inline void narrow_rows(const norm_job &j,
                                   float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                   float *partial, unsigned char *bytes, const tile_place &at)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    float low[Tiling::ROW_TILES][2], high[Tiling::ROW_TILES][2];
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            low[m][half] = high[m][half] = sums[m][0][2 * half];
            UNROLL
            for (int n = 0; n < Tiling::COL_TILES; n++)
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    low[m][half] = fminf(low[m][half], sums[m][n][i]);
                    high[m][half] = fmaxf(high[m][half], sums[m][n][i]);
                }
        }
    row_totals<Tiling, least>(low, partial, at.warp_row);
    row_totals<Tiling, most>(high, partial + Tiling::ROWS * Tiling::WARPS_N, at.warp_row);
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            int r = at.warp_row + 16 * m + 8 * half + g;
            narrow_scale scale = scale_between(low[m][half], high[m][half]);
            float inverse = 1.0f / scale.step;
            if (at.warp_col == 0 && t == 0)
                j.narrow.rows[at.row + r] = scale;
            UNROLL
            for (int n = 0; n < Tiling::COL_TILES; n++)
                *reinterpret_cast<uint16_t *>(bytes + r * Tiling::BYTE_STRIDE + at.warp_col + 8 * n
                                              + 2 * t)
                    = narrow_pair(sums[m][n] + 2 * half, scale.low, inverse);
        }
}

// x = LayerNorm(x + sums + bias), by blocks that have whole rows; NARROW: as bytes, too.
template <typename Tiling, bool NARROW>
__device__ inline void norm_epilogue(const norm_job &j,
                                     float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                     unsigned char *shared, const tile_place &at)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    half_t *tile = reinterpret_cast<half_t *>(shared);
    const int totals = Tiling::ROWS * Tiling::WARPS_N;
    float *partial = reinterpret_cast<float *>(tile + Tiling::ROWS * Tiling::OUT_STRIDE);
    unsigned char *bytes = reinterpret_cast<unsigned char *>(partial + Tiling::ROW_TOTALS * totals);
    const size_t cols = Tiling::COLS;
    float mean[Tiling::ROW_TILES][2], scale[Tiling::ROW_TILES][2];
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            const half_t *x = j.x + (at.row + at.warp_row + 16 * m + 8 * half + g) * cols;
            float total = 0;
            UNROLL
            for (int n = 0; n < Tiling::COL_TILES; n++) {
                int c = at.warp_col + 8 * n + 2 * t;
                uint32_t pair = *reinterpret_cast<const uint32_t *>(x + c);
                for (int i = 0; i < 2; i++) {
                    float value = sums[m][n][2 * half + i] + j.bias[c + i]
                                  + (i ? high_half(pair) : low_half(pair));
                    sums[m][n][2 * half + i] = value;
                    total += value;
                }
            }
            mean[m][half] = total;
        }
    row_totals<Tiling, adds>(mean, partial, at.warp_row);
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            mean[m][half] /= (float)cols;
            float total = 0;
            UNROLL
            for (int n = 0; n < Tiling::COL_TILES; n++)
                for (int i = 0; i < 2; i++) {
                    float apart = sums[m][n][2 * half + i] - mean[m][half];
                    total = fmaf(apart, apart, total);
                }
            scale[m][half] = total;
        }
    row_totals<Tiling, adds>(scale, partial + totals, at.warp_row);
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            int r = at.warp_row + 16 * m + 8 * half + g;
            float factor = 1.0f / sqrtf(scale[m][half] / (float)cols + j.norm.epsilon);
            UNROLL
            for (int n = 0; n < Tiling::COL_TILES; n++) {
                int c = at.warp_col + 8 * n + 2 * t;
                uint32_t pair = normed_pair(sums[m][n] + 2 * half, mean[m][half], factor, j.norm,
                                            c);
                *reinterpret_cast<uint32_t *>(tile + r * Tiling::OUT_STRIDE + c) = pair;
                if (NARROW) {
                    sums[m][n][2 * half] = equalized(pair, 0, j.narrow, c);
                    sums[m][n][2 * half + 1] = equalized(pair, 1, j.narrow, c);
                }
            }
        }
    if (NARROW)
        narrow_rows<Tiling>(j, sums, partial + 2 * totals, bytes, at);
    __syncthreads();
    store_tile<Tiling>(j.x, cols, tile, Tiling::OUT_STRIDE, at);
    if (NARROW)
        store_tile<Tiling>(j.narrow.bytes, cols, bytes, Tiling::BYTE_STRIDE, at);
}

}
