/* Queries against an open graph: which of walk and scan answers, and how wide a walk is. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "index/graph_handle.h"
#include "index/segment_rows.h"

/* A filtered walk must visit so many times k rows that pass. */
enum { PASSED_MIN = 2 };

/* ---- desks ------------------------------------------------------------------------------ */

static void desk_destroy(struct graph_desk *desk)
{
    graph_scratch_deinit(&desk->walk);
    graph_query_deinit(&desk->query);
    memory_free(desk->rotation);
    memory_free(desk->hits);
    memory_free(desk->bounds);
    memory_free(desk->heap);
    memory_free(desk);
}

static struct graph_desk *desk_take(const struct graph *graph)
{
    struct graph *shared = (struct graph *)graph;
    mutex_lock(shared->desk_lock);
    struct graph_desk *desk = shared->desks;
    if (desk)
        shared->desks = desk->next;
    mutex_unlock(shared->desk_lock);
    if (desk)
        return desk;
    desk = memory_alloc(1, sizeof *desk);
    if (!desk)
        return NULL;
    desk->rotation = memory_alloc_aligned(graph->view.padded, sizeof *desk->rotation);
    if (desk->rotation && graph_query_init(&desk->query, graph->view.padded))
        return desk;
    desk_destroy(desk);
    return NULL;
}

static void desk_give(const struct graph *graph, struct graph_desk *desk)
{
    struct graph *shared = (struct graph *)graph;
    mutex_lock(shared->desk_lock);
    desk->next = shared->desks;
    shared->desks = desk;
    mutex_unlock(shared->desk_lock);
}

/* ---- scores ----------------------------------------------------------------------------- */

float graph_score(const struct graph *graph, const float *query, size_t row, float *widened)
{
    const float *values = widened;
    if (graph->rows.element == ELEMENT_F32)
        values = segment_row_bytes(&graph->rows, row, widened);
    else
        segment_row(graph->backend, &graph->rows, row, NULL, widened);
    return cpu_score(graph->backend, query, values, graph->rows.dim, graph->rows.score);
}

