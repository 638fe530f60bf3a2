/* Turning parts into one segment: prepared beside adds and searches, put in place in one step.
 *
 * What a job does not see is what is added, replaced or deleted while it works: rows that die
 * meanwhile are dead in the new segment from its first moment, and rows that come are in chunks of
 * their own. The manifest says up to which operation the segments hold all, so deletions
 * before it are written as DEAD frames of every segment that lost rows since its last one. */
#include <stdio.h>
#include <string.h>

#include "index/collection_parts.h"

void job_deinit(struct job *job)
{
    for (size_t i = 0; i < job->count; i++)
        view_release(&job->sources[i]);
    if (job->like)
        part_release(job->like);
    memory_free(job->sources);
    memory_free(job->origins);
    *job = (struct job){ 0 };
}

/* ---- putting in place: all under the writer's lock ---------------------------------------- */

/* What the job's segment is put into. */
static const struct snapshot *job_now(const struct collection *c, const struct job *job)
{
    return job->now ? job->now : c->current;
}

static const struct view *current_view(const struct snapshot *now, const struct part *part)
{
    for (size_t i = 0; i < now->count; i++)
        if (now->views[i].part == part)
            return &now->views[i];
    return NULL;
}

static bool is_source(const struct job *job, const struct part *part)
{
    for (size_t i = 0; i < job->count; i++)
        if (job->sources[i].part == part)
            return true;
    return false;
}

/* Bits of the new segment: rows of the job that died since. */
static enum akin_status late_deaths(const struct collection *c, const struct job *job,
                                    struct view *view, struct akin_error *error)
{
    const struct view **now = memory_alloc(job->count, sizeof(struct view *));
    if (!now)
        return error_memory(error);
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; i < job->count; i++) {
        now[i] = current_view(job_now(c, job), job->sources[i].part);
        ASSERT(now[i]);
    }
    for (size_t i = 0; i < job->rows; i++) {
        const struct origin *o = &job->origins[i];
        if (bits_alive(now[o->source]->bits, o->row))
            continue;
        if (!view->bits)
            view->bits = bits_create(job->rows);
        if (!view->bits)
            TRY_DONE(error_memory(error));
        view->bits->alive[i / 64] &= ~((uint64_t)1 << i % 64);
        view->bits->dead++;
    }
done:
    memory_free(now);
    return status;
}

/* Writes a DEAD frame if the file's last one says less. */
static enum akin_status write_dead(struct collection *c, struct view *view,
                                   struct akin_error *error)
{
    if (!view->bits || view->bits->dead == view->dead_written)
        return AKIN_OK;
    size_t words = view->bits->words, tail = view->rows % 64;
    uint64_t *dead = memory_alloc(words, sizeof *dead);
    if (!dead)
        return error_memory(error);
    for (size_t i = 0; i < words; i++)
        dead[i] = ~view->bits->alive[i];
    if (tail)
        dead[words - 1] &= ((uint64_t)1 << tail) - 1;
    enum akin_status status =
        store_append_dead(c->store, dead, view->rows, &view->dead_frame, error);
    memory_free(dead);
    if (status == AKIN_OK)
        view->dead_written = view->bits->dead;
    return status;
}

static enum akin_status publish(struct collection *c, const struct job *job,
                                const struct snapshot *next, struct akin_error *error)
{
    struct store_segment_ref *refs = memory_alloc(next->sealed, sizeof *refs);
    if (!refs)
        return error_memory(error);
    for (size_t i = 0; i < next->sealed; i++)
        refs[i] = (struct store_segment_ref){ next->views[i].frame, next->views[i].dead_frame };
    struct collection_state state = { .version = 1, .next_id = c->next_id };
    struct store_layout layout = {
        .segments = refs, .segment_count = next->sealed,
        .sealed = job->tail ? job->sealed : store_layout(c->store)->sealed, .state = &state,
        .state_bytes = sizeof state,
    };
    enum akin_status status = store_publish(c->store, &layout, error);
    memory_free(refs);
    return status;
}

static void swap_maps(struct collection *c, struct number_map *ids, struct string_map *keys)
{
    struct number_map old_ids = c->tail_ids;
    struct string_map old_keys = c->tail_keys;
    c->tail_ids = *ids;
    c->tail_keys = *keys;
    *ids = old_ids;
    *keys = old_keys;
}

/* Before the first smaller one: what a large part says about a query spares work in the others. */
static void put_by_size(struct snapshot *next, const struct view *made)
{
    size_t at = next->count++;
    for (; at && next->views[at - 1].rows < made->rows; at--)
        next->views[at] = next->views[at - 1];
    view_copy(&next->views[at], made);
}

/* The sealed views of `next`, but for `made`, as they lie in the new file. */
static enum akin_status move_views(const struct collection *c, const struct job *job,
                                   struct snapshot *next, const struct view *made,
                                   struct akin_error *error)
{
    for (size_t i = 0; i < next->sealed; i++) {
        struct view *view = &next->views[i];
        struct part *part = NULL;
        size_t j = 0;
        if (view->part == made->part)
            continue;
        while (j < job->moved_count && job->moved[j].part != view->part)
            j++;
        ASSERT(j < job->moved_count);
        view->frame = job->moved[j].frame;
        view->dead_frame = view->dead_written = 0;
        TRY(part_open(c, view->frame, &part, error));
        part->number = view->part->number;
        part_release(view->part);
        view->part = part;
    }
    return AKIN_OK;
}

