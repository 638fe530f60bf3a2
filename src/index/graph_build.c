/* A graph from rows: bytes; first edges from a partition; every row walks the graph to itself, and
 * chooses from what it met (as in NSG, Fu et al., 2019, and SymphonyQG); edges back; reachability;
 * widths for recalls. The graph that is walked does not change meanwhile, so rows are independent,
 * and the result is the same for any number of threads. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "index/graph_builder.h"

#define SQUARE_MAX 0x1p100     /* of a row's length: sums of several stay numbers */
#define SPREAD 1.1f             /* of squared distances; see docs/decisions */

enum { BEAM = 64, PASSES = 2, SAMPLE_ROWS = 4096, ENTRY_SHARE = 128 };

/* ---- rows as bytes ---------------------------------------------------------------------- */

static void measure(struct graph_builder *b, size_t row, struct graph_worker *worker, void *context)
{
    double *squares = context;
    graph_load_row(b->view.kernels, &b->build->rows, &b->header, row, worker->row);
    squares[row] = 0;
    for (size_t i = 0; i < b->header.dim; i++)
        squares[row] += (double)worker->row[i] * (double)worker->row[i];
}

static void write_row(struct graph_builder *b, size_t row, struct graph_worker *worker,
                      void *context)
{
    (void)context;
    graph_load_row(b->view.kernels, &b->build->rows, &b->header, row, worker->row);
    graph_rotate(&b->rotation, worker->row, worker->rotation);
    graph_write_row(&b->view, b->nodes + row * b->view.stride, worker->row);
}

/* Whether inner products need lengths evened out, and to which. Rows of zeros do not count. */
static void find_lift(struct graph_builder *b, const double *squares)
{
    double low = INFINITY, high = 0;
    for (size_t row = 0; row < b->count; row++) {
        if (squares[row] > 0)
            low = fmin(low, squares[row]);
        high = fmax(high, squares[row]);
    }
    b->header.lifted = b->build->rows.score == SCORE_INNER_PRODUCT && high > low * 1.002;
    b->header.square = b->build->rows.score == SCORE_INNER_PRODUCT ? (float)high : 0;
    b->view.square = b->header.square;
}

/* ---- entries ---------------------------------------------------------------------------- */

static size_t entry_count(size_t count)
{
    size_t entries = count / ENTRY_SHARE + 1;
    return count == 0 ? 0 : entries > GRAPH_ENTRIES_MAX ? GRAPH_ENTRIES_MAX : entries;
}

static size_t entry_nodes(size_t count)
{
    return (entry_count(count) + EDGES - 1) / EDGES;
}

/* The blocks behind the rows: neighbours of the mean are rows drawn at random. */
static void write_entries(struct graph_builder *b)
{
    const struct graph_view *view = &b->view;
    struct graph_worker *worker = &b->workers[0];
    size_t step = b->count / SAMPLE_ROWS + 1, sampled = 0, wanted = entry_count(b->count);
    float *mean = worker->row;
    memset(mean, 0, view->padded * sizeof *mean);
    for (size_t row = 0; row < b->count; row += step, sampled++) {
        const unsigned char *node = node_at(view, row);
        for (size_t i = 0; i < view->padded; i++)
            mean[i] += node_tail(view, node)->scale * (float)(node_row(view, node)[i] - 128);
    }
    for (size_t i = 0; i < view->padded && sampled; i++)
        mean[i] /= (float)sampled;
    struct rng rng;
    rng_seed(&rng, b->header.seed ^ 0x656e74);
    uint32_t ids[EDGES];
    size_t held = 0, taken = 0, node = b->count;
    for (size_t row = 0; row < b->count && taken < wanted; row++) {
        if (rng_below(&rng, b->count - row) >= wanted - taken)
            continue;
        ids[held++] = (uint32_t)row;
        taken++;
        if (held < EDGES && taken < wanted)
            continue;
        unsigned char *at = b->nodes + node++ * view->stride;
        graph_write_row(view, at, mean);
        ((struct graph_tail *)node_tail(view, at))->error = 0;     /* nothing is screened by it */
        graph_write_edges(view, at, ids, held);
        held = 0;
    }
}

/* ---- edges ------------------------------------------------------------------------------ */

