/* The walk: best first, by the estimates that the edges give, a fixed number of candidates wide. A
 * node that is visited gets its distance in eight bits; the blocks of the next ones are fetched
 * while this one is scored, so the order is best first but for a few steps.
 *
 * Candidates stand in a queue of buckets: the bucket of one is the exponent and the first bits of
 * its distance, so putting and taking one are a few instructions, whatever the width. The estimates
 * are far less exact than that. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "index/graph_internal.h"

enum {
    STARTS = 32, LINE = 64,
    AHEAD = 2,                  /* nodes that are on their way while one is scored */
    MANTISSA_BITS = 7,          /* of a distance that make its bucket */
    CELLS_PER_BEAM = 12,        /* candidates that a walk usually meets */
};

/* ---- memory ----------------------------------------------------------------------------- */

/* Room for so many candidates; the table of those seen is at most half full. */
static bool reserve_cells(struct graph_scratch *s, size_t cells)
{
    size_t seen = 512;
    while (seen < cells * 2)
        seen *= 2;
    if (!array_reserve((void **)&s->cells, &s->cell_capacity, cells, sizeof *s->cells) ||
        !array_reserve((void **)&s->seen, &s->seen_capacity, seen, sizeof *s->seen))
        return false;
    return true;
}

bool graph_scratch_reserve(struct graph_scratch *s, size_t beam, size_t best)
{
    return array_reserve((void **)&s->best, &s->best_capacity, best + 1, sizeof *s->best) &&
           reserve_cells(s, (beam < STARTS ? STARTS : beam) * CELLS_PER_BEAM);
}

void graph_scratch_deinit(struct graph_scratch *s)
{
    memory_free(s->cells);
    memory_free(s->best);
    memory_free(s->seen);
    *s = (struct graph_scratch){ 0 };
}

/* ---- which candidates are known --------------------------------------------------------- */

static bool seen_put(struct graph_scratch *s, uint32_t id)
{
    size_t at = (uint32_t)(id * 0x9e3779b1u) >> 7 & s->seen_mask;
    for (; s->seen[at] != GRAPH_NO_NODE; at = (at + 1) & s->seen_mask)
        if (s->seen[at] == id)
            return false;
    s->seen[at] = id;
    return true;
}

/* An empty table for `cells` candidates. */
static void seen_clear(struct graph_scratch *s, size_t cells)
{
    s->seen_mask = 511;
    while (s->seen_mask + 1 < cells * 2)
        s->seen_mask = s->seen_mask * 2 + 1;
    memset(s->seen, 0xff, (s->seen_mask + 1) * sizeof *s->seen);
    s->cell_limit = cells;
}

/* A walk that meets more than usual goes on with more memory. */
static bool more_cells(struct graph_scratch *s)
{
    size_t cells = s->cell_limit * 2;
    if (!reserve_cells(s, cells))
        return false;
    seen_clear(s, cells);
    for (uint32_t i = 0; i < s->cell_count; i++)
        seen_put(s, s->cells[i].id);
    return true;
}

/* ---- the queue -------------------------------------------------------------------------- */

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Of a distance that is below the limit, so at most the last one. */
static uint32_t bucket_of(const struct graph_scratch *s, float distance)
{
    float squared = distance + s->shift;
    uint32_t bits;
    memcpy(&bits, &squared, sizeof bits);
    bits >>= 23 - MANTISSA_BITS;
    if (!(squared > 0) || bits < s->lowest)
        return 0;
    bits -= s->lowest;
    return bits < GRAPH_BUCKETS - 1 ? bits : GRAPH_BUCKETS - 1;
}

/* What a candidate must be below to be of use. */
static float limit_of(const struct graph_scratch *s)
{
    if (s->last == GRAPH_BUCKETS - 1)
        return INFINITY;
    return float_of((s->last + 1 + s->lowest) << (23 - MANTISSA_BITS)) - s->shift;
}

/* Puts a candidate in; the buckets that are then too many to be visited are closed. */
static void put(struct graph_scratch *s, float distance, uint32_t id)
{
    uint32_t bucket = bucket_of(s, distance);
    if (bucket > s->last)
        return;
    uint32_t cell = s->cell_count++;
    uint64_t bit = (uint64_t)1 << bucket % 64;
    bool empty = !(s->filled[bucket / 64] & bit);
    s->cells[cell] = (struct graph_cell){ id, empty ? GRAPH_NO_NODE : s->heads[bucket] };
    s->heads[bucket] = cell;
    s->filled[bucket / 64] |= bit;
    s->first_word = bucket / 64 < s->first_word ? bucket / 64 : s->first_word;
    s->counts[bucket]++;
    for (s->inside++; s->inside - s->counts[s->last] >= s->beam && s->last; s->last--)
        s->inside -= s->counts[s->last];
}

/* Takes one of the nearest that were not visited. */
static uint32_t take(struct graph_scratch *s)
{
    for (; s->first_word <= s->last / 64; s->first_word++) {
        uint64_t word = s->filled[s->first_word];
        if (!word)
            continue;
        uint32_t bucket = s->first_word * 64 + (uint32_t)__builtin_ctzll(word);
        if (bucket > s->last)
            return GRAPH_NO_NODE;
        struct graph_cell cell = s->cells[s->heads[bucket]];
        s->heads[bucket] = cell.next;
        if (cell.next == GRAPH_NO_NODE)
            s->filled[s->first_word] = word & (word - 1);
        return cell.id;
    }
    return GRAPH_NO_NODE;
}

