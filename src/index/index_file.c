/* Reading the .akx file: a map is accepted only when every offset, size and count in it agrees
 * with every other. What is not read here: what the blocks hold, unless index_view_check asks. */
#include "index/index_file.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "index/index.h"

/* Not text, and a transfer that changes line ends or the high bit is noticed (as PNG does it). */
const unsigned char index_magic[8] = { 0x89, 'A', 'K', 'X', '\r', '\n', 0x1a, '\n' };

static const struct {
    enum akin_metric metric;
    const char *name, *alias[2];
} metrics[] = {
    { AKIN_METRIC_INNER_PRODUCT, "inner-product", { "ip", "dot" } },
    { AKIN_METRIC_COSINE, "cosine", { "cos", "cosine" } },
    { AKIN_METRIC_L2, "l2", { "euclidean", "L2" } },
};

enum { METRIC_COUNT = sizeof metrics / sizeof *metrics };

const char *index_metric_name(enum akin_metric metric)
{
    for (size_t i = 0; i < METRIC_COUNT; i++)
        if (metrics[i].metric == metric)
            return metrics[i].name;
    return "unknown";
}

bool index_metric_parse(const char *name, enum akin_metric *metric)
{
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        if (!strcmp(name, metrics[i].name) || !strcmp(name, metrics[i].alias[0]) ||
            !strcmp(name, metrics[i].alias[1])) {
            *metric = metrics[i].metric;
            return true;
        }
    }
    return false;
}

const char *index_kind_name(uint32_t kind)
{
    return kind == INDEX_KIND_FLAT ? "flat" : "unknown";
}

uint64_t index_pad(uint64_t bytes)
{
    return (bytes + INDEX_ALIGN_BYTES - 1) / INDEX_ALIGN_BYTES * INDEX_ALIGN_BYTES;
}

/* ---- structure -------------------------------------------------------------------------- */

static enum akin_status refuse(const struct index_view *view, struct akin_error *error,
                               const char *what)
{
    return error_set(error, AKIN_FORMAT,
                     "%s: %s: the file is damaged or not an index; build it again", view->name,
                     what);
}

static bool is_zero(const unsigned char *data, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++)
        if (data[i])
            return false;
    return true;
}

/* The header's own fields, before anything that they lead to is touched. */
static enum akin_status check_envelope(const struct index_view *view, size_t bytes,
                                       struct akin_error *error)
{
    if (bytes < sizeof *view->header || memcmp(view->data, index_magic, sizeof index_magic))
        return error_set(error, AKIN_FORMAT, "%s: not an index file (.akx)", view->name);
    const struct index_header *h = view->header;
    if (h->version == 0 || h->version > INDEX_VERSION)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: file version %" PRIu32
                         ", this program reads up to %d: a newer one made it",
                         view->name, h->version, INDEX_VERSION);
    if (h->file_bytes != bytes)
        return error_set(error, AKIN_FORMAT,
                         "%s: %zu bytes long where the header says %" PRIu64
                         ": cut short or damaged",
                         view->name, bytes, h->file_bytes);
    if (h->header_bytes > bytes || h->header_bytes < sizeof *h + sizeof(uint64_t) ||
        h->header_bytes % INDEX_ALIGN_BYTES)
        return refuse(view, error, "impossible header size");
    uint64_t stored, hashed = h->header_bytes - sizeof stored;
    memcpy(&stored, view->data + hashed, sizeof stored);
    if (stored != hash_bytes(view->data, hashed))
        return refuse(view, error, "the header does not match its checksum");
    if (h->block_count > (hashed - sizeof *h) / sizeof(struct index_block))
        return refuse(view, error, "more blocks than the header has room for");
    uint64_t table_end = sizeof *h + h->block_count * sizeof(struct index_block);
    if (index_pad(table_end + sizeof stored) != h->header_bytes ||
        !is_zero(view->data + table_end, hashed - table_end))
        return refuse(view, error, "bytes behind the table of blocks that should not be there");
    return AKIN_OK;
}

/* What the fields mean; the checksum held, so what is strange was written so. */
static enum akin_status check_meaning(const struct index_view *view, struct akin_error *error)
{
    const struct index_header *h = view->header;
    if (h->features_required)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: needs features %#" PRIx64 " that this program does not have",
                         view->name, h->features_required);
    if (h->kind != INDEX_KIND_FLAT)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: index kind %" PRIu32 " is not known to this program", view->name,
                         h->kind);
    if (h->element != 0)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: element type %" PRIu32 " is not known to this program", view->name,
                         h->element);
    if (h->metric > AKIN_METRIC_L2)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: metric %" PRIu32 " is not known to this program", view->name,
                         h->metric);
    if (h->dimension == 0 || h->dimension > INDEX_DIMENSION_MAX)
        return refuse(view, error, "impossible dimension");
    if (h->count > UINT32_MAX)
        return refuse(view, error, "impossible number of rows");
    if (!is_zero((const unsigned char *)h->reserved, sizeof h->reserved))
        return refuse(view, error, "reserved bytes of the header are not zero");
    return AKIN_OK;
}

