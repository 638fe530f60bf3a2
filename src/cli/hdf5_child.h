/* What goes through the pipe between hdf5_input.c and the process that reads the file. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "cli/hdf5_input.h"

enum { HDF5_MAGIC = 0x35666468, HDF5_BLOCK_BYTES = 1 << 20 };

struct hdf5_header {
    uint32_t magic, status; /* enum akin_status */
    size_t rows, columns;
    char distance[32];
    char message[800]; /* where status is not AKIN_OK; without the path */
};

/* Runs in the child: writes a header and then all rows to `pipe`. Its exit is the caller's. */
void hdf5_child_run(const char *path, const char *dataset, enum hdf5_type type, int pipe);