/* ---- the nearest visited ones ----------------------------------------------------------- */

static bool nearer(struct graph_near a, struct graph_near b)
{
    return a.distance < b.distance || (a.distance == b.distance && a.id < b.id);
}

/* Into an ascending list of at most `capacity`. */
static void keep(struct graph_near *list, size_t *count, size_t capacity, struct graph_near entry)
{
    if (*count == capacity && !(capacity && nearer(entry, list[capacity - 1])))
        return;
    size_t at = *count < capacity ? (*count)++ : capacity - 1;
    for (; at && nearer(entry, list[at - 1]); at--)
        list[at] = list[at - 1];
    list[at] = entry;
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
    view->kernels->dot_u8s8(&dot, node_row(view, node), view->padded, NULL, 1, query->bytes,
                            view->padded);
    return query->scale * node_tail(view, node)->scale * (float)(dot - 128 * query->byte_sum);
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
    uint32_t below = view->kernels->edge_scores(out, &codes, &table, view->padded, bound);
    return tail->edges >= EDGES ? below : below & (((uint32_t)1 << tail->edges) - 1);
}

/* Puts what is near enough into the queue. */
static bool step(const struct graph_view *view, const struct graph_query *query, uint32_t id,
                 float dot, struct graph_scratch *s)
{
    const unsigned char *node = node_at(view, id);
    float near[EDGES], bound = limit_of(s);
    uint32_t below = estimate(view, query, node, dot, bound, near), last = s->last;
    const uint32_t *ids = node_ids(view, node);
    if (s->cell_count + EDGES > s->cell_limit && !more_cells(s))
        return false;
    for (; below; below &= below - 1) {
        size_t e = (size_t)__builtin_ctz(below);
        if (ids[e] >= view->count || !(near[e] < bound) || !seen_put(s, ids[e]))
            continue;
        put(s, near[e], ids[e]);
        if (s->last != last) {
            last = s->last;
            bound = limit_of(s);
        }
    }
    return true;
}

/* Of the neighbours of nodes `from` to `to`, the nearest are the first candidates; they also say
 * which distances the buckets are for. */
static void start(const struct graph_view *view, const struct graph_query *query, size_t from,
                  size_t to, struct graph_scratch *s)
{
    struct graph_near first[STARTS];
    size_t count = 0;
    for (size_t n = from; n < to; n++) {
        const unsigned char *node = node_at(view, n);
        float near[EDGES], bound = count == STARTS ? first[STARTS - 1].distance : INFINITY;
        uint32_t below =
            estimate(view, query, node, product(view, query, node), bound, near);
        const uint32_t *ids = node_ids(view, node);
        for (; below; below &= below - 1) {
            size_t e = (size_t)__builtin_ctz(below);
            if (ids[e] < view->count)
                keep(first, &count, STARTS, (struct graph_near){ near[e], ids[e] });
        }
    }
    float farthest = count ? 2 * (first[count - 1].distance + s->shift) : 1;
    uint32_t bits;
    memcpy(&bits, &farthest, sizeof bits);
    bits >>= 23 - MANTISSA_BITS;
    s->lowest = farthest > 0 && bits > GRAPH_BUCKETS ? bits - GRAPH_BUCKETS : 0;
    for (size_t i = 0; i < count; i++)
        if (seen_put(s, first[i].id))
            put(s, first[i].distance, first[i].id);
}

/* All squared distances are distance + shift. */
static float shift_of(const struct graph_view *view, const struct graph_query *query)
{
    double square = view->score == SCORE_L2 ? 0 : (double)view->square;
    for (size_t i = 0; i < view->padded; i++)
        square += (double)query->values[i] * (double)query->values[i];
    return (float)square;
}

bool graph_walk(const struct graph_view *view, const struct graph_query *query, size_t from,
                size_t beam, size_t best, const uint64_t *allowed, struct graph_scratch *s)
{
    s->best_count = s->visited = s->passed = s->inside = 0;
    s->cell_count = 0;
    s->last = GRAPH_BUCKETS - 1;
    s->first_word = GRAPH_BUCKETS / 64;
    s->beam = beam;
    s->shift = shift_of(view, query);
    memset(s->filled, 0, sizeof s->filled);
    memset(s->counts, 0, sizeof s->counts);
    seen_clear(s, (beam < STARTS ? STARTS : beam) * CELLS_PER_BEAM);
    if (from < view->count)
        start(view, query, from, from + 1, s);
    else
        start(view, query, view->count, view->node_count, s);
    uint32_t ahead[AHEAD];
    size_t waiting = 0;
    for (;;) {
        for (uint32_t id; waiting < AHEAD && (id = take(s)) != GRAPH_NO_NODE; waiting++) {
            fetch(view, id);
            ahead[waiting] = id;
        }
        if (!waiting)
            return true;
        uint32_t id = ahead[0];
        for (size_t i = 1; i < waiting; i++)
            ahead[i - 1] = ahead[i];
        waiting--;
        const unsigned char *node = node_at(view, id);
        float dot = product(view, query, node);
        float distance = view->score == SCORE_L2 ? node_tail(view, node)->square - 2 * dot
                                                 : -2 * dot;
        if (!allowed || allowed[id / 64] >> id % 64 & 1) {
            s->passed++;
            keep(s->best, &s->best_count, best, (struct graph_near){ distance, id });
        }
        if (!step(view, query, id, dot, s))
            return false;
        s->visited++;
    }
}
