/* The bytes of an .akx file of version 2, looked through: nothing is believed before its checksum
 * holds, and nothing that its checksum covers is believed to be possible. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/limits.h"
#include "index/index.h"
#include "index/store_file.h"

uint64_t store_granules(uint64_t bytes)
{
    return bytes / STORE_GRANULE_BYTES + (bytes % STORE_GRANULE_BYTES != 0);
}

uint64_t store_table_bytes(uint64_t block_count, uint64_t granule_count)
{
    return index_pad(block_count * sizeof(struct store_entry) + granule_count * sizeof(uint64_t));
}

const char *store_frame_name(unsigned type)
{
    static const char *const names[] = { "unknown", "rows", "deletes", "segment", "dead rows",
                                         "manifest" };
    return type < sizeof names / sizeof *names ? names[type] : names[0];
}

void store_seal_frame(struct store_frame *frame, const void *table, size_t table_bytes)
{
    frame->magic = STORE_FRAME_MAGIC;
    frame->table_checksum = hash_bytes(table, table_bytes);
    frame->checksum = hash_bytes(frame, offsetof(struct store_frame, checksum));
}

static bool is_zero(const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++)
        if (at[i])
            return false;
    return true;
}

/* ---- header and marks ------------------------------------------------------------------- */

static enum akin_status refuse_header(const char *path, struct akin_error *error, const char *what)
{
    return error_set(error, AKIN_FORMAT,
                     "%s: header, bytes 0 to %d: %s: the file is damaged: restore a copy or build "
                     "it again",
                     path, STORE_PAGE_BYTES - 1, what);
}

static enum akin_status check_settings(const char *path, const struct store_header *h,
                                       struct akin_error *error)
{
    if (h->features_required)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: needs features %#" PRIx64 " that this program does not have", path,
                         h->features_required);
    if (h->metric > AKIN_METRIC_L2)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: metric %" PRIu32 " is not known to this program", path, h->metric);
    if (h->element != ELEMENT_F32 && h->element != ELEMENT_F16)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: element type %" PRIu32 " is not known to this program", path,
                         h->element);
    if (h->dimension == 0 || h->dimension > INDEX_DIMENSION_MAX)
        return refuse_header(path, error, "impossible dimension");
    if (h->creation_bytes > STORE_CREATION_BYTES_MAX)
        return refuse_header(path, error, "more creation settings than there is room for");
    if (h->first_operation > INT64_MAX)
        return refuse_header(path, error, "impossible number of the first operation");
    if (!is_zero(h->reserved, sizeof h->reserved) || !is_zero(h->zeros, sizeof h->zeros) ||
        !is_zero(h->creation + h->creation_bytes, STORE_CREATION_BYTES_MAX - h->creation_bytes))
        return refuse_header(path, error, "bytes that should be zero are not");
    return AKIN_OK;
}

enum akin_status store_check_header(const char *path, const struct store_header *h,
                                    struct akin_error *error)
{
    if (memcmp(h->magic, index_magic, sizeof index_magic))
        return error_set(error, AKIN_FORMAT, "%s: not an index file (.akx)", path);
    if (h->checksum != hash_bytes(h, offsetof(struct store_header, checksum)))
        return refuse_header(path, error, "it does not match its checksum");
    if (h->version != STORE_VERSION)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: file version %" PRIu32
                         ", this program reads up to %d: a newer one made it",
                         path, h->version, STORE_VERSION);
    return check_settings(path, h, error);
}

bool store_mark_valid(const struct store_mark *mark, int slot)
{
    return mark->checksum == hash_bytes(mark, offsetof(struct store_mark, checksum)) &&
           mark->number % 2 == (uint64_t)slot && mark->bytes >= STORE_FRAMES &&
           mark->bytes <= STORE_FILE_BYTES_MAX && mark->bytes % INDEX_ALIGN_BYTES == 0 &&
           mark->manifest < mark->bytes && mark->manifest % INDEX_ALIGN_BYTES == 0 &&
           (mark->manifest == 0 || mark->manifest >= STORE_FRAMES) &&
           mark->operations <= INT64_MAX && is_zero(mark->reserved, sizeof mark->reserved);
}

