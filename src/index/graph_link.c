/* Which of its candidates become the neighbours of a row, and the edges back; then its block. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/thread.h"
#include "index/graph_builder.h"

/* ---- candidates ------------------------------------------------------------------------- */

static bool before(struct graph_near a, struct graph_near b)
{
    return a.distance < b.distance || (a.distance == b.distance && a.id < b.id);
}

size_t graph_sort(struct graph_near *near, size_t count, uint32_t self)
{
    /* Shell's sort: lists are short, and qsort's calls cost more than its comparisons. */
    size_t gap = 1, kept = 0;
    while (gap < count / 3)
        gap = 3 * gap + 1;
    for (; gap; gap /= 3)
        for (size_t i = gap; i < count; i++) {
            struct graph_near entry = near[i];
            size_t at = i;
            for (; at >= gap && before(entry, near[at - gap]); at -= gap)
                near[at] = near[at - gap];
            near[at] = entry;
        }
    /* The same row has the same distance, so repetitions are neighbours. */
    for (size_t i = 0; i < count; i++)
        if (near[i].id != self && !(kept && near[kept - 1].id == near[i].id))
            near[kept++] = near[i];
    return kept;
}

/* Row `from` as the signed side of products; returns 128 times the sum of its bytes. */
static int32_t load_row(const struct graph_view *view, size_t from, int8_t *bytes)
{
    const uint8_t *row = node_row(view, node_at(view, from));
    for (size_t i = 0; i < view->padded; i += 8) {
        uint64_t eight;
        memcpy(&eight, row + i, sizeof eight);
        eight ^= 0x8080808080808080;
        memcpy(bytes + i, &eight, sizeof eight);
    }
    return 128 * node_tail(view, node_at(view, from))->byte_sum;
}

void graph_distances(const struct graph_builder *b, size_t from, size_t count,
                     struct graph_near *near, struct graph_worker *worker)
{
    const struct graph_view *view = &b->view;
    const struct graph_tail *here = node_tail(view, node_at(view, from));
    for (size_t i = 0; i < count; i++)
        graph_fetch_row(view, worker->ids[i]);
    int32_t sum = load_row(view, from, worker->tile);
    view->kernels->dot_u8s8(worker->dots, node_row(view, b->nodes), view->stride, worker->ids,
                            count, worker->tile, view->padded);
    for (size_t i = 0; i < count; i++) {
        const struct graph_tail *there = node_tail(view, node_at(view, worker->ids[i]));
        float dot = here->scale * there->scale * (float)(worker->dots[i] - sum);
        near[i] = (struct graph_near){ here->square + there->square - 2 * dot, worker->ids[i] };
    }
}

/* A candidate falls out when a neighbour already chosen is nearer to it than the row is, with some
 * spread to keep long edges (Subramanya et al., DiskANN, 2019). */
size_t graph_prune(struct graph_builder *b, const struct graph_near *near, size_t count,
                   uint32_t *out, struct graph_worker *worker)
{
    struct graph_near found[CANDIDATES_MAX];
    uint16_t place[CANDIDATES_MAX];     /* in `near` of those still in the race */
    bool chosen[CANDIDATES_MAX] = { false };
    count = count < CANDIDATES_MAX ? count : CANDIDATES_MAX;
    size_t live = count, taken = 0;
    for (size_t i = 0; i < count; i++)
        place[i] = (uint16_t)i;
    while (live && taken < b->degree) {
        size_t first = place[0], left = 0;
        chosen[first] = true;
        out[taken++] = near[first].id;
        if (taken == b->degree)
            break;
        for (size_t i = 1; i < live; i++)
            worker->ids[i - 1] = near[place[i]].id;
        graph_distances(b, near[first].id, live - 1, found, worker);
        for (size_t i = 1; i < live; i++)
            if (b->spread * found[i - 1].distance > near[place[i]].distance)
                place[left++] = place[i];
        live = left;
    }
    for (size_t i = 0; i < count && taken < b->degree; i++)
        if (!chosen[i])
            out[taken++] = near[i].id;
    return taken;
}

/* ---- shared work ------------------------------------------------------------------------ */

struct each {
    struct graph_builder *builder;
    graph_row_fn *fn;
    void *context;
    size_t begin, end;
};

static void each_slab(void *context, size_t item, int worker)
{
    const struct each *each = context;
    size_t begin = each->begin + item * SLAB_ROWS, end = begin + SLAB_ROWS;
    end = end < each->end ? end : each->end;
    const uint32_t *order = each->builder->order;
    for (size_t i = begin; i < end; i++)
        each->fn(each->builder, order ? order[i] : i, &each->builder->workers[worker],
                 each->context);
}

