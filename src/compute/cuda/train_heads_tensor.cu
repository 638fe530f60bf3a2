// Attention of all heads on tensor cores, after FlashAttention-2 (Dao 2023): 64 queries of a head a
// block, 16 a warp, keys 64 at a time; scores and weights stay in registers, the way back makes
// them again from the log-sum-exp. Gradients of queries and of keys are two kernels, so that no sum
// needs atomics. mma.m16n8k16 rather than wgmma: heads of 32 columns are too thin for the latter's
// tiles.
#include "compute/cuda/train_heads.cuh"

namespace {

enum { TILE = 64, WARPS = 4, THREADS = 32 * WARPS, PAD = 8, KEY_TILES = TILE / 8 };

const float LOG2_E = 1.4426950408889634f;

// rows [TILE][DIM + PAD] of a head; those from `count` on are zeros.
template <typename T, int DIM>
__device__ inline void load_tile(T *tile, const T *rows, size_t stride, size_t count)
{
    const int pieces = DIM / 8;     // of sixteen bytes
    for (int i = (int)threadIdx.x; i < TILE * pieces; i += THREADS) {
        int row = i / pieces, piece = i % pieces;
        uint4 value = {0, 0, 0, 0};
        if ((size_t)row < count)
            value = *reinterpret_cast<const uint4 *>(rows + (size_t)row * stride + 8 * piece);
        *reinterpret_cast<uint4 *>(tile + row * (DIM + PAD) + 8 * piece) = value;
    }
}

// Rows 16 * warp and on of a tile as left factor.
template <typename T, int DIM>
__device__ inline void load_left(uint32_t left[DIM / 16][4], const T *tile)
{
    int lane = (int)(threadIdx.x % 32), warp = (int)(threadIdx.x / 32);
    for (int k = 0; k < DIM / 16; k++)
        warp_load_matrices(left[k], tile + (16 * warp + lane % 16) * (DIM + PAD) + 16 * k
                                    + lane / 16 * 8);
}

// out [16 rows][TILE] = left [16][DIM] tile [TILE][DIM]^T
template <typename T, int DIM>
__device__ inline void scores(float out[KEY_TILES][4], const uint32_t left[DIM / 16][4],
                              const T *tile)
{
    int lane = (int)(threadIdx.x % 32), matrix = lane / 8, row = lane % 8;
    for (int n = 0; n < KEY_TILES; n++)
        for (int i = 0; i < 4; i++)
            out[n][i] = 0;
    for (int n = 0; n < KEY_TILES; n += 2)
        for (int k = 0; k < DIM / 16; k++) {
            uint32_t right[4];
            warp_load_matrices(right, tile + (8 * n + matrix / 2 * 8 + row) * (DIM + PAD) + 16 * k
                                      + matrix % 2 * 8);
            warp_multiply<T>(out[n], left[k], right);
            warp_multiply<T>(out[n + 1], left[k], right + 2);
        }
}

// sums [16][DIM] += left [16][TILE] tile [TILE][DIM]
template <typename T, int DIM>
__device__ inline void add_product(float sums[DIM / 8][4], const uint32_t left[TILE / 16][4],
                                   const T *tile)
{
    int lane = (int)(threadIdx.x % 32), matrix = lane / 8, row = lane % 8;
    for (int k = 0; k < TILE / 16; k++)
        for (int n = 0; n < DIM / 8; n += 2) {
            uint32_t right[4];
            const T *at = tile + (16 * k + matrix % 2 * 8 + row) * (DIM + PAD);
            warp_load_matrices_transposed(right, at + 8 * n + matrix / 2 * 8);
            warp_multiply<T>(sums[n], left[k], right);
            warp_multiply<T>(sums[n + 1], left[k], right + 2);
        }
}

// What came out of one product as the left factor of the next.
template <typename T>
__device__ inline void as_left(uint32_t left[TILE / 16][4], const float x[KEY_TILES][4])
{
    for (int k = 0; k < TILE / 16; k++) {
        left[k][0] = pack<T>(x[2 * k][0], x[2 * k][1]);
        left[k][1] = pack<T>(x[2 * k][2], x[2 * k][3]);
        left[k][2] = pack<T>(x[2 * k + 1][0], x[2 * k + 1][1]);
        left[k][3] = pack<T>(x[2 * k + 1][2], x[2 * k + 1][3]);
    }
}

// Which of a lane's 2 x 2 x KEY_TILES weights are kept: bit 4 n + i is weight i of key tile n.
// Eight keys of a query are one block of random numbers, which four lanes share: each makes that of
// every fourth tile, and they pass words around.
template <typename T>
__device__ inline uint32_t kept_bits(const dropping &d, const heads<T> &h, size_t sample,
                                     size_t head, size_t query, size_t key)
{
    int lane = (int)(threadIdx.x % 32), t = lane % 4;
    uint32_t kept = 0;
    for (int half = 0; half < 2; half++)
        for (int four = 0; four < KEY_TILES / 4; four++) {
            uint32_t words[4];
            dropping_words(d, heads_drop_block(h, sample, head, query + 8 * half,
                                               key + 8 * (4 * four + t)), words);
            for (int r = 0; r < 4; r++) {
                int other = t ^ r;
                uint32_t mine = other == 0 ? words[0] : other == 1 ? words[1]
                                : other == 2 ? words[2] : words[3];
                uint32_t word = warp_shuffle(mine, lane ^ r);
                uint32_t low = (word & 0xffff) >= d.threshold, high = (word >> 16) >= d.threshold;
                kept |= (low | high << 1) << (4 * (4 * four + other) + 2 * half);
            }
        }
    return kept;
}

// The head and the tile of a block.
struct place {
    size_t sample, head, start;
};

template <typename T> __device__ inline place place_of(const heads<T> &h)
{
    return {blockIdx.x / h.count, blockIdx.x % h.count, (size_t)blockIdx.y * TILE};
}

__device__ inline size_t rows_left(size_t all, size_t start)
{
    size_t left = start < all ? all - start : 0;
    return left < TILE ? left : (size_t)TILE;
}

template <typename T>
__device__ inline bool pair_valid(const heads<T> &h, size_t query, size_t key)
{
    return key < h.keys && (!h.causal || key <= query);
}

// Keys that the tile of queries at `start` sees.
template <typename T> __device__ inline size_t keys_end(const heads<T> &h, size_t start)
{
    return h.causal && start + TILE < h.keys ? start + TILE : h.keys;
}

// rows [16 per warp][DIM] of the block's tile from registers, times a factor for each half.
template <typename T, int DIM>
__device__ inline void store_rows(T *out, size_t stride, size_t count, const float x[DIM / 8][4],
                                  const float factor[2])
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; half++) {
        size_t row = 16 * (threadIdx.x / 32) + g + 8 * half;
        if (row < count)
            for (int n = 0; n < DIM / 8; n++)
                *reinterpret_cast<uint32_t *>(out + row * stride + 8 * n + 2 * t)
                    = pack<T>(x[n][2 * half] * factor[half], x[n][2 * half + 1] * factor[half]);
    }
}

