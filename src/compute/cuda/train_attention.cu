// The attention sublayer around the heads (train_heads.cu). Saved: q | k | v, the heads' output,
// the log-sum-exp of each query, and the sum that the norm saw.
#include "compute/cuda/train_cuda.cuh"

namespace {

size_t query_cols(const struct train_attention *layer)
{
    return layer->query.outputs;
}

bool is_self(const struct train_attention *layer)
{
    return layer->memory.outputs == 0;
}

struct saved_plan : scratch_plan {
    size_t query, memory, out, lse, sum;
    saved_plan(const struct train_attention *layer, const struct train_shape *shape, size_t size)
    {
        size_t rows = shape->samples * shape->queries, dim = layer->norm.dim;
        query = add(rows * query_cols(layer), size);
        memory = add(is_self(layer) ? 0 : shape->samples * shape->keys * 2 * dim, size);
        out = add(rows * dim, size);
        lse = add(rows * layer->heads, sizeof(float));
        sum = add(rows * dim, sizeof(float));
    }
};

template <typename T>
size_t saved_bytes(const struct train_device *, const struct train_attention *layer,
                   const struct train_shape *shape)
{
    return saved_plan(layer, shape, sizeof(T)).bytes;
}

template <typename T> T *at(void *block, size_t offset)
{
    return reinterpret_cast<T *>(static_cast<unsigned char *>(block) + offset);
}

template <typename T>
heads<T> heads_of(const struct train_attention *layer, const struct train_shape *shape,
                  const struct train_pass *pass, const saved_plan &places, void *saved)
{
    size_t dim = layer->norm.dim;
    T *query = at<T>(saved, places.query), *memory = at<T>(saved, places.memory);
    heads<T> h = {};
    h.q = query;
    h.q_stride = query_cols(layer);
    h.k = is_self(layer) ? query + dim : memory;
    h.v = h.k + dim;
    h.kv_stride = is_self(layer) ? 3 * dim : 2 * dim;
    h.o = at<T>(saved, places.out);
    h.lse = at<float>(saved, places.lse);
    h.samples = shape->samples;
    h.queries = shape->queries;
    h.keys = is_self(layer) ? shape->queries : shape->keys;
    h.dim = dim;
    h.count = layer->heads;
    h.head_dim = dim / layer->heads;
    h.causal = layer->causal;
    h.first_sample = pass->first_sample;
    return h;
}

template <typename T>
void forward(struct train_device *base, const struct train_pass *pass,
             const struct train_attention *layer, const struct train_shape *shape, const float *x,
             const float *memory, float *y, void *saved)
{
    cuda_train *device = cuda_train_of(base);
    size_t rows = shape->samples * shape->queries, dim = layer->norm.dim;
    size_t memory_rows = is_self(layer) ? 0 : shape->samples * shape->keys;
    size_t first_row = pass->first_sample * shape->queries;
    saved_plan places(layer, shape, sizeof(T));
    scratch_plan plan;
    size_t narrow_at = plan.add((rows > memory_rows ? rows : memory_rows) * dim, sizeof(T));
    size_t z_at = plan.add(rows * dim, sizeof(T));
    unsigned char *scratch = cuda_train_scratch(device, plan.bytes);
    if (!scratch)
        return;
    T *narrow = at<T>(scratch, narrow_at), *z = at<T>(scratch, z_at);
    rows_cast(device, x, narrow, rows * dim);
    linear_forward(device, &layer->query, narrow, rows, at<T>(saved, places.query));
    if (!is_self(layer)) {
        rows_cast(device, memory, narrow, memory_rows * dim);
        linear_forward(device, &layer->memory, narrow, memory_rows, at<T>(saved, places.memory));
    }
    heads<T> h = heads_of<T>(layer, shape, pass, places, saved);
    heads_forward(device, dropping_of(device, pass, layer->site), h);
    linear_forward(device, &layer->out, static_cast<const T *>(h.o), rows, z);
    rows_residual_norm(device, dropping_of(device, pass, layer->site + 1), &layer->norm, x, z, rows,
                       first_row, at<float>(saved, places.sum), y);
}

struct back_plan : scratch_plan {
    size_t narrow, z, out, query, memory, delta, sums;
    back_plan(const struct train_attention *layer, const struct train_shape *shape, size_t size)
    {
        size_t rows = shape->samples * shape->queries, dim = layer->norm.dim;
        size_t memory_rows = is_self(layer) ? 0 : shape->samples * shape->keys;
        narrow = add((rows > memory_rows ? rows : memory_rows) * dim, size);
        z = add(rows * dim, size);
        out = add(rows * dim, size);
        query = add(rows * query_cols(layer), size);
        memory = add(memory_rows * 2 * dim, size);
        delta = add(rows * layer->heads, sizeof(float));
        size_t most = rows_norm_scratch(rows, dim);
        size_t more = rows_sum_scratch(rows, query_cols(layer));
        size_t last = rows_sum_scratch(memory_rows, 2 * dim);
        most = more > most ? more : most;
        sums = add(last > most ? last : most, 1);
    }
};

template <typename T>
void backward(struct train_device *base, const struct train_pass *pass,
              const struct train_attention *layer, const struct train_shape *shape, const float *x,
              const float *memory, const void *saved, float *gradient, float *memory_gradient)
{
    cuda_train *device = cuda_train_of(base);
    size_t rows = shape->samples * shape->queries, dim = layer->norm.dim;
    size_t memory_rows = is_self(layer) ? 0 : shape->samples * shape->keys;
    size_t first_row = pass->first_sample * shape->queries;
    saved_plan places(layer, shape, sizeof(T));
    void *kept = const_cast<void *>(saved);     // read only
    back_plan plan(layer, shape, sizeof(T));
    unsigned char *scratch = cuda_train_scratch(device, plan.bytes);
    if (!scratch)
        return;
    T *narrow = at<T>(scratch, plan.narrow), *z = at<T>(scratch, plan.z);
    T *out = at<T>(scratch, plan.out), *query = at<T>(scratch, plan.query);
    T *keys = is_self(layer) ? query + dim : at<T>(scratch, plan.memory);
    unsigned char *sums = scratch + plan.sums;
    heads<T> h = heads_of<T>(layer, shape, pass, places, kept);
    rows_norm_back(device, &layer->norm, at<float>(kept, places.sum), rows, gradient, sums);
    rows_drop_back(device, dropping_of(device, pass, layer->site + 1), gradient, rows, first_row,
                   dim, z);
    linear_learn(device, &layer->out, z, static_cast<const T *>(h.o), rows, sums);
    linear_back(device, &layer->out, z, dim, rows, out, false);
    heads_gradient<T> g = {out, query, keys, keys + dim, at<float>(scratch, plan.delta)};
    heads_backward(device, dropping_of(device, pass, layer->site), h, g);
    rows_cast(device, x, narrow, rows * dim);
    linear_learn(device, &layer->query, query, narrow, rows, sums);
    linear_back(device, &layer->query, query, query_cols(layer), rows, gradient, true);
    if (is_self(layer))
        return;
    rows_cast(device, memory, narrow, memory_rows * dim);
    linear_learn(device, &layer->memory, keys, narrow, memory_rows, sums);
    linear_back(device, &layer->memory, keys, 2 * dim, memory_rows, memory_gradient, true);
}

}

template <typename T> void attention_operations(struct train_ops *ops)
{
    ops->attention_saved_bytes = saved_bytes<T>;
    ops->attention_forward = forward<T>;
    ops->attention_backward = backward<T>;
}

template void attention_operations<float>(struct train_ops *);
template void attention_operations<half_t>(struct train_ops *);
template void attention_operations<bfloat_t>(struct train_ops *);
