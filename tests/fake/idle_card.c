/* A library of the CUDA part whose card does nothing: searches are for the CPU, and requests of
 * people have answers at once, always the same rows. What is left is what the host does. What it
 * calls its own time of ratings is how long it waited for them. */
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "compute/cuda_plugin.h"

struct search_device {
    size_t rows;
};

struct personal_device {
    size_t rows;
};

static int device_count(void)
{
    return 1;
}

static enum akin_status describe(int ordinal, struct cuda_description *description,
                                 struct akin_error *error)
{
    (void)ordinal;
    (void)error;
    *description = (struct cuda_description){ .name = "an idle card", .processors = 1,
                                              .capability = 90 };
    return AKIN_OK;
}

static size_t held(int ordinal, enum cuda_use use)
{
    (void)ordinal;
    (void)use;
    return 0;
}

/* ---- rows ------------------------------------------------------------------------------- */

static enum akin_status search_create(int ordinal, const float *rows, size_t row_count, size_t dim,
                                      struct search_device **device, struct akin_error *error)
{
    (void)ordinal;
    (void)rows;
    (void)dim;
    *device = memory_alloc(1, sizeof **device);
    if (!*device)
        return error_memory(error);
    (*device)->rows = row_count;
    return AKIN_OK;
}

static void search_destroy(struct search_device **device)
{
    memory_free(*device);
    *device = NULL;
}

static enum akin_status search(struct search_device *device, const struct device_query *query,
                               struct hit *hits, size_t *found, struct search_counts *counts,
                               struct akin_error *error)
{
    (void)device;
    (void)query;
    (void)hits;
    (void)found;
    (void)counts;
    return error_set(error, AKIN_UNSUPPORTED, "the CPU searches");
}

/* ---- requests --------------------------------------------------------------------------- */

static enum akin_status create(int ordinal, const struct search_device *rows,
                               const struct personal_items *items, struct personal_device **device,
                               struct akin_error *error)
{
    (void)ordinal;
    (void)items;
    *device = memory_alloc(1, sizeof **device);
    if (!*device)
        return error_memory(error);
    (*device)->rows = rows->rows;
    return AKIN_OK;
}

static void destroy(struct personal_device **device)
{
    memory_free(*device);
    *device = NULL;
}

/* Room for the most that a call may have, with lists of 4 MB. */
enum { DIM_MAX = 1024, LISTS = 1 << 20, ANSWERS = 200 * PERSONAL_TOGETHER };

static bool lay_out(const struct personal_device *device, const struct personal_sizes *sizes,
                    struct personal_room *room)
{
    (void)device;
    return room->requests && sizes->lists <= LISTS && sizes->answers <= ANSWERS &&
           sizes->vectors <= 2 * PERSONAL_TOGETHER;
}

static void release(struct personal_device *device, struct personal_room *room)
{
    (void)device;
    memory_free(room->sent.memory);
    memory_free(room->received.memory);
    *room = (struct personal_room){ 0 };
}

static enum akin_status reserve(struct personal_device *device, const struct personal_sizes *sizes,
                                struct personal_room *room, struct akin_error *error)
{
    size_t requests = PERSONAL_TOGETHER * sizeof *room->requests;
    size_t vectors = 2 * PERSONAL_TOGETHER * DIM_MAX * sizeof *room->vectors;
    release(device, room);
    unsigned char *sent =
        memory_alloc_aligned(requests + vectors + LISTS * sizeof *room->lists, 1);
    unsigned char *received =
        memory_alloc_aligned(ANSWERS * sizeof *room->results +
                             PERSONAL_TOGETHER * sizeof *room->found, 1);
    room->sent.memory = sent;
    room->received.memory = received;
    if (!sent || !received || sizes->lists > LISTS || sizes->answers > ANSWERS)
        return error_memory(error);
    room->requests = (void *)sent;
    room->vectors = (void *)(sent + requests);
    room->lists = (void *)(sent + requests + vectors);
    memset(received, 0, ANSWERS * sizeof *room->results + PERSONAL_TOGETHER * sizeof *room->found);
    return AKIN_OK;
}

static enum akin_status check(const struct personal_device *device,
                              const struct personal_room *room, size_t number, size_t mask_count,
                              struct akin_error *error)
{
    const struct personal_request *r = &room->requests[number];
    bool wrong = r->mask != PERSONAL_NONE && r->mask >= mask_count;
    for (size_t i = 0; i < r->skip_count; i++)
        wrong |= room->lists[r->skip_first + i] >= device->rows;
    for (size_t i = 0; i < r->past_count; i++)
        wrong |= r->past[i] >= device->rows;
    return wrong ? error_set(error, AKIN_ARGUMENT, "request %zu is wrong", number) : AKIN_OK;
}

