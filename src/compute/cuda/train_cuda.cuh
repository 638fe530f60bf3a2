// What the files of the CUDA training device share. Nothing outside src/compute/cuda includes it.
#pragma once

#include "compute/cuda/platform.cuh"

extern "C" {
#include "base/philox.h"
#include "compute/train_ops.h"
}

// What changes from step to step, in device memory, so that a recorded step may be played again.
struct step_numbers {
    uint32_t key[2];            // of dropout
    uint32_t step;
    float loss_scale;
    float rate, decay, beta1, beta2, epsilon, gradient_factor;
    float correction1, correction2;     // 1 - beta^t
};

struct cuda_train {
    struct train_device base;   // first: a struct train_device * is cast back
    struct platform *platform;
    int ordinal;                // of the card
    enum train_precision precision;
    unsigned char *scratch;
    size_t scratch_bytes;
    step_numbers *now;          // device memory
    step_numbers sent;          // what is there
    const void *owner;          // of the steps, and of the recording
    unsigned steps;             // begun so far, up to the first that is played back
    bool recording;
    struct cuda_sum *sum;       // with other cards, or NULL
};

static inline cuda_train *cuda_train_of(struct train_device *device)
{
    return reinterpret_cast<cuda_train *>(device);
}

static inline const cuda_train *cuda_train_of(const struct train_device *device)
{
    return reinterpret_cast<const cuda_train *>(device);
}

// Pieces of scratch, one behind the other; all are given back when the next operation begins.
struct scratch_plan {
    size_t bytes = 0;
    size_t add(size_t count, size_t size)
    {
        size_t at = bytes;
        bytes += (count * size + 255) / 256 * 256;
        return at;
    }
};

// Sends what differs from what the device has.
void cuda_train_send_update(cuda_train *device, const struct train_update *update);
// NULL: no memory; the error is kept for finish.
unsigned char *cuda_train_scratch(cuda_train *device, size_t bytes);

static inline unsigned blocks_of(size_t count, size_t each)
{
    return (unsigned)((count + each - 1) / each);
}

static inline size_t padded_to_8(size_t n)
{
    return (n + 7) / 8 * 8;
}

// ---- dropout: train_ops.h defines the stream ---------------------------------------------------

struct dropping {
    uint32_t threshold;         // 0: nothing is dropped
    uint32_t site;
    float scale;                // of what is kept
    const step_numbers *now;
};

dropping dropping_of(cuda_train *device, const struct train_pass *pass, uint32_t site);

// The eight sixteen-bit words of numbers 8 * block and on.
__device__ inline void dropping_words(const dropping &d, uint64_t block, uint32_t words[4])
{
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), d.site, d.now->step};
    uint32_t key[2] = {d.now->key[0], d.now->key[1]};
    philox_4x32(counter, key, words);
}

__device__ inline bool dropping_keeps(const dropping &d, const uint32_t words[4], int i)
{
    return (words[i / 2] >> 16 * (i % 2) & 0xffff) >= d.threshold;
}

// ---- rows --------------------------------------------------------------------------------------

// Sums over rows go by chunks of this many, then over the chunks in order.
enum { CHUNK_ROWS = 128 };

static inline size_t chunk_count(size_t rows)
{
    return (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
}

template <typename T>
void rows_cast(cuda_train *device, const float *from, T *to, size_t count);
// s = x + drop(z), y = norm(s); [rows][dim]
template <typename T>
void rows_residual_norm(cuda_train *device, const dropping &d, const struct train_norm *norm,
                        const float *x, const T *z, size_t rows, size_t first_row, float *s,
                        float *y);
void rows_norm(cuda_train *device, const struct train_norm *norm, const float *x, size_t rows,
               float *y);
// gradient of y becomes that of s; the norm's own are added. scratch: rows_norm_scratch(rows, dim).
size_t rows_norm_scratch(size_t rows, size_t dim);
void rows_norm_back(cuda_train *device, const struct train_norm *norm, const float *s, size_t rows,
                    float *gradient, unsigned char *scratch);
// z_gradient = dropped(gradient)
template <typename T>
void rows_drop_back(cuda_train *device, const dropping &d, const float *gradient, size_t rows,
                    size_t first_row, size_t dim, T *z_gradient);
// x = drop(relu(x))
template <typename T>
void rows_relu_drop(cuda_train *device, const dropping &d, T *x, size_t rows, size_t first_row,
                    size_t cols);
// gradient = hidden > 0 ? gradient * scale : 0
template <typename T>
void rows_relu_drop_back(cuda_train *device, const dropping &d, const T *hidden, T *gradient,
                         size_t count);
// sums [cols] += over rows. scratch: rows_sum_scratch(rows, cols).
size_t rows_sum_scratch(size_t rows, size_t cols);
template <typename T>
void rows_sum(cuda_train *device, const T *x, size_t rows, size_t cols, float *sums,
              unsigned char *scratch);

// ---- products with a linear's weights ----------------------------------------------------------

// out [rows][outputs] = x weight^T + bias
template <typename T>
void linear_forward(cuda_train *device, const struct train_linear *linear, const T *x, size_t rows,
                    T *out);
// out [rows][inputs] (+)= gradient weight
template <typename T, typename Out>
void linear_back(cuda_train *device, const struct train_linear *linear, const T *gradient,
                 size_t gradient_stride, size_t rows, Out *out, bool add);
// The gradients of weight and bias += gradient^T x and its column sums. scratch: rows_sum_scratch.
template <typename T>
void linear_learn(cuda_train *device, const struct train_linear *linear, const T *gradient,
                  const T *x, size_t rows, unsigned char *scratch);

// ---- attention of all heads --------------------------------------------------------------------

// q [samples * queries][q_stride], k and v [samples * keys][kv_stride], o [samples * queries][dim],
// lse [samples][heads][queries].
template <typename T> struct heads {
    const T *q, *k, *v;
    T *o;
    float *lse;
    size_t q_stride, kv_stride, samples, queries, keys, dim, count, head_dim;
    bool causal;
    size_t first_sample;
};

template <typename T> void heads_forward(cuda_train *device, const dropping &d, const heads<T> &h);

// o_gradient [samples * queries][dim]; those of q, k, v with strides as q, k, v. delta as lse.
template <typename T> struct heads_gradient {
    const T *o;
    T *q, *k, *v;
    float *delta;
};

template <typename T>
void heads_backward(cuda_train *device, const dropping &d, const heads<T> &h,
                    const heads_gradient<T> &g);

// ---- the operations of the table, one precision each -------------------------------------------

template <typename T> void linear_operations(struct train_ops *ops);
template <typename T> void attention_operations(struct train_ops *ops);
template <typename T> void feed_forward_operations(struct train_ops *ops);
template <typename T> void cross_entropy_operations(struct train_ops *ops);
void row_operations(struct train_ops *ops);
