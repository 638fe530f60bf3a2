// Users' vectors on CUDA. Ratings are sorted by user, equal ones in their order, and a warp takes
// all of one user: it reads and writes the vector once and adds one item after the other. The time
// is that of memory: an item's row for each rating, a user's twice for each run. This file is
// compiled without contraction of a * b + c: the bits are the CPU's.
#include "compute/cuda/cuda_devices.h"

#include <cmath>
#include <cstring>
#include <new>

#include "compute/cuda/platform.cuh"

namespace {

enum { WARPS = 8, THREADS = 32 * WARPS, PIECE = 128 };      // numbers of a row that a warp loads
enum { TOGETHER = 1 << 20 };

struct job {
    float *users;                       // [][dim]
    const float *items;                 // [][dim]
    const struct device_rating *ratings;
    const int32_t *sorted, *order;      // users ascending, and whose ratings these are
    size_t count;
};

__global__ void __launch_bounds__(THREADS) keys_kernel(const struct device_rating *ratings,
                                                       size_t count, int32_t *users,
                                                       int32_t *order)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    users[i] = (int32_t)ratings[i].user;
    order[i] = (int32_t)i;
}

// Four numbers of each piece are a lane's.
template <int PIECES> __device__ inline void load(uint4 out[PIECES], const float *row)
{
    UNROLL
    for (int i = 0; i < PIECES; i++)
        out[i] = *reinterpret_cast<const uint4 *>(row + i * PIECE + 4 * (threadIdx.x % 32));
}

__device__ inline unsigned moved(unsigned user, unsigned item, float gain, float keep)
{
    float kept = keep < 0 ? 0.0f : keep * bits_score(user), added = gain * bits_score(item);
    return score_bits(kept + added);
}

template <int PIECES>
__global__ void __launch_bounds__(THREADS) apply_kernel(job j)
{
    enum { DIM = PIECES * PIECE };
    size_t at = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (at >= j.count)
        return;
    int32_t user = j.sorted[at];
    if (at > 0 && j.sorted[at - 1] == user)
        return;                         // the warp where the run begins has it
    float *own = j.users + (size_t)user * DIM;
    uint4 vector[PIECES], next[PIECES];
    struct device_rating rating = j.ratings[j.order[at]];
    load<PIECES>(vector, own);
    load<PIECES>(next, j.items + (size_t)rating.item * DIM);
    for (bool more = true; more;) {
        uint4 row[PIECES];
        float gain = rating.gain, keep = rating.keep;
        UNROLL
        for (int i = 0; i < PIECES; i++)
            row[i] = next[i];
        at++;
        more = at < j.count && j.sorted[at] == user;
        if (more) {                     // on its way while this one is added
            rating = j.ratings[j.order[at]];
            load<PIECES>(next, j.items + (size_t)rating.item * DIM);
        }
        UNROLL
        for (int i = 0; i < PIECES; i++) {
            vector[i].x = moved(vector[i].x, row[i].x, gain, keep);
            vector[i].y = moved(vector[i].y, row[i].y, gain, keep);
            vector[i].z = moved(vector[i].z, row[i].z, gain, keep);
            vector[i].w = moved(vector[i].w, row[i].w, gain, keep);
        }
    }
    UNROLL
    for (int i = 0; i < PIECES; i++)
        *reinterpret_cast<uint4 *>(own + i * PIECE + 4 * (threadIdx.x % 32)) = vector[i];
}

template <int PIECES> void start_apply(platform *p, const job &j)
{
    auto *kernel = apply_kernel<PIECES>;
    LAUNCH(kernel, (unsigned)((j.count + WARPS - 1) / WARPS), THREADS, 0, platform_stream(p), j);
}

