/* How much each item is in demand now:
 *
 *   score(i) = recent views x mean rating x recency weight
 *            = sum over events of i  2^(-age / half_life)  x  (ratings + 3 x 0.7) / (rated + 3)
 *
 * so that a rating counts as a view, and an item that few have rated is taken for an average one.
 * The age is counted in events, because that fits a dense and a sparse stream alike, or in seconds.
 * An event costs O(1). What the file does not know: which items are kept (policy.h). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct popularity;

struct popularity_settings {
    double half_life;   /* 0: events never lose weight */
    double window;      /* older events do not count at all; 0: none, however old */
    bool by_time;       /* both in seconds of the events' timestamps, otherwise in events */
    /* Called for an item that has lost an event to the window; may be NULL. */
    void (*expired)(void *context, uint32_t row);
    void *context;
};

void popularity_settings_default(struct popularity_settings *settings);

/* AKIN_ARGUMENT: a half-life or window that is negative or not finite. */
enum akin_status popularity_create(const struct popularity_settings *settings, size_t items,
                                   struct popularity **popularity, struct akin_error *error);
void popularity_destroy(struct popularity **popularity);

/* An event: a view, or a rating 0 to 1 (NAN: none was given). A timestamp that is before the last
 * one counts as that. AKIN_MEMORY: the window holds fewer events than it should. */
enum akin_status popularity_add(struct popularity *popularity, uint32_t row, double rating,
                                int64_t timestamp, struct akin_error *error);

/* The place of an item among all: a greater one is more in demand. As all scores decay alike, it
 * changes only with the item's own events. -INFINITY: no event counts. */
double popularity_key(const struct popularity *popularity, uint32_t row);
/* The score as of the last event. */
double popularity_score(const struct popularity *popularity, uint32_t row);

size_t popularity_bytes(const struct popularity *popularity);
