// Thompson sampling on CUDA: a block draws the arms of one bandit and finds the best of them. Draws
// that are refused, one in nine, are put on a list, so that whole warps try again. What depends on
// the shapes alone is made when these are put, half of the work of a draw, and with it the most
// that an arm's draw can be (beta_top.h): arms lie in the order of that, so where one is looked for
// a block ends as soon as no arm that is left can reach what it has. This file is compiled without
// contraction of a * b + c: draws have the bits of the CPU's.
#include "compute/cuda/cuda_devices.h"

#include <cstring>
#include <new>

#include "compute/cuda/search_cuda.cuh"

#define ALWAYS_INLINE static __device__ __forceinline__

#include "compute/cpu/beta_scalar.h"

#include "compute/cpu/beta_attempt.h"

#include "compute/cpu/beta_top.h"

namespace {

enum { WARPS = 4, THREADS = 32 * WARPS, BANDITS_MAX = 1 << 16, REPLICAS_MAX = 1 << 10 };
enum { DRAWS_TOGETHER = 1 << 16, HITS_TOGETHER = 1 << 20, PUT_TOGETHER = 1 << 20 };

// What is resident of an arm: shapes and their envelope (beta_attempt.h).
struct alignas(16) arm_form {
    float alpha, beta, p, q, left, right, left_mass, right_mass;
};

// [bandits][arms] each; arms of a bandit by what is the most of a draw, the greatest first.
struct resident {
    arm_form *forms;
    float *tops;
    uint16_t *arms, *places;            // which arm; where an arm is
};

struct job {
    resident all;
    const struct device_draw *draws;    // one of a block
    struct hit *hits;                   // [draws][k]
    size_t arms, k;
    uint32_t seed[2];
};

// ---- what is put ------------------------------------------------------------------------------

// Of arms in the order in which they come; keys that order them.
__global__ void __launch_bounds__(THREADS) form_kernel(const float *alpha, const float *beta,
                                                       size_t count, arm_form *out, float *tops,
                                                       int32_t *keys, int32_t *numbers)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    float a = beta_shape(alpha[i]), b = beta_shape(beta[i]);
    struct beta_form form = beta_envelope(a, b);
    out[i] = {a, b, form.p, form.q, form.left, form.right, form.left_mass, form.right_mass};
    tops[i] = beta_top(&form, a, b);
    keys[i] = -(int32_t)score_bits(tops[i]);        // no top is negative
    numbers[i] = (int32_t)i;
}

__global__ void __launch_bounds__(THREADS) owner_kernel(const int32_t *numbers, size_t count,
                                                        size_t arms, int32_t *keys)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count)
        keys[i] = (int32_t)((size_t)numbers[i] / arms);
}

__global__ void __launch_bounds__(THREADS) place_kernel(const arm_form *forms, const float *tops,
                                                        const int32_t *numbers, size_t count,
                                                        size_t arms, resident to)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    size_t from = (size_t)numbers[i];
    to.forms[i] = forms[from];
    to.tops[i] = tops[from];
    to.arms[i] = (uint16_t)(from % arms);
    to.places[from] = (uint16_t)(i % arms);
}

// ---- draws ------------------------------------------------------------------------------------

