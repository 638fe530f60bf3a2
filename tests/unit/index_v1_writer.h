/* Writing an .akx file of version 1, as akin did before version 2: for tests of its reader.
 * Rows go through one block's worth of memory: checked, ordered by id,
 * brought to length 1 where the metric asks for it, hashed, written. The header comes last, over
 * the place kept for it, and the file appears under its name only when it is whole. */
#pragma once

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "index/index.h"
#include "index/index_file.h"

struct id_row {
    int64_t id;
    size_t row;
};

struct builder {
    const float *vectors;               /* [count][dimension] */
    size_t count, dimension;
    const struct akin_index_settings *settings;
    struct id_row *order;               /* [count] by id; NULL: rows as they come */
    bool store_ids;
    struct file_writer *writer;
    unsigned char *buffer;              /* one block */
    unsigned char *head;                /* header and table, as the file begins */
    struct index_header *header;
    struct index_block *blocks;
    uint64_t at;                        /* offset of the next block */
    uint64_t block;                     /* its number */
};

static size_t block_rows(size_t item_bytes)
{
    size_t rows = INDEX_BLOCK_BYTES_MAX / item_bytes;
    return rows / INDEX_BLOCK_ROWS_STEP * INDEX_BLOCK_ROWS_STEP;
}

static size_t blocks_of(size_t count, size_t item_bytes)
{
    size_t rows = block_rows(item_bytes);
    return count / rows + (count % rows != 0);
}

