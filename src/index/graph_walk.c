/* The walk: best first, by the estimates that the edges give, a fixed number of candidates wide. A
 * node that is visited gets its distance in eight bits; the block of the next one is fetched while
 * this one is scored, so the order is best first but for one step. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "index/graph_internal.h"

#define VISITED ((uint32_t)1 << 31)

enum { STARTS = 32, LINE = 64 };

bool graph_scratch_reserve(struct graph_scratch *scratch, size_t beam, size_t best)
{
    if (beam < STARTS)
        beam = STARTS;
    size_t seen = 512;
    while (seen < beam * 8)
        seen *= 2;
    if (beam > scratch->beam_capacity) {
        memory_free(scratch->beam);
        scratch->beam = memory_alloc_aligned(beam + 1, sizeof *scratch->beam);
        scratch->beam_capacity = scratch->beam ? beam : 0;
    }
    if (best > scratch->best_capacity) {
        memory_free(scratch->best);
        scratch->best = memory_alloc_aligned(best + 1, sizeof *scratch->best);
        scratch->best_capacity = scratch->best ? best : 0;
    }
    if (seen > scratch->seen_capacity) {
        memory_free(scratch->seen);
        scratch->seen = memory_alloc_aligned(seen, sizeof *scratch->seen);
        scratch->seen_capacity = scratch->seen ? seen : 0;
    }
    return scratch->beam && scratch->best && scratch->seen;
}

void graph_scratch_deinit(struct graph_scratch *scratch)
{
    memory_free(scratch->beam);
    memory_free(scratch->best);
    memory_free(scratch->seen);
    *scratch = (struct graph_scratch){ 0 };
}

/* ---- which candidates are known --------------------------------------------------------- */

static bool seen_put(struct graph_scratch *s, uint32_t id)
{
    size_t at = (uint32_t)(id * 0x9e3779b1u) >> 7 & s->seen_mask;
    for (; s->seen[at] != GRAPH_NO_NODE; at = (at + 1) & s->seen_mask)
        if (s->seen[at] == id)
            return false;
    s->seen[at] = id;
    s->seen_count++;
    return true;
}

static void seen_clear(struct graph_scratch *s)
{
    memset(s->seen, 0xff, (s->seen_mask + 1) * sizeof *s->seen);
    s->seen_count = 0;
}

/* A full table forgets all but the beam: what fell out of it comes in again only by a better
 * estimate. */
static void seen_renew(struct graph_scratch *s)
{
    seen_clear(s);
    for (size_t i = 0; i < s->beam_count; i++)
        seen_put(s, s->beam[i].id & ~VISITED);
}

/* ---- sorted lists ----------------------------------------------------------------------- */

static bool nearer(struct graph_near a, float distance, uint32_t id)
{
    return a.distance < distance || (a.distance == distance && (a.id & ~VISITED) < id);
}

/* Into an ascending list of at most `capacity`; returns where, or `capacity` when it is no match. */
static size_t insert(struct graph_near *list, size_t *count, size_t capacity,
                     struct graph_near entry)
{
    size_t low = 0, high = *count;
    if (high == capacity && !(high && nearer(entry, list[high - 1].distance,
                                             list[high - 1].id & ~VISITED)))
        return capacity;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (nearer(list[middle], entry.distance, entry.id))
            low = middle + 1;
        else
            high = middle;
    }
    size_t move = *count - low - (*count == capacity);
    memmove(list + low + 1, list + low, move * sizeof *list);
    list[low] = entry;
    *count += *count < capacity;
    return low;
}

/* ---- steps ------------------------------------------------------------------------------ */

static void fetch(const struct graph_view *view, uint32_t id)
{
    const unsigned char *node = node_at(view, id);
    for (size_t at = 0; at < view->stride; at += LINE)
        __builtin_prefetch(node + at);
}

static float product(const struct graph_view *view, const struct graph_query *query,
                     const void *node)
{
    int32_t dot;
    view->kernels->dot_u8s8(&dot, 1, query->bytes, view->padded, 1, node_row(view, node), 0, NULL,
                            1, view->padded);
    return query->scale * node_tail(view, node)->scale * (float)(dot - 128 * query->byte_sum);
}

float graph_distance(const struct graph_view *view, const struct graph_query *query,
                     const void *node)
{
    float square = view->score == SCORE_L2 ? node_tail(view, node)->square : 0;
    return square - 2 * product(view, query, node);
}

