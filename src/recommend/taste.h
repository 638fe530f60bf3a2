/* Taste: what is learned from who chose what, and what it says about a history. The parts of it:
 *
 *   popularity   z(c), c_i = how often item i was chosen;  z(p)_i = ln(n p_i / sum p + 0.02)
 *   recent       z(r), r_i = the same with a half-life of 5 % of all events
 *   young        -ln((N - f) / N + 0.01), f = how many events came before the item's first one; 0
 *                for what nobody chose. Who comes back has passed over what was there before
 *   ease         sum over the history of rows of E, the closed form of Steck, "Embarrassingly
 *                Shallow Autoencoders" (WWW 2019): P = (X'X + 300 I)^-1, E_ij = -P_ij / P_jj,
 *                E_jj = 0
 *   ease_recent  the same, weighted by 0.5^(age / 4);  ease_scaled  ease, divided by the mean of
 *                its 20 greatest unseen values
 *   local        sum of w(age) L rows, w = 0.5^(age/3) + 0.1 * 0.5^(age/50), L the closed form over
 *                G instead of X'X: G_ij = sum over people of 0.5^(|a-b|/10) + 0.3, a and b the
 *                places of i and j in the history. What was chosen together, in time, counts most.
 *                G is a Gram matrix too, because a two-sided exponential is positive semidefinite.
 *   next         ln(q + 2e-4) - ln(c / N + 2e-4), q the mean, weighted by 0.5^(age/4), of the rows
 *                of G (without diagonal, 0.5^(|a-b|/5) alone) divided by their sum + 1
 *   back         likewise of L's G, with 0.5^(age/10) and 1e-5
 *   sequence     log softmax of sequence.h less ln(c / N + 1e-6)
 *   attention    the same of reranker.h
 *
 * Ages are counted in events, 0 the newest. The matrices are over the `items_max` items that were
 * chosen most (memory and the cost of the solution are then bounded); the others have popularity
 * only, and 0 in the other parts. All of it depends on the histories alone, not on the threads. */
#pragma once

#include "recommend/histories.h"
#include "recommend/reranker.h"

enum taste_part {
    TASTE_POPULARITY, TASTE_RECENT, TASTE_YOUNG, TASTE_EASE, TASTE_EASE_RECENT, TASTE_EASE_SCALED,
    TASTE_LOCAL, TASTE_NEXT, TASTE_BACK, TASTE_SEQUENCE, TASTE_ATTENTION, TASTE_PARTS
};

const char *taste_part_name(enum taste_part part);      /* "popularity" */

#define TASTE_BIT(part) (1u << (part))

enum { TASTE_ITEMS_MAX = 3072, TASTE_HISTORY_MAX = 2000, TASTE_ROW_MAX = 200,
       TASTE_COLUMNS_MAX = 65536 };    /* items of a model: columns have sixteen bits */

/* Weights from each item to others: all of them, or the `width` largest of each. A past reads rows
 * all over memory, so what is left of one lies together. */
struct taste_rows {
    float *dense;               /* [items][items], or NULL */
    unsigned char *cut;         /* [items][stride] bytes, or NULL; in taste.cut_rows */
    size_t items, width, stride;
};

static inline float *taste_row_values(const struct taste_rows *rows, size_t item)
{
    return (float *)(void *)(rows->cut + item * rows->stride);      /* [width] */
}

static inline uint16_t *taste_row_columns(const struct taste_rows *rows, size_t item)
{
    return (uint16_t *)(void *)(taste_row_values(rows, item) + rows->width);    /* [width] */
}

/* How the parts are put together, and with the cosine of texts. */
struct taste_weights {
    float text;
    float part[TASTE_PARTS];
};

struct graph_model;

struct taste {
    size_t item_count;          /* of the catalogue, or of the file */
    size_t size;                /* of the model */
    size_t events;
    unsigned parts;             /* bits: what was learned */
    uint32_t *items;            /* [size] ascending */
    uint32_t *places;           /* [item_count] where in items, or UINT32_MAX */
    double *chosen, *recently;  /* [item_count] c and r */
    double *first;              /* [item_count] f; events for what nobody chose */
    float *item_part[TASTE_EASE];   /* [item_count] those that no history changes */
    float *next_share, *back_share, *sequence_share;    /* [size] ln(c / N + ...) */
    struct taste_rows ease, local, next, back;
    unsigned char *cut_rows;    /* of all of these in one block, which gets huge pages */
    struct sequence_model sequence;
    struct reranker reranker;   /* of `size` items; values NULL: there is none */
    struct graph_model *graph;  /* of all items; NULL: there is none */
    struct akin_training curve;        /* of its training */
    struct akin_error left_aside;       /* taste_open: why a reranker that is wanted is not there;
                                           status AKIN_OK: nothing is missing */
    struct akin_error graph_aside;      /* likewise of a graph that is there */
    struct taste_weights weights[2];    /* of a session that goes on, of who comes back: the
                                           defaults until somebody learns others */
    float query_weight;                 /* of words beside a person; likewise */
};

