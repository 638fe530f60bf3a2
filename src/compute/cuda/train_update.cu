// Embedding rows both ways, norms that stand alone, sums, the finite check, and the optimisers:
// what does not depend on the precision of products.
#include "compute/cuda/train_cuda.cuh"

namespace {

enum { THREADS = 256, TOKEN_THREADS = 128 };

__global__ void embed_kernel(const int32_t *ids, const float *tokens, const float *positions,
                             size_t count, size_t length, size_t dim, float *x)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count * dim)
        return;
    size_t row = i / dim, c = i % dim;
    x[i] = tokens[(size_t)ids[row] * dim + c] + positions[row % length * dim + c];
}

__global__ void number_kernel(int32_t *rows, size_t count)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count)
        rows[i] = (int32_t)i;
}

// One block a token of the vocabulary: the rows that have it follow each other in `order`.
__global__ void token_kernel(const int32_t *sorted, const int32_t *order, size_t count,
                             const float *x_gradient, size_t dim, float *token_gradient)
{
    int32_t token = (int32_t)blockIdx.x;
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (sorted[middle] < token)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == count || sorted[low] != token)
        return;
    for (size_t c = threadIdx.x; c < dim; c += TOKEN_THREADS) {
        float sum = 0;
        for (size_t i = low; i < count && sorted[i] == token; i++)
            sum += x_gradient[(size_t)order[i] * dim + c];
        token_gradient[(size_t)token * dim + c] += sum;
    }
}

__global__ void position_kernel(const float *x_gradient, size_t samples, size_t length, size_t dim,
                                float *position_gradient)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= length * dim)
        return;
    float sum = 0;
    for (size_t sample = 0; sample < samples; sample++)
        sum += x_gradient[sample * length * dim + i];
    position_gradient[i] += sum;
}

__global__ void add_kernel(float *to, const float *from, size_t count)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count)
        to[i] += from[i];
}

__global__ void finite_kernel(const float *values, size_t count, uint32_t *finite)
{
    bool fine = true;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        fine = fine && fabsf(values[i]) <= 3.402823466e38f;
    if (!fine)
        atomicAnd(finite, 0u);
}

__global__ void adam_kernel(const step_numbers *now, bool decoupled, float *values,
                            const float *gradients, float *first, float *second, size_t count,
                            const uint32_t *finite)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count || (finite && *finite == 0))
        return;
    float value = values[i], g = gradients[i] * now->gradient_factor;
    if (decoupled)
        value *= 1.0f - now->rate * now->decay;
    else
        g += now->decay * value;
    float m = first[i] + (1.0f - now->beta1) * (g - first[i]);
    float v = now->beta2 * second[i] + (1.0f - now->beta2) * g * g;
    first[i] = m;
    second[i] = v;
    float root = sqrtf(v) / sqrtf(now->correction2) + now->epsilon;
    values[i] = value - now->rate / now->correction1 * m / root;
}

__global__ void sgd_kernel(const step_numbers *now, float *values, const float *gradients,
                           size_t count, const uint32_t *finite)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count || (finite && *finite == 0))
        return;
    values[i] -= now->rate * (gradients[i] * now->gradient_factor + now->decay * values[i]);
}

void embed_forward(struct train_device *base, const int32_t *ids, const float *tokens,
                   const float *positions, size_t samples, size_t length, size_t dim, float *x)
{
    cuda_train *device = cuda_train_of(base);
    size_t count = samples * length;
    LAUNCH(embed_kernel, blocks_of(count * dim, THREADS), THREADS, 0,
           platform_stream(device->platform), ids, tokens, positions, count, length, dim, x);
    platform_started(device->platform, "embedding");
}

void embed_backward(struct train_device *base, const int32_t *ids, const float *x_gradient,
                    size_t samples, size_t length, size_t dim, size_t vocab,
                    float *token_gradient, float *position_gradient)
{
    cuda_train *device = cuda_train_of(base);
    cudaStream_t stream = platform_stream(device->platform);
    size_t count = samples * length, sort_bytes = platform_sort_bytes(count);
    scratch_plan plan;
    size_t sorted_at = plan.add(count, sizeof(int32_t)), rows_at = plan.add(count, sizeof(int32_t));
    size_t order_at = plan.add(count, sizeof(int32_t)), sort_at = plan.add(sort_bytes, 1);
    unsigned char *scratch = cuda_train_scratch(device, plan.bytes);
    if (!scratch)
        return;
    int32_t *sorted = reinterpret_cast<int32_t *>(scratch + sorted_at);
    int32_t *rows = reinterpret_cast<int32_t *>(scratch + rows_at);
    int32_t *order = reinterpret_cast<int32_t *>(scratch + order_at);
    LAUNCH(number_kernel, blocks_of(count, THREADS), THREADS, 0, stream, rows, count);
    platform_sort(device->platform, ids, sorted, rows, order, count, scratch + sort_at, sort_bytes);
    LAUNCH(token_kernel, (unsigned)vocab, TOKEN_THREADS, 0, stream, sorted, order, count,
           x_gradient, dim, token_gradient);
    LAUNCH(position_kernel, blocks_of(length * dim, THREADS), THREADS, 0, stream, x_gradient,
           samples, length, dim, position_gradient);
    platform_started(device->platform, "embedding, backwards");
}

void norm_forward(struct train_device *base, const struct train_norm *norm, const float *x,
                  size_t rows, float *y)
{
    rows_norm(cuda_train_of(base), norm, x, rows, y);
}

void norm_backward(struct train_device *base, const struct train_norm *norm, const float *x,
                   size_t rows, float *gradient)
{
    cuda_train *device = cuda_train_of(base);
    unsigned char *scratch = cuda_train_scratch(device, rows_norm_scratch(rows, norm->dim));
    if (scratch)
        rows_norm_back(device, norm, x, rows, gradient, scratch);
}

void add(struct train_device *base, float *to, const float *from, size_t count)
{
    cuda_train *device = cuda_train_of(base);
    LAUNCH(add_kernel, blocks_of(count, THREADS), THREADS, 0, platform_stream(device->platform), to,
           from, count);
    platform_started(device->platform, "sum");
}

void check_finite(struct train_device *base, const float *values, size_t count, uint32_t *finite)
{
    cuda_train *device = cuda_train_of(base);
    unsigned blocks = blocks_of(count, THREADS);
    LAUNCH(finite_kernel, blocks < 1024 ? blocks : 1024, THREADS, 0,
           platform_stream(device->platform), values, count, finite);
    platform_started(device->platform, "finite check");
}

void update(struct train_device *base, const struct train_update *u, float *values,
            const float *gradients, float *first, float *second, size_t count,
            const uint32_t *finite)
{
    cuda_train *device = cuda_train_of(base);
    cudaStream_t stream = platform_stream(device->platform);
    cuda_train_send_update(device, u);
    const step_numbers *now = device->now;
    bool decoupled = u->optimizer == TRAIN_ADAMW;
    if (u->optimizer == TRAIN_SGD)
        LAUNCH(sgd_kernel, blocks_of(count, THREADS), THREADS, 0, stream, now, values, gradients,
               count, finite);
    else
        LAUNCH(adam_kernel, blocks_of(count, THREADS), THREADS, 0, stream, now, decoupled, values,
               gradients, first, second, count, finite);
    platform_started(device->platform, "update");
}

}

void row_operations(struct train_ops *ops)
{
    ops->embed_forward = embed_forward;
    ops->embed_backward = embed_backward;
    ops->norm_forward = norm_forward;
    ops->norm_backward = norm_backward;
    ops->add = add;
    ops->check_finite = check_finite;
    ops->update = update;
}
