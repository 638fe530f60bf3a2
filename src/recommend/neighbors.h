/* The neighbour cache of akin/neighbors.h over any source of lists. One background thread counts
 * the events (popularity.h), decides what is kept (policy.h), computes and publishes lists; readers
 * copy what is published. No reader waits: a list is written into a block that nobody sees, its
 * item is then pointed to it, and the old block is used again only after all who may read it have
 * left. */
#pragma once

#include "akin/neighbors.h"
#include "base/status.h"

struct backend;
struct catalog;
struct neighbors;
struct recommender;
struct search_device;
struct search_device_ops;

/* Where lists go, one after the other, without a copy: begin gives room for AKIN_NEIGHBORS_MAX, and
 * end says whose list of how many it is now; from then on it is read. */
struct neighbors_sink {
    struct akin_neighbor *(*begin)(void *context);
    void (*end)(void *context, uint32_t row, size_t found);
    void *context;
};

/* Where lists come from. `compute` gives the sink the lists of the first of rows [count], in any
 * order, and says in *done of how many: one at least. Only the background calls it, one call at a
 * time. `batch` says how many it is best given at once now, up to NEIGHBORS_BATCH_MAX; NULL:
 * NEIGHBORS_BATCH, which a processor's core does between two looks at what else there is to do. */
enum { NEIGHBORS_BATCH = 64, NEIGHBORS_BATCH_MAX = 16384 };
struct neighbors_source {
    enum akin_status (*compute)(void *context, const uint32_t *rows, size_t count,
                                const struct neighbors_sink *sink, size_t *done,
                                struct akin_error *error);
    void *context;
    size_t items;
    size_t (*batch)(void *context);
};

void neighbors_settings_default(struct akin_neighbors_settings *settings);

/* history [count], oldest first: events before this moment, which say what is computed first. */
enum akin_status neighbors_open(const struct neighbors_source *source,
                                const struct akin_neighbors_settings *settings,
                                const struct akin_cache_event *history, size_t count,
                                struct neighbors **neighbors, struct akin_error *error);
void neighbors_close(struct neighbors **neighbors);

/* As their public namesakes. */
bool neighbors_lookup(struct neighbors *neighbors, size_t row, struct akin_neighbor *list,
                      size_t *found);
enum akin_status neighbors_record(struct neighbors *neighbors, size_t row, double rating,
                                  int64_t timestamp, struct akin_error *error);
void neighbors_refresh(struct neighbors *neighbors);
enum akin_status neighbors_wait(struct neighbors *neighbors, struct akin_error *error);
void neighbors_count(struct neighbors *neighbors, struct akin_neighbors_counts *counts);

/* ---- lists from vectors (neighbors_vectors.c) -------------------------------------------- */

/* The nearest by inner product, every item scored. All must outlive the cache. */
struct neighbors_vectors {
    struct backend *backend;    /* its threads are the background's own, best one */
    const float *vectors;       /* [items][dim] */
    size_t items, dim;
    /* A card of its own that has them resident, or NULL; when it fails it is destroyed, and the
     * backend goes on. */
    struct search_device *card;
    const struct search_device_ops *card_ops;
};
/* A card is not worth its starts for a few. */
size_t neighbors_batch_vectors(void *context);
enum akin_status neighbors_compute_vectors(void *context, const uint32_t *rows, size_t count,
                                           const struct neighbors_sink *sink, size_t *done,
                                           struct akin_error *error);

/* ---- lists of answers (ready.c) ---------------------------------------------------------- */

/* Answers by parts, with their scores, of a recommender that is prepared. */
struct neighbors_answers {
    const struct recommender *recommender;
    const struct catalog *catalog;
};
enum akin_status neighbors_compute_answers(void *context, const uint32_t *rows, size_t count,
                                           const struct neighbors_sink *sink, size_t *done,
                                           struct akin_error *error);

/* The newest ratings of a catalogue, at most CACHE_HISTORY_MAX, oldest first; free with
 * memory_free. */
enum akin_status neighbors_history(const struct catalog *catalog, struct akin_cache_event **events,
                                   size_t *count, struct akin_error *error);
