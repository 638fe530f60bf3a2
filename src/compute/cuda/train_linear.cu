// Linears: their weights in the type of products, and the three products of a step.
#include "compute/cuda/train_cuda.cuh"

namespace {

template <typename T> bool copies(void)
{
    return number_of<T>::type != NUMBER_F32;
}

template <typename T>
enum akin_status prepare(struct train_device *base, struct train_linear *linear,
                         struct akin_error *error)
{
    cuda_train *device = cuda_train_of(base);
    if (!copies<T>())
        return AKIN_OK;
    size_t count = linear->outputs * linear->inputs;
    size_t behind = padded_to_8(count) * sizeof(T);
    if (!linear->prepared) {
        enum akin_status status = platform_allocate(
            device->platform, behind + linear->outputs * sizeof(T), &linear->prepared, error);
        if (status != AKIN_OK)
            return status;
    }
    T *weight = static_cast<T *>(linear->prepared);
    T *bias = reinterpret_cast<T *>(static_cast<unsigned char *>(linear->prepared) + behind);
    rows_cast(device, linear->weight, weight, count);
    rows_cast(device, linear->bias, bias, linear->outputs);
    return AKIN_OK;
}

void forget(struct train_device *base, struct train_linear *linear)
{
    platform_release(cuda_train_of(base)->platform, linear->prepared);
    linear->prepared = nullptr;
}

template <typename T> const T *weight_of(const struct train_linear *linear)
{
    return linear->prepared ? static_cast<const T *>(linear->prepared)
                            : reinterpret_cast<const T *>(linear->weight);
}

template <typename T> const T *bias_of(const struct train_linear *linear)
{
    if (!linear->prepared)
        return reinterpret_cast<const T *>(linear->bias);
    size_t behind = padded_to_8(linear->outputs * linear->inputs) * sizeof(T);
    return reinterpret_cast<const T *>(static_cast<const unsigned char *>(linear->prepared)
                                       + behind);
}

}

template <typename T>
void linear_forward(cuda_train *device, const struct train_linear *linear, const T *x, size_t rows,
                    T *out)
{
    product p = {};
    p.left = x;
    p.right = weight_of<T>(linear);
    p.bias = bias_of<T>(linear);
    p.out = out;
    p.rows = rows;
    p.cols = p.out_stride = linear->outputs;
    p.depth = p.left_stride = p.right_stride = linear->inputs;
    p.right_transposed = true;
    p.in = p.result = number_of<T>::type;
    platform_multiply(device->platform, &p);
}

template <typename T, typename Out>
void linear_back(cuda_train *device, const struct train_linear *linear, const T *gradient,
                 size_t gradient_stride, size_t rows, Out *out, bool add)
{
    product p = {};
    p.left = gradient;
    p.right = weight_of<T>(linear);
    p.out = out;
    p.rows = rows;
    p.cols = p.out_stride = p.right_stride = linear->inputs;
    p.depth = linear->outputs;
    p.left_stride = gradient_stride;
    p.add = add;
    p.in = number_of<T>::type;
    p.result = number_of<Out>::type;
    platform_multiply(device->platform, &p);
}

template <typename T>
void linear_learn(cuda_train *device, const struct train_linear *linear, const T *gradient,
                  const T *x, size_t rows, unsigned char *scratch)
{
    if (!linear->weight_gradient)
        return;
    product p = {};
    p.left = gradient;
    p.right = x;
    p.out = linear->weight_gradient;
    p.rows = p.left_stride = linear->outputs;
    p.cols = p.out_stride = p.right_stride = linear->inputs;
    p.depth = rows;
    p.left_transposed = true;
    p.add = true;
    p.in = number_of<T>::type;
    p.result = NUMBER_F32;
    platform_multiply(device->platform, &p);
    rows_sum(device, gradient, rows, linear->outputs, linear->bias_gradient, scratch);
}

template <typename T> void linear_operations(struct train_ops *ops)
{
    ops->linear_prepare = prepare<T>;
    ops->linear_forget = forget;
}

#define LINEAR_OF(T)                                                                            \
    template void linear_forward<T>(cuda_train *, const struct train_linear *, const T *,       \
                                    size_t, T *);                                               \
    template void linear_back<T, float>(cuda_train *, const struct train_linear *, const T *,   \
                                        size_t, size_t, float *, bool);                         \
    template void linear_learn<T>(cuda_train *, const struct train_linear *, const T *,         \
                                  const T *, size_t, unsigned char *);                          \
    template void linear_operations<T>(struct train_ops *);
LINEAR_OF(float)
LINEAR_OF(half_t)
LINEAR_OF(bfloat_t)
template void linear_back<half_t, half_t>(cuda_train *, const struct train_linear *,
                                          const half_t *, size_t, size_t, half_t *, bool);
template void linear_back<bfloat_t, bfloat_t>(cuda_train *, const struct train_linear *,
                                              const bfloat_t *, size_t, size_t, bfloat_t *, bool);
