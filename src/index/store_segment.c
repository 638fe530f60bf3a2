/* Segments of an .akx file. Written granule by granule, each hashed once where it lies; read by a
 * map of the frame that belongs to whoever opened it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/memory.h"
#include "index/store_file.h"

/* While the sink is at work on a thread of its own, `store` is another thread's. */
struct store_segment_writer {
    struct store *store;
    struct file_at spool;               /* fd -1: straight into the store's file */
    const struct file_at *file;
    uint64_t begin, at;                 /* of the frame in `file`; of the next byte */
    struct akin_error failure;          /* the first one */
    struct store_entry *entries;
    size_t count, capacity;
    uint64_t *sums;
    size_t sum_count, sum_capacity;
    unsigned char *granule;             /* [STORE_GRANULE_BYTES] */
    size_t used;                        /* of it */
};

/* ---- writing ---------------------------------------------------------------------------- */

static enum akin_status open_spool(struct store_segment_writer *w, struct akin_error *error)
{
    char folder[PATH_BYTES_MAX];
    const char *path = w->store->file.path;
    size_t length = (size_t)(path_last(path) - path);
    if (length >= sizeof folder)
        return error_set(error, AKIN_LIMIT, "%.200s...: the path is too long", path);
    snprintf(folder, sizeof folder, "%.*s", length ? (int)length : 1, length ? path : ".");
    return file_at_open(folder, FILE_AT_UNNAMED, &w->spool, error);
}

/* A frame without an end: what a kill leaves of a segment is told from damage by it, as with every
 * frame whose file ends too early. */
static enum akin_status put_open_header(const struct store_segment_writer *w,
                                        struct akin_error *error)
{
    struct store_frame frame = { .type = STORE_SEGMENT, .operation = w->store->next,
                                 .bytes = STORE_FILE_BYTES_MAX };
    store_seal_frame(&frame, NULL, 0);
    return file_at_write(w->file, w->begin, &(struct file_part){ &frame, sizeof frame }, 1, error);
}

static enum akin_status begin(struct store *store, bool straight,
                              struct store_segment_writer **writer, struct akin_error *error)
{
    TRY(store_writable(store, error));
    ASSERT(!store->streaming);
    struct store_segment_writer *w = memory_alloc(1, sizeof *w);
    if (!w)
        return error_memory(error);
    enum akin_status status = AKIN_OK;
    w->store = store;
    w->spool.fd = -1;
    w->granule = memory_alloc_aligned(STORE_GRANULE_BYTES, 1);
    if (!w->granule)
        TRY_DONE(error_memory(error));
    if (straight) {
        store->streaming = true;
        w->file = &store->file;
        w->begin = store->end;
    } else {
        TRY_DONE(open_spool(w, error));
        w->file = &w->spool;
    }
    w->at = w->begin + sizeof(struct store_frame);
    if (straight)
        TRY_DONE(put_open_header(w, error));
    *writer = w;
    w = NULL;
done:
    store_segment_abort(&w);
    return status;
}

enum akin_status store_segment_begin(struct store *store, struct store_segment_writer **writer,
                                     struct akin_error *error)
{
    return begin(store, store->target, writer, error);
}

enum akin_status store_segment_begin_here(struct store *store,
                                          struct store_segment_writer **writer,
                                          struct akin_error *error)
{
    return begin(store, true, writer, error);
}

static enum akin_status report(const struct store_segment_writer *w, struct akin_error *error)
{
    if (w->failure.status != AKIN_OK && error)
        *error = w->failure;
    return w->failure.status;
}

/* One granule of the current block, with `pad` zeros behind it. */
static void put_granule(struct store_segment_writer *w, const void *data, size_t bytes, size_t pad)
{
    static const unsigned char zeros[INDEX_ALIGN_BYTES];
    struct file_part parts[] = { { data, bytes }, { zeros, pad } };
    if (w->failure.status != AKIN_OK)
        return;
    if (w->at + bytes > STORE_FILE_BYTES_MAX) {
        error_set(&w->failure, AKIN_LIMIT, "%s: would be longer than %" PRIu64 " bytes",
                  w->file->path, STORE_FILE_BYTES_MAX);
        return;
    }
    if (!array_reserve((void **)&w->sums, &w->sum_capacity, w->sum_count + 1, sizeof *w->sums)) {
        error_memory(&w->failure);
        return;
    }
    w->sums[w->sum_count++] = hash_bytes(data, bytes);
    enum akin_status status = file_at_write(w->file, w->at, parts, 2, &w->failure);
    if (status == AKIN_OK && w->file != &w->spool)
        file_at_begin_sync(w->file, w->at, bytes + pad);
    w->at += bytes + pad;
}

