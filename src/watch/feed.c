#include "watch/feed.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/limits.h"

enum {
    IDLE_MS = 100,              /* that a source is waited for, before it is looked for a stop */
    UNSTORED_MS = 5,            /* the same while something is on its way to be stored */
    KEEP_MS = 1,                /* the same while there is no room in the queue */
    DRAIN_MS = 2000,            /* that a source which goes on sending is read from after a stop */
};

static const uint64_t tell_drops_ns = 10000000000u;

__attribute__((format(printf, 2, 3)))
static void tell(struct feed *f, const char *format, ...)
{
    char line[1400];
    va_list list;
    if (!f->meeting->note)
        return;
    int n = snprintf(line, sizeof line, "%s: ", f->source->name);
    va_start(list, format);
    vsnprintf(line + n, sizeof line - (size_t)n, format, list);
    va_end(list);
    f->meeting->note(f->meeting->cookie, line);
}

static void fail(struct feed *f, enum akin_status status, const struct akin_error *error)
{
    tell(f, "the source has ended: %s", error->message);
    mutex_lock(f->meeting->lock);
    f->status = status;
    f->error = *error;
    f->ended = true;
    mutex_unlock(f->meeting->lock);
}

/* Passes on to the source what has become durable; *pending: not all of it has. false: it failed.
 */
static bool acknowledge(struct feed *f, bool *pending)
{
    struct akin_error error;
    mutex_lock(f->meeting->lock);
    uint64_t stored = f->stored;
    mutex_unlock(f->meeting->lock);
    *pending = stored < f->handed;
    if (!*pending)
        stored = f->ticket; /* what was dropped behind it is let go of as well */
    if (stored == f->told)
        return true;
    f->told = stored;
    enum akin_status status = f->source->stored(f->source, stored, &error);
    if (status != AKIN_OK)
        fail(f, status, &error);
    return status == AKIN_OK;
}

/* Room in the queue; a source that waits is made to, others go on without. */
static struct arrival *find_slot(struct feed *f)
{
    mutex_lock(f->meeting->lock);
    struct arrival *slot = arrivals_slot(&f->queue);
    if (!slot && f->source->waits && !f->meeting->over)
        condition_wait_for(f->meeting->room, f->meeting->lock, (uint64_t)UNSTORED_MS * 1000000);
    mutex_unlock(f->meeting->lock);
    return slot;
}

static void tell_drops(struct feed *f, uint64_t dropped)
{
    uint64_t now = clock_monotonic_ns();
    if (f->told_dropped && now - f->told_dropped_ns < tell_drops_ns)
        return;
    tell(f, "%" PRIu64 " events DROPPED so far: they come faster than they are judged and stored",
         dropped);
    f->told_dropped = dropped;
    f->told_dropped_ns = now;
}

static void take(struct feed *f, struct arrival *slot, const struct event *event)
{
    bool filled = slot && arrival_fill(slot, event);
    f->ticket++;
    if (filled) {
        slot->ticket = f->handed = f->ticket;
        slot->arrived_ns = clock_monotonic_ns();
        slot->time_us = clock_unix_us();
    }
    mutex_lock(f->meeting->lock);
    f->received++;
    f->lost = f->source->lost;
    if (filled) {
        arrivals_push(&f->queue);
        condition_wake(f->meeting->arrived);
    } else {
        f->dropped++;
    }
    uint64_t dropped = f->dropped;
    mutex_unlock(f->meeting->lock);
    if (!filled)
        tell_drops(f, dropped);
}

/* Each power of ten is told. */
static void count_bad(struct feed *f, const struct akin_error *error)
{
    mutex_lock(f->meeting->lock);
    uint64_t bad = ++f->bad;
    mutex_unlock(f->meeting->lock);
    if (bad < (f->told_bad ? 10 * f->told_bad : 1))
        return;
    f->told_bad = bad;
    tell(f, "left out, %" PRIu64 " so far: %s", bad, error->message);
}

/* One look at the source; false: it has ended, or failed. Without room here, one that can keep what
 * comes is asked to. */
static bool read_one(struct feed *f, struct arrival *slot, int timeout_ms, bool *quiet)
{
    struct akin_error error;
    enum source_state state = SOURCE_QUIET;
    bool keep = !slot && f->source->keeps;
    enum akin_status status = f->source->next(f->source, keep ? KEEP_MS : timeout_ms,
                                              keep ? NULL : &f->event, &state, &error);
    *quiet = state == SOURCE_QUIET && !keep;
    if (keep) {
        mutex_lock(f->meeting->lock);
        f->lost = f->source->lost;
        mutex_unlock(f->meeting->lock);
    }
    if (status != AKIN_OK) {
        fail(f, status, &error);
        return false;
    }
    if (state == SOURCE_EVENT)
        take(f, slot, &f->event);
    else if (state == SOURCE_BAD)
        count_bad(f, &error);
    return state != SOURCE_END;
}

static void read_all(struct feed *f)
{
    uint64_t stopped_ns = 0;
    for (;;) {
        bool pending, quiet, stopping = atomic_load(f->meeting->stopping);
        if (stopping && !stopped_ns)
            stopped_ns = clock_monotonic_ns();
        if (stopping && (!f->drain || ms_since(stopped_ns) > DRAIN_MS))
            return;
        if (!acknowledge(f, &pending))
            return;
        struct arrival *slot = find_slot(f);
        if (!slot && f->source->waits)
            continue;
        if (!read_one(f, slot, stopping ? 0 : pending ? UNSTORED_MS : IDLE_MS, &quiet)
            || (stopping && quiet))
            return;
    }
}

static void run(void *context)
{
    struct feed *f = context;
    struct meeting *m = f->meeting;
    bool pending = true;
    read_all(f);
    mutex_lock(m->lock);
    f->ended = true;
    f->lost = f->source->lost;
    condition_wake(m->arrived);
    while (f->status == AKIN_OK && f->stored < f->handed && !m->over)
        condition_wait(m->room, m->lock);
    mutex_unlock(m->lock);
    if (f->status == AKIN_OK)
        (void)acknowledge(f, &pending);
    event_clear(&f->event);
}

enum akin_status feed_start(struct feed *feed, struct meeting *meeting,
                            struct event_source *source, bool drain, size_t queue_events,
                            struct akin_error *error)
{
    *feed = (struct feed){.meeting = meeting, .source = source, .drain = drain};
    if (!arrivals_init(&feed->queue, queue_events, EVENT_QUEUE_BYTES_MAX))
        return error_memory(error);
    feed->thread = thread_start(run, feed, false);
    if (!feed->thread) {
        arrivals_deinit(&feed->queue);
        return error_set(error, AKIN_MEMORY, "%s: the system starts no thread", source->name);
    }
    return AKIN_OK;
}

void feed_join(struct feed *feed)
{
    thread_join(&feed->thread);
    arrivals_deinit(&feed->queue);
}
