// The host's side of two hops on CUDA: what is resident, and four kernels, which for all items are
// recorded by the second call and played from then on.
#include "compute/cuda/cuda_devices.h"

#include <cmath>
#include <cstring>
#include <new>

#include "compute/cuda/graph_cuda.cuh"

namespace {

enum { THREADS = 256, SENT_NUMBERS = 1 << 20, HALF_MAX = 65504 };

__global__ void __launch_bounds__(THREADS) narrow_kernel(const float *in, size_t count, half_t *out)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count)
        out[i] = from_float<half_t>(in[i]);
}

// One of the two kinds of nodes.
struct nodes {
    size_t count, rows;                 // rows: padded
    uint32_t *offsets, *members;
    half_t *x;                          // [rows][dim] means
    graph_tower tower;
    float *tower_values;                // biases, gain and offset [4][dim]
    half_t *tower_squares;              // up and down
};

}

struct graph_device {
    platform *own;
    size_t dim, bytes;
    struct nodes people, items;
    half_t *texts, *near;               // near: h of people [people.rows][dim]
    float *out;                         // h of items [items.rows][dim]
    uint32_t *list;                     // [items.count]
    float *staged, *sent;               // [SENT_NUMBERS], sent: pinned
    enum { COLD, WARM, RECORDED } recording;    // warm: the kernels are loaded
    bool people_made;
    double elapsed_ms;
};

namespace {

void destroy(struct graph_device **device)
{
    struct graph_device *g = *device;
    if (!g)
        return;
    if (g->own) {
        platform_enter(g->own);
        platform_finish(g->own, nullptr);       // create may have failed with copies under way
        for (struct nodes *n : {&g->people, &g->items}) {
            void *const memory[] = {n->offsets, n->members, n->x, n->tower_values,
                                    n->tower_squares};
            for (void *each : memory)
                platform_release(g->own, each);
        }
        void *const memory[] = {g->texts, g->near, g->out, g->list, g->staged};
        for (void *each : memory)
            platform_release(g->own, each);
        platform_release_pinned(g->own, g->sent);
        platform_close(g->own);
    }
    delete g;
    *device = nullptr;
}

// ---- what is asked for ------------------------------------------------------------------------

bool fits_half(const float *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!(std::fabs(numbers[i]) <= HALF_MAX))
            return false;
    return true;
}

enum akin_status check_lists(const struct device_lists *lists, size_t members, const char *what,
                             struct akin_error *error)
{
    for (size_t i = 0; i < lists->count; i++)
        if (lists->offsets[i + 1] < lists->offsets[i])
            return error_set(error, AKIN_ARGUMENT, "the list of %s %zu ends before it begins", what,
                             i);
    if (lists->offsets[0] != 0 || lists->offsets[lists->count] > INT32_MAX)
        return error_set(error, AKIN_ARGUMENT, "the lists of %s begin at %u and end at %u: they "
                         "are within 0 and %d", what, lists->offsets[0],
                         lists->offsets[lists->count], INT32_MAX);
    for (uint32_t e = 0; e < lists->offsets[lists->count]; e++)
        if (lists->members[e] >= members)
            return error_set(error, AKIN_ARGUMENT, "member %u of the lists of %s is %u: there are "
                             "%zu", e, what, lists->members[e], members);
    return AKIN_OK;
}

