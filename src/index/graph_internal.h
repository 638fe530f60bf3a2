/* What the files of the graph share: its blocks, and the walk that both building and searching do.
 */
#pragma once

#include "compute/cpu/kernels.h"
#include "index/graph.h"

enum graph_block {
    GRAPH_BLOCK_HEADER = 48,    /* struct graph_header */
    GRAPH_BLOCK_NODES = 49,     /* [nodes][stride] */
};

enum {
    GRAPH_VERSION = 1,
    GRAPH_DIM_MAX = 4096,
    GRAPH_BEAM_MIN = 16,
    GRAPH_BEAM_MAX = 8192,
    GRAPH_BEAMS = 19, /* widths whose recall is measured: 16 to 8192 by halves and powers */
    GRAPH_ENTRIES_MAX = 8192,
    GRAPH_BUCKETS = 2048,
    GRAPH_VISIT_COST = 12,      /* of a walk, in rows of a scan */
    GRAPH_ROUNDS = 4, /* of the rotation */
};

#define GRAPH_COUNT_MAX ((uint64_t)1 << 31)
#define GRAPH_NO_NODE   UINT32_MAX

/* Recall among the k best, in parts of 1, of a walk of each width; rising. */
struct graph_table {
    uint32_t k;                 /* 0: not measured */
    float recall[GRAPH_BEAMS];
};

struct graph_header {
    uint32_t version, degree;
    uint32_t dim, padded;       /* of a row; after rotation, a multiple of 64 */
    uint32_t score, lifted;     /* enum score; 1: one more dimension evens out the lengths */
    uint64_t count, nodes;      /* rows; and with the blocks that hold the entries */
    uint64_t stride, seed;
    float square;               /* of the longest row's length, for inner products; with `lifted`
                                   of every row's */
    uint32_t reserved;
    struct graph_table tables[2];
};

/* The end of a node's block. A row is scale * (byte - 128). */
struct graph_tail {
    float scale, square;        /* and its squared length, as bytes */
    float error;                /* at least the distance between it and the original */
    float offset_base, offset_scale, slope_scale;
    uint32_t edges;             /* in use; the rest are GRAPH_NO_NODE */
    int32_t byte_sum;           /* of byte - 128 */
    uint32_t reserved[8];
};

/* Where the parts of a block are: codes [padded / 4][16], offset and slope [EDGES], ids [EDGES],
 * row [padded], tail. */
struct graph_view {
    const struct kernels *kernels;
    const unsigned char *nodes;
    size_t count, node_count;
    size_t padded, stride;
    enum score score;
    float square;               /* inner products: the squared length of the longest row */
};

static inline const unsigned char *node_at(const struct graph_view *view, size_t node)
{
    return view->nodes + node * view->stride;
}

static inline size_t graph_stride(size_t padded)
{
    return padded * 5 + EDGES * 8 + sizeof(struct graph_tail);
}

static inline const int16_t *node_offsets(const struct graph_view *view, const void *node)
{
    return (const int16_t *)((const unsigned char *)node + view->padded * 4);
}

static inline const uint32_t *node_ids(const struct graph_view *view, const void *node)
{
    return (const uint32_t *)((const unsigned char *)node + view->padded * 4 + EDGES * 4);
}

static inline const uint8_t *node_row(const struct graph_view *view, const void *node)
{
    return (const unsigned char *)node + view->padded * 4 + EDGES * 8;
}

static inline const struct graph_tail *node_tail(const struct graph_view *view, const void *node)
{
    return (const struct graph_tail *)((const unsigned char *)node + view->padded * 5 + EDGES * 8);
}

/* Asks for a row and its tail, long before they are read. */
static inline void graph_fetch_row(const struct graph_view *view, size_t node)
{
    const unsigned char *row = node_row(view, node_at(view, node));
    for (size_t at = 0; at <= view->padded; at += 64)
        __builtin_prefetch(row + at);
}

/* ---- graph_code.c: numbers to bytes and bits -------------------------------------------- */

