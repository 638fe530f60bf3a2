/* Kind "ivfpq": opening, checking, and the records of eight bits. */
#include "index/ivfpq.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/thread.h"
#include "index/ivfpq_parts.h"
#include "index/kmeans.h"

/* ---- records ---------------------------------------------------------------------------- */

void record_write(const struct ivfpq *v, const float *vector, int8_t *record)
{
    const float magic = 0x1.8p23f;      /* adding it rounds to a whole number, to even */
    size_t dim = v->rows.dim;
    float most = 0, sum = 0;
    for (size_t i = 0; i < dim; i++) {
        float size = fabsf(vector[i]);
        most = size > most ? size : most;
        sum += vector[i] * vector[i];
    }
    struct ivf_tail tail = { .scale = most / 127, .half_norm = sum / 2 };
    float factor = tail.scale > 0 ? 1 / tail.scale : 0;
    if (!isfinite(factor) || !isfinite(tail.half_norm))
        tail = (struct ivf_tail){ 0 }, factor = 0;
    for (size_t i = 0; i < dim; i++) {
        float level = factor > 0 ? vector[i] * factor : 0;
        record[i] = (int8_t)(level + magic - magic);
    }
    memset(record + dim, 0, v->depth - dim);
    memcpy(record + v->depth, &tail, sizeof tail);
}

void record_read(const struct ivfpq *v, const int8_t *record, float *vector)
{
    float scale = record_tail(v, record).scale;
    for (size_t i = 0; i < v->rows.dim; i++)
        vector[i] = record[i] * scale;
}

/* ---- opening ---------------------------------------------------------------------------- */

static const void *find_block(const struct segment_blocks *blocks, uint32_t type, uint64_t *bytes)
{
    for (size_t i = 0; i < blocks->count; i++)
        if (blocks->blocks[i].type == type) {
            *bytes = blocks->blocks[i].bytes;
            return blocks->blocks[i].data;
        }
    *bytes = 0;
    return NULL;
}

static enum akin_status damaged(struct akin_error *error, const char *what)
{
    return error_set(error, AKIN_FORMAT, "ivfpq segment: %s; the file is damaged: restore it or "
                                         "build it again",
                     what);
}

static enum akin_status check_header(const struct ivfpq *v, uint64_t bytes,
                                     struct akin_error *error)
{
    const struct ivfpq_header *h = v->header;
    if (!h || bytes != sizeof *h)
        return damaged(error, "the header is missing or has another size");
    if (h->version != IVFPQ_VERSION)
        return error_set(error, AKIN_UNSUPPORTED, "ivfpq segment: version %u; this program reads "
                                                  "version %d: build the index again",
                         h->version, IVFPQ_VERSION);
    if (h->score != (uint32_t)v->rows.score || h->dim != v->rows.dim || h->rows != v->rows.count)
        return damaged(error, "the header and the rows differ in score, dimension or count");
    if (h->dim < 1 || h->dim > IVFPQ_DIM_MAX || h->cells > IVFPQ_CELLS_MAX ||
        (h->cells == 0) != (h->rows == 0) || h->rows > IVFPQ_ROWS_MAX)
        return damaged(error, "dimension, cells or rows out of range");
    if (h->parts < 1 || h->parts > h->dim || h->width < 1 || h->width > h->dim ||
        (uint64_t)h->parts * h->width < h->dim || h->parts * h->width >= h->dim + h->width ||
        h->wide > 1 ||
        h->groups != (h->parts + header_norm_parts(h) + header_group(h) - 1) / header_group(h))
        return damaged(error, "parts, width or groups out of range");
    if (h->blocks > h->rows / PQ4_BLOCK_ROWS + h->cells)
        return damaged(error, "more blocks than rows and cells can fill");
    return AKIN_OK;
}

static enum akin_status check_cells(const struct ivfpq *v, struct akin_error *error)
{
    uint64_t block = 0, rows = 0;
    for (size_t c = 0; c < v->header->cells; c++) {
        if (v->cells[c].first != block || v->cells[c].rows > v->header->rows)
            return damaged(error, "a cell does not begin where the one before it ends");
        block += ((uint64_t)v->cells[c].rows + PQ4_BLOCK_ROWS - 1) / PQ4_BLOCK_ROWS;
        rows += v->cells[c].rows;
    }
    if (block != v->header->blocks || rows != v->header->rows)
        return damaged(error, "the cells do not add up to the rows");
    return AKIN_OK;
}