void start(platform *p, const job &j, size_t dim)
{
    static void (*const starts[])(platform *, const job &) = {
        start_apply<1>, start_apply<2>, start_apply<3>, start_apply<4>,
        start_apply<5>, start_apply<6>, start_apply<7>, start_apply<8>,
    };
    static_assert(sizeof starts / sizeof *starts * PIECE == USER_DEVICE_DIM_MAX, "all sizes");
    static_assert((int)PIECE == (int)USER_DEVICE_DIM_UNIT, "of whole pieces");
    starts[dim / PIECE - 1](p, j);
    platform_started(p, "the updates of users");
}

}

struct user_device {
    platform *own;
    float *users, *items;
    size_t user_count, item_count, dim;
    struct device_rating *ratings, *sent;       // sent: pinned
    int32_t *keys, *sorted, *places, *order;
    void *scratch;
    size_t scratch_bytes, bytes;
    double elapsed_ms;
};

namespace {

void destroy(struct user_device **device)
{
    struct user_device *u = *device;
    if (!u)
        return;
    if (u->own) {
        void *const memory[] = {u->users, u->items, u->ratings, u->keys,
                                u->sorted, u->places, u->order, u->scratch};
        platform_enter(u->own);
        for (void *each : memory)
            platform_release(u->own, each);
        platform_release_pinned(u->own, u->sent);
        platform_close(u->own);
    }
    delete u;
    *device = nullptr;
}

enum akin_status allocate(struct user_device *u, struct akin_error *error)
{
    size_t row = u->dim * sizeof(float);
    u->scratch_bytes = platform_sort_bytes(TOGETHER);
    struct {
        void **memory;
        size_t bytes;
    } wanted[] = {
        {reinterpret_cast<void **>(&u->users), u->user_count * row},
        {reinterpret_cast<void **>(&u->items), u->item_count * row},
        {reinterpret_cast<void **>(&u->ratings), TOGETHER * sizeof *u->ratings},
        {reinterpret_cast<void **>(&u->keys), TOGETHER * sizeof *u->keys},
        {reinterpret_cast<void **>(&u->sorted), TOGETHER * sizeof *u->sorted},
        {reinterpret_cast<void **>(&u->places), TOGETHER * sizeof *u->places},
        {reinterpret_cast<void **>(&u->order), TOGETHER * sizeof *u->order},
        {&u->scratch, u->scratch_bytes},
    };
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; status == AKIN_OK && i < sizeof wanted / sizeof *wanted; i++) {
        status = platform_allocate(u->own, wanted[i].bytes, wanted[i].memory, error);
        u->bytes += wanted[i].bytes;
    }
    return status != AKIN_OK ? status
                             : platform_allocate_pinned(u->own, TOGETHER * sizeof *u->sent,
                                                        reinterpret_cast<void **>(&u->sent), error);
}

enum akin_status create(int ordinal, const float *items, size_t item_count, size_t dim,
                        size_t user_count, struct user_device **device, struct akin_error *error)
{
    *device = nullptr;
    if (dim == 0 || dim % USER_DEVICE_DIM_UNIT || dim > USER_DEVICE_DIM_MAX)
        return error_set(error, AKIN_UNSUPPORTED, "dimension %zu: on the GPU it is a multiple of "
                         "%d up to %d; update on the CPU", dim, USER_DEVICE_DIM_UNIT,
                         USER_DEVICE_DIM_MAX);
    if (item_count == 0 || user_count == 0 || item_count > INT32_MAX || user_count > INT32_MAX)
        return error_set(error, AKIN_UNSUPPORTED, "%zu users and %zu items: on the GPU there are 1 "
                         "to %d of each", user_count, item_count, INT32_MAX);
    struct user_device *u = new (std::nothrow) user_device();
    if (!u)
        return error_memory(error);
    u->item_count = item_count;
    u->user_count = user_count;
    u->dim = dim;
    enum akin_status status = platform_open(ordinal, &u->own, error, CUDA_USE_USERS);
    if (status == AKIN_OK)
        status = allocate(u, error);
    if (status == AKIN_OK) {
        platform_upload(u->own, u->items, items, item_count * dim * sizeof *items);
        platform_clear(u->own, u->users, user_count * dim * sizeof *u->users);
        status = platform_finish(u->own, error);
    }
    if (status == AKIN_OK)
        *device = u;
    else
        destroy(&u);
    return status;
}

