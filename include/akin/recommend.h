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

/* People, live: what they rate from now on, and how fast their vectors follow. */
struct akin_recommender_settings {
    size_t max_active_users; /* 100,000: in memory at once, in one block; whoever has not been asked
                                for or updated longest makes room. 1 to 10,000,000 */
    float fast_rate;           /* 0.3 */
    float slow_rate;           /* 0.02; each above 0, at most 1 */
    bool store;                /* true: ratings are kept in akin.db of the catalogue's folder;
                                  otherwise they last as long as the recommender, and no longer than
                                  the user is active */
    bool durable; /* true: acknowledged once flushed to disk, so that they survive a loss
                     of power; otherwise they survive the end of the process only */
};

AKIN_API void akin_recommender_settings_default(struct akin_recommender_settings *settings);

/* `catalog` must be embedded and outlive the recommender. `model` may be NULL, and then requests
 * with a query are refused; otherwise its dimension must be that of the catalogue. `settings` may
 * be NULL: the defaults. akin.db is made by the first rating; one that is there is opened:
 * AKIN_FORMAT (damaged, or not ours), AKIN_UNSUPPORTED (made by a newer version), AKIN_BUSY
 * (locked), AKIN_IO. */
AKIN_API enum akin_status akin_recommender_open(struct akin_engine *engine,
                                                const struct akin_catalog *catalog,
                                                struct akin_model *model,
                                                const struct akin_recommender_settings *settings,
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

/* What a person thinks of an item. */
struct akin_feedback {
    const char *user;          /* at most 256 bytes of UTF-8; one that nobody knows is new */
    const char *item;          /* its id, such as "ml_1" */
    float rating;              /* 0 to 1 */
    int64_t timestamp;         /* Unix seconds, 0 to the end of the year 9999 */
};

/* Takes a rating: the user's vectors move by
 *   u <- (1 - a) u + a * rating * item,  a = max(rate, 1 / t),  t the number of ratings so far
 * and the next request sees it. A user of the catalogue starts from the ratings that it has.
 * Returns when the rating is acknowledged, which `settings` say the meaning of. Any thread; of one
 * user no update is lost, and those that wait at once share a flush to disk. Errors, each naming
 * the field, with nothing changed: AKIN_NOT_FOUND (item), AKIN_ARGUMENT (user, rating, timestamp);
 * AKIN_IO, AKIN_BUSY: it could not be kept. */
AKIN_API enum akin_status akin_recommend_update(struct akin_recommender *recommender,
                                                const char *user, const char *item, float rating,
                                                int64_t timestamp, struct akin_error *error);

/* The same for many, in their order: all of them, or none. *refused (may be NULL) is the first that
 * is wrong, or `count` where none is. */
AKIN_API enum akin_status akin_recommend_update_batch(struct akin_recommender *recommender,
                                                      const struct akin_feedback *feedback,
                                                      size_t count, size_t *refused,
                                                      struct akin_error *error);

/* Bytes held, by component; the total is of what stands before it. The block of active users is
 * reserved for max_active_users at once, and the system gives it memory as places are taken. */
struct akin_recommender_memory {
    uint64_t item_vectors, user_vectors, metadata, ratings, active_users, total;
    uint64_t active_users_reserved;
};

AKIN_API void akin_recommender_memory(const struct akin_recommender *recommender,
                                      struct akin_recommender_memory *memory);

#ifdef __cplusplus
}
#endif
#endif