static int better(const void *a, const void *b)
{
    const struct hit *x = a, *y = b;
    bool x_nan = isnan(x->score), y_nan = isnan(y->score);
    if (x_nan != y_nan)
        return x_nan ? 1 : -1;
    if (!x_nan && x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

void graph_sort_hits(struct hit *hits, size_t count)
{
    if (count > 1)
        qsort(hits, count, sizeof *hits, better);
}

/* ---- width ------------------------------------------------------------------------------ */

/* A seventh of what may be missed is kept in reserve: the tables are measured on a sample, and on
 * other queries than those that come. */
static double width_in(const struct graph_table *table, float wanted)
{
    float recall = wanted + (1 - wanted) / 7;
    for (size_t i = 0; i < GRAPH_BEAMS; i++) {
        if (!(table->recall[i] >= recall))
            continue;
        double width = (double)graph_beam_width(i);
        if (i == 0 || !(table->recall[i] > table->recall[i - 1]))
            return width;
        double below = (double)graph_beam_width(i - 1), rise = recall - table->recall[i - 1];
        return below + (width - below) * rise / (double)(table->recall[i] - table->recall[i - 1]);
    }
    return 0;
}

size_t graph_beam_for(const struct graph_header *header, float recall, size_t k)
{
    const struct graph_table *few = &header->tables[0], *many = &header->tables[1];
    double a = width_in(few, recall), b = width_in(many, recall);
    if (a <= 0 || (k > few->k && b <= 0))
        return 0;
    double width = a;
    if (k > many->k)
        width = fmax(a, b) * (double)k / (double)many->k;
    else if (k > few->k)
        width = a + (fmax(a, b) - a) * (double)(k - few->k) / (double)(many->k - few->k);
    width = fmax(width, 1.25 * (double)k);
    return width > GRAPH_BEAM_MAX ? GRAPH_BEAM_MAX : (size_t)ceil(width);
}

/* The width for this query, 0 when a scan is cheaper or the only way to what is asked for. */
static size_t plan(const struct graph *graph, const struct segment_query *query)
{
    size_t rows = graph->view.count, passed = query->allowed ? query->allowed_count : rows;
    if (query->exact || query->k >= passed || !passed)
        return 0;
    /* The k best of those that pass are among so many best of all, if the filter knows nothing of
     * the query. */
    double among = ceil((double)query->k * (double)rows / (double)passed);
    if (among > GRAPH_BEAM_MAX / 2)
        return 0;
    size_t beam = graph_beam_for(&graph->header, query->recall, (size_t)among);
    return (double)beam * GRAPH_VISIT_COST >= (double)passed ? 0 : beam;
}

/* ---- one query -------------------------------------------------------------------------- */

static void prepare(const struct graph *graph, const float *query, struct graph_desk *desk)
{
    size_t dim = graph->rows.dim, padded = graph->view.padded;
    memcpy(desk->query.values, query, dim * sizeof *query);
    memset(desk->query.values + dim, 0, (padded - dim) * sizeof *query);
    graph_rotate(&graph->rotation, desk->query.values, desk->rotation);
    graph_query_prepare(&desk->query, padded);
}

/* Returns how many hits, or SIZE_MAX when memory is out. */
static size_t walk(const struct graph *graph, const float *query, size_t k, size_t beam,
                   const uint64_t *allowed, struct graph_desk *desk, struct hit *hits)
{
    size_t best = k + (k / 2 > 10 ? k / 2 : 10);
    if (!graph_scratch_reserve(&desk->walk, beam, best) ||
        !array_reserve((void **)&desk->hits, &desk->hit_capacity, best, sizeof *desk->hits))
        return SIZE_MAX;
    graph_query_table(&desk->query, graph->view.padded);
    if (!graph_walk(&graph->view, &desk->query, GRAPH_NO_NODE, beam, best, allowed, &desk->walk))
        return SIZE_MAX;
    size_t found = desk->walk.best_count;
    for (size_t i = 0; i < found; i++)
        segment_row_prefetch(&graph->rows, desk->walk.best[i].id);
    for (size_t i = 0; i < found; i++) {
        uint32_t row = desk->walk.best[i].id;
        desk->hits[i] = (struct hit){ graph_score(graph, query, row, desk->rotation), row };
    }
    graph_sort_hits(desk->hits, found);
    found = found < k ? found : k;
    memcpy(hits, desk->hits, found * sizeof *hits);
    return found;
}

struct search {
    const struct graph *graph;
    const struct segment_query *query;
    const struct segment_hits *hits;
    size_t beam, k;
};

static void search_one(void *context, size_t item, int worker)
{
    const struct search *s = context;
    (void)worker;
    const float *query = s->query->queries + item * s->graph->rows.dim;
    struct hit *hits = s->hits->hits + item * s->query->k;
    struct graph_desk *desk = desk_take(s->graph);
    if (!desk) {
        s->hits->found[item] = SIZE_MAX;
        return;
    }
    prepare(s->graph, query, desk);
    size_t found = 0;
    if (s->beam)
        found = walk(s->graph, query, s->k, s->beam, s->query->allowed, desk, hits);
    /* A walk that met few rows that pass, because those lie elsewhere, leaves the question to a
     * scan. */
    bool few = s->query->allowed && s->beam && desk->walk.passed < PASSED_MIN * s->k;
    if (found < s->k || few)
        found = graph_scan(s->graph, query, s->k, s->query->allowed, desk, hits);
    s->hits->found[item] = found;
    desk_give(s->graph, desk);
}

enum akin_status graph_search_beam(const struct graph *graph, const struct segment_query *query,
                                   size_t beam, const struct segment_hits *hits,
                                   struct akin_error *error)
{
    if (query->k > K_MAX)
        return error_set(error, AKIN_LIMIT, "k is %zu: at most %d neighbours at once", query->k,
                         K_MAX);
    size_t passed = query->allowed ? query->allowed_count : graph->view.count;
    struct search search = { graph, query, hits, beam, query->k < passed ? query->k : passed };
    if (!search.k) {
        memset(hits->found, 0, query->count * sizeof *hits->found);
        return AKIN_OK;
    }
    if (query->count > 1 && graph->pool)
        thread_pool_each(graph->pool, query->count, search_one, &search);
    else
        for (size_t i = 0; i < query->count; i++)
            search_one(&search, i, 0);
    for (size_t i = 0; i < query->count; i++)
        if (hits->found[i] == SIZE_MAX)
            return error_memory(error);
    return AKIN_OK;
}

enum akin_status graph_search(const struct graph *graph, const struct segment_query *query,
                              const struct segment_hits *hits, struct akin_error *error)
{
    return graph_search_beam(graph, query, plan(graph, query), hits, error);
}

/* ---- open and close --------------------------------------------------------------------- */

void graph_close(struct graph **graph)
{
    struct graph *g = *graph;
    if (!g)
        return;
    while (g->desks) {
        struct graph_desk *desk = g->desks;
        g->desks = desk->next;
        desk_destroy(desk);
    }
    mutex_destroy(&g->desk_lock);
    graph_rotation_deinit(&g->rotation);
    memory_free(g);
    *graph = NULL;
}

static const struct segment_block *block_of(const struct segment_blocks *blocks, uint32_t type)
{
    for (size_t i = 0; i < blocks->count; i++)
        if (blocks->blocks[i].type == type)
            return &blocks->blocks[i];
    return NULL;
}

/* The header against the rows and the blocks' sizes. */
static enum akin_status check_header(const struct segment_rows *rows, const struct graph_header *h,
                                     uint64_t node_bytes, struct akin_error *error)
{
    if (h->version != GRAPH_VERSION)
        return error_set(error, AKIN_UNSUPPORTED, "graph: version %u, this program knows %d",
                         h->version, GRAPH_VERSION);
    if (h->dim != rows->dim || h->count != rows->count || h->score != rows->score)
        return error_set(error, AKIN_FORMAT, "graph: its header is of %llu rows of %u dimensions, "
                         "the segment has %zu of %zu: build the index again",
                         (unsigned long long)h->count, h->dim, rows->count, rows->dim);
    if (h->dim < 1 || h->dim > GRAPH_DIM_MAX || h->count >= GRAPH_COUNT_MAX || h->lifted > 1 ||
        h->padded != (h->dim + h->lifted + 63) / 64 * 64 || h->stride != graph_stride(h->padded))
        return error_set(error, AKIN_FORMAT, "graph: %u dimensions in blocks of %llu bytes: the "
                         "header is damaged", h->dim, (unsigned long long)h->stride);
    if (rows->element == ELEMENT_I8)
        return error_set(error, AKIN_UNSUPPORTED, "graph: its rows are bytes");
    uint64_t entries = h->nodes - h->count;
    if (h->nodes < h->count || entries > GRAPH_ENTRIES_MAX / EDGES ||
        (h->count > 0) != (entries > 0) || node_bytes != h->nodes * h->stride)
        return error_set(error, AKIN_FORMAT, "graph: %llu bytes of nodes do not fit %llu nodes of "
                         "%llu", (unsigned long long)node_bytes, (unsigned long long)h->nodes,
                         (unsigned long long)h->stride);
    return AKIN_OK;
}

enum akin_status graph_open(struct backend *backend, struct thread_pool *pool,
                            const struct segment_rows *rows, const struct segment_blocks *blocks,
                            struct graph **graph, struct akin_error *error)
{
    const struct segment_block *header = block_of(blocks, GRAPH_BLOCK_HEADER);
    const struct segment_block *nodes = block_of(blocks, GRAPH_BLOCK_NODES);
    if (!header || !nodes || header->bytes != sizeof(struct graph_header))
        return error_set(error, AKIN_FORMAT, "graph: a block is missing or has a wrong size");
    struct graph *g = memory_alloc(1, sizeof *g);
    if (!g)
        return error_memory(error);
    enum akin_status status = AKIN_OK;
    memcpy(&g->header, header->data, sizeof g->header);
    TRY_DONE(check_header(rows, &g->header, nodes->bytes, error));
    g->backend = backend;
    g->pool = pool;
    g->rows = *rows;
    g->view = (struct graph_view){
        .kernels = cpu_kernels(backend), .nodes = nodes->data, .count = rows->count,
        .node_count = g->header.nodes, .padded = g->header.padded, .stride = g->header.stride,
        .score = rows->score, .square = g->header.square,
    };
    g->desk_lock = mutex_create();
    if (!g->desk_lock || !graph_rotation_init(&g->rotation, g->view.padded, g->header.seed))
        TRY_DONE(error_memory(error));
    *graph = g;
    g = NULL;
done:
    if (g && !g->desk_lock)
        memory_free(g);
    else
        graph_close(&g);
    return status;
}
