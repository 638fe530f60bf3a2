/* Events on their way from a source to the scorer: a ring of slots, each with a copy of an event in
 * memory of its own. Bounded in events and in bytes. The caller's lock guards it; a slot that was
 * asked for belongs to who fills it until it is pushed, and what is at the front to who reads it
 * until it is popped. */
#pragma once

#include "events/event.h"

struct arrival {
    struct event event;         /* views into `copy` */
    struct bytes copy;
    uint64_t ticket;            /* of its source, from 1 */
    uint64_t arrived_ns;        /* monotonic */
    int64_t time_us;            /* since 1970 */
};

struct arrivals {
    struct arrival *slots; /* [max] */
    size_t max, first, count, bytes, bytes_max;
};

bool arrivals_init(struct arrivals *queue, size_t max, size_t bytes_max);
void arrivals_deinit(struct arrivals *queue);
/* The slot for the next event; NULL while the queue is full. */
struct arrival *arrivals_slot(struct arrivals *queue);
void arrivals_push(struct arrivals *queue);
struct arrival *arrivals_at(struct arrivals *queue, size_t i);   /* 0: the oldest */
void arrivals_pop(struct arrivals *queue, size_t count);
/* false: no memory. Fields that are NULL become "". */
bool arrival_fill(struct arrival *slot, const struct event *event);
