/* Opening an .akx file: header, marks, manifest, headers of the tail. What lies behind the newest
 * mark was promised to nobody and is not looked at. One case is different: with one mark damaged
 * nobody knows whether it was the newer one, so every whole frame behind the other is kept. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/memory.h"
#include "index/store_file.h"

enum { MARK_READS = 8, LOCK_TRIES = 16 };

void store_free_layout(struct store_layout *layout)
{
    memory_free((void *)(uintptr_t)layout->segments);
    memory_free((void *)(uintptr_t)layout->state);
    *layout = (struct store_layout){ 0 };
}

/* ---- marks ------------------------------------------------------------------------------ */

enum akin_status store_read_mark(const struct file_at *file, int slot, struct store_mark *mark,
                                 bool *valid, struct akin_error *error)
{
    unsigned char page[STORE_PAGE_BYTES];
    TRY(file_at_read(file, (uint64_t)(1 + slot) * STORE_PAGE_BYTES, page, sizeof page, error));
    memcpy(mark, page, sizeof *mark);
    *valid = store_mark_valid(mark, slot);
    for (size_t i = sizeof *mark; i < sizeof page; i++)
        *valid = *valid && page[i] == 0;
    return AKIN_OK;
}

/* The newest mark. A mark may be read while it is written, so a bad one is read again. */
static enum akin_status choose_mark(const struct file_at *file, struct store_mark *mark,
                                    bool *one_is_lost, struct akin_error *error)
{
    struct store_mark marks[2];
    bool valid[2] = { false, false };
    for (int attempt = 0; attempt < MARK_READS && !(valid[0] && valid[1]); attempt++)
        for (int slot = 0; slot < 2; slot++)
            TRY(store_read_mark(file, slot, &marks[slot], &valid[slot], error));
    if (!valid[0] && !valid[1])
        return error_set(error, AKIN_FORMAT,
                         "%s: marks, bytes %d to %d: neither is whole: the file is damaged: "
                         "restore a copy or build it again",
                         file->path, STORE_PAGE_BYTES, STORE_FRAMES - 1);
    *one_is_lost = !valid[0] || !valid[1];
    *mark = marks[!valid[0] || (valid[1] && marks[1].number > marks[0].number)];
    return AKIN_OK;
}

/* ---- layout ----------------------------------------------------------------------------- */

enum akin_status store_read_frame(const struct store *store, uint64_t at, uint64_t end,
                                  struct file_window *window, struct store_frame_view *view,
                                  bool blocks, struct akin_error *error)
{
    struct store_frame header;
    *window = (struct file_window){ 0 };
    if (at < STORE_FRAMES || at % INDEX_ALIGN_BYTES || at >= end || end - at < sizeof header)
        return store_damaged(store, at, error, "no frame can begin there");
    TRY(file_at_read(&store->file, at, &header, sizeof header, error));
    TRY(store_check_frame(store, &header, at, end - at, error));
    TRY(file_window_open(&store->file, at, header.bytes, window, error));
    enum akin_status status =
        store_view_frame(store, window->data, at, header.bytes, blocks, view, error);
    if (status != AKIN_OK)
        file_window_close(window);
    return status;
}

/* Header of a frame that a layout names. */
static enum akin_status read_named(const struct store *store, uint64_t at, uint64_t end,
                                   enum store_frame_type type, struct store_frame *header,
                                   struct akin_error *error)
{
    struct file_window window;
    struct store_frame_view view;
    TRY(store_read_frame(store, at, end, &window, &view, false, error));
    *header = view.header;
    file_window_close(&window);
    if (header->type != type)
        return error_set(error, AKIN_FORMAT,
                         "%s: frame at byte %" PRIu64 ": holds %s where the manifest says %s",
                         store->file.path, at, store_frame_name(header->type),
                         store_frame_name(type));
    return AKIN_OK;
}

