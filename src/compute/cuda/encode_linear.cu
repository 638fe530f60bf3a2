// Linear maps of the encoder with what follows them in the same kernel: bias, GELU, or the residual
// and its LayerNorm. Tiles of both factors come by cp.async, the next while one is multiplied;
// mma.m16n8k16 from swizzled shared memory. Every sum runs over the depth in order, sixteen at a
// time, whatever the tile: so tiles for few rows and for many give the same bits.
#include "compute/cuda/encode_cuda.cuh"

namespace {

enum { DEPTH = 64, CHUNKS = DEPTH / 8 };        // of a tile; 16-byte chunks of its rows
enum { EPILOGUE_PLAIN, EPILOGUE_GELU, EPILOGUE_FLOAT, EPILOGUE_NORM };

// A block's tile of the result and its warps' parts.
template <int M, int N, int WM, int WN, int S> struct tiling {
    enum { ROWS = M, COLS = N, WARPS_M = WM, WARPS_N = WN, STAGES = S };
    enum { THREADS = 32 * WM * WN, WARP_ROWS = M / WM, WARP_COLS = N / WN };
    enum { ROW_TILES = WARP_ROWS / 16, COL_TILES = WARP_COLS / 8 };
    enum { STAGE_NUMBERS = (M + N) * DEPTH, OUT_STRIDE = N + 8 };
    static_assert(WARP_ROWS % 16 == 0 && WARP_COLS % 16 == 0, "whole products");
    static size_t shared()
    {
        size_t stages = (size_t)STAGES * STAGE_NUMBERS * sizeof(half_t);
        size_t out = (size_t)ROWS * OUT_STRIDE * sizeof(half_t) + sizeof(float) * 2 * ROWS * WN;
        return stages > out ? stages : out;
    }
};

typedef tiling<128, 128, 2, 2, 3> many_rows;
typedef tiling<32, 64, 2, 2, 3> few_rows;
enum { NORM_COLS = 384 };
typedef tiling<64, NORM_COLS, 1, 8, 2> norm_rows;
enum { FEW = 512 };             // rows: up to here a card is not full

struct job {
    encode_linear linear;
    encode_norm norm;
    const half_t *in;
    half_t *out;                // EPILOGUE_NORM: x
    float *sums;                // EPILOGUE_FLOAT
};

// Where chunk `chunk` of row `row` lies: rows one below the other in banks of their own.
__device__ inline int place(int row, int chunk)
{
    return row * DEPTH + ((chunk ^ (row % CHUNKS)) * 8);
}

// A tile [rows][DEPTH] of a matrix [count][depth] from its row `first` and column `column` on.
template <int ROWS, int THREADS>
__device__ inline void load(half_t *tile, const half_t *matrix, size_t depth, size_t first,
                            size_t count, size_t column)
{
    for (int i = (int)threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
        int row = i / CHUNKS, chunk = i % CHUNKS;
        bool valid = first + row < count;
        const half_t *from = matrix + (valid ? first + row : 0) * depth + column + 8 * chunk;
        copy_async(tile + place(row, chunk), from, valid);
    }
}

template <typename Tiling>
__device__ inline void load_stage(const job &j, half_t *stage, size_t row, size_t col, size_t step)
{
    load<Tiling::ROWS, Tiling::THREADS>(stage, j.in, j.linear.depth, row, row + Tiling::ROWS,
                                        step * DEPTH);
    load<Tiling::COLS, Tiling::THREADS>(stage + Tiling::ROWS * DEPTH, j.linear.weight,
                                        j.linear.depth, col, j.linear.cols, step * DEPTH);
}

template <typename Tiling>
__device__ inline void multiply(float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                const half_t *stage, int warp_row, int warp_col)
{
    const half_t *left = stage, *right = stage + Tiling::ROWS * DEPTH;
    int lane = (int)(threadIdx.x % 32), matrix = lane / 8;
    UNROLL
    for (int k = 0; k < DEPTH / 16; k++) {
        uint32_t a[Tiling::ROW_TILES][4], b[4];
        UNROLL
        for (int m = 0; m < Tiling::ROW_TILES; m++)
            warp_load_matrices(a[m], left + place(warp_row + 16 * m + lane % 16,
                                                  2 * k + lane / 16));
        UNROLL
        for (int n = 0; n < Tiling::COL_TILES; n += 2) {
            warp_load_matrices(b, right + place(warp_col + 8 * n + matrix / 2 * 8 + lane % 8,
                                                2 * k + matrix % 2));
            UNROLL
            for (int m = 0; m < Tiling::ROW_TILES; m++) {
                warp_multiply<half_t>(sums[m][n], a[m], b);
                warp_multiply<half_t>(sums[m][n + 1], a[m], b + 2);
            }
        }
    }
}

__device__ inline float gelu(float x)
{
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

// From shared memory, in whole sixteen bytes.
template <typename Tiling>
__device__ inline void store_tile(const job &j, const half_t *tile, size_t row, size_t col)
{
    const int pieces = Tiling::COLS / 8;
    __syncthreads();
    for (int i = (int)threadIdx.x; i < Tiling::ROWS * pieces; i += Tiling::THREADS) {
        int r = i / pieces, c = i % pieces * 8;
        if (col + c < j.linear.cols)
            *reinterpret_cast<uint4 *>(j.out + (row + r) * j.linear.cols + col + c)
                = *reinterpret_cast<const uint4 *>(tile + r * Tiling::OUT_STRIDE + c);
    }
}

// Sums over a row's columns: of a lane in order, of its quad, then of the warps in order. `mine` is
// of rows warp_row + 16 m + 8 half + lane / 4.
template <typename Tiling>
__device__ inline void row_totals(float totals[Tiling::ROW_TILES][2], float *partial, int warp_row)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    int warp = (int)(threadIdx.x / 32) % Tiling::WARPS_N;
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            float sum = quad_sum(totals[m][half]);
            if (t == 0)
                partial[(warp_row + 16 * m + 8 * half + g) * Tiling::WARPS_N + warp] = sum;
        }
    __syncthreads();
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            const float *row = partial + (warp_row + 16 * m + 8 * half + g) * Tiling::WARPS_N;
            totals[m][half] = row[0];
            for (int w = 1; w < Tiling::WARPS_N; w++)
                totals[m][half] += row[w];
        }
}

