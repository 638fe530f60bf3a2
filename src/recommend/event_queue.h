/* Events from any number of threads to one, without a lock: a ring whose cells carry a turn number
 * each. D. Vyukov, "Bounded MPMC queue", 2010; here with one consumer. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "akin/neighbors.h"

struct event_queue;

struct event_queue *event_queue_create(size_t capacity);    /* a power of two; NULL: no memory */
void event_queue_destroy(struct event_queue **queue);
/* false: it is full, and the event is not in it. Any thread. */
bool event_queue_put(struct event_queue *queue, struct akin_cache_event event);
/* false: nothing is ready. One thread at a time. */
bool event_queue_take(struct event_queue *queue, struct akin_cache_event *event);
/* Puts so far; an event taken has been counted by then. */
size_t event_queue_puts(const struct event_queue *queue);
size_t event_queue_takes(const struct event_queue *queue);