/* ---- frames ----------------------------------------------------------------------------- */

enum akin_status store_damaged(const struct store *store, uint64_t at, struct akin_error *error,
                               const char *what)
{
    return error_set(error, AKIN_FORMAT,
                     "%s: frame at byte %" PRIu64 ": %s: the file is damaged: restore a copy or "
                     "build it again",
                     store->file.path, at, what);
}

/* What each type of frame may say of itself. */
static const char *strange_header(const struct store_frame *f)
{
    bool has_rows = f->type == STORE_ROWS || f->type == STORE_DELETE;
    if (f->flags)
        return "flags that are not zero";
    if (f->operation > INT64_MAX || f->rows > (f->type == STORE_MANIFEST ? STORE_SEGMENTS_MAX
                                                                         : STORE_ROWS_MAX))
        return "impossible number of rows";
    if (has_rows && f->rows == 0)
        return "no rows";
    if (f->detail &&
        (f->type == STORE_ROWS || f->type == STORE_DELETE || f->type == STORE_MANIFEST))
        return "a detail that it cannot have";
    if (f->type == STORE_DEAD && f->detail > f->rows)
        return "more dead rows than rows";
    if (f->type == STORE_SEGMENT && f->detail > UINT32_MAX)
        return "impossible kind";
    return NULL;
}

enum akin_status store_check_frame(const struct store *store, const struct store_frame *f,
                                   uint64_t at, uint64_t room, struct akin_error *error)
{
    if (room < sizeof *f || f->checksum != hash_bytes(f, offsetof(struct store_frame, checksum)))
        return store_damaged(store, at, error, "its header does not match its checksum");
    if (f->magic != STORE_FRAME_MAGIC)
        return store_damaged(store, at, error, "it does not begin as a frame does");
    if (f->type == 0 || f->type > STORE_MANIFEST)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: frame at byte %" PRIu64 ": type %u is not known to this program",
                         store->file.path, at, f->type);
    if (f->bytes > room || f->bytes % INDEX_ALIGN_BYTES)
        return store_damaged(store, at, error, "it is longer than what is left of the file");
    if (f->block_count > STORE_BLOCKS_MAX ||
        f->granule_count > f->bytes / INDEX_ALIGN_BYTES + 1 ||
        store_table_bytes(f->block_count, f->granule_count) + sizeof *f > f->bytes)
        return store_damaged(store, at, error, "its table is larger than it is");
    const char *strange = strange_header(f);
    return strange ? store_damaged(store, at, error, strange) : AKIN_OK;
}

/* The blocks that this file reads must be what the header says; the caller's are their own affair.
 */
static const char *strange_blocks(const struct store *store, const struct store_frame_view *v)
{
    const struct store_frame *f = &v->header;
    const struct store_entry *e = v->entries;
    uint64_t id_bytes = f->rows * sizeof(int64_t);
    uint64_t row_bytes = store->settings.dimension * element_bytes(store->settings.element);
    switch (f->type) {
    case STORE_ROWS:
        if (f->block_count < 2 || e[0].type != STORE_BLOCK_IDS || e[0].bytes != id_bytes ||
            e[1].type != STORE_BLOCK_VECTORS || e[1].bytes != f->rows * row_bytes)
            return "its ids and vectors are not as many as its rows";
        return NULL;
    case STORE_DELETE:
        if (f->block_count != 1 || e[0].type != STORE_BLOCK_IDS || e[0].bytes != id_bytes)
            return "its ids are not as many as it says";
        return NULL;
    case STORE_DEAD:
        if (f->block_count != 1 ||
            !((e[0].type == STORE_BLOCK_DEAD_BITS &&
               e[0].bytes == (f->rows + 63) / 64 * sizeof(uint64_t)) ||
              (e[0].type == STORE_BLOCK_DEAD_ROWS && e[0].bytes == f->detail * sizeof(uint32_t))))
            return "its rows are not as many as it says";
        return NULL;
    case STORE_MANIFEST:
        if (f->block_count != 2 || e[0].type != STORE_BLOCK_MANIFEST ||
            e[0].bytes != sizeof(struct store_manifest) +
                              f->rows * sizeof(struct store_segment_ref) ||
            e[1].type != STORE_BLOCK_STATE)
            return "its segments are not as many as it says";
        return NULL;
    default:
        return NULL;
    }
}

