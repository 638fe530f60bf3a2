/* SPDX-License-Identifier: Apache-2.0
 * Recommendations over a catalogue: like an item, for a user, for words, or a mixture. */
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
    uint64_t explore_seed;     /* 1: of what is drawn where a request explores */
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

/* What items are ranked by. */
enum akin_ranking {
    AKIN_RANK_AUTO,            /* by parts where a person or a past is asked for, or the catalogue
                                  was fitted; by vectors otherwise */
    AKIN_RANK_VECTORS,         /* the inner product with the published vectors, and nothing else */
    AKIN_RANK_PARTS            /* text, titles, taste and popularity, weighed (docs/recommend.md) */
};

/* At least one of similar, user, query and history is set. Vectors of those that are set are
 * averaged after each is brought to length 1, with `query_weight` for the query against the rest.
 * A user that nobody knows is new: what is popular, or what else was asked for. */
struct akin_request {
    const char *similar;       /* a title as people type it, or an item id */
    const char *user;
    const char *query;         /* free text */
    const char *filter;        /* docs/filters.md, such as "genre=Sci-Fi AND year>=1990" */
    const char *context;       /* JSON: {"genre_prefs": {"Comedy": 0.9}, ...}; docs/recommend.md */
    const char *const *history; /* [history_count] titles or ids, newest last: taken as if the user
                                  had just liked them; nothing is stored */
    size_t history_count;
    const char *const *exclude; /* [exclude_count] titles or ids that are left out */
    size_t exclude_count;
    size_t k;
    enum akin_ranking ranking;
    int64_t now;               /* Unix seconds, against which a last visit is long ago; 0: now */
    float query_weight;        /* 0 to 1; negative, the default: what akin_fit learned, or 0.7 */
    float popularity;          /* weight of the popularity of an item; negative: the default */
    float diversity;           /* 0: the best; towards 1: unlike each other (MMR) */
    float recall;              /* of a search by vectors, 0 to 1; 1: exact. Default 0.99; without
                                  akin_recommender_prepare every search is exact */
    bool include_seen;         /* also what the user has rated, and the history */
    bool no_near_duplicates;   /* nothing that is nearly the same as another result, or as what is
                                  left out */
    bool explore; /* some places are given to what a bandit draws, which is kept in akin.db with its
                     probability: docs/recommend.md. For a user, by parts */
    uint64_t request_number;   /* of an exploring request: the same one draws the same; 0: the next
                                  one */
};

AKIN_API void akin_request_default(struct akin_request *request);

/* What each part adds to a score. */
struct akin_score_parts {
    float text, title, taste, popularity, context;
    float graph;               /* of an item that nobody had chosen: more or less than its text */
};

struct akin_recommendation {
    size_t row;                /* in the catalogue; akin_catalog_item tells the rest */
    float similarity;          /* cosine to the request's vector, -1 to 1 */
    float score;               /* what it is ranked by; by vectors: the similarity */
    struct akin_score_parts parts;
    const char *arm;           /* that proposed it, at a place that a bandit gave away, or NULL; */
    float propensity;          /* the probability that this arm was drawn there */
};

enum { AKIN_BECAUSE_MAX = 3, AKIN_SHARED_MAX = 8 };

/* Why an item is recommended. Strings live as long as the catalogue. */
struct akin_explanation {
    struct {
        size_t row;            /* an item that was asked for, or of the user's past */
        float share;           /* of what such items add, 0 to 1 */
    } because[AKIN_BECAUSE_MAX];    /* largest first */
    size_t because_count;
    const char *genres[AKIN_SHARED_MAX];    /* that it shares with them */
    size_t genre_count;
    const char *themes[AKIN_SHARED_MAX];
    size_t theme_count;
};

/* Where the time went, milliseconds. */
struct akin_recommend_timing {
    double encode_ms, fuse_ms, filter_ms, search_ms, rerank_ms, total_ms;
    double graph_ms, new_ms;   /* of search_ms: the person in the graph of `akin fit --graph`, and
                                  then the candidates that nobody chose */
    double situation_ms;       /* of search_ms what a trained reranker took for the context, */
    size_t situation_candidates;       /* and how many it rescored; 0: there was nothing to do */
};

/* Makes later requests fast: an index of the items in memory, and all that the first request would
 * otherwise make. Seconds for a large catalogue; not while requests run. AKIN_CANCELLED. */
AKIN_API enum akin_status akin_recommender_prepare(struct akin_recommender *recommender,
                                                   struct akin_progress progress,
                                                   struct akin_error *error);

/* Best first, ties by row; writes at most k to `results` and their number to *found, which is
 * below k only when fewer items pass. `timing` may be NULL. Any thread.
 * Errors: AKIN_NOT_FOUND (title, with near ones), AKIN_ARGUMENT (filter, with column; context, with
 * field; nothing asked); where it explores AKIN_BUSY, AKIN_IO and AKIN_FORMAT: akin.db could not
 * keep the choice. */
