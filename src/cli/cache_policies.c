/* Each policy after its paper, with exact counts where the paper has a sketch of them:
 *   lru         the least recently used one goes
 *   lfu         the one with the fewest uses since it came; among equals the one that came first
 *   w_tinylfu   G. Einziger, R. Friedman, B. Manes, ACM ToS 13(4), 2017: a window of 1 %, the rest
 *               a segmented LRU, 80 % of it protected; counts are halved every 10 x slots requests
 *   s3_fifo     J. Yang et al., SOSP 2023: 10 % small, 90 % main, a ghost as long as main
 *   window_7d   score = views of 7 days x their mean rating x 2^(-days since the last view);
 *               the best are kept, chosen anew at most once an hour
 *   belady      the one whose next use is furthest goes, or is not admitted: nobody can do better
 *               without bringing in items that were not asked for */
#include "cli/cache_policies.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { NOBODY = UINT32_MAX };

/* ---- lists: items in a row, each in at most one ------------------------------------------ */

struct list {
    uint32_t first, last;
    size_t count;
};

struct links {
    uint32_t *before, *after;   /* [items] */
};

static void list_append(const struct links *links, struct list *list, uint32_t item)
{
    links->before[item] = list->last;
    links->after[item] = NOBODY;
    if (list->last == NOBODY)
        list->first = item;
    else
        links->after[list->last] = item;
    list->last = item;
    list->count++;
}

static void list_remove(const struct links *links, struct list *list, uint32_t item)
{
    uint32_t before = links->before[item], after = links->after[item];
    if (before == NOBODY)
        list->first = after;
    else
        links->after[before] = after;
    if (after == NOBODY)
        list->last = before;
    else
        links->before[after] = before;
    list->count--;
}

/* What the policies with lists need. */
enum place { AWAY, SMALL, MAIN, PROTECTED, GHOST, PLACES };

struct shelf {
    struct links links;
    struct list lists[PLACES];
    uint8_t *place;             /* [items] */
    uint32_t *uses;             /* [items] */
};

static void shelf_deinit(struct shelf *s)
{
    memory_free(s->links.before);
    memory_free(s->links.after);
    memory_free(s->place);
    memory_free(s->uses);
}

static enum akin_status shelf_init(struct shelf *s, size_t items, struct akin_error *error)
{
    *s = (struct shelf){ .links = { memory_alloc(items, sizeof(uint32_t)),
                                    memory_alloc(items, sizeof(uint32_t)) },
                         .place = memory_alloc(items, 1),
                         .uses = memory_alloc(items, sizeof(uint32_t)) };
    for (size_t i = 0; i < PLACES; i++)
        s->lists[i] = (struct list){ NOBODY, NOBODY, 0 };
    if (s->links.before && s->links.after && s->place && s->uses)
        return AKIN_OK;
    shelf_deinit(s);
    return error_memory(error);
}

static void shelf_move(struct shelf *s, uint32_t item, enum place to)
{
    if (s->place[item] != AWAY)
        list_remove(&s->links, &s->lists[s->place[item]], item);
    s->place[item] = (uint8_t)to;
    if (to != AWAY)
        list_append(&s->links, &s->lists[to], item);
}

/* ---- heaps: the smallest key first ------------------------------------------------------ */

struct heap {
    double *keys;               /* [items] */
    uint32_t *items, *places;   /* [count]; [items], NOBODY: not in it */
    size_t count;
};

static void heap_deinit(struct heap *h)
{
    memory_free(h->keys);
    memory_free(h->items);
    memory_free(h->places);
}

static enum akin_status heap_init(struct heap *h, size_t items, struct akin_error *error)
{
    *h = (struct heap){ .keys = memory_alloc(items, sizeof *h->keys),
                        .items = memory_alloc(items, sizeof *h->items),
                        .places = memory_alloc(items, sizeof *h->places) };
    if (!h->keys || !h->items || !h->places) {
        heap_deinit(h);
        return error_memory(error);
    }
    for (size_t i = 0; i < items; i++)
        h->places[i] = NOBODY;
    return AKIN_OK;
}

