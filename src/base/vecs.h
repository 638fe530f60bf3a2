/* The .fvecs, .bvecs and .ivecs files of the TEXMEX collections: each row is its dimension as a
 * little-endian int32, then so many float32, uint8 or int32. */
#pragma once

#include "base/file.h"

enum vecs_type { VECS_FLOAT32, VECS_UINT8, VECS_INT32 };

struct vecs {
    struct file_map map;
    const char *path;       /* the caller's, which must outlive this */
    enum vecs_type type;
    size_t rows, dimension;
    size_t row_bytes;       /* with the dimension in front */
};

/* By the ending of a name, in any case; false when it is none of them. */
bool vecs_type_of(const char *path, enum vecs_type *type);

/* Maps a file. AKIN_FORMAT: it is empty, cut short, big-endian, or its first dimension is 0 or
 * above DIMENSION_MAX. That each row repeats the dimension is verified when it is read. */
enum akin_status vecs_open(const char *path, enum vecs_type type, struct vecs *vecs,
                           struct akin_error *error);
void vecs_close(struct vecs *vecs);

/* Rows [row, row + count) as float32 [count][dimension]; integers above 2^24 are rounded. */
enum akin_status vecs_read(const struct vecs *vecs, size_t row, size_t count, float *out,
                           struct akin_error *error);
/* The same as whole numbers, from .ivecs and .bvecs. */
enum akin_status vecs_read_ids(const struct vecs *vecs, size_t row, size_t count, int64_t *out,
                               struct akin_error *error);