__device__ inline bool draw(const job &j, const struct device_draw &d, size_t place, uint32_t arm,
                            uint32_t attempt, float *x)
{
    arm_form f = j.all.forms[d.bandit * j.arms + place];
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

// The first attempt that is kept from number 1 on; where none is, *x stays, the one before these.
__device__ inline void draw_again(const job &j, const struct device_draw &d, size_t place,
                                  uint32_t arm, float *x)
{
    float next;
    bool kept = false;
    for (uint32_t attempt = 1; attempt < BETA_ATTEMPTS && !kept; attempt++)
        kept = draw(j, d, place, arm, attempt, &next);
    if (kept)
        *x = next;
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

// The greatest number of the block; `room` has WARPS, and is not that of the call before.
__device__ inline float block_max(float x, float *room)
{
    x = warp_max(x);
    if (threadIdx.x % 32 == 0)
        room[threadIdx.x / 32] = x;
    __syncthreads();
    UNROLL
    for (int w = 0; w < WARPS; w++)
        x = fmaxf(x, room[w]);
    return x;
}

// The best of all arms; what is left where the block ends cannot be it.
__device__ inline void find_best(const job &j, const struct device_draw &d, uint64_t *warp_bests,
                                 unsigned *refused_count, uint16_t *refused)
{
    const uint16_t *arms = j.all.arms + d.bandit * j.arms;
    const float *tops = j.all.tops + d.bandit * j.arms;
    float *room = reinterpret_cast<float *>(warp_bests), known = -1, own = -1, x;
    uint64_t mine = 0;
    for (size_t base = 0, turn = 0; base < j.arms && tops[base] >= known; base += THREADS, turn++) {
        size_t place = base + threadIdx.x;
        if (place < j.arms) {
            uint32_t arm = arms[place];
            if (draw(j, d, place, arm, 0, &x)) {
                uint64_t key = key_of(x, arm);
                mine = key > mine ? key : mine;
                own = fmaxf(own, x);
            } else {
                refused[atomicAdd(refused_count, 1)] = (uint16_t)place;
            }
        }
        known = block_max(own, room + turn % 2 * WARPS);
    }
    for (unsigned i = threadIdx.x; i < *refused_count; i += THREADS) {
        size_t place = refused[i];
        if (tops[place] < known)
            continue;
        draw(j, d, place, arms[place], 0, &x);
        draw_again(j, d, place, arms[place], &x);
        uint64_t key = key_of(x, arms[place]);
        mine = key > mine ? key : mine;
    }
    __syncthreads();            // room is where the bests of the warps are
    mine = warp_best(mine);
    if (threadIdx.x % 32 == 0)
        warp_bests[threadIdx.x / 32] = mine;
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    for (int w = 0; w < WARPS; w++)
        mine = warp_bests[w] > mine ? warp_bests[w] : mine;
    j.hits[blockIdx.x].score = key_score(mine);
    j.hits[blockIdx.x].row = key_row(mine);
}

// The k best of the open arms, all of which are drawn.
__device__ inline void find_all(const job &j, const struct device_draw &d, uint64_t *warp_bests,
                                float *drawn, unsigned *refused_count, uint16_t *refused)
{
    const uint16_t *places = j.all.places + d.bandit * j.arms;
    for (uint32_t arm = threadIdx.x; arm < d.open; arm += THREADS)
        if (!draw(j, d, places[arm], arm, 0, &drawn[arm]))
            refused[atomicAdd(refused_count, 1)] = (uint16_t)arm;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < *refused_count; i += THREADS)
        draw_again(j, d, places[refused[i]], refused[i], &drawn[refused[i]]);
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
    if (j.k == 1 && d.open == j.arms)
        find_best(j, d, warp_bests, refused_count, refused);
    else
        find_all(j, d, warp_bests, drawn, refused_count, refused);
}

size_t shared_bytes(size_t arms)
{
    return 2 * WARPS * sizeof(uint64_t) + arms * (sizeof(float) + sizeof(uint16_t))
           + sizeof(unsigned);
}

}

struct bandit_device {
    platform *own;
    size_t bandits, arms, together, bytes;      // together: bandits that are put at once
    resident all;
    float *shapes, *tops;                       // alpha, beta [together][arms]; on their way
    arm_form *forms;                            // [together][arms]
    int32_t *keys, *sorted, *numbers, *order;   // [together * arms]
    void *scratch;
    size_t scratch_bytes;
    struct device_draw *draws, *sent;           // sent, received: pinned
    struct hit *hits, *received;
    double elapsed_ms;
};

