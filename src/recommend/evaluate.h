/* The protocol of akin/evaluate.h: a split file in, a table of metrics out. */
#pragma once

#include "akin/evaluate.h"
#include "recommend/blend.h"
#include "recommend/metrics.h"
#include "recommend/split.h"

struct catalog;

void evaluate_settings_default(struct akin_evaluate_settings *settings);

enum akin_status evaluate(const struct kernels *kernels, struct thread_pool *pool,
                          const struct catalog *catalog,
                          const struct akin_evaluate_settings *settings,
                          struct akin_evaluation *evaluation, struct akin_error *error);

/* ---- inside ------------------------------------------------------------------------------ */

/* A history and what was chosen behind it. */
struct judged_point {
    uint32_t user;
    const uint32_t *history;        /* [count] items, oldest first */
    size_t count;
    size_t first_positive, positive_count;      /* ascending, unseen, in positives; 0: not judged,
                                                   but recommended for */
};

/* What is learned from and what is judged. evaluate_plan.c */
struct evaluation_plan {
    struct histories learned;
    uint32_t *own;                  /* items of histories that were not learned */
    struct judged_point *points;
    uint32_t *positives;
    size_t point_count, judged, learned_users;
    enum blend_context context;
};

enum akin_status plan_create(const struct split *split,
                             const struct akin_evaluate_settings *settings,
                             struct evaluation_plan *plan, struct akin_error *error);
void plan_deinit(struct evaluation_plan *plan);

/* Texts of the split's items: vectors less their mean over the catalogue, of length 1; zeros where
 * the catalogue does not have the item. evaluate_text.c */
struct split_text {
    float *vectors;                 /* [items][dim], or NULL */
    const float **rows;             /* [items] */
    size_t dim;
};

enum akin_status split_text_create(const struct catalog *catalog, const struct split *split,
                             struct split_text *text, struct akin_error *error);
void split_text_deinit(struct split_text *text);
/* scores [items]; vector [dim] is scratch. */
void split_text_say(const struct split_text *text, const struct kernels *kernels,
              enum blend_text kind, const uint32_t *history, size_t count, size_t items,
              float *vector, float *scores);
