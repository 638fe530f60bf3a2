/* What sketch.c and sketch_train.c share: a space as it is stored and as it is used. */
#pragma once

#include <stdint.h>

#include "compute/cpu/backend_cpu.h"
#include "compute/sketch.h"

#define SKETCH_MAGIC 0x31484354454b5341ull      /* "ASKETCH1" */

enum { SKETCH_DIM_MAX = 4096, SKETCH_PARTS_MAX = SKETCH_DIM_MAX / SKETCH_PART };

/* The front of a blob. Behind it, all float32: mean [dim]; deviation [directions], largest first:
 * the heads, then the two-bit and the one-bit directions; part [directions], the part of dim that a
 * direction lies in; and the directions themselves, each as long as its part. */
struct sketch_header {
    uint64_t magic;
    uint32_t dim, score, block_rows, planes;
    uint32_t heads, twos, ones;         /* directions in 7 bits, in 2, in 1 */
    uint32_t parts;                     /* of dim, all of one length but the last */
    uint32_t reserved[6];
};
static_assert(sizeof(struct sketch_header) == 64, "no padding");

/* A two-bit field: direction `first` alone, or the signs of two; NONE is 0. */
enum { SKETCH_NONE = UINT32_MAX };
struct sketch_field {
    uint32_t first, second;
    bool signs;
};

struct sketch {
    struct cpu_backend *cpu;
    const struct sketch_header *header;
    void *owned;                        /* the blob, where it was trained here */
    size_t blob_bytes;
    struct sketch_form form;
    size_t directions, part_dim;
    const float *mean, *deviation;
    size_t part_first[SKETCH_PARTS_MAX + 1];    /* directions of part p in `order` */
    uint32_t *order;                    /* [directions]: by part */
    float *panels;                      /* of gemm_f32: the directions of each part in `order` */
    struct sketch_field *fields;        /* [planes * 4], by slot */
};

static inline size_t sketch_parts(size_t dim)
{
    return (dim + SKETCH_PART - 1) / SKETCH_PART;
}

static inline size_t sketch_part_dim(size_t dim)
{
    size_t parts = sketch_parts(dim);
    return (dim + parts - 1) / parts;
}

static inline size_t sketch_head_groups(size_t heads)
{
    return (heads + 3) / 4;
}
