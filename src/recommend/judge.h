/* Ranks for each point of a plan by each of some blends, and says how good the lists are. Points
 * are shared among the threads; each has its own place for what comes out, so that the numbers do
 * not depend on the threads. */
#pragma once

#include "recommend/blend.h"
#include "recommend/graph_model.h"
#include "recommend/metrics.h"
#include "recommend/plan.h"
#include "recommend/split_text.h"

/* That the reranker rescores by a situation. */
enum { JUDGE_CANDIDATES = 200 };

struct judge {
    const struct kernels *kernels;
    struct thread_pool *pool;
    const struct evaluation_plan *plan;
    const struct split_text *text;      /* space NULL: only of blends without text */
    const struct taste *taste;
    const struct graph_model *graph;    /* NULL: only of blends without it */
    const struct blend *const *table;   /* [rows]; those of one kind of text behind each other are
                                           cheapest */
    size_t row_count;
    uint64_t seed;                      /* of what is told of situations */
    struct akin_progress progress;
};

struct judged {
    uint32_t *lists;            /* [points][rows][METRICS_K] */
    uint8_t *list_counts;       /* [points][rows] */
    double *values;             /* [judged][rows][METRIC_COUNT] */
};

/* Of taste what some blends need. */
unsigned judge_parts(const struct blend *const *table, size_t row_count);
enum akin_status judge_points(const struct judge *judge, struct judged *judged,
                              struct akin_error *error);
void judged_deinit(struct judged *judged);
