/* The ring between the workers and the step: a few windows of samples (sample_order.h), each filled
 * in parts by whichever worker is free, and handed out in order. Who fills what changes no bit. */
#include "train/samples.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/thread.h"
#include "train/sample_source.h"
#include "train/shards_work.h"

struct slot {
    int32_t *rows;              /* [order_rows_max][2][seq_len] */
    uint64_t window;            /* that it holds or is being filled with */
    size_t parts_left;
};

struct worker {
    struct samples *samples;
    struct thread *thread;
    void *reader;
    struct order_part part;
};

struct samples {
    struct samples_settings settings;
    char *folder;
    const struct sample_source *source;
    struct sample_order order;
    struct worker *workers;
    int worker_count;
    struct slot *slots;         /* window w is in slots[w % slot_count] */
    size_t slot_count, buffer_bytes;
    struct mutex *lock;         /* guards all up to the next comment */
    struct condition *work, *ready;
    bool running, stopping;
    int active;                 /* workers inside a fill */
    uint64_t window_next;       /* the next part to fill */
    size_t part_next;
    uint64_t window;            /* the one that is being handed out */
    struct akin_error failure;  /* the first one in the order of windows and parts */
    uint64_t failed_window;
    size_t failed_part;
    struct sample_effort effort;
    /* the caller's own */
    size_t row;                 /* of the window */
    struct samples_stats stats;
    uint64_t start_ns;
};

/* ---- workers ----------------------------------------------------------------------------- */

static bool is_work(const struct samples *s)
{
    return s->running && s->failure.status == AKIN_OK && s->window_next < s->order.windows &&
           s->window_next < s->window + s->slot_count;
}

static void note_failure(struct samples *s, uint64_t window, size_t part,
                         const struct akin_error *error)
{
    bool first = s->failure.status == AKIN_OK || window < s->failed_window ||
                 (window == s->failed_window && part < s->failed_part);
    if (!first)
        return;
    s->failure = *error;
    s->failed_window = window;
    s->failed_part = part;
}

/* Under the lock, which is left for the filling. */
static void do_part(struct samples *s, struct worker *worker)
{
    uint64_t window = s->window_next;
    size_t part = s->part_next++, parts = order_window_parts(&s->order, window);
    struct slot *slot = &s->slots[window % s->slot_count];
    if (part == 0) {
        slot->window = window;
        slot->parts_left = parts;
    }
    if (s->part_next == parts) {
        s->window_next++;
        s->part_next = 0;
    }
    s->active++;
    mutex_unlock(s->lock);
    struct akin_error error = { 0 };
    struct sample_effort effort = { 0 };
    order_part(&s->order, window, part, &worker->part);
    enum akin_status status =
        s->source->fill(&s->settings, worker->reader, &worker->part, slot->rows, &effort, &error);
    mutex_lock(s->lock);
    s->active--;
    s->effort.bytes += effort.bytes;
    s->effort.seconds += effort.seconds;
    s->effort.direct |= effort.direct;
    if (status != AKIN_OK)
        note_failure(s, window, part, &error);
    if (--slot->parts_left == 0 || s->active == 0)
        condition_wake(s->ready);
}

static void run_worker(void *context)
{
    struct worker *worker = context;
    struct samples *s = worker->samples;
    mutex_lock(s->lock);
    while (!s->stopping) {
        if (is_work(s))
            do_part(s, worker);
        else
            condition_wait(s->work, s->lock);
    }
    mutex_unlock(s->lock);
}

/* ---- opening ----------------------------------------------------------------------------- */

