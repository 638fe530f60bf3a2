// Thompson sampling on CUDA: a block draws the arms of one bandit and finds the best of them. Draws
// that are refused, one in nine, are put on a list, so that whole warps try again. What depends on
// the shapes alone is made when these are put, half of the work of a draw. This file is compiled
// without contraction of a * b + c: draws have the bits of the CPU's.
#include "compute/cuda/cuda_bandit.h"

#include <cstring>
#include <new>

#include "compute/cuda/search_cuda.cuh"

#define ALWAYS_INLINE static __device__ __forceinline__

#include "compute/cpu/beta_scalar.h"

#include "compute/cpu/beta_attempt.h"

namespace {

enum { WARPS = 4, THREADS = 32 * WARPS, BANDITS_MAX = 1 << 16, REPLICAS_MAX = 1 << 10 };
enum { DRAWS_TOGETHER = 1 << 16, HITS_TOGETHER = 1 << 20 };

// What is resident of an arm: shapes and their envelope (beta_attempt.h).
struct alignas(16) arm_form {
    float alpha, beta, p, q, left, right, left_mass, right_mass;
};

struct job {
    const arm_form *forms;              // [bandits][arms]
    const struct device_draw *draws;    // one of a block
    struct hit *hits;                   // [draws][k]
    size_t arms, k;
    uint32_t seed[2];
};

__global__ void __launch_bounds__(THREADS) form_kernel(const float *alpha, const float *beta,
                                                       size_t count, arm_form *out)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    float a = beta_shape(alpha[i]), b = beta_shape(beta[i]);
    struct beta_form form = beta_envelope(a, b);
    out[i] = {a, b, form.p, form.q, form.left, form.right, form.left_mass, form.right_mass};
}

__device__ inline bool draw(const job &j, const struct device_draw &d, uint32_t arm,
                            uint32_t attempt, float *x)
{
    arm_form f = j.forms[d.bandit * j.arms + arm];
    struct beta_form form;
    unsigned kept;
    float uniform[3];
    struct beta_key key;
    key.seed[0] = j.seed[0];
    key.seed[1] = j.seed[1];
    key.round[0] = (uint32_t)d.round;
    key.round[1] = (uint32_t)(d.round >> 32);
    key.stream = d.bandit;
    key.replica = d.replica;
    v_uniform(uniform, &arm, &key, attempt);
    form.small = v_min(f.alpha, f.beta);
    form.sum = v_add(f.alpha, f.beta);
    form.p = f.p;
    form.q = f.q;
    form.left = f.left;
    form.right = f.right;
    form.left_mass = f.left_mass;
    form.right_mass = f.right_mass;
    *x = beta_attempt_in(&form, f.alpha, f.beta, uniform, &kept);
    return kept;
}

// The greatest key of this thread's arms; those that were taken are below 0.
__device__ inline uint64_t best_of_mine(const float *drawn, uint32_t open)
{
    uint64_t best = 0;
    for (uint32_t arm = threadIdx.x; arm < open; arm += THREADS) {
        uint64_t key = key_of(drawn[arm], arm);
        best = key > best ? key : best;
    }
    return best;
}

__device__ inline uint64_t warp_best(uint64_t best)
{
    for (int step = 16; step > 0; step /= 2) {
        uint64_t other = shuffle_key(best, (int)(threadIdx.x % 32) ^ step);
        best = other > best ? other : best;
    }
    return best;
}

