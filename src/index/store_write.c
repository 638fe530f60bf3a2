/* Appending to an .akx file, and the promise. A frame goes out in one write of the caller's own
 * memory, at the offset where the last whole frame ended: what a failed write leaves behind is cut
 * off if the system lets us, and overwritten or ignored if not. */
#include <inttypes.h>
#include <string.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/memory.h"
#include "index/store_file.h"

enum { BLOCKS_MAX = 256, PARTS_MAX = 2 + 2 * BLOCKS_MAX };

static const unsigned char zeros[INDEX_ALIGN_BYTES];

/* ---- the promise ------------------------------------------------------------------------ */

enum akin_status store_writable(const struct store *store, struct akin_error *error)
{
    if (store->failure.status != AKIN_OK) {
        error_set(
            error, AKIN_IO,
            "nothing more is written since an earlier failure; what was promised before it is "
            "safe, open the file again: %.600s",
            store->failure.message);
        return AKIN_IO;
    }
    if (!store->writable)
        return error_set(error, AKIN_ARGUMENT, "%s: was opened for reading", store->file.path);
    return AKIN_OK;
}

/* From here on the disk may hold anything that was not yet promised. */
enum akin_status store_give_up(struct store *store, const struct akin_error *failure,
                                struct akin_error *error)
{
    store->failure = *failure;
    if (error)
        *error = *failure;
    return failure->status;
}

enum akin_status store_write_mark(struct store *store, struct akin_error *error)
{
    struct store_mark mark = {
        .number = store->mark.number + 1, .bytes = store->end, .manifest = store->manifest,
        .operations = store->next,
    };
    mark.checksum = hash_bytes(&mark, offsetof(struct store_mark, checksum));
    struct akin_error failure = { 0 };
    /* The page's zeros are written too: whatever was there, the mark is whole again. */
    unsigned char page[STORE_PAGE_BYTES] = { 0 };
    memcpy(page, &mark, sizeof mark);
    uint64_t at = (1 + mark.number % 2) * STORE_PAGE_BYTES;
    enum akin_status status = file_at_write(
        &store->file, at, &(struct file_part){ page, sizeof page }, 1, &failure);
    if (status == AKIN_OK)
        status = file_at_sync(&store->file, &failure);
    if (status != AKIN_OK)
        return store_give_up(store, &failure, error);
    store->mark = mark;
    store->dirty = false;
    return AKIN_OK;
}

enum akin_status store_sync(struct store *store, uint64_t *durable, struct akin_error *error)
{
    TRY(store_writable(store, error));
    ASSERT(!store->streaming);
    if (store->dirty) {
        struct akin_error failure = { 0 };
        if (file_at_sync(&store->file, &failure) != AKIN_OK)
            return store_give_up(store, &failure, error);
        TRY(store_write_mark(store, error));
    }
    if (durable)
        *durable = store->mark.operations;
    return AKIN_OK;
}

/* ---- frames ----------------------------------------------------------------------------- */

/* Entries and checksums of the blocks, as the frame's table; the caller frees it. */
static enum akin_status make_table(struct store_frame *frame, const struct segment_block *blocks,
                                   unsigned char **out, struct akin_error *error)
{
    uint64_t granules = 0, offset = sizeof *frame;
    for (size_t i = 0; i < frame->block_count; i++)
        granules += store_granules(blocks[i].bytes);
    size_t bytes = store_table_bytes(frame->block_count, granules);
    unsigned char *table = memory_alloc(1, bytes);
    if (!table)
        return error_memory(error);
    struct store_entry *entries = (struct store_entry *)(void *)table;
    uint64_t *sums = (uint64_t *)(void *)(table + frame->block_count * sizeof *entries);
    frame->granule_count = (uint32_t)granules;
    granules = 0;
    for (size_t i = 0; i < frame->block_count; i++) {
        const unsigned char *data = blocks[i].data;
        entries[i] = (struct store_entry){
            .type = blocks[i].type, .offset = offset, .bytes = blocks[i].bytes,
            .granule = granules,
        };
        for (uint64_t at = 0; at < blocks[i].bytes; at += STORE_GRANULE_BYTES) {
            uint64_t left = blocks[i].bytes - at;
            sums[granules++] =
                hash_bytes(data + at, left < STORE_GRANULE_BYTES ? left : STORE_GRANULE_BYTES);
        }
        offset += index_pad(blocks[i].bytes);
    }
    frame->bytes = offset + bytes;
    store_seal_frame(frame, table, bytes);
    *out = table;
    return AKIN_OK;
}

