/* SPDX-License-Identifier: Apache-2.0
 * Vector indexes: one .akx file, built whole or grown row by row, searched exactly or to a recall
 * target, updated while it is searched, safe against crashes. */
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

/* What is kept of the numbers of a row. A row is rounded to it when it comes in, with the cosine
 * metric after it was brought to length 1, and from then on the rounded row is the row: `exact`
 * answers are the true ones among rounded rows, and scores are theirs.
 *   FP32  the numbers as they are; 4 bytes each, and 1 for the codes of a flat index
 *   FP16  IEEE half precision: 11 bits; 2 bytes each. A number of 65520 or more is refused
 *   INT8  a scale for each row and a byte for each number; kind flat only, which then keeps
 *         nothing but its codes. A number is off by 1/254 of the row's largest at most */
enum akin_storage { AKIN_STORAGE_FP32, AKIN_STORAGE_FP16, AKIN_STORAGE_INT8 };

AKIN_API const char *akin_storage_name(enum akin_storage storage);  /* "fp32", "fp16", "int8" */
AKIN_API bool akin_storage_parse(const char *name, enum akin_storage *storage);

/* What holds for the whole life of an index. */
struct akin_index_settings {
    const char *kind;               /* "auto", "flat", "ivfpq" or "graph" */
    enum akin_metric metric;
    enum akin_storage storage;
    size_t nlist, pq_bytes;         /* ivfpq; 0: chosen by size */
    size_t pq_bits;                 /* ivfpq: of a code, 4 or 8; 0: 4 */
    size_t degree, beam;            /* graph; 0: chosen */
    float recall;                   /* what kind "auto" plans for, above 0 to 1 */
    uint64_t seed;                  /* of all that is trained */
    struct akin_progress progress;
};

AKIN_API void akin_index_settings_default(struct akin_index_settings *settings);

/* Rows to add. */
struct akin_index_rows {
    const float *vectors;           /* [count][dimension], finite */
    const int64_t *ids;             /* [count], 0 or larger; NULL: the next free numbers */
    /* [count] or NULL. A string for each row, not empty, that the row can be named by; `ids` is
     * then NULL. */
    const char *const *keys;
    /* [count] or NULL. A JSON object for each row (or NULL), kept with it. */
    const char *const *metadata;
    size_t count;
};

/* Writes an index over `rows` to `path`, whole or not at all, in one segment of the kind asked for;
 * rows without ids or keys are numbered from 0. Errors: AKIN_ARGUMENT (a vector that is not finite,
 * named by row; a repeated id or key), AKIN_BUSY (the old file is being written), AKIN_IO,
 * AKIN_LIMIT. */
AKIN_API enum akin_status akin_index_build(struct akin_engine *engine, const char *path,
                                           const struct akin_index_rows *rows, size_t dimension,
                                           const struct akin_index_settings *settings,
                                           struct akin_error *error);
/* The same without rows. */
AKIN_API enum akin_status akin_index_create(struct akin_engine *engine, const char *path,
                                            size_t dimension,
                                            const struct akin_index_settings *settings,
                                            struct akin_error *error);

enum akin_index_mode { AKIN_INDEX_READ, AKIN_INDEX_WRITE };

/* Opens an index. One writer over all processes: a second one is AKIN_BUSY. Readers see what was
 * durable when they opened, or at akin_index_refresh. A file that lies about itself is AKIN_FORMAT,
 * never a crash. */
AKIN_API enum akin_status akin_index_open(struct akin_engine *engine, const char *path,
                                          enum akin_index_mode mode, struct akin_index **index,
                                          struct akin_error *error);
/* Waits for background work and makes durable what was added; akin_index_sync says whether that
 * worked. No other call may be under way. */
AKIN_API void akin_index_close(struct akin_index **index);

/* For readers: takes over what another process has made durable since. */
AKIN_API enum akin_status akin_index_refresh(struct akin_index *index, struct akin_error *error);

struct akin_index_info {
    char kind[16];                  /* that most rows are searched by, or will be once sealed */
    char asked[16];                 /* akin_index_settings.kind */
    char why[256];                  /* from the one to the other, in one sentence */
    enum akin_metric metric;
    enum akin_storage storage;
    uint32_t version;
    size_t count;                   /* rows that can be found */
    size_t dead;                    /* rows deleted or replaced that still take space */
    size_t segments, tail_rows;     /* sealed parts; live rows outside of them */
    size_t dimension;
    uint64_t file_bytes, dead_bytes;
    uint64_t memory_bytes;          /* held beside the map of the file */
    uint64_t card_bytes;            /* of a GPU, where one searches; 0: none does, or not yet */
};

AKIN_API void akin_index_info(const struct akin_index *index, struct akin_index_info *info);

/* ---- writing: an index open for it; any thread, calls take turns, searches go on ------------ */