__global__ void __launch_bounds__(THREADS) bandit_kernel(job j)
{
    SHARED(uint64_t, warp_bests);       // [2][WARPS]: two, so that one barrier a turn will do
    float *drawn = reinterpret_cast<float *>(warp_bests + 2 * WARPS);
    unsigned *refused_count = reinterpret_cast<unsigned *>(drawn + j.arms);
    uint16_t *refused = reinterpret_cast<uint16_t *>(refused_count + 1);
    struct device_draw d = j.draws[blockIdx.x];
    if (threadIdx.x == 0)
        *refused_count = 0;
    __syncthreads();
    for (uint32_t arm = threadIdx.x; arm < d.open; arm += THREADS)
        if (!draw(j, d, arm, 0, &drawn[arm]))
            refused[atomicAdd(refused_count, 1)] = (uint16_t)arm;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < *refused_count; i += THREADS) {
        float x;
        bool kept = false;
        for (uint32_t attempt = 1; attempt < BETA_ATTEMPTS && !kept; attempt++)
            kept = draw(j, d, refused[i], attempt, &x);
        if (kept)
            drawn[refused[i]] = x;
    }
    __syncthreads();
    uint64_t mine = best_of_mine(drawn, d.open);
    for (size_t i = 0; i < j.k; i++) {
        uint64_t *bests = warp_bests + i % 2 * WARPS, best = warp_best(mine);
        if (threadIdx.x % 32 == 0)
            bests[threadIdx.x / 32] = best;
        __syncthreads();
        best = 0;
        UNROLL
        for (int w = 0; w < WARPS; w++)
            best = bests[w] > best ? bests[w] : best;
        uint32_t arm = key_row(best);
        if (threadIdx.x != arm % THREADS)
            continue;
        j.hits[blockIdx.x * j.k + i].score = key_score(best);
        j.hits[blockIdx.x * j.k + i].row = arm;
        drawn[arm] = -1;                // only this thread reads it
        mine = best_of_mine(drawn, d.open);
    }
}

size_t shared_bytes(size_t arms)
{
    return 2 * WARPS * sizeof(uint64_t) + arms * (sizeof(float) + sizeof(uint16_t))
           + sizeof(unsigned);
}

}

struct bandit_device {
    platform *own;
    arm_form *forms;
    float *shapes;                              // alpha, beta [arms] on their way
    size_t bandits, arms;
    struct device_draw *draws, *sent;           // sent, received: pinned
    struct hit *hits, *received;
};

namespace {

void destroy(struct bandit_device **device)
{
    struct bandit_device *b = *device;
    if (!b)
        return;
    if (b->own) {
        void *const memory[] = {b->forms, b->shapes, b->draws, b->hits};
        platform_enter(b->own);
        for (void *each : memory)
            platform_release(b->own, each);
        platform_release_pinned(b->own, b->sent);
        platform_release_pinned(b->own, b->received);
        platform_close(b->own);
    }
    delete b;
    *device = nullptr;
}

enum akin_status allocate(struct bandit_device *b, struct akin_error *error)
{
    size_t draws = DRAWS_TOGETHER * sizeof *b->draws, hits = HITS_TOGETHER * sizeof *b->hits;
    struct {
        void **memory;
        size_t bytes;
        bool pinned;
    } wanted[] = {
        {reinterpret_cast<void **>(&b->forms), b->bandits * b->arms * sizeof *b->forms, false},
        {reinterpret_cast<void **>(&b->shapes), 2 * b->arms * sizeof *b->shapes, false},
        {reinterpret_cast<void **>(&b->draws), draws, false},
        {reinterpret_cast<void **>(&b->hits), hits, false},
        {reinterpret_cast<void **>(&b->sent), draws, true},
        {reinterpret_cast<void **>(&b->received), hits, true},
    };
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; status == AKIN_OK && i < sizeof wanted / sizeof *wanted; i++)
        status = wanted[i].pinned
                     ? platform_allocate_pinned(b->own, wanted[i].bytes, wanted[i].memory, error)
                     : platform_allocate(b->own, wanted[i].bytes, wanted[i].memory, error);
    return status;
}

void put_forms(struct bandit_device *b, size_t bandit, const float *alpha, const float *beta)
{
    platform_upload(b->own, b->shapes, alpha, b->arms * sizeof *alpha);
    platform_upload(b->own, b->shapes + b->arms, beta, b->arms * sizeof *beta);
    LAUNCH(form_kernel, (unsigned)((b->arms + THREADS - 1) / THREADS), THREADS, 0,
           platform_stream(b->own), b->shapes, b->shapes + b->arms, b->arms,
           b->forms + bandit * b->arms);
    platform_started(b->own, "the shapes of bandits");
}

