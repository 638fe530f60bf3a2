// Attention of all heads with plain multiplications in float32, one warp a query (or a key): right
// for every size and precision; the way for float32, and what tensor cores are compared with. Sums
// over keys or queries run in order, 32 at a time: same bits each time.
#include "compute/cuda/train_heads.cuh"

namespace {

// COLUMNS_MAX columns of a lane: heads of 256 at most.
enum { WARPS = 4, THREADS = 32 * WARPS, COLUMNS_MAX = 8 };

// Which query or key a warp has.
struct place {
    size_t sample, head, row;
    bool valid;
};

template <typename T> __device__ inline place place_of(const heads<T> &h, size_t rows)
{
    place p;
    size_t i = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    p.valid = i < h.samples * h.count * rows;
    p.row = i % rows;
    p.head = i / rows % h.count;
    p.sample = i / rows / h.count;
    return p;
}

template <typename T> __device__ inline float dot(const T *a, const T *b, size_t dim)
{
    float sum = 0;
    for (size_t c = 0; c < dim; c++)
        sum += to_float(a[c]) * to_float(b[c]);
    return sum;
}

// sums[] += sum over lanes u of weight(u) * rows[u][c] for the columns c = lane, lane + 32, ...
template <typename T>
__device__ inline void add_rows(float sums[COLUMNS_MAX], float weight, const T *rows,
                                size_t stride, size_t count, size_t dim)
{
    size_t lane = threadIdx.x % 32;
    for (int u = 0; u < 32; u++) {
        float w = warp_shuffle(weight, u);
        if ((size_t)u < count)
            for (int i = 0; i < COLUMNS_MAX; i++)
                if (32 * i + lane < dim)
                    sums[i] += w * to_float(rows[(size_t)u * stride + 32 * i + lane]);
    }
}

template <typename T>
__device__ inline float keep_factor(const dropping &d, const heads<T> &h, const place &p, size_t i,
                                    size_t key)
{
    if (d.threshold == 0)
        return 1.0f;
    uint32_t words[4];
    dropping_words(d, heads_drop_block(h, p.sample, p.head, i, key), words);
    return dropping_keeps(d, words, (int)(key % 8)) ? d.scale : 0.0f;
}

template <typename T> __global__ void forward_kernel(dropping d, heads<T> h)
{
    place p = place_of(h, h.queries);
    if (!p.valid)
        return;
    size_t lane = threadIdx.x % 32, dim = h.head_dim;
    const T *q = h.q + (p.sample * h.queries + p.row) * h.q_stride + p.head * dim;
    const T *k = h.k + p.sample * h.keys * h.kv_stride + p.head * dim;
    const T *v = h.v + p.sample * h.keys * h.kv_stride + p.head * dim;
    size_t end = h.causal ? p.row + 1 : h.keys;
    float scale = 1.0f / sqrtf((float)dim), top = -INFINITY, total = 0, sums[COLUMNS_MAX] = {};
    for (size_t start = 0; start < end; start += 32) {
        size_t key = start + lane, count = end - start < 32 ? end - start : 32;
        float s = lane < count ? dot(q, k + key * h.kv_stride, dim) * scale : -INFINITY;
        float higher = fmaxf(top, warp_max(s));
        float shrink = expf(top - higher), weight = lane < count ? expf(s - higher) : 0.0f;
        total = total * shrink + warp_sum(weight);
        for (int i = 0; i < COLUMNS_MAX; i++)
            sums[i] *= shrink;
        if (lane < count)
            weight *= keep_factor(d, h, p, p.row, key);
        add_rows(sums, weight, v + start * h.kv_stride, h.kv_stride, count, dim);
        top = higher;
    }
    T *o = h.o + (p.sample * h.queries + p.row) * h.dim + p.head * dim;
    for (int i = 0; i < COLUMNS_MAX; i++)
        if (32 * i + lane < dim)
            o[32 * i + lane] = from_float<T>(sums[i] / total);
    if (lane == 0)
        h.lse[(p.sample * h.count + p.head) * h.queries + p.row] = top + logf(total);
}

template <typename T> __global__ void delta_kernel(heads<T> h, heads_gradient<T> g)
{
    place p = place_of(h, h.queries);
    if (!p.valid)
        return;
    size_t at = (p.sample * h.queries + p.row) * h.dim + p.head * h.head_dim;
    float sum = 0;
    for (size_t c = threadIdx.x % 32; c < h.head_dim; c += 32)
        sum += to_float(g.o[at + c]) * to_float(h.o[at + c]);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0)
        g.delta[(p.sample * h.count + p.head) * h.queries + p.row] = sum;
}

// The two numbers that the gradients are made of, for one query and one key.
struct pair_terms {
    float weight;       // after dropout
    float score;        // gradient of q . k
};

template <typename T>
__device__ inline pair_terms terms_of(const dropping &d, const heads<T> &h, const place &p,
                                      size_t i, size_t key, const T *q, const T *k, const T *v,
                                      const T *o_gradient, float lse, float delta)
{
    float scale = 1.0f / sqrtf((float)h.head_dim);
    float weight = expf(dot(q, k, h.head_dim) * scale - lse);
    float keep = keep_factor(d, h, p, i, key);
    float weight_gradient = dot(o_gradient, v, h.head_dim) * keep;
    return {weight * keep, weight * (weight_gradient - delta) * scale};
}