struct taste_settings {
    unsigned parts;             /* bits of what is wanted */
    size_t items_max;           /* 0: TASTE_ITEMS_MAX */
    struct sequence_settings sequence;
    struct reranker_settings reranker;
    unsigned cpu_flags;         /* that training may use */
    const float *const *texts;  /* [items of the catalogue][text_dim], length 1 or zeros; NULL: the
                                   reranker starts without them */
    size_t text_dim;
    const struct situations *situations;    /* of the items of the catalogue, which the reranker
                                               learns to mind; NULL: none */
    struct akin_progress progress;      /* those of sequence and reranker are not used */
};

void taste_settings_default(struct taste_settings *settings);

/* AKIN_ARGUMENT: nobody chose anything; AKIN_MEMORY; AKIN_CANCELLED. */
enum akin_status taste_learn(const struct kernels *kernels, struct thread_pool *pool,
                             const struct histories *histories,
                             const struct taste_settings *settings, struct taste **taste,
                             struct akin_error *error);
void taste_destroy(struct taste **taste);
uint64_t taste_bytes(const struct taste *taste);

/* Keeps the `width` greatest of every row by magnitude, ties by column. */
enum akin_status taste_cut(struct taste *taste, size_t width, struct akin_error *error);

/* What an age weighs in the sum of rows that EASE, EASE_RECENT, LOCAL, NEXT or BACK is; 0: it and
 * all that are older are left out. */
double taste_age_weight(enum taste_part part, size_t age);
/* What is added before the logarithm, of NEXT and BACK. */
float taste_floor(enum taste_part part);

/* What the parts say about one history; the memory is used again for the next. */
struct taste_features {
    float *part[TASTE_PARTS];   /* [size] and a little more; NULL for item_part's */
    float *log_logits;
    struct reranker_scratch reranker;
    uint32_t *history;          /* [TASTE_HISTORY_MAX] places */
    size_t first;               /* of those that were said something about */
    float *plain;               /* [size] of taste_situate, where there is a reranker */
};

enum akin_status taste_features_init(const struct taste *taste, struct taste_features *features,
                                     struct akin_error *error);
void taste_features_deinit(struct taste_features *features);

/* `history` [count] items of the catalogue, oldest first; the newest TASTE_HISTORY_MAX that the
 * model knows count. `parts` must have been learned. A history of nothing gives zeros. */
void taste_say(const struct taste *taste, const struct kernels *kernels, const uint32_t *history,
               size_t count, unsigned parts, struct taste_features *features);

/* lifts [count] = ln p(item | past, wanted) - ln p(item | past) among these places of the model,
 * each at most once, by the reranker, which must be there, of the history that taste_say was asked
 * last. Allocates nothing. */
void taste_situate(const struct taste *taste, const struct kernels *kernels, const float *wanted,
                   const uint32_t *places, size_t count, struct taste_features *features,
                   float *lifts);

/* scores [item_count] = sum over parts of weights[part] * part; weights that are 0 are not read. It
 * is taste_stand, the parts of popularity, and then taste_add, which adds the others to the scores
 * [size] of the model's items. */
void taste_stand(const struct taste *taste, const struct kernels *kernels,
                 const float weights[TASTE_PARTS], float *scores);
void taste_add(const struct taste *taste, const struct kernels *kernels,
               const struct taste_features *features, const float weights[TASTE_PARTS],
               float *scores);
void taste_blend(const struct taste *taste, const struct kernels *kernels,
                 const struct taste_features *features, const float weights[TASTE_PARTS],
                 float *scores);

/* ---- inside ------------------------------------------------------------------------------ */

/* Room for cut rows of these tables of one taste, all of `items` and `width`; what they had before
 * is gone. */
enum akin_status taste_reserve_rows(struct taste *taste, struct taste_rows *const *tables,
                                    size_t count, size_t items, size_t width,
                                    struct akin_error *error);

/* taste_say.c: what follows from chosen, recently, first, items and events. */
enum akin_status taste_derive(struct taste *taste, struct akin_error *error);

/* closed.c */
struct closed_form {
    const struct kernels *kernels;
    struct thread_pool *pool;
    const struct item_lists *lists;
};

/* g [items][items] = sum over lists of kernel[|a - b|], distances of at least `reach` have
 * `beyond`; places behind the newest TASTE_HISTORY_MAX of a list do not count. */
void proximity_gram(const struct closed_form *form, const float *kernel, size_t reach, float beyond,
                    float *g);
/* rows [items][items] of the closed form: from g + ridge I, in place. */
enum akin_status closed_form_solve(const struct closed_form *form, float *g, float ridge,
                                   struct akin_error *error);
/* The same of X'X, X the lists as rows of 0 and 1, by a system of as many unknowns as there are
 * lists: for fewer lists than items. */
enum akin_status closed_form_dual(const struct closed_form *form, float *g, float ridge,
                                  struct akin_error *error);
/* Each row, without its diagonal, divided by its sum + 1; out may be g. */
void closed_form_share(const struct closed_form *form, const float *g, float *out);
