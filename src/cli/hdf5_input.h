/* One matrix of an HDF5 file, such as those of ann-benchmarks, row by row.
 *
 * libhdf5 is known to crash and to loop on damaged files, so it runs in a child process that sends
 * rows through a pipe: whatever happens to it, here it is an error. Without libhdf5 at build time
 * hdf5_open refuses with a remedy. Not for use while another thread is inside fork-unsafe code;
 * the program opens its inputs from its main thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum hdf5_type { HDF5_FLOAT32, HDF5_INT64 };

struct hdf5_input;

/* A two-dimensional dataset of floating-point numbers, or of integers of one or two bytes, read as
 * float32; or of integers, read as int64. AKIN_NOT_FOUND: no such dataset, naming those there are.
 * AKIN_UNSUPPORTED: sparse data, other shapes and types, and data kept in other files. */
enum akin_status hdf5_open(const char *path, const char *dataset, enum hdf5_type type,
                           struct hdf5_input **input, struct akin_error *error);
size_t hdf5_rows(const struct hdf5_input *input);
size_t hdf5_columns(const struct hdf5_input *input);
/* The file's attribute "distance" ("angular", "euclidean", ...); "" where it has none. */
const char *hdf5_distance(const struct hdf5_input *input);
/* The next `count` rows, each once and in order; more than are left is a bug. */
enum akin_status hdf5_read(struct hdf5_input *input, void *rows, size_t count,
                           struct akin_error *error);
void hdf5_close(struct hdf5_input **input); /* NULL is fine */
