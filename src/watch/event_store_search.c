/* Searching a store of events by vector. Kinds are few beside events: each kind is compared, and
 * then the best ones' events are taken, newest first, until there are enough: exact. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "watch/event_store_state.h"

struct search {
    const struct event_store *store;
    const struct event_filter *filter;
    struct segment_filter *places;  /* [segments] */
    uint64_t *numbers;              /* of the present group of kinds that are equally near */
    size_t count, capacity;
};

static void sift(const float *scores, uint32_t *heap, size_t at, size_t count)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count)
            return;
        if (child + 1 < count && scores[heap[child + 1]] > scores[heap[child]])
            child++;
        if (scores[heap[at]] >= scores[heap[child]])
            return;
        uint32_t swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

/* The kinds with scores, best on top. */
static bool make_heap(struct event_store *s, const float *query)
{
    size_t count = s->kinds.count;
    if (!array_reserve((void **)&s->scores, &s->score_capacity, count, sizeof *s->scores)
        || !array_reserve((void **)&s->heap, &s->heap_capacity, count, sizeof *s->heap))
        return false;
    event_kinds_score(&s->kinds, s->settings.kernels, query, s->scores);
    for (size_t i = 0; i < count; i++) {
        s->heap[i] = (uint32_t)i;
        s->scores[i] = isfinite(s->scores[i]) ? s->scores[i] : 0;
    }
    for (size_t i = count / 2; i-- > 0;)
        sift(s->scores, s->heap, i, count);
    return true;
}

/* Up to `limit` of the kind's newest events that pass, behind search->numbers. */
static bool collect(struct search *search, uint64_t kind, size_t limit)
{
    const struct event_store *s = search->store;
    size_t found = 0;
    for (size_t i = s->segment_count; i-- > 0;) {
        const struct event_segment *segment = s->segments[i];
        if (search->places[i].none)
            continue;
        uint32_t place = segment_find_kind(segment, kind);
        uint32_t row = place == ROW_NONE ? ROW_NONE : segment->kinds[place].last;
        for (; row != ROW_NONE; row = segment->rows[row].before) {
            if (!store_passes(s, segment, &segment->rows[row], search->filter,
                              &search->places[i]))
                continue;
            if (!array_reserve((void **)&search->numbers, &search->capacity, search->count + 1,
                               sizeof *search->numbers))
                return false;
            search->numbers[search->count++] = segment->first + segment->rows[row].step;
            if (++found == limit)
                return true;
        }
    }
    return true;
}

static int compare_newest(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

static bool run(struct event_store *s, struct search *search, size_t k, struct event_hit *hits,
                size_t *found)
{
    size_t left = s->kinds.count;
    while (left && *found < k) {
        float score = s->scores[s->heap[0]];
        search->count = 0;
        size_t group = 0;
        for (; left && s->scores[s->heap[0]] == score; group++) {
            if (!collect(search, s->kinds.ids[s->heap[0]], k - *found))
                return false;
            s->heap[0] = s->heap[--left];
            sift(s->scores, s->heap, 0, left);
        }
        if (group > 1 && search->count > 1)
            qsort(search->numbers, search->count, sizeof *search->numbers, compare_newest);
        for (size_t i = 0; i < search->count && *found < k; i++)
            hits[(*found)++] = (struct event_hit){ search->numbers[i], score };
    }
    return true;
}

enum akin_status event_store_search(struct event_store *s, const float *query, size_t k,
                                    const struct event_filter *filter, struct event_hit *hits,
                                    size_t *found, struct akin_error *error)
{
    struct search search = { .store = s, .filter = filter };
    size_t count = 0;
    if (!s->settings.kernels)
        return error_set(error, AKIN_ARGUMENT, "%s: was opened without kernels", s->folder);
    mutex_lock(s->state);
    search.places = memory_alloc(s->segment_count, sizeof *search.places);
    bool done = search.places && make_heap(s, query);
    for (size_t i = 0; done && i < s->segment_count; i++)
        search.places[i] = store_filter(s->segments[i], filter);
    done = done && run(s, &search, k, hits, &count);
    mutex_unlock(s->state);
    memory_free(search.places);
    memory_free(search.numbers);
    if (!done)
        return error_memory(error);
    *found = count;
    return AKIN_OK;
}