template <typename T> __global__ void query_kernel(dropping d, heads<T> h, heads_gradient<T> g)
{
    place p = place_of(h, h.queries);
    if (!p.valid)
        return;
    size_t lane = threadIdx.x % 32, dim = h.head_dim, row = p.sample * h.queries + p.row;
    const T *q = h.q + row * h.q_stride + p.head * dim;
    const T *k = h.k + p.sample * h.keys * h.kv_stride + p.head * dim;
    const T *v = h.v + p.sample * h.keys * h.kv_stride + p.head * dim;
    const T *o_gradient = g.o + row * h.dim + p.head * dim;
    size_t statistic = (p.sample * h.count + p.head) * h.queries + p.row;
    size_t end = h.causal ? p.row + 1 : h.keys;
    float sums[COLUMNS_MAX] = {};
    for (size_t start = 0; start < end; start += 32) {
        size_t key = start + lane, count = end - start < 32 ? end - start : 32;
        float score = 0;
        if (lane < count)
            score = terms_of(d, h, p, p.row, key, q, k + key * h.kv_stride, v + key * h.kv_stride,
                             o_gradient, h.lse[statistic], g.delta[statistic]).score;
        add_rows(sums, score, k + start * h.kv_stride, h.kv_stride, count, dim);
    }
    T *out = g.q + row * h.q_stride + p.head * dim;
    for (int i = 0; i < COLUMNS_MAX; i++)
        if (32 * i + lane < dim)
            out[32 * i + lane] = from_float<T>(sums[i]);
}

template <typename T> __global__ void key_kernel(dropping d, heads<T> h, heads_gradient<T> g)
{
    place p = place_of(h, h.keys);
    if (!p.valid)
        return;
    size_t lane = threadIdx.x % 32, dim = h.head_dim;
    size_t at = (p.sample * h.keys + p.row) * h.kv_stride + p.head * dim;
    const T *q = h.q + p.sample * h.queries * h.q_stride + p.head * dim;
    const T *o_gradient = g.o + p.sample * h.queries * h.dim + p.head * dim;
    const float *lse = h.lse + (p.sample * h.count + p.head) * h.queries;
    const float *delta = g.delta + (p.sample * h.count + p.head) * h.queries;
    float k_sums[COLUMNS_MAX] = {}, v_sums[COLUMNS_MAX] = {};
    for (size_t start = h.causal ? p.row : 0; start < h.queries; start += 32) {
        size_t i = start + lane, count = h.queries - start < 32 ? h.queries - start : 32;
        pair_terms terms = {0, 0};
        if (lane < count)
            terms = terms_of(d, h, p, i, p.row, q + i * h.q_stride, h.k + at, h.v + at,
                             o_gradient + i * h.dim, lse[i], delta[i]);
        add_rows(v_sums, terms.weight, o_gradient + start * h.dim, h.dim, count, dim);
        add_rows(k_sums, terms.score, q + start * h.q_stride, h.q_stride, count, dim);
    }
    for (int i = 0; i < COLUMNS_MAX; i++)
        if (32 * i + lane < dim) {
            g.k[at + 32 * i + lane] = from_float<T>(k_sums[i]);
            g.v[at + 32 * i + lane] = from_float<T>(v_sums[i]);
        }
}

}

template <typename T>
void heads_plain_forward(cuda_train *device, const dropping &d, const heads<T> &h)
{
    LAUNCH(forward_kernel<T>, blocks_of(h.samples * h.count * h.queries, WARPS), THREADS, 0,
           platform_stream(device->platform), d, h);
    platform_started(device->platform, "attention");
}

template <typename T>
void heads_delta(cuda_train *device, const heads<T> &h, const heads_gradient<T> &g)
{
    LAUNCH(delta_kernel<T>, blocks_of(h.samples * h.count * h.queries, WARPS), THREADS, 0,
           platform_stream(device->platform), h, g);
}

template <typename T>
void heads_plain_backward(cuda_train *device, const dropping &d, const heads<T> &h,
                          const heads_gradient<T> &g)
{
    cudaStream_t stream = platform_stream(device->platform);
    heads_delta(device, h, g);
    LAUNCH(query_kernel<T>, blocks_of(h.samples * h.count * h.queries, WARPS), THREADS, 0, stream,
           d, h, g);
    LAUNCH(key_kernel<T>, blocks_of(h.samples * h.count * h.keys, WARPS), THREADS, 0, stream, d, h,
           g);
    platform_started(device->platform, "attention, backwards");
}

template <> void heads_forward<float>(cuda_train *device, const dropping &d, const heads<float> &h)
{
    heads_plain_forward(device, d, h);
}

template <>
void heads_backward<float>(cuda_train *device, const dropping &d, const heads<float> &h,
                           const heads_gradient<float> &g)
{
    heads_plain_backward(device, d, h, g);
}

#define HEADS_OF(T)                                                                             \
    template void heads_plain_forward<T>(cuda_train *, const dropping &, const heads<T> &);     \
    template void heads_delta<T>(cuda_train *, const heads<T> &, const heads_gradient<T> &);    \
    template void heads_plain_backward<T>(cuda_train *, const dropping &, const heads<T> &,     \
                                          const heads_gradient<T> &);
HEADS_OF(float)
HEADS_OF(half_t)
HEADS_OF(bfloat_t)