enum akin_status graph_each_row(struct graph_builder *b, const char *stage, graph_row_fn *fn,
                                void *context, struct akin_error *error)
{
    const struct akin_progress *progress = &b->build->settings.progress;
    size_t part = (size_t)SLAB_ROWS * 16 * (size_t)b->worker_count;
    for (size_t begin = 0; begin < b->count; begin += part) {
        size_t end = begin + part < b->count ? begin + part : b->count;
        struct each each = { b, fn, context, begin, end };
        if (progress->update && !progress->update(progress->cookie, stage, begin, b->count))
            return error_set(error, AKIN_CANCELLED, "the graph was stopped before it was finished");
        thread_pool_each(b->pool, (end - begin + SLAB_ROWS - 1) / SLAB_ROWS, each_slab, &each);
    }
    return AKIN_OK;
}

/* ---- edges back ------------------------------------------------------------------------- */

struct reverse {
    size_t *begin;              /* [count + 1] */
    uint32_t *sources;          /* by destination, then by source */
    uint32_t *lists;            /* [count][EDGES] the new ones */
    uint8_t *list_counts;
};

static void choose(struct graph_builder *b, size_t row, struct graph_worker *worker, void *context)
{
    struct reverse *reverse = context;
    size_t own = b->list_counts[row], more = reverse->begin[row + 1] - reverse->begin[row];
    size_t count = own + more;
    uint32_t *out = reverse->lists + row * EDGES;
    memcpy(worker->ids, b->lists + row * EDGES, own * sizeof *worker->ids);
    if (more)
        memcpy(worker->ids + own, reverse->sources + reverse->begin[row],
               more * sizeof *worker->ids);
    graph_distances(b, row, count, worker->near, worker);
    count = graph_sort(worker->near, count, (uint32_t)row);
    count = graph_prune(b, worker->near, count, out, worker);
    reverse->list_counts[row] = (uint8_t)count;
    /* Now, while their rows are in the cache. Nobody reads edges of blocks meanwhile. */
    graph_write_edges(&b->view, b->nodes + row * b->view.stride, out, count);
}

/* Room for the longest list that `choose` can meet. */
static bool reserve_lists(struct graph_builder *b, size_t longest)
{
    for (int w = 0; w < b->worker_count; w++) {
        struct graph_worker *worker = &b->workers[w];
        if (longest <= worker->list_capacity)
            continue;
        memory_free(worker->ids);
        memory_free(worker->dots);
        memory_free(worker->near);
        worker->ids = memory_alloc(longest, sizeof *worker->ids);
        worker->dots = memory_alloc(longest, sizeof *worker->dots);
        worker->near = memory_alloc(longest, sizeof *worker->near);
        worker->list_capacity = worker->near_capacity = longest;
        if (!worker->ids || !worker->dots || !worker->near)
            return false;
    }
    return true;
}

enum akin_status graph_reverse(struct graph_builder *b, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    struct reverse reverse = { 0 };
    size_t edges = 0, longest = 0;
    for (size_t row = 0; row < b->count; row++)
        edges += b->list_counts[row];
    reverse.begin = memory_alloc(b->count + 2, sizeof *reverse.begin);
    reverse.sources = memory_alloc(edges, sizeof *reverse.sources);
    reverse.lists = memory_alloc(b->count, EDGES * sizeof *reverse.lists);
    reverse.list_counts = memory_alloc(b->count, 1);
    if (!reverse.begin || !reverse.sources || !reverse.lists || !reverse.list_counts)
        TRY_DONE(error_memory(error));
    for (size_t row = 0; row < b->count; row++)
        for (size_t e = 0; e < b->list_counts[row]; e++)
            reverse.begin[b->lists[row * EDGES + e] + 2]++;
    for (size_t row = 0; row < b->count; row++) {
        longest = reverse.begin[row + 2] > longest ? reverse.begin[row + 2] : longest;
        reverse.begin[row + 2] += reverse.begin[row + 1];
    }
    for (size_t row = 0; row < b->count; row++)
        for (size_t e = 0; e < b->list_counts[row]; e++)
            reverse.sources[reverse.begin[b->lists[row * EDGES + e] + 1]++] = (uint32_t)row;
    if (!reserve_lists(b, longest + EDGES))
        TRY_DONE(error_memory(error));
    TRY_DONE(graph_each_row(b, "edges back", choose, &reverse, error));
    uint32_t *lists = b->lists;
    uint8_t *counts = b->list_counts;
    b->lists = reverse.lists, b->list_counts = reverse.list_counts;
    reverse.lists = lists, reverse.list_counts = counts;
done:
    memory_free(reverse.begin);
    memory_free(reverse.sources);
    memory_free(reverse.lists);
    memory_free(reverse.list_counts);
    return status;
}
