#include "watch/event_ids.h"

#include "base/memory.h"

void event_ids_init(struct event_ids *ids, size_t max)
{
    *ids = (struct event_ids){ .max = max };
}

void event_ids_deinit(struct event_ids *ids)
{
    memory_free(ids->slots);
    memory_free(ids->ring);
    event_ids_init(ids, ids->max);
}

/* The ids are hashes already; the product spreads those of a hostile sender. */
static size_t place_of(const struct event_ids *ids, uint64_t id)
{
    return (size_t)((id * 0x9e3779b97f4a7c15) >> 20) & (ids->capacity - 1);
}

static size_t find(const struct event_ids *ids, uint64_t id)
{
    size_t at = place_of(ids, id);
    while (ids->slots[at] && ids->slots[at] != id)
        at = (at + 1) & (ids->capacity - 1);
    return at;
}

bool event_ids_has(const struct event_ids *ids, uint64_t id)
{
    return id && ids->capacity && ids->slots[find(ids, id)];
}

bool event_ids_reserve(struct event_ids *ids, size_t extra)
{
    size_t wanted, ring = ids->ring_capacity ? ids->ring_capacity : 1024;
    if (!size_add(ids->count, extra, &wanted))
        return false;
    wanted = wanted < ids->max ? wanted : ids->max;
    while (ring < wanted)
        ring *= 2;
    ring = ring < ids->max ? ring : ids->max;
    if (ring == ids->ring_capacity)
        return true;
    size_t capacity = 64;
    while (capacity < 2 * ring)
        capacity *= 2;
    struct event_ids grown = { .capacity = capacity, .ring_capacity = ring, .max = ids->max };
    grown.slots = memory_alloc(capacity, sizeof *grown.slots);
    grown.ring = memory_alloc(ring, sizeof *grown.ring);
    if (!grown.slots || !grown.ring) {
        event_ids_deinit(&grown);
        return false;
    }
    for (size_t i = 0; i < ids->count; i++)
        event_ids_put(&grown, ids->ring[(ids->oldest + i) % ids->ring_capacity]);
    event_ids_deinit(ids);
    *ids = grown;
    return true;
}

/* Those behind a gap move up, so that every search still meets them. */
static void drop(struct event_ids *ids, uint64_t id)
{
    size_t mask = ids->capacity - 1, gap = find(ids, id);
    for (size_t at = (gap + 1) & mask; ids->slots[at]; at = (at + 1) & mask) {
        size_t home = place_of(ids, ids->slots[at]);
        if (((at - home) & mask) >= ((at - gap) & mask)) {
            ids->slots[gap] = ids->slots[at];
            gap = at;
        }
    }
    ids->slots[gap] = 0;
}

void event_ids_put(struct event_ids *ids, uint64_t id)
{
    if (!id || event_ids_has(ids, id))
        return;
    if (ids->count == ids->ring_capacity) {
        drop(ids, ids->ring[ids->oldest]);
        ids->oldest = (ids->oldest + 1) % ids->ring_capacity;
        ids->count--;
    }
    ids->slots[find(ids, id)] = id;
    ids->ring[(ids->oldest + ids->count++) % ids->ring_capacity] = id;
}
