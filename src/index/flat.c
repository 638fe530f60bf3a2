/* Kind "flat": all rows are scored, exactly, where they lie in the file. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/memory.h"
#include "compute/backend.h"
#include "index/index.h"
#include "index/index_file.h"

enum { SEARCH_HITS_MAX = 1 << 20 };     /* hits of one call of the backend; bounds our memory */

struct index {
    struct backend *backend;
    struct file_map map;
    struct index_view view;
    char *path;
};

enum akin_status index_open(struct backend *backend, const char *path, struct index **index,
                            struct akin_error *error)
{
    struct index *opened = memory_alloc(1, sizeof *opened);
    if (!opened)
        return error_memory(error);
    enum akin_status status = AKIN_OK;
    opened->backend = backend;
    opened->path = memory_copy_string(path);
    if (!opened->path)
        TRY_DONE(error_memory(error));
    TRY_DONE(file_map_open(path, &opened->map, error));
    TRY_DONE(
        index_view_init(&opened->view, opened->path, opened->map.data, opened->map.bytes, error));
    *index = opened;
    opened = NULL;
done:
    index_close(&opened);
    return status;
}

void index_close(struct index **index)
{
    if (!*index)
        return;
    file_map_close(&(*index)->map);
    memory_free((*index)->path);
    memory_free(*index);
    *index = NULL;
}

void index_info(const struct index *index, struct akin_index_info *info)
{
    const struct index_header *h = index->view.header;
    *info = (struct akin_index_info){
        .metric = (enum akin_metric)h->metric, .version = h->version, .count = h->count,
        .dimension = h->dimension, .file_bytes = h->file_bytes,
    };
    snprintf(info->kind, sizeof info->kind, "%s", index_kind_name(h->kind));
}

/* Refuses numbers that are not finite; with `unit` also writes the queries at length 1. */
static enum akin_status prepare_queries(const float *queries, size_t count, size_t dim, float *unit,
                                        struct akin_error *error)
{
    for (size_t q = 0; q < count; q++) {
        const float *in = queries + q * dim;
        double squares = 0;
        for (size_t i = 0; i < dim; i++) {
            if (!isfinite(in[i]))
                return error_set(error, AKIN_ARGUMENT, "query %zu: column %zu is not finite", q, i);
            squares += (double)in[i] * in[i];
        }
        double scale = squares > 0 ? 1 / sqrt(squares) : 0;
        for (size_t i = 0; unit && i < dim; i++)
            unit[q * dim + i] = (float)(in[i] * scale);
    }
    return AKIN_OK;
}

/* Hits of one query to the caller's ids and scores [k]. */
static void write_results(const struct index_view *view, const struct hit *hits, size_t found,
                          size_t k, int64_t *ids, float *scores)
{
    for (size_t i = 0; i < k; i++) {
        bool hit = i < found;
        ids[i] = !hit ? -1 : view->ids ? view->ids[hits[i].row] : (int64_t)hits[i].row;
        scores[i] = hit ? hits[i].score : -INFINITY;
    }
}

enum akin_status index_search(const struct index *index, const float *queries, size_t query_count,
                              size_t k, const uint64_t *allowed, int64_t *ids, float *scores,
                              struct akin_error *error)
{
    const struct index_header *h = index->view.header;
    if (k > K_MAX)
        return error_set(error, AKIN_LIMIT, "k is %zu: at most %d neighbours at once", k, K_MAX);
    size_t dim = h->dimension, k_found = k < h->count ? k : h->count;
    size_t step = k_found ? SEARCH_HITS_MAX / k_found : query_count;
    step = step == 0 ? 1 : step > query_count ? query_count : step;
    bool cosine = h->metric == AKIN_METRIC_COSINE;
    enum akin_status status = AKIN_OK;
    float *unit = cosine ? memory_alloc_aligned(step, dim * sizeof *unit) : NULL;
    struct hit *hits = memory_alloc_aligned(step, (k_found + 1) * sizeof *hits);
    size_t *found = memory_alloc(step, sizeof *found);
    if ((cosine && !unit) || !hits || !found)
        TRY_DONE(error_memory(error));
    TRY_DONE(prepare_queries(queries, query_count, dim, NULL, error));
    for (size_t q = 0, count; q < query_count; q += count) {
        count = query_count - q < step ? query_count - q : step;
        const float *batch = queries + q * dim;
        if (cosine) {
            TRY_DONE(prepare_queries(batch, count, dim, unit, error));
            batch = unit;
        }
        struct topk_request request = {
            .rows = index->view.rows, .row_count = h->count, .dim = dim, .queries = batch,
            .query_count = count, .k = k_found, .allowed = allowed,
            .score = h->metric == AKIN_METRIC_L2 ? SCORE_L2 : SCORE_INNER_PRODUCT,
        };
        if (k_found)
            TRY_DONE(cpu_topk(index->backend, &request, hits, found, error));
        for (size_t i = 0; i < count; i++)
            write_results(&index->view, hits + i * k_found, found[i], k, ids + (q + i) * k,
                          scores + (q + i) * k);
    }
done:
    memory_free(found);
    memory_free(hits);
    memory_free(unit);
    return status;
}
