// A tower of the graph as one kernel: a block has all columns of its rows, so what is between the
// two products, and LayerNorm behind them, never leave the processor. The weights stream past by
// cp.async, those of the second product right behind those of the first; mma.m16n8k16 from swizzled
// shared memory. Every sum runs over the depth in order, sixteen at a time.
#include "compute/cuda/graph_cuda.cuh"

namespace {

enum { DEPTH = 32, STAGE_CHUNKS = DEPTH / 8 };  // of a stage of weights; 16-byte chunks of its rows

#define GRAPH_EPSILON 1e-5f

// A block's rows and all columns, as many for each warp.
template <int C> struct tower_tiling {
    enum { COLS = C, ROWS = C <= 384 ? 64 : C <= 768 ? 32 : 16 };
    enum { WARPS = C % 128 == 0 ? 8 : 4, THREADS = 32 * WARPS, STAGES = C <= 512 ? 4 : 2 };
    enum { WARP_COLS = C / WARPS, ROW_TILES = ROWS / 16, COL_TILES = WARP_COLS / 8 };
    enum { CHUNKS = C / 8, STEPS = C / DEPTH, STAGE_NUMBERS = C * DEPTH };
    static_assert(COL_TILES % 2 == 0 && CHUNKS % 8 == 0 && GRAPH_ROWS % ROWS == 0, "whole tiles");
    static constexpr size_t shared()
    {
        return ((size_t)ROWS * COLS + (size_t)STAGES * STAGE_NUMBERS) * sizeof(half_t);
    }
    static_assert(2 * ROWS * WARPS * sizeof(float) <= (size_t)STAGES * STAGE_NUMBERS
                  * sizeof(half_t), "sums of rows lie where the stages were");
};

struct tower_job {
    graph_tower tower;
    const half_t *x;
    half_t *halves;
    float *floats;
};

// Where chunk `chunk` of a row lies, so that rows one below the other are in banks of their own:
// rows of activations are whole banks, two of weights are.
template <typename Tiling> __device__ inline int row_place(int row, int chunk)
{
    return row * Tiling::COLS + (chunk ^ row % 8) * 8;
}

__device__ inline int weight_place(int row, int chunk)
{
    return row * DEPTH + (chunk ^ row / 2 % STAGE_CHUNKS) * 8;
}

template <typename Tiling>
__device__ inline void load_rows(const tower_job &j, half_t *tile, size_t first)
{
    for (int i = (int)threadIdx.x; i < Tiling::ROWS * Tiling::CHUNKS; i += Tiling::THREADS) {
        int row = i / Tiling::CHUNKS, chunk = i % Tiling::CHUNKS;
        copy_async(tile + row_place<Tiling>(row, chunk),
                   j.x + (first + (size_t)row) * Tiling::COLS + 8 * chunk, true);
    }
}

// Step `step` of both products, one after the other.
template <typename Tiling>
__device__ inline void load_weights(const tower_job &j, half_t *stages, int step)
{
    half_t *stage = stages + step % Tiling::STAGES * Tiling::STAGE_NUMBERS;
    const half_t *weight = step < Tiling::STEPS ? j.tower.up : j.tower.down;
    int column = step % Tiling::STEPS * DEPTH;
    for (int i = (int)threadIdx.x; i < Tiling::COLS * STAGE_CHUNKS; i += Tiling::THREADS) {
        int row = i / STAGE_CHUNKS, chunk = i % STAGE_CHUNKS;
        copy_async(stage + weight_place(row, chunk),
                   weight + (size_t)row * Tiling::COLS + column + 8 * chunk, true);
    }
}

template <typename Tiling>
__device__ inline void multiply(float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                const half_t *tile, const half_t *stage, int step, int warp_col)
{
    int lane = (int)(threadIdx.x % 32), matrix = lane / 8;
    UNROLL
    for (int k = 0; k < DEPTH / 16; k++) {
        uint32_t a[Tiling::ROW_TILES][4], b[4];
        int chunk = step % Tiling::STEPS * STAGE_CHUNKS + 2 * k;
        UNROLL
        for (int m = 0; m < Tiling::ROW_TILES; m++)
            warp_load_matrices(a[m], tile + row_place<Tiling>(16 * m + lane % 16,
                                                              chunk + lane / 16));
        UNROLL
        for (int n = 0; n < Tiling::COL_TILES; n += 2) {
            warp_load_matrices(b, stage + weight_place(warp_col + 8 * n + matrix / 2 * 8 + lane % 8,
                                                       2 * k + matrix % 2));
            UNROLL
            for (int m = 0; m < Tiling::ROW_TILES; m++) {
                warp_multiply<half_t>(sums[m][n], a[m], b);
                warp_multiply<half_t>(sums[m][n + 1], a[m], b + 2);
            }
        }
    }
}

// relu(sums + bias), to where the rows were: those are not read again.
template <typename Tiling>
__device__ inline void store_hidden(const tower_job &j,
                                    float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                    half_t *tile, int warp_col)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    UNROLL
    for (int n = 0; n < Tiling::COL_TILES; n++) {
        int c = warp_col + 8 * n + 2 * t;
        float low = j.tower.up_bias[c], high = j.tower.up_bias[c + 1];
        UNROLL
        for (int m = 0; m < Tiling::ROW_TILES; m++)
            for (int half = 0; half < 2; half++) {
                int row = 16 * m + 8 * half + g;
                half_t *to = tile + row_place<Tiling>(row, c / 8) + c % 8;
                *reinterpret_cast<uint32_t *>(to)
                    = pack<half_t>(fmaxf(sums[m][n][2 * half] + low, 0.0f),
                                   fmaxf(sums[m][n][2 * half + 1] + high, 0.0f));
                sums[m][n][2 * half] = sums[m][n][2 * half + 1] = 0;
            }
    }
}

