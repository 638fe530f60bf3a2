/* The weight of a query beside a person, learned: people's last choices are held back, and asked
 * for in words, by their titles and by what they are about (a theme, or genres). The requests are
 * those that people make (recommend.h). */
#pragma once

#include "akin/evaluate.h"
#include "recommend/plan.h"
#include "recommend/taste.h"

struct backend;
struct catalog;

enum { QUERY_POINTS_MAX = 150, QUERY_BYTES = 160 };

struct query_lesson {
    struct backend *backend;
    const struct catalog *catalog;
    uint64_t seed;
    /* texts [count] to vectors [count][dimension of the catalogue] */
    enum akin_status (*encode)(void *context, const struct akin_text *texts, size_t count,
                               float *vectors, struct akin_error *error);
    void *context;
};

/* `taste` was learned from plan->learned; all points of the plan can be judged, and its items are
 * those of the catalogue. *weight is
 * the default unless found->learned. */
enum akin_status query_learn(const struct query_lesson *lesson, const struct evaluation_plan *plan,
                             const struct taste *taste, float *weight,
                             struct akin_weights_found *found, struct akin_error *error);
