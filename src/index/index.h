/* Vector indexes: what akin/index.h promises, over a backend instead of an engine. */
#pragma once

#include "akin/index.h"
#include "base/status.h"

struct backend;
struct index;

enum { INDEX_DIMENSION_MAX = 4096 };

/* "inner-product" (also "ip", "dot"), "cosine" (also "cos"), "l2" (also "euclidean"). */
const char *index_metric_name(enum akin_metric metric);
bool index_metric_parse(const char *name, enum akin_metric *metric);

void index_settings_default(struct akin_index_settings *settings);

/* Writes `vectors` [count][dimension] to `path`, whole or not at all. `ids` [count] are 0 or
 * larger; NULL: row numbers. Rows are stored in ascending order of id, so that a tie in score is
 * broken by id wherever it is broken by row. With the cosine metric each row is brought to length
 * 1; a row of zeros stays and scores 0. Errors name the row: AKIN_ARGUMENT (not finite; an id
 * negative or there twice), AKIN_LIMIT, AKIN_UNSUPPORTED (another kind), AKIN_CANCELLED. */
enum akin_status index_build(const char *path, const float *vectors, const int64_t *ids,
                             size_t count, size_t dimension,
                             const struct akin_index_settings *settings, struct akin_error *error);

/* Maps an index; `backend` must outlive it. What is checked: the header with its checksum, and
 * that the blocks are what the header says. Damage inside a block is for index_check. */
enum akin_status index_open(struct backend *backend, const char *path, struct index **index,
                            struct akin_error *error);
void index_close(struct index **index);
void index_info(const struct index *index, struct akin_index_info *info);

/* The k best of each query [query_count][dimension], best first, ties by id. Writes ids and scores
 * [query_count][k]; -1 and -infinity where fewer than k rows pass. `allowed` (may be NULL) has a
 * bit for each row of the file. A query that is not finite is AKIN_ARGUMENT. Any thread. */
enum akin_status index_search(const struct index *index, const float *queries, size_t query_count,
                              size_t k, const uint64_t *allowed, int64_t *ids, float *scores,
                              struct akin_error *error);

/* Reads all of the file; AKIN_FORMAT names the damaged block. */
enum akin_status index_check(const char *path, struct akin_error *error);