// Sums over a row's columns: of a lane in order, of its quad, then of the warps in order.
template <typename Tiling>
__device__ inline void row_totals(float totals[Tiling::ROW_TILES][2], float *partial)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, warp = (int)(threadIdx.x / 32);
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            float sum = quad_sum(totals[m][half]);
            if (lane % 4 == 0)
                partial[(16 * m + 8 * half + g) * Tiling::WARPS + warp] = sum;
        }
    __syncthreads();
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            const float *row = partial + (16 * m + 8 * half + g) * Tiling::WARPS;
            totals[m][half] = row[0];
            for (int w = 1; w < Tiling::WARPS; w++)
                totals[m][half] += row[w];
        }
}

// sums become x + sums + bias; means and 1 / deviations of the rows.
template <typename Tiling>
__device__ inline void measure_rows(const tower_job &j,
                                    float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                    float mean[Tiling::ROW_TILES][2],
                                    float factor[Tiling::ROW_TILES][2], float *partial,
                                    size_t first, int warp_col)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            size_t row = first + (size_t)(16 * m + 8 * half + g);
            float total = 0;
            UNROLL
            for (int n = 0; n < Tiling::COL_TILES; n++) {
                int c = warp_col + 8 * n + 2 * t;
                uint32_t own = *reinterpret_cast<const uint32_t *>(j.x + row * Tiling::COLS + c);
                float *pair = sums[m][n] + 2 * half;
                pair[0] += j.tower.down_bias[c] + low_half(own);
                pair[1] += j.tower.down_bias[c + 1] + high_half(own);
                total += pair[0] + pair[1];
            }
            mean[m][half] = total;
        }
    row_totals<Tiling>(mean, partial);
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            float total = 0;
            mean[m][half] /= (float)Tiling::COLS;
            UNROLL
            for (int n = 0; n < Tiling::COL_TILES; n++)
                for (int i = 0; i < 2; i++) {
                    float apart = sums[m][n][2 * half + i] - mean[m][half];
                    total = fmaf(apart, apart, total);
                }
            factor[m][half] = total;
        }
    row_totals<Tiling>(factor, partial + Tiling::ROWS * Tiling::WARPS);
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++)
            factor[m][half] = 1.0f / sqrtf(factor[m][half] / (float)Tiling::COLS + GRAPH_EPSILON);
}

