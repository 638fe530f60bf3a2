/* Events on their way from a source to the judge: a ring of slots, each with a copy of an event in
 * memory of its own. Bounded in events and in bytes. The caller's lock guards it; a slot that was
 * asked for belongs to who fills it until it is pushed, and what is at the front to who reads it
 * until it is popped. */
#pragma once

#include "events/event.h"

struct queued_event {
    struct event event;         /* views into `copy` */
    struct bytes copy;
    uint64_t ticket;            /* of its source, from 1 */
    uint64_t arrived_ns;        /* monotonic */
    int64_t time_us;            /* since 1970 */
};

struct event_queue {
    struct queued_event *slots; /* [max] */
    size_t max, first, count, bytes, bytes_max;
};

bool event_queue_init(struct event_queue *queue, size_t max, size_t bytes_max);
void event_queue_deinit(struct event_queue *queue);
/* The slot for the next event; NULL while the queue is full. */
struct queued_event *event_queue_slot(struct event_queue *queue);
void event_queue_push(struct event_queue *queue);
struct queued_event *event_queue_at(struct event_queue *queue, size_t i);   /* 0: the oldest */
void event_queue_pop(struct event_queue *queue, size_t count);
/* false: no memory. Fields that are NULL become "". */
bool queued_event_fill(struct queued_event *slot, const struct event *event);
