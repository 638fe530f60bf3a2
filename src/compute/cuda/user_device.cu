// Users' vectors on CUDA. Ratings come as they are, 12 bytes each: the card looks whether they can
// be, sorts them by user, equal ones in their order, and a warp takes all of one user. It reads and
// writes both vectors once and adds one item after the other, whose row serves both. The time is
// that of memory: an item's row for each rating, a user's twice for each run. This file is compiled
// without contraction of a * b + c: the bits are the CPU's.
#include "compute/cuda/cuda_devices.h"

#include <cmath>
#include <new>

#include "compute/cuda/platform.cuh"

namespace {

enum { WARPS = 8, THREADS = 32 * WARPS, PIECE = 128 };      // numbers of a row that a warp loads

struct job {
    float *users;                       // [][2][dim]
    uint32_t *counts;                   // [] ratings so far
    const float *items;                 // [][dim]
    const struct device_rating *ratings;
    const int32_t *sorted, *order;      // users ascending, and whose ratings these are
    const uint32_t *wrong;              // ~ the first rating that cannot be; 0: none is
    size_t count;
    float rates[2];
    double rating_max;
};

struct key_job {
    const struct device_rating *ratings;
    size_t count, user_count, item_count;
    double rating_max;
    int32_t *users, *order;
    uint32_t *wrong;
};

__device__ inline float scaled(float rating, double rating_max)
{
    return (float)((double)rating / rating_max);
}

// Which of several wrong ones is told does not depend on who comes first: the smallest number.
__global__ void __launch_bounds__(THREADS) keys_kernel(key_job j)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= j.count)
        return;
    struct device_rating r = j.ratings[i];
    if (r.user >= j.user_count || r.item >= j.item_count ||
        !(fabsf(scaled(r.rating, j.rating_max)) < INFINITY))
        atomicMax(j.wrong, ~(uint32_t)i);
    j.users[i] = (int32_t)r.user;
    j.order[i] = (int32_t)i;
}

// Four numbers of each piece are a lane's.
template <int PIECES> __device__ inline void load(uint4 out[PIECES], const float *row)
{
    UNROLL
    for (int i = 0; i < PIECES; i++)
        out[i] = *reinterpret_cast<const uint4 *>(row + i * PIECE + 4 * (threadIdx.x % 32));
}

__device__ inline unsigned moved(unsigned user, unsigned item, float keep, float gain)
{
    float kept = keep * bits_score(user), added = gain * bits_score(item);
    return score_bits(kept + added);
}

template <int PIECES>
__device__ inline void move(uint4 vector[PIECES], const uint4 row[PIECES], float rate, float first,
                            float rating)
{
    float share = first > rate ? first : rate, keep = 1 - share, gain = share * rating;
    UNROLL
    for (int i = 0; i < PIECES; i++) {
        vector[i].x = moved(vector[i].x, row[i].x, keep, gain);
        vector[i].y = moved(vector[i].y, row[i].y, keep, gain);
        vector[i].z = moved(vector[i].z, row[i].z, keep, gain);
        vector[i].w = moved(vector[i].w, row[i].w, keep, gain);
    }
}

template <int PIECES> __device__ inline void store(float *row, const uint4 from[PIECES])
{
    UNROLL
    for (int i = 0; i < PIECES; i++)
        *reinterpret_cast<uint4 *>(row + i * PIECE + 4 * (threadIdx.x % 32)) = from[i];
}

