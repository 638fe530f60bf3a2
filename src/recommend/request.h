/* What the files of a request share: the recommender, what one request needs, and its candidates.
 *
 *   scratch.c     memory of a request, kept for the next one
 *   resolve.c     names to rows, people and words to vectors; who is left out
 *   candidates.c  generators offer rows and rate them; the parts are weighed into a score
 *   diversity.c   the best of them, one by one
 *   explore_list.c  places that a bandit gives away
 *   personal.c    requests that a card answers
 *   batch.c       many at once
 *   ready.c       answers from the neighbour cache instead
 *   explain.c     why
 *   recommend.c   all of it in order, and the answer by published vectors
 *
 * Where something may join: a generator is a row of a table (candidates.c) with a part of the score
 * of its own; a rescorer (recommend.h) sees the candidates when they are scored; rows that were
 * learned (struct recommend_inputs) take the place of those counted from ratings. */
#pragma once

#include <stdatomic.h>

#include "base/thread.h"
#include "compute/backend.h"
#include "recommend/blend.h"
#include "recommend/context.h"
#include "recommend/cooccur.h"
#include "recommend/explore.h"
#include "recommend/gather.h"
#include "recommend/graph_past.h"
#include "recommend/recommend.h"
#include "recommend/space.h"
#include "recommend/space_index.h"
#include "recommend/speaker.h"
#include "recommend/titles.h"
#include "recommend/users.h"

/* The parts of a score, in the order of struct akin_score_parts. */
enum part { PART_TEXT, PART_TITLE, PART_TASTE, PART_POPULARITY, PART_CONTEXT, PART_GRAPH,
            PARTS };

/* Made by the first request that needs it. */
struct aids {
    struct titles *titles;
    struct cooccur *cooccur;
    float *popularity;          /* [items] 0 to 1 */
    uint32_t *by_popularity;    /* [items] rows, most popular first */
    struct graph_past past;     /* empty where there is no graph */
};

/* What requests change. */
struct shared {
    atomic_bool opened, spaced; /* the inputs and the space are there, and stay */
    struct mutex *lock;         /* guards the rest */
    struct space *space;        /* NULL: not made yet; then it stays */
    struct recommend_source source;     /* open NULL: the inputs are there */
    struct recommend_inputs inputs;
    struct aids *aids;          /* NULL: not made yet; then it stays */
    struct scratch *idle;
};

/* The neighbour cache that answers for the item alone; neighbors NULL: none does. */
struct ready {
    struct neighbors *neighbors;
    bool blend;                 /* it has lists by parts, */
    float recall;               /* of this recall; by vectors they are exact */
};

struct recommender {
    struct backend *backend;
    const struct catalog *catalog;
    const float *vectors;       /* [items][dimension], as published */
    size_t items, dimension;
    struct filter_table *table;
    struct space_index *index;  /* NULL: every search scores every item */
    struct personal_card *card; /* NULL: none answers requests */
    struct item_rows rows;      /* starts NULL: counted when they are needed */
    struct users *users;        /* NULL: nobody is live */
    struct explore *explore;    /* NULL: nobody explores */
    struct recommend_rescorer rescorer;
    struct ready ready;
    struct shared *shared;
};

/* A score in the making. Values are as generators give them; weights come later. */
struct candidate {
    uint32_t row;
    float score;
    float values[PARTS];
};

/* Of the past that taste is counted from, and that explains: items, newest first, each with what it
 * counts for. */
enum { PAST_MAX = 20 };

struct past {
    uint32_t rows[PAST_MAX];
    float weights[PAST_MAX];
    size_t count;
};

/* One request at a time; kept for the next one. */
struct scratch {
    struct scratch *next;
    struct user_profile profile;
    uint32_t *skip, *history;   /* rows; skip in any order, some twice */
    size_t skip_count, skip_capacity, history_count, history_capacity;
    uint32_t *past;             /* all that is known, oldest first, the history last */
    size_t past_count, past_capacity;
    uint64_t *allowed;          /* [words] passing the filter, not skipped; NULL bits behind */
    size_t allowed_count;
    double *sum;                /* [dimension] */
    float *vector;              /* [dimension] what items are compared with */
    float *item, *user, *query; /* [dimension] in the space of the request */
    float *year_terms;          /* [years], where an item is asked for alone */
    size_t year_capacity;
    struct gather title, taste, counting;
    struct graph_person graph;  /* empty until it is asked */
    const struct graph_model *graph_of; /* that its memory is of */
    struct speech speech;       /* of the model of taste; empty until it is asked */
    uint32_t *slots;            /* [items] place among the candidates + 1; 0: none */
    struct candidate *candidates;
    size_t candidate_count, candidate_capacity;
    struct hit *hits;
    size_t hit_capacity;
    uint32_t *places;           /* of the past in a model of taste, for a card */
    size_t place_capacity;
    float *marks;               /* of diversity.c, and of candidates that are dropped */
    size_t mark_capacity;
};

/* What the first request makes. Any thread. */
enum akin_status recommender_inputs(const struct recommender *r,
                                    const struct recommend_inputs **inputs,
                                    struct akin_error *error);

struct scratch *scratch_take(const struct recommender *r);    /* NULL: no memory */
/* Empty again, for the next request. */
void scratch_give(const struct recommender *r, struct scratch *scratch);
void scratch_free(struct scratch *scratch);

