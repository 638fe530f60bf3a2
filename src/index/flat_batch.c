/* Many queries at once: a group of them is multiplied with a tile of rows, and each value is
 * compared with its query's threshold as it is made. No matrix of scores exists. All groups of a
 * thread pass over a block of rows while it lies in the second-level cache. */
#include <math.h>

#include "index/flat_handle.h"

enum { BLOCK_BYTES = 48 << 10 };

void flat_group_free(struct flat_group *group)
{
    if (!group)
        return;
    for (size_t i = 0; i < SCREEN_GROUP_MAX; i++)
        memory_free(group->candidates[i].keys);
    memory_free(group->group.panel);
    memory_free(group->digits);
    memory_free(group);
}

static struct flat_group *group_create(const struct flat *flat)
{
    struct flat_group *g = memory_alloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->group.panel = memory_alloc_aligned(screen_group_bytes(flat->backend, flat->screen.dim), 1);
    g->digits = memory_alloc_aligned(SCREEN_GROUP_MAX, flat->screen.stride);
    if (g->group.panel && g->digits)
        return g;
    flat_group_free(g);
    return NULL;
}

struct batch {
    const struct flat *flat;
    struct flat_scratch *scratch;
    const struct segment_query *query;
    const struct segment_hits *hits;
};

/* The queries for which bounds hold; the others are answered at once. */
static void begin(const struct batch *b, struct flat_group *g, size_t first, size_t count)
{
    const struct screen_rows *rows = &b->flat->screen;
    struct screen_query prepared[SCREEN_GROUP_MAX];
    size_t live = 0;
    for (size_t q = first; q < first + count; q++) {
        struct flat_task *task = &g->tasks[live];
        *task = (struct flat_task){
            .flat = b->flat, .scratch = b->scratch, .vector = b->query->queries + q * rows->dim,
            .k = b->query->k, .threshold = -INFINITY,
        };
        if (!screen_prepare(rows, task->vector, g->digits + live * rows->stride, &task->query)) {
            flat_search_all(b->flat, b->scratch, b->query, q, b->hits);
            continue;
        }
        prepared[live] = task->query;
        g->of[live] = q;
        if (b->query->hints && b->query->hints[q].reached > -INFINITY)
            candidates_demand(task, b->query->hints[q].reached);
        g->threshold[live] = task->threshold;
        candidates_reset(&g->candidates[live], b->query->k);
        live++;
    }
    screen_pack(b->flat->backend, rows, prepared, live, &g->group);
}

/* The queries that row `row` of a tile interests. */
static bool add_row(struct flat_group *g, float bias, const float *values, uint64_t mask,
                    size_t row)
{
    for (; mask; mask &= mask - 1) {
        size_t q = (size_t)__builtin_ctzll(mask);
        struct candidates *c = &g->candidates[q];
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

static bool scan_block(const struct batch *b, struct flat_group *g, size_t first, size_t end)
{
    const struct screen_rows *rows = &b->flat->screen;
    float values[SCREEN_TILE_MAX * SCREEN_GROUP_MAX];
    uint64_t masks[SCREEN_TILE_MAX];
    size_t step = screen_tile_rows(b->flat->backend);
    for (size_t row = first; g->group.count && row < end; row += step) {
        size_t live = end - row < step ? end - row : step;
        screen_tile(b->flat->backend, rows, &g->group, row, live, g->threshold, values, masks);
        for (size_t r = 0; r < live; r++) {
            if (!masks[r] || !flat_allows(b->query->allowed, row + r))
                continue;
            float bias = rows->terms.bias ? rows->terms.bias[row + r] : 0;
            if (!add_row(g, bias, values + r * SCREEN_GROUP_MAX, masks[r], row + r))
                return false;
        }
    }
    return true;
}

static bool finish(const struct batch *b, struct flat_group *g)
{
    for (size_t q = 0; q < g->group.count; q++)
        if (!candidates_finish(&g->candidates[q], &g->tasks[q],
                               b->hits->hits + g->of[q] * b->query->k, &b->hits->found[g->of[q]]))
            return false;
    return true;
}

bool flat_search_groups(const struct flat *flat, struct flat_scratch *scratch,
                        const struct segment_query *query, size_t first, size_t count,
                        size_t group, const struct segment_hits *hits)
{
    struct batch b = { flat, scratch, query, hits };
    size_t groups = (count + group - 1) / group, tile = screen_tile_rows(flat->backend);
    size_t step = (BLOCK_BYTES / (tile * flat->screen.stride) + 1) * tile;
    for (size_t i = 0; i < groups; i++) {
        if (!scratch->groups[i] && !(scratch->groups[i] = group_create(flat)))
            return false;
        size_t rest = count - i * group;
        begin(&b, scratch->groups[i], first + i * group, rest < group ? rest : group);
    }
    for (size_t row = 0; row < flat->screen.count; row += step) {
        size_t end = flat->screen.count - row < step ? flat->screen.count : row + step;
        for (size_t i = 0; i < groups; i++)
            if (!scan_block(&b, scratch->groups[i], row, end))
                return false;
    }
    for (size_t i = 0; i < groups; i++)
        if (!finish(&b, scratch->groups[i]))
            return false;
    return true;
}
