// Rows: residual sums, LayerNorm, dropout, ReLU, column sums. One warp a row where a row is summed.
// Sums over rows run by chunks of CHUNK_ROWS, then over the chunks in order: no atomics, same bits
// each time.
#include "compute/cuda/train_cuda.cuh"

namespace {

enum { ROW_WARPS = 4, ROW_THREADS = 32 * ROW_WARPS, FLAT_THREADS = 256 };
// Chunks are x of the grid: it may have 2^31 blocks there, and 65,535 in y.
enum { SUM_COLS = 32, SUM_ROWS = 8 };

const float EPSILON = 1e-5f;

template <typename T> __global__ void cast_kernel(const float *from, T *to, size_t count)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count)
        to[i] = from_float<T>(from[i]);
}

struct row_moments {
    float mean, factor;         // factor = 1 / sqrt(variance + epsilon)
};

__device__ inline row_moments moments_of(const float *row, size_t dim)
{
    size_t lane = threadIdx.x % 32;
    float sum = 0;
    for (size_t c = lane; c < dim; c += 32)
        sum += row[c];
    float mean = warp_sum(sum) / (float)dim, squares = 0;
    for (size_t c = lane; c < dim; c += 32)
        squares += (row[c] - mean) * (row[c] - mean);
    return {mean, 1.0f / sqrtf(warp_sum(squares) / (float)dim + EPSILON)};
}

__device__ inline void normalize(const float *row, const row_moments &m, const float *gain,
                                 const float *offset, size_t dim, float *out)
{
    for (size_t c = threadIdx.x % 32; c < dim; c += 32)
        out[c] = (row[c] - m.mean) * m.factor * gain[c] + offset[c];
}

template <typename T>
__global__ void residual_norm_kernel(dropping d, const float *gain, const float *offset,
                                     const float *x, const T *z, size_t rows, size_t first_row,
                                     size_t dim, float *s, float *y)
{
    size_t row = (size_t)blockIdx.x * ROW_WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows)
        return;     // whole warps
    const float *xr = x + row * dim;
    const T *zr = z + row * dim;
    float *sr = s + row * dim;
    size_t groups = (dim + 7) / 8;
    for (size_t group = lane; group < groups; group += 32) {
        uint32_t words[4] = {0, 0, 0, 0};
        if (d.threshold > 0)
            dropping_words(d, (first_row + row) * groups + group, words);
        for (int i = 0; i < 8 && 8 * group + i < dim; i++) {
            size_t c = 8 * group + i;
            float value = dropping_keeps(d, words, i) ? to_float(zr[c]) * d.scale : 0.0f;
            sr[c] = xr[c] + value;
        }
    }
    __syncwarp();
    row_moments m = moments_of(sr, dim);
    normalize(sr, m, gain, offset, dim, y + row * dim);
}

__global__ void norm_kernel(const float *gain, const float *offset, const float *x, size_t rows,
                            size_t dim, float *y)
{
    size_t row = (size_t)blockIdx.x * ROW_WARPS + threadIdx.x / 32;
    if (row >= rows)
        return;
    row_moments m = moments_of(x + row * dim, dim);
    normalize(x + row * dim, m, gain, offset, dim, y + row * dim);
}

__global__ void moments_kernel(const float *x, size_t rows, size_t dim, row_moments *moments)
{
    size_t row = (size_t)blockIdx.x * ROW_WARPS + threadIdx.x / 32;
    if (row >= rows)
        return;
    row_moments m = moments_of(x + row * dim, dim);
    if (threadIdx.x % 32 == 0)
        moments[row] = m;
}

