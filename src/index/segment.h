/* What an immutable set of rows offers to the index above it, whatever its kind. A segment is
 * built once from float32 rows, written as typed blocks, mapped, and searched by any number of
 * threads; it knows nothing of files, ids, deletions or other segments.
 *
 * Each kind (flat.h, ivfpq.h, graph.h) implements the four functions named KIND_build, KIND_open,
 * KIND_search and KIND_check over these structs; segment.c is the only switch over kinds.
 *
 * Bits: what a search returns depends on the segment's bytes and the query alone, never on the
 * batch, the threads or the instruction set beyond what compute/cpu/kernels.h grants. A build
 * depends on rows, settings and seed alone, never on the number of threads. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "akin/engine.h"
#include "base/status.h"
#include "compute/backend.h"

struct file_at;

/* The originals, where they lie. Rows stand in ascending order of id, so a tie by row is a tie by
 * id. With the cosine metric they have length 1 (or 0) and the score is SCORE_INNER_PRODUCT. */
struct segment_rows {
    const void *vectors;        /* [count][dim] of `element`, aligned to 64 */
    enum element_type element;
    size_t count, dim;
    enum score score;
    const struct file_at *file; /* where they lie as well, from `offset` on; NULL: nowhere */
    uint64_t offset;
};

/* A block as it lies in the file, aligned to 64; or what a build hands to the writer. Types: 1..15
 * what every segment has (vectors, ids, keys, columns), 16..31 flat, 32..47 ivfpq, 48..63 graph. */
struct segment_block {
    uint32_t type;              /* enum index_block_type; a kind owns its types */
    const void *data;
    uint64_t bytes;
};

struct segment_blocks {
    const struct segment_block *blocks;
    size_t count;
};

/* Where a build puts its blocks, in the order in which they stand in the file. Data may go away
 * when it returns. A large block is begun once and appended to. */
struct segment_sink {
    void *context;
    enum akin_status (*begin)(void *context, uint32_t type, struct akin_error *error);
    enum akin_status (*append)(void *context, const void *data, size_t bytes,
                               struct akin_error *error);
};

struct flat;
struct ivfpq;

struct segment_settings {
    uint64_t seed;
    size_t nlist, pq_bytes, pq_bits;    /* ivfpq; 0: chosen by size */
    size_t degree, beam; /* graph: neighbours of a node, width of the search that finds them */
    const struct flat *like; /* flat: whose space of sketches is used again; NULL: none */
    struct akin_progress progress;
};

struct segment_build {
    struct backend *backend;
    struct thread_pool *pool;
    struct segment_rows rows;
    struct segment_settings settings;
};

/* What the parts of an index that were searched before say to the next one, for one query. */
struct segment_hint {
    float reached;              /* k rows with this score or a better one are known */
    float estimate;             /* flat: the worst of the estimates that were worth a look, */
    uint64_t space;             /* in this space of sketches (its hash); 0: in none yet */
    void *memory;               /* flat: of `prepared`; the caller frees it */
    uint64_t prepared_space;
    const struct sketch_query *prepared;
};

/* Nothing is known. */
static inline struct segment_hint segment_hint_none(void)
{
    return (struct segment_hint){ .reached = -__builtin_inff() };
}

/* A batch of queries. `allowed` (NULL: all) has a bit for every row of the segment: those that pass
 * the filter and are not deleted; `allowed_count` of them. With `exact` the answer is the true one,
 * proven; otherwise at least `recall` (0..1) of it on average over queries like people's. */
struct segment_query {
    const float *queries;       /* [count][dim]; length 1 with the cosine metric; finite */
    size_t count, k;
    const uint64_t *allowed;
    size_t allowed_count;
    bool exact;
    float recall;
    struct segment_hint *hints; /* [count], or NULL: this is the only part */
};

/* Hits [count][k] best first, ties by row, with the float32 scores of the originals (cpu_score);
 * found [count]. What each KIND_search writes; rows below hint.reached may be missing. */
struct segment_hits {
    struct hit *hits;
    size_t *found;
};

/* ---- whatever the kind (segment.c) -------------------------------------------------------- */

/* Numbers as they stand in files. */
enum segment_kind {
    SEGMENT_PLAIN = 1,      /* no blocks of its own, rows scored one by one: version 1 */
    SEGMENT_FLAT = 2,
    SEGMENT_IVFPQ = 3,
    SEGMENT_GRAPH = 4,
};

struct segment;

/* NULL unless it is of the flat kind. */
const struct flat *segment_flat(const struct segment *segment);
const char *segment_kind_name(uint32_t kind);   /* NULL: there is no such kind */
/* Whether `kind` can hold rows of this shape; a build of another one is refused. */
bool segment_kind_takes(enum segment_kind kind, size_t rows, size_t dim);

enum akin_status segment_build(enum segment_kind kind, const struct segment_build *build,
                               const struct segment_sink *sink, struct akin_error *error);
/* AKIN_UNSUPPORTED: a kind that this program does not know. */
enum akin_status segment_open(uint32_t kind, struct backend *backend, struct thread_pool *pool,
                              const struct segment_rows *rows, const struct segment_blocks *blocks,
                              struct segment **segment, struct akin_error *error);
void segment_close(struct segment **segment);
uint32_t segment_kind(const struct segment *segment);
const struct segment_rows *segment_originals(const struct segment *segment);
struct thread_pool *segment_pool(const struct segment *segment);    /* NULL: none */
struct ivfpq *segment_ivfpq(const struct segment *segment);     /* NULL unless it is of that kind */
/* A row as it is scored, [dim]; and its score, that of cpu_score. Any thread. */
void segment_original(const struct segment *segment, size_t row, float *out);
float segment_score(const struct segment *segment, const float *query, size_t row);
/* A row, [dim], of a segment whose originals are its codes (ELEMENT_I8, kind flat). */
void segment_read(const struct segment *segment, size_t row, float *out);
enum akin_status segment_search(const struct segment *segment, const struct segment_query *query,
                                const struct segment_hits *hits, struct akin_error *error);
enum akin_status segment_check(const struct segment *segment, struct akin_error *error);
