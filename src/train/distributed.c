/* The group of one rank: the queue of what is to be summed, the thread that does it, and the end,
 * orderly or not. How bytes travel is the links' (distributed_fork.c, _tcp.c, _mpi.c). */
#include "train/distributed.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/thread.h"
#include "train/distributed_ring.h"

/* How often a rank that moves bytes all the time looks after the others, and one that waits. */
enum { LOOK_MILLISECONDS = 100, WAIT_MILLISECONDS = 500, MEASURES = 7 };

struct process_group {
    struct gradient_reducer reducer;
    struct ring_link link;
    size_t rank, world, local_rank, local_world;
    void (*lost)(void *context, const struct akin_error *error);
    void *lost_context;

    struct mutex *mutex;        /* of all that follows but the ring */
    struct condition *changed;
    struct ring_job jobs[RING_JOBS_MAX];
    uint64_t begun, done;
    bool stopping, failing, asked;
    struct akin_error error;    /* status other than AKIN_OK: a rank is lost, or this one fails */
    struct process_group_report report;
    uint64_t busy_since_ns;     /* while begun > done */

    struct thread *thread;
    struct ring ring;           /* the thread's */
};

/* ---- the thread ------------------------------------------------------------------------- */

static void publish(struct process_group *group, uint64_t done)
{
    mutex_lock(group->mutex);
    group->report.bytes_sent += group->ring.bytes_sent;
    group->ring.bytes_sent = 0;
    if (done > group->done) {
        group->done = done;
        if (done == group->begun)
            group->report.summing_seconds += seconds_since(group->busy_since_ns);
        condition_wake(group->changed);
    }
    mutex_unlock(group->mutex);
}

/* Whoever waits is told; a caller that does not ask in time is ended by `lost`. */
static void tell_failure(struct process_group *group, const struct akin_error *error)
{
    mutex_lock(group->mutex);
    bool own = group->failing;
    if (!own)
        group->error = *error;
    struct akin_error told = group->error;
    condition_wake(group->changed);
    mutex_unlock(group->mutex);
    group->link.fail(group->link.context, told.message);

    uint64_t start = clock_monotonic_ns();
    bool over = own || !group->lost;
    while (!over && seconds_since(start) < LOST_GRACE_SECONDS) {
        struct akin_error ignored;
        group->link.wait(group->link.context, false, false, LOOK_MILLISECONDS, &ignored);
        mutex_lock(group->mutex);
        over = group->asked || group->stopping;
        mutex_unlock(group->mutex);
    }
    if (!over)
        group->lost(group->lost_context, &told);
}

static void thread_main(void *context)
{
    struct process_group *group = context;
    struct akin_error error = { AKIN_OK, "" };
    uint64_t looked = clock_monotonic_ns();
    enum akin_status status = AKIN_OK;
    bool failing = false;
    for (bool moved = false; status == AKIN_OK;) {
        mutex_lock(group->mutex);
        uint64_t begun = group->begun;
        failing = group->failing;
        bool over = failing || (group->stopping && group->done == begun);
        mutex_unlock(group->mutex);
        if (over)
            break;
        status = ring_step(&group->ring, begun, &moved, &error);
        publish(group, ring_done(&group->ring, begun));
        if (status == AKIN_OK && (!moved || seconds_since(looked) > 1e-3 * LOOK_MILLISECONDS)) {
            status = group->link.wait(group->link.context, group->ring.full, !group->ring.held,
                                      moved ? 0 : WAIT_MILLISECONDS, &error);
            looked = clock_monotonic_ns();
        }
    }
    if (status != AKIN_OK || failing)
        tell_failure(group, &error);
}

/* ---- callers ---------------------------------------------------------------------------- */

static void begin(struct process_group *group, enum ring_kind kind, void *values, size_t count)
{
    if (!count)
        return;
    mutex_lock(group->mutex);
    while (group->begun - group->done == RING_JOBS_MAX && group->error.status == AKIN_OK)
        condition_wait(group->changed, group->mutex);
    if (group->error.status == AKIN_OK) {
        if (group->begun == group->done)
            group->busy_since_ns = clock_monotonic_ns();
        group->jobs[group->begun++ % RING_JOBS_MAX] = (struct ring_job){ kind, values, count };
        group->report.sums++;
    }
    mutex_unlock(group->mutex);
    group->link.wake(group->link.context);
}

