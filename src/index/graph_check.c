/* Everything that a graph's blocks say, against each other and the originals. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "index/graph_handle.h"

struct checking {
    const struct graph *graph;
    unsigned char *again;       /* [stride] a block made anew */
    float *values, *scratch;    /* [padded] */
    uint8_t *reached;           /* [count] */
    uint32_t *stack;            /* [count] */
};

static bool all_finite(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

static enum akin_status check_tables(const struct graph_header *h, struct akin_error *error)
{
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < GRAPH_BEAMS; i++) {
            float recall = h->tables[t].recall[i];
            if (!(recall >= 0 && recall <= 1) || (i && recall < h->tables[t].recall[i - 1]))
                return error_set(error, AKIN_FORMAT, "graph: table %zu of recalls is damaged at "
                                 "width %zu", t, graph_beam_width(i));
        }
    return AKIN_OK;
}

/* The numbers of a block, and that its ids are rows, each once, itself not among them. */
static enum akin_status check_block(const struct graph_view *view, size_t number,
                                    struct akin_error *error)
{
    const unsigned char *node = node_at(view, number);
    const struct graph_tail *tail = node_tail(view, node);
    const float floats[] = { tail->scale, tail->square, tail->error, tail->offset_base,
                             tail->offset_scale, tail->slope_scale };
    if (!all_finite(floats, sizeof floats / sizeof *floats) || tail->scale < 0 ||
        tail->square < 0 || tail->error < 0)
        return error_set(error, AKIN_FORMAT, "graph: block %zu has a factor that is no number",
                         number);
    if (tail->edges > EDGES)
        return error_set(error, AKIN_FORMAT, "graph: block %zu has %u edges, %d is the most",
                         number, tail->edges, EDGES);
    const uint32_t *ids = node_ids(view, node);
    for (size_t e = 0; e < EDGES; e++) {
        bool used = e < tail->edges;
        if (used ? ids[e] >= view->count || ids[e] == number : ids[e] != GRAPH_NO_NODE)
            return error_set(error, AKIN_FORMAT, "graph: edge %zu of block %zu leads to %u", e,
                             number, ids[e]);
        for (size_t i = 0; i < e && used; i++)
            if (ids[i] == ids[e])
                return error_set(error, AKIN_FORMAT, "graph: block %zu has edge %u twice", number,
                                 ids[e]);
    }
    return AKIN_OK;
}

/* The row's bytes against the original, and the edges' codes against the rows that they join. */
static enum akin_status check_contents(struct checking *c, size_t number, struct akin_error *error)
{
    const struct graph_view *view = &c->graph->view;
    const unsigned char *node = node_at(view, number);
    struct graph_tail *tail = (struct graph_tail *)node_tail(view, c->again);
    if (number < view->count) {
        graph_load_row(c->graph->view.kernels, &c->graph->rows, &c->graph->header, number,
                       c->values);
        graph_rotate(&c->graph->rotation, c->values, c->scratch);
        graph_write_row(view, c->again, c->values);
    } else {
        memcpy(c->again, node, view->stride);
        memset(tail->reserved, 0, sizeof tail->reserved);
        tail->error = 0;
        graph_sum_row(view, c->again);
    }
    graph_write_edges(view, c->again, node_ids(view, node), node_tail(view, node)->edges);
    bool row_same = !memcmp(node_row(view, c->again), node_row(view, node), view->padded);
    if (!row_same || tail->scale != node_tail(view, node)->scale ||
        tail->square != node_tail(view, node)->square ||
        tail->byte_sum != node_tail(view, node)->byte_sum)
        return error_set(error, AKIN_FORMAT, "graph: block %zu does not hold its row: build the "
                         "index again", number);
    if (memcmp(c->again, node, view->stride))
        return error_set(error, AKIN_FORMAT, "graph: block %zu has codes that its rows do not "
                         "give: build the index again", number);
    return AKIN_OK;
}

/* How many rows can be reached from the entries. */
static size_t reach(struct checking *c)
{
    const struct graph_view *view = &c->graph->view;
    size_t depth = 0, reached = 0;
    for (size_t n = view->count; n < view->node_count || depth; ) {
        size_t at = depth ? c->stack[--depth] : n++;
        const unsigned char *node = node_at(view, at);
        for (size_t e = 0; e < node_tail(view, node)->edges; e++) {
            uint32_t next = node_ids(view, node)[e];
            if (c->reached[next])
                continue;
            c->reached[next] = 1;
            c->stack[depth++] = next;
            reached++;
        }
    }
    return reached;
}

enum akin_status graph_check(const struct graph *graph, struct akin_error *error)
{
    const struct graph_view *view = &graph->view;
    enum akin_status status = AKIN_OK;
    struct checking c = { .graph = graph };
    c.again = memory_alloc_aligned(1, view->stride);
    c.values = memory_alloc_aligned(view->padded, sizeof *c.values);
    c.scratch = memory_alloc_aligned(view->padded, sizeof *c.scratch);
    c.reached = memory_alloc(view->count, sizeof *c.reached);
    c.stack = memory_alloc(view->count, sizeof *c.stack);
    if (!c.again || !c.values || !c.scratch || !c.reached || !c.stack)
        TRY_DONE(error_memory(error));
    TRY_DONE(check_tables(&graph->header, error));
    for (size_t n = 0; n < view->node_count; n++)
        TRY_DONE(check_block(view, n, error));
    for (size_t n = 0; n < view->node_count; n++)
        TRY_DONE(check_contents(&c, n, error));
    size_t reached = reach(&c);
    if (reached != view->count)
        TRY_DONE(error_set(error, AKIN_FORMAT, "graph: %zu of %zu rows are out of reach: build the "
                           "index again", view->count - reached, view->count));
done:
    memory_free(c.again);
    memory_free(c.values);
    memory_free(c.scratch);
    memory_free(c.reached);
    memory_free(c.stack);
    return status;
}