template <typename T, int DIM> size_t forward_shared()
{
    return 3 * TILE * (DIM + PAD) * sizeof(T);
}

template <typename T, int DIM>
__global__ void __launch_bounds__(THREADS) forward_kernel(dropping d, heads<T> h)
{
    SHARED(T, q_tile);
    T *k_tile = q_tile + TILE * (DIM + PAD), *v_tile = k_tile + TILE * (DIM + PAD);
    place p = place_of(h);
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    size_t query = p.start + 16 * (threadIdx.x / 32) + g, count = rows_left(h.queries, p.start);
    const T *q = h.q + (p.sample * h.queries + p.start) * h.q_stride + p.head * DIM;
    const T *k = h.k + p.sample * h.keys * h.kv_stride + p.head * DIM;
    const T *v = h.v + p.sample * h.keys * h.kv_stride + p.head * DIM;
    load_tile<T, DIM>(q_tile, q, h.q_stride, count);
    __syncthreads();
    uint32_t left[DIM / 16][4];
    load_left<T, DIM>(left, q_tile);
    float factor = LOG2_E / sqrtf((float)DIM);
    float top[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0}, sums[DIM / 8][4] = {};
    for (size_t key = 0, end = keys_end(h, p.start); key < end; key += TILE) {
        __syncthreads();
        load_tile<T, DIM>(k_tile, k + key * h.kv_stride, h.kv_stride, rows_left(h.keys, key));
        load_tile<T, DIM>(v_tile, v + key * h.kv_stride, h.kv_stride, rows_left(h.keys, key));
        __syncthreads();
        float s[KEY_TILES][4];
        scores<T, DIM>(s, left, k_tile);
        float higher[2] = {top[0], top[1]};
        for (int n = 0; n < KEY_TILES; n++)
            for (int i = 0; i < 4; i++) {
                bool valid = pair_valid(h, query + 8 * (i / 2), key + 8 * n + 2 * t + i % 2);
                s[n][i] = valid ? s[n][i] * factor : -INFINITY;
                higher[i / 2] = fmaxf(higher[i / 2], s[n][i]);
            }
        for (int half = 0; half < 2; half++) {
            higher[half] = quad_max(higher[half]);
            float shrink = exp2f(top[half] - higher[half]);
            top[half] = higher[half];
            total[half] *= shrink;
            for (int n = 0; n < DIM / 8; n++) {
                sums[n][2 * half] *= shrink;
                sums[n][2 * half + 1] *= shrink;
            }
        }
        uint32_t kept = d.threshold > 0 ? kept_bits(d, h, p.sample, p.head, query, key)
                                        : 0xffffffffu;
        for (int n = 0; n < KEY_TILES; n++)
            for (int i = 0; i < 4; i++) {
                float weight = exp2f(s[n][i] - top[i / 2]);
                total[i / 2] += weight;
                s[n][i] = kept >> (4 * n + i) & 1 ? weight : 0.0f;
            }
        uint32_t weights[TILE / 16][4];
        as_left<T>(weights, s);
        add_product<T, DIM>(sums, weights, v_tile);
    }
    float out_factor[2];
    for (int half = 0; half < 2; half++) {
        total[half] = quad_sum(total[half]);
        out_factor[half] = (d.threshold > 0 ? d.scale : 1.0f) / total[half];
        size_t row = query + 8 * half;
        if (t == 0 && row < h.queries)
            h.lse[(p.sample * h.count + p.head) * h.queries + row]
                = top[half] / LOG2_E + logf(total[half]);
    }
    store_rows<T, DIM>(h.o + (p.sample * h.queries + p.start) * h.dim + p.head * DIM, h.dim, count,
                       sums, out_factor);
}

