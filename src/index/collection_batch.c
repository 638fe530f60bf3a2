/* A batch that becomes a segment when it is added. As many rows as are sealed at once anyway would
 * first be written as a frame of rows, then to a file without a name, then from there behind that
 * frame; here they go straight to where they stay, with the tail before them. Nothing counts before
 * the manifest, so a crash or a failure leaves what was. The caller waits for the sketches as well;
 * kinds that train for long are left to the background. */
#include <string.h>

#include "index/collection_parts.h"

/* More segments than this, and merging is behind: the tail then makes them larger, and makes who
 * adds wait. */
enum { SEGMENTS_ENOUGH = 64 };

bool batch_seals(const struct collection *c, size_t rows)
{
    return rows >= c->seal_rows && c->current->sealed < SEGMENTS_ENOUGH;
}

/* The rows as the last part of `next`, which no reader ever sees. */
static enum akin_status add_part(const struct collection *c, struct snapshot *next,
                                 const struct new_rows *rows, struct akin_error *error)
{
    if (rows->metadata)
        TRY(check_metadata(rows->metadata, rows->count, error));
    struct part *part = memory_alloc(1, sizeof *part);
    if (!part)
        return error_memory(error);
    atomic_init(&part->refs, 1);
    part->number = UINT64_MAX;
    part->ids = rows->ids;
    part->borrowed = rows->metadata;
    enum akin_status status = part_borrow(c, part, rows->vectors, rows->count, error);
    if (status == AKIN_OK && rows->keys) {
        part->own_keys = memory_alloc(rows->count, sizeof *part->own_keys);
        if (part->own_keys)
            memcpy(part->own_keys, rows->keys, rows->count * sizeof *part->own_keys);
        else
            status = error_memory(error);
    }
    if (status == AKIN_OK)
        next->views[next->count++] = (struct view){ .part = part, .rows = rows->count };
    else
        part_release(part);
    return status;
}

static enum akin_status write_segment(struct collection *c, struct job *job,
                                      struct akin_error *error)
{
    struct store_segment_writer *writer = NULL;
    uint64_t frame = 0;
    job->backend = c->host.backend;
    job->pool = c->host.pool;
    TRY(store_segment_begin_here(c->store, &writer, error));
    struct segment_sink sink = store_segment_sink(writer);
    enum akin_status status = job_write(c, job, &sink, error);
    if (status == AKIN_OK)
        status = store_segment_end(&writer, job->kind, job->rows, &frame, error);
    store_segment_abort(&writer);
    TRY(status);
    status = job_place(c, job, frame, error);
    if (status != AKIN_OK)
        store_take_back(c->store, frame);
    return status;
}

enum akin_status batch_seal(struct collection *c, struct snapshot *next,
                            const struct new_rows *rows, bool *sealed, struct akin_error *error)
{
    struct job job = { 0 };
    int64_t next_id = c->next_id;
    enum akin_status status = AKIN_OK;
    *sealed = false;
    TRY(add_part(c, next, rows, error));
    if (plan_batch(c, next, &job)) {
        for (size_t i = 0; i < rows->count; i++)
            take_id(c, rows->ids[i]);
        status = write_segment(c, &job, error);
        *sealed = status == AKIN_OK;
    }
    if (*sealed) {
        c->open = NULL;
        c->failed_tail = 0;
    } else {
        c->next_id = next_id;
    }
    job_deinit(&job);
    view_release(&next->views[--next->count]);
    return status;
}
