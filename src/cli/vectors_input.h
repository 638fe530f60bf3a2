/* Vectors from a file, whatever its form, as float32 rows: .npy, .fvecs, .bvecs, .ivecs, and HDF5
 * as ann-benchmarks has it. A command takes FILE, or FILE:DATASET for HDF5, and hands it here.
 *
 * Every row that leaves is finite: a row that is not is an error that names it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* For the help of commands. */
#define VECTORS_INPUT_VALUE "FILE[:SET]"
#define VECTORS_INPUT_HELP "vectors: .npy, .fvecs, .bvecs, or a set of an .hdf5 file"

struct vectors_input;

/* `dataset` is what an HDF5 file is asked for where `text` names none: "train" for what is
 * searched, "test" for queries. AKIN_NOT_FOUND, AKIN_FORMAT, AKIN_UNSUPPORTED: one line that says
 * what is wrong with the file. A file of which the name itself has a colon is found first. */
enum akin_status vectors_input_open(const char *text, const char *dataset,
                                    struct vectors_input **input, struct akin_error *error);
size_t vectors_input_rows(const struct vectors_input *input);
size_t vectors_input_dimension(const struct vectors_input *input);
/* What the file says that its vectors are compared by, in the words of ann-benchmarks; or "". */
const char *vectors_input_distance(const struct vectors_input *input);

/* The next rows, at most `rows_max`: *rows is valid until the next call; *count 0 at the end. Needs
 * memory for rows_max rows, or none where the file can be mapped. */
enum akin_status vectors_input_next(struct vectors_input *input, size_t rows_max,
                                    const float **rows, size_t *count, struct akin_error *error);
/* All rows at once, [rows][dimension], valid until close: mapped where the file lies in that form
 * (.npy), else read. Before the first vectors_input_next, or instead of it. */
enum akin_status vectors_input_all(struct vectors_input *input, const float **rows,
                                   struct akin_error *error);
void vectors_input_close(struct vectors_input **input); /* NULL is fine */

/* Whole numbers, such as the true neighbours of queries: .ivecs, .npy of int32 or int64, and HDF5
 * (`dataset`: "neighbors"). `ids` [rows][columns] is freed with memory_free. */
struct vectors_ids {
    int64_t *ids;
    size_t rows, columns;
};

enum akin_status vectors_input_ids(const char *text, const char *dataset, struct vectors_ids *ids,
                                   struct akin_error *error);
