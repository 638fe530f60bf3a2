/* See graph_place.h. */
#include "recommend/graph_place.h"

#include <string.h>

#include "base/thread.h"
#include "compute/cpu/kernels.h"

enum { TILE = 16, TILES_AT_ONCE = 64 };     /* rows that pass a tower together */

/* ---- neighbours ------------------------------------------------------------------------- */

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Number i of `most` at even distances among count. */
static size_t evenly(size_t i, size_t count, size_t most)
{
    return count <= most ? i : (2 * i + 1) * count / (2 * most);
}

void graph_lists_free(struct graph_lists *l)
{
    memory_free(l->person_offsets);
    memory_free(l->person_items);
    memory_free(l->item_offsets);
    memory_free(l->item_people);
    *l = (struct graph_lists){ 0 };
}

/* Of every item who chose it, in the order of people: offsets [items + 2], of which the first items
 * + 1 are those of the lists in the end. */
static enum akin_status list_fans(const struct histories *h, uint32_t **offsets, uint32_t **fans,
                                  struct akin_error *error)
{
    *offsets = memory_alloc(h->item_count + 2, sizeof **offsets);
    *fans = memory_alloc(h->event_count + 1, sizeof **fans);
    if (!*offsets || !*fans)
        return error_memory(error);
    uint32_t *ends = *offsets + 1;
    for (size_t e = 0; e < h->event_count; e++)
        ends[h->items[e] + 1]++;
    for (size_t i = 0; i < h->item_count; i++)
        ends[i + 1] += ends[i];
    for (size_t u = 0; u < h->user_count; u++) {
        size_t count;
        const uint32_t *items = histories_of(h, u, &count);
        for (size_t e = 0; e < count; e++)
            (*fans)[ends[items[e]]++] = (uint32_t)u;
    }
    return AKIN_OK;
}

/* Fans become those that are taken; numbers [users] are 1 of these, 0 of others. */
static void choose_fans(size_t items, uint32_t *offsets, uint32_t *fans, uint32_t *numbers)
{
    uint32_t kept = 0;
    for (size_t i = 0, begin = 0; i < items; i++) {
        size_t end = offsets[i + 1], count = end - begin;
        for (size_t p = 0; p < least(count, GRAPH_PEOPLE); p++) {
            uint32_t fan = fans[begin + evenly(p, count, GRAPH_PEOPLE)];
            fans[kept++] = fan;         /* never beyond what is read */
            numbers[fan] = 1;
        }
        begin = end;
        offsets[i + 1] = kept;
    }
}

static enum akin_status list_people(const struct histories *h, uint32_t *numbers,
                                    struct graph_lists *l, struct akin_error *error)
{
    uint32_t people = 0, kept = 0;
    for (size_t u = 0; u < h->user_count; u++)
        people += numbers[u];
    l->person_offsets = memory_alloc((size_t)people + 1, sizeof *l->person_offsets);
    l->person_items = memory_alloc((size_t)people * GRAPH_ITEMS + 1, sizeof *l->person_items);
    if (!l->person_offsets || !l->person_items)
        return error_memory(error);
    people = 0;
    for (size_t u = 0; u < h->user_count; u++) {
        size_t count;
        const uint32_t *items = histories_of(h, u, &count);
        if (!numbers[u])
            continue;
        for (size_t e = 0; e < least(count, GRAPH_ITEMS); e++)
            l->person_items[kept++] = items[evenly(e, count, GRAPH_ITEMS)];
        numbers[u] = people++;
        l->person_offsets[people] = kept;
    }
    l->people = (struct device_lists){ people, l->person_offsets, l->person_items };
    return AKIN_OK;
}

static enum akin_status make_lists(const struct histories *h, uint32_t *numbers,
                                   struct graph_lists *l, struct akin_error *error)
{
    TRY(list_fans(h, &l->item_offsets, &l->item_people, error));
    choose_fans(h->item_count, l->item_offsets, l->item_people, numbers);
    TRY(list_people(h, numbers, l, error));
    for (size_t e = 0; e < l->item_offsets[h->item_count]; e++)
        l->item_people[e] = numbers[l->item_people[e]];
    l->items = (struct device_lists){ h->item_count, l->item_offsets, l->item_people };
    return AKIN_OK;
}

enum akin_status graph_lists_make(const struct histories *h, struct graph_lists *lists,
                                  struct akin_error *error)
{
    struct graph_lists made = { .person_offsets = NULL };
    if (h->event_count > INT32_MAX || h->user_count > INT32_MAX || h->item_count > INT32_MAX)
        return error_set(error, AKIN_LIMIT, "%zu choices; the graph has at most %d",
                         h->event_count, INT32_MAX);
    uint32_t *numbers = memory_alloc(h->user_count + 1, sizeof *numbers);
    enum akin_status status = numbers ? make_lists(h, numbers, &made, error) : error_memory(error);
    memory_free(numbers);
    if (status == AKIN_OK)
        *lists = made;
    else
        graph_lists_free(&made);
    return status;
}

/* ---- on the CPU ------------------------------------------------------------------------- */

/* One of the hops. */
struct hop {
    const struct graph_placing *placing;
    enum graph_tower tower;
    const struct device_lists *lists;
    const float *near;          /* [people][dim]; NULL: neighbours are texts */
    float *out;                 /* [count][stride] */
    size_t stride, first;       /* first: tile */
    float *scratch;             /* [threads][3 * TILE * dim] */
};

