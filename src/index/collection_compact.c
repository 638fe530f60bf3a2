/* A new file of what lives, in the place of the old one. It is written beside adds, searches and
 * the sealing of what comes meanwhile; the writer's lock is held for the tail alone, and for the
 * last segments that were sealed. */
#include "index/collection_parts.h"
#include "index/flat.h"

enum { ROUNDS_MAX = 8, LEFT_FEW = 2 };

struct compaction {
    struct collection *c;
    struct job job;                     /* of all that was sealed; no sources: that is one segment
                                         * already, which moves as it is */
    struct moved *moved;                /* [count] */
    size_t count, capacity;
    struct store *fresh;                /* the new file; once it is in place, the old one */
    uint64_t frame;                     /* of the job's segment in it */
};

static bool is_known(const struct compaction *w, const struct part *part)
{
    for (size_t i = 0; i < w->job.count; i++)
        if (w->job.sources[i].part == part)
            return true;
    for (size_t i = 0; i < w->count; i++)
        if (w->moved[i].part == part)
            return true;
    return false;
}

static size_t count_left(const struct compaction *w)
{
    const struct snapshot *s = w->c->current;
    size_t left = 0;
    for (size_t i = 0; i < s->sealed; i++)
        left += !is_known(w, s->views[i].part);
    return left;
}

/* Copies the segments that are neither sources nor copied yet. With `outside`, beside the writer,
 * through a handle that only reads; the lock is held on entry and exit. */
static enum akin_status copy_left(struct compaction *w, bool outside, struct akin_error *error)
{
    struct collection *c = w->c;
    struct store *from = c->store;
    size_t first = w->count, left = count_left(w);
    enum akin_status status = AKIN_OK;
    if (!left)
        return AKIN_OK;
    if (!array_reserve((void **)&w->moved, &w->capacity, first + left, sizeof *w->moved))
        return error_memory(error);
    for (size_t i = 0; i < c->current->sealed; i++) {
        const struct view *view = &c->current->views[i];
        if (is_known(w, view->part))
            continue;
        atomic_fetch_add(&view->part->refs, 1);
        w->moved[w->count++] = (struct moved){ view->part, view->frame };
    }
    if (outside) {
        TRY(store_sync(from, NULL, error));
        from = NULL;
        mutex_unlock(c->writing);
        status = store_open(c->path, STORE_READ, &from, error);
    }
    for (size_t i = first; i < w->count && status == AKIN_OK; i++) {
        struct store_segment_ref ref = { .frame = w->moved[i].frame }, copied;
        status = store_copy_segment(w->fresh, from, &ref, &copied, error);
        w->moved[i].frame = copied.frame;
    }
    if (outside) {
        store_close(&from);
        mutex_lock(c->writing);
    }
    return status;
}

/* The segment of the job, straight into the new file; without the lock. */
static enum akin_status write_job(struct compaction *w, struct akin_error *error)
{
    struct store_segment_writer *writer = NULL;
    struct job *job = &w->job;
    if (!job->rows)
        return AKIN_OK;
    TRY(store_segment_begin(w->fresh, &writer, error));
    struct segment_sink sink = store_segment_sink(writer);
    enum akin_status status = job_write(w->c, job, &sink, error);
    if (status == AKIN_OK)
        status = store_segment_end(&writer, job->kind, job->rows, &w->frame, error);
    store_segment_abort(&writer);
    return status;
}

/* The rest, while nothing changes: the old file's last segments and its tail, then the new file in
 * its place. */
static enum akin_status put_in_place(struct compaction *w, struct akin_error *error)
{
    struct collection *c = w->c;
    struct store *old = c->store;
    TRY(copy_left(w, false, error));
    TRY(store_start_at(w->fresh, store_layout(old)->sealed, error));
    TRY(store_copy_tail(w->fresh, old, error));
    w->job.before = old;
    w->job.moved = w->moved;
    w->job.moved_count = w->count;
    c->store = w->fresh;
    enum akin_status status = job_place(c, &w->job, w->frame, error);
    if (store_appeared(c->store))
        w->fresh = old;
    else
        c->store = old;
    return status;
}