/* Every block, with the size that the header gives it. The products fit: all factors are bounded.
 */
static enum akin_status find_blocks(struct ivfpq *v, const struct segment_blocks *blocks,
                                    struct akin_error *error)
{
    uint64_t bytes;
    v->header = find_block(blocks, IVFPQ_HEADER, &bytes);
    TRY(check_header(v, bytes, error));
    const struct ivfpq_header *h = v->header;
    v->depth = ((size_t)h->dim + 31) / 32 * 32;
    v->stride = v->depth + sizeof(struct ivf_tail);
    const struct {
        uint32_t type;
        const void **to;
        uint64_t bytes;
    } wanted[] = {
        {IVFPQ_CENTROIDS, (const void **)&v->centroids, (uint64_t)h->cells * v->stride},
        {IVFPQ_CELLS, (const void **)&v->cells, h->cells * sizeof(struct ivf_cell)},
        {IVFPQ_MEAN, (const void **)&v->mean, h->dim * sizeof(float)},
        {IVFPQ_CODEBOOK, (const void **)&v->codebook,
         (uint64_t)h->parts * h->width * header_codes(h) * sizeof(float)},
        {IVFPQ_CODES, (const void **)&v->codes, h->blocks * h->groups * PQ4_GROUP_BYTES},
        {IVFPQ_ENTRIES, (const void **)&v->entries, h->blocks * PQ4_BLOCK_ROWS * 4},
        {IVFPQ_ROWS, (const void **)&v->records, h->rows * v->stride},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        *wanted[i].to = find_block(blocks, wanted[i].type, &bytes);
        if (bytes != wanted[i].bytes || (bytes && (uintptr_t)*wanted[i].to % 64))
            return damaged(error, "a block is missing, out of line, or has another size");
    }
    return check_cells(v, error);
}

enum akin_status ivfpq_open(struct backend *backend, struct thread_pool *pool,
                            const struct segment_rows *rows, const struct segment_blocks *blocks,
                            struct ivfpq **ivfpq, struct akin_error *error)
{
    struct ivfpq *v = memory_alloc(1, sizeof *v);
    if (!v)
        return error_memory(error);
    enum akin_status status = AKIN_OK;
    *v = (struct ivfpq){
        .backend = backend, .pool = pool, .kernels = cpu_kernels(backend), .rows = *rows };
    TRY_DONE(find_blocks(v, blocks, error));
    v->lock = mutex_create();
    if (!v->lock)
        TRY_DONE(error_memory(error));
    *ivfpq = v;
    v = NULL;
done:
    ivfpq_close(&v);
    return status;
}

void ivfpq_close(struct ivfpq **ivfpq)
{
    struct ivfpq *v = *ivfpq;
    if (!v)
        return;
    scratch_destroy(&v->free);
    mutex_destroy(&v->lock);
    memory_free(v);
    *ivfpq = NULL;
}

_Static_assert((int)IVF_BLOCK_ROWS == PQ4_BLOCK_ROWS && (int)IVF_GROUP_BYTES == PQ4_GROUP_BYTES &&
               (int)IVF_SLICE_CODES == PQ4_CODES, "a device reads codes as they are");

struct ivf_lists ivfpq_lists(const struct ivfpq *v)
{
    const struct ivfpq_header *h = v->header;
    return (struct ivf_lists){
        .score = v->rows.score, .element = v->rows.element, .dim = h->dim, .depth = v->depth,
        .stride = v->stride, .rows = h->rows, .cells = h->cells, .blocks = h->blocks,
        .parts = h->parts, .norm_parts = header_norm_parts(h), .groups = h->groups,
        .width = h->width, .wide = h->wide, .norm_step = h->norm_step, .cell = v->cells,
        .centroids = v->centroids, .records = v->records, .mean = v->mean,
        .codebook = v->codebook, .codes = v->codes, .entries = v->entries,
        .vectors = v->rows.vectors,
    };
}

/* ---- checking --------------------------------------------------------------------------- */

