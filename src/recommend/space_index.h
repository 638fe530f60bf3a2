/* The text space, made fast: a segment of the flat kind (index/flat.h) in memory. Exact where that
 * is asked for; otherwise the best of sketches first, to a recall that was measured when it was
 * made. One query and many of them take the same way, so a query has the same answer in any batch.
 * Without an index the same is answered exactly by scoring every item.
 *
 * A card, where there is one, answers everything exactly; when it fails, the index goes on without
 * it. */
#pragma once

#include "akin/engine.h"
#include "compute/search_device.h"
#include "recommend/space.h"

struct space_index;

/* The space must outlive it. */
enum akin_status space_index_create(struct backend *backend, const struct space *space,
                                    struct akin_progress progress, struct space_index **index,
                                    struct akin_error *error);
void space_index_destroy(struct space_index **index);
uint64_t space_index_bytes(const struct space_index *index);

/* From now on card `ordinal` searches. AKIN_UNSUPPORTED: not this space; AKIN_MEMORY, AKIN_IO. No
 * search may be under way. */
enum akin_status space_index_use_card(struct space_index *index, const struct space *space,
                                      const struct search_device_ops *ops, int ordinal,
                                      struct akin_error *error);

/* Once after the card has failed, with why. Any thread. */
bool space_index_card_failed(struct space_index *index, struct akin_error *why);

/* The card's rows, for others on the same card; NULL: there is none. As long as the index lives. */
const struct search_device *space_index_card(const struct space_index *index);

struct space_query {
    const float *vectors;       /* [count][dim], of length 1 */
    size_t count, k;            /* k of 1..K_MAX */
    const uint64_t *allowed;    /* a bit for each item, of those that may be found; NULL: all */
    size_t allowed_count;
    float recall;               /* 1: exact */
};

/* Of items, from a quarter of what their vectors take: the product of `vector` with items[i] is
 * within errors[i] of values[i], for certain. false: it is not known. */
bool space_bound(const struct space_index *index, const float *vector, const uint32_t *items,
                 size_t count, float *values, float *errors);

/* The k nearest of each, best first, ties by row, to hits [count][k]; found [count]. `index` may be
 * NULL. Blank items are found like others, with a score of 0: `allowed` leaves them out. */
enum akin_status space_search(const struct space *space, struct backend *backend,
                              struct space_index *index, const struct space_query *query,
                              struct hit *hits, size_t *found, struct akin_error *error);
