/* Recommendations: what akin/recommend.h promises, over a backend and a catalogue instead of an
 * engine, and without a model: the vector of a query comes from the caller.
 *
 * The vector that items are compared with:
 *   one of similar, user, query   v = x for an item, x/|x| for a user or a query
 *   several                       v = m/|m|,  m = w q/|q| + (1 - w) mean(x/|x| of the others)
 *                                 where there is a query, otherwise the mean alone
 * with w = query_weight. The similarity is the inner product of v with the item's vector. The item
 * itself, and what the user has rated unless include_seen, are left out. */
#pragma once

#include "akin/recommend.h"
#include "base/status.h"

struct backend;
struct catalog;
struct recommender;
struct users;

/* Both must outlive it. AKIN_NOT_FOUND: the catalogue has no vectors yet. */
enum akin_status recommender_open(struct backend *backend, const struct catalog *catalog,
                                  struct recommender **recommender, struct akin_error *error);
void recommender_close(struct recommender **recommender);

/* From now on a user with ratings since the import has the fast vector of the live state, and what
 * was rated since is left out as well. `users` must outlive the recommender; NULL: nobody is live.
 */
void recommender_use_live(struct recommender *recommender, struct users *users);

void recommend_request_default(struct akin_request *request);

/* `query_vector` [dimension] is what request->query was encoded to: both are set or neither.
 * `results` [request->k]. `timing` (may be NULL): encode_ms is 0 and not part of total_ms; the
 * caller adds what it spent. Any thread. */
enum akin_status recommend(const struct recommender *recommender,
                           const struct akin_request *request, const float *query_vector,
                           struct akin_recommendation *results, size_t *found,
                           struct akin_recommend_timing *timing, struct akin_error *error);

/* The same for ready vectors [count][dimension], used as they are, with one filter (NULL: none). */
enum akin_status recommend_vectors(const struct recommender *recommender, const float *vectors,
                                   size_t count, size_t k, const char *filter,
                                   struct akin_recommendation *results, size_t *found,
                                   struct akin_error *error);

/* How many items pass a filter (NULL: all). */
enum akin_status recommender_count(const struct recommender *recommender, const char *filter,
                                   size_t *count, struct akin_error *error);

void recommender_memory(const struct recommender *recommender,
                        struct akin_recommender_memory *memory);