// fmaf is written out, so that both kernels round at the same places.
__device__ inline uint32_t normed_pair(const float values[2], float mean, float factor,
                                       const encode_norm &norm, size_t col)
{
    return pack<half_t>(fmaf((values[0] - mean) * factor, norm.gamma[col], norm.beta[col]),
                        fmaf((values[1] - mean) * factor, norm.gamma[col + 1],
                             norm.beta[col + 1]));
}

template <typename Tiling>
__device__ inline void norm_epilogue(const job &j,
                                     float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                     half_t *tile, size_t row, int warp_row, int warp_col)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    float *partial = reinterpret_cast<float *>(tile + Tiling::ROWS * Tiling::OUT_STRIDE);
    float *partial_squares = partial + Tiling::ROWS * Tiling::WARPS_N;
    const size_t cols = Tiling::COLS;
    float mean[Tiling::ROW_TILES][2], scale[Tiling::ROW_TILES][2];
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            const half_t *x = j.out + (row + warp_row + 16 * m + 8 * half + g) * cols;
            float total = 0;
            UNROLL
            for (int n = 0; n < Tiling::COL_TILES; n++)
                for (int i = 0; i < 2; i++) {
                    int c = warp_col + 8 * n + 2 * t + i;
                    float value = sums[m][n][2 * half + i] + j.linear.bias[c] + to_float(x[c]);
                    sums[m][n][2 * half + i] = value;
                    total += value;
                }
            mean[m][half] = total;
        }
    row_totals<Tiling>(mean, partial, warp_row);
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
    row_totals<Tiling>(scale, partial_squares, warp_row);
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            int r = warp_row + 16 * m + 8 * half + g;
            float factor = 1.0f / sqrtf(scale[m][half] / (float)cols + j.norm.epsilon);
            UNROLL
            for (int n = 0; n < Tiling::COL_TILES; n++) {
                int c = warp_col + 8 * n + 2 * t;
                *reinterpret_cast<uint32_t *>(tile + r * Tiling::OUT_STRIDE + c)
                    = normed_pair(sums[m][n] + 2 * half, mean[m][half], factor, j.norm, c);
            }
        }
}

