/* What the files of kind ivfpq share. Nothing else includes it. */
#pragma once

#include "compute/cpu/kernels.h"
#include "compute/ivf_device.h"
#include "index/ivfpq.h"
#include "index/segment_rows.h"

enum ivfpq_block {
    IVFPQ_HEADER = 32,
    IVFPQ_CENTROIDS, /* [cells] records */
    IVFPQ_CELLS,     /* struct ivf_cell [cells] */
    IVFPQ_MEAN,      /* float [dim]: taken off every row */
    IVFPQ_CODEBOOK,  /* float [parts][slices][width][PQ4_CODES] */
    IVFPQ_CODES,     /* [blocks][groups][PQ4_GROUP_BYTES], see kernels.h; wide: [parts] there */
    IVFPQ_ENTRIES,   /* uint32_t [blocks][PQ4_BLOCK_ROWS]: row numbers, ascending in a cell */
    IVFPQ_ROWS,      /* [rows] records */
    IVFPQ_BLOCK_END
};

enum { IVFPQ_VERSION = 1, IVFPQ_PLANS = 11, IVFPQ_CELLS_MAX = 65536, IVFPQ_DIM_MAX = 4096 };

/* With a block begun in every cell, places still fit in 32 bits. */
#define IVFPQ_ROWS_MAX (UINT32_MAX - 32u * IVFPQ_CELLS_MAX - 1)

/* One candidate for each so many rows scanned costs an eighth of the time of the scan; at least
 * those are taken, because the larger a collection, the closer its best rows lie to each other for
 * queries like people's, and the less the test queries say about their order. */
enum { IVFPQ_CHEAP_ROWS = 160 };

/* Depths of the measured lists: plans[0] is for the 10 nearest, plans[1] for the 100 nearest. */
enum { IVFPQ_DEPTHS = 2 };

struct ivfpq_header {
    uint32_t version, score, dim, cells;
    /* `wide`: codes of eight bits, else of four. groups: of parts, 2 or 4 each, the norm's one or
     * two included. */
    uint32_t parts, width, groups, wide;
    uint64_t rows, blocks;
    float norm_step;        /* L2: the last parts are a number of these, high half first */
    float norm_reserved[3];
    struct ivfpq_plan plans[IVFPQ_DEPTHS][IVFPQ_PLANS];
};

/* Codes of eight bits are looked up, and compared with a row, as 16 slices of 16. */
static inline size_t header_slices(const struct ivfpq_header *h)
{
    return h->wide ? PQ8_CODES / PQ4_CODES : 1;
}

static inline size_t header_codes(const struct ivfpq_header *h)
{
    return h->wide ? PQ8_CODES : PQ4_CODES;
}

static inline size_t header_group(const struct ivfpq_header *h)
{
    return h->wide ? PQ4_GROUP_BYTES / PQ4_BLOCK_ROWS : PQ4_GROUP;
}

/* Parts for what L2 adds to a row. */
static inline size_t header_norm_parts(const struct ivfpq_header *h)
{
    return h->score != SCORE_L2 ? 0 : h->wide ? 1 : 2;
}

/* Number d of a code in the codebook. */
static inline size_t codebook_at(const struct ivfpq_header *h, size_t part, size_t code, size_t d)
{
    return ((part * header_slices(h) + code / PQ4_CODES) * h->width + d) * PQ4_CODES +
           code % PQ4_CODES;
}

/* The byte of the codes that has a part of the row at place `entry`; of four bits, with another. */
static inline size_t code_byte(const struct ivfpq_header *h, size_t entry, size_t part)
{
    size_t group = part / header_group(h), half = part % 2 * PQ4_BLOCK_ROWS;
    return (entry / PQ4_BLOCK_ROWS * h->groups + group) * PQ4_GROUP_BYTES + half +
           pq4_byte(entry % PQ4_BLOCK_ROWS);
}

struct scratch;

struct ivfpq {
    struct backend *backend;
    struct thread_pool *pool;
    const struct kernels *kernels;
    struct segment_rows rows;
    const struct ivfpq_header *header;
    const struct ivf_cell *cells;
    const float *mean, *codebook;
    const int8_t *centroids, *records;
    const uint8_t *codes;
    const uint32_t *entries;
    size_t depth, stride;       /* of a record: numbers, bytes */
    struct mutex *lock;         /* guards `free` */
    struct scratch *free;
};

static inline struct ivf_tail record_tail(const struct ivfpq *v, const int8_t *record)
{
    struct ivf_tail tail;
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
    float *vector, *products;   /* [parts * width], [parts of all groups][codes] */
    uint8_t *tables;            /* as the kernel that scans has them */
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
    const float *start;         /* [parts][codes]: -|code|^2 / 2 */
};
void encode(const struct encoder *encoder, const float *residual, float *products, uint32_t *codes);
void codebook_norms(const struct ivfpq *v, const float *codebook, float *start);
/* out [parts][codes]: products of x with the codes, `start` (NULL: 0) added. */
void code_products(const struct ivfpq *v, const float *x, const float *start, float *out);

/* Sums of `blocks` blocks from block `first` on, while those from `ahead` on are fetched. */
static inline void scan_codes(const struct ivfpq *v, size_t first, size_t blocks, size_t ahead,
                              const uint8_t *tables, uint16_t *sums)
{
    size_t groups = v->header->groups, bytes = groups * PQ4_GROUP_BYTES;
    const uint8_t *codes = v->codes + first * bytes, *next = v->codes + ahead * bytes;
    if (v->header->wide)
        v->kernels->pq8_scan(sums, codes, tables, groups * header_group(v->header), blocks,
                             next);
    else
        v->kernels->pq4_scan(sums, codes, tables, groups, blocks, next);
}
