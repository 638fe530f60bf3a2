/* The one place that knows which kinds there are. */
#include "index/segment.h"

#include "base/memory.h"
#include "index/flat.h"
#include "index/graph.h"
#include "index/index.h"
#include "index/ivfpq.h"
#include "index/segment_rows.h"

enum { TRAINED_ROWS_MIN = 64 };     /* fewer teach nothing, and are scanned in no time */

struct segment {
    uint32_t kind;
    struct backend *backend;
    struct thread_pool *pool;
    struct segment_rows rows;
    union {
        struct flat *flat;
        struct ivfpq *ivfpq;
        struct graph *graph;
    };
};

const char *segment_kind_name(uint32_t kind)
{
    switch (kind) {
    case SEGMENT_PLAIN: return "plain";
    case SEGMENT_FLAT: return "flat";
    case SEGMENT_IVFPQ: return "ivfpq";
    case SEGMENT_GRAPH: return "graph";
    default: return NULL;
    }
}

bool segment_kind_takes(enum segment_kind kind, size_t rows, size_t dim)
{
    switch (kind) {
    case SEGMENT_PLAIN: return true;
    case SEGMENT_FLAT: return rows > 0 && dim <= FLAT_DIMENSION_MAX;
    case SEGMENT_IVFPQ:
    case SEGMENT_GRAPH: return rows >= TRAINED_ROWS_MIN;
    default: return false;
    }
}

const struct flat *segment_flat(const struct segment *segment)
{
    return segment->kind == SEGMENT_FLAT ? segment->flat : NULL;
}

uint32_t segment_kind(const struct segment *segment)
{
    return segment->kind;
}

const struct segment_rows *segment_originals(const struct segment *segment)
{
    return &segment->rows;
}

struct thread_pool *segment_pool(const struct segment *segment)
{
    return segment->pool;
}

struct ivfpq *segment_ivfpq(const struct segment *segment)
{
    return segment->kind == SEGMENT_IVFPQ ? segment->ivfpq : NULL;
}

void segment_original(const struct segment *segment, size_t row, float *out)
{
    if (segment->rows.element == ELEMENT_I8)
        segment_read(segment, row, out);
    else
        segment_row(segment->backend, &segment->rows, row, NULL, out);
}

float segment_score(const struct segment *segment, const float *query, size_t row)
{
    const struct segment_rows *rows = &segment->rows;
    _Alignas(64) float own[INDEX_DIMENSION_MAX];
    const float *at = own;
    if (rows->element == ELEMENT_F32)
        at = segment_row_bytes(rows, row, own);
    else
        segment_original(segment, row, own);
    return cpu_score(segment->backend, query, at, rows->dim, rows->score);
}

static enum akin_status unknown(uint32_t kind, struct akin_error *error)
{
    return error_set(error, AKIN_UNSUPPORTED, "segments of kind %u are not known to this program",
                     (unsigned)kind);
}

enum akin_status segment_build(enum segment_kind kind, const struct segment_build *build,
                               const struct segment_sink *sink, struct akin_error *error)
{
    switch (kind) {
    case SEGMENT_PLAIN: return AKIN_OK;
    case SEGMENT_FLAT: return flat_build(build, sink, error);
    case SEGMENT_IVFPQ: return ivfpq_build(build, sink, error);
    case SEGMENT_GRAPH: return graph_build(build, sink, error);
    default: return unknown(kind, error);
    }
}

enum akin_status segment_open(uint32_t kind, struct backend *backend, struct thread_pool *pool,
                              const struct segment_rows *rows, const struct segment_blocks *blocks,
                              struct segment **segment, struct akin_error *error)
{
    struct segment *opened = memory_alloc(1, sizeof *opened);
    if (!opened)
        return error_memory(error);
    *opened = (struct segment){ .kind = kind, .backend = backend, .pool = pool,
                                .rows = *rows };
    enum akin_status status;
    switch (kind) {
    case SEGMENT_PLAIN:
        status = rows->element == ELEMENT_F32 ? AKIN_OK : unknown(kind, error);
        break;
    case SEGMENT_FLAT:
        status = flat_open(backend, pool, rows, blocks, &opened->flat, error);
        break;
    case SEGMENT_IVFPQ:
        status = ivfpq_open(backend, pool, rows, blocks, &opened->ivfpq, error);
        break;
    case SEGMENT_GRAPH:
        status = graph_open(backend, pool, rows, blocks, &opened->graph, error);
        break;
    default:
        status = unknown(kind, error);
    }
    if (status == AKIN_OK)
        *segment = opened;
    else
        memory_free(opened);
    return status;
}

void segment_read(const struct segment *segment, size_t row, float *out)
{
    ASSERT(segment->kind == SEGMENT_FLAT);
    flat_row(segment->flat, row, out);
}

void segment_close(struct segment **segment)
{
    if (!*segment)
        return;
    switch ((*segment)->kind) {
    case SEGMENT_FLAT: flat_close(&(*segment)->flat); break;
    case SEGMENT_IVFPQ: ivfpq_close(&(*segment)->ivfpq); break;
    case SEGMENT_GRAPH: graph_close(&(*segment)->graph); break;
    }
    memory_free(*segment);
    *segment = NULL;
}

static enum akin_status search_plain(const struct segment *segment,
                                     const struct segment_query *query,
                                     const struct segment_hits *hits, struct akin_error *error)
{
    struct topk_request request = {
        .rows = segment->rows.vectors, .row_count = segment->rows.count,
        .dim = segment->rows.dim, .queries = query->queries, .query_count = query->count,
        .k = query->k, .allowed = query->allowed, .score = segment->rows.score,
    };
    return cpu_topk(segment->backend, &request, hits->hits, hits->found, error);
}

enum akin_status segment_search(const struct segment *segment, const struct segment_query *query,
                                const struct segment_hits *hits, struct akin_error *error)
{
    switch (segment->kind) {
    case SEGMENT_PLAIN: return search_plain(segment, query, hits, error);
    case SEGMENT_FLAT: return flat_search(segment->flat, query, hits, error);
    case SEGMENT_IVFPQ: return ivfpq_search(segment->ivfpq, query, hits, error);
    case SEGMENT_GRAPH: return graph_search(segment->graph, query, hits, error);
    default: return unknown(segment->kind, error);
    }
}

enum akin_status segment_check(const struct segment *segment, struct akin_error *error)
{
    switch (segment->kind) {
    case SEGMENT_FLAT: return flat_check(segment->flat, error);
    case SEGMENT_IVFPQ: return ivfpq_check(segment->ivfpq, error);
    case SEGMENT_GRAPH: return graph_check(segment->graph, error);
    default: return AKIN_OK;
    }
}
