/* Requests that a card answers as a whole: people and words by parts, whose taste is counted from
 * ratings or was learned, but for the reranker and the graph. All others, and all when the card has
 * failed, are answered on the CPU. */
#pragma once

#include "compute/personal_device.h"
#include "recommend/request.h"

struct personal_card;

/* What the card is made of; none of it is needed afterwards but `rows`. */
struct personal_source {
    const struct personal_device_ops *ops;
    int ordinal;
    const struct search_device *rows;   /* of the space */
    const struct space *space;
    const struct item_rows *similar;    /* starts NULL: none */
    const float *popularity;            /* [items], and the order of it */
    const uint32_t *by_popularity;
    const struct speaker *speaker;      /* NULL: nothing was learned of people */
};

enum akin_status personal_card_create(const struct personal_source *source,
                                      struct personal_card **card, struct akin_error *error);
void personal_card_destroy(struct personal_card **card);
/* Once after it has failed, with why. Any thread. */
bool personal_card_failed(struct personal_card *card, struct akin_error *why);
/* Whether it has not failed. Any thread. */
bool personal_card_works(const struct personal_card *card);

/* Whether there is a card that answers such requests; then it is resolved with asked.on_card. */
bool personal_takes(const struct recommender *r, const struct akin_request *request);
/* A resolved request as the card wants it, weighed; `passing` items pass its filter. It points into
 * the scratch of the request and to the query, and the mask is the caller's to set. false: it is
 * for the CPU, because so few may be found that all of them are candidates, or for its mood. */
bool personal_ask(struct asked *asked, const float *query_vector, size_t passing,
                  struct personal_request *out);

/* Requests for k results each. */
struct personal_call {
    const struct personal_request *requests;
    size_t count, k;
    const uint64_t *masks;
    size_t mask_count;
    struct akin_recommendation *const *results;     /* [count], each [k] */
    size_t *found;              /* [count]; PERSONAL_NOWHERE: the CPU knows what is wrong with it */
};

/* false: the card has failed, or this is not for it. Any thread; one call at a time. */
bool personal_answer(struct personal_card *card, const struct personal_call *call);
/* The same of personal_device_ops.nearest. */
bool personal_nearest(struct personal_card *card, const float *vectors, size_t count, size_t k,
                      const uint64_t *mask, struct hit *hits, size_t *found);