// partial [chunks][2][dim]: what a chunk adds to the gradients of gain and offset.
__global__ void norm_chunk_kernel(const float *x, const row_moments *moments,
                                  const float *gradient, size_t rows, size_t dim, float *partial)
{
    SHARED(float, sums);        // [2][SUM_ROWS][SUM_COLS]
    size_t c = (size_t)blockIdx.y * SUM_COLS + threadIdx.x, chunk = blockIdx.x;
    size_t end = (chunk + 1) * CHUNK_ROWS < rows ? (chunk + 1) * CHUNK_ROWS : rows;
    float gain = 0, offset = 0;
    if (c < dim)
        for (size_t row = chunk * CHUNK_ROWS + threadIdx.y; row < end; row += SUM_ROWS) {
            float g = gradient[row * dim + c];
            gain += g * (x[row * dim + c] - moments[row].mean) * moments[row].factor;
            offset += g;
        }
    sums[threadIdx.y * SUM_COLS + threadIdx.x] = gain;
    sums[(SUM_ROWS + threadIdx.y) * SUM_COLS + threadIdx.x] = offset;
    __syncthreads();
    if (threadIdx.y != 0 || c >= dim)
        return;
    for (int which = 0; which < 2; which++) {
        float sum = 0;
        for (int i = 0; i < SUM_ROWS; i++)
            sum += sums[(which * SUM_ROWS + i) * SUM_COLS + threadIdx.x];
        partial[(chunk * 2 + which) * dim + c] = sum;
    }
}

__global__ void norm_back_kernel(const float *gain, const float *x, const row_moments *moments,
                                 size_t rows, size_t dim, float *gradient)
{
    size_t row = (size_t)blockIdx.x * ROW_WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows)
        return;
    const float *xr = x + row * dim;
    float *gr = gradient + row * dim;
    row_moments m = moments[row];
    float sum = 0, along = 0;
    for (size_t c = lane; c < dim; c += 32) {
        float g = gr[c] * gain[c];
        sum += g;
        along += g * (xr[c] - m.mean) * m.factor;
    }
    sum = warp_sum(sum) / (float)dim;
    along = warp_sum(along) / (float)dim;
    for (size_t c = lane; c < dim; c += 32) {
        float normal = (xr[c] - m.mean) * m.factor;
        gr[c] = m.factor * (gr[c] * gain[c] - sum - normal * along);
    }
}

// sums [cols] += over chunks of partial [chunks][stride]
__global__ void chunks_kernel(const float *partial, size_t chunks, size_t stride, size_t cols,
                              float *sums)
{
    size_t c = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= cols)
        return;
    float sum = 0;
    for (size_t i = 0; i < chunks; i++)
        sum += partial[i * stride + c];
    sums[c] += sum;
}

template <typename T>
__global__ void sum_chunk_kernel(const T *x, size_t rows, size_t cols, float *partial)
{
    SHARED(float, sums);        // [SUM_ROWS][SUM_COLS]
    size_t c = (size_t)blockIdx.y * SUM_COLS + threadIdx.x, chunk = blockIdx.x;
    size_t end = (chunk + 1) * CHUNK_ROWS < rows ? (chunk + 1) * CHUNK_ROWS : rows;
    float sum = 0;
    if (c < cols)
        for (size_t row = chunk * CHUNK_ROWS + threadIdx.y; row < end; row += SUM_ROWS)
            sum += to_float(x[row * cols + c]);
    sums[threadIdx.y * SUM_COLS + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || c >= cols)
        return;
    sum = 0;
    for (int i = 0; i < SUM_ROWS; i++)
        sum += sums[i * SUM_COLS + threadIdx.x];
    partial[chunk * cols + c] = sum;
}

template <typename T>
__global__ void drop_back_kernel(dropping d, const float *gradient, size_t rows, size_t first_row,
                                 size_t dim, T *out)
{
    size_t groups = (dim + 7) / 8, i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * groups)
        return;
    uint32_t words[4] = {0, 0, 0, 0};
    if (d.threshold > 0)
        dropping_words(d, first_row * groups + i, words);
    size_t row = i / groups, start = i % groups * 8;
    for (int j = 0; j < 8 && start + j < dim; j++) {
        size_t at = row * dim + start + j;
        out[at] = from_float<T>(dropping_keeps(d, words, j) ? gradient[at] * d.scale : 0.0f);
    }
}

