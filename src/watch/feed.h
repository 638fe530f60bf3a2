/* One source and its thread: events into a queue, word back to the source of what is durable. */
#pragma once

#include <stdatomic.h>

#include "base/thread.h"
#include "events/source.h"
#include "watch/arrivals.h"

/* What the threads of a watch meet at. */
struct meeting {
    struct mutex *lock;
    struct condition *arrived;  /* an event, or the end of a source */
    struct condition *room;     /* events were taken out of a queue, and are durable */
    atomic_bool *stopping;
    bool over;                  /* under the lock: nothing will become durable any more */
    void *cookie;
    void (*note)(void *cookie, const char *line);   /* may be NULL */
};

struct feed {
    struct meeting *meeting;
    struct event_source *source;
    struct thread *thread;
    bool drain;

    /* Under the lock; the slot that is being filled belongs to the thread. */
    struct arrivals queue;
    uint64_t stored;            /* ticket up to which events are durable */
    uint64_t received, dropped, bad, lost;
    bool ended;                 /* no more events */
    enum akin_status status;    /* why, where that is an error */
    struct akin_error error;

    /* The thread's own. */
    struct event event;         /* the source's last; what it owns goes with the next one */
    uint64_t ticket, handed, told, told_dropped, told_dropped_ns, told_bad;
};

/* `drain`: what the source has already is read before a stop. */
enum akin_status feed_start(struct feed *feed, struct meeting *meeting,
                            struct event_source *source, bool drain, size_t queue_events,
                            struct akin_error *error);
/* Waits for the thread, which ends once all that it handed over is durable, or the meeting over. */
void feed_join(struct feed *feed);
