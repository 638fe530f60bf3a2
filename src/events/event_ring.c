/* An event is a head with the lengths of its texts and the texts, each with a NUL behind. It lies
 * in one piece: one that does not fit in front of the end of the block begins at its start. */
#include "events/event_ring.h"

#include <string.h>

enum { TEXT, TIME, SOURCE, LEVEL, SESSION, ID, CURSOR, TEXTS };

struct record {
    uint64_t bytes;             /* with this head, a multiple of 8 */
    uint64_t seq;
    uint32_t lengths[TEXTS];    /* without the NULs */
    uint32_t unused;
};

bool event_ring_init(struct event_ring *ring, size_t capacity)
{
    *ring = (struct event_ring){.capacity = capacity & ~(size_t)7};
    ring->block = memory_alloc(ring->capacity, 1);
    return ring->block != NULL;
}

void event_ring_deinit(struct event_ring *ring)
{
    memory_free(ring->block);
    *ring = (struct event_ring){0};
}

/* NULL: no room in one piece. */
static unsigned char *find_room(struct event_ring *ring, size_t bytes)
{
    if (ring->wrapped)
        return bytes <= ring->head - ring->tail ? ring->block + ring->tail : NULL;
    if (bytes <= ring->capacity - ring->tail)
        return ring->block + ring->tail;
    if (bytes > ring->head)
        return NULL;
    ring->end = ring->tail;
    ring->tail = 0;
    ring->wrapped = true;
    return ring->block;
}

bool event_ring_put(struct event_ring *ring, const struct event *event)
{
    const char *texts[TEXTS] = {event->text, event->time, event->source, event->level,
                                event->session, event->id, event->cursor};
    size_t lengths[TEXTS], bytes = sizeof(struct record);
    for (int i = 0; i < TEXTS; i++) {
        lengths[i] = i == TEXT      ? event->text_bytes
                     : i == SESSION ? event->session_bytes
                                    : strlen(texts[i]);
        if (lengths[i] >= ring->capacity)
            return false;
        bytes += lengths[i] + 1;
    }
    bytes = (bytes + 7) & ~(size_t)7;
    unsigned char *at = find_room(ring, bytes);
    if (!at)
        return false;
    struct record record = {.bytes = bytes, .seq = event->seq};
    unsigned char *to = at + sizeof record;
    for (int i = 0; i < TEXTS; i++) {
        record.lengths[i] = (uint32_t)lengths[i];
        memcpy(to, texts[i], lengths[i]);
        to[lengths[i]] = 0;
        to += lengths[i] + 1;
    }
    memcpy(at, &record, sizeof record);
    ring->tail += bytes;
    ring->count++;
    return true;
}

bool event_ring_take(struct event_ring *ring, struct event *event)
{
    const char *texts[TEXTS];
    struct record record;
    ASSERT(!ring->taken);
    if (!ring->count)
        return false;
    if (ring->wrapped && ring->head == ring->end) {
        ring->head = 0;
        ring->wrapped = false;
    }
    memcpy(&record, ring->block + ring->head, sizeof record);
    const char *at = (const char *)ring->block + ring->head + sizeof record;
    for (int i = 0; i < TEXTS; i++) {
        texts[i] = at;
        at += record.lengths[i] + 1;
    }
    event_clear(event);
    *event = (struct event){.seq = record.seq, .text = texts[TEXT], .time = texts[TIME],
                            .source = texts[SOURCE], .level = texts[LEVEL],
                            .session = texts[SESSION], .text_bytes = record.lengths[TEXT],
                            .session_bytes = record.lengths[SESSION], .id = texts[ID],
                            .cursor = texts[CURSOR]};
    ring->taken = (size_t)record.bytes;
    return true;
}

void event_ring_release(struct event_ring *ring)
{
    if (!ring->taken)
        return;
    ring->head += ring->taken;
    ring->taken = 0;
    if (!--ring->count) {   /* from the start again: few events stay in few pages */
        ring->head = ring->tail = 0;
        ring->wrapped = false;
    }
}

size_t event_ring_used(const struct event_ring *ring)
{
    return ring->wrapped ? ring->end - ring->head + ring->tail : ring->tail - ring->head;
}