/* Estimates of a node's neighbours to out [EDGES]; returns which are below the bound. */
static uint32_t estimate(const struct graph_view *view, const struct graph_query *query,
                         const unsigned char *node, float dot, float bound, float *out)
{
    const struct graph_tail *tail = node_tail(view, node);
    struct edge_codes codes = {
        node, node_offsets(view, node), node_offsets(view, node) + EDGES, tail->offset_scale,
        tail->slope_scale,
    };
    struct edge_query table = { query->table, query->step, query->low,
                                tail->offset_base - 2 * dot };
    uint32_t below = view->kernels->score_edges(out, &codes, &table, view->padded, bound);
    return tail->edges >= EDGES ? below : below & (((uint32_t)1 << tail->edges) - 1);
}

/* Adds what is near enough to the beam; returns the first place where something came in. */
static size_t step(const struct graph_view *view, const struct graph_query *query, uint32_t id,
                   float dot, size_t beam, struct graph_scratch *s)
{
    const unsigned char *node = node_at(view, id);
    float near[EDGES], bound = s->beam_count == beam ? s->beam[beam - 1].distance : INFINITY;
    uint32_t below = estimate(view, query, node, dot, bound, near);
    const uint32_t *ids = node_ids(view, node);
    size_t first = beam;
    for (; below; below &= below - 1) {
        size_t e = (size_t)__builtin_ctz(below);
        if (ids[e] >= view->count || !(near[e] < bound) || !seen_put(s, ids[e]))
            continue;
        size_t at = insert(s->beam, &s->beam_count, beam, (struct graph_near){ near[e], ids[e] });
        first = at < first ? at : first;
        if (s->beam_count == beam)
            bound = s->beam[beam - 1].distance;
        if (s->seen_count * 4 > s->seen_mask * 3)
            seen_renew(s);
    }
    return first;
}

/* The entries nearest to the query are the first candidates. */
static void start(const struct graph_view *view, const struct graph_query *query, size_t beam,
                  struct graph_scratch *s)
{
    struct graph_near first[STARTS + 1];
    size_t count = 0, limit = beam < STARTS ? beam : STARTS;
    for (size_t n = view->count; n < view->node_count; n++) {
        const unsigned char *node = node_at(view, n);
        float near[EDGES], bound = count == limit ? first[limit - 1].distance : INFINITY;
        uint32_t below =
            estimate(view, query, node, product(view, query, node), bound, near);
        const uint32_t *ids = node_ids(view, node);
        for (; below; below &= below - 1) {
            size_t e = (size_t)__builtin_ctz(below);
            if (ids[e] < view->count)
                insert(first, &count, limit, (struct graph_near){ near[e], ids[e] });
        }
    }
    for (size_t i = 0; i < count; i++)
        if (seen_put(s, first[i].id))
            insert(s->beam, &s->beam_count, beam, first[i]);
}

/* Takes the nearest candidate from `*cursor` on that was not visited. */
static uint32_t take(struct graph_scratch *s, size_t *cursor)
{
    while (*cursor < s->beam_count && s->beam[*cursor].id & VISITED)
        ++*cursor;
    if (*cursor == s->beam_count)
        return GRAPH_NO_NODE;
    uint32_t id = s->beam[*cursor].id;
    s->beam[(*cursor)++].id |= VISITED;
    return id;
}

void graph_walk(const struct graph_view *view, const struct graph_query *query, size_t beam,
                size_t best, const uint64_t *allowed, struct graph_scratch *s)
{
    s->beam_count = s->best_count = s->visited = 0;
    s->seen_mask = 511;
    while (s->seen_mask + 1 < beam * 8)
        s->seen_mask = s->seen_mask * 2 + 1;
    seen_clear(s);
    start(view, query, beam, s);
    size_t cursor = 0;
    uint32_t id = take(s, &cursor);
    if (id != GRAPH_NO_NODE)
        fetch(view, id);
    while (id != GRAPH_NO_NODE) {
        uint32_t next = take(s, &cursor);
        if (next != GRAPH_NO_NODE)
            fetch(view, next);
        const unsigned char *node = node_at(view, id);
        float dot = product(view, query, node);
        float distance = view->score == SCORE_L2 ? node_tail(view, node)->square - 2 * dot
                                                 : -2 * dot;
        if (!allowed || allowed[id / 64] >> id % 64 & 1)
            insert(s->best, &s->best_count, best, (struct graph_near){ distance, id });
        size_t first = step(view, query, id, dot, beam, s);
        cursor = first < cursor ? first : cursor;
        s->visited++;
        if (next == GRAPH_NO_NODE) {
            next = take(s, &cursor);
            if (next != GRAPH_NO_NODE)
                fetch(view, next);
        }
        id = next;
    }
}