/* Appends a frame of type, operation, rows, detail and block_count as given. Sets *at. */
static enum akin_status append(struct store *store, struct store_frame *frame,
                               const struct segment_block *blocks, uint64_t *at,
                               struct akin_error *error)
{
    TRY(store_writable(store, error));
    ASSERT(!store->streaming && frame->block_count <= BLOCKS_MAX);
    uint64_t bytes = 0;
    for (size_t i = 0; i < frame->block_count; i++) {
        bytes += blocks[i].bytes < STORE_FILE_BYTES_MAX ? blocks[i].bytes : STORE_FILE_BYTES_MAX;
        if (bytes > STORE_FILE_BYTES_MAX - store->end)
            return error_set(error, AKIN_LIMIT, "%s: would be longer than %" PRIu64 " bytes",
                             store->file.path, STORE_FILE_BYTES_MAX);
    }
    unsigned char *table = NULL;
    TRY(make_table(frame, blocks, &table, error));
    struct file_part parts[PARTS_MAX];
    size_t count = 0;
    parts[count++] = (struct file_part){ frame, sizeof *frame };
    for (size_t i = 0; i < frame->block_count; i++) {
        parts[count++] = (struct file_part){ blocks[i].data, blocks[i].bytes };
        parts[count++] =
            (struct file_part){ zeros, index_pad(blocks[i].bytes) - blocks[i].bytes };
    }
    parts[count++] = (struct file_part){
        table, store_table_bytes(frame->block_count, frame->granule_count)
    };
    enum akin_status status = file_at_write(&store->file, store->end, parts, count, error);
    memory_free(table);
    if (status != AKIN_OK) {
        file_at_truncate(&store->file, store->end, NULL);
        return status;
    }
    *at = store->end;
    store->end += frame->bytes;
    store->dirty = true;
    return AKIN_OK;
}

/* A ROWS or DELETE frame: room for it in the list of the tail is made first. */
static enum akin_status append_tail(struct store *store, struct store_frame *frame,
                                    const struct segment_block *blocks, uint64_t *first,
                                    struct akin_error *error)
{
    if (frame->rows > STORE_ROWS_MAX)
        return error_set(error, AKIN_LIMIT, "%s: more than %" PRIu32 " rows at once",
                         store->file.path, STORE_ROWS_MAX);
    uint64_t at;
    frame->operation = store->next;
    TRY(store_add_tail(store, 0, frame, error));
    enum akin_status status = append(store, frame, blocks, &at, error);
    if (status != AKIN_OK) {
        store->tail_count--;
        return status;
    }
    store->tail[store->tail_count - 1].at = at;
    store->tail[store->tail_count - 1].bytes = frame->bytes;
    if (first)
        *first = store->next;
    store->next += frame->rows;
    return AKIN_OK;
}

enum akin_status store_append_rows(struct store *store, const struct store_rows *rows,
                                   uint64_t *first, struct akin_error *error)
{
    struct segment_block blocks[BLOCKS_MAX];
    size_t row_bytes = store->settings.dimension * element_bytes(store->settings.element), bytes;
    if (rows->count == 0) {
        if (first)
            *first = store->next;
        return store_writable(store, error);
    }
    if (rows->extra_count > BLOCKS_MAX - 2 || !size_mul(rows->count, row_bytes, &bytes))
        return error_set(error, AKIN_LIMIT, "%s: more than %d blocks, or too many rows, at once",
                         store->file.path, BLOCKS_MAX);
    blocks[0] = (struct segment_block){ STORE_BLOCK_IDS, rows->ids, rows->count * sizeof(int64_t) };
    blocks[1] = (struct segment_block){ STORE_BLOCK_VECTORS, rows->vectors, bytes };
    for (size_t i = 0; i < rows->extra_count; i++)
        blocks[2 + i] = rows->extra[i];
    struct store_frame frame = {
        .type = STORE_ROWS, .rows = rows->count, .block_count = (uint32_t)(2 + rows->extra_count),
    };
    return append_tail(store, &frame, blocks, first, error);
}

enum akin_status store_append_delete(struct store *store, const int64_t *ids, size_t count,
                                     uint64_t *first, struct akin_error *error)
{
    if (count == 0) {
        if (first)
            *first = store->next;
        return store_writable(store, error);
    }
    struct segment_block block = { STORE_BLOCK_IDS, ids, count * sizeof *ids };
    struct store_frame frame = { .type = STORE_DELETE, .rows = count, .block_count = 1 };
    return append_tail(store, &frame, &block, first, error);
}