/* What a walk around the row met, and the neighbours it has. */
static void refine(struct graph_builder *b, size_t row, struct graph_worker *worker, void *context)
{
    size_t beam = *(size_t *)context;
    graph_query_from_row(&worker->query, &b->view, node_at(&b->view, row));
    if (!graph_walk(&b->view, &worker->query, row, beam, beam, NULL, &worker->scratch))
        worker->failed = true;
    size_t count = 0;
    uint32_t *list = b->lists + row * EDGES;
    for (; count < worker->scratch.best_count; count++)
        worker->ids[count] = worker->scratch.best[count].id;
    for (size_t e = 0; e < b->list_counts[row]; e++)
        worker->ids[count++] = list[e];
    graph_distances(b, row, count, worker->near, worker);
    count = graph_sort(worker->near, count, (uint32_t)row);
    b->list_counts[row] = (uint8_t)graph_prune(b, worker->near, count, list, worker);
}

enum akin_status graph_workers_ok(const struct graph_builder *b, struct akin_error *error)
{
    for (int w = 0; w < b->worker_count; w++)
        if (b->workers[w].failed)
            return error_memory(error);
    return AKIN_OK;
}

/* ---- memory ----------------------------------------------------------------------------- */

static size_t padded_dim(size_t dim, bool lifted)
{
    return (dim + lifted + 63) / 64 * 64;
}

static bool worker_init(struct graph_worker *worker, size_t padded, size_t beam)
{
    size_t longest = CANDIDATES_MAX + beam + EDGES;
    worker->list_capacity = worker->near_capacity = longest;
    worker->near = memory_alloc(longest, sizeof *worker->near);
    worker->ids = memory_alloc(longest, sizeof *worker->ids);
    worker->dots = memory_alloc(longest, sizeof *worker->dots);
    worker->tile = memory_alloc_aligned(4 * padded, 1);
    worker->row = memory_alloc_aligned(padded, sizeof *worker->row);
    worker->rotation = memory_alloc_aligned(padded, sizeof *worker->rotation);
    return graph_query_init(&worker->query, padded) &&
           graph_scratch_reserve(&worker->scratch, beam, beam) && worker->near && worker->ids &&
           worker->dots && worker->tile && worker->row && worker->rotation;
}

static void worker_deinit(struct graph_worker *worker)
{
    graph_scratch_deinit(&worker->scratch);
    graph_query_deinit(&worker->query);
    memory_free(worker->near);
    memory_free(worker->ids);
    memory_free(worker->dots);
    memory_free(worker->tile);
    memory_free(worker->row);
    memory_free(worker->rotation);
}

static void builder_deinit(struct graph_builder *b)
{
    for (int w = 0; b->workers && w < b->worker_count; w++)
        worker_deinit(&b->workers[w]);
    memory_free(b->workers);
    memory_free(b->nodes);
    memory_free(b->lists);
    memory_free(b->order);
    memory_free(b->list_counts);
    graph_rotation_deinit(&b->rotation);
}

/* Buffers whose size depends on what the rows turned out to be. */
static enum akin_status allocate(struct graph_builder *b, struct akin_error *error)
{
    size_t padded = b->view.padded;
    b->nodes = memory_alloc_aligned(b->view.node_count, b->view.stride);
    b->lists = memory_alloc(b->count, EDGES * sizeof *b->lists);
    b->list_counts = memory_alloc(b->count, 1);
    b->workers = memory_alloc((size_t)b->worker_count, sizeof *b->workers);
    if (!b->nodes || !b->lists || !b->list_counts || !b->workers ||
        !graph_rotation_init(&b->rotation, padded, b->header.seed))
        return error_memory(error);
    for (int w = 0; w < b->worker_count; w++)
        if (!worker_init(&b->workers[w], padded, b->beam))
            return error_memory(error);
    b->view.nodes = b->nodes;
    return AKIN_OK;
}

size_t graph_build_bytes(size_t count, size_t dim, int threads)
{
    size_t padded = padded_dim(dim, true), row, bytes, each, nodes;
    /* Blocks; two sets of lists and what is sorted to turn them round; memberships of leaves. */
    row = graph_stride(padded) + 3 * EDGES * sizeof(uint32_t) + 3 * sizeof(size_t);
    size_t leaves = KNN_LEAVES * (KNN_NEAREST * sizeof(struct graph_near) + 2 * sizeof(uint32_t));
    row += leaves > EDGES * sizeof(uint32_t) ? leaves - EDGES * sizeof(uint32_t) : 0;
    nodes = entry_nodes(count) * graph_stride(padded);
    each = (size_t)threads * (padded * 1600 + (1 << 20));
    return size_mul(count, row, &bytes) && size_add(bytes, nodes + each, &bytes) ? bytes : 0;
}

/* ---- the whole -------------------------------------------------------------------------- */

