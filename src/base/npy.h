/* numpy's .npy files, versions 1.0 to 3.0, little-endian, C order. */
#pragma once

#include "base/file.h"

enum npy_type { NPY_FLOAT32, NPY_FLOAT64, NPY_INT32, NPY_INT64, NPY_UINT8, NPY_OTHER };

struct npy {
    struct file_map map;
    enum npy_type type;
    char descr[256];            /* as the file has it, for NPY_OTHER and for errors */
    size_t dims;                /* 1 to 4 */
    size_t shape[4];
    const void *data;           /* aligned to 16 or more; rows in C order */
    size_t data_bytes;
};

/* Maps a file. AKIN_FORMAT: not npy, Fortran order, big-endian, short data, sizes that overflow. */
enum akin_status npy_open(const char *path, struct npy *npy, struct akin_error *error);
/* The same, and it must be a float32 matrix [rows][cols]. */
enum akin_status npy_open_matrix(const char *path, struct npy *npy, struct akin_error *error);
void npy_close(struct npy *npy);

/* Writes the header for `descr` (such as "'<f4'" or a structured "[('user', '<u4'), ...]") and
 * shape to a writer; the data follow by file_writer_write. The header's size is a multiple of 64.
 */
enum akin_status npy_write_header(struct file_writer *writer, const char *descr, size_t dims,
                                  const size_t *shape, struct akin_error *error);
/* A whole file at once. */
enum akin_status npy_write(const char *path, const char *descr, size_t dims, const size_t *shape,
                           const void *data, size_t bytes, struct akin_error *error);