static void finish_block(struct store_segment_writer *w)
{
    if (w->used)
        put_granule(w, w->granule, w->used, index_pad(w->used) - w->used);
    w->used = 0;
}

static enum akin_status sink_begin(void *context, uint32_t type, struct akin_error *error)
{
    struct store_segment_writer *w = context;
    finish_block(w);
    if (w->failure.status == AKIN_OK && w->count == STORE_BLOCKS_MAX)
        error_set(&w->failure, AKIN_LIMIT, "%s: more than %d blocks in a segment",
                  w->file->path, STORE_BLOCKS_MAX);
    else if (w->failure.status == AKIN_OK &&
             !array_reserve((void **)&w->entries, &w->capacity, w->count + 1, sizeof *w->entries))
        error_memory(&w->failure);
    if (w->failure.status == AKIN_OK)
        w->entries[w->count++] = (struct store_entry){
            .type = type, .offset = w->at - w->begin, .granule = w->sum_count,
        };
    return report(w, error);
}

static enum akin_status sink_append(void *context, const void *data, size_t bytes,
                                    struct akin_error *error)
{
    struct store_segment_writer *w = context;
    const unsigned char *from = data;
    ASSERT(w->count || w->failure.status != AKIN_OK);
    if (w->failure.status == AKIN_OK)
        w->entries[w->count - 1].bytes += bytes;
    while (bytes && w->failure.status == AKIN_OK) {
        size_t step = STORE_GRANULE_BYTES - w->used;
        step = step < bytes ? step : bytes;
        if (step == STORE_GRANULE_BYTES) {
            put_granule(w, from, step, 0);
        } else {
            memcpy(w->granule + w->used, from, step);
            w->used += step;
            if (w->used == STORE_GRANULE_BYTES)
                finish_block(w);
        }
        from += step;
        bytes -= step;
    }
    return report(w, error);
}

struct segment_sink store_segment_sink(struct store_segment_writer *writer)
{
    return (struct segment_sink){ .context = writer, .begin = sink_begin, .append = sink_append };
}

/* The table behind the blocks and the header before them. */
static enum akin_status put_frame(struct store_segment_writer *w, struct store_frame *frame,
                                  struct akin_error *error)
{
    finish_block(w);
    TRY(report(w, error));
    size_t bytes = store_table_bytes(w->count, w->sum_count);
    unsigned char *table = memory_alloc(1, bytes);
    if (!table)
        return error_memory(error);
    if (w->count)
        memcpy(table, w->entries, w->count * sizeof *w->entries);
    if (w->sum_count)
        memcpy(table + w->count * sizeof *w->entries, w->sums, w->sum_count * sizeof *w->sums);
    frame->block_count = (uint32_t)w->count;
    frame->granule_count = (uint32_t)w->sum_count;
    frame->bytes = w->at - w->begin + bytes;
    store_seal_frame(frame, table, bytes);
    enum akin_status status =
        file_at_write(w->file, w->at, &(struct file_part){ table, bytes }, 1, error);
    if (status == AKIN_OK)
        status = file_at_write(w->file, w->begin, &(struct file_part){ frame, sizeof *frame }, 1,
                               error);
    memory_free(table);
    return status;
}

enum akin_status store_segment_end(struct store_segment_writer **writer, uint32_t kind, size_t rows,
                                   uint64_t *frame_at, struct akin_error *error)
{
    struct store_segment_writer *w = *writer;
    struct store *store = w->store;
    struct store_frame frame = {
        .type = STORE_SEGMENT, .operation = store->next, .rows = rows, .detail = kind,
    };
    enum akin_status status = store_writable(store, error);
    if (status == AKIN_OK && rows > STORE_ROWS_MAX)
        status = error_set(error, AKIN_LIMIT, "%s: more than %" PRIu32 " rows in a segment",
                           store->file.path, STORE_ROWS_MAX);
    if (status == AKIN_OK)
        status = put_frame(w, &frame, error);
    if (status == AKIN_OK && w->spool.fd >= 0) {
        status = file_at_copy(&w->spool, 0, &store->file, store->end, frame.bytes, error);
        if (status != AKIN_OK)
            file_at_truncate(&store->file, store->end, NULL);
    }
    if (status == AKIN_OK) {
        *frame_at = store->end;
        store->end += frame.bytes;
        store->dirty = true;
        w->begin = store->end;          /* nothing is left to take back */
    }
    store_segment_abort(writer);
    return status;
}

void store_take_back(struct store *store, uint64_t frame)
{
    ASSERT(frame >= store->mark.bytes && frame <= store->end && store->manifest < frame);
    store->end = frame;
    file_at_truncate(&store->file, store->end, NULL);
}

