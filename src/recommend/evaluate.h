/* The protocol of akin/evaluate.h: a split file in, a table of metrics out. */
#pragma once

#include "akin/evaluate.h"
#include "recommend/blend.h"
#include "recommend/metrics.h"
#include "recommend/split.h"

struct backend;
struct catalog;
struct space;

void evaluate_settings_default(struct akin_evaluate_settings *settings);

enum akin_status evaluate(const struct backend *backend, const struct catalog *catalog,
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

/* Texts of the split's items, in the space of the catalogue; zeros where the catalogue does not
 * have the item. evaluate_text.c */
struct split_text {
    struct space *space;            /* NULL: there are no vectors */
    uint32_t *places;               /* [items] rows of the catalogue, or UINT32_MAX */
    const float **rows;             /* [items] in the space */
    float *nothing;                 /* [dim] zeros */
    size_t dim, items;
};

enum akin_status split_text_create(const struct backend *backend, const struct catalog *catalog,
                                   const struct split *split, struct split_text *text,
                                   struct akin_error *error);
void split_text_deinit(struct split_text *text);
/* person [2][dim]: the fast and the slow vector that a history adds up to, each rating a 1. */
void split_text_read(const struct split_text *text, const struct kernels *kernels,
                     const uint32_t *history, size_t count, float *person);
/* scores [items]: cosines; `last` is the newest item of the history; vector [dim] is scratch. */
void split_text_say(const struct split_text *text, const struct kernels *kernels,
                    enum blend_text kind, uint32_t last, const float *person, float *vector,
                    float *scores);
