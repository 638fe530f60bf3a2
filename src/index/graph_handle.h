/* An open graph: its view, and scratch that queries lend from. */
#pragma once

#include "base/thread.h"
#include "index/graph_internal.h"

/* All that one query needs while it runs; kept for the next one. */
struct graph_desk {
    struct graph_desk *next;
    struct graph_scratch walk;
    struct graph_query query;
    float *rotation;            /* [padded] scratch of the rotation; then a widened row [dim] */
    struct hit *hits;           /* [hit_capacity] */
    struct graph_near *bounds;  /* [bound_capacity] of a scan: least and row */
    float *heap;                /* [heap_capacity] of a scan: the k least upper bounds */
    size_t hit_capacity, bound_capacity, heap_capacity;
};

struct graph {
    struct backend *backend;
    struct thread_pool *pool;
    struct segment_rows rows;
    struct graph_header header;
    struct graph_view view;
    struct graph_rotation rotation;
    struct mutex *desk_lock;    /* guards `desks` */
    struct graph_desk *desks;
};

/* The score of one original, as cpu_topk gives it. `widened` [dim] is scratch. */
float graph_score(const struct graph *graph, const float *query, size_t row, float *widened);
/* Best first, ties by row. */
void graph_sort_hits(struct hit *hits, size_t count);
/* The k best of all rows that `allowed` passes, exactly, to hits [k]. Returns how many, or SIZE_MAX
 * when memory is out. */
size_t graph_scan(const struct graph *graph, const float *query, size_t k, const uint64_t *allowed,
                  struct graph_desk *desk, struct hit *hits);
/* The width of a walk for a recall among k, 0 when no width measured reaches it. */
size_t graph_beam_for(const struct graph_header *header, float recall, size_t k);
/* graph_search with a width of its own, for measurements; 0: none. */
enum akin_status graph_search_beam(const struct graph *graph, const struct segment_query *query,
                                   size_t beam, const struct segment_hits *hits,
                                   struct akin_error *error);
