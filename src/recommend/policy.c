/* A binary heap with the least wanted item at its root, and the place of every item in it, so that
 * a key that changes moves its item and nothing is ever searched. */
#include "recommend/policy.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/memory.h"

struct kept {
    double key;
    uint32_t row;
};

struct policy {
    struct kept *heap;      /* [capacity] */
    uint32_t *places;       /* [items]: in the heap, or POLICY_NONE */
    size_t count, capacity, items;
};

struct policy *policy_create(size_t items, size_t capacity)
{
    ASSERT(items < POLICY_NONE && capacity <= items);
    struct policy *p = memory_alloc(1, sizeof *p);
    if (!p)
        return NULL;
    *p = (struct policy){ .heap = memory_alloc(capacity, sizeof *p->heap),
                          .places = memory_alloc(items, sizeof *p->places),
                          .capacity = capacity, .items = items };
    if (!p->heap || !p->places) {
        policy_destroy(&p);
        return NULL;
    }
    for (size_t i = 0; i < items; i++)
        p->places[i] = POLICY_NONE;
    return p;
}

void policy_destroy(struct policy **policy)
{
    if (!*policy)
        return;
    memory_free((*policy)->heap);
    memory_free((*policy)->places);
    memory_free(*policy);
    *policy = NULL;
}

/* A total order: of equal keys the smaller row is the more wanted. */
static bool less_wanted(struct kept a, struct kept b)
{
    return a.key != b.key ? a.key < b.key : a.row > b.row;
}

static void put(struct policy *p, size_t place, struct kept kept)
{
    p->heap[place] = kept;
    p->places[kept.row] = (uint32_t)place;
}

/* Moves the item at `place`, whose key is `kept.key` now, to where it belongs. */
static void settle(struct policy *p, size_t place, struct kept kept)
{
    while (place > 0 && less_wanted(kept, p->heap[(place - 1) / 2])) {
        put(p, place, p->heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    for (size_t child; (child = 2 * place + 1) < p->count; place = child) {
        if (child + 1 < p->count && less_wanted(p->heap[child + 1], p->heap[child]))
            child++;
        if (!less_wanted(p->heap[child], kept))
            break;
        put(p, place, p->heap[child]);
    }
    put(p, place, kept);
}

enum policy_answer policy_request(struct policy *p, uint32_t row, double key, uint32_t *evicted)
{
    ASSERT(row < p->items);
    struct kept kept = { key, row };
    *evicted = POLICY_NONE;
    if (policy_contains(p, row)) {
        settle(p, p->places[row], kept);
        return POLICY_HIT;
    }
    if (p->count < p->capacity) {
        size_t place = p->count++;
        settle(p, place, kept);
        return POLICY_ADMITTED;
    }
    if (p->capacity == 0 || key < p->heap[0].key)
        return POLICY_BYPASSED;
    *evicted = p->heap[0].row;
    p->places[*evicted] = POLICY_NONE;
    settle(p, 0, kept);
    return POLICY_ADMITTED;
}

void policy_update(struct policy *p, uint32_t row, double key)
{
    if (policy_contains(p, row))
        settle(p, p->places[row], (struct kept){ key, row });
}

bool policy_contains(const struct policy *p, uint32_t row)
{
    return row < p->items && p->places[row] != POLICY_NONE;
}

size_t policy_count(const struct policy *p)
{
    return p->count;
}

static int most_wanted_first(const void *a, const void *b)
{
    return less_wanted(*(const struct kept *)b, *(const struct kept *)a) ? -1 : 1;
}

enum akin_status policy_rows(const struct policy *p, uint32_t *rows, struct akin_error *error)
{
    struct kept *sorted = memory_alloc(p->count, sizeof *sorted);
    if (!sorted)
        return error_memory(error);
    for (size_t i = 0; i < p->count; i++)
        sorted[i] = p->heap[i];
    qsort(sorted, p->count, sizeof *sorted, most_wanted_first);
    for (size_t i = 0; i < p->count; i++)
        rows[i] = sorted[i].row;
    memory_free(sorted);
    return AKIN_OK;
}

size_t policy_bytes(const struct policy *p)
{
    return p->capacity * sizeof *p->heap + p->items * sizeof *p->places;
}

/* ---- replay ----------------------------------------------------------------------------- */

struct replay {
    struct popularity *popularity;
    struct policy *policy;
};

static void lose_event(void *context, uint32_t row)
{
    struct replay *replay = context;
    policy_update(replay->policy, row, popularity_key(replay->popularity, row));
}

enum akin_status policy_replay(const struct akin_cache_event *events, size_t count, size_t items,
                               const struct akin_neighbors_settings *settings, uint64_t *hits,
                               struct akin_error *error)
{
    struct replay replay = { 0 };
    uint64_t hit = 0;
    uint32_t evicted;
    size_t capacity = settings->capacity && settings->capacity < items ? settings->capacity : items;
    if (items >= POLICY_NONE)
        return error_set(error, AKIN_LIMIT, "%zu items: at most %u can be cached", items,
                         POLICY_NONE - 1);
    for (size_t i = 0; i < count; i++)
        if (events[i].row >= items)
            return error_set(error, AKIN_ARGUMENT, "event %zu: row %u, and there are %zu items", i,
                             events[i].row, items);
    struct popularity_settings counted = {
        .half_life = settings->half_life, .window = settings->window,
        .by_time = settings->by_time, .expired = lose_event, .context = &replay,
    };
    TRY(popularity_create(&counted, items, &replay.popularity, error));
    enum akin_status status = AKIN_OK;
    replay.policy = policy_create(items, capacity);
    if (!replay.policy)
        status = error_memory(error);
    for (size_t i = 0; status == AKIN_OK && i < count; i++) {
        uint32_t row = events[i].row;
        status =
            popularity_add(replay.popularity, row, events[i].rating, events[i].timestamp, error);
        hit += policy_request(replay.policy, row, popularity_key(replay.popularity, row),
                              &evicted) == POLICY_HIT;
    }
    if (status == AKIN_OK)
        *hits = hit;
    policy_destroy(&replay.policy);
    popularity_destroy(&replay.popularity);
    return status;
}
