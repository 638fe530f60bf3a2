/* A sum for each item of which most stay zero: adding is O(1), and clearing costs what was added.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"

struct gather {
    float *values;              /* [items], zeros but for the touched ones */
    uint32_t *touched;          /* each once, in the order in which they came */
    size_t count, items;
};

static inline bool gather_init(struct gather *g, size_t items)
{
    *g = (struct gather){ .items = items };
    g->values = memory_alloc(items + 1, sizeof *g->values);
    g->touched = memory_alloc(items + 1, sizeof *g->touched);
    return g->values && g->touched;
}

static inline void gather_deinit(struct gather *g)
{
    memory_free(g->values);
    memory_free(g->touched);
    *g = (struct gather){ 0 };
}

/* What is not above zero (or not a number) adds nothing. */
static inline void gather_add(struct gather *g, uint32_t row, float value)
{
    if (!(value > 0))
        return;
    if (g->values[row] == 0)
        g->touched[g->count++] = row;
    g->values[row] += value;
}

static inline void gather_clear(struct gather *g)
{
    for (size_t i = 0; i < g->count; i++)
        g->values[g->touched[i]] = 0;
    g->count = 0;
}
