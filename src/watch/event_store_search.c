/* Searching a store of events by vector. Kinds are few beside events: each kind is compared, and
 * then the best ones' events are taken, newest first, until there are enough. Where a filter lets
 * so few pass that this goes from kind to kind for long, all rows are read in their order instead,
 * which is much faster a row. Where kinds are many, the nearest ones are found by an index of them
 * first; only where their events are not enough all are compared. All of it is exact, and the same.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "watch/event_store_state.h"

struct search {
    const struct event_store *store;
    const struct event_filter *filter;
    struct segment_filter *places;  /* [segments] */
    float *scores;                  /* [kinds]: all that there were at the beginning */
    size_t kinds;
    struct hit *heap;               /* kinds and their scores, the best on top */
    size_t heap_count;
    uint64_t *numbers;              /* of the present group of kinds that are equally near */
    size_t count, capacity;
    size_t visits;                  /* rows that may still be walked to; 0: too many were */
};

enum {
    KINDS_AT_ONCE = 8192,
    KINDS_TAKEN = 2048,         /* into the index, at once */
    KINDS_NARROWED = 32768,     /* at once, where they are compared by bytes */
    WALK_SHARE = 16,    /* a row in a chain costs as much as so many in order */
    WALK_MIN = 4096,
    NEAREST_MORE = 54,          /* kinds, beside as many as events are wanted */
    NEAREST_FILTERED = 1000,    /* where not all events count */
    NEAREST_MAX = 4096,
};

static void sift(struct hit *heap, size_t at, size_t count)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count)
            return;
        if (child + 1 < count && heap[child + 1].score > heap[child].score)
            child++;
        if (heap[at].score >= heap[child].score)
            return;
        struct hit swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

static void heapify(struct search *search, struct hit *hits, size_t count)
{
    search->heap = hits;
    search->heap_count = count;
    for (size_t i = count / 2; i-- > 0;)
        sift(hits, i, count);
}

/* Lets those pass who wait. Kinds keep their places. */
static void let_pass(struct event_store *s)
{
    turnstile_leave(s->state);
    turnstile_enter(s->state);
}