enum akin_status store_check_table(const struct store *store, const struct store_frame *f,
                                   uint64_t at, const unsigned char *table,
                                   struct store_frame_view *view, struct akin_error *error)
{
    size_t bytes = store_table_bytes(f->block_count, f->granule_count);
    size_t entry_bytes = f->block_count * sizeof(struct store_entry);
    size_t used = entry_bytes + f->granule_count * sizeof(uint64_t);
    if (f->table_checksum != hash_bytes(table, bytes))
        return store_damaged(store, at, error, "its table does not match its checksum");
    if (!is_zero(table + used, bytes - used))
        return store_damaged(store, at, error, "bytes behind its table are not zero");
    view->header = *f;
    view->entries = (const struct store_entry *)(const void *)table;
    view->granules = (const uint64_t *)(const void *)(table + entry_bytes);
    uint64_t offset = sizeof *f, granule = 0, end = f->bytes - bytes;
    for (uint32_t i = 0; i < f->block_count; i++) {
        const struct store_entry *e = &view->entries[i];
        if (e->flags || e->offset != offset || e->granule != granule || e->bytes > end - offset)
            return store_damaged(store, at, error, "its blocks do not join");
        offset += index_pad(e->bytes);
        granule += store_granules(e->bytes);
        if (offset > end || granule > f->granule_count)
            return store_damaged(store, at, error, "its blocks do not join");
    }
    if (offset != end || granule != f->granule_count)
        return store_damaged(store, at, error, "its blocks do not fill it");
    const char *strange = strange_blocks(store, view);
    return strange ? store_damaged(store, at, error, strange) : AKIN_OK;
}

enum akin_status store_check_granule(const struct store *store, const struct store_frame_view *view,
                                     uint64_t at, size_t block, uint64_t granule,
                                     const unsigned char *data, struct akin_error *error)
{
    const struct store_entry *e = &view->entries[block];
    uint64_t first = granule * STORE_GRANULE_BYTES, bytes = e->bytes - first;
    bytes = bytes < STORE_GRANULE_BYTES ? bytes : STORE_GRANULE_BYTES;
    if (hash_bytes(data, bytes) == view->granules[e->granule + granule])
        return AKIN_OK;
    uint64_t from = at + e->offset + first;
    return error_set(error, AKIN_FORMAT,
                     "%s: frame at byte %" PRIu64 " (%s): block %zu of %" PRIu32
                     " (type %" PRIu32 "), bytes %" PRIu64 " to %" PRIu64
                     " of the file do not match their checksum: the file is damaged: restore a "
                     "copy or build it again",
                     store->file.path, at, store_frame_name(view->header.type), block,
                     view->header.block_count, e->type, from, from + bytes - 1);
}

enum akin_status store_check_blocks(const struct store *store, const struct store_frame_view *view,
                                    uint64_t at, struct akin_error *error)
{
    for (size_t i = 0; i < view->header.block_count; i++) {
        const struct store_entry *e = &view->entries[i];
        const unsigned char *data = view->data + e->offset;
        for (uint64_t g = 0; g < store_granules(e->bytes); g++)
            TRY(store_check_granule(store, view, at, i, g, data + g * STORE_GRANULE_BYTES, error));
        if (!is_zero(data + e->bytes, index_pad(e->bytes) - e->bytes))
            return store_damaged(store, at, error, "bytes behind a block are not zero");
    }
    return AKIN_OK;
}

enum akin_status store_view_frame(const struct store *store, const unsigned char *data, uint64_t at,
                                  uint64_t room, bool blocks, struct store_frame_view *view,
                                  struct akin_error *error)
{
    struct store_frame header = { 0 };
    if (room >= sizeof header)
        memcpy(&header, data, sizeof header);
    TRY(store_check_frame(store, &header, at, room, error));
    size_t table = store_table_bytes(header.block_count, header.granule_count);
    TRY(store_check_table(store, &header, at, data + header.bytes - table, view, error));
    view->data = data;
    return blocks ? store_check_blocks(store, view, at, error) : AKIN_OK;
}