template <typename Tiling, int EPILOGUE>
__device__ inline void plain_epilogue(const job &j,
                                      float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                      half_t *tile, size_t row, size_t col, int warp_row,
                                      int warp_col)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    UNROLL
    for (int n = 0; n < Tiling::COL_TILES; n++) {
        int c = warp_col + 8 * n + 2 * t;
        bool valid = col + c < j.linear.cols;
        float bias[2] = {valid ? j.linear.bias[col + c] : 0, valid ? j.linear.bias[col + c + 1] : 0};
        UNROLL
        for (int m = 0; m < Tiling::ROW_TILES; m++)
            for (int half = 0; half < 2; half++) {
                int r = warp_row + 16 * m + 8 * half + g;
                float low = sums[m][n][2 * half] + bias[0], high = sums[m][n][2 * half + 1] + bias[1];
                if (EPILOGUE == EPILOGUE_GELU) {
                    low = gelu(low);
                    high = gelu(high);
                }
                if (EPILOGUE != EPILOGUE_FLOAT) {
                    *reinterpret_cast<uint32_t *>(tile + r * Tiling::OUT_STRIDE + c)
                        = pack<half_t>(low, high);
                } else if (valid) {
                    float *to = j.sums + (row + r) * j.linear.cols + col + c;
                    to[0] = low;
                    to[1] = high;
                }
            }
    }
}

template <typename Tiling, int EPILOGUE>
__global__ void __launch_bounds__(Tiling::THREADS) linear_kernel(job j)
{
    SHARED(half_t, stages);
    size_t row = (size_t)blockIdx.y * Tiling::ROWS, col = (size_t)blockIdx.x * Tiling::COLS;
    int warp = (int)(threadIdx.x / 32);
    int warp_row = warp / Tiling::WARPS_N * Tiling::WARP_ROWS;
    int warp_col = warp % Tiling::WARPS_N * Tiling::WARP_COLS;
    size_t steps = j.linear.depth / DEPTH;
    float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4] = {};
    for (size_t step = 0; step < Tiling::STAGES - 1; step++) {
        if (step < steps)
            load_stage<Tiling>(j, stages + step * Tiling::STAGE_NUMBERS, row, col, step);
        copy_commit();
    }
    for (size_t step = 0; step < steps; step++) {
        copy_wait<Tiling::STAGES - 2>();
        __syncthreads();        // all have what was waited for, and are done with the oldest stage
        size_t next = step + Tiling::STAGES - 1;
        if (next < steps)
            load_stage<Tiling>(j, stages + next % Tiling::STAGES * Tiling::STAGE_NUMBERS, row, col,
                               next);
        copy_commit();
        multiply<Tiling>(sums, stages + step % Tiling::STAGES * Tiling::STAGE_NUMBERS, warp_row,
                         warp_col);
    }
    copy_wait<0>();
    __syncthreads();            // the tile of results lies where the stages were
    if (EPILOGUE == EPILOGUE_NORM)
        norm_epilogue<Tiling>(j, sums, stages, row, warp_row, warp_col);
    else
        plain_epilogue<Tiling, EPILOGUE>(j, sums, stages, row, col, warp_row, warp_col);
    if (EPILOGUE != EPILOGUE_FLOAT)
        store_tile<Tiling>(j, stages, row, col);
}

// One warp a row; sums in the order of norm_epilogue with eight warps.
enum { NORM_WARPS = 4, NORM_PAIRS = ENCODE_HIDDEN_MAX / ENCODE_COLUMN_UNIT };