/* `made` (part NULL: none) in the place of the job's sources. */
static enum akin_status replace(struct collection *c, const struct job *job, struct view *made,
                                struct akin_error *error)
{
    const struct snapshot *now = job_now(c, job);
    struct snapshot *next = snapshot_create(now->count + 1);
    if (!next)
        return error_memory(error);
    struct number_map ids = { 0 };
    struct string_map keys = { 0 };
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; i < now->sealed; i++)
        if (!is_source(job, now->views[i].part))
            view_copy(&next->views[next->count++], &now->views[i]);
    if (made->part)
        put_by_size(next, made);
    next->sealed = next->count;
    for (size_t i = now->sealed; i < now->count; i++)
        if (!is_source(job, now->views[i].part))
            view_copy(&next->views[next->count++], &now->views[i]);
    if (job->before)
        TRY_DONE(move_views(c, job, next, made, error));
    for (size_t i = 0; i < next->sealed; i++)
        if (job->tail || job->before || next->views[i].part == made->part)
            TRY_DONE(write_dead(c, &next->views[i], error));
    edit_count(next);
    TRY_DONE(tail_index(c, next, &ids, &keys, error));
    TRY_DONE(publish(c, job, next, error));
    if (job->before)
        status = store_appear(c->store, job->before, error);
    if (!store_appeared(c->store))
        goto done;
    swap_maps(c, &ids, &keys);
    snapshot_put(c, next);
    next = NULL;
done:
    number_map_deinit(&ids);
    string_map_deinit(&keys);
    snapshot_release(next);
    return status;
}

enum akin_status job_place(struct collection *c, const struct job *job, uint64_t frame,
                           struct akin_error *error)
{
    struct view made = { .frame = frame, .rows = job->rows };
    enum akin_status status = AKIN_OK;
    if (job->rows) {
        TRY_DONE(part_open(c, made.frame, &made.part, error));
        made.part->number = c->next_part++;
        TRY_DONE(late_deaths(c, job, &made, error));
    }
    status = replace(c, job, &made, error);
done:
    if (made.part)
        view_release(&made);
    return status;
}

static enum akin_status finish(struct collection *c, const struct job *job,
                               struct store_segment_writer **writer, struct akin_error *error)
{
    uint64_t frame = 0;
    if (job->rows)
        TRY(store_segment_end(writer, job->kind, job->rows, &frame, error));
    TRY(job_place(c, job, frame, error));
    return store_sync(c->store, NULL, error);
}

enum akin_status job_run(struct collection *c, struct job *job, struct akin_error *error)
{
    struct store_segment_writer *writer = NULL;
    enum akin_status status = AKIN_OK;
    if (job->rows) {
        mutex_lock(c->writing);
        status = store_segment_begin(c->store, &writer, error);
        mutex_unlock(c->writing);
        TRY(status);
        struct segment_sink sink = store_segment_sink(writer);
        status = job_write(c, job, &sink, error);
    }
    mutex_lock(c->writing);
    if (status == AKIN_OK)
        status = finish(c, job, &writer, error);
    store_segment_abort(&writer);
    mutex_unlock(c->writing);
    return status;
}

/* ---- in the background ------------------------------------------------------------------- */

static bool go_on(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    struct collection *c = cookie;
    (void)stage;
    (void)done;
    (void)total;
    return !atomic_load(&c->stopping);
}

enum akin_status seal_run(struct collection *c, struct job *job, struct akin_error *error)
{
    mutex_unlock(c->writing);
    enum akin_status status = job_run(c, job, error);
    job_deinit(job);
    mutex_lock(c->writing);
    if (status == AKIN_OK)
        c->failed_tail = 0;
    condition_wake(c->changed);
    return status;
}

static bool plan(struct background *b, struct job *job)
{
    return b->merges ? plan_merge(b->c, job) : plan_tail(b->c, false, job);
}

/* Before it ends the tail is sealed if it is long, so that who opens the file need not read it; a
 * merge is given up: the next writer begins it anew. */
void seal_background(void *context)
{
    struct background *b = context;
    struct collection *c = b->c;
    struct akin_progress progress = { .cookie = c, .update = go_on };
    mutex_lock(c->writing);
    for (;;) {
        struct job job = { 0 };
        bool stopping = atomic_load(&c->stopping);
        if (b->busy || (stopping && b->merges) || !plan(b, &job)) {
            job_deinit(&job);
            if (stopping)
                break;
            condition_wait(c->changed, c->writing);
            continue;
        }
        job.backend = b->backend;
        job.pool = b->pool;
        job.progress = b->merges ? &progress : NULL;
        b->busy = true;
        size_t rows = tail_rows(c->current);
        if (seal_run(c, &job, &c->failure) != AKIN_OK && !atomic_load(&c->stopping))
            c->failed_tail = rows + 1;
        b->busy = false;
        condition_wake(c->changed);
    }
    mutex_unlock(c->writing);
}

/* ---- on demand --------------------------------------------------------------------------- */

enum akin_status seal_claim(struct collection *c, struct akin_error *error)
{
    if (!c->writable)
        return error_set(error, AKIN_ARGUMENT, "%s: is open for reading only", c->path);
    mutex_lock(c->writing);
    while (c->sealer.busy || c->merger.busy)
        condition_wait(c->changed, c->writing);
    c->sealer.busy = c->merger.busy = true;
    return AKIN_OK;
}

void seal_unclaim(struct collection *c)
{
    c->sealer.busy = c->merger.busy = false;
    condition_wake(c->changed);
    mutex_unlock(c->writing);
}

enum akin_status collection_seal(struct collection *c, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    TRY(seal_claim(c, error));
    for (bool tail = true; status == AKIN_OK; tail = false) {
        struct job job = { 0 };
        if (tail ? plan_tail(c, true, &job) : plan_merge(c, &job)) {
            job.backend = c->host.backend;
            job.pool = c->host.pool;
            status = seal_run(c, &job, error);
        } else if (!tail) {
            job_deinit(&job);
            break;
        }
        job_deinit(&job);
    }
    seal_unclaim(c);
    return status;
}
