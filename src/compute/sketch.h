/* Sketches: a vector in about an eighth of a byte for each dimension, so that most of a collection
 * can be ruled out by table look-ups. A score from a sketch is an estimate; who needs the best rows
 * looks at more candidates than it wants and scores those by better vectors.
 *
 * A space is learned from a sample: the mean of the rows and the principal directions of what is
 * left, in parts of at most SKETCH_PART dimensions. A row less the mean is brought to length 1,
 * turned, and quantised: the directions with most variance in 7 bits each, the others in 2 bits, 1
 * or none, as they reduce the error most (the quantiser of Max and Lloyd for the normal
 * distribution). Each row keeps one number that makes its estimate right for the row itself, after
 * RaBitQ (Gao and Long, 2024); from there comes the name of a factor. We learn the directions where
 * they take them at random: at equal size the wrong candidates are half as many on sentence
 * vectors.
 *
 * Every function but the two that make a space may be called from any thread. Same bits on every
 * level of the processor from the same space; a space is trained with the level's own product, so
 * its last bits are the machine's, like those of embeddings. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "compute/backend.h"

enum { SKETCH_PART = 512 };

struct sketch;          /* a space */
struct sketch_query;    /* a prepared query, in memory of the caller */

struct sketch_training {
    const float *const *rows;       /* [count], each [dim]: a sample of some thousands */
    size_t count, dim;
    enum score score;
    size_t row_bytes;               /* of a sketch without its factor; 0: dim / 8 + 2 */
    size_t block_rows;              /* 32 or 64 */
};

/* The backend must outlive the space. */
enum akin_status sketch_train(struct backend *backend, const struct sketch_training *training,
                              struct sketch **space, struct akin_error *error);
/* A space as it was stored: `blob` is borrowed and outlives it, aligned to 64. AKIN_FORMAT. */
enum akin_status sketch_open(struct backend *backend, const void *blob, size_t bytes,
                             struct sketch **space, struct akin_error *error);
const void *sketch_blob(const struct sketch *space, size_t *bytes);
void sketch_destroy(struct sketch **space);

size_t sketch_dim(const struct sketch *space);
/* A block is this many bytes, a multiple of 64, whatever the number of its rows that are used. */
size_t sketch_block_rows(const struct sketch *space);
size_t sketch_block_bytes(const struct sketch *space);

/* Encodes `count` <= block_rows rows; the rest of the block is zeros, whose estimates mean nothing.
 * `scratch` [sketch_scratch_bytes], aligned to 64. */
size_t sketch_scratch_bytes(const struct sketch *space);
void sketch_encode(const struct sketch *space, const float *const *rows, size_t count, void *block,
                   void *scratch);

/* `query` becomes memory[sketch_query_bytes], aligned to 64. Finite numbers. */
size_t sketch_query_bytes(const struct sketch *space);
struct sketch_query *sketch_prepare(const struct sketch *space, const float *query, void *memory);

/* Estimates of the scores of `blocks` blocks one behind the other, aligned to 64, to scores [blocks
 * * block_rows]: on the scale of cpu_score. */
void sketch_estimate(const struct sketch *space, const struct sketch_query *query,
                     const void *codes, size_t blocks, float *scores);