enum akin_status create(int ordinal, const float *alpha, const float *beta, size_t bandits,
                        size_t arms, struct bandit_device **device, struct akin_error *error)
{
    *device = nullptr;
    if (bandits == 0 || bandits > BANDITS_MAX || arms == 0 || arms > BANDIT_DEVICE_ARMS_MAX)
        return error_set(error, AKIN_UNSUPPORTED, "%zu bandits of %zu arms: on the GPU there are 1 "
                         "to %d of 1 to %d; draw on the CPU", bandits, arms, BANDITS_MAX,
                         BANDIT_DEVICE_ARMS_MAX);
    struct bandit_device *b = new (std::nothrow) bandit_device();
    if (!b)
        return error_memory(error);
    b->bandits = bandits;
    b->arms = arms;
    enum akin_status status = platform_open(ordinal, &b->own, error, CUDA_USE_BANDITS);
    if (status == AKIN_OK)
        status = allocate(b, error);
    if (status == AKIN_OK) {
        for (size_t i = 0; i < bandits; i++)
            put_forms(b, i, alpha + i * arms, beta + i * arms);
        // the most, whatever the arms: it is the kernel's, so of all that are open
        platform_allow_shared(b->own, reinterpret_cast<const void *>(bandit_kernel),
                              shared_bytes(BANDIT_DEVICE_ARMS_MAX));
        status = platform_finish(b->own, error);
    }
    if (status == AKIN_OK)
        *device = b;
    else
        destroy(&b);
    return status;
}

enum akin_status put(struct bandit_device *b, size_t bandit, const float *alpha, const float *beta,
                     struct akin_error *error)
{
    if (bandit >= b->bandits)
        return error_set(error, AKIN_ARGUMENT, "bandit %zu: there are %zu", bandit, b->bandits);
    platform_enter(b->own);
    put_forms(b, bandit, alpha, beta);
    return platform_finish(b->own, error);
}

enum akin_status check_draws(const struct bandit_device *b, const struct device_draw *draws,
                             size_t count, size_t k, struct akin_error *error)
{
    for (size_t i = 0; i < count; i++) {
        const struct device_draw *d = &draws[i];
        if (d->bandit >= b->bandits || d->open > b->arms || k == 0 || k > d->open ||
            d->replica >= REPLICAS_MAX)
            return error_set(error, AKIN_ARGUMENT, "draw %zu: %zu of %u arms of bandit %u, replica "
                             "%u; there are %zu arms of %zu bandits, and %d replicas", i, k,
                             d->open, d->bandit, d->replica, b->arms, b->bandits, REPLICAS_MAX);
    }
    return AKIN_OK;
}

enum akin_status choose(struct bandit_device *b, uint64_t seed, const struct device_draw *draws,
                        size_t count, size_t k, struct hit *hits, struct akin_error *error)
{
    enum akin_status status = check_draws(b, draws, count, k, error);
    if (status != AKIN_OK || count == 0)
        return status;
    platform_enter(b->own);
    size_t together = HITS_TOGETHER / k < DRAWS_TOGETHER ? HITS_TOGETHER / k
                                                         : (size_t)DRAWS_TOGETHER;
    for (size_t first = 0; status == AKIN_OK && first < count; first += together) {
        size_t now = count - first < together ? count - first : together;
        job j = {b->forms, b->draws, b->hits, b->arms, k,
                 {(uint32_t)seed, (uint32_t)(seed >> 32)}};
        memcpy(b->sent, draws + first, now * sizeof *draws);
        platform_upload(b->own, b->draws, b->sent, now * sizeof *draws);
        LAUNCH(bandit_kernel, (unsigned)now, THREADS, shared_bytes(b->arms),
               platform_stream(b->own), j);
        platform_started(b->own, "the draws of bandits");
        platform_download(b->own, b->received, b->hits, now * k * sizeof *hits);
        status = platform_finish(b->own, error);
        if (status == AKIN_OK)
            memcpy(hits + first * k, b->received, now * k * sizeof *hits);
    }
    return status;
}

}

extern "C" const struct bandit_device_ops *cuda_bandit_ops(void)
{
    static const struct bandit_device_ops ops = {create, destroy, put, choose};
    return &ops;
}
