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
bool personal_takes(const struct recommender *r, const struct recommend_inputs *inputs,
                    const struct akin_request *request);
/* A resolved request, and what it points to: in the scratch of the request, or its query. */
struct personal_asked {
    struct personal_request request;
    const float *query, *person;
    const uint32_t *skip, *history;
};

/* Weighed; `passing` items pass its filter, and the mask is the caller's to set. false: it is for
 * the CPU, because so few may be found that all of them are candidates, or for its mood. */
bool personal_ask(struct asked *asked, const float *query_vector, size_t passing,
                  struct personal_asked *out);
static inline size_t personal_lists(const struct personal_asked *asked)
{
    return (size_t)asked->request.skip_count + asked->request.history_count;
}

/* A room of the card's; any thread may take one. NULL: the card has failed, or there is no memory.
 */
struct card_room {
    struct card_room *next;
    struct personal_room room;
};

struct card_room *personal_take_room(struct personal_card *card,
                                     const struct personal_sizes *sizes);
void personal_give_room(struct personal_card *card, struct card_room *room);

/* How long the lists of a request were at most, on average over a batch, within bounds. Any
 * thread. */
size_t personal_listed(const struct personal_card *card);
void personal_note_listed(struct personal_card *card, size_t listed);

/* Where a request is written. */
struct personal_place {
    size_t number, vector;      /* of its vectors the first; */
    size_t list;                /* of its lists likewise */
    size_t mask_count;
};

/* false: it is not for the card, or the card has failed. Any thread. */
bool personal_write(struct personal_card *card, struct card_room *room,
                    const struct personal_place *place, const struct personal_asked *asked);

/* What was written, k results each. false: the card has failed, or this is not for it. Any thread;
 * one call at a time. */
struct personal_call {
    size_t count, k, lists;     /* lists: numbers in use */
    const uint64_t *masks;
    size_t mask_count;
};

bool personal_answer(struct personal_card *card, const struct personal_call *call,
                     struct card_room *room);
/* Results of one of them; PERSONAL_NOWHERE: the CPU knows what is wrong with it. */
size_t personal_results(const struct card_room *room, size_t number, size_t k,
                        struct akin_recommendation *results);
/* One alone. */
bool personal_answer_one(struct personal_card *card, struct personal_asked *asked,
                         const uint64_t *mask, size_t k, struct akin_recommendation *results,
                         size_t *found);
/* As personal_device_ops.nearest. */
bool personal_nearest(struct personal_card *card, size_t count, size_t k, const uint64_t *mask,
                      struct card_room *room);