// Of a lane's queries; those behind the last see weights of 0.
struct query_statistics {
    float lse[2], delta[2];
};

template <typename T>
__device__ inline query_statistics statistics_of(const heads<T> &h, const heads_gradient<T> &g,
                                                 const place &p, size_t query)
{
    query_statistics s;
    for (int half = 0; half < 2; half++) {
        size_t row = query + 8 * half;
        size_t at = (p.sample * h.count + p.head) * h.queries + row;
        bool valid = row < h.queries;
        s.lse[half] = valid ? h.lse[at] : INFINITY;
        s.delta[half] = valid ? g.delta[at] : 0.0f;
    }
    return s;
}

// From scores and o_gradient v^T [16 queries][TILE keys]: weights after dropout, into `s`, and the
// gradients of q . k, into `w`.
template <typename T>
__device__ inline void gradients_of(float s[KEY_TILES][4], float w[KEY_TILES][4], const dropping &d,
                                    const heads<T> &h, const place &p,
                                    const query_statistics &statistics, size_t query, size_t key,
                                    float scale)
{
    int t = (int)(threadIdx.x % 4);
    bool drops = d.threshold > 0;
    uint32_t kept = drops ? kept_bits(d, h, p.sample, p.head, query, key) : 0xffffffffu;
    float kept_scale = drops ? d.scale : 1.0f;
    for (int n = 0; n < KEY_TILES; n++)
        for (int i = 0; i < 4; i++) {
            bool valid = pair_valid(h, query + 8 * (i / 2), key + 8 * n + 2 * t + i % 2);
            float weight = valid ? exp2f((s[n][i] * scale - statistics.lse[i / 2]) * LOG2_E) : 0.0f;
            float keep = kept >> (4 * n + i) & 1 ? kept_scale : 0.0f;
            w[n][i] = weight * (w[n][i] * keep - statistics.delta[i / 2]) * scale;
            s[n][i] = weight * keep;
        }
}

template <typename T, int DIM> size_t query_shared()
{
    return 4 * TILE * (DIM + PAD) * sizeof(T);
}

