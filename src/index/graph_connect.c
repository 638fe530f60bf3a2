/* Every row within reach. A search tree from the entries covers most; a row that it misses gets an
 * edge from a near row that it covers, in place of one that the tree does not need. */
#include <string.h>

#include "base/memory.h"
#include "index/graph_builder.h"

struct tree {
    struct graph_builder *builder;
    uint8_t *reached;           /* [count] */
    uint32_t *kept;             /* [count] bit e: edge e belongs to the tree */
    uint32_t *stack;            /* [count] */
    size_t cursor;              /* rows before it have no edge to spare */
};

/* All that can be reached from `row`, which was not before. */
static void grow(struct tree *tree, uint32_t row)
{
    struct graph_builder *b = tree->builder;
    size_t depth = 0;
    tree->reached[row] = 1;
    tree->stack[depth++] = row;
    while (depth) {
        uint32_t at = tree->stack[--depth];
        for (size_t e = 0; e < b->list_counts[at]; e++) {
            uint32_t next = b->lists[at * (size_t)EDGES + e];
            if (tree->reached[next])
                continue;
            tree->reached[next] = 1;
            tree->kept[at] |= (uint32_t)1 << e;
            tree->stack[depth++] = next;
        }
    }
}

/* The place of an edge that can go from `from`, the farthest; EDGES when there is none. */
static size_t spare(const struct tree *tree, uint32_t from)
{
    size_t count = tree->builder->list_counts[from];
    if (!tree->reached[from])
        return EDGES;
    if (count < EDGES)
        return count;
    for (size_t e = EDGES; e-- > 0; )
        if (!(tree->kept[from] >> e & 1))
            return e;
    return EDGES;
}

/* A row with an edge to spare: a neighbour of `row`, a neighbour of one, else the first there is.
 * The tree has fewer edges than rows, so one row at least has. */
static uint32_t donor(struct tree *tree, uint32_t row)
{
    const struct graph_builder *b = tree->builder;
    const uint32_t *near = b->lists + row * (size_t)EDGES;
    for (size_t e = 0; e < b->list_counts[row]; e++)
        if (spare(tree, near[e]) < EDGES)
            return near[e];
    for (size_t e = 0; e < b->list_counts[row]; e++)
        for (size_t i = 0; i < b->list_counts[near[e]]; i++)
            if (spare(tree, b->lists[near[e] * (size_t)EDGES + i]) < EDGES)
                return b->lists[near[e] * (size_t)EDGES + i];
    for (size_t tried = 0; tried < b->count; tried++) {
        uint32_t at = (uint32_t)tree->cursor;
        if (spare(tree, at) < EDGES)
            return at;
        tree->cursor = (tree->cursor + 1) % b->count;
    }
    ASSERT(false);
    return row;
}

enum akin_status graph_connect(struct graph_builder *b, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    struct tree tree = { .builder = b };
    tree.reached = memory_alloc(b->count, sizeof *tree.reached);
    tree.kept = memory_alloc(b->count, sizeof *tree.kept);
    tree.stack = memory_alloc(b->count, sizeof *tree.stack);
    if (!tree.reached || !tree.kept || !tree.stack)
        TRY_DONE(error_memory(error));
    for (size_t n = b->count; n < b->view.node_count; n++) {
        const unsigned char *node = node_at(&b->view, n);
        for (size_t e = 0; e < node_tail(&b->view, node)->edges; e++)
            if (!tree.reached[node_ids(&b->view, node)[e]])
                grow(&tree, node_ids(&b->view, node)[e]);
    }
    for (size_t row = 0; row < b->count; row++) {
        if (tree.reached[row])
            continue;
        uint32_t from = donor(&tree, (uint32_t)row);
        size_t place = spare(&tree, from);
        b->lists[from * (size_t)EDGES + place] = (uint32_t)row;
        if (place == b->list_counts[from])
            b->list_counts[from]++;
        graph_write_edges(&b->view, b->nodes + from * b->view.stride,
                          b->lists + from * (size_t)EDGES, b->list_counts[from]);
        tree.kept[from] |= (uint32_t)1 << place;
        grow(&tree, (uint32_t)row);
    }
done:
    memory_free(tree.reached);
    memory_free(tree.kept);
    memory_free(tree.stack);
    return status;
}
