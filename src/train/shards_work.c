/* Threads that take shards in order; the caller's thread waits, and reports what they did. */
#include "train/shards_work.h"

#include "base/file_at.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/thread.h"

struct shards_work {
    const struct shard_job *job;
    struct mutex *lock;         /* guards all below */
    struct condition *changed;
    size_t next, end;           /* shards from `end` on need not be done: one before has failed */
    int running;
    bool cancelled;
    uint64_t done_bytes;
    enum akin_status status;    /* of shard `end` */
    struct akin_error error;
};

size_t shard_part_samples(const struct shard_layout *layout)
{
    size_t bytes = shard_sample_bytes(layout);
    return bytes < SHARD_PART_BYTES ? SHARD_PART_BYTES / bytes : 1;
}

unsigned char *shard_part_buffer(const struct shard_layout *layout, void **block)
{
    size_t bytes = shard_part_samples(layout) * shard_sample_bytes(layout);
    *block = memory_alloc_aligned(bytes + 3 * FILE_BLOCK_BYTES, 1);
    uintptr_t at = (uintptr_t)*block;
    if (!*block)
        return NULL;
    return (unsigned char *)*block + (FILE_BLOCK_BYTES - at % FILE_BLOCK_BYTES) % FILE_BLOCK_BYTES;
}

bool shards_tell(struct shards_work *work, size_t shard, uint64_t bytes)
{
    mutex_lock(work->lock);
    work->done_bytes += bytes;
    bool go_on = !work->cancelled && shard < work->end;
    condition_wake(work->changed);
    mutex_unlock(work->lock);
    return go_on;
}

static void run_worker(void *context)
{
    struct shards_work *work = context;
    mutex_lock(work->lock);
    while (!work->cancelled && work->next < work->end) {
        size_t shard = work->next++;
        struct akin_error error = { 0 };
        mutex_unlock(work->lock);
        enum akin_status status = work->job->each(work->job->context, work, shard, &error);
        mutex_lock(work->lock);
        if (status != AKIN_OK && !work->cancelled && shard < work->end) {
            work->end = shard;
            work->status = status;
            work->error = error;
        }
    }
    work->running--;
    condition_wake(work->changed);
    mutex_unlock(work->lock);
}

/* Until all threads have ended. Progress is told outside the lock. */
static void wait_for_workers(struct shards_work *work)
{
    const struct shard_job *job = work->job;
    uint64_t told = 0;
    mutex_lock(work->lock);
    while (work->running) {
        if (work->cancelled || told == work->done_bytes) {
            condition_wait(work->changed, work->lock);
            continue;
        }
        told = work->done_bytes;
        mutex_unlock(work->lock);
        bool go_on = !job->progress.update || job->progress.update(job->progress.cookie, job->stage,
                                                                   told, job->total_bytes);
        mutex_lock(work->lock);
        work->cancelled |= !go_on;
    }
    mutex_unlock(work->lock);
}

enum akin_status shards_work_run(const struct shard_job *job, struct akin_error *error)
{
    struct thread *threads[THREADS_MAX] = { 0 };
    struct shards_work work = {
        .job = job, .end = job->shard_count,
        .lock = mutex_create(), .changed = condition_create(),
    };
    int wanted = job->workers < 1 ? 1 : job->workers < THREADS_MAX ? job->workers : THREADS_MAX;
    if ((size_t)wanted > job->shard_count)
        wanted = (int)job->shard_count;
    if (!work.lock || !work.changed) {
        condition_destroy(&work.changed);
        mutex_destroy(&work.lock);
        return error_memory(error);
    }
    mutex_lock(work.lock);
    for (int i = 0; i < wanted; i++)
        if ((threads[work.running] = thread_start(run_worker, &work, false)))
            work.running++;
    int started = work.running;
    mutex_unlock(work.lock);
    wait_for_workers(&work);
    for (int i = 0; i < started; i++)
        thread_join(&threads[i]);
    condition_destroy(&work.changed);
    mutex_destroy(&work.lock);
    if (!started && job->shard_count)
        return error_set(error, AKIN_MEMORY, "%s: the system starts no thread", job->stage);
    if (work.cancelled)
        return error_set(error, AKIN_CANCELLED, "%s: stopped", job->stage);
    if (work.status != AKIN_OK && error)
        *error = work.error;
    if (work.status == AKIN_OK && job->progress.update)
        (void)job->progress.update(job->progress.cookie, job->stage, job->total_bytes,
                                   job->total_bytes);
    return work.status;
}