enum akin_status store_append_dead(struct store *store, const uint64_t *dead, size_t rows,
                                   uint64_t *frame_at, struct akin_error *error)
{
    size_t words = (rows + 63) / 64, count = 0;
    if (rows > STORE_ROWS_MAX)
        return error_set(error, AKIN_LIMIT, "%s: more than %" PRIu32 " rows in a segment",
                         store->file.path, STORE_ROWS_MAX);
    for (size_t i = 0; i < words; i++)
        count += (size_t)__builtin_popcountll(dead[i]);
    if (rows % 64 && dead[words - 1] >> rows % 64)
        return error_set(error, AKIN_ARGUMENT, "%s: dead rows behind the last one of %zu",
                         store->file.path, rows);
    struct store_frame frame = {
        .type = STORE_DEAD, .operation = store->next, .rows = rows, .detail = count,
        .block_count = 1,
    };
    if (count * sizeof(uint32_t) >= words * sizeof(uint64_t)) {
        struct segment_block bits = { STORE_BLOCK_DEAD_BITS, dead, words * sizeof *dead };
        return append(store, &frame, &bits, frame_at, error);
    }
    uint32_t *list = memory_alloc(count, sizeof *list);
    if (!list)
        return error_memory(error);
    size_t used = 0;
    for (size_t i = 0; i < words; i++)
        for (uint64_t word = dead[i]; word; word &= word - 1)
            list[used++] = (uint32_t)(i * 64 + (size_t)__builtin_ctzll(word));
    struct segment_block block = { STORE_BLOCK_DEAD_ROWS, list, count * sizeof *list };
    enum akin_status status = append(store, &frame, &block, frame_at, error);
    memory_free(list);
    return status;
}

/* ---- layout ----------------------------------------------------------------------------- */

static enum akin_status append_manifest(struct store *store, const struct store_layout *layout,
                                        uint64_t replay, uint64_t *at, uint64_t *bytes,
                                        struct akin_error *error)
{
    size_t ref_bytes = layout->segment_count * sizeof *layout->segments;
    struct store_manifest *manifest = memory_alloc(1, sizeof *manifest + ref_bytes);
    if (!manifest)
        return error_memory(error);
    manifest->sealed = layout->sealed;
    manifest->replay = replay;
    if (ref_bytes)
        memcpy(manifest + 1, layout->segments, ref_bytes);
    struct segment_block blocks[] = {
        { STORE_BLOCK_MANIFEST, manifest, sizeof *manifest + ref_bytes },
        { STORE_BLOCK_STATE, layout->state, layout->state_bytes },
    };
    struct store_frame frame = {
        .type = STORE_MANIFEST, .operation = store->next, .rows = layout->segment_count,
        .block_count = 2,
    };
    enum akin_status status = append(store, &frame, blocks, at, error);
    *bytes = frame.bytes;
    memory_free(manifest);
    return status;
}

enum akin_status store_publish(struct store *store, const struct store_layout *layout,
                               struct akin_error *error)
{
    TRY(store_writable(store, error));
    if (layout->segment_count > STORE_SEGMENTS_MAX)
        return error_set(error, AKIN_LIMIT, "%s: more than %d segments", store->file.path,
                         STORE_SEGMENTS_MAX);
    size_t dropped = 0;
    while (dropped < store->tail_count && store->tail[dropped].operation < layout->sealed)
        dropped++;
    uint64_t begin = dropped < store->tail_count ? store->tail[dropped].operation : store->next;
    if (layout->sealed != begin || layout->sealed < store->layout.sealed)
        return error_set(error, AKIN_ARGUMENT,
                         "%s: a layout sealed up to operation %" PRIu64 ", where no frame begins",
                         store->file.path, layout->sealed);
    uint64_t replay = dropped < store->tail_count ? store->tail[dropped].at : store->end;
    uint64_t at = 0, bytes = 0;
    struct store_layout old = store->layout, wanted = *layout;  /* they may be one */
    uint64_t old_fixed = store->live_fixed;
    store->layout = (struct store_layout){ 0 };
    /* Taken over first: that says whether the frames are what they should be. */
    enum akin_status status = store_take_layout(store, &wanted, store->end, error);
    if (status == AKIN_FORMAT)
        status = error_context(error, AKIN_ARGUMENT, "a layout that cannot be");
    if (status == AKIN_OK)
        status = append_manifest(store, &store->layout, replay, &at, &bytes, error);
    if (status != AKIN_OK) {
        store_free_layout(&store->layout);
        store->layout = old;
        store->live_fixed = old_fixed;
        return status;
    }
    store_free_layout(&old);
    store->manifest = at;
    store->manifest_bytes = bytes;
    if (dropped)
        memmove(store->tail, store->tail + dropped,
                (store->tail_count - dropped) * sizeof *store->tail);
    store->tail_count -= dropped;
    return AKIN_OK;
}
