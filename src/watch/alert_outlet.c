/* Queue and thread of one sink. The thread holds no lock while the sink works. */
#include "watch/alert_outlet.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/thread.h"

struct waiting {
    char *line;
    size_t bytes;
};

struct outlet {
    struct alert_sink *sink;    /* of the thread */
    struct thread *thread;
    atomic_bool stop;
    size_t queue_max;
    struct mutex *lock;         /* guards what follows */
    struct condition *changed;
    struct waiting *queue;      /* [queue_max], a ring */
    size_t first, count, bytes;
    bool busy;                  /* one more is with the sink */
    bool away, refusing;        /* as of the last try */
    bool told_full;             /* since it was away */
    struct outlet_counts counts;
    struct bytes notes;         /* lines */
};

enum { NOTES_BYTES_MAX = 4096 };

/* ---- notes ------------------------------------------------------------------------------ */

__attribute__((format(printf, 2, 3))) static void note(struct outlet *o, const char *format, ...)
{
    char text[sizeof o->sink->name + sizeof ((struct akin_error *)0)->message + 128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (o->notes.count < NOTES_BYTES_MAX)
        bytes_printf(&o->notes, "alarms: %s %s\n", o->sink->name, text);
}

bool outlet_note(struct outlet *outlet, char *text, size_t bytes)
{
    mutex_lock(outlet->lock);
    char *end = outlet->notes.count ? memchr(outlet->notes.data, '\n', outlet->notes.count) : NULL;
    if (end) {
        size_t count = (size_t)(end - outlet->notes.data);
        snprintf(text, bytes, "%.*s", (int)count, outlet->notes.data);
        outlet->notes.count -= count + 1;
        memmove(outlet->notes.data, end + 1, outlet->notes.count);
    }
    mutex_unlock(outlet->lock);
    return end != NULL;
}

/* ---- the thread ------------------------------------------------------------------------- */

static void wait_ms(struct outlet *o, unsigned ms)
{
    uint64_t now, until = clock_monotonic_ns() + (uint64_t)ms * 1000000;
    mutex_lock(o->lock);
    while (!atomic_load(&o->stop) && (now = clock_monotonic_ns()) < until)
        condition_wait_for(o->changed, o->lock, until - now);
    mutex_unlock(o->lock);
}

/* What one try came to, told once as long as it stays the same. */
static void remember(struct outlet *o, enum sink_result result, int tries,
                     const struct akin_error *error)
{
    mutex_lock(o->lock);
    if (result == SINK_TOOK) {
        if (o->away || o->refusing)
            note(o, "takes alarms again");
        o->away = o->refusing = o->told_full = false;
    } else if (result == SINK_AGAIN) {
        if (!o->away)
            note(o, "is away, and is tried again: %s", error->message);
        o->away = true;
    } else {
        if (!o->refusing)
            note(o, "did not take an alarm after %d %s: %s", tries, tries == 1 ? "try" : "tries",
                 error->message);
        o->refusing = true;
    }
    mutex_unlock(o->lock);
}

static bool deliver(struct outlet *o, const struct waiting *item)
{
    unsigned pause = o->sink->pause_first_ms;
    for (int tries = 1; !atomic_load(&o->stop); tries++) {
        struct akin_error error = { 0 };
        o->sink->wait_ms = 0;
        enum sink_result result = o->sink->send(o->sink, item->line, item->bytes, &o->stop, &error);
        if (result != SINK_TOOK && atomic_load(&o->stop))
            return false;
        if (result == SINK_AGAIN && o->sink->tries_max && tries >= o->sink->tries_max)
            result = SINK_REFUSED;
        remember(o, result, tries, &error);
        if (result != SINK_AGAIN)
            return result == SINK_TOOK;
        wait_ms(o, o->sink->wait_ms > pause ? o->sink->wait_ms : pause);
        pause = pause < o->sink->pause_max_ms / 2 ? pause * 2 : o->sink->pause_max_ms;
    }
    return false;
}

static struct waiting pop(struct outlet *o)
{
    struct waiting item = o->queue[o->first];
    o->first = (o->first + 1) % o->queue_max;
    o->count--;
    o->bytes -= item.bytes;
    return item;
}

static void outlet_main(void *context)
{
    struct outlet *o = context;
    mutex_lock(o->lock);
    while (!atomic_load(&o->stop)) {
        if (!o->count) {
            condition_wait(o->changed, o->lock);
            continue;
        }
        struct waiting item = pop(o);
        o->busy = true;
        mutex_unlock(o->lock);
        bool delivered = deliver(o, &item);
        memory_free(item.line);
        mutex_lock(o->lock);
        o->busy = false;
        o->counts.delivered += delivered;
        o->counts.failed += !delivered;
        if (!o->count)
            condition_wake(o->changed);
    }
    mutex_unlock(o->lock);
}

/* ---- the caller's side ------------------------------------------------------------------ */

enum akin_status outlet_open(struct alert_sink *sink, size_t queue_max, struct outlet **outlet,
                             struct akin_error *error)
{
    struct outlet *o = memory_alloc(1, sizeof *o);
    if (!o) {
        sink->close(sink);
        return error_memory(error);
    }
    o->sink = sink;
    o->queue_max = queue_max;
    o->queue = memory_alloc(queue_max, sizeof *o->queue);
    o->lock = mutex_create();
    o->changed = condition_create();
    if (o->queue && o->lock && o->changed)
        o->thread = thread_start(outlet_main, o, false);
    if (!o->thread) {
        outlet_close(&o);
        return error_memory(error);
    }
    *outlet = o;
    return AKIN_OK;
}

void outlet_push(struct outlet *outlet, const char *line, size_t bytes)
{
    struct outlet *o = outlet;
    struct waiting item = { memory_copy_bytes(line, bytes), bytes };
    mutex_lock(o->lock);
    uint64_t before = o->counts.dropped;
    while (item.line && o->count &&
           (o->count == o->queue_max || o->bytes + bytes > ALARM_QUEUE_BYTES_MAX)) {
        struct waiting oldest = pop(o);
        memory_free(oldest.line);
        o->counts.dropped++;
    }
    if (item.line) {
        o->queue[(o->first + o->count++) % o->queue_max] = item;
        o->bytes += bytes;
    } else {
        o->counts.dropped++;
    }
    if (o->counts.dropped > before && !o->told_full) {
        note(o, "is too slow or away: the oldest of the alarms that wait for it go");
        o->told_full = true;
    }
    condition_wake(o->changed);
    mutex_unlock(o->lock);
}

bool outlet_wait(struct outlet *outlet, uint64_t until_ns)
{
    struct outlet *o = outlet;
    uint64_t now;
    mutex_lock(o->lock);
    while ((o->count || o->busy) && (now = clock_monotonic_ns()) < until_ns)
        condition_wait_for(o->changed, o->lock, until_ns - now);
    bool done = !o->count && !o->busy;
    mutex_unlock(o->lock);
    return done;
}

void outlet_count(struct outlet *outlet, struct outlet_counts *counts)
{
    mutex_lock(outlet->lock);
    *counts = outlet->counts;
    mutex_unlock(outlet->lock);
}

void outlet_close(struct outlet **outlet)
{
    struct outlet *o = *outlet;
    if (!o)
        return;
    if (o->thread) {
        mutex_lock(o->lock);
        atomic_store(&o->stop, true);
        condition_wake(o->changed);
        mutex_unlock(o->lock);
        thread_join(&o->thread);
    }
    while (o->count)
        memory_free(pop(o).line);
    o->sink->close(o->sink);
    mutex_destroy(&o->lock);
    condition_destroy(&o->changed);
    bytes_deinit(&o->notes);
    memory_free(o->queue);
    memory_free(o);
    *outlet = NULL;
}
