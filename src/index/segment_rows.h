/* Reading a segment's originals, in whatever type they are stored. */
#pragma once

#include "index/segment.h"

/* Row `row` of `rows` as float32, less `origin` (NULL: nothing), to out [dim]. */
void segment_row(const struct backend *backend, const struct segment_rows *rows, size_t row,
                 const float *origin, float *out);

/* The bytes of a row as they are stored: where they lie in memory, or for rows that lie in a file
 * as well read to room [dim * bytes of the element], so that a look at few of them maps none. */
const void *segment_row_bytes(const struct segment_rows *rows, size_t row, void *room);
/* What a walk through listed rows will need, where it waits in memory. */
void segment_row_prefetch(const struct segment_rows *rows, size_t row);

/* The k best of all rows by the originals' scores, in any element
 * type; `rows` and `row_count` of the request are filled here. */
enum akin_status segment_topk(struct backend *backend, const struct segment_rows *rows,
                              const struct topk_request *request, const struct segment_hits *hits,
                              struct akin_error *error);

/* `count` of the numbers below `total`, ascending, each choice as likely as any other. */
void sample_rows(uint64_t seed, size_t total, size_t count, uint32_t *rows);