enum akin_status check_graph(const struct device_graph *graph, struct akin_error *error)
{
    size_t dim = graph->dim, values = 2 * dim * dim + 4 * dim;
    if (dim == 0 || dim > GRAPH_DEVICE_DIM_MAX)
        return error_set(error, AKIN_UNSUPPORTED, "vectors of %zu numbers: on the GPU there are at "
                         "most %d; use the CPU", dim, GRAPH_DEVICE_DIM_MAX);
    if (graph->items.count == 0 || graph->items.count > INT32_MAX ||
        graph->people.count > INT32_MAX)
        return error_set(error, AKIN_UNSUPPORTED, "%zu items and %zu people: on the GPU there are "
                         "1 to %d items and at most as many people; use the CPU",
                         graph->items.count, graph->people.count, INT32_MAX);
    enum akin_status status = check_lists(&graph->people, graph->items.count, "people", error);
    if (status == AKIN_OK)
        status = check_lists(&graph->items, graph->people.count, "items", error);
    if (status != AKIN_OK)
        return status;
    for (size_t i = 0; i < graph->items.count; i++)
        if (!fits_half(graph->texts[i], dim))
            return error_set(error, AKIN_UNSUPPORTED, "the text vector of item %zu has a number "
                             "that is beyond fp16; use the CPU", i);
    for (const float *tower : graph->towers)
        if (!fits_half(tower, values))
            return error_set(error, AKIN_UNSUPPORTED, "a weight of the graph is beyond fp16; use "
                             "the CPU");
    return AKIN_OK;
}

// ---- memory -----------------------------------------------------------------------------------

struct wanted {
    void **memory;
    size_t count, bytes;
};

enum akin_status take(struct graph_device *g, const struct wanted *wanted, size_t count,
                      struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; status == AKIN_OK && i < count; i++) {
        size_t bytes = wanted[i].count * wanted[i].bytes;       // at most 2^31 * 4,096
        status = platform_allocate(g->own, bytes, wanted[i].memory, error);
        g->bytes += bytes;
    }
    return status;
}

enum akin_status take_nodes(struct graph_device *g, struct nodes *n,
                            const struct device_lists *lists, struct akin_error *error)
{
    n->count = lists->count;
    n->rows = (lists->count + GRAPH_ROWS - 1) / GRAPH_ROWS * GRAPH_ROWS;
    const struct wanted wanted[] = {
        {reinterpret_cast<void **>(&n->offsets), n->count + 1, sizeof *n->offsets},
        {reinterpret_cast<void **>(&n->members), lists->offsets[lists->count], sizeof *n->members},
        {reinterpret_cast<void **>(&n->x), n->rows * g->dim, sizeof *n->x},
        {reinterpret_cast<void **>(&n->tower_values), 4 * g->dim, sizeof *n->tower_values},
        {reinterpret_cast<void **>(&n->tower_squares), 2 * g->dim * g->dim,
         sizeof *n->tower_squares},
    };
    return take(g, wanted, sizeof wanted / sizeof *wanted, error);
}

enum akin_status take_all(struct graph_device *g, const struct device_graph *graph,
                          struct akin_error *error)
{
    enum akin_status status = take_nodes(g, &g->people, &graph->people, error);
    if (status == AKIN_OK)
        status = take_nodes(g, &g->items, &graph->items, error);
    if (status != AKIN_OK)
        return status;
    const struct wanted wanted[] = {
        {reinterpret_cast<void **>(&g->texts), g->items.count * g->dim, sizeof *g->texts},
        {reinterpret_cast<void **>(&g->near), g->people.rows * g->dim, sizeof *g->near},
        {reinterpret_cast<void **>(&g->out), g->items.rows * g->dim, sizeof *g->out},
        {reinterpret_cast<void **>(&g->list), g->items.count, sizeof *g->list},
        {reinterpret_cast<void **>(&g->staged), SENT_NUMBERS, sizeof *g->staged},
    };
    status = take(g, wanted, sizeof wanted / sizeof *wanted, error);
    return status != AKIN_OK ? status
                             : platform_allocate_pinned(g->own, SENT_NUMBERS * sizeof *g->sent,
                                                        reinterpret_cast<void **>(&g->sent), error);
}

// ---- what is resident -------------------------------------------------------------------------