enum akin_status store_take_layout(struct store *store, const struct store_layout *layout,
                                   uint64_t end, struct akin_error *error)
{
    uint64_t live = 0;
    for (size_t i = 0; i < layout->segment_count; i++) {
        const struct store_segment_ref *ref = &layout->segments[i];
        struct store_frame segment, dead;
        TRY(read_named(store, ref->frame, end, STORE_SEGMENT, &segment, error));
        live += segment.bytes;
        for (size_t j = 0; j < i; j++)
            if (layout->segments[j].frame == ref->frame ||
                (ref->dead && layout->segments[j].dead == ref->dead))
                return store_damaged(store, ref->frame, error, "the manifest names it twice");
        if (!ref->dead)
            continue;
        TRY(read_named(store, ref->dead, end, STORE_DEAD, &dead, error));
        live += dead.bytes;
        if (dead.rows != segment.rows)
            return store_damaged(store, ref->dead, error, "not of as many rows as its segment");
    }
    struct store_layout copy = *layout;
    struct store_segment_ref *refs = memory_alloc(layout->segment_count, sizeof *refs);
    char *state = memory_copy_bytes(layout->state ? layout->state : "", layout->state_bytes);
    if (!refs || !state) {
        memory_free(refs);
        memory_free(state);
        return error_memory(error);
    }
    if (layout->segment_count)
        memcpy(refs, layout->segments, layout->segment_count * sizeof *refs);
    copy.segments = refs;
    copy.state = state;
    store_free_layout(&store->layout);
    store->layout = copy;
    store->live_fixed = live;
    return AKIN_OK;
}

/* The newest manifest, or what holds before there is one. */
static enum akin_status load_layout(struct store *store, uint64_t *replay, struct akin_error *error)
{
    *replay = STORE_FRAMES;
    struct store_layout layout = { .sealed = store->settings.first_operation };
    if (!store->mark.manifest)
        return store_take_layout(store, &layout, store->mark.bytes, error);
    struct file_window window;
    struct store_frame_view view;
    uint64_t at = store->mark.manifest;
    TRY(store_read_frame(store, at, store->mark.bytes, &window, &view, true, error));
    enum akin_status status = AKIN_OK;
    if (view.header.type != STORE_MANIFEST)
        TRY_DONE(store_damaged(store, at, error, "not a manifest where the mark says one"));
    const struct store_manifest *manifest =
        (const struct store_manifest *)(const void *)(view.data + view.entries[0].offset);
    layout = (struct store_layout){
        .segments = (const struct store_segment_ref *)(const void *)(manifest + 1),
        .segment_count = view.header.rows, .sealed = manifest->sealed,
        .state = view.data + view.entries[1].offset, .state_bytes = view.entries[1].bytes,
    };
    if (manifest->reserved[0] || manifest->reserved[1] || manifest->replay < STORE_FRAMES ||
        manifest->replay > at || manifest->replay % INDEX_ALIGN_BYTES ||
        manifest->sealed < store->settings.first_operation || manifest->sealed > INT64_MAX)
        TRY_DONE(store_damaged(store, at, error, "a manifest that cannot be"));
    TRY_DONE(store_take_layout(store, &layout, at, error));
    *replay = manifest->replay;
    store->manifest = at;
    store->manifest_bytes = view.header.bytes;
done:
    file_window_close(&window);
    return status;
}

/* ---- the tail --------------------------------------------------------------------------- */

enum akin_status store_add_tail(struct store *store, uint64_t at, const struct store_frame *frame,
                                struct akin_error *error)
{
    if (!array_reserve((void **)&store->tail, &store->tail_capacity, store->tail_count + 1,
                       sizeof *store->tail))
        return error_memory(error);
    store->tail[store->tail_count++] = (struct store_tail_frame){
        .at = at, .bytes = frame->bytes, .operation = frame->operation, .count = frame->rows,
    };
    return AKIN_OK;
}

static enum akin_status walk_tail(struct store *store, uint64_t from, struct akin_error *error)
{
    struct file_window window;
    uint64_t end = store->mark.bytes, expected = store->layout.sealed;
    TRY(file_window_open(&store->file, from, end - from, &window, error));
    enum akin_status status = AKIN_OK;
    for (uint64_t at = from; at < end;) {
        struct store_frame frame = { 0 };
        if (end - at >= sizeof frame)
            memcpy(&frame, window.data + (at - from), sizeof frame);
        TRY_DONE(store_check_frame(store, &frame, at, end - at, error));
        if (frame.type == STORE_ROWS || frame.type == STORE_DELETE) {
            if (frame.operation != expected)
                TRY_DONE(store_damaged(store, at, error, "its operations do not follow"));
            expected += frame.rows;
            TRY_DONE(store_add_tail(store, at, &frame, error));
        }
        if (frame.type == STORE_MANIFEST && at > store->manifest)
            TRY_DONE(store_damaged(store, at, error, "a manifest newer than the mark's"));
        at += frame.bytes;
    }
    if (expected != store->mark.operations)
        status =
            error_set(error, AKIN_FORMAT,
                      "%s: the frames up to byte %" PRIu64 " end at operation %" PRIu64
                           " where the mark says %" PRIu64
                      ": the file is damaged: restore a copy or build it again",
                      store->file.path, end, expected, store->mark.operations);
done:
    file_window_close(&window);
    return status;
}