static enum akin_status check_numbers(const struct ivfpq *v, struct akin_error *error)
{
    const struct ivfpq_header *h = v->header;
    bool fine = isfinite(h->norm_step);
    for (size_t c = 0; c < h->cells; c++) {
        struct ivf_tail tail = record_tail(v, v->centroids + c * v->stride);
        fine &= isfinite(v->cells[c].spread) && isfinite(v->cells[c].offset);
        fine &= isfinite(tail.scale) && isfinite(tail.half_norm);
    }
    for (size_t i = 0; i < h->dim; i++)
        fine &= isfinite(v->mean[i]);
    for (size_t i = 0; i < (size_t)h->parts * h->width * header_codes(h); i++)
        fine &= isfinite(v->codebook[i]);
    for (size_t d = 0; d < IVFPQ_DEPTHS; d++)
        for (size_t i = 0; i < IVFPQ_PLANS; i++)
            fine &= isfinite(h->plans[d][i].recall) && h->plans[d][i].probes <= h->cells;
    return fine ? AKIN_OK : damaged(error, "a number is not finite, or a plan beyond the cells");
}

/* What the build makes of one row must be what stands there; the norm's parts are not made again.
 */
struct checker {
    const struct ivfpq *v;
    struct encoder encoder;
    float *row, *centroid, *residual, *products;
    uint32_t *codes;
    int8_t *record;
};

static bool entry_right(struct checker *c, size_t cell, size_t i)
{
    const struct ivfpq *v = c->v;
    const struct ivfpq_header *h = v->header;
    size_t entry = (size_t)v->cells[cell].first * PQ4_BLOCK_ROWS + i, row = v->entries[entry];
    segment_row(v->backend, &v->rows, row, v->mean, c->row);
    record_write(v, c->row, c->record);
    if (memcmp(c->record, v->records + row * v->stride, v->stride))
        return false;
    for (size_t d = 0; d < h->dim; d++)
        c->residual[d] = c->row[d] - c->centroid[d];
    encode(&c->encoder, c->residual, c->products, c->codes);
    for (size_t part = 0; part < h->parts; part++) {
        uint8_t byte = v->codes[code_byte(h, entry, part)];
        uint32_t code = h->wide ? byte : part % PQ4_GROUP >= 2 ? byte >> 4 : byte & 15u;
        if (code != c->codes[part])
            return false;
    }
    return true;
}

static enum akin_status check_entries(struct checker *c, uint8_t *seen, struct akin_error *error)
{
    const struct ivfpq *v = c->v;
    for (size_t cell = 0; cell < v->header->cells; cell++) {
        const uint32_t *entries = v->entries + (size_t)v->cells[cell].first * PQ4_BLOCK_ROWS;
        record_read(v, v->centroids + cell * v->stride, c->centroid);
        for (size_t i = 0; i < v->cells[cell].rows; i++) {
            uint32_t row = entries[i];
            if (row >= v->header->rows || seen[row] || (i && row <= entries[i - 1]))
                return error_set(error, AKIN_FORMAT,
                                 "ivfpq segment: cell %zu has row %u out of "
                                 "range, order, or twice; build the index again",
                                 cell, row);
            seen[row] = 1;
            if (!entry_right(c, cell, i))
                return error_set(error, AKIN_FORMAT,
                                 "ivfpq segment: row %u does not have the codes "
                                 "of its vector; build the index again",
                                 row);
        }
    }
    return AKIN_OK;
}

enum akin_status ivfpq_check(const struct ivfpq *v, struct akin_error *error)
{
    const struct ivfpq_header *h = v->header;
    TRY(check_numbers(v, error));
    size_t padded = (size_t)h->parts * h->width, table = h->parts * header_codes(h);
    float *floats = memory_alloc(2 * h->dim + padded + 2 * table, sizeof *floats);
    struct checker c = { .v = v, .codes = memory_alloc(h->parts, sizeof *c.codes),
                         .record = memory_alloc(v->stride, 1) };
    uint8_t *seen = memory_alloc(h->rows, 1);
    enum akin_status status = AKIN_OK;
    if (!floats || !c.codes || !c.record || !seen)
        TRY_DONE(error_memory(error));
    c.row = floats;
    c.centroid = c.row + h->dim;
    c.residual = c.centroid + h->dim;
    c.products = c.residual + padded;
    codebook_norms(v, v->codebook, c.products + table);
    c.encoder = (struct encoder){ v, c.products + table };
    TRY_DONE(check_entries(&c, seen, error));
done:
    memory_free(seen);
    memory_free(c.record);
    memory_free(c.codes);
    memory_free(floats);
    return status;
}
