/* Kind "ivfpq": rows in cells around k-means centroids, what they differ by from their centroid in
 * product codes of four bits or eight, candidates scored again from rows in eight bits and the best
 * of those from the originals (Jégou, Douze, Schmid, "Product Quantization for Nearest Neighbor
 * Search", 2011; André et al., "Quicker ADC", 2019, for codes that are looked up in registers).
 *
 * Where we depart: cells are not probed in the order of their centroids' scores alone, but a wide
 * or well-filled cell earlier (its best row stands out further); and how many cells are probed and
 * candidates scored follows from the recall asked for, by a table that the build measures with
 * queries that lie off the rows: rows from which most of what they share with their cell is taken
 * away. What people type lies off the data in that way, and needs three times the cells that rows
 * themselves do.
 *
 * A segment holds no float32 row; the originals are read for the last few candidates only. */
#pragma once

#include "compute/ivf_device.h"
#include "index/segment.h"

struct ivfpq;

/* Writes the blocks of `build`'s rows to `sink`. At most 4,292,870,142 rows, 65,536
 * cells, 4,096 dimensions. */
enum akin_status ivfpq_build(const struct segment_build *build, const struct segment_sink *sink,
                             struct akin_error *error);

/* Checks sizes and offsets; what `rows` and `blocks` point to outlives the segment. Contents that
 * are damaged otherwise give wrong hits, never a crash. */
enum akin_status ivfpq_open(struct backend *backend, struct thread_pool *pool,
                            const struct segment_rows *rows, const struct segment_blocks *blocks,
                            struct ivfpq **ivfpq, struct akin_error *error);
void ivfpq_close(struct ivfpq **ivfpq);

/* Any thread. One query runs on the calling thread, several on the pool. Allocates only when it
 * meets more threads, or a larger k or recall, than before. */
enum akin_status ivfpq_search(struct ivfpq *ivfpq, const struct segment_query *query,
                              const struct segment_hits *hits, struct akin_error *error);

/* All of it: each row stands in one cell once, numbers are finite, eight-bit rows and codes are
 * those that the build makes of the originals. */
enum akin_status ivfpq_check(const struct ivfpq *ivfpq, struct akin_error *error);

/* For a device. The lists, which are good as long as the segment. */
struct ivf_lists ivfpq_lists(const struct ivfpq *ivfpq);
/* What to ask a device for ivfpq_search's hits; false: ivfpq_search has another way (exact, few
 * rows that pass), or the device has no room for it. */
bool ivfpq_device_query(struct ivfpq *ivfpq, const struct segment_query *query,
                        struct ivf_query *asked);

/* What a search with this recall and k does, for people to see. */
struct ivfpq_plan {
    float recall;
    uint32_t probes, candidates;    /* cells, rows scored again */
};
struct ivfpq_plan ivfpq_plan(const struct ivfpq *ivfpq, float recall, size_t k, size_t allowed);