static void heap_put(struct heap *h, size_t place, uint32_t item)
{
    h->items[place] = item;
    h->places[item] = (uint32_t)place;
}

static void heap_settle(struct heap *h, size_t place, uint32_t item)
{
    double key = h->keys[item];
    while (place > 0 && key < h->keys[h->items[(place - 1) / 2]]) {
        heap_put(h, place, h->items[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    for (size_t child; (child = 2 * place + 1) < h->count; place = child) {
        if (child + 1 < h->count && h->keys[h->items[child + 1]] < h->keys[h->items[child]])
            child++;
        if (!(h->keys[h->items[child]] < key))
            break;
        heap_put(h, place, h->items[child]);
    }
    heap_put(h, place, item);
}

/* Puts an item in, or gives it another key. */
static void heap_set(struct heap *h, uint32_t item, double key)
{
    h->keys[item] = key;
    size_t place = h->places[item] == NOBODY ? h->count++ : h->places[item];
    heap_settle(h, place, item);
}

static void heap_drop_first(struct heap *h)
{
    uint32_t last = h->items[--h->count];
    h->places[h->items[0]] = NOBODY;
    if (h->count && last != h->items[0])
        heap_settle(h, 0, last);
}

/* ---- the policies ----------------------------------------------------------------------- */

static enum akin_status replay_lru(const struct request_stream *stream, size_t slots,
                                   uint64_t *hits, struct akin_error *error)
{
    struct shelf s;
    uint64_t hit = 0;
    TRY(shelf_init(&s, stream->items, error));
    for (size_t i = 0; i < stream->count; i++) {
        uint32_t item = stream->events[i].row;
        hit += s.place[item] == MAIN;
        shelf_move(&s, item, MAIN);
        if (s.lists[MAIN].count > slots)
            shelf_move(&s, s.lists[MAIN].first, AWAY);
    }
    *hits = hit;
    shelf_deinit(&s);
    return AKIN_OK;
}

static enum akin_status replay_lfu(const struct request_stream *stream, size_t slots,
                                   uint64_t *hits, struct akin_error *error)
{
    struct heap h;
    uint64_t hit = 0;
    TRY(heap_init(&h, stream->items, error));
    for (size_t i = 0; i < stream->count && slots; i++) {
        uint32_t item = stream->events[i].row;
        if (h.places[item] != NOBODY) {
            hit++;
            heap_set(&h, item, h.keys[item] + 1);
            continue;
        }
        if (h.count == slots)
            heap_drop_first(&h);
        /* uses before the point, time of arrival behind it */
        heap_set(&h, item, 1 + (double)i / (double)(stream->count + 1));
    }
    *hits = hit;
    heap_deinit(&h);
    return AKIN_OK;
}

/* The window's oldest against the main part's oldest: who was asked for more often stays. */
static void tinylfu_evict(struct shelf *s, size_t slots, size_t window)
{
    size_t kept = s->lists[SMALL].count + s->lists[MAIN].count + s->lists[PROTECTED].count;
    if (s->lists[SMALL].count <= window)
        return;
    uint32_t candidate = s->lists[SMALL].first;
    shelf_move(s, candidate, MAIN);
    if (kept <= slots)
        return;
    uint32_t victim = s->lists[MAIN].first != candidate ? s->lists[MAIN].first
                                                        : s->lists[PROTECTED].first;
    if (victim == NOBODY || s->uses[candidate] <= s->uses[victim])
        victim = candidate;
    shelf_move(s, victim, AWAY);
}

static enum akin_status replay_w_tinylfu(const struct request_stream *stream, size_t slots,
                                         uint64_t *hits, struct akin_error *error)
{
    size_t window = slots / 100 ? slots / 100 : 1;
    size_t protected_max = (slots - (window < slots ? window : slots)) * 8 / 10;
    struct shelf s;
    uint64_t hit = 0;
    TRY(shelf_init(&s, stream->items, error));
    for (size_t i = 0; i < stream->count && slots; i++) {
        uint32_t item = stream->events[i].row;
        if ((i + 1) % (10 * slots) == 0)
            for (size_t j = 0; j < stream->items; j++)
                s.uses[j] /= 2;
        s.uses[item] += s.uses[item] < 15;
        hit += s.place[item] != AWAY;
        if (s.place[item] == AWAY || s.place[item] == SMALL) {
            shelf_move(&s, item, SMALL);
            tinylfu_evict(&s, slots, window);
            continue;
        }
        shelf_move(&s, item, PROTECTED);
        if (s.lists[PROTECTED].count > protected_max)
            shelf_move(&s, s.lists[PROTECTED].first, MAIN);
    }
    *hits = hit;
    shelf_deinit(&s);
    return AKIN_OK;
}

enum { S3_USES_MAX = 3 };

static void s3_evict_main(struct shelf *s)
{
    for (;;) {
        uint32_t item = s->lists[MAIN].first;
        if (s->uses[item] == 0) {
            shelf_move(s, item, AWAY);
            return;
        }
        s->uses[item]--;
        shelf_move(s, item, MAIN);      /* to the end */
    }
}

static void s3_evict(struct shelf *s, size_t main)
{
    while (s->lists[MAIN].count <= main && s->lists[SMALL].count) {
        uint32_t item = s->lists[SMALL].first;
        bool asked_again = s->uses[item] > 1;
        s->uses[item] = 0;
        shelf_move(s, item, asked_again ? MAIN : GHOST);
        if (asked_again)
            continue;
        if (s->lists[GHOST].count > main)
            shelf_move(s, s->lists[GHOST].first, AWAY);
        return;
    }
    s3_evict_main(s);
}

static enum akin_status replay_s3_fifo(const struct request_stream *stream, size_t slots,
                                       uint64_t *hits, struct akin_error *error)
{
    size_t small = slots / 10 ? slots / 10 : 1;
    struct shelf s;
    uint64_t hit = 0;
    TRY(shelf_init(&s, stream->items, error));
    for (size_t i = 0; i < stream->count && slots; i++) {
        uint32_t item = stream->events[i].row;
        if (s.place[item] == SMALL || s.place[item] == MAIN) {
            hit++;
            s.uses[item] += s.uses[item] < S3_USES_MAX;
            continue;
        }
        bool back = s.place[item] == GHOST;
        if (back)
            shelf_move(&s, item, AWAY);
        if (s.lists[SMALL].count + s.lists[MAIN].count >= slots)
            s3_evict(&s, slots - small);
        s.uses[item] = 0;
        shelf_move(&s, item, back ? MAIN : SMALL);
    }
    *hits = hit;
    shelf_deinit(&s);
    return AKIN_OK;
}

/* ---- the window of days ----------------------------------------------------------------- */

enum { DAY = 86400, WINDOW_SECONDS = 7 * DAY, REBUILD_SECONDS = 3600 };

struct viewed {
    double score;
    uint32_t row;
};

static int higher_first(const void *a, const void *b)
{
    const struct viewed *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

struct days {
    bool *kept;
    double *views, *ratings;
    int64_t *last;
    struct viewed *ranked;
};

/* The best of what was seen in the last days before event `now`, which is not known yet. */
static void choose_kept(const struct days *d, const struct request_stream *stream, size_t oldest,
                        size_t now, size_t slots)
{
    size_t count = 0;
    memset(d->kept, 0, stream->items);
    memset(d->views, 0, stream->items * sizeof *d->views);
    memset(d->ratings, 0, stream->items * sizeof *d->ratings);
    for (size_t i = oldest; i < now; i++) {
        const struct akin_cache_event *event = &stream->events[i];
        d->views[event->row]++;
        d->ratings[event->row] += isnan(event->rating) ? 1 : event->rating;
        d->last[event->row] = event->timestamp;
    }
    for (size_t row = 0; row < stream->items; row++)
        if (d->views[row] > 0) {
            double age = (double)(stream->events[now].timestamp - d->last[row]) / DAY;
            d->ranked[count++] = (struct viewed){ d->ratings[row] * exp2(-age), (uint32_t)row };
        }
    qsort(d->ranked, count, sizeof *d->ranked, higher_first);
    for (size_t i = 0; i < count && i < slots; i++)
        d->kept[d->ranked[i].row] = true;
}

static enum akin_status replay_window_7d(const struct request_stream *stream, size_t slots,
                                         uint64_t *hits, struct akin_error *error)
{
    size_t items = stream->items, oldest = 0;
    struct days d = { memory_alloc(items, sizeof *d.kept), memory_alloc(items, sizeof *d.views),
                      memory_alloc(items, sizeof *d.ratings), memory_alloc(items, sizeof *d.last),
                      memory_alloc(items, sizeof *d.ranked) };
    enum akin_status status = AKIN_OK;
    if (!d.kept || !d.views || !d.ratings || !d.last || !d.ranked)
        status = error_memory(error);
    uint64_t hit = 0;
    int64_t chosen = 0;
    for (size_t i = 0; status == AKIN_OK && i < stream->count; i++) {
        int64_t now = stream->events[i].timestamp;
        if (i == 0 || now - chosen >= REBUILD_SECONDS) {
            while (stream->events[oldest].timestamp < now - WINDOW_SECONDS)
                oldest++;
            choose_kept(&d, stream, oldest, i, slots);
            chosen = now;
        }
        hit += d.kept[stream->events[i].row];
    }
    if (status == AKIN_OK)
        *hits = hit;
    memory_free(d.kept);
    memory_free(d.views);
    memory_free(d.ratings);
    memory_free(d.last);
    memory_free(d.ranked);
    return status;
}

/* ---- the bound -------------------------------------------------------------------------- */

static enum akin_status replay_belady(const struct request_stream *stream, size_t slots,
                                      uint64_t *hits, struct akin_error *error)
{
    struct heap h;
    uint64_t hit = 0;
    TRY(heap_init(&h, stream->items, error));
    size_t *next = memory_alloc(stream->count, sizeof *next);
    size_t *upcoming = memory_alloc(stream->items, sizeof *upcoming);
    enum akin_status status = next && upcoming ? AKIN_OK : error_memory(error);
    for (size_t i = 0; status == AKIN_OK && i < stream->items; i++)
        upcoming[i] = stream->count;
    for (size_t i = stream->count; status == AKIN_OK && i-- > 0;) {
        next[i] = upcoming[stream->events[i].row];
        upcoming[stream->events[i].row] = i;
    }
    for (size_t i = 0; status == AKIN_OK && i < stream->count; i++) {
        uint32_t item = stream->events[i].row;
        hit += h.places[item] != NOBODY;
        heap_set(&h, item, -(double)next[i]);
        if (h.count > slots)
            heap_drop_first(&h);
    }
    if (status == AKIN_OK)
        *hits = hit;
    memory_free(next);
    memory_free(upcoming);
    heap_deinit(&h);
    return status;
}

const struct cache_policy cache_policies[CACHE_POLICIES] = {
    { "lru", "LRU", replay_lru },
    { "lfu", "LFU", replay_lfu },
    { "w_tinylfu", "W-TinyLFU", replay_w_tinylfu },
    { "s3_fifo", "S3-FIFO", replay_s3_fifo },
    { "window_7d", "window of 7 days", replay_window_7d },
    { "belady", "Belady's bound", replay_belady },
};