template <int PIECES>
__global__ void __launch_bounds__(THREADS) apply_kernel(job j)
{
    enum { DIM = PIECES * PIECE };
    size_t at = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (at >= j.count || *j.wrong)
        return;
    int32_t user = j.sorted[at];
    if (at > 0 && j.sorted[at - 1] == user)
        return;                         // the warp where the run begins has it
    float *own = j.users + (size_t)user * 2 * DIM;
    uint32_t rated = j.counts[user];
    uint4 fast[PIECES], slow[PIECES], next[PIECES];
    struct device_rating rating = j.ratings[j.order[at]];
    load<PIECES>(fast, own);
    load<PIECES>(slow, own + DIM);
    load<PIECES>(next, j.items + (size_t)rating.item * DIM);
    for (bool more = true; more;) {
        uint4 row[PIECES];
        float value = scaled(rating.rating, j.rating_max), first = 1 / (float)++rated;
        UNROLL
        for (int i = 0; i < PIECES; i++)
            row[i] = next[i];
        at++;
        more = at < j.count && j.sorted[at] == user;
        if (more) {                     // on its way while this one is added
            rating = j.ratings[j.order[at]];
            load<PIECES>(next, j.items + (size_t)rating.item * DIM);
        }
        move<PIECES>(fast, row, j.rates[0], first, value);
        move<PIECES>(slow, row, j.rates[1], first, value);
    }
    store<PIECES>(own, fast);
    store<PIECES>(own + DIM, slow);
    __syncwarp();
    if (threadIdx.x % 32 == 0)
        j.counts[user] = rated;
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
    uint32_t *counts;
    size_t user_count, item_count, dim;
    float rates[2];
    double rating_max;
    struct device_rating *ratings, *room;       // room: pinned, as is told
    uint32_t *wrong, *told;
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
        void *const memory[] = {u->users, u->items, u->counts, u->ratings, u->wrong, u->keys,
                                u->sorted, u->places, u->order, u->scratch};
        platform_enter(u->own);
        for (void *each : memory)
            platform_release(u->own, each);
        platform_release_pinned(u->own, u->room);
        platform_release_pinned(u->own, u->told);
        platform_close(u->own);
    }
    delete u;
    *device = nullptr;
}

enum akin_status allocate(struct user_device *u, struct akin_error *error)
{
    size_t row = u->dim * sizeof(float), most = USER_DEVICE_TOGETHER;
    u->scratch_bytes = platform_sort_bytes(most);
    struct {
        void **memory;
        size_t bytes;
        bool pinned;
    } wanted[] = {
        {reinterpret_cast<void **>(&u->users), u->user_count * 2 * row, false},
        {reinterpret_cast<void **>(&u->items), u->item_count * row, false},
        {reinterpret_cast<void **>(&u->counts), u->user_count * sizeof *u->counts, false},
        {reinterpret_cast<void **>(&u->ratings), most * sizeof *u->ratings, false},
        {reinterpret_cast<void **>(&u->wrong), sizeof *u->wrong, false},
        {reinterpret_cast<void **>(&u->keys), most * sizeof *u->keys, false},
        {reinterpret_cast<void **>(&u->sorted), most * sizeof *u->sorted, false},
        {reinterpret_cast<void **>(&u->places), most * sizeof *u->places, false},
        {reinterpret_cast<void **>(&u->order), most * sizeof *u->order, false},
        {&u->scratch, u->scratch_bytes, false},
        {reinterpret_cast<void **>(&u->room), most * sizeof *u->room, true},
        {reinterpret_cast<void **>(&u->told), sizeof *u->told, true},
    };
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; status == AKIN_OK && i < sizeof wanted / sizeof *wanted; i++) {
        auto *take = wanted[i].pinned ? platform_allocate_pinned : platform_allocate;
        status = take(u->own, wanted[i].bytes, wanted[i].memory, error);
        u->bytes += wanted[i].pinned ? 0 : wanted[i].bytes;
    }
    return status;
}

void clear(struct user_device *u)
{
    platform_enter(u->own);
    platform_clear(u->own, u->users, u->user_count * 2 * u->dim * sizeof *u->users);
    platform_clear(u->own, u->counts, u->user_count * sizeof *u->counts);
}

