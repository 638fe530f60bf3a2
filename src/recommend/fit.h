/* All that `akin fit` learns from a catalogue: the taste, and the weights it is used with. */
#pragma once

#include "akin/evaluate.h"
#include "recommend/graph_place.h"
#include "recommend/query_learn.h"
#include "recommend/taste.h"

struct fit_lesson {
    struct backend *backend;
    const struct catalog *catalog;
    const struct akin_fit_settings *settings;
    struct graph_card card;             /* that places the items of the graph */
    /* query_lesson.encode; NULL: the weight of a query stays the default */
    enum akin_status (*encode)(void *context, const struct akin_text *texts, size_t count,
                               float *vectors, struct akin_error *error);
    void *context;
};

/* Fills all of the report but the seconds. */
enum akin_status fit_catalog(const struct fit_lesson *lesson, struct taste **taste,
                             struct akin_fit_report *report, struct akin_error *error);