/* A piece at a time, so that nobody waits for long. Called locked. */
static bool score_kinds(struct event_store *s, struct search *search, const float *query)
{
    search->kinds = s->kinds.count;
    search->scores = memory_alloc(search->kinds, sizeof *search->scores);
    struct hit *hits = memory_alloc(search->kinds, sizeof *hits);
    bool done = search->scores && hits;
    for (size_t at = 0; done && at < search->kinds;) {
        size_t end = search->kinds - at < KINDS_AT_ONCE ? search->kinds : at + KINDS_AT_ONCE;
        if (at)
            let_pass(s);
        done = event_kinds_score(&s->kinds, s->settings.kernels, query, at, end, search->scores);
        at = end;
    }
    for (size_t i = 0; done && i < search->kinds; i++)
        hits[i] = (struct hit){ search->scores[i], (uint32_t)i };
    if (done)
        heapify(search, hits, search->kinds);
    else
        memory_free(hits);
    return done;
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
    struct hit *heap = search->heap;
    size_t left = search->heap_count;
    while (left && *found < k) {
        float score = heap[0].score;
        search->count = 0;
        size_t group = 0;
        for (; left && heap[0].score == score; group++) {
            if (!collect(search, s->kinds.ids[heap[0].row], k - *found))
                return false;
            heap[0] = heap[--left];
            sift(heap, 0, left);
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

/* ---- all of it ------------------------------------------------------------------------------ */

static bool find_places(const struct event_store *s, struct search *search, size_t *rows)
{
    memory_free(search->places);
    search->places = memory_alloc(s->segment_count, sizeof *search->places);
    *rows = 0;
    for (size_t i = 0; search->places && i < s->segment_count; i++) {
        search->places[i] = store_filter(s->segments[i], search->filter);
        *rows += search->places[i].none ? 0 : s->segments[i]->count;
    }
    return search->places;
}

/* The first search among many kinds goes without an index and without a card: whoever searches once
 * only does not wait for them to be made. */
static bool is_again(struct event_store *s)
{
    return s->kinds.count >= KIND_INDEX_MIN && s->kinds.dimension && s->searches++;
}

/* Each search takes some more kinds into the index: all at once would be one that takes as long as
 * thirty. */
static bool has_index(struct event_store *s)
{
    size_t share = s->kinds.count / 32;
    if (!s->settings.backend)
        return false;
    if (!s->index)
        s->index = kind_index_create(s->settings.backend);
    if (!s->index)
        return false;
    size_t end = kind_index_count(s->index) + (share > KIND_INDEX_MIN ? share : KIND_INDEX_MIN);
    end = end < s->kinds.count ? end : s->kinds.count;
    for (size_t at; (at = kind_index_count(s->index)) < end;) {
        if (!kind_index_take(s->index, &s->kinds, end - at < KINDS_TAKEN ? end : at + KINDS_TAKEN))
            return false;
        let_pass(s);
    }
    return true;
}

/* The nearest kinds by the index, and by comparing those that are not in it yet, in
 * `search->heap`. */
static bool narrow(struct event_store *s, struct search *search, struct kind_search *kinds,
                   const float *query, size_t wanted)
{
    if (!has_index(s) || !kind_search_begin(kinds, s->index, query, wanted))
        return false;
    size_t count = s->kinds.count, indexed = kind_index_count(s->index);
    for (size_t at = 0, end; at < count; at = end) {
        size_t most = at < indexed ? KINDS_NARROWED : KINDS_AT_ONCE;
        size_t border = at < indexed ? indexed : count;
        end = border - at < most ? border : at + most;
        if (at)
            let_pass(s);
        if (!(at < indexed ? kind_search_range(kinds, s->index, at, end)
                           : kind_search_plain(kinds, &s->kinds, s->settings.kernels, query, at,
                                               end)))
            return false;
    }
    if (!kind_search_finish(kinds, &s->kinds, s->settings.kernels, query))
        return false;
    heapify(search, kinds->candidates, kinds->count);
    return true;
}

/* The same by the card. AKIN_ARGUMENT: it cannot tell this time. */
static enum akin_status ask_card(struct event_store *s, struct search *search, struct hit *hits,
                                 const float *query, struct akin_error *error)
{
    size_t count;
    for (bool done = false; !done; let_pass(s)) {
        if (!s->card.ops)
            return AKIN_ARGUMENT;       /* it failed meanwhile, for somebody else */
        TRY(kind_card_take(&s->card, &s->kinds, s->settings.kernels, &done, error));
    }
    if (!s->card.ops)
        return AKIN_ARGUMENT;
    TRY(kind_card_search(&s->card, &s->kinds, s->settings.kernels, query, hits, &count, error));
    heapify(search, hits, count);
    return AKIN_OK;
}

static bool has_card(struct event_store *s)
{
    const struct event_store_card *from = &s->settings.card;
    if (s->kinds.count < KIND_CARD_MIN || !from->find)
        return false;
    if (!s->card_asked)
        s->card.ops = from->find(from->cookie, &s->card.ordinal);
    s->card_asked = true;
    return s->card.ops;
}

/* Whether what the nearest kinds have is enough. */
static bool take_nearest(struct event_store *s, struct search *search, size_t k,
                         struct event_hit *hits, size_t *found)
{
    size_t rows;
    search->visits = k + WALK_MIN;
    *found = 0;
    return find_places(s, search, &rows) && run(s, search, k, hits, found) && *found == k;
}

/* *done false: it has too few events that pass, or cannot tell. */
static enum akin_status search_card(struct event_store *s, struct search *search,
                                    const float *query, size_t k, struct event_hit *hits,
                                    size_t *found, bool *done, struct akin_error *error)
{
    struct hit nearest[SEARCH_DEVICE_K_MAX];
    struct akin_error why = { 0 };
    *done = false;
    if (k > SEARCH_DEVICE_K_MAX || !has_card(s))
        return AKIN_OK;
    enum akin_status status = ask_card(s, search, nearest, query, &why);
    if (status == AKIN_OK)
        *done = take_nearest(s, search, k, hits, found);
    search->heap = NULL;
    if (status == AKIN_OK || status == AKIN_ARGUMENT)
        return AKIN_OK;
    if (s->settings.card.required)
        return error_set(error, status, "%s", why.message);
    kind_card_close(&s->card);
    store_tell(s, "%s: kinds are compared on the CPU: %s", s->folder, why.message);
    return AKIN_OK;
}

/* Whether all events pass, or next to all. */
static bool is_open(const struct event_filter *f)
{
    return !f || !(f->from_us || f->until_us || f->alerts || f->label || f->source || f->session
                   || f->origin || f->level || f->score_min > 0);
}

/* false: the nearest kinds have too few events that pass, or cannot be told. */
static bool search_index(struct event_store *s, struct search *search, const float *query,
                         size_t k, struct event_hit *hits, size_t *found)
{
    struct kind_search kinds = { 0 };
    size_t wanted = k + (is_open(search->filter) ? NEAREST_MORE : NEAREST_FILTERED);
    bool done = wanted <= NEAREST_MAX && narrow(s, search, &kinds, query, wanted)
                && take_nearest(s, search, k, hits, found);
    kind_search_end(&kinds);
    search->heap = NULL;
    return done;
}

static bool search_all(struct event_store *s, struct search *search, const float *query, size_t k,
                       struct event_hit *hits, size_t *found)
{
    size_t rows;
    *found = 0;
    if (!score_kinds(s, search, query) || !find_places(s, search, &rows))
        return false;
    search->visits = k + WALK_MIN + rows / WALK_SHARE;
    if (run(s, search, k, hits, found))
        return true;
    *found = 0;
    return !search->visits && read_rows(s, search, k, hits, found);
}

enum akin_status event_store_search(struct event_store *s, const float *query, size_t k,
                                    const struct event_filter *filter, struct event_hit *hits,
                                    size_t *found, struct akin_error *error)
{
    struct search search = { .store = s, .filter = filter };
    size_t count = 0;
    if (!s->settings.kernels)
        return error_set(error, AKIN_ARGUMENT, "%s: was opened without kernels", s->folder);
    bool done = false;
    enum akin_status status = AKIN_OK;
    turnstile_enter(s->state);
    if (is_again(s)) {
        status = search_card(s, &search, query, k, hits, &count, &done, error);
        done = done || (status == AKIN_OK && search_index(s, &search, query, k, hits, &count));
    }
    if (status == AKIN_OK && !done && !search_all(s, &search, query, k, hits, &count))
        status = error_memory(error);
    turnstile_leave(s->state);
    memory_free(search.places);
    memory_free(search.numbers);
    memory_free(search.scores);
    memory_free(search.heap);
    if (status == AKIN_OK)
        *found = count;
    return status;
}
