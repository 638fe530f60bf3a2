/* What the files of kind ivfpq share. Nothing else includes it. */
#pragma once

#include "compute/cpu/kernels.h"
#include "index/ivfpq.h"
#include "index/segment_rows.h"

enum ivfpq_block {
    IVFPQ_HEADER = 32,
    IVFPQ_CENTROIDS, /* [cells] records */
    IVFPQ_CELLS,     /* struct ivfpq_cell [cells] */
    IVFPQ_MEAN,      /* float [dim]: taken off every row */
    IVFPQ_CODEBOOK,  /* float [parts][width][PQ4_CODES] */
    IVFPQ_CODES,     /* [blocks][groups][PQ4_GROUP_BYTES], see kernels.h */
    IVFPQ_ENTRIES,   /* uint32_t [blocks][PQ4_BLOCK_ROWS]: row numbers, ascending in a cell */
    IVFPQ_ROWS,      /* [rows] records */
    IVFPQ_BLOCK_END
};

enum { IVFPQ_VERSION = 1, IVFPQ_PLANS = 11, IVFPQ_CELLS_MAX = 65536, IVFPQ_DIM_MAX = 4096 };

/* With a block begun in every cell, places still fit in 32 bits. */
#define IVFPQ_ROWS_MAX (UINT32_MAX - 32u * IVFPQ_CELLS_MAX - 1)

/* Depths of the measured lists: plans[0] is for the 10 nearest, plans[1] for the 100 nearest. */
enum { IVFPQ_DEPTHS = 2 };

struct ivfpq_header {
    uint32_t version, score, dim, cells;
    uint32_t parts, width, groups, reserved;    /* groups: of parts, the norm's two included */
    uint64_t rows, blocks;
    float norm_step;        /* L2: the last two parts are a number of these, high half first */
    float norm_reserved[3];
    struct ivfpq_plan plans[IVFPQ_DEPTHS][IVFPQ_PLANS];
};

/* `spread` is how far above a cell's average the best of its rows can be expected to stand, for a
 * query of length 1; `offset` what the cell adds to every score (L2). */
struct ivfpq_cell {
    uint32_t first, rows;   /* its first block, its rows */
    float spread, offset;
};

/* A vector of eight bits: int8_t [depth], then scale and half its squared length, both float. */
struct ivfpq_tail {
    float scale, half_norm;
};

struct scratch;

struct ivfpq {
    struct backend *backend;
    struct thread_pool *pool;
    const struct kernels *kernels;
    struct segment_rows rows;
    const struct ivfpq_header *header;
    const struct ivfpq_cell *cells;
    const float *mean, *codebook;
    const int8_t *centroids, *records;
    const uint8_t *codes;
    const uint32_t *entries;
    size_t depth, stride;       /* of a record: numbers, bytes */
    struct mutex *lock;         /* guards `free` */
    struct scratch *free;
};

static inline struct ivfpq_tail record_tail(const struct ivfpq *v, const int8_t *record)
{
    struct ivfpq_tail tail;
    __builtin_memcpy(&tail, record + v->depth, sizeof tail);
    return tail;
}

/* Writes vector [dim] as a record. */
void record_write(const struct ivfpq *v, const float *vector, int8_t *record);
void record_read(const struct ivfpq *v, const int8_t *record, float *vector);

static inline bool segment_is_l2(const struct ivfpq *v)
{
    return v->header->score == SCORE_L2;
}

/* A query on its way: who it is compared with cells, and the tables of its products. */
struct prepared {
    int16_t *query;             /* [depth] */
    float query_scale, length;  /* of the query, less the mean with L2 */
    float *vector, *products;   /* [parts * width], [groups * 4][PQ4_CODES] */
    uint8_t *tables;            /* [groups][PQ4_GROUP_TABLES] */
    float step;                 /* of the tables */
    uint32_t table_most;        /* the largest sum there can be */
    int32_t *dots, *bases;      /* [cells]: scores of the cells in steps */
    float *scores;              /* [cells] */
    uint32_t *order;            /* [cells]: in which they are probed */
};

bool prepared_init(struct prepared *p, const struct ivfpq *v);
void prepared_deinit(struct prepared *p);
void prepare(const struct ivfpq *v, const float *query, struct prepared *p);

/* Fills plans; `position` [rows] is where each row stands among the entries. */
enum akin_status ivfpq_calibrate(const struct ivfpq *v, const uint32_t *position,
                                 const struct segment_build *build,
                                 struct ivfpq_plan plans[IVFPQ_DEPTHS][IVFPQ_PLANS],
                                 struct akin_error *error);
void scratch_destroy(struct scratch **scratch);

/* The residual of row `row` from its centroid, padded; and its codes [parts]. */
struct encoder {
    const struct ivfpq *v;
    const float *start;         /* [parts][PQ4_CODES]: -|code|^2 / 2 */
};
void encode(const struct encoder *encoder, const float *residual, float *products, uint32_t *codes);
void codebook_norms(const struct ivfpq *v, const float *codebook, float *start);