template <typename T>
__global__ void relu_drop_kernel(dropping d, T *x, size_t rows, size_t first_row, size_t cols)
{
    size_t groups = (cols + 7) / 8, i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * groups)
        return;
    uint32_t words[4] = {0, 0, 0, 0};
    if (d.threshold > 0)
        dropping_words(d, first_row * groups + i, words);
    size_t row = i / groups, start = i % groups * 8;
    for (int j = 0; j < 8 && start + j < cols; j++) {
        T *at = x + row * cols + start + j;
        float value = to_float(*at);
        *at = from_float<T>(value > 0 && dropping_keeps(d, words, j) ? value * d.scale
                            : value != value                        ? value
                                                                    : 0.0f);
    }
}

template <typename T>
__global__ void relu_drop_back_kernel(float scale, const T *hidden, T *gradient, size_t count)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count)
        gradient[i] = from_float<T>(to_float(hidden[i]) > 0 ? to_float(gradient[i]) * scale : 0.0f);
}

}

template <typename T>
void rows_cast(cuda_train *device, const float *from, T *to, size_t count)
{
    LAUNCH(cast_kernel<T>, blocks_of(count, FLAT_THREADS), FLAT_THREADS, 0,
           platform_stream(device->platform), from, to, count);
    platform_started(device->platform, "cast");
}

template <typename T>
void rows_residual_norm(cuda_train *device, const dropping &d, const struct train_norm *norm,
                        const float *x, const T *z, size_t rows, size_t first_row, float *s,
                        float *y)
{
    const float *gain = norm->gain, *offset = norm->offset;
    size_t dim = norm->dim;
    LAUNCH(residual_norm_kernel<T>, blocks_of(rows, ROW_WARPS), ROW_THREADS, 0,
           platform_stream(device->platform), d, gain, offset, x, z, rows, first_row, dim, s, y);
    platform_started(device->platform, "residual norm");
}

void rows_norm(cuda_train *device, const struct train_norm *norm, const float *x, size_t rows,
               float *y)
{
    const float *gain = norm->gain, *offset = norm->offset;
    size_t dim = norm->dim;
    LAUNCH(norm_kernel, blocks_of(rows, ROW_WARPS), ROW_THREADS, 0,
           platform_stream(device->platform), gain, offset, x, rows, dim, y);
    platform_started(device->platform, "norm");
}

size_t rows_norm_scratch(size_t rows, size_t dim)
{
    scratch_plan plan;
    plan.add(rows, sizeof(row_moments));
    plan.add(chunk_count(rows) * 2 * dim, sizeof(float));
    return plan.bytes;
}

void rows_norm_back(cuda_train *device, const struct train_norm *norm, const float *s, size_t rows,
                    float *gradient, unsigned char *scratch)
{
    cudaStream_t stream = platform_stream(device->platform);
    size_t dim = norm->dim, chunks = chunk_count(rows), stride = 2 * dim;
    scratch_plan plan;
    row_moments *moments = reinterpret_cast<row_moments *>(
        scratch + plan.add(rows, sizeof(row_moments)));
    float *partial = reinterpret_cast<float *>(scratch + plan.add(chunks * stride, sizeof(float)));
    const float *gain = norm->gain;
    LAUNCH(moments_kernel, blocks_of(rows, ROW_WARPS), ROW_THREADS, 0, stream, s, rows, dim,
           moments);
    if (norm->gain_gradient) {
        dim3 grid((unsigned)chunks, blocks_of(dim, SUM_COLS)), block(SUM_COLS, SUM_ROWS);
        LAUNCH(norm_chunk_kernel, grid, block, 2 * SUM_COLS * SUM_ROWS * sizeof(float), stream, s,
               moments, gradient, rows, dim, partial);
        float *gain_gradient = norm->gain_gradient, *offset_gradient = norm->offset_gradient;
        const float *offsets = partial + dim;
        LAUNCH(chunks_kernel, blocks_of(dim, FLAT_THREADS), FLAT_THREADS, 0, stream, partial,
               chunks, stride, dim, gain_gradient);
        LAUNCH(chunks_kernel, blocks_of(dim, FLAT_THREADS), FLAT_THREADS, 0, stream, offsets,
               chunks, stride, dim, offset_gradient);
    }
    LAUNCH(norm_back_kernel, blocks_of(rows, ROW_WARPS), ROW_THREADS, 0, stream, gain, s, moments,
           rows, dim, gradient);
    platform_started(device->platform, "norm, backwards");
}

