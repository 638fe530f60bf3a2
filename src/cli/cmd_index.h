/* What the commands of an index share. */
#pragma once

#include "base/npy.h"
#include "cli/cli.h"

/* A matrix of vectors, with ids where there is a file of them. */
struct rows_file {
    struct npy vectors, ids;
    bool vectors_open, ids_open;
    struct akin_index_rows rows;
    size_t dimension;
};

enum akin_status rows_file_open(struct cli *cli, const char *vectors, const char *ids,
                                struct rows_file *file);
void rows_file_close(struct rows_file *file);

/* Opens the index and prints what it is; seconds below 0: it was not built just now. */
enum akin_status tell_index(struct cli *cli, const char *path, double seconds);
