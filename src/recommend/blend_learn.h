/* Weights of a blend, learned from a catalogue's own events, all of which lie before what they are
 * used for. Some of the events are held back, the rest is learned from, and the weights of a small
 * grid are judged on what was held back:
 *
 *   sessions go on     the last event of everybody
 *   people come back   five cuts in time, at 50 to 90 % of the events; the next 10 % of each
 *
 * Where the best of the grid gains more than BLEND_DOUBT standard errors of NDCG@10, point by
 * point, the weights move half of the way to it from the default; otherwise the default stays. A
 * grid of this size finds something better by chance almost always, and too much of it. */
#pragma once

#include "akin/evaluate.h"
#include "recommend/blend.h"
#include "recommend/histories.h"
#include "recommend/metrics.h"
#include "recommend/plan.h"
#include "recommend/split_text.h"

#define BLEND_DOUBT 2.5

enum {
    BLEND_POINTS_MIN = 50,
    BLEND_POINTS_MAX = 600,     /* of a cut that are judged */
};

struct blend_lesson {
    const struct history_event *events; /* [count] of one person in their order */
    size_t count, users, items;
    const struct split_text *text;      /* of the items; space NULL: none */
    size_t items_max;                   /* as of taste_settings */
    uint64_t seed;
    bool reranker;              /* its weight is looked for too, for sessions that go on */
    struct akin_training *curve;       /* may be NULL: of its training there */
    struct akin_progress progress;
    /* Called with what was learned for the sessions that go on, and what was held back of them; may
     * be NULL. */
    enum akin_status (*held)(void *context, const struct evaluation_plan *plan,
                             const struct taste *taste, struct akin_error *error);
    void *context;
};

/* weights: learned or the default, as *found says. Too few events to hold any back: the default,
 * found->points 0. */
/* A gain that is beyond doubt: intervals of 95 % are 3.92 standard errors wide, and those of fewer
 * than BLEND_POINTS_MIN points are not to be trusted. */
bool blend_beyond_doubt(const struct interval *gain, size_t points);

enum akin_status blend_learn(const struct backend *backend, const struct blend_lesson *lesson,
                             enum blend_context context, struct taste_weights *weights,
                             struct akin_weights_found *found, struct akin_error *error);
