/* Kind "flat": every row is looked at, by as few bytes as the answer allows.
 *
 * Exact: all rows as bytes, each with a proven interval for its score (compute/screen.h); those
 * whose interval reaches the k best are scored from the originals, so the answer is the true one,
 * ties included. Batches multiply groups of queries with each row at once. With a recall below 1, a
 * segment of SKETCHED_ROWS and more first estimates all scores from sketches (compute/sketch.h) and
 * takes the best estimates into the exact path; how many follows from the recall by a table that is
 * measured when the segment is built, on queries off the data. Filters that few rows pass are
 * answered by those rows alone, exactly.
 *
 * Where rows.element is ELEMENT_I8 the bytes are the originals: a build is given float32 rows, what
 * it keeps of them is screen_round, scores are those of these rows, flat_row returns them, and an
 * opened segment needs no vectors. Rows that were rounded before are kept as they are. */
#pragma once

#include "index/segment.h"

struct flat;

enum { FLAT_SKETCHED_ROWS = 8192, FLAT_DIMENSION_MAX = 4096 };

enum akin_status flat_build(const struct segment_build *build, const struct segment_sink *sink,
                            struct akin_error *error);
/* The rows, blocks and pool must outlive it. The pool shares out batches; NULL: none. AKIN_FORMAT
 * where header, sizes and rows contradict each other; the rest is flat_check's. */
enum akin_status flat_open(struct backend *backend, struct thread_pool *pool,
                           const struct segment_rows *rows, const struct segment_blocks *blocks,
                           struct flat **flat, struct akin_error *error);
void flat_close(struct flat **flat);

/* Any number of threads at once. After the first searches of a size nothing is allocated. */
enum akin_status flat_search(const struct flat *flat, const struct segment_query *query,
                             const struct segment_hits *hits, struct akin_error *error);

/* Of listed rows, from the bytes: the score of list[i] is within errors[i] of values[i], for
 * certain. Inner products only. false: nothing is certain (see screen_prepare), or no memory. */
bool flat_bound(const struct flat *flat, const float *query, const uint32_t *list, size_t count,
                float *values, float *errors);

/* Rows that its sketches' space was measured on; 0: it has none that another segment may use. */
size_t flat_measured(const struct flat *flat);

/* A row as it is scored, dim floats. */
void flat_row(const struct flat *flat, size_t row, float *out);

/* Every row against its bytes and bounds, and its sketch; AKIN_FORMAT names the row. */
enum akin_status flat_check(const struct flat *flat, struct akin_error *error);