/* Moves the mark over every whole frame that follows it. Not durable before it is written. */
static void adopt_frames(struct store *store, uint64_t size)
{
    struct store_mark *mark = &store->mark;
    struct file_window window;
    struct store_frame_view view;
    while (mark->bytes < size && store_read_frame(store, mark->bytes, size, &window, &view, true,
                                                  NULL) == AKIN_OK) {
        struct store_frame f = view.header;
        bool counts = f.type == STORE_ROWS || f.type == STORE_DELETE;
        file_window_close(&window);
        if (counts && f.operation != mark->operations)
            break;
        if (f.type == STORE_MANIFEST)
            mark->manifest = mark->bytes;
        if (counts)
            mark->operations += f.rows;
        mark->bytes += f.bytes;
    }
}

/* ---- the whole -------------------------------------------------------------------------- */

static enum akin_status load(struct store *store, struct akin_error *error)
{
    uint64_t size, replay;
    bool one_is_lost;
    TRY(choose_mark(&store->file, &store->mark, &one_is_lost, error));
    TRY(file_at_size(&store->file, &size, error));
    if (size < store->mark.bytes)
        return error_set(error, AKIN_FORMAT,
                         "%s: %" PRIu64 " bytes long where %" PRIu64
                         " were promised: cut short: restore a copy or build it again",
                         store->file.path, size, store->mark.bytes);
    if (one_is_lost)
        adopt_frames(store, size);
    TRY(load_layout(store, &replay, error));
    TRY(walk_tail(store, replay, error));
    store->end = store->mark.bytes;
    store->next = store->mark.operations;
    return AKIN_OK;
}

void store_take_header(struct store *store)
{
    const struct store_header *h = &store->header;
    store->settings = (struct store_settings){
        .metric = (enum akin_metric)h->metric, .element = (enum element_type)h->element,
        .dimension = h->dimension, .first_operation = h->first_operation,
        .creation = h->creation, .creation_bytes = h->creation_bytes,
    };
}

/* Version 1 as one segment, named by the offset of its first block. */
static enum akin_status load_old(struct store *store, struct akin_error *error)
{
    uint64_t size;
    TRY(file_at_size(&store->file, &size, error));
    TRY(file_window_open(&store->file, 0, size, &store->old_file, error));
    TRY(index_view_init(&store->old, store->file.path, store->old_file.data, size, error));
    const struct index_header *h = store->old.header;
    struct store_segment_ref *ref = memory_alloc(1, sizeof *ref);
    if (!ref)
        return error_memory(error);
    ref->frame = h->header_bytes;
    store->settings = (struct store_settings){
        .metric = (enum akin_metric)h->metric, .element = ELEMENT_F32, .dimension = h->dimension,
    };
    store->layout = (struct store_layout){
        .segments = ref, .segment_count = h->count != 0, .sealed = h->count,
    };
    store->mark = (struct store_mark){ .bytes = size, .operations = h->count };
    store->end = size;
    store->next = h->count;
    return AKIN_OK;
}

/* Opens, and for writing locks, the file that has this name: between the two it may have been
 * replaced, and a lock of a file without a name keeps nobody out. */
static enum akin_status open_file(const char *path, enum store_mode mode, struct file_at *file,
                                  struct akin_error *error)
{
    for (int attempt = 0; attempt < LOCK_TRIES; attempt++) {
        TRY(file_at_open(path, mode == STORE_WRITE ? FILE_AT_WRITE : FILE_AT_READ, file, error));
        if (mode == STORE_READ)
            return AKIN_OK;
        enum akin_status status = file_at_lock(file, error);
        if (status == AKIN_OK && file_at_is_current(file))
            return AKIN_OK;
        file_at_close(file);
        TRY(status);
    }
    return error_set(error, AKIN_BUSY, "%s: replaced again and again by somebody else", path);
}

