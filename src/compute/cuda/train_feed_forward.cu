// The feed-forward sublayer. Saved: the hidden numbers after ReLU and dropout, and the sum that the
// norm saw. What ReLU or dropout set to 0 is 0 there, so the way back needs no random numbers for
// them.
#include "compute/cuda/train_cuda.cuh"

namespace {

struct saved_plan : scratch_plan {
    size_t hidden, sum;
    saved_plan(const struct train_feed_forward *layer, size_t rows, size_t size)
    {
        hidden = add(rows * layer->up.outputs, size);
        sum = add(rows * layer->norm.dim, sizeof(float));
    }
};

template <typename T>
size_t saved_bytes(const struct train_device *, const struct train_feed_forward *layer,
                   size_t rows)
{
    return saved_plan(layer, rows, sizeof(T)).bytes;
}

template <typename T>
void forward(struct train_device *base, const struct train_pass *pass,
             const struct train_feed_forward *layer, size_t samples, size_t rows_per_sample,
             const float *x, float *y, void *saved)
{
    cuda_train *device = cuda_train_of(base);
    size_t rows = samples * rows_per_sample, dim = layer->norm.dim;
    size_t first_row = pass->first_sample * rows_per_sample;
    saved_plan places(layer, rows, sizeof(T));
    T *hidden = reinterpret_cast<T *>(static_cast<unsigned char *>(saved) + places.hidden);
    float *sum = reinterpret_cast<float *>(static_cast<unsigned char *>(saved) + places.sum);
    scratch_plan plan;
    size_t narrow_at = plan.add(rows * dim, sizeof(T)), z_at = plan.add(rows * dim, sizeof(T));
    unsigned char *scratch = cuda_train_scratch(device, plan.bytes);
    if (!scratch)
        return;
    T *narrow = reinterpret_cast<T *>(scratch + narrow_at);
    T *z = reinterpret_cast<T *>(scratch + z_at);
    rows_cast(device, x, narrow, rows * dim);
    linear_forward(device, &layer->up, narrow, rows, hidden);
    rows_relu_drop(device, dropping_of(device, pass, layer->site), hidden, rows, first_row,
                   layer->up.outputs);
    linear_forward(device, &layer->down, hidden, rows, z);
    rows_residual_norm(device, dropping_of(device, pass, layer->site + 1), &layer->norm, x, z, rows,
                       first_row, sum, y);
}

template <typename T>
void backward(struct train_device *base, const struct train_pass *pass,
              const struct train_feed_forward *layer, size_t samples, size_t rows_per_sample,
              const float *x, const void *saved, float *gradient)
{
    cuda_train *device = cuda_train_of(base);
    size_t rows = samples * rows_per_sample, dim = layer->norm.dim, wide = layer->up.outputs;
    size_t first_row = pass->first_sample * rows_per_sample;
    saved_plan places(layer, rows, sizeof(T));
    const unsigned char *kept = static_cast<const unsigned char *>(saved);
    const T *hidden = reinterpret_cast<const T *>(kept + places.hidden);
    const float *sum = reinterpret_cast<const float *>(kept + places.sum);
    scratch_plan plan;
    size_t narrow_at = plan.add(rows * dim, sizeof(T)), z_at = plan.add(rows * dim, sizeof(T));
    size_t wide_at = plan.add(rows * wide, sizeof(T));
    size_t sums = rows_sum_scratch(rows, wide > dim ? wide : dim);
    size_t norms = rows_norm_scratch(rows, dim);
    size_t sums_at = plan.add(sums > norms ? sums : norms, 1);
    unsigned char *scratch = cuda_train_scratch(device, plan.bytes);
    if (!scratch)
        return;
    T *narrow = reinterpret_cast<T *>(scratch + narrow_at);
    T *z_gradient = reinterpret_cast<T *>(scratch + z_at);
    T *wide_gradient = reinterpret_cast<T *>(scratch + wide_at);
    dropping hidden_drop = dropping_of(device, pass, layer->site);
    rows_norm_back(device, &layer->norm, sum, rows, gradient, scratch + sums_at);
    rows_drop_back(device, dropping_of(device, pass, layer->site + 1), gradient, rows, first_row,
                   dim, z_gradient);
    linear_learn(device, &layer->down, z_gradient, hidden, rows, scratch + sums_at);
    linear_back(device, &layer->down, z_gradient, dim, rows, wide_gradient, false);
    rows_relu_drop_back(device, hidden_drop, hidden, wide_gradient, rows * wide);
    rows_cast(device, x, narrow, rows * dim);
    linear_learn(device, &layer->up, wide_gradient, narrow, rows, scratch + sums_at);
    linear_back(device, &layer->up, wide_gradient, wide, rows, gradient, true);
}

}

template <typename T> void feed_forward_operations(struct train_ops *ops)
{
    ops->feed_forward_saved_bytes = saved_bytes<T>;
    ops->feed_forward_forward = forward<T>;
    ops->feed_forward_backward = backward<T>;
}

template void feed_forward_operations<float>(struct train_ops *);
template void feed_forward_operations<half_t>(struct train_ops *);
template void feed_forward_operations<bfloat_t>(struct train_ops *);
