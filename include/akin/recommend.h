/* SPDX-License-Identifier: Apache-2.0
 * Recommendations over a catalogue: like an item, for a user, for words, or a mixture. Exact: every
 * item is scored. */
#ifndef AKIN_RECOMMEND_H
#define AKIN_RECOMMEND_H

#include "akin/catalog.h"

#ifdef __cplusplus
extern "C" {
#endif

struct akin_recommender;

/* `catalog` must be embedded and outlive the recommender. `model` may be NULL, and then requests
 * with a query are refused; otherwise its dimension must be that of the catalogue. */
AKIN_API enum akin_status akin_recommender_open(struct akin_engine *engine,
                                                const struct akin_catalog *catalog,
                                                struct akin_model *model,
                                                struct akin_recommender **recommender,
                                                struct akin_error *error);
AKIN_API void akin_recommender_close(struct akin_recommender **recommender);

/* At least one of similar, user and query is set; the vectors of those that are set are averaged
 * after each is brought to length 1, with `query_weight` for the query against the rest. */
struct akin_request {
    const char *similar;       /* a title as people type it, or an item id */
    const char *user;
    const char *query;         /* free text */
    const char *filter;        /* docs/filters.md, such as "genre=Sci-Fi AND year>=1990" */
    size_t k;
    float query_weight;        /* default 0.7 */
    bool include_seen;         /* also what the user has rated */
};

AKIN_API void akin_request_default(struct akin_request *request);

struct akin_recommendation {
    size_t row;                /* in the catalogue; akin_catalog_item tells the rest */
    float similarity;          /* cosine to the request's vector, -1 to 1 */
};

/* Where the time went, milliseconds. */
struct akin_recommend_timing {
    double encode_ms, fuse_ms, filter_ms, search_ms, total_ms;
};

/* Best first, ties by row; writes at most k to `results` and their number to *found, which is
 * below k only when fewer items pass. `timing` may be NULL. Any thread.
 * Errors: AKIN_NOT_FOUND (title, with near ones; user), AKIN_ARGUMENT (filter, with column;
 * nothing asked). */
AKIN_API enum akin_status akin_recommend(struct akin_recommender *recommender,
                                         const struct akin_request *request,
                                         struct akin_recommendation *results, size_t *found,
                                         struct akin_recommend_timing *timing,
                                         struct akin_error *error);

/* The same for ready vectors [count][dimension] (not normalised by this call: similarity is their
 * inner product with the items), k each, one filter for all (NULL: none). `results` [count][k],
 * `found` [count]. */
AKIN_API enum akin_status akin_recommend_vectors(struct akin_recommender *recommender,
                                                 const float *vectors, size_t count, size_t k,
                                                 const char *filter,
                                                 struct akin_recommendation *results, size_t *found,
                                                 struct akin_error *error);

/* Items that pass `filter`; AKIN_ARGUMENT names the column of a mistake. */
AKIN_API enum akin_status akin_recommender_count(struct akin_recommender *recommender,
                                                 const char *filter, size_t *count,
                                                 struct akin_error *error);

/* Bytes held, by component. */
struct akin_recommender_memory {
    uint64_t item_vectors, user_vectors, metadata, ratings, total;
};

AKIN_API void akin_recommender_memory(const struct akin_recommender *recommender,
                                      struct akin_recommender_memory *memory);

#ifdef __cplusplus
}
#endif
#endif
