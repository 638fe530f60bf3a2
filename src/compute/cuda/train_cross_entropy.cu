// Output projection, cross-entropy and both their ways back, a chunk of rows at a time: the logits
// of a chunk fit into the second-level cache, become their own gradients in place, and are
// forgotten.
#include "compute/cuda/train_cuda.cuh"

namespace {

enum { ROW_THREADS = 256, SUM_THREADS = 256, CHUNK_BYTES = 24 << 20, CHUNK_LEAST = 128 };

__device__ inline float block_reduce(float value, float *shared, bool largest)
{
    int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
    value = largest ? warp_max(value) : warp_sum(value);
    __syncthreads();
    if (lane == 0)
        shared[warp] = value;
    __syncthreads();
    float result = shared[0];
    for (int i = 1; i < ROW_THREADS / 32; i++)
        result = largest ? fmaxf(result, shared[i]) : result + shared[i];
    return result;
}

// logits [rows][vocab] become loss_scale * row_weight * (softmax - one at the label).
template <typename T>
__global__ void row_kernel(const step_numbers *now, T *logits, const int32_t *labels, size_t vocab,
                           double row_weight, bool learns, double *losses)
{
    SHARED(float, shared);
    T *row = logits + (size_t)blockIdx.x * vocab;
    bool counts = labels[blockIdx.x] >= 0;
    size_t label = counts ? (size_t)labels[blockIdx.x] : 0;
    float top = -INFINITY, sum = 0;
    for (size_t c = threadIdx.x; c < vocab; c += ROW_THREADS)
        top = fmaxf(top, to_float(row[c]));
    top = block_reduce(top, shared, true);
    for (size_t c = threadIdx.x; c < vocab; c += ROW_THREADS)
        sum += expf(to_float(row[c]) - top);
    sum = block_reduce(sum, shared, false);
    if (threadIdx.x == 0)
        losses[blockIdx.x] =
            counts ? (double)top + (double)logf(sum) - (double)to_float(row[label]) : 0;
    __syncthreads();
    if (!learns)
        return;
    float scale = counts ? now->loss_scale * (float)row_weight : 0;
    for (size_t c = threadIdx.x; c < vocab; c += ROW_THREADS) {
        float share = expf(to_float(row[c]) - top) / sum;
        row[c] = from_float<T>((share - (c == label ? 1.0f : 0.0f)) * scale);
    }
}

__global__ void loss_kernel(const double *losses, size_t rows, double *loss_sum)
{
    SHARED(double, sums);
    double sum = 0;
    for (size_t i = threadIdx.x; i < rows; i += SUM_THREADS)
        sum += losses[i];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    for (int i = 1; i < SUM_THREADS; i++)
        sum += sums[i];
    *loss_sum += sum;
}

size_t chunk_rows(size_t vocab, size_t size)
{
    size_t rows = (size_t)CHUNK_BYTES / (vocab * size) / CHUNK_LEAST * CHUNK_LEAST;
    return rows < CHUNK_LEAST ? (size_t)CHUNK_LEAST : rows;
}

template <typename T>
void cross_entropy(struct train_device *base, const struct train_pass *pass,
                   const struct train_linear *projection, const int32_t *labels, const float *x,
                   size_t rows, double row_weight, double *loss_sum, float *gradient)
{
    cuda_train *device = cuda_train_of(base);
    cudaStream_t stream = platform_stream(device->platform);
    size_t vocab = projection->outputs, dim = projection->inputs;
    size_t most = chunk_rows(vocab, sizeof(T)) < rows ? chunk_rows(vocab, sizeof(T)) : rows;
    scratch_plan plan;
    size_t narrow_at = plan.add(most * dim, sizeof(T));
    size_t logits_at = plan.add(most * vocab, sizeof(T));
    size_t losses_at = plan.add(rows, sizeof(double));
    size_t sums_at = plan.add(rows_sum_scratch(most, vocab), 1);
    unsigned char *scratch = cuda_train_scratch(device, plan.bytes);
    if (!scratch)
        return;
    dropping_of(device, pass, 0);       // sends the loss scale
    const step_numbers *now = device->now;
    T *narrow = reinterpret_cast<T *>(scratch + narrow_at);
    T *logits = reinterpret_cast<T *>(scratch + logits_at);
    double *losses = reinterpret_cast<double *>(scratch + losses_at);
    bool learns = gradient != nullptr;
    for (size_t start = 0; start < rows; start += most) {
        size_t count = rows - start < most ? rows - start : most;
        const int32_t *chunk_labels = labels + start;
        double *chunk_losses = losses + start;
        rows_cast(device, x + start * dim, narrow, count * dim);
        linear_forward(device, projection, narrow, count, logits);
        LAUNCH(row_kernel<T>, (unsigned)count, ROW_THREADS, ROW_THREADS / 32 * sizeof(float),
               stream, now, logits, chunk_labels, vocab, row_weight, learns, chunk_losses);
        platform_started(device->platform, "cross-entropy");
        if (!learns)
            continue;
        linear_back(device, projection, logits, vocab, count, gradient + start * dim, false);
        linear_learn(device, projection, logits, narrow, count, scratch + sums_at);
    }
    LAUNCH(loss_kernel, 1, SUM_THREADS, SUM_THREADS * sizeof(double), stream, losses, rows,
           loss_sum);
    platform_started(device->platform, "sum of the losses");
}

}

template <typename T> void cross_entropy_operations(struct train_ops *ops)
{
    ops->cross_entropy = cross_entropy<T>;
}

template void cross_entropy_operations<float>(struct train_ops *);
template void cross_entropy_operations<half_t>(struct train_ops *);
template void cross_entropy_operations<bfloat_t>(struct train_ops *);