__device__ inline float eighths_sum(float x)
{
    x = quad_sum(x);
    float total = warp_shuffle(x, 0);
    for (int w = 1; w < 8; w++)
        total += warp_shuffle(x, 4 * w);
    return total;
}

__global__ void __launch_bounds__(32 * NORM_WARPS) norm_kernel(encode_norm norm, const float *sums,
                                                               half_t *x, size_t cols)
{
    int lane = (int)(threadIdx.x % 32), pairs = (int)(cols / ENCODE_COLUMN_UNIT);
    size_t row = (size_t)blockIdx.x * NORM_WARPS + threadIdx.x / 32;
    size_t begin = (size_t)(lane / 4) * (cols / 8) + 2 * (size_t)(lane % 4);
    float values[NORM_PAIRS][2], total = 0, squares = 0;
    UNROLL
    for (int n = 0; n < NORM_PAIRS; n++)
        for (int i = 0; i < 2; i++)
            if (n < pairs) {
                size_t at = row * cols + begin + 8 * (size_t)n + (size_t)i;
                values[n][i] = sums[at] + to_float(x[at]);
                total += values[n][i];
            }
    float mean = eighths_sum(total) / (float)cols;
    UNROLL
    for (int n = 0; n < NORM_PAIRS; n++)
        for (int i = 0; i < 2; i++)
            if (n < pairs) {
                float apart = values[n][i] - mean;
                squares = fmaf(apart, apart, squares);
            }
    float factor = 1.0f / sqrtf(eighths_sum(squares) / (float)cols + norm.epsilon);
    UNROLL
    for (int n = 0; n < NORM_PAIRS; n++)
        if (n < pairs) {
            size_t c = begin + 8 * (size_t)n;
            *reinterpret_cast<uint32_t *>(x + row * cols + c)
                = normed_pair(values[n], mean, factor, norm, c);
        }
}

template <typename Tiling, int EPILOGUE> void start(platform *p, const job &j, size_t rows)
{
    auto *kernel = linear_kernel<Tiling, EPILOGUE>;
    platform_allow_shared(p, reinterpret_cast<const void *>(kernel), Tiling::shared());
    dim3 grid((unsigned)((j.linear.cols + Tiling::COLS - 1) / Tiling::COLS),
              (unsigned)(rows / Tiling::ROWS));
    LAUNCH(kernel, grid, Tiling::THREADS, Tiling::shared(), platform_stream(p), j);
    platform_started(p, "a linear map");
}

template <int EPILOGUE> void start_sized(platform *p, const job &j, size_t rows)
{
    if (rows > FEW)
        start<many_rows, EPILOGUE>(p, j, rows);
    else
        start<few_rows, EPILOGUE>(p, j, rows);
}

}

void encode_multiply(platform *p, const encode_linear *linear, const half_t *x, size_t rows,
                     half_t *out)
{
    job j = {};
    j.linear = *linear;
    j.in = x;
    j.out = out;
    start_sized<EPILOGUE_PLAIN>(p, j, rows);
}

void encode_multiply_gelu(platform *p, const encode_linear *linear, const half_t *x, size_t rows,
                          half_t *out)
{
    job j = {};
    j.linear = *linear;
    j.in = x;
    j.out = out;
    start_sized<EPILOGUE_GELU>(p, j, rows);
}

void encode_multiply_norm(platform *p, const encode_linear *linear, const encode_norm *norm,
                          const half_t *in, size_t rows, half_t *x, float *sums)
{
    job j = {};
    j.linear = *linear;
    j.norm = *norm;
    j.in = in;
    j.out = x;
    j.sums = sums;
    if (linear->cols == NORM_COLS && rows > FEW) {
        start<norm_rows, EPILOGUE_NORM>(p, j, rows);
        return;
    }
    start_sized<EPILOGUE_FLOAT>(p, j, rows);
    LAUNCH(norm_kernel, (unsigned)(rows / NORM_WARPS), 32 * NORM_WARPS, 0, platform_stream(p),
           *norm, sums, x, linear->cols);
    platform_started(p, "a LayerNorm");
}