/* Blocks stand one behind the other without a gap: all vectors, then all ids, each in row order. */
static enum akin_status check_blocks(struct index_view *view, struct akin_error *error)
{
    const struct index_header *h = view->header;
    uint64_t at = h->header_bytes, rows = 0, ids = 0;
    bool padded = false;    /* zeros stand behind the block before */
    for (uint64_t i = 0; i < h->block_count; i++) {
        const struct index_block *b = &view->blocks[i];
        if (b->type != INDEX_BLOCK_VECTORS && b->type != INDEX_BLOCK_IDS)
            return error_set(error, AKIN_UNSUPPORTED, "%s: block %" PRIu64 ": type %" PRIu32
                             " is not known to this program", view->name, i, b->type);
        bool vectors = b->type == INDEX_BLOCK_VECTORS;
        uint64_t *done = vectors ? &rows : &ids;
        uint64_t item_bytes = vectors ? h->dimension * sizeof(float) : sizeof(int64_t);
        if (b->flags || b->offset != at || b->first != *done || b->rows == 0 ||
            b->rows > h->count - *done || b->bytes != b->rows * item_bytes ||
            index_pad(b->bytes) > h->file_bytes - at)
            return error_set(error, AKIN_FORMAT,
                             "%s: block %" PRIu64 ": its offset, size or rows do not fit "
                             "with the header and the block before",
                             view->name, i);
        if ((vectors && ids) || (padded && *done))
            return error_set(error, AKIN_FORMAT, "%s: block %" PRIu64 ": out of order", view->name,
                             i);
        if (*done == 0 && vectors)
            view->rows = (const float *)(const void *)(view->data + at);
        if (*done == 0 && !vectors)
            view->ids = (const int64_t *)(const void *)(view->data + at);
        *done += b->rows;
        at += index_pad(b->bytes);
        padded = b->bytes % INDEX_ALIGN_BYTES;
    }
    if (at != h->file_bytes)
        return refuse(view, error, "bytes behind the last block");
    if (rows != h->count || (ids && ids != h->count))
        return refuse(view, error, "fewer rows in the blocks than the header says");
    return AKIN_OK;
}

enum akin_status index_view_init(struct index_view *view, const char *name,
                                 const unsigned char *data, size_t bytes, struct akin_error *error)
{
    *view = (struct index_view){ .name = name, .data = data };
    view->header = (const struct index_header *)(const void *)data;
    TRY(check_envelope(view, bytes, error));
    view->blocks = (const struct index_block *)(const void *)(data + sizeof *view->header);
    TRY(check_meaning(view, error));
    return check_blocks(view, error);
}

/* ---- contents --------------------------------------------------------------------------- */

static enum akin_status damaged(const struct index_view *view, uint64_t block,
                                struct akin_error *error, const char *what)
{
    const struct index_block *b = &view->blocks[block];
    return error_set(error, AKIN_FORMAT,
                     "%s: block %" PRIu64 " of %" PRIu64 " (%s of rows %" PRIu64 " to %" PRIu64
                     ", bytes %" PRIu64 " to %" PRIu64 ") is damaged: %s",
                     view->name, block, view->header->block_count,
                     b->type == INDEX_BLOCK_VECTORS ? "vectors" : "ids", b->first,
                     b->first + b->rows - 1, b->offset, b->offset + index_pad(b->bytes) - 1, what);
}

static bool all_finite(const float *values, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

/* 0 <= ids[0] < ids[1] < ..., up to `last` and joined to the block before. */
static bool ids_ascend(const struct index_view *view, const struct index_block *block)
{
    for (uint64_t i = block->first; i < block->first + block->rows; i++)
        if (view->ids[i] < 0 || (i && view->ids[i] <= view->ids[i - 1]))
            return false;
    return true;
}

enum akin_status index_view_check(const struct index_view *view, struct akin_error *error)
{
    uint64_t dimension = view->header->dimension;
    for (uint64_t i = 0; i < view->header->block_count; i++) {
        const struct index_block *b = &view->blocks[i];
        const unsigned char *data = view->data + b->offset;
        uint64_t padded = index_pad(b->bytes);
        if (hash_bytes(data, padded) != b->checksum)
            return damaged(view, i, error, "it does not match its checksum");
        if (!is_zero(data + b->bytes, padded - b->bytes))
            return damaged(view, i, error, "bytes behind it are not zero");
        if (b->type == INDEX_BLOCK_VECTORS &&
            !all_finite(view->rows + b->first * dimension, b->rows * dimension))
            return damaged(view, i, error, "it holds a number that is not finite");
        if (b->type == INDEX_BLOCK_IDS && !ids_ascend(view, b))
            return damaged(view, i, error, "its ids do not ascend");
    }
    return AKIN_OK;
}
