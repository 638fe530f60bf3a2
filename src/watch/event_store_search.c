/* Searching a store of events by vector. Kinds are few beside events: each kind is compared, and
 * then the best ones' events are taken, newest first, until there are enough. Where a filter lets
 * so few pass that this goes from kind to kind for long, all rows are read in their order instead,
 * which is much faster a row. Both are exact, and the same. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "watch/event_store_state.h"

struct search {
    const struct event_store *store;
    const struct event_filter *filter;
    struct segment_filter *places;  /* [segments] */
    float *scores;                  /* [kinds]: all that there were at the beginning */
    uint32_t *heap;                 /* [kinds], the best on top */
    size_t kinds;
    uint64_t *numbers;              /* of the present group of kinds that are equally near */
    size_t count, capacity;
    size_t visits;                  /* rows that may still be walked to; 0: too many were */
};

enum {
    KINDS_AT_ONCE = 8192,
    WALK_SHARE = 16,    /* a row in a chain costs as much as so many in order */
    WALK_MIN = 4096,
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

/* A piece at a time, so that nobody waits for long; kinds keep their places. Called locked. */
static bool score_kinds(struct event_store *s, struct search *search, const float *query)
{
    search->kinds = s->kinds.count;
    search->scores = memory_alloc(search->kinds, sizeof *search->scores);
    search->heap = memory_alloc(search->kinds, sizeof *search->heap);
    if (!search->scores || !search->heap)
        return false;
    for (size_t at = 0; at < search->kinds;) {
        size_t end = search->kinds - at < KINDS_AT_ONCE ? search->kinds : at + KINDS_AT_ONCE;
        if (at) {
            turnstile_leave(s->state);
            turnstile_enter(s->state);
        }
        event_kinds_score(&s->kinds, s->settings.kernels, query, at, end, search->scores);
        at = end;
    }
    for (size_t i = 0; i < search->kinds; i++) {
        search->heap[i] = (uint32_t)i;
        search->scores[i] = isfinite(search->scores[i]) ? search->scores[i] : 0;
    }
    for (size_t i = search->kinds / 2; i-- > 0;)
        sift(search->scores, search->heap, i, search->kinds);
    return true;
}

/* Up to `limit` of the kind's newest events that pass, behind search->numbers. false: no memory, or
 * no visits are left. */
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
            if (search->visits-- == 1)
                return false;
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

static bool run(const struct event_store *s, struct search *search, size_t k,
                struct event_hit *hits, size_t *found)
{
    const float *scores = search->scores;
    uint32_t *heap = search->heap;
    size_t left = search->kinds;
    while (left && *found < k) {
        float score = scores[heap[0]];
        search->count = 0;
        size_t group = 0;
        for (; left && scores[heap[0]] == score; group++) {
            if (!collect(search, s->kinds.ids[heap[0]], k - *found))
                return false;
            heap[0] = heap[--left];
            sift(scores, heap, 0, left);
        }
        if (group > 1 && search->count > 1)
            qsort(search->numbers, search->count, sizeof *search->numbers, compare_newest);
        for (size_t i = 0; i < search->count && *found < k; i++)
            hits[(*found)++] = (struct event_hit){ search->numbers[i], score };
    }
    return true;
}

/* ---- in order ------------------------------------------------------------------------------- */

static bool worse(const struct event_hit *a, const struct event_hit *b)
{
    return a->similarity < b->similarity
           || (a->similarity == b->similarity && a->number < b->number);
}

static int compare_hits(const void *a, const void *b)
{
    return worse(a, b) ? 1 : worse(b, a) ? -1 : 0;
}

/* Into a heap of at most k with the worst on top. */
static void keep(struct event_hit *hits, size_t k, size_t *found, struct event_hit hit)
{
    size_t at = 0;
    if (*found < k) {
        for (at = (*found)++; at && worse(&hit, &hits[(at - 1) / 2]); at = (at - 1) / 2)
            hits[at] = hits[(at - 1) / 2];
        hits[at] = hit;
        return;
    }
    if (!worse(&hits[0], &hit))
        return;
    for (size_t child; (child = 2 * at + 1) < k; at = child) {
        if (child + 1 < k && worse(&hits[child + 1], &hits[child]))
            child++;
        if (!worse(&hits[child], &hit))
            break;
        hits[at] = hits[child];
    }
    hits[at] = hit;
}

static bool read_rows(const struct event_store *s, const struct search *search, size_t k,
                      struct event_hit *hits, size_t *found)
{
    float *scores = NULL;           /* of a segment's kinds; NaN: without a vector */
    size_t capacity = 0;
    bool done = true;
    for (size_t i = 0; done && i < s->segment_count; i++) {
        const struct event_segment *segment = s->segments[i];
        if (search->places[i].none)
            continue;
        done = array_reserve((void **)&scores, &capacity, segment->kind_count, sizeof *scores);
        for (size_t kind = 0; done && kind < segment->kind_count; kind++) {
            uint64_t place;
            bool known = number_map_get(&s->kinds.places, segment->kinds[kind].id, &place);
            scores[kind] = known && place < search->kinds ? search->scores[place] : NAN;
        }
        for (size_t row = 0; done && row < segment->count; row++) {
            const struct event_row *at = &segment->rows[row];
            if (!isnan(scores[at->kind])
                && store_passes(s, segment, at, search->filter, &search->places[i]))
                keep(hits, k, found, (struct event_hit){ segment->first + at->step,
                                                         scores[at->kind] });
        }
    }
    memory_free(scores);
    if (*found)
        qsort(hits, *found, sizeof *hits, compare_hits);
    return done;
}

enum akin_status event_store_search(struct event_store *s, const float *query, size_t k,
                                    const struct event_filter *filter, struct event_hit *hits,
                                    size_t *found, struct akin_error *error)
{
    struct search search = { .store = s, .filter = filter };
    size_t count = 0;
    if (!s->settings.kernels)
        return error_set(error, AKIN_ARGUMENT, "%s: was opened without kernels", s->folder);
    turnstile_enter(s->state);
    bool done = score_kinds(s, &search, query);
    search.places = memory_alloc(s->segment_count, sizeof *search.places);
    done = done && search.places;
    size_t rows = 0;
    for (size_t i = 0; done && i < s->segment_count; i++) {
        search.places[i] = store_filter(s->segments[i], filter);
        rows += search.places[i].none ? 0 : s->segments[i]->count;
    }
    search.visits = k + WALK_MIN + rows / WALK_SHARE;
    if (done && !run(s, &search, k, hits, &count)) {
        done = !search.visits;
        count = 0;
        done = done && read_rows(s, &search, k, hits, &count);
    }
    turnstile_leave(s->state);
    memory_free(search.places);
    memory_free(search.numbers);
    memory_free(search.scores);
    memory_free(search.heap);
    if (!done)
        return error_memory(error);
    *found = count;
    return AKIN_OK;
}