template <typename T, int DIM>
__global__ void __launch_bounds__(THREADS)
query_kernel(dropping d, heads<T> h, heads_gradient<T> g)
{
    SHARED(T, q_tile);
    const int size = TILE * (DIM + PAD);
    T *o_tile = q_tile + size, *k_tile = o_tile + size, *v_tile = k_tile + size;
    place p = place_of(h);
    size_t query = p.start + 16 * (threadIdx.x / 32) + threadIdx.x % 32 / 4;
    size_t count = rows_left(h.queries, p.start), row = p.sample * h.queries + p.start;
    const T *k = h.k + p.sample * h.keys * h.kv_stride + p.head * DIM;
    const T *v = h.v + p.sample * h.keys * h.kv_stride + p.head * DIM;
    load_tile<T, DIM>(q_tile, h.q + row * h.q_stride + p.head * DIM, h.q_stride, count);
    load_tile<T, DIM>(o_tile, g.o + row * h.dim + p.head * DIM, h.dim, count);
    __syncthreads();
    uint32_t q_left[DIM / 16][4], o_left[DIM / 16][4];
    load_left<T, DIM>(q_left, q_tile);
    load_left<T, DIM>(o_left, o_tile);
    query_statistics statistics = statistics_of(h, g, p, query);
    float scale = 1.0f / sqrtf((float)DIM), sums[DIM / 8][4] = {};
    for (size_t key = 0, end = keys_end(h, p.start); key < end; key += TILE) {
        __syncthreads();
        load_tile<T, DIM>(k_tile, k + key * h.kv_stride, h.kv_stride, rows_left(h.keys, key));
        load_tile<T, DIM>(v_tile, v + key * h.kv_stride, h.kv_stride, rows_left(h.keys, key));
        __syncthreads();
        float s[KEY_TILES][4], w[KEY_TILES][4];
        scores<T, DIM>(s, q_left, k_tile);
        scores<T, DIM>(w, o_left, v_tile);
        gradients_of(s, w, d, h, p, statistics, query, key, scale);
        uint32_t left[TILE / 16][4];
        as_left<T>(left, w);
        add_product<T, DIM>(sums, left, k_tile);
    }
    float ones[2] = {1.0f, 1.0f};
    store_rows<T, DIM>(g.q + row * h.q_stride + p.head * DIM, h.q_stride, count, sums, ones);
}

enum { PAIR_STRIDE = TILE + PAD };

// [16 queries per warp][TILE keys] from registers into a tile [TILE][PAIR_STRIDE]
template <typename T> __device__ inline void store_pairs(T *tile, const float x[KEY_TILES][4])
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; half++) {
        int row = 16 * (int)(threadIdx.x / 32) + g + 8 * half;
        for (int n = 0; n < KEY_TILES; n++)
            *reinterpret_cast<uint32_t *>(tile + row * PAIR_STRIDE + 8 * n + 2 * t)
                = pack<T>(x[n][2 * half], x[n][2 * half + 1]);
    }
}

// Keys 16 * warp and on of a tile [queries][PAIR_STRIDE], transposed, as left factor.
template <typename T>
__device__ inline void load_pairs_left(uint32_t left[TILE / 16][4], const T *tile)
{
    int lane = (int)(threadIdx.x % 32), matrix = lane / 8, row = lane % 8;
    int column = 16 * (int)(threadIdx.x / 32) + matrix % 2 * 8;
    for (int k = 0; k < TILE / 16; k++)
        warp_load_matrices_transposed(left[k], tile + (16 * k + matrix / 2 * 8 + row) * PAIR_STRIDE
                                               + column);
}

template <typename T, int DIM> size_t key_shared()
{
    return (4 * TILE * (DIM + PAD) + 2 * TILE * PAIR_STRIDE) * sizeof(T);
}

template <typename T, int DIM>
__global__ void __launch_bounds__(THREADS)
key_kernel(dropping d, heads<T> h, heads_gradient<T> g)
{
    SHARED(T, q_tile);
    const int size = TILE * (DIM + PAD);
    T *o_tile = q_tile + size, *k_tile = o_tile + size, *v_tile = k_tile + size;
    T *weight_tile = v_tile + size, *score_tile = weight_tile + TILE * PAIR_STRIDE;
    place p = place_of(h);
    size_t count = rows_left(h.keys, p.start), row = p.sample * h.keys + p.start;
    const T *q = h.q + p.sample * h.queries * h.q_stride + p.head * DIM;
    const T *o = g.o + p.sample * h.queries * h.dim + p.head * DIM;
    load_tile<T, DIM>(k_tile, h.k + row * h.kv_stride + p.head * DIM, h.kv_stride, count);
    load_tile<T, DIM>(v_tile, h.v + row * h.kv_stride + p.head * DIM, h.kv_stride, count);
    float scale = 1.0f / sqrtf((float)DIM), k_sums[DIM / 8][4] = {}, v_sums[DIM / 8][4] = {};
    for (size_t start = h.causal ? p.start : 0; start < h.queries; start += TILE) {
        size_t query = start + 16 * (threadIdx.x / 32) + threadIdx.x % 32 / 4;
        __syncthreads();
        load_tile<T, DIM>(q_tile, q + start * h.q_stride, h.q_stride, rows_left(h.queries, start));
        load_tile<T, DIM>(o_tile, o + start * h.dim, h.dim, rows_left(h.queries, start));
        __syncthreads();
        float s[KEY_TILES][4], w[KEY_TILES][4];
        uint32_t left[DIM / 16][4], pairs[TILE / 16][4];
        load_left<T, DIM>(left, q_tile);
        scores<T, DIM>(s, left, k_tile);
        load_left<T, DIM>(left, o_tile);
        scores<T, DIM>(w, left, v_tile);
        query_statistics statistics = statistics_of(h, g, p, query);
        gradients_of(s, w, d, h, p, statistics, query, p.start, scale);
        store_pairs(weight_tile, s);
        store_pairs(score_tile, w);
        __syncthreads();
        load_pairs_left(pairs, weight_tile);
        add_product<T, DIM>(v_sums, pairs, o_tile);
        load_pairs_left(pairs, score_tile);
        add_product<T, DIM>(k_sums, pairs, q_tile);
    }
    float ones[2] = {1.0f, 1.0f};
    size_t at = row * h.kv_stride + p.head * DIM;
    store_rows<T, DIM>(g.k + at, h.kv_stride, count, k_sums, ones);
    store_rows<T, DIM>(g.v + at, h.kv_stride, count, v_sums, ones);
}