/* What a request asks for, resolved. */
struct asked {
    const struct recommender *r;
    const struct akin_request *request;     /* exploring: for a longer list */
    size_t wanted;              /* results, as the caller said */
    struct scratch *s;
    const struct space *space;  /* NULL where nothing is compared in it */
    const struct recommend_inputs *inputs;
    const struct aids *aids;    /* NULL by published vectors */
    bool anew;                  /* not from the neighbour cache */
    bool on_card;               /* where the query is mapped, and all are fused */
    bool blend;
    bool has_item, has_user, has_query;     /* vectors in s */
    bool points;                /* s->vector is not zero */
    bool alone;                 /* one item and nothing else: years are taken off */
    bool personal;              /* a user or a history */
    size_t row;                 /* of the item */
    struct past past;
    bool returning;             /* the last visit was long ago */
    double graph_ms, new_ms;
    bool said;                  /* the model of taste was asked: s->speech */
    float gathered_scale;       /* what s->taste is divided by, */
    float said_floor, said_scale;   /* and what was said, less its floor */
    float others;               /* the share of what is not the query */
    struct context context;
    bool minded;                /* the model says what it is worth, */
    double situation_ms;        /* which took so long */
    size_t situation_candidates;
    float weights[PARTS];
    uint32_t new_rows[EXPLORE_NEW_POOL];    /* that explore_list.c offered */
    size_t new_count;
};

/* ---- recommend.c ------------------------------------------------------------------------ */

/* What a search that is not exact finds of the true nearest, where nothing else is asked for. */
#define REQUEST_RECALL 0.99f

/* Allocates the bitmap of a filter; leaves it as it is for no filter. */
enum akin_status request_filter(const struct recommender *r, const char *text, uint64_t **bits,
                                size_t *passing, struct akin_error *error);

/* ---- resolve.c -------------------------------------------------------------------------- */

/* What AKIN_RANK_AUTO stands for; inputs may be NULL by vectors. */
bool request_by_parts(const struct akin_request *request, const struct recommend_inputs *inputs);
enum akin_status request_check(const struct recommender *r, const struct akin_request *request,
                               const float *query_vector, struct akin_error *error);
/* Fills `asked` but for aids and weights; request, r and s are set. */
enum akin_status request_resolve(struct asked *asked, const float *query_vector,
                                 struct akin_error *error);
/* s->vector, and whether it points. */
enum akin_status request_fuse(struct asked *asked, struct akin_error *error);
/* s->allowed from a bitmap of the filter (NULL: all). */
void request_allow(struct asked *asked, const uint64_t *filtered);

/* What the request says, or by parts what was learned, or the default. */
static inline float request_query_weight(const struct asked *a)
{
    float wanted = a->request->query_weight;
    bool learned = a->blend && a->inputs && a->inputs->fitted;
    return wanted >= 0 ? wanted : learned ? a->inputs->query_weight : BLEND_QUERY;
}

static inline bool is_allowed(const struct scratch *s, size_t row)
{
    return s->allowed[row / 64] >> row % 64 & 1;
}

/* ---- ready.c ---------------------------------------------------------------------------- */

/* Resolved and fused: *ready where the answer is there. */
enum akin_status request_ready(struct asked *asked, struct akin_recommendation *results,
                               size_t *found, bool *ready, struct akin_error *error);

/* ---- candidates.c ----------------------------------------------------------------------- */

void request_weigh(struct asked *asked);
/* What text weighs for a person, unless a model of taste says otherwise. */
#define REQUEST_PERSON_TEXT 0.15f
/* How many candidates are asked of text, and of each other part, for k results. */
enum { REQUEST_POPULAR_MAX = 4096 };    /* most popular rows that are tried against a filter */
size_t request_text_offers(size_t k);
size_t request_offers(size_t k);
/* Makes a row a candidate; what is not allowed, or there already, adds nothing. */
enum akin_status request_offer(struct scratch *scratch, uint32_t row, struct akin_error *error);
/* s->year_terms for the years there are. */
enum akin_status request_reserve_years(struct asked *asked, struct akin_error *error);
/* s->candidates, scored, in no particular order; s->slots say where each row is. The k best are
 * there; others may not be where nothing but the k best is asked for. */
enum akin_status request_candidates(struct asked *asked, struct akin_error *error);
/* Adds to s->taste who else was rated by those who rated an item. */
void request_gather_taste(struct asked *asked, size_t row, float weight);
/* Products of `vector` with the items of rows [count] in the text space, to products. */
void request_products(const struct space *space, const struct backend *backend,
                      const float *vector, const uint32_t *rows, size_t count, float *products);

/* ---- diversity.c, explain.c ------------------------------------------------------------- */

/* Writes the k best to results; *found of them. */
enum akin_status request_pick(struct asked *asked, struct akin_recommendation *results,
                              size_t *found, struct akin_error *error);
/* What a candidate looks like as a result. */
void request_result(const struct asked *asked, uint32_t row, struct akin_recommendation *result);
enum akin_status request_explain(struct asked *asked, const struct akin_recommendation *results,
                                 size_t found, struct akin_explanation *explanations,
                                 struct akin_error *error);