static int compare_ids(const void *a, const void *b)
{
    const struct id_row *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* Sets `order` unless the ids ascend already, and refuses those that are negative or repeated. */
static enum akin_status order_by_id(struct builder *b, const int64_t *ids, struct akin_error *error)
{
    bool ascending = true;
    for (size_t i = 0; i < b->count; i++) {
        if (ids[i] < 0)
            return error_set(error, AKIN_ARGUMENT,
                             "row %zu: its id is %" PRId64 ": ids must not be negative", i, ids[i]);
        if (i && ids[i] <= ids[i - 1])
            ascending = false;
    }
    b->order = memory_alloc(b->count, sizeof *b->order);
    if (!b->order)
        return error_memory(error);
    for (size_t i = 0; i < b->count; i++)
        b->order[i] = (struct id_row){ ids[i], i };
    if (ascending)
        return AKIN_OK;
    qsort(b->order, b->count, sizeof *b->order, compare_ids);
    for (size_t i = 1; i < b->count; i++)
        if (b->order[i].id == b->order[i - 1].id)
            return error_set(error, AKIN_ARGUMENT, "rows %zu and %zu have the same id %" PRId64,
                             b->order[i - 1].row, b->order[i].row, b->order[i].id);
    return AKIN_OK;
}

/* Room for the header and the table of all blocks. */
static enum akin_status prepare(struct builder *b, struct akin_error *error)
{
    size_t table_count = blocks_of(b->count, b->dimension * sizeof(float));
    if (b->store_ids)
        table_count += blocks_of(b->count, sizeof(int64_t));
    size_t bytes = sizeof *b->header + table_count * sizeof *b->blocks + sizeof(uint64_t);
    bytes = index_pad(bytes);
    b->head = memory_alloc_aligned(bytes, 1);
    b->buffer = memory_alloc_aligned(INDEX_BLOCK_BYTES_MAX, 1);
    if (!b->head || !b->buffer)
        return error_memory(error);
    memset(b->head, 0, bytes);
    b->header = (struct index_header *)(void *)b->head;
    b->blocks = (struct index_block *)(void *)(b->head + sizeof *b->header);
    *b->header = (struct index_header){
        .version = INDEX_VERSION, .kind = INDEX_KIND_FLAT, .header_bytes = bytes,
        .metric = b->settings->metric, .dimension = b->dimension, .count = b->count,
        .block_count = table_count,
    };
    memcpy(b->header->magic, index_magic, sizeof index_magic);
    b->at = bytes;
    return AKIN_OK;
}

/* Writes what the buffer holds as the next block. */
static enum akin_status put_block(struct builder *b, enum index_block_type type, size_t first,
                                  size_t rows, size_t bytes, struct akin_error *error)
{
    size_t padded = index_pad(bytes);
    memset(b->buffer + bytes, 0, padded - bytes);
    b->blocks[b->block++] = (struct index_block){
        .type = type, .offset = b->at, .bytes = bytes, .first = first, .rows = rows,
        .checksum = hash_bytes(b->buffer, padded),
    };
    b->at += padded;
    return file_writer_write(b->writer, b->buffer, padded, error);
}

/* One row into the buffer. Sums in double, in column order: the same bits on every machine. */
static enum akin_status put_row(const struct builder *b, size_t row, float *out,
                                struct akin_error *error)
{
    const float *in = b->vectors + row * b->dimension;
    double squares = 0;
    for (size_t i = 0; i < b->dimension; i++) {
        if (!isfinite(in[i]))
            return error_set(error, AKIN_ARGUMENT,
                             "row %zu: column %zu is %s: vectors must be finite", row, i,
                             isnan(in[i]) ? "not a number" : "infinite");
        squares += (double)in[i] * in[i];
    }
    double scale = 1;
    if (b->settings->metric == AKIN_METRIC_COSINE && squares > 0)
        scale = 1 / sqrt(squares);
    for (size_t i = 0; i < b->dimension; i++)
        out[i] = scale == 1 ? in[i] : (float)(in[i] * scale);
    return AKIN_OK;
}

static enum akin_status put_vectors(struct builder *b, struct akin_error *error)
{
    size_t row_bytes = b->dimension * sizeof(float), rows_max = block_rows(row_bytes);
    const struct akin_progress *progress = &b->settings->progress;
    for (size_t first = 0; first < b->count;) {
        size_t rows = b->count - first < rows_max ? b->count - first : rows_max;
        float *out = (float *)(void *)b->buffer;
        for (size_t i = first; i < first + rows; i++, out += b->dimension)
            TRY(put_row(b, b->order ? b->order[i].row : i, out, error));
        TRY(put_block(b, INDEX_BLOCK_VECTORS, first, rows, rows * row_bytes, error));
        first += rows;
        if (progress->update && !progress->update(progress->cookie, "index", first, b->count))
            return error_set(error, AKIN_CANCELLED, "stopped at row %zu of %zu", first, b->count);
    }
    return AKIN_OK;
}

static enum akin_status put_ids(struct builder *b, struct akin_error *error)
{
    size_t rows_max = block_rows(sizeof(int64_t));
    for (size_t first = 0; first < b->count;) {
        size_t rows = b->count - first < rows_max ? b->count - first : rows_max;
        int64_t *out = (int64_t *)(void *)b->buffer;
        for (size_t i = 0; i < rows; i++)
            out[i] = b->order[first + i].id;
        TRY(put_block(b, INDEX_BLOCK_IDS, first, rows, rows * sizeof *out, error));
        first += rows;
    }
    return AKIN_OK;
}

static enum akin_status write_index(struct builder *b, const char *path, struct akin_error *error)
{
    size_t bytes = b->header->header_bytes;
    TRY(file_writer_open(path, &b->writer, error));
    TRY(file_writer_write(b->writer, b->head, bytes, error));
    TRY(put_vectors(b, error));
    if (b->store_ids)
        TRY(put_ids(b, error));
    ASSERT(b->block == b->header->block_count);
    b->header->file_bytes = b->at;
    uint64_t checksum = hash_bytes(b->head, bytes - sizeof checksum);
    memcpy(b->head + bytes - sizeof checksum, &checksum, sizeof checksum);
    TRY(file_writer_patch(b->writer, 0, b->head, bytes, error));
    return file_writer_commit(&b->writer, error);
}

static enum akin_status index_build(const char *path, const float *vectors, const int64_t *ids,
                             size_t count, size_t dimension,
                             const struct akin_index_settings *settings, struct akin_error *error)
{
    struct akin_index_settings defaults = { .metric = AKIN_METRIC_COSINE };
    if (!settings)
        settings = &defaults;
    const char *kind = settings->kind ? settings->kind : "auto";
    if (strcmp(kind, "flat") && strcmp(kind, "auto"))
        return error_set(error, AKIN_UNSUPPORTED,
                         "index kind \"%.40s\": flat and auto are supported", kind);
    if ((unsigned)settings->metric > AKIN_METRIC_L2)
        return error_set(error, AKIN_ARGUMENT, "metric %d: there is no such metric",
                         (int)settings->metric);
    if (dimension == 0 || dimension > INDEX_DIMENSION_MAX)
        return error_set(error, dimension ? AKIN_LIMIT : AKIN_ARGUMENT,
                         "vectors of dimension %zu: an index takes 1 to %d", dimension,
                         INDEX_DIMENSION_MAX);
    if (count > UINT32_MAX)
        return error_set(error, AKIN_LIMIT, "%zu vectors: an index takes up to %" PRIu32, count,
                         UINT32_MAX);
    struct builder b = { .vectors = vectors, .count = count, .dimension = dimension,
                         .settings = settings, .store_ids = ids && count };
    enum akin_status status = AKIN_OK;
    if (b.store_ids)
        TRY_DONE(order_by_id(&b, ids, error));
    TRY_DONE(prepare(&b, error));
    status = write_index(&b, path, error);
done:
    file_writer_abort(&b.writer);
    memory_free(b.buffer);
    memory_free(b.head);
    memory_free(b.order);
    return status;
}
