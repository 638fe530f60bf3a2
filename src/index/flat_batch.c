/* Many queries at once: a group of them is multiplied with a tile of rows, and each value is
 * compared with its query's threshold as it is made. No matrix of scores exists. */
#include <math.h>

#include "index/flat_handle.h"

struct group_state {
    struct flat_task tasks[SCREEN_GROUP_MAX];
    size_t of[SCREEN_GROUP_MAX];        /* the number of the query */
    float threshold[SCREEN_GROUP_MAX];
    struct screen_group group;
};

/* The queries for which bounds hold; the others are answered at once. */
static void begin(struct group_state *g, const struct flat *flat, struct flat_scratch *scratch,
                  const struct segment_query *query, size_t first, size_t count,
                  const struct segment_hits *hits)
{
    struct screen_query prepared[SCREEN_GROUP_MAX];
    size_t live = 0;
    for (size_t q = first; q < first + count; q++) {
        struct flat_task *task = &g->tasks[live];
        *task = (struct flat_task){
            .flat = flat, .scratch = scratch, .vector = query->queries + q * flat->screen.dim,
            .k = query->k, .threshold = -INFINITY,
        };
        int8_t *digits = scratch->digits + live * flat->screen.stride;
        if (!screen_prepare(&flat->screen, task->vector, digits, &task->query)) {
            flat_search_all(flat, scratch, query, q, hits);
            continue;
        }
        prepared[live] = task->query;
        g->of[live] = q;
        g->threshold[live] = -INFINITY;
        candidates_reset(&scratch->many[live], query->k);
        live++;
    }
    g->group.panel = scratch->panel;
    screen_pack(flat->backend, &flat->screen, prepared, live, &g->group);
}

/* The queries that row `row` of this tile interests. */
static bool add_row(struct group_state *g, const struct flat *flat, const float *values,
                    uint64_t mask, size_t row)
{
    float bias = flat->screen.terms.bias ? flat->screen.terms.bias[row] : 0;
    for (; mask; mask &= mask - 1) {
        size_t q = (size_t)__builtin_ctzll(mask);
        struct candidates *c = &g->tasks[q].scratch->many[q];
        if (!candidates_add(c, values[q] + bias, (uint32_t)row))
            return false;
        if (c->count < c->limit)
            continue;
        if (!candidates_tighten(c, &g->tasks[q]))
            return false;
        g->threshold[q] = g->tasks[q].threshold;
    }
    return true;
}

bool flat_search_group(const struct flat *flat, struct flat_scratch *scratch,
                       const struct segment_query *query, size_t first, size_t count,
                       const struct segment_hits *hits)
{
    struct group_state g;
    float values[SCREEN_TILE_MAX * SCREEN_GROUP_MAX];
    uint64_t masks[SCREEN_TILE_MAX];
    size_t step = screen_tile_rows(flat->backend);
    begin(&g, flat, scratch, query, first, count, hits);
    for (size_t row = 0; g.group.count && row < flat->screen.count; row += step) {
        size_t live = flat->screen.count - row < step ? flat->screen.count - row : step;
        screen_tile(flat->backend, &flat->screen, &g.group, row, live, g.threshold, values, masks);
        for (size_t r = 0; r < live; r++)
            if (masks[r] && flat_allows(query->allowed, row + r) &&
                !add_row(&g, flat, values + r * SCREEN_GROUP_MAX, masks[r], row + r))
                return false;
    }
    for (size_t q = 0; q < g.group.count; q++)
        if (!candidates_finish(&scratch->many[q], &g.tasks[q], hits->hits + g.of[q] * query->k,
                               &hits->found[g.of[q]]))
            return false;
    return true;
}
