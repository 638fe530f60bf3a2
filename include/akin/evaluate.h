/* SPDX-License-Identifier: Apache-2.0
 * Learning taste from ratings, and the measurement of recommendations on choices that were held
 * back: the whole catalogue is ranked, nothing is sampled (docs/evaluation.md). */
#ifndef AKIN_EVALUATE_H
#define AKIN_EVALUATE_H

#include "akin/catalog.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A mean and its 95 % bootstrap interval. */
struct akin_estimate {
    double mean, low, high;
};

/* Weights of a blend, looked for on events that were held back (docs/evaluation.md). */
struct akin_weights_found {
    size_t points;             /* that were judged; 0: too few events to hold any back */
    double ndcg_default, ndcg_best;    /* NDCG@10 on them: of the default, of the best found */
    struct akin_estimate gain; /* of the best over the default, point by point */
    bool learned;              /* the gain is beyond doubt: half of the way to the best is used,
                                  otherwise the default */
    char formula[200];         /* what is used: "recent + 0.4 young + ..." */
};

/* How the training of a reranker went: cross-entropy of the next item, in nats. */
enum { AKIN_TRAINING_EPOCHS_MAX = 64 };

struct akin_training {
    size_t epochs, best;       /* that ran on all but each person's last events, 0: none was
                                  trained; the one where these were foretold best, which is how
                                  long the training on everything takes */
    double loss[AKIN_TRAINING_EPOCHS_MAX];         /* of what was learned, with dropout */
    double validation[AKIN_TRAINING_EPOCHS_MAX];   /* of those last events */
    double seconds;            /* both trainings */
};

struct akin_fit_settings {
    size_t items_max;          /* how many items, the most chosen ones, the model is of; 3072. Cost
                                  grows with its cube, memory with its square */
    size_t row_max;            /* weights kept of each item, 200 */
    uint64_t seed;             /* default 1 */
    bool reranker;             /* also train the reranker (docs/evaluation.md): a minute or two */
    bool graph;                /* also learn the graph (docs/evaluation.md): what it says of items
                                  that nobody has chosen yet is used from then on */
    struct akin_progress progress;
};

AKIN_API void akin_fit_settings_default(struct akin_fit_settings *settings);

struct akin_fit_report {
    size_t items, users, events;   /* of the catalogue, and what was rated since */
    size_t live_events;            /* those among them that are not of the catalogue */
    size_t learned_items;          /* that the model is of */
    struct akin_weights_found goes_on, comes_back;  /* for who is at it, and who was away */
    struct akin_weights_found query;    /* query_weight; formula: the number */
    struct akin_training reranker;
    size_t new_items;              /* of the graph: with a text, and nobody chose them */
    double graph_seconds;          /* 0: it was not asked for */
    double seconds;
    uint64_t bytes;                /* in memory, once opened */
};

/* Learns taste from the catalogue's ratings and from those that were made live since (akin.db; of
 * two of one person and item the later one counts), and writes it to DATA/taste/, whole or not at
 * all. The weights it is used with are looked for on events that are held back meanwhile; that of a
 * query needs the `model` (may be NULL) that the catalogue was embedded by. The same ratings,
 * settings and kernels give the same bytes, whatever the threads. Errors: AKIN_NOT_FOUND,
 * AKIN_ARGUMENT (no ratings, another model), AKIN_MEMORY, AKIN_IO, AKIN_CANCELLED, and those of
 * akin.db: AKIN_FORMAT, AKIN_UNSUPPORTED, AKIN_BUSY. */
AKIN_API enum akin_status akin_fit(struct akin_engine *engine, const char *data,
                                   struct akin_model *model,
                                   const struct akin_fit_settings *settings,
                                   struct akin_fit_report *report, struct akin_error *error);

struct akin_evaluate_settings {
    const char *split;         /* CSV: userId, movieId, rating, timestamp, split (train, valid or
                                  test); the order of rows breaks ties in time */
    const char *recs;          /* NULL: not written; JSON lines {"user": ID, "items": [10 ids]} */
    bool valid;                /* learn from train alone and judge on valid */
    bool replay;               /* half of the people teach, the others are replayed event by event;
                                  the column split does not count */
    size_t replay_points;      /* of one person, default 25 */
    bool reranker;             /* also train the reranker and judge it: a minute or two */
    bool context;              /* also the rows of a situation that is told; with replay, reranker
                                  and texts */
    bool graph;                /* also train the graph, and judge it on items nobody chose */
    uint64_t seed;             /* of learning, of the halves and of the intervals; default 1 */
    struct akin_progress progress;
};

AKIN_API void akin_evaluate_settings_default(struct akin_evaluate_settings *settings);

/* One way to rank. `difference` is its NDCG@10 less that of popularity, pair by pair, and
 * `over_recent` less that of recent popularity, `over_last` less that of the last row. */
struct akin_evaluation_row {
    const char *name, *formula;    /* constant */
    struct akin_estimate ndcg, recall, hit_rate, mrr, difference, over_recent, over_last;
    double coverage;               /* share of all items that is among somebody's ten */
    double novelty;                /* mean of -log2 of the share of people who chose the item */
};

/* Items that nobody chose before (docs/evaluation.md): recall of the first 50 of those. */
struct akin_cold {
    size_t items, people;      /* held back; asked. people 0: it was not measured */
    struct akin_estimate text, mean_text, graph;   /* by the person's slow vector, by the mean of
                                                      the texts, by that and the graph */
    struct akin_estimate over_text, over_mean_text;    /* the graph less these, pair by pair */
    struct akin_estimate few_text, few_graph, few_over_text;   /* likewise by the three newest
                                                                  choices of each person alone */
    double seconds;
};

enum { AKIN_EVALUATION_ROWS_MAX = 24 };

struct akin_evaluation {
    size_t users, items;           /* of the file */
    size_t learned_users, learned_events, learned_items;
    size_t judged;                 /* people, or points of a replay, that the means are over */
    bool later; /* what is judged lies behind all that was learned, so that people
                   come back to it rather than go on */
    bool text;                     /* the catalogue had vectors for the two rows of text */
    struct akin_weights_found weights;  /* of the last row */
    double learn_seconds, judge_seconds;
    struct akin_training reranker;
    struct akin_cold cold;
    struct akin_evaluation_row rows[AKIN_EVALUATION_ROWS_MAX];     /* popularity first, last the
                                                                      one that recs is made of */
    size_t row_count;
};

/* Learns from the split's train and valid rows, never from test, and judges on test. `catalog` (may
 * be NULL) brings text: items are found as ml_<movieId> or by the id as it is. The same input gives
 * the same bits, whatever the threads. Errors: AKIN_NOT_FOUND, AKIN_FORMAT (file, line, column),
 * AKIN_ARGUMENT (nothing to learn from or to judge), AKIN_MEMORY, AKIN_CANCELLED. */
AKIN_API enum akin_status akin_evaluate(struct akin_engine *engine,
                                        const struct akin_catalog *catalog,
                                        const struct akin_evaluate_settings *settings,
                                        struct akin_evaluation *evaluation,
                                        struct akin_error *error);

#ifdef __cplusplus
}
#endif
#endif