enum akin_status check_ratings(const struct user_device *u, const struct device_rating *ratings,
                               size_t count, struct akin_error *error)
{
    for (size_t i = 0; i < count; i++) {
        const struct device_rating *r = &ratings[i];
        if (r->user >= u->user_count || r->item >= u->item_count || !std::isfinite(r->gain) ||
            !((r->keep >= 0 && r->keep <= 1) || r->keep == -1))
            return error_set(error, AKIN_ARGUMENT, "rating %zu: item %u by user %u, keep %g, gain "
                             "%g; there are %zu items and %zu users", i, r->item, r->user,
                             (double)r->keep, (double)r->gain, u->item_count, u->user_count);
    }
    return AKIN_OK;
}

enum akin_status apply(struct user_device *u, const struct device_rating *ratings, size_t count,
                       struct akin_error *error)
{
    enum akin_status status = check_ratings(u, ratings, count, error);
    double elapsed = 0;
    if (status != AKIN_OK)
        return status;
    platform_enter(u->own);
    for (size_t first = 0; status == AKIN_OK && first < count; first += TOGETHER) {
        size_t now = count - first < TOGETHER ? count - first : (size_t)TOGETHER;
        job j = {u->users, u->items, u->ratings, u->sorted, u->order, now};
        memcpy(u->sent, ratings + first, now * sizeof *ratings);
        platform_upload(u->own, u->ratings, u->sent, now * sizeof *ratings);
        platform_mark(u->own);
        LAUNCH(keys_kernel, (unsigned)((now + THREADS - 1) / THREADS), THREADS, 0,
               platform_stream(u->own), u->ratings, now, u->keys, u->places);
        platform_started(u->own, "the users of ratings");
        platform_sort(u->own, u->keys, u->sorted, u->places, u->order, now, u->scratch,
                      u->scratch_bytes);
        start(u->own, j, u->dim);
        platform_mark_end(u->own);
        status = platform_finish(u->own, error);
        elapsed += platform_marked_ms(u->own);
    }
    if (status == AKIN_OK)
        u->elapsed_ms = elapsed;
    return status;
}

enum akin_status check_range(const struct user_device *u, size_t first, size_t count,
                             struct akin_error *error)
{
    if (first > u->user_count || count > u->user_count - first)
        return error_set(error, AKIN_ARGUMENT, "%zu users from %zu: there are %zu", count, first,
                         u->user_count);
    return AKIN_OK;
}

enum akin_status read(struct user_device *u, size_t first, size_t count, float *vectors,
                      struct akin_error *error)
{
    enum akin_status status = check_range(u, first, count, error);
    if (status != AKIN_OK)
        return status;
    platform_enter(u->own);
    platform_download(u->own, vectors, u->users + first * u->dim, count * u->dim * sizeof(float));
    return platform_finish(u->own, error);
}

enum akin_status write(struct user_device *u, size_t first, size_t count, const float *vectors,
                       struct akin_error *error)
{
    enum akin_status status = check_range(u, first, count, error);
    if (status != AKIN_OK)
        return status;
    platform_enter(u->own);
    platform_upload(u->own, u->users + first * u->dim, vectors, count * u->dim * sizeof(float));
    return platform_finish(u->own, error);
}

double elapsed_ms(const struct user_device *u)
{
    return u->elapsed_ms;
}

size_t memory(const struct user_device *u)
{
    return u->bytes;
}

}

extern "C" const struct user_device_ops *cuda_user_ops(void)
{
    static const struct user_device_ops ops = {create, destroy, apply, read, write, elapsed_ms,
                                                memory};
    return &ops;
}