/* Adds rows; searches see all of them, or none, at once, and a crash may lose them until
 * akin_index_sync. AKIN_ARGUMENT where an id or key is there already: then nothing is added. */
AKIN_API enum akin_status akin_index_add(struct akin_index *index,
                                         const struct akin_index_rows *rows,
                                         struct akin_error *error);
/* The same, replacing rows of the same id or key; a key keeps its id. */
AKIN_API enum akin_status akin_index_update(struct akin_index *index,
                                            const struct akin_index_rows *rows,
                                            struct akin_error *error);
/* What is not there is no error; *deleted (may be NULL) says how many were. */
AKIN_API enum akin_status akin_index_delete(struct akin_index *index, const int64_t *ids,
                                            size_t count, size_t *deleted,
                                            struct akin_error *error);
AKIN_API enum akin_status akin_index_delete_keys(struct akin_index *index, const char *const *keys,
                                                 size_t count, size_t *deleted,
                                                 struct akin_error *error);
/* What was added and deleted before survives a crash and a power loss when this returns AKIN_OK.
 * *rows (may be NULL): live rows then. */
AKIN_API enum akin_status akin_index_sync(struct akin_index *index, size_t *rows,
                                          struct akin_error *error);
/* One segment of the index's kind without dead rows, in a file without dead bytes, durable.
 * Searches go on meanwhile; adding too, but for the last step. */
AKIN_API enum akin_status akin_index_compact(struct akin_index *index,
                                             const struct akin_progress *progress,
                                             struct akin_error *error);

/* ---- searching: any thread, whatever is added meanwhile ------------------------------------- */

/* Where the engine has a GPU, the first search copies sealed segments there and they are searched
 * there from then on: ivfpq with the bits of the CPU, flat and graph exactly (a flat or graph index
 * with the metric l2 is searched on the CPU). Rows that are not sealed are searched on the CPU.
 * With the device "auto", what does not fit the GPU or fails on it is searched on the CPU, with a
 * warning; with "cuda" that is the search's error (AKIN_MEMORY, AKIN_UNSUPPORTED, AKIN_IO). */

struct akin_index_query {
    const float *vectors;           /* [count][dimension], finite */
    size_t count, k;
    const char *filter;             /* NULL: none; docs/filters.md */
    float recall;                   /* 0: the default, 0.95; not used where `exact` */
    bool exact;                     /* the true neighbours */
};

/* The k nearest of each query, best first, ties by id. Writes ids [count][k] and scores
 * [count][k], exact float32 scores of the rows found; where fewer than k exist, id -1 and score
 * -infinity. Scores: inner product, cosine, or minus the squared L2 distance. */
AKIN_API enum akin_status akin_index_search(const struct akin_index *index,
                                            const struct akin_index_query *query, int64_t *ids,
                                            float *scores, struct akin_error *error);

/* Seconds of such a search on the GPU by its own clock, copies to it and back included, for sealed
 * segments that a search has brought there; its filter is not looked at. NaN: some of it is not
 * done there, or nobody knows. */
AKIN_API enum akin_status akin_index_card_seconds(const struct akin_index *index,
                                                  const struct akin_index_query *query,
                                                  double *seconds, struct akin_error *error);

/* What is strange about a filter for the rows that there are, such as "no row has a field 'yeer';
 * did you mean 'year'?", into hint[bytes] (256 are enough); "": nothing. Such a filter is no
 * mistake, but few people mean it. AKIN_ARGUMENT, AKIN_LIMIT: it is no filter. */
AKIN_API enum akin_status akin_index_filter_hint(const struct akin_index *index,
                                                 const char *filter, char *hint, size_t bytes,
                                                 struct akin_error *error);

/* Live rows in ascending order of id, the first ones whose id is `from` or larger: writes at most
 * `count` of ids [count] and vectors [count][dimension] as they are kept (either may be NULL), and
 * to *found how many; 0: there are no more. All are of one moment. */
AKIN_API enum akin_status akin_index_read(const struct akin_index *index, int64_t from,
                                          size_t count, int64_t *ids, float *vectors,
                                          size_t *found, struct akin_error *error);

/* The key or the metadata of a row into text[bytes], with a NUL; "" where it has none.
 * AKIN_NOT_FOUND: no such id; AKIN_LIMIT: it does not fit. */
AKIN_API enum akin_status akin_index_key(const struct akin_index *index, int64_t id, char *text,
                                         size_t bytes, struct akin_error *error);
AKIN_API enum akin_status akin_index_metadata(const struct akin_index *index, int64_t id,
                                              char *text, size_t bytes, struct akin_error *error);

/* Reads the whole file: every checksum, and every segment against its own rules; the error names
 * what is damaged. */
AKIN_API enum akin_status akin_index_check(struct akin_engine *engine, const char *path,
                                           struct akin_error *error);

#ifdef __cplusplus
}
#endif
#endif
