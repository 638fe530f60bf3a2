/* The parameters of the encoder-decoder Transformer: what there are, by PyTorch's names, and where
 * each lies in one block of float32. */
#pragma once

#include <stddef.h>

#include "base/status.h"

enum { PARAMETER_NAME_MAX = 96, TRAIN_LAYERS_MAX = 1024 };

struct transformer_shape {
    size_t d_model, nhead, encoder_layers, decoder_layers, feed_forward, vocab;
    size_t seq_len;             /* tokens of a source and of a target; the decoder sees one less */
};

/* In the order of PyTorch's state_dict; each starts on 64 bytes. */
struct parameter {
    char name[PARAMETER_NAME_MAX];
    size_t offset;              /* numbers, from the start of the block; a multiple of 16 */
    size_t rows, cols;          /* cols 0: a vector [rows] */
};

struct parameter_table {
    struct parameter *parameters;
    size_t count;
    size_t values;              /* of the block, padding included */
    size_t trained;             /* numbers that learn: 3,527,168 for the defaults */
};

/* AKIN_ARGUMENT names the size that is wrong, AKIN_LIMIT sizes beyond any memory. */
enum akin_status parameter_table_create(const struct transformer_shape *shape,
                                        struct parameter_table *table, struct akin_error *error);
void parameter_table_destroy(struct parameter_table *table);
/* -1: no parameter of that name. */
ptrdiff_t parameter_find(const struct parameter_table *table, const char *name);

/* Floating-point operations of the matrix products of one sample, forwards and backwards, with
 * attention over all pairs: what the reference counts. */
double transformer_sample_flops(const struct transformer_shape *shape);
