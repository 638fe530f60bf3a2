/* What the commands of an index share. */
#pragma once

#include "base/npy.h"
#include "cli/cli.h"
#include "cli/vectors_input.h"

/* A matrix of vectors, with what --ids, --keys and --metadata bring. rows.vectors stays NULL: who
 * wants them takes them from `vectors`, all at once or some at a time. */
struct rows_file {
    struct vectors_input *vectors;
    struct npy ids;
    bool ids_open;
    struct text_lines {
        struct string_pool pool;
        const char **items;
        size_t count, capacity;
    } keys, metadata;
    struct akin_index_rows rows;
    size_t dimension;
};

enum akin_status rows_file_open(struct cli *cli, const char *vectors, struct rows_file *file);
void rows_file_close(struct rows_file *file);

/* The options that name them. */
#define ROWS_OPTIONS(without)                                                                     \
    {"input", 'i', OPTION_TEXT, VECTORS_INPUT_VALUE, NULL, VECTORS_INPUT_HELP, 0, 0},             \
    {"ids", 0, OPTION_TEXT, "I.npy", NULL, "int64 ids [vectors]; without: " without, 0, 0},       \
    {"keys", 0, OPTION_TEXT, "FILE", NULL, "names instead of ids, one on a line", 0, 0},          \
    {"metadata", 0, OPTION_TEXT, "FILE", NULL, "a JSON object on a line for each vector", 0, 0}

/* Opens the index and prints what it is; seconds below 0: it was not built just now. */
enum akin_status tell_index(struct cli *cli, const char *path, double seconds);
