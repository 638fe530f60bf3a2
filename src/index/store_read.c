/* What lies in an .akx file beside segments: dead rows, and the tail in order. */
#include <inttypes.h>
#include <string.h>

#include "base/memory.h"
#include "index/store_file.h"

static enum akin_status set_dead(const struct store *store, const struct store_frame_view *view,
                                 uint64_t at, uint64_t *dead, struct akin_error *error)
{
    uint64_t rows = view->header.rows, count = 0;
    const struct store_entry *e = &view->entries[0];
    const unsigned char *data = view->data + e->offset;
    if (e->type == STORE_BLOCK_DEAD_BITS) {
        memcpy(dead, data, e->bytes);
        for (size_t i = 0; i < (rows + 63) / 64; i++)
            count += (uint64_t)__builtin_popcountll(dead[i]);
        if (count != view->header.detail || (rows % 64 && dead[rows / 64] >> rows % 64))
            return store_damaged(store, at, error, "its bits are not those that it says");
        return AKIN_OK;
    }
    const uint32_t *list = (const uint32_t *)(const void *)data;
    for (uint64_t i = 0; i < view->header.detail; i++) {
        if (list[i] >= rows || (i && list[i] <= list[i - 1]))
            return store_damaged(store, at, error, "its rows do not ascend");
        dead[list[i] / 64] |= (uint64_t)1 << list[i] % 64;
    }
    return AKIN_OK;
}

enum akin_status store_read_dead(const struct store *store, uint64_t frame, size_t rows,
                                 uint64_t *dead, size_t *dead_count, struct akin_error *error)
{
    memset(dead, 0, (rows + 63) / 64 * sizeof *dead);
    *dead_count = 0;
    if (frame == 0)
        return AKIN_OK;
    struct file_window window;
    struct store_frame_view view;
    TRY(store_read_frame(store, frame, store->end, &window, &view, true, error));
    enum akin_status status = AKIN_OK;
    if (view.header.type != STORE_DEAD || view.header.rows != rows)
        TRY_DONE(store_damaged(store, frame, error, "not the dead rows of this segment"));
    TRY_DONE(set_dead(store, &view, frame, dead, error));
    *dead_count = view.header.detail;
done:
    file_window_close(&window);
    return status;
}

/* ---- the tail --------------------------------------------------------------------------- */

struct store_tail {
    const struct store *store;
    struct file_window window;
    struct store_tail_frame *frames;
    size_t count, next;
    struct segment_block *blocks;       /* of the frame last returned */
    size_t capacity;
};

enum akin_status store_tail_open(const struct store *store, struct store_tail **tail,
                                 struct akin_error *error)
{
    struct store_tail *t = memory_alloc(1, sizeof *t);
    if (!t)
        return error_memory(error);
    enum akin_status status = AKIN_OK;
    t->store = store;
    t->count = store->tail_count;
    t->frames = memory_alloc(t->count, sizeof *t->frames);
    if (!t->frames)
        TRY_DONE(error_memory(error));
    if (t->count) {
        memcpy(t->frames, store->tail, t->count * sizeof *t->frames);
        uint64_t begin = t->frames[0].at, end = t->frames[t->count - 1].at;
        end += t->frames[t->count - 1].bytes;
        TRY_DONE(file_window_open(&store->file, begin, end - begin, &t->window, error));
    }
    *tail = t;
    t = NULL;
done:
    store_tail_close(&t);
    return status;
}

enum akin_status store_tail_next(struct store_tail *tail, struct store_operation *operation,
                                 bool *more, struct akin_error *error)
{
    *more = tail->next < tail->count;
    if (!*more)
        return AKIN_OK;
    const struct store_tail_frame *frame = &tail->frames[tail->next];
    const unsigned char *data = tail->window.data + (frame->at - tail->frames[0].at);
    struct store_frame_view view;
    TRY(store_view_frame(tail->store, data, frame->at, frame->bytes, true, &view, error));
    if (view.header.operation != frame->operation || view.header.rows != frame->count)
        return store_damaged(tail->store, frame->at, error, "changed since the file was opened");
    if (!array_reserve((void **)&tail->blocks, &tail->capacity, view.header.block_count,
                       sizeof *tail->blocks))
        return error_memory(error);
    for (size_t i = 0; i < view.header.block_count; i++)
        tail->blocks[i] = (struct segment_block){
            view.entries[i].type, data + view.entries[i].offset, view.entries[i].bytes,
        };
    bool is_delete = view.header.type == STORE_DELETE;
    *operation = (struct store_operation){
        .is_delete = is_delete, .first = view.header.operation, .count = view.header.rows,
        .ids = tail->blocks[0].data, .vectors = is_delete ? NULL : tail->blocks[1].data,
        .blocks = { tail->blocks, view.header.block_count },
    };
    tail->next++;
    return AKIN_OK;
}

void store_tail_close(struct store_tail **tail)
{
    if (!*tail)
        return;
    file_window_close(&(*tail)->window);
    memory_free((*tail)->frames);
    memory_free((*tail)->blocks);
    memory_free(*tail);
    *tail = NULL;
}
