/* Reading the whole of an .akx file, by reads and not by a map, so that nothing that another
 * process does to it can end this one. */
#include <inttypes.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "index/index.h"
#include "index/store_file.h"

struct checker {
    const struct store *store;
    struct store_report report;
    uint64_t operation;                 /* the next frame of rows or deletes begins with it */
    unsigned char *granule;             /* [STORE_GRANULE_BYTES] */
};

static bool is_zero(const unsigned char *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (data[i])
            return false;
    return true;
}

/* ---- contents --------------------------------------------------------------------------- */

/* An exponent of ones is an infinity or not a number. */
static bool all_finite(const unsigned char *data, size_t bytes, enum element_type element)
{
    if (element == ELEMENT_F16) {
        for (size_t i = 0; i < bytes / 2; i++)
            if ((((const uint16_t *)(const void *)data)[i] & 0x7c00) == 0x7c00)
                return false;
        return true;
    }
    for (size_t i = 0; i < bytes / 4; i++)
        if ((((const uint32_t *)(const void *)data)[i] & 0x7f800000) == 0x7f800000)
            return false;
    return true;
}

static bool none_negative(const unsigned char *data, size_t bytes)
{
    for (size_t i = 0; i < bytes / 8; i++)
        if (((const int64_t *)(const void *)data)[i] < 0)
            return false;
    return true;
}

/* What the granule in memory holds, of a frame of the tail. */
static enum akin_status check_contents(struct checker *c, const struct store_frame_view *view,
                                       uint64_t at, size_t block, size_t bytes,
                                       struct akin_error *error)
{
    unsigned type = view->header.type;
    if (block == 0 && (type == STORE_ROWS || type == STORE_DELETE) &&
        !none_negative(c->granule, bytes))
        return store_damaged(c->store, at, error, "an id is negative");
    if (block == 1 && type == STORE_ROWS &&
        !all_finite(c->granule, bytes, c->store->settings.element))
        return store_damaged(c->store, at, error, "a vector holds a number that is not finite");
    return AKIN_OK;
}

static enum akin_status check_block(struct checker *c, const struct store_frame_view *view,
                                    uint64_t at, size_t block, struct akin_error *error)
{
    const struct store_entry *e = &view->entries[block];
    const struct file_at *file = &c->store->file;
    for (uint64_t g = 0; g < store_granules(e->bytes); g++) {
        uint64_t first = g * STORE_GRANULE_BYTES, left = e->bytes - first;
        size_t bytes = left < STORE_GRANULE_BYTES ? left : STORE_GRANULE_BYTES;
        TRY(file_at_read(file, at + e->offset + first, c->granule, bytes, error));
        TRY(store_check_granule(c->store, view, at, block, g, c->granule, error));
        TRY(check_contents(c, view, at, block, bytes, error));
    }
    unsigned char behind[INDEX_ALIGN_BYTES];
    size_t pad = index_pad(e->bytes) - e->bytes;
    TRY(file_at_read(file, at + e->offset + e->bytes, behind, pad, error));
    if (!is_zero(behind, pad))
        return store_damaged(c->store, at, error, "bytes behind a block are not zero");
    return AKIN_OK;
}

static enum akin_status count_frame(struct checker *c, const struct store_frame *f, uint64_t at,
                                    struct akin_error *error)
{
    c->report.frames++;
    c->report.segments += f->type == STORE_SEGMENT;
    if (f->type != STORE_ROWS && f->type != STORE_DELETE)
        return AKIN_OK;
    if (f->operation != c->operation)
        return store_damaged(c->store, at, error, "its operations do not follow");
    c->operation += f->rows;
    *(f->type == STORE_ROWS ? &c->report.rows : &c->report.deletes) += f->rows;
    return AKIN_OK;
}

/* A frame at `at`, all of which lies before `end`. */
static enum akin_status check_frame(struct checker *c, const struct store_frame *f, uint64_t at,
                                    uint64_t end, struct akin_error *error)
{
    TRY(store_check_frame(c->store, f, at, end - at, error));
    size_t bytes = store_table_bytes(f->block_count, f->granule_count);
    unsigned char *table = memory_alloc_aligned(bytes, 1);
    if (!table)
        return error_memory(error);
    enum akin_status status = AKIN_OK;
    struct store_frame_view view = { 0 };
    TRY_DONE(file_at_read(&c->store->file, at + f->bytes - bytes, table, bytes, error));
    TRY_DONE(store_check_table(c->store, f, at, table, &view, error));
    for (size_t i = 0; i < f->block_count; i++)
        TRY_DONE(check_block(c, &view, at, i, error));
    TRY_DONE(count_frame(c, f, at, error));
done:
    memory_free(table);
    return status;
}

/* ---- the promised part ------------------------------------------------------------------ */

