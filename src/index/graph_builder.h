/* What the files that build a graph share. Every step is a function of what was there before it,
 * row by row: so the graph depends on the rows and settings alone, never on the threads. */
#pragma once

#include "index/graph_internal.h"

enum {
    KNN_LEAVES = 2,             /* that a row is in */
    KNN_NEAREST = 16,           /* kept of each leaf */
    CANDIDATES_MAX = 256,       /* that a list of neighbours is chosen from */
    SLAB_ROWS = 64,             /* handed to a thread at a time */
};

struct graph_worker {
    struct graph_scratch scratch;
    struct graph_query query;
    struct graph_near *near;    /* [near_capacity] candidates of a row */
    size_t near_capacity;
    uint32_t *ids;              /* [capacity of the longest list] */
    int32_t *dots;
    size_t list_capacity;
    int8_t *tile;               /* [4][padded] rows as signed bytes */
    float *row, *rotation;      /* [padded] */
    bool failed;                /* memory ran out on the way */
};

struct graph_builder {
    struct graph_view view;     /* over `nodes` */
    unsigned char *nodes;
    const struct segment_build *build;
    struct thread_pool *pool;
    struct graph_header header;
    struct graph_rotation rotation;
    size_t count, degree, beam;
    float spread;               /* alpha of the pruning, for squared distances */
    uint32_t *lists;            /* [count][EDGES] */
    uint8_t *list_counts;       /* [count] */
    uint32_t *order; /* [count] in which rows are taken: near ones one after the other, so
                        that they find each other's neighbours in the cache; or NULL */
    struct graph_worker *workers;
    int worker_count;
};

typedef void graph_row_fn(struct graph_builder *builder, size_t row, struct graph_worker *worker,
                          void *context);

/* fn for every row, shared out; asks progress in between. */
enum akin_status graph_each_row(struct graph_builder *builder, const char *stage, graph_row_fn *fn,
                                void *context, struct akin_error *error);

/* AKIN_MEMORY where a worker ran out of it. */
enum akin_status graph_workers_ok(const struct graph_builder *builder, struct akin_error *error);

/* Squared distances, in eight bits, from row `from` to `count` rows of worker->ids, to `near`. */
void graph_distances(const struct graph_builder *builder, size_t from, size_t count,
                     struct graph_near *near, struct graph_worker *worker);
/* Sorts by distance, then number; drops repetitions and `self`. Returns how many are left. */
size_t graph_sort(struct graph_near *near, size_t count, uint32_t self);
/* Chooses the neighbours of a row from sorted candidates; fills up with the nearest. */
size_t graph_prune(struct graph_builder *builder, const struct graph_near *near, size_t count,
                   uint32_t *out, struct graph_worker *worker);

/* graph_knn.c: first lists, from rows that share a leaf of a partition. */
enum akin_status graph_knn(struct graph_builder *builder, struct akin_error *error);
/* graph_link.c: adds the opposite of every edge, prunes, and writes the edges to the blocks. */
enum akin_status graph_reverse(struct graph_builder *builder, struct akin_error *error);
/* Makes every row reachable from the entries, in lists and blocks. */
enum akin_status graph_connect(struct graph_builder *builder, struct akin_error *error);
/* graph_calibrate.c: fills the tables of the header. */
enum akin_status graph_calibrate(struct graph_builder *builder, struct akin_error *error);
