/* Kind "graph": rows as bytes in a graph of near neighbours, walked from a few hundred entries.
 *
 * A node is one block: the row itself (rotated, a byte per dimension with a scale of its own), the
 * numbers of its up to 32 neighbours, and one bit per dimension of the difference to each of them.
 * So one block read scores all neighbours (as in SymphonyQG, Gou et al., 2025), the node's own
 * distance is known in eight bits when it is visited, and the best of those visited are scored from
 * the originals. The walk's width follows from the recall asked for by tables measured when the
 * graph is built. See docs/decisions on what was measured and rejected.
 *
 * Inner product over rows of unequal length is searched as a distance: rows get one more dimension
 * that makes their lengths equal (Bachrach et al., 2014). Filters that few rows pass, `exact`, and
 * k or widths near the number of rows are answered by a scan of the bytes with proven bounds: those
 * answers are exact. */
#pragma once

#include "index/segment.h"

struct graph;

/* Degree 0 (32) or 8 to 32, beam 0 or 8 to 4096, dimension at most 4096, rows below 2^31.
 * AKIN_CANCELLED when progress says so; AKIN_LIMIT beyond these; nothing is kept then but what the
 * sink was given. */
enum akin_status graph_build(const struct segment_build *build, const struct segment_sink *sink,
                             struct akin_error *error);
/* Bytes of memory that a build takes, beside the rows; 0 when they do not fit in a size_t. */
size_t graph_build_bytes(size_t count, size_t dim, int threads);

/* The rows, blocks and pool must outlive it. The pool shares out batches; NULL: none. AKIN_FORMAT
 * when header and sizes contradict each other or the rows; the rest is graph_check's. */
enum akin_status graph_open(struct backend *backend, struct thread_pool *pool,
                            const struct segment_rows *rows, const struct segment_blocks *blocks,
                            struct graph **graph, struct akin_error *error);
void graph_close(struct graph **graph);

/* Any number of threads at once. */
enum akin_status graph_search(const struct graph *graph, const struct segment_query *query,
                              const struct segment_hits *hits, struct akin_error *error);

/* Every number of every block: neighbours in range, none twice, finite factors, each row within its
 * stated error of its original, every node within reach of the entries. */
enum akin_status graph_check(const struct graph *graph, struct akin_error *error);