static void mean_of(const struct hop *hop, size_t node, float *to)
{
    const struct graph_placing *p = hop->placing;
    size_t dim = p->sage->dim;
    const uint32_t *members = hop->lists->members + hop->lists->offsets[node];
    uint32_t count = hop->lists->offsets[node + 1] - hop->lists->offsets[node];
    memset(to, 0, dim * sizeof *to);
    for (uint32_t e = 0; e < count; e++)
        p->kernels->add_f32(to, hop->near ? hop->near + members[e] * dim : p->texts[members[e]],
                            dim);
    if (count)
        p->kernels->scale_f32(to, 1 / (float)count, dim);
    if (hop->tower == GRAPH_ITEM)
        p->kernels->add_f32(to, p->texts[node], dim);
}

static void pass_tile(void *context, size_t number, int worker)
{
    const struct hop *hop = context;
    const struct graph_placing *p = hop->placing;
    size_t dim = p->sage->dim, node = (hop->first + number) * TILE;
    size_t count = least(hop->lists->count - node, TILE);
    float *rows = hop->scratch + (size_t)worker * 3 * TILE * dim;
    for (size_t i = 0; i < count; i++)
        mean_of(hop, node + i, rows + i * dim);
    graph_sage_towers(p->sage, p->kernels, hop->tower, rows, count, rows + TILE * dim);
    for (size_t i = 0; i < count; i++)
        memcpy(hop->out + (node + i) * hop->stride, rows + i * dim, dim * sizeof *rows);
}

static enum akin_status run_hop(struct hop *hop, struct akin_error *error)
{
    const struct graph_placing *p = hop->placing;
    size_t tiles = (hop->lists->count + TILE - 1) / TILE;
    for (; hop->first < tiles; hop->first += TILES_AT_ONCE) {
        thread_pool_each(p->pool, least(tiles - hop->first, TILES_AT_ONCE), pass_tile, hop);
        if (p->progress.update && !p->progress.update(p->progress.cookie, "placing items",
                                                      hop->first * TILE, hop->lists->count))
            return error_set(error, AKIN_CANCELLED, "interrupted");
    }
    return AKIN_OK;
}

static enum akin_status place_here(const struct graph_placing *p, const struct graph_lists *lists,
                                   float *vectors, size_t stride, struct akin_error *error)
{
    size_t dim = p->sage->dim, numbers;
    if (!size_mul(lists->people.count, dim, &numbers))
        return error_memory(error);
    float *near = memory_alloc_aligned(numbers + 1, sizeof *near);
    float *scratch = memory_alloc_aligned((size_t)thread_pool_size(p->pool) * 3 * TILE * dim,
                                          sizeof *scratch);
    struct hop first = { p, GRAPH_NEAR, &lists->people, NULL, near, dim, 0, scratch };
    struct hop second = { p, GRAPH_ITEM, &lists->items, near, vectors, stride, 0, scratch };
    enum akin_status status = near && scratch ? run_hop(&first, error) : error_memory(error);
    if (status == AKIN_OK)
        status = run_hop(&second, error);
    memory_free(near);
    memory_free(scratch);
    return status;
}

/* ---- on a card -------------------------------------------------------------------------- */

static enum akin_status place_there(const struct graph_placing *p, const struct graph_lists *lists,
                                    float *vectors, size_t stride, struct akin_error *error)
{
    size_t dim = p->sage->dim;
    const float *values = p->sage->values;
    struct graph_device *device;
    struct device_graph graph = {
        .dim = dim, .texts = p->texts, .people = lists->people, .items = lists->items,
        .towers = { [DEVICE_TOWER_NEAR] = values + GRAPH_NEAR * graph_tower_values(dim),
                    [DEVICE_TOWER_ITEM] = values + GRAPH_ITEM * graph_tower_values(dim) },
    };
    float *made = memory_alloc(lists->items.count * dim + 1, sizeof *made);
    if (!made)
        return error_memory(error);
    enum akin_status status = p->card.ops->create(p->card.ordinal, &graph, &device, error);
    if (status == AKIN_OK) {
        status = p->card.ops->forward(device, NULL, 0, made, error);
        p->card.ops->destroy(&device);
    }
    for (size_t i = 0; status == AKIN_OK && i < lists->items.count; i++)
        memcpy(vectors + i * stride, made + i * dim, dim * sizeof *made);
    memory_free(made);
    return status;
}

enum akin_status graph_place(const struct graph_placing *p, float *vectors, size_t stride,
                             struct akin_error *error)
{
    struct graph_lists lists;
    struct akin_error reason = { 0 };
    TRY(graph_lists_make(p->histories, &lists, error));
    enum akin_status status = AKIN_OK;
    bool there = p->card.ops != NULL;
    if (there)
        status = place_there(p, &lists, vectors, stride, &reason);
    if (there && status != AKIN_OK && !p->card.log)
        status = error_set(error, status, "%s", reason.message);
    else if (there && status != AKIN_OK)
        log_write(p->card.log, AKIN_LOG_WARNING, "placing items on the CPU: %s", reason.message);
    if (!there || (status != AKIN_OK && p->card.log))
        status = place_here(p, &lists, vectors, stride, error);
    graph_lists_free(&lists);
    return status;
}