// What lies in `sent` becomes halves.
enum akin_status send_halves(struct graph_device *g, size_t count, half_t *to,
                             struct akin_error *error)
{
    platform_upload(g->own, g->staged, g->sent, count * sizeof *g->sent);
    LAUNCH(narrow_kernel, (unsigned)((count + THREADS - 1) / THREADS), THREADS, 0,
           platform_stream(g->own), g->staged, count, to);
    platform_started(g->own, "numbers of the graph");
    return platform_finish(g->own, error);
}

enum akin_status send_texts(struct graph_device *g, const struct device_graph *graph,
                            struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    size_t together = SENT_NUMBERS / g->dim;
    for (size_t first = 0; status == AKIN_OK && first < g->items.count; first += together) {
        size_t now = g->items.count - first < together ? g->items.count - first : together;
        for (size_t i = 0; i < now; i++)
            memcpy(g->sent + i * g->dim, graph->texts[first + i], g->dim * sizeof *g->sent);
        status = send_halves(g, now * g->dim, g->texts + first * g->dim, error);
    }
    return status;
}

enum akin_status send_tower(struct graph_device *g, struct nodes *n, const float *values,
                            struct akin_error *error)
{
    size_t dim = g->dim, square = dim * dim;
    const float *up = values, *down = values + square + dim;
    n->tower.up = n->tower_squares;
    n->tower.down = n->tower_squares + square;
    n->tower.up_bias = n->tower_values;
    n->tower.down_bias = n->tower_values + dim;
    n->tower.gain = n->tower_values + 2 * dim;
    n->tower.offset = n->tower_values + 3 * dim;
    static_assert((int)GRAPH_DEVICE_DIM_MAX * GRAPH_DEVICE_DIM_MAX <= SENT_NUMBERS, "at once");
    memcpy(g->sent, up, square * sizeof *g->sent);
    enum akin_status status = send_halves(g, square, n->tower_squares, error);
    if (status != AKIN_OK)
        return status;
    memcpy(g->sent, down, square * sizeof *g->sent);
    status = send_halves(g, square, n->tower_squares + square, error);
    platform_upload(g->own, n->tower_values, up + square, dim * sizeof *up);
    platform_upload(g->own, n->tower_values + dim, down + square, 3 * dim * sizeof *down);
    return status;
}

void send_lists(struct graph_device *g, const struct nodes *n, const struct device_lists *lists)
{
    platform_upload(g->own, n->offsets, lists->offsets, (n->count + 1) * sizeof *n->offsets);
    if (lists->offsets[n->count])
        platform_upload(g->own, n->members, lists->members,
                        lists->offsets[n->count] * sizeof *n->members);
}

enum akin_status fill(struct graph_device *g, const struct device_graph *graph,
                      struct akin_error *error)
{
    enum akin_status status = send_texts(g, graph, error);
    if (status == AKIN_OK)
        status = send_tower(g, &g->people, graph->towers[DEVICE_TOWER_NEAR], error);
    if (status == AKIN_OK)
        status = send_tower(g, &g->items, graph->towers[DEVICE_TOWER_ITEM], error);
    if (status != AKIN_OK)
        return status;
    send_lists(g, &g->people, &graph->people);
    send_lists(g, &g->items, &graph->items);
    // what padding rows hold is multiplied with the others, though never read
    platform_clear(g->own, g->people.x, g->people.rows * g->dim * sizeof(half_t));
    platform_clear(g->own, g->items.x, g->items.rows * g->dim * sizeof(half_t));
    return platform_finish(g->own, error);
}

enum akin_status create(int ordinal, const struct device_graph *graph,
                        struct graph_device **device, struct akin_error *error)
{
    *device = nullptr;
    enum akin_status status = check_graph(graph, error);
    if (status != AKIN_OK)
        return status;
    struct graph_device *g = new (std::nothrow) graph_device();
    if (!g)
        return error_memory(error);
    g->dim = graph->dim;
    status = platform_open(ordinal, &g->own, error, CUDA_USE_GRAPH);
    if (status == AKIN_OK && !graph_tower_fits(g->own, g->dim))
        status = error_set(error, AKIN_UNSUPPORTED, "vectors of %zu numbers: this GPU has no "
                           "kernel for the graph of them; use the CPU", g->dim);
    if (status == AKIN_OK)
        status = take_all(g, graph, error);
    if (status == AKIN_OK)
        status = fill(g, graph, error);
    if (status == AKIN_OK)
        *device = g;
    else
        destroy(&g);
    return status;
}

