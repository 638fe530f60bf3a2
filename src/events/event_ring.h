/* Events that wait to be taken, first in first out, in one block of bounded size. For a source that
 * cannot make its sender wait: what finds no room is the caller's to count. */
#pragma once

#include <stdbool.h>

#include "events/event.h"

struct event_ring {
    unsigned char *block;
    size_t capacity;
    size_t head, tail;      /* the oldest event; behind the newest */
    size_t end;             /* of the events before the wrap, while `wrapped` */
    bool wrapped;
    size_t count;
    size_t taken;           /* bytes of the event that was handed out last, 0 once let go */
};

bool event_ring_init(struct event_ring *ring, size_t capacity);
void event_ring_deinit(struct event_ring *ring);
/* Copies all texts of `event`; false when there is no room. */
bool event_ring_put(struct event_ring *ring, const struct event *event);
/* The oldest; its views are valid until event_ring_release, which has to come before the next
 * take. false: there is none. */
bool event_ring_take(struct event_ring *ring, struct event *event);
void event_ring_release(struct event_ring *ring);
size_t event_ring_used(const struct event_ring *ring);      /* bytes */