static enum akin_status take_settings(struct samples *s, const struct samples_settings *settings,
                                      struct akin_error *error)
{
    struct shard_layout layout = {
        settings->sample_count, settings->seq_len, settings->vocab, settings->shard_count,
        settings->data_dir ? settings->token_type : TOKEN_I64,
    };
    s->settings = *settings;
    s->settings.world = settings->world ? settings->world : 1;
    s->settings.workers = settings->workers < 1 ? 1 : settings->workers;
    if (settings->workers > THREADS_MAX)
        return error_set(error, AKIN_LIMIT, "num-workers: at most %d, not %d", THREADS_MAX,
                         settings->workers);
    if (s->settings.rank >= s->settings.world)
        return error_set(error, AKIN_ARGUMENT, "rank %zu is none of a world of %zu",
                         s->settings.rank, s->settings.world);
    if (!settings->data_dir)
        layout.shard_count = 1;
    TRY(shard_layout_complete(&layout, error));
    if (layout.sample_count < s->settings.world)
        return error_set(error, AKIN_ARGUMENT,
                         "num-samples: %zu ranks want at least one each, not %" PRIu64 " in all",
                         s->settings.world, layout.sample_count);
    s->settings.shard_count = layout.shard_count;
    s->source = samples_memory();
    if (!settings->data_dir)
        return AKIN_OK;
    s->source = samples_disk();
    s->settings.data_dir = s->folder = memory_copy_string(settings->data_dir);
    if (!s->folder)
        return error_memory(error);
    bool direct = shards_want_direct(&layout, settings->io);
    s->settings.io = direct ? SHARD_IO_DIRECT : SHARD_IO_CACHED;
    if (direct && s->settings.workers < SHARD_DIRECT_READERS)
        s->settings.workers = SHARD_DIRECT_READERS;
    return shards_verify(s->folder, &layout, error);
}

static enum akin_status make_slots(struct samples *s, struct akin_error *error)
{
    size_t parts = s->order.lanes_mine, rows = order_rows_max(&s->order), row_bytes, bytes;
    size_t busy = (2 * (size_t)s->settings.workers + parts - 1) / parts + 1;
    s->slot_count = busy < 3 ? 3 : busy;
    if (s->slot_count > s->order.windows)
        s->slot_count = s->order.windows ? (size_t)s->order.windows : 1;
    if (!size_mul(2 * s->settings.seq_len, sizeof(int32_t), &row_bytes) ||
        !size_mul(rows, row_bytes, &bytes) || !size_mul(bytes, s->slot_count, &s->buffer_bytes))
        return error_memory(error);
    s->slots = memory_alloc(s->slot_count, sizeof *s->slots);
    if (!s->slots)
        return error_memory(error);
    for (size_t i = 0; i < s->slot_count; i++)
        if (!(s->slots[i].rows = memory_alloc_aligned(rows, row_bytes)))
            return error_memory(error);
    return AKIN_OK;
}

static enum akin_status start_workers(struct samples *s, struct akin_error *error)
{
    s->workers = memory_alloc((size_t)s->settings.workers, sizeof *s->workers);
    if (!s->workers)
        return error_memory(error);
    for (int i = 0; i < s->settings.workers; i++) {
        struct worker *worker = &s->workers[i];
        worker->samples = s;
        s->worker_count = i + 1;
        worker->part.rows =
            memory_alloc(order_part_rows_max(&s->order), sizeof *worker->part.rows);
        if (!worker->part.rows)
            return error_memory(error);
        TRY(s->source->reader_create(&s->settings, &worker->reader, error));
        worker->thread = thread_start(run_worker, worker, false);
        if (!worker->thread)
            return error_set(error, AKIN_MEMORY,
                             "num-workers: the system starts no thread after %d", i);
    }
    return AKIN_OK;
}

static enum akin_status open_all(struct samples *s, const struct samples_settings *settings,
                                 struct akin_error *error)
{
    TRY(take_settings(s, settings, error));
    s->order = (struct sample_order){
        .sample_count = s->settings.sample_count, .seed = s->settings.seed,
        .rank = s->settings.rank, .world = s->settings.world, .seq_len = s->settings.seq_len,
        .batch = s->settings.batch, .shuffle = s->settings.shuffle,
    };
    TRY(sample_order_init(&s->order, error));
    TRY(make_slots(s, error));
    s->lock = mutex_create();
    s->work = condition_create();
    s->ready = condition_create();
    if (!s->lock || !s->work || !s->ready)
        return error_memory(error);
    return start_workers(s, error);
}

enum akin_status samples_open(const struct samples_settings *settings, struct samples **samples,
                              struct akin_error *error)
{
    struct samples *s = memory_alloc(1, sizeof *s);
    if (!s)
        return error_memory(error);
    enum akin_status status = open_all(s, settings, error);
    if (status == AKIN_OK)
        *samples = s;
    else
        samples_close(&s);
    return status;
}

