/* Every row compared in eight bits, and those that could be among the k best scored from the
 * originals. With x' and q' the bytes' values of row and query, e = x - x' and f = q - q':
 *   |x|^2 - 2 qx = |x'|^2 - 2 q'x' + 2 (x' - q) e + |e|^2 - 2 f x'
 * and the three last terms are bounded by lengths; likewise without the squares. So the answer is
 * that of a scan of the originals. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "index/graph_handle.h"

enum { BATCH = 64 };

struct scan {
    const struct graph *graph;
    struct graph_desk *desk;
    float query_length, slack;
    size_t k, heap_count, bound_count;
};

static float bound_of(const struct scan *scan, const struct graph_tail *tail)
{
    float length = sqrtf(tail->square), error = tail->error, query = scan->query_length;
    bool squares = scan->graph->view.score == SCORE_L2;
    float margin = 2 * query * error + 2 * scan->desk->query.error * length;
    if (squares)
        margin += 2 * length * error + error * error;
    float reach = query + length + error;
    return margin * 1.001f + scan->slack * reach * reach;
}

/* The k least upper bounds, the greatest of them at the root. */
static void offer_upper(struct scan *scan, float upper)
{
    float *heap = scan->desk->heap;
    if (scan->heap_count < scan->k) {
        size_t at = scan->heap_count++;
        for (; at && heap[(at - 1) / 2] < upper; at = (at - 1) / 2)
            heap[at] = heap[(at - 1) / 2];
        heap[at] = upper;
        return;
    }
    if (!(upper < heap[0]))
        return;
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < scan->k; at = child) {
        if (child + 1 < scan->k && heap[child + 1] > heap[child])
            child++;
        if (!(heap[child] > upper))
            break;
        heap[at] = heap[child];
    }
    heap[at] = upper;
}

static float limit(const struct scan *scan)
{
    return scan->heap_count < scan->k ? INFINITY : scan->desk->heap[0];
}

/* Drops the rows that cannot be among the best any more. */
static void compact(struct scan *scan)
{
    struct graph_near *bounds = scan->desk->bounds;
    size_t kept = 0;
    for (size_t i = 0; i < scan->bound_count; i++)
        if (!(bounds[i].distance > limit(scan)))
            bounds[kept++] = bounds[i];
    scan->bound_count = kept;
}

static bool compare(struct scan *scan, const uint32_t *ids, size_t count)
{
    const struct graph_view *view = &scan->graph->view;
    const struct graph_query *query = &scan->desk->query;
    int32_t dots[BATCH], correction = 128 * query->byte_sum;
    for (size_t i = 0; i < count; i++)
        graph_fetch_row(view, ids[i]);
    view->kernels->dot_u8s8(dots, node_row(view, view->nodes), view->stride, ids, count,
                            query->bytes, view->padded);
    if (scan->bound_count + count > scan->desk->bound_capacity) {
        compact(scan);
        if (!array_reserve((void **)&scan->desk->bounds, &scan->desk->bound_capacity,
                           2 * (scan->bound_count + BATCH), sizeof *scan->desk->bounds))
            return false;
    }
    for (size_t i = 0; i < count; i++) {
        const struct graph_tail *tail = node_tail(view, node_at(view, ids[i]));
        float distance = -2 * query->scale * tail->scale * (float)(dots[i] - correction);
        if (view->score == SCORE_L2)
            distance += tail->square;
        float margin = bound_of(scan, tail);
        if (distance - margin > limit(scan))
            continue;
        scan->desk->bounds[scan->bound_count++] = (struct graph_near){ distance - margin, ids[i] };
        offer_upper(scan, distance + margin);
    }
    return true;
}

/* The numbers of the rows that are passed from `*row` on, up to BATCH. */
static size_t next_ids(const struct graph *graph, const uint64_t *allowed, size_t *row,
                       uint32_t *ids)
{
    size_t count = 0, rows = graph->view.count;
    if (!allowed) {
        for (; *row < rows && count < BATCH; ++*row)
            ids[count++] = (uint32_t)*row;
        return count;
    }
    while (*row < rows && count < BATCH) {
        uint64_t word = allowed[*row / 64] >> *row % 64;
        if (!word) {
            *row = (*row / 64 + 1) * 64;
            continue;
        }
        *row += (size_t)__builtin_ctzll(word);
        if (*row < rows)
            ids[count++] = (uint32_t)(*row)++;
    }
    return count;
}

static float length_of(const float *values, size_t count)
{
    double square = 0;
    for (size_t i = 0; i < count; i++)
        square += (double)values[i] * (double)values[i];
    return (float)(sqrt(square) * 1.00001);
}

size_t graph_scan(const struct graph *graph, const float *query, size_t k, const uint64_t *allowed,
                  struct graph_desk *desk, struct hit *hits)
{
    struct scan scan = { .graph = graph, .desk = desk, .k = k };
    size_t dim = graph->rows.dim, found = 0;
    scan.query_length = length_of(query, dim);
    scan.slack = ((float)dim / 8 + 16) * 0x1p-23f;
    if (!array_reserve((void **)&desk->heap, &desk->heap_capacity, k, sizeof *desk->heap))
        return SIZE_MAX;
    uint32_t ids[BATCH];
    for (size_t row = 0, count; (count = next_ids(graph, allowed, &row, ids)) > 0; )
        if (!compare(&scan, ids, count))
            return SIZE_MAX;
    compact(&scan);
    if (!array_reserve((void **)&desk->hits, &desk->hit_capacity, scan.bound_count,
                       sizeof *desk->hits))
        return SIZE_MAX;
    for (size_t i = 0; i < scan.bound_count; i++) {
        uint32_t row = desk->bounds[i].id;
        desk->hits[found++] =
            (struct hit){ graph_score(graph, query, row, desk->rotation), row };
    }
    graph_sort_hits(desk->hits, found);
    found = found < k ? found : k;
    if (found)
        memcpy(hits, desk->hits, found * sizeof *hits);
    return found;
}
