/* Rows of halves are widened a piece at a time; those of float32 are used where they lie. */
#include "index/segment_rows.h"

#include <string.h>

#include "base/file_at.h"
#include "base/memory.h"
#include "base/rng.h"
#include "compute/best.h"
#include "compute/cpu/kernels.h"
#include "index/index.h"

enum { PIECE_ROWS = 4096 };     /* a multiple of 64: a piece of the filter is whole words */

static size_t row_bytes(const struct segment_rows *rows)
{
    return rows->dim * element_bytes(rows->element);
}

const void *segment_row_bytes(const struct segment_rows *rows, size_t row, void *room)
{
    size_t bytes = row_bytes(rows);
    if (rows->file && file_at_read(rows->file, rows->offset + row * bytes, room, bytes, NULL) ==
                          AKIN_OK)
        return room;
    return (const char *)rows->vectors + row * bytes;
}

void segment_row_prefetch(const struct segment_rows *rows, size_t row)
{
    size_t bytes = row_bytes(rows);
    const char *at = (const char *)rows->vectors + row * bytes;
    for (size_t i = 0; !rows->file && i < bytes; i += 64)
        __builtin_prefetch(at + i);
}

void segment_row(const struct backend *backend, const struct segment_rows *rows, size_t row,
                 const float *origin, float *out)
{
    const struct kernels *k = cpu_kernels(backend);
    size_t dim = rows->dim;
    _Alignas(64) char room[INDEX_DIMENSION_MAX * sizeof(float)];
    const void *at = segment_row_bytes(rows, row, room);
    if (rows->element == ELEMENT_F16)
        k->widen_f16(out, at, dim);
    else if (rows->element == ELEMENT_BF16)
        k->widen_bf16(out, at, dim);
    else
        memcpy(out, at, dim * sizeof *out);
    for (size_t i = 0; origin && i < dim; i++)
        out[i] -= origin[i];
}

void sample_rows(uint64_t seed, size_t total, size_t count, uint32_t *rows)
{
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t row = 0, taken = 0; taken < count; row++)
        if (total - row <= count - taken || rng_below(&rng, total - row) < count - taken)
            rows[taken++] = (uint32_t)row;
}

/* Merges two lists, best first, into out [k]; returns how many. */
static size_t merge(const struct hit *a, size_t a_count, const struct hit *b, size_t b_count,
                    size_t k, struct hit *out)
{
    size_t i = 0, j = 0, count = 0;
    while (count < k && (i < a_count || j < b_count))
        out[count++] = j == b_count || (i < a_count && hit_better(a[i], b[j])) ? a[i++] : b[j++];
    return count;
}

struct pieces {
    struct backend *backend;
    const struct segment_rows *rows;
    const struct segment_hits *hits;
    struct topk_request request;
    float *widened;             /* [PIECE_ROWS][dim] */
    struct hit *more, *merged;  /* [queries][k], [k] */
    size_t *found;              /* [queries] */
};

static enum akin_status search_piece(struct pieces *p, size_t first, struct akin_error *error)
{
    size_t dim = p->rows->dim, left = p->rows->count - first, k = p->request.k;
    struct topk_request piece = p->request;
    piece.row_count = left < PIECE_ROWS ? left : PIECE_ROWS;
    piece.rows = p->widened;
    piece.allowed = piece.allowed ? piece.allowed + first / 64 : NULL;
    for (size_t i = 0; i < piece.row_count; i++)
        segment_row(p->backend, p->rows, first + i, NULL, p->widened + i * dim);
    TRY(cpu_topk(p->backend, &piece, p->more, p->found, error));
    for (size_t q = 0; q < piece.query_count; q++) {
        struct hit *more = p->more + q * k, *kept = p->hits->hits + q * k;
        for (size_t i = 0; i < p->found[q]; i++)
            more[i].row += (uint32_t)first;
        p->hits->found[q] = merge(kept, p->hits->found[q], more, p->found[q], k, p->merged);
        memcpy(kept, p->merged, p->hits->found[q] * sizeof *kept);
    }
    return AKIN_OK;
}

enum akin_status segment_topk(struct backend *backend, const struct segment_rows *rows,
                              const struct topk_request *request, const struct segment_hits *hits,
                              struct akin_error *error)
{
    struct segment_rows mapped = *rows;
    struct pieces p = { .backend = backend, .rows = &mapped, .hits = hits, .request = *request };
    mapped.file = NULL;                 /* all of them are looked at, in their order */
    if (rows->element == ELEMENT_F32) {
        p.request.rows = rows->vectors;
        p.request.row_count = rows->count;
        return cpu_topk(backend, &p.request, hits->hits, hits->found, error);
    }
    enum akin_status status = AKIN_OK;
    size_t count, floats;
    memset(hits->found, 0, request->query_count * sizeof *hits->found);
    if (!size_mul(request->query_count, request->k, &count) ||
        !size_mul(PIECE_ROWS, rows->dim, &floats))
        return error_memory(error);
    p.widened = memory_alloc_aligned(floats, sizeof *p.widened);
    p.more = memory_alloc(count, sizeof *p.more);
    p.merged = memory_alloc(request->k, sizeof *p.merged);
    p.found = memory_alloc(request->query_count, sizeof *p.found);
    if (!p.widened || !p.more || !p.merged || !p.found)
        TRY_DONE(error_memory(error));
    for (size_t first = 0; first < rows->count; first += PIECE_ROWS)
        TRY_DONE(search_piece(&p, first, error));
done:
    memory_free(p.found);
    memory_free(p.merged);
    memory_free(p.more);
    memory_free(p.widened);
    return status;
}