template <typename T, int DIM>
void forward_of(cuda_train *device, const dropping &d, const heads<T> &h)
{
    size_t shared = forward_shared<T, DIM>();
    platform_allow_shared(device->platform, reinterpret_cast<const void *>(forward_kernel<T, DIM>),
                          shared);
    dim3 grid((unsigned)(h.samples * h.count), blocks_of(h.queries, TILE));
    auto kernel = forward_kernel<T, DIM>;
    LAUNCH(kernel, grid, THREADS, shared, platform_stream(device->platform), d, h);
    platform_started(device->platform, "attention on tensor cores");
}

template <typename T, int DIM>
void backward_of(cuda_train *device, const dropping &d, const heads<T> &h,
                 const heads_gradient<T> &g)
{
    cudaStream_t stream = platform_stream(device->platform);
    heads_delta(device, h, g);
    auto queries = query_kernel<T, DIM>;
    platform_allow_shared(device->platform, reinterpret_cast<const void *>(queries),
                          query_shared<T, DIM>());
    dim3 query_grid((unsigned)(h.samples * h.count), blocks_of(h.queries, TILE));
    size_t query_bytes = query_shared<T, DIM>();
    LAUNCH(queries, query_grid, THREADS, query_bytes, stream, d, h, g);
    auto keys = key_kernel<T, DIM>;
    platform_allow_shared(device->platform, reinterpret_cast<const void *>(keys),
                          key_shared<T, DIM>());
    dim3 key_grid((unsigned)(h.samples * h.count), blocks_of(h.keys, TILE));
    size_t key_bytes = key_shared<T, DIM>();
    LAUNCH(keys, key_grid, THREADS, key_bytes, stream, d, h, g);
    platform_started(device->platform, "attention on tensor cores, backwards");
}

}

bool heads_tensor_fits(size_t head_dim)
{
    return head_dim == 16 || head_dim == 32 || head_dim == 64 || head_dim == 128;
}

template <typename T>
void heads_tensor_forward(cuda_train *device, const dropping &d, const heads<T> &h)
{
    switch (h.head_dim) {
    case 16: return forward_of<T, 16>(device, d, h);
    case 32: return forward_of<T, 32>(device, d, h);
    case 64: return forward_of<T, 64>(device, d, h);
    default: return forward_of<T, 128>(device, d, h);
    }
}

template <typename T>
void heads_tensor_backward(cuda_train *device, const dropping &d, const heads<T> &h,
                           const heads_gradient<T> &g)
{
    switch (h.head_dim) {
    case 16: return backward_of<T, 16>(device, d, h, g);
    case 32: return backward_of<T, 32>(device, d, h, g);
    case 64: return backward_of<T, 64>(device, d, h, g);
    default: return backward_of<T, 128>(device, d, h, g);
    }
}

template <typename T> void heads_forward(cuda_train *device, const dropping &d, const heads<T> &h)
{
    if (heads_tensor_fits(h.head_dim))
        heads_tensor_forward(device, d, h);
    else
        heads_plain_forward(device, d, h);
}

template <typename T>
void heads_backward(cuda_train *device, const dropping &d, const heads<T> &h,
                    const heads_gradient<T> &g)
{
    if (heads_tensor_fits(h.head_dim))
        heads_tensor_backward(device, d, h, g);
    else
        heads_plain_backward(device, d, h, g);
}

#define HEADS_OF(T)                                                                             \
    template void heads_forward<T>(cuda_train *, const dropping &, const heads<T> &);           \
    template void heads_backward<T>(cuda_train *, const dropping &, const heads<T> &,           \
                                    const heads_gradient<T> &);
HEADS_OF(half_t)
HEADS_OF(bfloat_t)
