/* The ids of the last EVENT_IDS_MAX events that have one, as hashes of 64 bits: how a store tells
 * that an event is there already. What comes again later than that is taken for new. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_ids {
    uint64_t *slots;            /* open addressing; 0: free */
    uint64_t *ring;             /* in the order of coming, from `oldest` on */
    size_t capacity, ring_capacity, count, oldest, max;
};

void event_ids_init(struct event_ids *ids, size_t max);
void event_ids_deinit(struct event_ids *ids);
bool event_ids_has(const struct event_ids *ids, uint64_t id);
/* Room for that many more: as many puts cannot fail. */
bool event_ids_reserve(struct event_ids *ids, size_t extra);
/* Nothing for 0 and for what is there; beyond the limit the oldest goes. */
void event_ids_put(struct event_ids *ids, uint64_t id);