// ---- vectors ----------------------------------------------------------------------------------

void make_people(struct graph_device *g)
{
    struct nodes *n = &g->people;
    graph_gather gather = {g->texts, nullptr, n->offsets, n->members, nullptr, n->x, n->count,
                           g->dim};
    if (n->count == 0)
        return;
    graph_mean(g->own, &gather);
    graph_tower_run(g->own, &n->tower, n->x, n->count, g->dim, g->near, nullptr);
}

void make_items(struct graph_device *g, const uint32_t *list, size_t count)
{
    struct nodes *n = &g->items;
    graph_gather gather = {g->near, g->texts, n->offsets, n->members, list, n->x, count, g->dim};
    graph_mean(g->own, &gather);
    graph_tower_run(g->own, &n->tower, n->x, count, g->dim, nullptr, g->out);
}

// The first time unrecorded: kernels are loaded when they are first started, which may wait for the
// card, and that cannot be while a stream is recorded. Most make vectors of all items only once.
void make_all(struct graph_device *g)
{
    if (g->recording == graph_device::RECORDED) {
        platform_play(g->own, 0);
        return;
    }
    bool begun = g->recording == graph_device::WARM && platform_record_begin(g->own);
    make_people(g);
    make_items(g, nullptr, g->items.count);
    g->recording = begun && platform_record_end(g->own, 0) ? graph_device::RECORDED
                                                           : graph_device::WARM;
}

enum akin_status make_list(struct graph_device *g, const uint32_t *list, size_t count,
                           float *vectors, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    double elapsed = 0;
    for (size_t first = 0; status == AKIN_OK && first < count; first += g->items.count) {
        size_t now = count - first < g->items.count ? count - first : g->items.count;
        platform_upload(g->own, g->list, list + first, now * sizeof *list);
        platform_mark(g->own);
        if (!g->people_made)
            make_people(g);
        make_items(g, g->list, now);
        platform_mark_end(g->own);
        if (vectors)
            platform_download(g->own, vectors + first * g->dim, g->out,
                              now * g->dim * sizeof *vectors);
        status = platform_finish(g->own, error);
        g->people_made |= status == AKIN_OK;
        elapsed += platform_marked_ms(g->own);
    }
    if (status == AKIN_OK)
        g->elapsed_ms = elapsed;
    return status;
}

enum akin_status forward(struct graph_device *g, const uint32_t *list, size_t count,
                         float *vectors, struct akin_error *error)
{
    for (size_t i = 0; list && i < count; i++)
        if (list[i] >= g->items.count)
            return error_set(error, AKIN_ARGUMENT, "item %u: there are %zu", list[i],
                             g->items.count);
    platform_enter(g->own);
    if (list)
        return make_list(g, list, count, vectors, error);
    platform_mark(g->own);
    make_all(g);
    platform_mark_end(g->own);
    if (vectors)
        platform_download(g->own, vectors, g->out, g->items.count * g->dim * sizeof *vectors);
    enum akin_status status = platform_finish(g->own, error);
    g->people_made |= status == AKIN_OK;
    if (status == AKIN_OK)
        g->elapsed_ms = platform_marked_ms(g->own);
    return status;
}

double elapsed_ms(const struct graph_device *g)
{
    return g->elapsed_ms;
}

size_t memory(const struct graph_device *g)
{
    return g->bytes;
}

}

extern "C" const struct graph_device_ops *cuda_graph_ops(void)
{
    static const struct graph_device_ops ops = {create, destroy, forward, elapsed_ms, memory};
    return &ops;
}