/* ---- all of it --------------------------------------------------------------------------- */

/* What is in the tail now shall be in the segment as well. */
static enum akin_status seal_tail(struct compaction *w, struct akin_error *error)
{
    struct collection *c = w->c;
    struct job job = { 0 };
    enum akin_status status = AKIN_OK;
    if (plan_tail(c, true, &job)) {
        job.backend = w->job.backend;
        job.pool = w->job.pool;
        status = seal_run(c, &job, error);
    }
    job_deinit(&job);
    return status;
}

/* Whether a segment is what a new one of its rows would be. */
static bool is_compact(const struct collection *c, const struct view *view)
{
    char why[256];
    const struct flat *flat = segment_flat(view->part->segment);
    if (view_live(view) < view->rows ||
        view->part->stored->kind != plan_kind(&c->creation, view->rows, c->dim, why, sizeof why))
        return false;
    return !flat || view->rows < FLAT_SKETCHED_ROWS || flat_measured(flat) == view->rows;
}

static enum akin_status plan(struct compaction *w, struct akin_error *error)
{
    const struct snapshot *s = w->c->current;
    struct job planned = { 0 };
    if (s->sealed > 1 || (s->sealed && !is_compact(w->c, &s->views[0]))) {
        if (!plan_everything(w->c, &planned)) {
            job_deinit(&planned);
            return error_memory(error);
        }
        planned.backend = w->job.backend;
        planned.pool = w->job.pool;
        planned.progress = w->job.progress;
        w->job = planned;
    }
    return AKIN_OK;
}

static void wait_for_sealer(struct collection *c)
{
    while (c->sealer.busy)
        condition_wait(c->changed, c->writing);
    c->sealer.busy = true;
}

static enum akin_status write_file(struct compaction *w, struct akin_error *error)
{
    struct collection *c = w->c;
    struct store_settings settings = collection_store_settings(c);
    TRY(seal_tail(w, error));
    TRY(plan(w, error));
    TRY(store_create(c->path, &settings, &w->fresh, error));
    c->sealer.busy = false;             /* goes on, with what comes now */
    condition_wake(c->changed);
    mutex_unlock(c->writing);
    enum akin_status status = write_job(w, error);
    mutex_lock(c->writing);
    for (int i = 0; i < ROUNDS_MAX && status == AKIN_OK && (!i || count_left(w) > LEFT_FEW); i++)
        status = copy_left(w, true, error);
    mutex_unlock(c->writing);
    if (status == AKIN_OK)              /* so that little is left to wait for */
        status = store_sync(w->fresh, NULL, error);
    mutex_lock(c->writing);
    wait_for_sealer(c);
    return status == AKIN_OK ? put_in_place(w, error) : status;
}

enum akin_status collection_compact(struct collection *c, const struct akin_progress *progress,
                                    struct akin_error *error)
{
    struct compaction w = { .c = c, .job.progress = progress };
    struct thread_pool *pool = NULL;    /* of its own: searches take turns at the engine's */
    struct backend *backend = NULL;
    enum akin_status status = AKIN_OK;
    TRY(seal_claim(c, error));
    pool = thread_pool_create(thread_pool_size(c->host.pool));
    if (!pool)
        TRY_DONE(error_memory(error));
    TRY_DONE(cpu_backend_create(c->host.cpu_flags, pool, &backend, error));
    w.job.backend = backend;
    w.job.pool = pool;
    status = write_file(&w, error);
done:
    store_close(&w.fresh);
    for (size_t i = 0; i < w.count; i++)
        part_release(w.moved[i].part);
    memory_free(w.moved);
    job_deinit(&w.job);
    seal_unclaim(c);
    cpu_backend_destroy(&backend);
    thread_pool_destroy(&pool);
    return status;
}