void store_segment_abort(struct store_segment_writer **writer)
{
    struct store_segment_writer *w = *writer;
    if (!w)
        return;
    if (w->file == &w->store->file) {
        if (w->begin == w->store->end && w->at != w->begin)
            file_at_truncate(&w->store->file, w->store->end, NULL);
        w->store->streaming = false;
    }
    file_at_close(&w->spool);
    memory_free(w->granule);
    memory_free(w->entries);
    memory_free(w->sums);
    memory_free(w);
    *writer = NULL;
}

/* ---- reading ---------------------------------------------------------------------------- */

enum { SHARED_BYTES_MIN = 256 << 20 };  /* from here on the file can be read beside the map */

struct store_segment_memory {
    struct store_segment segment;       /* what the caller sees */
    struct file_window window;
    uint64_t begin;                     /* of the window in the file */
    struct file_at file;                /* fd -1: it is small, or the system refused */
    struct segment_block *blocks;
};

static enum akin_status map_old(const struct store *store, struct store_segment_memory *m,
                                struct akin_error *error)
{
    const struct index_view *view = &store->old;
    const struct index_header *h = view->header;
    TRY(file_window_open(&store->file, 0, h->file_bytes, &m->window, error));
    m->blocks = memory_alloc(2, sizeof *m->blocks);
    if (!m->blocks)
        return error_memory(error);
    const unsigned char *rows = (const unsigned char *)view->rows;
    m->blocks[0] = (struct segment_block){
        STORE_BLOCK_VECTORS, m->window.data + (rows - view->data),
        h->count * h->dimension * sizeof(float),
    };
    if (view->ids)
        m->blocks[1] = (struct segment_block){
            STORE_BLOCK_IDS, m->window.data + ((const unsigned char *)view->ids - view->data),
            h->count * sizeof(int64_t),
        };
    m->segment.kind = h->kind;
    m->segment.rows = h->count;
    m->segment.bytes = h->file_bytes - h->header_bytes;
    m->segment.blocks.count = view->ids ? 2 : 1;
    return AKIN_OK;
}

static enum akin_status map_frame(const struct store *store, uint64_t at,
                                  struct store_segment_memory *m, struct akin_error *error)
{
    struct store_frame_view view;
    TRY(store_read_frame(store, at, store->end, &m->window, &view, false, error));
    m->begin = at;
    if (view.header.type != STORE_SEGMENT)
        return store_damaged(store, at, error, "not a segment");
    m->blocks = memory_alloc(view.header.block_count, sizeof *m->blocks);
    if (!m->blocks)
        return error_memory(error);
    for (size_t i = 0; i < view.header.block_count; i++)
        m->blocks[i] = (struct segment_block){
            view.entries[i].type, view.data + view.entries[i].offset, view.entries[i].bytes,
        };
    m->segment.kind = (uint32_t)view.header.detail;
    m->segment.rows = view.header.rows;
    m->segment.bytes = view.header.bytes;
    m->segment.blocks.count = view.header.block_count;
    return AKIN_OK;
}

enum akin_status store_segment_open(const struct store *store, uint64_t frame,
                                    struct store_segment **segment, struct akin_error *error)
{
    struct store_segment_memory *m = memory_alloc(1, sizeof *m);
    if (!m)
        return error_memory(error);
    m->file.fd = -1;
    enum akin_status status =
        store->old.header ? map_old(store, m, error) : map_frame(store, frame, m, error);
    if (status == AKIN_OK && m->window.bytes >= SHARED_BYTES_MIN &&
        file_at_share(&store->file, &m->file, NULL) == AKIN_OK)
        m->segment.file = &m->file;
    m->segment.frame = frame;
    m->segment.blocks.blocks = m->blocks;
    m->segment.memory = m;
    struct store_segment *opened = &m->segment;
    if (status == AKIN_OK)
        *segment = opened;
    else
        store_segment_close(&opened);
    return status;
}

void store_segment_close(struct store_segment **segment)
{
    if (!*segment)
        return;
    struct store_segment_memory *m = (*segment)->memory;
    file_window_close(&m->window);
    file_at_close(&m->file);
    memory_free(m->blocks);
    memory_free(m);
    *segment = NULL;
}

uint64_t store_segment_offset(const struct store_segment *segment,
                              const struct segment_block *block)
{
    const struct store_segment_memory *m = segment->memory;
    return m->begin + (uint64_t)((const unsigned char *)block->data - m->window.data);
}

const struct segment_block *store_segment_find(const struct store_segment *segment, uint32_t type)
{
    for (size_t i = 0; i < segment->blocks.count; i++)
        if (segment->blocks.blocks[i].type == type)
            return &segment->blocks.blocks[i];
    return NULL;
}