static enum akin_status wait_all(struct process_group *group, struct akin_error *error)
{
    uint64_t start = clock_monotonic_ns();
    mutex_lock(group->mutex);
    while (group->done < group->begun && group->error.status == AKIN_OK)
        condition_wait(group->changed, group->mutex);
    enum akin_status status = group->error.status;
    group->report.waited_seconds += seconds_since(start);
    if (status != AKIN_OK) {
        group->asked = true;
        if (error)
            *error = group->error;
    }
    mutex_unlock(group->mutex);
    return status;
}

static void reducer_start(void *context, float *gradients, size_t offset, size_t count)
{
    begin(context, RING_FLOATS, gradients + offset, count);
}

static enum akin_status reducer_wait(void *context, struct akin_error *error)
{
    return wait_all(context, error);
}

static enum akin_status reducer_sum(void *context, double *value, struct akin_error *error)
{
    return process_group_sum(context, value, 1, error);
}

enum akin_status process_group_sum(struct process_group *group, double *values, size_t count,
                                   struct akin_error *error)
{
    if (group->world == 1)
        return AKIN_OK;
    begin(group, RING_DOUBLES, values, count);
    return wait_all(group, error);
}

void process_group_fail(struct process_group *group, const char *why)
{
    if (group->world == 1)
        return;
    mutex_lock(group->mutex);
    if (group->error.status == AKIN_OK) {
        group->failing = true;
        error_set(&group->error, AKIN_NETWORK, "rank %zu stopped: %.*s", group->rank, 900, why);
    }
    group->asked = true;
    mutex_unlock(group->mutex);
    group->link.wake(group->link.context);
    thread_join(&group->thread);
}

size_t process_group_rank(const struct process_group *group)
{
    return group->rank;
}

size_t process_group_world(const struct process_group *group)
{
    return group->world;
}

size_t process_group_local_rank(const struct process_group *group)
{
    return group->local_rank;
}

size_t process_group_local_world(const struct process_group *group)
{
    return group->local_world;
}

const char *process_group_link(const struct process_group *group)
{
    return group->world == 1 ? "alone" : group->link.name;
}

const struct gradient_reducer *process_group_reducer(struct process_group *group)
{
    return group->world == 1 ? NULL : &group->reducer;
}

void process_group_report(struct process_group *group, struct process_group_report *report)
{
    *report = (struct process_group_report){ 0 };
    if (group->world == 1)
        return;
    mutex_lock(group->mutex);
    *report = group->report;
    group->report = (struct process_group_report){ 0 };
    mutex_unlock(group->mutex);
}

/* ---- how fast --------------------------------------------------------------------------- */

static void sort(double *values, size_t count)
{
    for (size_t i = 1; i < count; i++)
        for (size_t j = i; j && values[j] < values[j - 1]; j--) {
            double larger = values[j - 1];
            values[j - 1] = values[j];
            values[j] = larger;
        }
}

/* The median of the times of one job, after a first one that is not counted. */
static enum akin_status time_job(struct process_group *group, enum ring_kind kind, float *values,
                                 size_t count, double *seconds, struct akin_error *error)
{
    double times[MEASURES], together = 0;
    for (int i = -1; i < MEASURES; i++) {
        TRY(process_group_sum(group, &together, 1, error));
        uint64_t start = clock_monotonic_ns();
        begin(group, kind, values, count);
        TRY(wait_all(group, error));
        if (i >= 0)
            times[i] = seconds_since(start);
    }
    sort(times, MEASURES);
    *seconds = times[MEASURES / 2];
    TRY(process_group_sum(group, seconds, 1, error));
    *seconds /= (double)group->world;
    return AKIN_OK;
}