static enum akin_status check_marks(const struct checker *c, struct akin_error *error)
{
    for (int slot = 0; slot < 2; slot++) {
        struct store_mark mark;
        bool valid = false;
        for (int attempt = 0; attempt < 8 && !valid; attempt++)
            TRY(store_read_mark(&c->store->file, slot, &mark, &valid, error));
        if (!valid)
            return error_set(
                error, AKIN_FORMAT,
                "%s: mark %d, bytes %d to %d: damaged; the other one is whole: opening "
                "the file for writing mends it",
                c->store->file.path, slot, (1 + slot) * STORE_PAGE_BYTES,
                (2 + slot) * STORE_PAGE_BYTES - 1);
    }
    return AKIN_OK;
}

static enum akin_status check_promised(struct checker *c, struct akin_error *error)
{
    uint64_t end = c->store->mark.bytes;
    for (uint64_t at = STORE_FRAMES; at < end;) {
        struct store_frame frame = { 0 };
        if (end - at >= sizeof frame)
            TRY(file_at_read(&c->store->file, at, &frame, sizeof frame, error));
        TRY(check_frame(c, &frame, at, end, error));
        at += frame.bytes;
    }
    if (c->operation != c->store->mark.operations)
        return store_damaged(c->store, end, error, "fewer operations before it than were promised");
    return AKIN_OK;
}

static enum akin_status check_dead(const struct checker *c, struct akin_error *error)
{
    const struct store_layout *layout = &c->store->layout;
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; i < layout->segment_count && status == AKIN_OK; i++) {
        struct store_segment *segment;
        TRY(store_segment_open(c->store, layout->segments[i].frame, &segment, error));
        size_t dead_count, words = (segment->rows + 63) / 64;
        uint64_t *dead = memory_alloc(words, sizeof *dead);
        status = dead ? store_read_dead(c->store, layout->segments[i].dead, segment->rows, dead,
                                        &dead_count, error)
                      : error_memory(error);
        memory_free(dead);
        store_segment_close(&segment);
    }
    return status;
}

/* ---- behind the mark -------------------------------------------------------------------- */

static enum akin_status rest_is_zero(struct checker *c, uint64_t at, uint64_t size, bool *zero,
                                     struct akin_error *error)
{
    *zero = true;
    while (at < size && *zero) {
        size_t step = size - at < STORE_GRANULE_BYTES ? size - at : STORE_GRANULE_BYTES;
        TRY(file_at_read(&c->store->file, at, c->granule, step, error));
        *zero = is_zero(c->granule, step);
        at += step;
    }
    return AKIN_OK;
}

/* After a kill whole frames may stand here, and the beginning of one more; after a power loss zeros
 * as well. Anything else is not what was written. */
static enum akin_status check_rest(struct checker *c, uint64_t size, struct akin_error *error)
{
    uint64_t at = c->store->mark.bytes;
    while (size - at >= sizeof(struct store_frame)) {
        struct store_frame frame;
        bool zero;
        TRY(file_at_read(&c->store->file, at, &frame, sizeof frame, error));
        if (store_check_frame(c->store, &frame, at, UINT64_MAX, NULL) == AKIN_OK &&
            frame.bytes > size - at)
            return AKIN_OK;
        if (is_zero((const unsigned char *)&frame, sizeof frame)) {
            TRY(rest_is_zero(c, at, size, &zero, error));
            if (zero)
                return AKIN_OK;
        }
        TRY(check_frame(c, &frame, at, size, error));
        at += frame.bytes;
    }
    return AKIN_OK;
}

/* ---- the whole -------------------------------------------------------------------------- */

static enum akin_status check_version_2(struct checker *c, struct akin_error *error)
{
    uint64_t size;
    c->operation = c->store->settings.first_operation;
    c->granule = memory_alloc_aligned(STORE_GRANULE_BYTES, 1);
    if (!c->granule)
        return error_memory(error);
    TRY(check_marks(c, error));
    TRY(check_promised(c, error));
    TRY(check_dead(c, error));
    TRY(file_at_size(&c->store->file, &size, error));
    c->report.unpromised_bytes = size - c->store->mark.bytes;
    if (c->report.unpromised_bytes == 0 || file_at_is_locked(&c->store->file))
        return AKIN_OK;
    enum akin_status status = check_rest(c, size, error);
    if (status == AKIN_FORMAT || status == AKIN_UNSUPPORTED) {
        c->report.in_tail = true;
        status = error_context(error, status,
                               "nothing that was promised is damaged, but what follows from byte "
                               "%" PRIu64 " on is (opening the file for writing cuts it off)",
                               c->store->mark.bytes);
    }
    return status;
}

enum akin_status store_check(const char *path, struct store_report *report,
                             struct akin_error *error)
{
    struct store *store;
    TRY(store_open(path, STORE_READ, &store, error));
    struct checker c = {
        .store = store,
        .report = { .version = store_version(store), .promised_bytes = store->mark.bytes },
    };
    enum akin_status status;
    if (store->old.header) {
        status = index_view_check(&store->old, error);
        c.report.rows = store->old.header->count;
        c.report.frames = store->old.header->block_count;
    } else {
        status = check_version_2(&c, error);
    }
    memory_free(c.granule);
    store_close(&store);
    if (report)
        *report = c.report;
    return status;
}

enum akin_status index_check(const char *path, struct akin_error *error)
{
    return store_check(path, NULL, error);
}
