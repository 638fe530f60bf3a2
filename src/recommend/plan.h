/* What is learned from and what is judged. */
#pragma once

#include "akin/evaluate.h"
#include "recommend/blend.h"
#include "recommend/histories.h"
#include "recommend/split.h"

/* A history and what was chosen behind it. */
struct judged_point {
    uint32_t user;
    const uint32_t *history;        /* [count] items, oldest first */
    size_t count;
    const int64_t *times;           /* [count], and those of what is behind, */
    size_t following;               /* so many, which history has too: a replay */
    int64_t when;                   /* the first of what was chosen behind it */
    size_t first_positive, positive_count;      /* ascending, unseen, in positives; 0: not judged,
                                                   but recommended for */
};

struct evaluation_plan {
    struct histories learned;
    bool *learn;                    /* [events of the split] whether it was learned from */
    uint32_t *own;                  /* items of histories that were not learned, */
    int64_t *own_times;             /* and their times */
    struct judged_point *points;
    uint32_t *positives;
    size_t point_count, judged, learned_users;
    enum blend_context context;
};

/* Of the split only numbers are read, not names. AKIN_ARGUMENT: nothing to judge. */
enum akin_status plan_create(const struct split *split,
                             const struct akin_evaluate_settings *settings,
                             struct evaluation_plan *plan, struct akin_error *error);
void plan_deinit(struct evaluation_plan *plan);