template <typename Tiling>
__device__ inline void norm_rows(const tower_job &j,
                                 float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                 float *partial, size_t first, int warp_col)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    float mean[Tiling::ROW_TILES][2], factor[Tiling::ROW_TILES][2];
    measure_rows<Tiling>(j, sums, mean, factor, partial, first, warp_col);
    UNROLL
    for (int n = 0; n < Tiling::COL_TILES; n++) {
        int c = warp_col + 8 * n + 2 * t;
        float gain[2] = {j.tower.gain[c], j.tower.gain[c + 1]};
        float offset[2] = {j.tower.offset[c], j.tower.offset[c + 1]};
        UNROLL
        for (int m = 0; m < Tiling::ROW_TILES; m++)
            for (int half = 0; half < 2; half++) {
                size_t at = (first + (size_t)(16 * m + 8 * half + g)) * Tiling::COLS + (size_t)c;
                const float *pair = sums[m][n] + 2 * half;
                float low = fmaf((pair[0] - mean[m][half]) * factor[m][half], gain[0], offset[0]);
                float high = fmaf((pair[1] - mean[m][half]) * factor[m][half], gain[1], offset[1]);
                if (j.floats) {
                    j.floats[at] = low;
                    j.floats[at + 1] = high;
                } else {
                    *reinterpret_cast<uint32_t *>(j.halves + at) = pack<half_t>(low, high);
                }
            }
    }
}

template <int COLS>
__global__ void __launch_bounds__(tower_tiling<COLS>::THREADS) tower_kernel(tower_job j)
{
    typedef tower_tiling<COLS> Tiling;
    SHARED(half_t, tile);               // [ROWS][COLS]: the rows, then what is between the products
    half_t *stages = tile + Tiling::ROWS * Tiling::COLS;
    size_t first = (size_t)blockIdx.x * Tiling::ROWS;
    int warp_col = (int)(threadIdx.x / 32) * Tiling::WARP_COLS;
    const int steps = 2 * Tiling::STEPS;
    float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4] = {};
    load_rows<Tiling>(j, tile, first);
    for (int step = 0; step < Tiling::STAGES - 1; step++) {
        if (step < steps)
            load_weights<Tiling>(j, stages, step);
        copy_commit();
    }
    for (int step = 0; step < steps; step++) {
        if (step == Tiling::STEPS) {
            __syncthreads();            // all are done with the rows
            store_hidden<Tiling>(j, sums, tile, warp_col);
        }
        copy_wait<Tiling::STAGES - 2>();
        __syncthreads();        // all have what was waited for, and are done with the oldest stage
        if (step + Tiling::STAGES - 1 < steps)
            load_weights<Tiling>(j, stages, step + Tiling::STAGES - 1);
        copy_commit();
        multiply<Tiling>(sums, tile, stages + step % Tiling::STAGES * Tiling::STAGE_NUMBERS, step,
                         warp_col);
    }
    copy_wait<0>();
    __syncthreads();            // sums of rows lie where the stages were
    norm_rows<Tiling>(j, sums, reinterpret_cast<float *>(stages), first, warp_col);
}

template <int COLS> void start(platform *p, const tower_job &j, size_t rows)
{
    typedef tower_tiling<COLS> Tiling;
    auto *kernel = tower_kernel<COLS>;
    platform_allow_shared(p, reinterpret_cast<const void *>(kernel), Tiling::shared());
    LAUNCH(kernel, (unsigned)((rows + Tiling::ROWS - 1) / Tiling::ROWS), Tiling::THREADS,
           Tiling::shared(), platform_stream(p), j);
    platform_started(p, "a tower of the graph");
}

const struct {
    size_t dim, shared;
    void (*start)(platform *p, const tower_job &j, size_t rows);
} towers[] = {
    {64, tower_tiling<64>::shared(), start<64>},
    {128, tower_tiling<128>::shared(), start<128>},
    {192, tower_tiling<192>::shared(), start<192>},
    {256, tower_tiling<256>::shared(), start<256>},
    {384, tower_tiling<384>::shared(), start<384>},
    {512, tower_tiling<512>::shared(), start<512>},
    {768, tower_tiling<768>::shared(), start<768>},
    {1024, tower_tiling<1024>::shared(), start<1024>},
};

}

bool graph_tower_fits(const platform *p, size_t dim)
{
    for (const auto &each : towers)
        if (each.dim == dim)
            return each.shared <= platform_shared_bytes(p);
    return false;
}

void graph_tower_run(platform *p, const graph_tower *tower, const half_t *x, size_t rows,
                     size_t dim, half_t *halves, float *floats)
{
    tower_job j = {*tower, x, halves, floats};
    for (const auto &each : towers)
        if (each.dim == dim)
            each.start(p, j, rows);
}