template <typename T>
void rows_drop_back(cuda_train *device, const dropping &d, const float *gradient, size_t rows,
                    size_t first_row, size_t dim, T *z_gradient)
{
    LAUNCH(drop_back_kernel<T>, blocks_of(rows * ((dim + 7) / 8), FLAT_THREADS), FLAT_THREADS, 0,
           platform_stream(device->platform), d, gradient, rows, first_row, dim, z_gradient);
    platform_started(device->platform, "dropout, backwards");
}

template <typename T>
void rows_relu_drop(cuda_train *device, const dropping &d, T *x, size_t rows, size_t first_row,
                    size_t cols)
{
    LAUNCH(relu_drop_kernel<T>, blocks_of(rows * ((cols + 7) / 8), FLAT_THREADS), FLAT_THREADS, 0,
           platform_stream(device->platform), d, x, rows, first_row, cols);
    platform_started(device->platform, "relu and dropout");
}

template <typename T>
void rows_relu_drop_back(cuda_train *device, const dropping &d, const T *hidden, T *gradient,
                         size_t count)
{
    float scale = d.scale;
    LAUNCH(relu_drop_back_kernel<T>, blocks_of(count, FLAT_THREADS), FLAT_THREADS, 0,
           platform_stream(device->platform), scale, hidden, gradient, count);
    platform_started(device->platform, "relu and dropout, backwards");
}

size_t rows_sum_scratch(size_t rows, size_t cols)
{
    scratch_plan plan;
    plan.add(chunk_count(rows) * cols, sizeof(float));
    return plan.bytes;
}

template <typename T>
void rows_sum(cuda_train *device, const T *x, size_t rows, size_t cols, float *sums,
              unsigned char *scratch)
{
    cudaStream_t stream = platform_stream(device->platform);
    float *partial = reinterpret_cast<float *>(scratch);
    size_t chunks = chunk_count(rows);
    dim3 grid((unsigned)chunks, blocks_of(cols, SUM_COLS)), block(SUM_COLS, SUM_ROWS);
    LAUNCH(sum_chunk_kernel<T>, grid, block, SUM_COLS * SUM_ROWS * sizeof(float), stream, x, rows,
           cols, partial);
    LAUNCH(chunks_kernel, blocks_of(cols, FLAT_THREADS), FLAT_THREADS, 0, stream, partial, chunks,
           cols, cols, sums);
    platform_started(device->platform, "column sums");
}

#define ROWS_OF(T)                                                                              \
    template void rows_cast<T>(cuda_train *, const float *, T *, size_t);                       \
    template void rows_residual_norm<T>(cuda_train *, const dropping &,                         \
                                        const struct train_norm *, const float *, const T *,    \
                                        size_t, size_t, float *, float *);                      \
    template void rows_drop_back<T>(cuda_train *, const dropping &, const float *, size_t,      \
                                    size_t, size_t, T *);                                       \
    template void rows_relu_drop<T>(cuda_train *, const dropping &, T *, size_t, size_t,        \
                                    size_t);                                                    \
    template void rows_relu_drop_back<T>(cuda_train *, const dropping &, const T *, T *,        \
                                         size_t);                                               \
    template void rows_sum<T>(cuda_train *, const T *, size_t, size_t, float *, unsigned char *);
ROWS_OF(float)
ROWS_OF(half_t)
ROWS_OF(bfloat_t)