static enum akin_status check_settings(const struct segment_build *build, struct akin_error *error)
{
    const struct segment_rows *rows = &build->rows;
    size_t degree = build->settings.degree, beam = build->settings.beam;
    if (rows->dim < 1 || rows->dim > GRAPH_DIM_MAX)
        return error_set(error, AKIN_LIMIT, "a graph takes vectors of 1 to %d dimensions, these "
                         "have %zu: use another kind of index", GRAPH_DIM_MAX, rows->dim);
    if (rows->element == ELEMENT_I8)
        return error_set(error, AKIN_UNSUPPORTED, "a graph is built from rows in float32, float16 "
                         "or bfloat16, and these are bytes");
    if (rows->count >= GRAPH_COUNT_MAX)
        return error_set(error, AKIN_LIMIT, "a graph takes fewer than %" PRIu64 " rows, not %zu: "
                         "build several segments", GRAPH_COUNT_MAX, rows->count);
    if (degree && (degree < 8 || degree > EDGES))
        return error_set(error, AKIN_ARGUMENT, "degree %zu: a graph has 8 to %d neighbours",
                         degree, EDGES);
    if (beam && (beam < 8 || beam > 4096))
        return error_set(error, AKIN_ARGUMENT, "beam %zu: it takes 8 to 4096", beam);
    return AKIN_OK;
}

/* Rows, whose lengths say how long a block is. */
static enum akin_status make_rows(struct graph_builder *b, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    struct graph_worker measuring = { 0 };
    double *squares = memory_alloc(b->count, sizeof *squares);
    size_t dim = b->header.dim;
    measuring.row = memory_alloc_aligned(padded_dim(dim, true), sizeof *measuring.row);
    if (!squares || !measuring.row)
        TRY_DONE(error_memory(error));
    b->header.padded = (uint32_t)padded_dim(dim, true);
    for (size_t row = 0; row < b->count; row++) {
        measure(b, row, &measuring, squares);
        if (!(squares[row] <= SQUARE_MAX))
            TRY_DONE(error_set(error, AKIN_ARGUMENT, "row %zu has a number that is not finite, or "
                               "is longer than 2^50: leave it out", row));
    }
    find_lift(b, squares);
    b->view.padded = padded_dim(dim, b->header.lifted);
    b->view.stride = graph_stride(b->view.padded);
    b->header.padded = (uint32_t)b->view.padded;
    b->header.stride = b->view.stride;
    TRY_DONE(allocate(b, error));
    TRY_DONE(graph_each_row(b, "rows", write_row, NULL, error));
done:
    memory_free(squares);
    memory_free(measuring.row);
    return status;
}

static enum akin_status put(const struct segment_sink *sink, uint32_t type, const void *data,
                            size_t bytes, struct akin_error *error)
{
    TRY(sink->begin(sink->context, type, error));
    return bytes ? sink->append(sink->context, data, bytes, error) : AKIN_OK;
}

static enum akin_status make_edges(struct graph_builder *b, struct akin_error *error)
{
    write_entries(b);
    TRY(graph_knn(b, error));
    TRY(graph_reverse(b, error));
    for (int pass = 1; pass <= PASSES; pass++) {
        size_t beam = pass < PASSES ? b->beam / 2 : b->beam;
        TRY(graph_each_row(b, "edges", refine, &beam, error));
        TRY(graph_workers_ok(b, error));
        TRY(graph_reverse(b, error));
    }
    TRY(graph_connect(b, error));
    return graph_calibrate(b, error);
}

enum akin_status graph_build(const struct segment_build *build, const struct segment_sink *sink,
                             struct akin_error *error)
{
    TRY(check_settings(build, error));
    const struct segment_rows *rows = &build->rows;
    enum akin_status status = AKIN_OK;
    size_t nodes = rows->count + entry_nodes(rows->count);
    struct graph_builder b = {
        .build = build, .pool = build->pool, .count = rows->count, .spread = SPREAD,
        .degree = build->settings.degree ? build->settings.degree : EDGES,
        .beam = build->settings.beam ? build->settings.beam : BEAM,
        .worker_count = thread_pool_size(build->pool),
        .view = { .kernels = cpu_kernels(build->backend), .count = rows->count,
                  .node_count = nodes, .score = rows->score },
        .header = { .version = GRAPH_VERSION, .dim = (uint32_t)rows->dim, .score = rows->score,
                    .count = rows->count, .nodes = nodes, .seed = build->settings.seed },
    };
    b.header.degree = (uint32_t)b.degree;
    TRY_DONE(make_rows(&b, error));
    if (b.count)
        TRY_DONE(make_edges(&b, error));
    TRY_DONE(put(sink, GRAPH_BLOCK_HEADER, &b.header, sizeof b.header, error));
    TRY_DONE(put(sink, GRAPH_BLOCK_NODES, b.nodes, nodes * b.view.stride, error));
done:
    builder_deinit(&b);
    return status;
}
