/* Each item has the sum of its weights as of its own last event; other times follow by a factor.
 * The window is a ring of the events inside it, of which the oldest are taken back. */
#include "recommend/popularity.h"

#include <math.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/memory.h"

static const double prior_rating = 0.7, prior_events = 3;

struct demand {
    double views;           /* sum of weights as of `at` */
    double at;              /* time of the last event */
    double ratings;         /* sum */
    uint32_t rated;
    uint32_t inside;        /* events that count; with a window only */
};

struct seen_event {
    double time;
    uint32_t row;
};

struct popularity {
    struct popularity_settings settings;
    struct demand *items;
    size_t count;
    double now;
    uint64_t events;
    struct seen_event *ring;    /* of the window: [capacity], `first` is the oldest */
    size_t first, held, capacity;
};

void popularity_settings_default(struct popularity_settings *settings)
{
    *settings = (struct popularity_settings){ .half_life = 8000 };
}

enum akin_status popularity_create(const struct popularity_settings *settings, size_t items,
                                   struct popularity **popularity, struct akin_error *error)
{
    if (!(settings->half_life >= 0 && isfinite(settings->half_life)))
        return error_set(error, AKIN_ARGUMENT, "half-life %g: it is at least 0 (0: no decay)",
                         settings->half_life);
    if (!(settings->window >= 0 && isfinite(settings->window)))
        return error_set(error, AKIN_ARGUMENT, "window %g: it is at least 0 (0: no window)",
                         settings->window);
    struct popularity *p = memory_alloc(1, sizeof *p);
    if (p)
        p->items = memory_alloc(items, sizeof *p->items);
    if (!p || !p->items) {
        memory_free(p);
        return error_memory(error);
    }
    p->settings = *settings;
    p->count = items;
    p->now = -INFINITY;
    *popularity = p;
    return AKIN_OK;
}

void popularity_destroy(struct popularity **popularity)
{
    if (!*popularity)
        return;
    memory_free((*popularity)->ring);
    memory_free((*popularity)->items);
    memory_free(*popularity);
    *popularity = NULL;
}

/* What remains of a weight after `age`. */
static double remaining(const struct popularity *p, double age)
{
    return p->settings.half_life > 0 ? exp2(-age / p->settings.half_life) : 1;
}

/* ---- the window ------------------------------------------------------------------------- */

static void expire_oldest(struct popularity *p)
{
    struct seen_event event = p->ring[p->first];
    struct demand *item = &p->items[event.row];
    p->first = (p->first + 1) % p->capacity;
    p->held--;
    /* exactly nothing remains of the last one, whatever rounding has left */
    item->views -= remaining(p, item->at - event.time);
    if (--item->inside == 0 || item->views < 0)
        item->views = 0;
    if (p->settings.expired)
        p->settings.expired(p->settings.context, event.row);
}

static enum akin_status grow_ring(struct popularity *p, struct akin_error *error)
{
    size_t capacity = p->capacity ? 2 * p->capacity : 1024;
    if (capacity > WINDOW_EVENTS_MAX)
        return error_set(error, AKIN_LIMIT, "a window of more than %d events: shorten it",
                         WINDOW_EVENTS_MAX);
    struct seen_event *ring = memory_alloc(capacity, sizeof *ring);
    if (!ring)
        return error_memory(error);
    for (size_t i = 0; i < p->held; i++)
        ring[i] = p->ring[(p->first + i) % p->capacity];
    memory_free(p->ring);
    p->ring = ring;
    p->first = 0;
    p->capacity = capacity;
    return AKIN_OK;
}

/* Keeps the event for its end. Where it cannot, the oldest one ends early instead. */
static enum akin_status remember(struct popularity *p, uint32_t row, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    if (p->held == p->capacity)
        status = grow_ring(p, error);
    if (status != AKIN_OK && p->held == 0)
        return status;
    if (status != AKIN_OK)
        expire_oldest(p);
    p->ring[(p->first + p->held++) % p->capacity] = (struct seen_event){ p->now, row };
    p->items[row].inside++;
    return status;
}

/* ---- events ----------------------------------------------------------------------------- */

enum akin_status popularity_add(struct popularity *p, uint32_t row, double rating,
                                int64_t timestamp, struct akin_error *error)
{
    ASSERT(row < p->count);
    double time = p->settings.by_time ? (double)timestamp : (double)p->events;
    p->events++;
    p->now = time > p->now ? time : p->now;
    while (p->held && p->now - p->ring[p->first].time >= p->settings.window)
        expire_oldest(p);
    enum akin_status status = AKIN_OK;
    if (p->settings.window > 0)
        status = remember(p, row, error);
    struct demand *item = &p->items[row];
    item->views = (item->views > 0 ? item->views * remaining(p, p->now - item->at) : 0) + 1;
    item->at = p->now;
    if (!isnan(rating)) {
        item->ratings += rating;
        item->rated++;
    }
    return status;
}

/* ---- what it says ----------------------------------------------------------------------- */

static double mean_rating(const struct demand *item)
{
    return (item->ratings + prior_events * prior_rating) / (item->rated + prior_events);
}

double popularity_key(const struct popularity *p, uint32_t row)
{
    ASSERT(row < p->count);
    const struct demand *item = &p->items[row];
    if (!(item->views > 0))
        return -INFINITY;
    double decay = p->settings.half_life > 0 ? item->at / p->settings.half_life : 0;
    return log2(item->views * mean_rating(item)) + decay;
}

double popularity_score(const struct popularity *p, uint32_t row)
{
    ASSERT(row < p->count);
    const struct demand *item = &p->items[row];
    if (!(item->views > 0))
        return 0;
    return item->views * remaining(p, p->now - item->at) * mean_rating(item);
}

size_t popularity_bytes(const struct popularity *p)
{
    return p->count * sizeof *p->items + p->capacity * sizeof *p->ring;
}
