/* What the items of a past add to a person of the graph, as bytes: a text and a kin vector, each
 * signed bytes times a scale of its own. A long past is then read in a quarter of what float32
 * takes. An item has the same bytes whether they were made ahead or are made when it is asked for,
 * so the sums have the same bits. */
#pragma once

#include "recommend/graph_model.h"

/* Of the items that are not new, as those of a past are seldom anything else. */
struct graph_past {
    size_t items, stride;
    uint32_t *places;           /* [items] in rows, or UINT32_MAX */
    int8_t *rows;               /* [..][stride]: [dim] of the text, [rank] of the kin, two floats */
};

/* texts [items][dim]. The model must outlive it. */
enum akin_status graph_past_make(const struct graph_model *model, const float *texts,
                                 struct graph_past *past, struct akin_error *error);
void graph_past_deinit(struct graph_past *past);
uint64_t graph_past_bytes(const struct graph_past *past);

static inline void graph_past_fetch(const struct graph_past *past, uint32_t item)
{
    uint32_t place = past->places[item];
    for (size_t at = 0; place != UINT32_MAX && at < past->stride; at += 64)
        __builtin_prefetch(past->rows + place * past->stride + at);
}

/* As graph_person_take. */
void graph_past_take(const struct graph_past *past, const struct graph_model *model,
                     const struct kernels *kernels, struct graph_person *person, uint32_t item,
                     const float *text);