namespace {

void destroy(struct bandit_device **device)
{
    struct bandit_device *b = *device;
    if (!b)
        return;
    if (b->own) {
        void *const memory[] = {b->all.forms, b->all.tops, b->all.arms, b->all.places, b->shapes,
                                b->tops, b->forms, b->keys, b->sorted, b->numbers, b->order,
                                b->scratch, b->draws, b->hits};
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

template <typename T>
enum akin_status take(struct bandit_device *b, T **memory, size_t count, struct akin_error *error)
{
    void *taken;
    enum akin_status status = platform_allocate(b->own, count * sizeof(T), &taken, error);
    if (status != AKIN_OK)
        return status;
    *memory = static_cast<T *>(taken);
    b->bytes += count * sizeof(T);
    return AKIN_OK;
}

template <typename T>
enum akin_status take_pinned(struct bandit_device *b, T **memory, size_t count,
                             struct akin_error *error)
{
    void *taken;
    enum akin_status status = platform_allocate_pinned(b->own, count * sizeof(T), &taken, error);
    if (status == AKIN_OK)
        *memory = static_cast<T *>(taken);
    return status;
}

enum akin_status allocate(struct bandit_device *b, struct akin_error *error)
{
    size_t all = b->bandits * b->arms, some = b->together * b->arms;
    unsigned char *scratch;
    b->scratch_bytes = platform_sort_bytes(some);
    TRY(take(b, &b->all.forms, all, error));
    TRY(take(b, &b->all.tops, all, error));
    TRY(take(b, &b->all.arms, all, error));
    TRY(take(b, &b->all.places, all, error));
    TRY(take(b, &b->shapes, 2 * some, error));
    TRY(take(b, &b->tops, some, error));
    TRY(take(b, &b->forms, some, error));
    TRY(take(b, &b->keys, some, error));
    TRY(take(b, &b->sorted, some, error));
    TRY(take(b, &b->numbers, some, error));
    TRY(take(b, &b->order, some, error));
    TRY(take(b, &scratch, b->scratch_bytes, error));
    b->scratch = scratch;
    TRY(take(b, &b->draws, DRAWS_TOGETHER, error));
    TRY(take(b, &b->hits, HITS_TOGETHER, error));
    TRY(take_pinned(b, &b->sent, DRAWS_TOGETHER, error));
    return take_pinned(b, &b->received, HITS_TOGETHER, error);
}

// Sorted by what is the most of a draw, then, keeping that order, by bandit.
void put_some(struct bandit_device *b, size_t bandit, const float *alpha, const float *beta,
              size_t bandits)
{
    size_t count = bandits * b->arms, at = bandit * b->arms;
    unsigned blocks = (unsigned)((count + THREADS - 1) / THREADS);
    resident to = {b->all.forms + at, b->all.tops + at, b->all.arms + at, b->all.places + at};
    platform_upload(b->own, b->shapes, alpha, count * sizeof *alpha);
    platform_upload(b->own, b->shapes + count, beta, count * sizeof *beta);
    LAUNCH(form_kernel, blocks, THREADS, 0, platform_stream(b->own), b->shapes, b->shapes + count,
           count, b->forms, b->tops, b->keys, b->numbers);
    platform_started(b->own, "the shapes of bandits");
    platform_sort(b->own, b->keys, b->sorted, b->numbers, b->order, count, b->scratch,
                  b->scratch_bytes);
    int32_t *order = b->order;
    if (bandits > 1) {
        LAUNCH(owner_kernel, blocks, THREADS, 0, platform_stream(b->own), b->order, count, b->arms,
               b->keys);
        platform_started(b->own, "the order of arms");
        platform_sort(b->own, b->keys, b->sorted, b->order, b->numbers, count, b->scratch,
                      b->scratch_bytes);
        order = b->numbers;
    }
    LAUNCH(place_kernel, blocks, THREADS, 0, platform_stream(b->own), b->forms, b->tops, order,
           count, b->arms, to);
    platform_started(b->own, "the order of arms");
}

enum akin_status put(struct bandit_device *b, size_t bandit, size_t count, const float *alpha,
                     const float *beta, struct akin_error *error)
{
    if (bandit > b->bandits || count > b->bandits - bandit)
        return error_set(error, AKIN_ARGUMENT, "%zu bandits from %zu: there are %zu", count, bandit,
                         b->bandits);
    platform_enter(b->own);
    for (size_t first = 0; first < count; first += b->together) {
        size_t now = count - first < b->together ? count - first : b->together;
        put_some(b, bandit + first, alpha + first * b->arms, beta + first * b->arms, now);
    }
    return platform_finish(b->own, error);
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
    b->together = PUT_TOGETHER / arms < bandits ? PUT_TOGETHER / arms : bandits;
    enum akin_status status = platform_open(ordinal, &b->own, error, CUDA_USE_BANDITS);
    if (status == AKIN_OK)
        status = allocate(b, error);
    if (status == AKIN_OK) {
        // the most, whatever the arms: it is the kernel's, so of all that are open
        platform_allow_shared(b->own, reinterpret_cast<const void *>(bandit_kernel),
                              shared_bytes(BANDIT_DEVICE_ARMS_MAX));
        status = put(b, 0, bandits, alpha, beta, error);
    }
    if (status == AKIN_OK)
        *device = b;
    else
        destroy(&b);
    return status;
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
    double elapsed = 0;
    size_t together = HITS_TOGETHER / k < DRAWS_TOGETHER ? HITS_TOGETHER / k
                                                         : (size_t)DRAWS_TOGETHER;
    for (size_t first = 0; status == AKIN_OK && first < count; first += together) {
        size_t now = count - first < together ? count - first : together;
        job j = {b->all, b->draws, b->hits, b->arms, k,
                 {(uint32_t)seed, (uint32_t)(seed >> 32)}};
        memcpy(b->sent, draws + first, now * sizeof *draws);
        platform_upload(b->own, b->draws, b->sent, now * sizeof *draws);
        platform_mark(b->own);
        LAUNCH(bandit_kernel, (unsigned)now, THREADS, shared_bytes(b->arms),
               platform_stream(b->own), j);
        platform_started(b->own, "the draws of bandits");
        platform_mark_end(b->own);
        platform_download(b->own, b->received, b->hits, now * k * sizeof *hits);
        status = platform_finish(b->own, error);
        if (status == AKIN_OK)
            memcpy(hits + first * k, b->received, now * k * sizeof *hits);
        elapsed += platform_marked_ms(b->own);
    }
    if (status == AKIN_OK)
        b->elapsed_ms = elapsed;
    return status;
}

double elapsed_ms(const struct bandit_device *b)
{
    return b->elapsed_ms;
}

size_t memory(const struct bandit_device *b)
{
    return b->bytes;
}

}

extern "C" const struct bandit_device_ops *cuda_bandit_ops(void)
{
    static const struct bandit_device_ops ops = {create, destroy, put, choose, elapsed_ms, memory};
    return &ops;
}
