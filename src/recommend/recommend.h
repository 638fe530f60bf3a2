/* Recommendations: what akin/recommend.h promises, over a backend and a catalogue instead of an
 * engine, and without a model: the vector of a query comes from the caller.
 *
 * By vectors, in the space of the published ones:
 *   one of similar, user, query   v = x for an item, x/|x| for a user or a query
 *   several                       v = m/|m|,  m = w q/|q| + (1 - w) mean(x/|x| of the others)
 *                                 where there is a query, otherwise the mean alone
 * with w = query_weight. The similarity is the inner product of v with the item's vector. A user is
 * the vector of the catalogue, or the fold of the last ratings where there are some since.
 *
 * By parts, in the text space (space.h), where people live (users.h): v is made the same way, a
 * user being the sum of the fast and the slow vector at length 1; and the score of an item is
 *   text * cosine + title * words in common + taste * rated together + popularity + context
 * with the weights of candidates.c. Candidates are the best of each part.
 *
 * The item itself, the history, what the user has rated unless include_seen, and what is excluded
 * are left out. */
#pragma once

#include "akin/recommend.h"
#include "base/status.h"
#include "compute/personal_device.h"
#include "recommend/cooccur.h"

struct asked;
struct backend;
struct candidate;
struct catalog;
struct explore;
struct graph_model;
struct neighbors;
struct recommender;
struct space;
struct speaker;
struct users;

/* Both must outlive it. AKIN_NOT_FOUND: the catalogue has no vectors yet. */
enum akin_status recommender_open(struct backend *backend, const struct catalog *catalog,
                                  struct recommender **recommender, struct akin_error *error);
void recommender_close(struct recommender **recommender);

/* From now on a user is who is known live, and what was rated since the import is left out as well.
 * `users` must outlive the recommender and live in recommender_space; NULL: nobody is live. */
void recommender_use_live(struct recommender *recommender, struct users *users);
/* Requests may explore from now on. `explore` must outlive the recommender. */
void recommender_use_explore(struct recommender *recommender, struct explore *explore);
/* The text space, made by whoever asks first; it lives as long as the recommender. Any thread. */
enum akin_status recommender_space(const struct recommender *recommender,
                                   const struct space **space, struct akin_error *error);

/* What was learned from the catalogue; all of it may be missing, and outlives the recommender. */
struct recommend_inputs {
    bool fitted;                /* AKIN_RANK_AUTO goes by parts */
    float query_weight;         /* where it is fitted: of words, if the request leaves it open */
    const struct speaker *speaker;  /* of what follows a past; NULL: raters in common, counted */
    const struct graph_model *graph;    /* of new items; NULL: their texts are all that is known */
    struct item_rows similar;   /* starts NULL: raters in common, counted */
    const float *popularity;    /* [items] any numbers >= 0; NULL: how many rated it */
};

/* The three below not while requests run. */
void recommender_use_inputs(struct recommender *recommender, const struct recommend_inputs *inputs);

/* The same, asked for by the first request that may need them: `open` fills what it finds, and is
 * called again by the next one where it fails. */
struct recommend_source {
    enum akin_status (*open)(void *context, struct recommend_inputs *inputs,
                             struct akin_error *error);
    void *context;
};
void recommender_use_source(struct recommender *recommender,
                            const struct recommend_source *source);

/* The stage behind the weighed sum: gets the candidates [count], in no particular order, and may
 * change their scores. */
struct recommend_rescorer {
    void *context;
    enum akin_status (*rescore)(void *context, const struct asked *asked,
                                struct candidate *candidates, size_t count,
                                struct akin_error *error);
};
void recommender_use_rescorer(struct recommender *recommender,
                              const struct recommend_rescorer *rescorer);

/* Whether AKIN_RANK_AUTO goes by parts for an item alone. */
enum akin_status recommender_fitted(const struct recommender *recommender, bool *fitted,
                                    struct akin_error *error);

/* Requests for an item alone are answered from these lists from now on: of the ranking that
 * AKIN_RANK_AUTO takes for them, by parts of neighbors_compute_answers, by vectors of
 * neighbors_compute_vectors. NULL: no longer. */
enum akin_status recommender_use_neighbors(struct recommender *recommender,
                                           struct neighbors *neighbors, struct akin_error *error);

/* Once prepared: searches of the text space run on a card; as space_index_use_card. */
enum akin_status recommender_use_card(struct recommender *recommender,
                                      const struct search_device_ops *ops, int ordinal,
                                      struct akin_error *error);
/* And once it is used: requests that the card can answer as a whole (personal.h) go there.
 * AKIN_UNSUPPORTED, AKIN_MEMORY, AKIN_IO: it cannot; requests go on without it. Not while requests
 * run. */
enum akin_status recommender_use_personal(struct recommender *recommender,
                                          const struct personal_device_ops *ops, int ordinal,
                                          struct akin_error *error);
/* Once after the card has failed at either, with why; the CPU has done that since. Any thread. */
bool recommender_card_failed(const struct recommender *recommender, struct akin_error *why);
/* As akin_recommender_prepare. */
enum akin_status recommender_prepare(struct recommender *recommender,
                                     struct akin_progress progress, struct akin_error *error);

void recommend_request_default(struct akin_request *request);

/* `query_vector` [dimension] is what request->query was encoded to: both are set or neither.
 * `results` [request->k], `explanations` [request->k] or NULL. `timing` (may be NULL): encode_ms is
 * 0 and not part of total_ms; the caller adds what it spent. Any thread. */
enum akin_status recommend(const struct recommender *recommender,
                           const struct akin_request *request, const float *query_vector,
                           struct akin_recommendation *results,
                           struct akin_explanation *explanations, size_t *found,
                           struct akin_recommend_timing *timing, struct akin_error *error);

/* The same without explanations, and never from lists that are ready. */
enum akin_status recommend_anew(const struct recommender *recommender,
                                const struct akin_request *request,
                                struct akin_recommendation *results, size_t *found,
                                struct akin_error *error);

/* Many requests, each as recommend() answers it; query_vectors[i] as query_vector. As
 * akin_recommend_batch. */
enum akin_status recommend_batch(const struct recommender *recommender,
                                 const struct akin_request *requests,
                                 const float *const *query_vectors, size_t count,
                                 struct akin_answer *answers, struct akin_error *error);

/* The nearest of ready vectors [count][dimension], mapped to the text space, with one filter (NULL:
 * none). */
enum akin_status recommend_vectors(const struct recommender *recommender, const float *vectors,
                                   size_t count, size_t k, const char *filter,
                                   struct akin_recommendation *results, size_t *found,
                                   struct akin_error *error);

enum akin_status recommend_report(const struct recommender *recommender,
                                  const struct akin_recommendation *results, size_t count,
                                  struct akin_list_report *report, struct akin_error *error);

/* Whether anything is known of a user. */
enum akin_status recommender_knows(const struct recommender *recommender, const char *user,
                                   bool *knows, struct akin_error *error);

/* How many items pass a filter (NULL: all). */
enum akin_status recommender_count(const struct recommender *recommender, const char *filter,
                                   size_t *count, struct akin_error *error);

void recommender_memory(const struct recommender *recommender,
                        struct akin_recommender_memory *memory);
