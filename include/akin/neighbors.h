/* SPDX-License-Identifier: Apache-2.0
 * The neighbour cache: the 200 items most like an item, as akin_recommend ranks them for that item
 * alone, ready to read. Lists are computed in the background, those of items in demand first, and
 * replaced without a reader ever waiting. */
#ifndef AKIN_NEIGHBORS_H
#define AKIN_NEIGHBORS_H

#include "akin/recommend.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { AKIN_NEIGHBORS_MAX = 200 };

struct akin_neighbor {
    uint32_t row;
    float score;               /* as in struct akin_recommendation */
};

struct akin_neighbors_settings {
    size_t capacity;           /* lists kept, 1.6 KB each; 0: one for every item */
    /* What is in demand: views x mean rating, where an event loses half of its weight in
     * `half_life` and all of it after `window`. Default: 8000 events, no window. */
    double half_life;          /* 0: never */
    double window;             /* 0: none */
    bool by_time;              /* both in seconds, otherwise in events */
    bool ignore_history;       /* the catalogue's ratings do not count; only what comes does */
};

AKIN_API void akin_neighbors_settings_default(struct akin_neighbors_settings *settings);

struct akin_neighbors;

/* A cache for the recommender, which must outlive it; one at a time. Lists are ranked as
 * AKIN_RANK_AUTO does: by vectors, or by parts once the catalogue was fitted, and the recommender
 * is then prepared. From now on akin_recommend answers from them what asks for an item and nothing
 * else (k of at most 200), and what is rated by akin_recommend_update counts as demand. The lists
 * are not there yet when this returns: a thread of low priority computes them, one after the other.
 * Opening and closing are not for while requests run. Errors: AKIN_ARGUMENT (a setting, by name; a
 * second cache), AKIN_MEMORY. */
AKIN_API enum akin_status akin_neighbors_open(struct akin_recommender *recommender,
                                              const struct akin_neighbors_settings *settings,
                                              struct akin_neighbors **neighbors,
                                              struct akin_error *error);
AKIN_API void akin_neighbors_close(struct akin_neighbors **neighbors);

/* Copies the list of an item into list[AKIN_NEIGHBORS_MAX], best first, the item itself left out,
 * and its length to *found. false: it is not there, or not yet. Counts as a view of the item. Any
 * thread; waits for nobody. */
AKIN_API bool akin_neighbors_lookup(struct akin_neighbors *neighbors, size_t row,
                                    struct akin_neighbor *list, size_t *found);

/* Somebody has rated an item, 0 to 1. AKIN_ARGUMENT names the field that is wrong, and nothing is
 * changed. Any thread. */
AKIN_API enum akin_status akin_neighbors_record(struct akin_neighbors *neighbors, size_t row,
                                                double rating, int64_t timestamp,
                                                struct akin_error *error);

/* Computes every list anew, in the background; readers have the old ones meanwhile. */
AKIN_API void akin_neighbors_refresh(struct akin_neighbors *neighbors);
/* Until all lists that shall be there are, and every event so far is counted. A failure of the
 * background (out of memory) is told here. */
AKIN_API enum akin_status akin_neighbors_wait(struct akin_neighbors *neighbors,
                                              struct akin_error *error);

struct akin_neighbors_counts {
    uint64_t hits, misses;     /* of lookups */
    uint64_t dropped;          /* events that came faster than they could be counted */
    uint64_t admitted, evicted, bypassed, built;
    size_t capacity, lists;    /* lists: there now */
    uint64_t bytes;
    double age_seconds_mean, age_seconds_max;   /* since a list was computed */
};
AKIN_API void akin_neighbors_count(struct akin_neighbors *neighbors,
                                   struct akin_neighbors_counts *counts);

/* ---- how large? ------------------------------------------------------------------------- */

struct akin_cache_event {
    int64_t timestamp;
    double rating;             /* 0 to 1; NAN: a view without one */
    uint32_t row;
};

/* How many of the events [count], in the order in which they happened, a cache of these settings
 * would have answered: each one asks for its item before anything later is known. Items are
 * numbered below `items`. */
AKIN_API enum akin_status akin_cache_replay(const struct akin_cache_event *events, size_t count,
                                            size_t items,
                                            const struct akin_neighbors_settings *settings,
                                            uint64_t *hits, struct akin_error *error);

#ifdef __cplusplus
}
#endif
#endif