AKIN_API enum akin_status akin_recommend(struct akin_recommender *recommender,
                                         const struct akin_request *request,
                                         struct akin_recommendation *results, size_t *found,
                                         struct akin_recommend_timing *timing,
                                         struct akin_error *error);

/* The same, with the reasons: explanations [k]. */
AKIN_API enum akin_status akin_recommend_explained(struct akin_recommender *recommender,
                                                   const struct akin_request *request,
                                                   struct akin_recommendation *results,
                                                   struct akin_explanation *explanations,
                                                   size_t *found,
                                                   struct akin_recommend_timing *timing,
                                                   struct akin_error *error);

/* One answer of many: where the results go, and what became of them. */
struct akin_answer {
    struct akin_recommendation *results;    /* [k of its request], the caller's */
    size_t found;
    enum akin_status status;   /* of this request; found is 0 unless AKIN_OK */
};

/* Requests [count], each answered as akin_recommend answers it, to answers [count]. Queries are
 * encoded together; what a GPU answers goes there in one piece, and the rest is spread over the
 * engine's threads. Any thread. Returns what is wrong with the first request that is refused, with
 * its number in the message; the others are answered. AKIN_MEMORY, or an error of the encoder:
 * nothing was. */
AKIN_API enum akin_status akin_recommend_batch(struct akin_recommender *recommender,
                                               const struct akin_request *requests, size_t count,
                                               struct akin_answer *answers,
                                               struct akin_error *error);

/* The nearest items of ready vectors [count][dimension], as the model makes them: each is mapped to
 * the text space (less the mean of the catalogue, length 1), and the similarity is the cosine
 * there. k each, one filter for all (NULL: none); to the default recall once prepared, exact
 * before. `results` [count][k], `found` [count]: 0 for a vector that points nowhere. */
AKIN_API enum akin_status akin_recommend_vectors(struct akin_recommender *recommender,
                                                 const float *vectors, size_t count, size_t k,
                                                 const char *filter,
                                                 struct akin_recommendation *results, size_t *found,
                                                 struct akin_error *error);

/* Whether anything is known of a user, live or from the import. */
AKIN_API enum akin_status akin_recommender_knows(struct akin_recommender *recommender,
                                                 const char *user, bool *knows,
                                                 struct akin_error *error);

/* How a list looks beside the catalogue: whether it shows more than what everybody knows. */
struct akin_list_report {
    double novelty_bits;       /* mean of -log2(share of the users who rated it), at least one */
    double popular_share;      /* of the list among the 1 % most rated items */
    double diversity;          /* mean of 1 - cosine over its pairs, in the text space */
};

AKIN_API enum akin_status akin_recommend_report(struct akin_recommender *recommender,
                                                const struct akin_recommendation *results,
                                                size_t count, struct akin_list_report *report,
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

/* What exploring requests have learned: an arm among people of a segment ("few/Drama": how many
 * ratings are known of them, and of which genre the last ones are most; "all": everybody). */
struct akin_arm {
    char segment[64], name[64];
    double alpha, beta;        /* of the mean reward, alpha / (alpha + beta) on average */
    double share;              /* the probability with which it is drawn now, where all can be; NaN:
                                  an arm that this program does not have */
    uint64_t choices, rewards; /* made; of these with a reward: a rating, or 0 after seven days */
    double reward;             /* their sum */
};

/* By segment and name, to arms [capacity]; *count may be greater. Looks for rewards first. No
 * memory of its own: may be asked twice. Any thread. */
AKIN_API enum akin_status akin_recommender_arms(struct akin_recommender *recommender,
                                                struct akin_arm *arms, size_t capacity,
                                                size_t *count, struct akin_error *error);

/* Bytes held, by component; the total is of what stands before it. The block of active users is
 * reserved for max_active_users at once, and the system gives it memory as places are taken. */
/* What akin_recommender_wake did. */
struct akin_wake_report {
    uint64_t users, ratings;   /* folded; each rating moves two vectors */
    double seconds;
    bool on_card;              /* folded there; what follows is of it */
    double card_ms;            /* by its clock, without copies */
    uint64_t card_bytes;       /* that were held meanwhile */
};

/* Makes people active before they ask: those of the catalogue who rated last, at most users_max and
 * as many as there is room for. Their state is that of a first request, bit for bit. On all
 * threads, or folded on a card where the engine has one; with "auto" the CPU goes on where that
 * fails. AKIN_CANCELLED: some are active. `report` may be NULL. Any thread. */
AKIN_API enum akin_status akin_recommender_wake(struct akin_recommender *recommender,
                                                size_t users_max, struct akin_progress progress,
                                                struct akin_wake_report *report,
                                                struct akin_error *error);

struct akin_recommender_memory {
    uint64_t item_vectors, user_vectors, metadata, ratings;
    uint64_t space;            /* the text space */
    uint64_t index;            /* what makes requests fast: akin_recommender_prepare */
    uint64_t active_users, total;
    uint64_t active_users_reserved;
};

AKIN_API void akin_recommender_memory(const struct akin_recommender *recommender,
                                      struct akin_recommender_memory *memory);

#ifdef __cplusplus
}
#endif
#endif
