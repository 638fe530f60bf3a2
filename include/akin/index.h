/* SPDX-License-Identifier: Apache-2.0
 * Vector index files (.akx): build, open, search, check. Version 1 holds kind "flat": float32
 * rows, searched exactly, memory-mapped. */
#ifndef AKIN_INDEX_H
#define AKIN_INDEX_H

#include "akin/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

struct akin_index;

enum akin_metric { AKIN_METRIC_INNER_PRODUCT, AKIN_METRIC_COSINE, AKIN_METRIC_L2 };

AKIN_API const char *akin_metric_name(enum akin_metric metric);
AKIN_API bool akin_metric_parse(const char *name, enum akin_metric *metric);

struct akin_index_settings {
    const char *kind;               /* "flat" or "auto" */
    enum akin_metric metric;
    struct akin_progress progress;
};

AKIN_API void akin_index_settings_default(struct akin_index_settings *settings);

/* Writes an index over `vectors` [count][dimension] to `path`, whole or not at all. `ids` [count]
 * are the callers' ids; NULL: row numbers. Errors: AKIN_ARGUMENT (a vector that is not finite,
 * named by row; a repeated id), AKIN_IO, AKIN_LIMIT. */
AKIN_API enum akin_status akin_index_build(struct akin_engine *engine, const char *path,
                                           const float *vectors, const int64_t *ids, size_t count,
                                           size_t dimension,
                                           const struct akin_index_settings *settings,
                                           struct akin_error *error);

/* Opens an index read-only. A file that lies about itself is AKIN_FORMAT, never a crash. */
AKIN_API enum akin_status akin_index_open(struct akin_engine *engine, const char *path,
                                          struct akin_index **index, struct akin_error *error);
AKIN_API void akin_index_close(struct akin_index **index);

struct akin_index_info {
    char kind[16];
    enum akin_metric metric;
    uint32_t version;
    size_t count, dimension;
    uint64_t file_bytes;
};

AKIN_API void akin_index_info(const struct akin_index *index, struct akin_index_info *info);

/* The k nearest of each of `query_count` queries [query_count][dimension], best first, ties by
 * id. Writes ids [query_count][k] and scores [query_count][k]; where fewer than k exist, id -1 and
 * score -infinity. Scores: inner product, cosine, or minus the squared L2 distance.
 * Any thread; concurrent calls on one engine take turns. */
AKIN_API enum akin_status akin_index_search(const struct akin_index *index, const float *queries,
                                            size_t query_count, size_t k, int64_t *ids,
                                            float *scores, struct akin_error *error);

/* Reads the whole file and verifies every checksum; the error names the damaged block. */
AKIN_API enum akin_status akin_index_check(const char *path, struct akin_error *error);

#ifdef __cplusplus
}
#endif
#endif
