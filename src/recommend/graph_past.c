/* See graph_past.h. */
#include "recommend/graph_past.h"

#include <string.h>

#include "compute/cpu/kernels.h"

enum { LINE = 64 };

enum akin_status graph_past_make(const struct graph_model *m, const float *texts,
                                 struct graph_past *past, struct akin_error *error)
{
    size_t known = 0;
    struct graph_past made = { .items = m->items };
    for (size_t i = 0; i < m->items; i++)
        known += !m->fresh[i];
    made.stride = (graph_row_bytes(m) + LINE - 1) / LINE * LINE;
    made.places = memory_alloc(m->items, sizeof *made.places);
    made.rows = memory_alloc_aligned(known + 1, made.stride);
    if (!made.places || !made.rows) {
        graph_past_deinit(&made);
        return error_memory(error);
    }
    known = 0;
    for (size_t i = 0; i < m->items; i++) {
        made.places[i] = m->fresh[i] ? UINT32_MAX : (uint32_t)known;
        if (m->fresh[i])
            continue;
        graph_row_make(m, (uint32_t)i, texts + i * m->dim, made.rows + known++ * made.stride);
    }
    *past = made;
    return AKIN_OK;
}

void graph_past_deinit(struct graph_past *past)
{
    memory_free(past->places);
    memory_free(past->rows);
    *past = (struct graph_past){ 0 };
}

uint64_t graph_past_bytes(const struct graph_past *past)
{
    uint64_t known = 0;
    for (size_t i = 0; i < past->items; i++)
        known += past->places[i] != UINT32_MAX;
    return past->items * sizeof *past->places + known * past->stride;
}

void graph_past_take(const struct graph_past *past, const struct graph_model *m,
                     const struct kernels *kernels, struct graph_person *p, uint32_t item,
                     const float *text)
{
    if (past->places[item] == UINT32_MAX)
        graph_person_take(m, kernels, p, item, text);
    else
        graph_person_add(m, kernels, p, past->rows + past->places[item] * past->stride);
}