void samples_close(struct samples **samples)
{
    struct samples *s = *samples;
    if (!s)
        return;
    if (s->worker_count) {
        mutex_lock(s->lock);
        s->stopping = true;
        condition_wake(s->work);
        mutex_unlock(s->lock);
    }
    for (int i = 0; i < s->worker_count; i++) {
        thread_join(&s->workers[i].thread);
        s->source->reader_destroy(s->workers[i].reader);
        memory_free(s->workers[i].part.rows);
    }
    memory_free(s->workers);
    for (size_t i = 0; s->slots && i < s->slot_count; i++)
        memory_free(s->slots[i].rows);
    memory_free(s->slots);
    condition_destroy(&s->ready);
    condition_destroy(&s->work);
    mutex_destroy(&s->lock);
    sample_order_deinit(&s->order);
    memory_free(s->folder);
    memory_free(s);
    *samples = NULL;
}

/* ---- handing out ------------------------------------------------------------------------- */

uint64_t samples_per_epoch(const struct samples *samples)
{
    return samples->order.rank_samples;
}

void samples_epoch(struct samples *samples, uint32_t epoch)
{
    struct samples *s = samples;
    mutex_lock(s->lock);
    s->running = false;
    while (s->active)
        condition_wait(s->ready, s->lock);
    sample_order_epoch(&s->order, epoch);
    for (int i = 0; i < s->worker_count; i++)
        s->source->reader_rewind(s->workers[i].reader);
    for (size_t i = 0; i < s->slot_count; i++)
        s->slots[i].window = UINT64_MAX;
    s->window = s->window_next = 0;
    s->part_next = 0;
    s->failure = (struct akin_error){ 0 };
    s->effort = (struct sample_effort){ 0 };
    s->running = true;
    condition_wake(s->work);
    mutex_unlock(s->lock);
    s->row = 0;
    s->stats = (struct samples_stats){ 0 };
    s->start_ns = clock_monotonic_ns();
}

/* Until the present window is whole, or has failed and nobody can fail before it any more. */
static enum akin_status wait_for_window(struct samples *s, struct akin_error *error)
{
    const struct slot *slot = &s->slots[s->window % s->slot_count];
    uint64_t start = 0;
    enum akin_status status = AKIN_OK;
    mutex_lock(s->lock);
    while (slot->window != s->window || slot->parts_left) {
        if (s->failure.status != AKIN_OK && s->active == 0)
            break;
        if (!start)
            start = clock_monotonic_ns();
        condition_wait(s->ready, s->lock);
    }
    if (s->failure.status != AKIN_OK && s->window >= s->failed_window) {
        while (s->active)
            condition_wait(s->ready, s->lock);
        status = s->failure.status;
        if (error)
            *error = s->failure;
    }
    mutex_unlock(s->lock);
    if (start)
        s->stats.wait_seconds += (double)(clock_monotonic_ns() - start) * 1e-9;
    return status;
}

static void next_window(struct samples *s)
{
    s->row = 0;
    mutex_lock(s->lock);
    s->window++;
    condition_wake(s->work);
    mutex_unlock(s->lock);
}

enum akin_status samples_next(struct samples *samples, size_t batch, int32_t *source,
                              int32_t *target, size_t *got, struct akin_error *error)
{
    struct samples *s = samples;
    size_t length = s->settings.seq_len, done = 0;
    ASSERT(s->running && (!s->settings.batch || batch == s->settings.batch));
    bool whole = s->order.rank_samples - s->stats.samples >= batch;
    while (done < batch && s->window < s->order.windows) {
        TRY(wait_for_window(s, error));
        const int32_t *rows = s->slots[s->window % s->slot_count].rows;
        size_t end = order_window_rows(&s->order, s->window);
        for (; done < batch && s->row < end; done++, s->row++) {
            size_t at = (whole ? order_place(&s->order, done) : done) * length;
            memcpy(source + at, rows + 2 * s->row * length, length * sizeof *source);
            memcpy(target + at, rows + (2 * s->row + 1) * length, length * sizeof *target);
        }
        if (s->row == end)
            next_window(s);
    }
    s->stats.samples += done;
    s->stats.seconds = (double)(clock_monotonic_ns() - s->start_ns) * 1e-9;
    *got = done;
    return AKIN_OK;
}

void samples_stats(const struct samples *samples, struct samples_stats *stats)
{
    const struct samples *s = samples;
    *stats = s->stats;
    mutex_lock(s->lock);
    stats->bytes_read = s->effort.bytes;
    stats->read_seconds = s->effort.seconds;
    stats->direct = s->effort.direct;
    mutex_unlock(s->lock);
    stats->gb_per_second = stats->seconds > 0 ? (double)stats->bytes_read / stats->seconds * 1e-9
                                              : 0;
    stats->buffer_bytes = s->buffer_bytes;
}