enum akin_status create(int ordinal, const struct device_people *people,
                        struct user_device **device, struct akin_error *error)
{
    size_t dim = people->dim, items = people->item_count, users = people->user_count;
    *device = nullptr;
    if (dim == 0 || dim % USER_DEVICE_DIM_UNIT || dim > USER_DEVICE_DIM_MAX)
        return error_set(error, AKIN_UNSUPPORTED, "dimension %zu: on the GPU it is a multiple of "
                         "%d up to %d; update on the CPU", dim, USER_DEVICE_DIM_UNIT,
                         USER_DEVICE_DIM_MAX);
    if (items == 0 || users == 0 || items > INT32_MAX || users > INT32_MAX)
        return error_set(error, AKIN_UNSUPPORTED, "%zu users and %zu items: on the GPU there are 1 "
                         "to %d of each", users, items, INT32_MAX);
    struct user_device *u = new (std::nothrow) user_device();
    if (!u)
        return error_memory(error);
    u->item_count = items;
    u->user_count = users;
    u->dim = dim;
    u->rates[0] = people->fast;
    u->rates[1] = people->slow;
    u->rating_max = people->rating_max;
    enum akin_status status = platform_open(ordinal, &u->own, error, CUDA_USE_USERS);
    if (status == AKIN_OK)
        status = allocate(u, error);
    if (status == AKIN_OK) {
        platform_upload(u->own, u->items, people->items, items * dim * sizeof *u->items);
        clear(u);
        status = platform_finish(u->own, error);
    }
    if (status == AKIN_OK)
        *device = u;
    else
        destroy(&u);
    return status;
}

struct device_rating *room(struct user_device *u)
{
    return u->room;
}

enum akin_status tell_wrong(const struct user_device *u, struct akin_error *error)
{
    uint32_t number = ~*u->told;
    const struct device_rating *r = &u->room[number];
    return error_set(error, AKIN_ARGUMENT, "rating %u: %g for item %u by user %u; there are %zu "
                     "items and %zu users", number, (double)r->rating, r->item, r->user,
                     u->item_count, u->user_count);
}

enum akin_status apply(struct user_device *u, size_t count, struct akin_error *error)
{
    ASSERT(count <= USER_DEVICE_TOGETHER);
    if (count == 0)
        return AKIN_OK;
    job j = {u->users, u->counts, u->items, u->ratings, u->sorted, u->order, u->wrong, count,
             {u->rates[0], u->rates[1]}, u->rating_max};
    key_job keys = {u->ratings, count, u->user_count, u->item_count, u->rating_max, u->keys,
                    u->places, u->wrong};
    platform_enter(u->own);
    platform_clear(u->own, u->wrong, sizeof *u->wrong);
    platform_upload(u->own, u->ratings, u->room, count * sizeof *u->room);
    platform_mark(u->own);
    LAUNCH(keys_kernel, (unsigned)((count + THREADS - 1) / THREADS), THREADS, 0,
           platform_stream(u->own), keys);
    platform_started(u->own, "the users of ratings");
    platform_sort(u->own, u->keys, u->sorted, u->places, u->order, count, u->scratch,
                  u->scratch_bytes);
    start(u->own, j, u->dim);
    platform_mark_end(u->own);
    platform_download(u->own, u->told, u->wrong, sizeof *u->told);
    enum akin_status status = platform_finish(u->own, error);
    if (status == AKIN_OK && *u->told)
        status = tell_wrong(u, error);
    if (status == AKIN_OK)
        u->elapsed_ms = platform_marked_ms(u->own);
    return status;
}

enum akin_status read(struct user_device *u, size_t first, size_t count, float *vectors,
                      struct akin_error *error)
{
    size_t one = 2 * u->dim;
    if (first > u->user_count || count > u->user_count - first)
        return error_set(error, AKIN_ARGUMENT, "%zu users from %zu: there are %zu", count, first,
                         u->user_count);
    platform_enter(u->own);
    platform_download(u->own, vectors, u->users + first * one, count * one * sizeof *vectors);
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
    static const struct user_device_ops ops = {create, destroy, room, apply, read, clear,
                                               elapsed_ms, memory};
    return &ops;
}