static enum akin_status open_version_2(struct store *store, enum store_mode mode,
                                       struct akin_error *error)
{
    TRY(store_check_header(store->file.path, &store->header, error));
    store_take_header(store);
    TRY(load(store, error));
    if (mode == STORE_READ)
        return AKIN_OK;
    /* Whoever wrote the newest mark may have died before it was durable: a new one is. */
    store->writable = true;
    TRY(file_at_truncate(&store->file, store->end, error));
    TRY(file_at_sync(&store->file, error));
    return store_write_mark(store, error);
}

enum akin_status store_open(const char *path, enum store_mode mode, struct store **store,
                            struct akin_error *error)
{
    struct store *opened = memory_alloc(1, sizeof *opened);
    if (!opened)
        return error_memory(error);
    opened->file.fd = -1;
    enum akin_status status = AKIN_OK;
    TRY_DONE(open_file(path, mode, &opened->file, error));
    uint64_t size;
    struct store_header *h = &opened->header;
    TRY_DONE(file_at_size(&opened->file, &size, error));
    size_t bytes = size < sizeof *h ? (size_t)size : sizeof *h;
    TRY_DONE(file_at_read(&opened->file, 0, h, bytes, error));
    bool is_ours = bytes >= 12 && !memcmp(h->magic, index_magic, sizeof index_magic);
    bool is_old = is_ours && h->version == INDEX_VERSION;
    if (is_old && mode == STORE_WRITE)
        TRY_DONE(error_set(error, AKIN_UNSUPPORTED,
                           "%s: file version 1 is read only: build the index again to change it",
                           path));
    if (is_ours && !is_old && bytes < sizeof *h)
        TRY_DONE(error_set(error, AKIN_FORMAT, "%s: %zu bytes long: cut short", path, bytes));
    TRY_DONE(is_old ? load_old(opened, error) : open_version_2(opened, mode, error));
    *store = opened;
    opened = NULL;
done:
    store_close(&opened);
    return status;
}

void store_close(struct store **store)
{
    struct store *s = *store;
    if (!s)
        return;
    file_window_close(&s->old_file);
    if (s->target)
        path_remove(s->file.path, NULL);
    if (s->writable)
        file_at_unlock(&s->file);       /* a segment may have the file for longer */
    file_at_close(&s->file);
    memory_free(s->target);
    memory_free(s->tail);
    store_free_layout(&s->layout);
    memory_free(s);
    *store = NULL;
}

enum akin_status store_refresh(struct store *store, bool *changed, bool *replaced,
                               struct akin_error *error)
{
    ASSERT(!store->writable);
    bool one_is_lost, is_new = false;
    if (!store->old.header) {
        struct store_mark mark;
        TRY(choose_mark(&store->file, &mark, &one_is_lost, error));
        is_new = mark.number > store->mark.number;
    }
    if (is_new) {
        struct store next = *store;
        next.layout = (struct store_layout){ 0 };
        next.tail = NULL;
        next.tail_count = next.tail_capacity = 0;
        next.manifest = next.manifest_bytes = 0;
        enum akin_status status = load(&next, error);
        struct store *drop = status == AKIN_OK ? store : &next;
        store_free_layout(&drop->layout);
        memory_free(drop->tail);
        TRY(status);
        *store = next;
        store_take_header(store);
    }
    if (changed)
        *changed = is_new;
    if (replaced)
        *replaced = !file_at_is_current(&store->file);
    return AKIN_OK;
}

const struct store_settings *store_settings(const struct store *store)
{
    return &store->settings;
}

const char *store_path(const struct store *store)
{
    return store->target ? store->target : store->file.path;
}

uint32_t store_version(const struct store *store)
{
    return store->old.header ? INDEX_VERSION : STORE_VERSION;
}

const struct store_layout *store_layout(const struct store *store)
{
    return &store->layout;
}

uint64_t store_operations(const struct store *store)
{
    return store->next;
}

uint64_t store_durable(const struct store *store)
{
    return store->mark.operations;
}

void store_stats(const struct store *store, struct store_stats *stats)
{
    *stats = (struct store_stats){
        .file_bytes = store->end, .tail_frames = store->tail_count,
        .tail_operations = store->next - store->layout.sealed,
        .segment_count = store->layout.segment_count,
    };
    for (size_t i = 0; i < store->tail_count; i++)
        stats->tail_bytes += store->tail[i].bytes;
    stats->live_bytes = store->old.header ? store->end
                                          : STORE_FRAMES + store->manifest_bytes +
                                                store->live_fixed + stats->tail_bytes;
    stats->dead_bytes = stats->file_bytes - stats->live_bytes;
}