enum akin_status process_group_measure(struct process_group *group, size_t count,
                                       struct process_group_speed *speed, struct akin_error *error)
{
    *speed = (struct process_group_speed){ 0 };
    if (group->world == 1 || !count)
        return AKIN_OK;
    struct process_group_report before, ignored;
    process_group_report(group, &before);
    float *values = memory_alloc(count, sizeof *values);
    double probe = 0;
    enum akin_status status = values ? AKIN_OK : error_memory(error);
    if (status == AKIN_OK)
        status = time_job(group, RING_PROBE, values, count, &probe, error);
    if (status == AKIN_OK)
        status = time_job(group, RING_FLOATS, values, count, &speed->measured_seconds, error);
    memory_free(values);
    process_group_report(group, &ignored);
    mutex_lock(group->mutex);
    group->report = before;
    mutex_unlock(group->mutex);
    /* The links together carry the numbers 2 (N - 1) times, where a probe has them carry N. Where
     * each link has a wire of its own the busiest counts: twice, but once of two ranks. */
    double n = (double)group->world;
    bool shared = group->local_world == group->world;
    speed->link_bytes_per_second = probe > 0 ? (double)count * sizeof(float) / probe : 0;
    speed->expected_seconds = probe * (shared || n == 2 ? 2 * (n - 1) / n : 2);
    return status;
}

/* ---- begin and end ---------------------------------------------------------------------- */

/* Ranks of one machine know each other by what the kernel drew at boot. */
static enum akin_status find_local_ranks(struct process_group *group, size_t local_rank,
                                         struct akin_error *error)
{
    double *machines = memory_alloc(group->world, sizeof *machines);
    if (!machines)
        return error_memory(error);
    struct bytes boot = { 0 };
    if (file_read("/proc/sys/kernel/random/boot_id", 4096, &boot, NULL) != AKIN_OK)
        bytes_clear(&boot);
    uint64_t id = hash_bytes(boot.data ? boot.data : "", boot.count);
    machines[group->rank] = (double)(id >> 12);
    bytes_deinit(&boot);
    enum akin_status status = process_group_sum(group, machines, group->world, error);
    group->local_rank = group->local_world = 0;
    for (size_t i = 0; status == AKIN_OK && i < group->world; i++)
        if (machines[i] == machines[group->rank]) {
            group->local_world++;
            group->local_rank += i < group->rank;
        }
    if (local_rank != SIZE_MAX)
        group->local_rank = local_rank;
    memory_free(machines);
    return status;
}

static void close_group(struct process_group *group)
{
    mutex_lock(group->mutex);
    group->stopping = true;
    mutex_unlock(group->mutex);
    group->link.wake(group->link.context);
    thread_join(&group->thread);
}

/* The link's too. */
static enum akin_status run_group(struct process_group *group, size_t local_rank,
                                  int (*body)(void *context, struct process_group *group),
                                  void *context, int *exit_code, struct akin_error *error)
{
    group->reducer = (struct gradient_reducer){
        .context = group, .start = reducer_start, .wait = reducer_wait, .sum = reducer_sum,
        .rank = group->rank, .world = group->world,
    };
    group->thread = thread_start(thread_main, group, false);
    if (!group->thread)
        return error_set(error, AKIN_MEMORY, "the system refuses another thread");
    enum akin_status status = find_local_ranks(group, local_rank, error);
    if (status == AKIN_OK) {
        *exit_code = body(context, group);
        double together = 0;
        if (*exit_code == 0 && group->thread) {
            group->link.leaving(group->link.context);
            status = process_group_sum(group, &together, 1, error);
        } else if (group->thread) {
            char why[64];
            snprintf(why, sizeof why, "its exit code is %d", *exit_code);
            process_group_fail(group, why);
        }
    }
    close_group(group);
    return status;
}

enum akin_status group_run_over(const struct launch_settings *settings, struct ring_link link,
                                size_t rank, size_t world, size_t local_rank,
                                int (*body)(void *context, struct process_group *group),
                                void *context, int *exit_code, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    struct process_group *group = memory_alloc(1, sizeof *group);
    if (group) {
        group->link = link;
        group->rank = rank;
        group->world = world;
        group->lost = settings->lost;
        group->lost_context = settings->lost_context;
        group->mutex = mutex_create();
        group->changed = condition_create();
    }
    if (!group || !group->mutex || !group->changed ||
        !ring_init(&group->ring, &link, rank, world, group->jobs))
        status = error_memory(error);
    if (status == AKIN_OK && world == 1) {
        group->local_world = 1;
        *exit_code = body(context, group);
    } else if (status == AKIN_OK) {
        status = run_group(group, local_rank, body, context, exit_code, error);
    }
    if (link.close)
        link.close(link.context);
    if (group) {
        ring_deinit(&group->ring);
        condition_destroy(&group->changed);
        mutex_destroy(&group->mutex);
        memory_free(group);
    }
    return status;
}