/* Its memory, with answers in it: made up once, as a card would have copied them while it waits. */
static struct personal_result *answers_of(struct personal_room *room, size_t count, size_t k)
{
    struct personal_result *results = room->received.memory;
    uint32_t *found = (void *)(results + ANSWERS);
    room->results = results;
    room->hits = room->received.memory;
    room->found = found;
    if (found[0] == k && found[count - 1] == k)
        return NULL;
    for (size_t q = 0; q < count; q++)
        found[q] = (uint32_t)k;
    return results;
}

static enum akin_status answer(struct personal_device *device, const struct personal_batch *batch,
                               struct personal_room *room, struct akin_error *error)
{
    (void)device;
    (void)error;
    struct personal_result *results = answers_of(room, batch->count, batch->k);
    for (size_t i = 0; results && i < batch->count * batch->k; i++)
        results[i] = (struct personal_result){ .row = (uint32_t)(i % batch->k), .score = 1 };
    return AKIN_OK;
}

static enum akin_status nearest(struct personal_device *device, size_t count, size_t k,
                                const uint64_t *mask, struct personal_room *room,
                                struct akin_error *error)
{
    (void)device;
    (void)mask;
    (void)error;
    struct personal_result *results = answers_of(room, count, k);
    struct hit *hits = (void *)results;
    for (size_t i = 0; hits && i < count * k; i++)
        hits[i] = (struct hit){ 1, (uint32_t)(i % k) };
    return AKIN_OK;
}

/* ---- people ----------------------------------------------------------------------------- */

struct user_device {
    size_t users;
    uint64_t since;             /* the card waits */
    double waited_ms;
    struct device_rating room[USER_DEVICE_TOGETHER];
};

static void users_clear(struct user_device *u)
{
    u->since = clock_monotonic_ns();
}

static enum akin_status users_create(int ordinal, const struct device_people *people,
                                     struct user_device **device, struct akin_error *error)
{
    (void)ordinal;
    *device = memory_alloc(1, sizeof **device);
    if (!*device)
        return error_memory(error);
    memset((*device)->room, 1, sizeof (*device)->room);     /* pinned memory is there */
    (*device)->users = people->user_count;
    users_clear(*device);
    return AKIN_OK;
}

static void users_destroy(struct user_device **device)
{
    memory_free(*device);
    *device = NULL;
}

static struct device_rating *users_room(struct user_device *u)
{
    return u->room;
}

static enum akin_status users_apply(struct user_device *u, size_t count, struct akin_error *error)
{
    (void)count;
    (void)error;
    uint64_t now = clock_monotonic_ns();
    u->waited_ms = (double)(now - u->since) * 1e-6;
    u->since = now;
    return AKIN_OK;
}

static enum akin_status users_read(struct user_device *u, size_t first, size_t count,
                                   float *vectors, struct akin_error *error)
{
    (void)u;
    (void)first;
    (void)count;
    (void)vectors;
    (void)error;
    return AKIN_OK;
}

static double users_waited(const struct user_device *u)
{
    return u->waited_ms;
}

static size_t users_memory(const struct user_device *u)
{
    return sizeof *u;
}

static const struct user_device_ops user_ops = {
    .create = users_create, .destroy = users_destroy, .room = users_room, .apply = users_apply,
    .read = users_read, .clear = users_clear, .elapsed_ms = users_waited, .memory = users_memory,
};
static const struct search_device_ops search_ops = {
    .create = search_create, .destroy = search_destroy, .search = search,
};
static const struct personal_device_ops personal_ops = {
    .create = create, .destroy = destroy, .lay_out = lay_out, .reserve = reserve,
    .release = release, .check = check, .answer = answer, .nearest = nearest,
};

__attribute__((visibility("default"))) const struct cuda_plugin *akin_cuda_plugin(void);

const struct cuda_plugin *akin_cuda_plugin(void)
{
    static const struct cuda_plugin plugin = {
        .version = CUDA_PLUGIN_VERSION, .device_count = device_count, .device_describe = describe,
        .memory = held, .search = &search_ops, .users = &user_ops,
        .personal = &personal_ops,
    };
    return &plugin;
}
