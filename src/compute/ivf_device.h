/* Seam: a device that has an inverted file with product codes resident, and searches it as
 * index/ivfpq.h does on the CPU: cells are chosen, their codes summed by tables of bytes, the best
 * sums scored again from rows in eight bits, the best of those from the originals.
 *
 * Its hits are those of ivfpq_search for the same plan, bit for bit: every step is in whole
 * numbers, or adds floats in the order of compute/cpu/kernels.h. So it does not matter who answers.
 */
#pragma once

#include "compute/backend.h"

enum { IVF_DEVICE_KEPT_MAX = 384, IVF_DEVICE_CANDIDATES_MAX = 65536 };

/* As the codes lie: 32 rows a block, 64 bytes a group of parts. */
enum { IVF_BLOCK_ROWS = 32, IVF_GROUP_BYTES = 64, IVF_SLICE_CODES = 16 };

/* What decides what a search meets; index/ivfpq_parts.h says what follows from them. */
enum { IVF_QUERY_LEVELS = 2047, IVF_BUCKETS = 1024, IVF_TABLE_LEVELS = 127, IVF_WIDE_LEVELS = 255,
       IVF_BASE_MAX = 1 << 29 };
/* How far beyond sigma sqrt(2 ln n) the best of n rows stands: residuals are not spread evenly over
 * the directions. Measured on sentence embeddings; 1 to 2 do about as well. */
#define IVF_REACH 1.5f

/* As it stands in files. `spread` is how far above a cell's average the best of its rows can be
 * expected to stand, for a query of length 1; `offset` what the cell adds to every score (L2). */
struct ivf_cell {
    uint32_t first, rows;       /* its first block, its rows */
    float spread, offset;
};

/* A vector of eight bits: int8_t [depth], then scale and half its squared length, both float. */
struct ivf_tail {
    float scale, half_norm;
};

struct ivf_lists {
    enum score score;
    enum element_type element;          /* of the originals: float32 or fp16 */
    size_t dim, depth, stride;          /* of a record: numbers, bytes */
    size_t rows, cells, blocks;
    size_t parts, norm_parts, groups;   /* norm_parts: what L2 adds to a row, behind the parts */
    size_t width;                       /* numbers of a part */
    bool wide;                          /* codes of eight bits, two parts a group; else four */
    float norm_step;
    const struct ivf_cell *cell;        /* [cells] */
    const int8_t *centroids, *records;  /* [cells], [rows] records of `stride` bytes */
    const float *mean;                  /* [dim] */
    const float *codebook;              /* [parts][slices of 16 codes][width][16] */
    const uint8_t *codes;               /* [blocks][groups][IVF_GROUP_BYTES] */
    const uint32_t *entries;            /* [blocks][IVF_BLOCK_ROWS] row numbers */
    const void *vectors;                /* [rows][dim] of `element` */
};

struct ivf_query {
    const float *queries;       /* [count][dim] */
    size_t count, k;
    size_t kept;                /* scored from the originals: k of IVF_DEVICE_KEPT_MAX at most */
    size_t probes, candidates;  /* cells; rows scored from eight bits */
    const uint64_t *allowed;    /* a bit for each row, of those that may be found; NULL: all */
    /* 0: those bits are sent. Otherwise the caller promises that bits of one number are the same,
     * and they are not sent if the search before had that number too. */
    uint64_t allowed_number;
};

struct ivf_device;

struct ivf_device_ops {
    /* Copies the lists. AKIN_UNSUPPORTED: tables that do not fit into the shared memory of the
     * device, no rows; AKIN_MEMORY says how many bytes there were not. */
    enum akin_status (*create)(int ordinal, const struct ivf_lists *lists,
                               struct ivf_device **device, struct akin_error *error);
    void (*destroy)(struct ivf_device **device);
    /* hits [count][k], found [count]; the same bits whatever is asked together. AKIN_UNSUPPORTED:
     * more probes than cells, or more than the limits above. One call at a time. */
    enum akin_status (*search)(struct ivf_device *device, const struct ivf_query *query,
                               struct hit *hits, size_t *found, struct akin_error *error);
    /* Seconds of such a search by the device's own clock, copies included. May be NULL. */
    enum akin_status (*measure)(struct ivf_device *device, const struct ivf_query *query,
                                struct hit *hits, size_t *found, double *seconds,
                                struct akin_error *error);
    /* Bytes of the device that are held. */
    size_t (*memory)(const struct ivf_device *device);
};