/* Random signs and Hadamard transforms of eight, in rounds with a transposition between them. */
struct graph_rotation {
    size_t padded;
    float *signs;               /* [GRAPH_ROUNDS][padded] */
};

bool graph_rotation_init(struct graph_rotation *rotation, size_t padded, uint64_t seed);
void graph_rotation_deinit(struct graph_rotation *rotation);
/* In place; `scratch` [padded]. Keeps lengths. */
void graph_rotate(const struct graph_rotation *rotation, float *x, float *scratch);

/* A rotated row or query in all forms that a walk needs. */
struct graph_query {
    float *values;              /* [padded] rotated */
    int8_t *bytes;              /* [padded], value = scale * byte */
    uint8_t *table;             /* [padded / 4][16], see edge_scores */
    float scale, step, low;
    int32_t byte_sum;
    float error;                /* distance between the bytes and the values */
};

bool graph_query_init(struct graph_query *query, size_t padded);
void graph_query_deinit(struct graph_query *query);
/* From `values`: the bytes; and the table, which only walks need. */
void graph_query_prepare(struct graph_query *query, size_t padded);
void graph_query_table(struct graph_query *query, size_t padded);
/* From a row of the graph, whose bytes it takes over. */
void graph_query_from_row(struct graph_query *query, const struct graph_view *view,
                          const void *node);
/* A row as float32 [padded], with the dimension that evens out the lengths. */
void graph_load_row(const struct kernels *kernels, const struct segment_rows *rows,
                    const struct graph_header *header, size_t row, float *values);
/* Writes square and sum of a row whose bytes and scale are there. */
void graph_sum_row(const struct graph_view *view, unsigned char *node);
/* Writes row, scale, square and error of a node. */
void graph_write_row(const struct graph_view *view, unsigned char *node, const float *values);
/* Writes the `count` <= EDGES edges of a node, whose row and theirs are there. */
void graph_write_edges(const struct graph_view *view, unsigned char *node, const uint32_t *ids,
                       size_t count);

size_t graph_beam_width(size_t number);     /* of the tables: 16, 24, 32, 48 ... 8192 */

/* ---- graph_walk.c ----------------------------------------------------------------------- */

struct graph_near {
    float distance;
    uint32_t id;
};

/* A candidate, in the list of its bucket. */
struct graph_cell {
    uint32_t id, next;
};

/* What a walk needs while it goes on; see graph_walk.c. */
struct graph_scratch {
    struct graph_near *best;    /* [best_capacity], ascending: of the visited ones, in eight bits */
    struct graph_cell *cells;   /* [cell_capacity] candidates in the order in which they came */
    uint32_t *seen;             /* [seen_capacity], open addressing */
    size_t best_capacity, cell_capacity, seen_capacity;
    size_t best_count, cell_limit, seen_mask;
    size_t beam, inside;        /* candidates wanted, and in the buckets up to `last` */
    float shift;                /* squared distance = distance + shift */
    uint32_t lowest;            /* the bits of bucket 0 */
    uint32_t last, first_word, cell_count;
    size_t visited, passed;     /* nodes; and those of them that the filter passes */
    uint64_t filled[GRAPH_BUCKETS / 64];
    uint32_t counts[GRAPH_BUCKETS];     /* visited ones included */
    uint32_t heads[GRAPH_BUCKETS];      /* of filled ones */
};

/* Room for a walk of this width that keeps `best` nodes. false: no memory. Keeps what is larger. */
bool graph_scratch_reserve(struct graph_scratch *scratch, size_t beam, size_t best);
void graph_scratch_deinit(struct graph_scratch *scratch);

/* Starts at the neighbours of `from`, GRAPH_NO_NODE: at the entries. Visits nodes until the `beam`
 * nearest known ones are visited; leaves the nearest `best` of those that `allowed` passes (NULL:
 * all) in scratch->best, by distance and number. A distance is square
 * - 2 <query, row>, without the square for inner products. false: no memory. */
bool graph_walk(const struct graph_view *view, const struct graph_query *query, size_t from,
                size_t beam, size_t best, const uint64_t *allowed, struct graph_scratch *scratch);
