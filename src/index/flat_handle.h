/* What the files of the flat kind share. */
#pragma once

#include <assert.h>

#include "base/memory.h"
#include "base/thread.h"
#include "compute/best.h"
#include "compute/screen.h"
#include "compute/sketch.h"
#include "index/flat.h"

enum flat_block {
    FLAT_HEADER = 16,       /* struct flat_header */
    FLAT_TERMS = 17,        /* float32: scales, radii, norms, with L2 biases; [count] each */
    FLAT_CODES = 18,        /* bytes [count][stride], SCREEN_TAIL more */
    FLAT_SPACE = 19,        /* of sketches; these two from FLAT_SKETCHED_ROWS on, or borrowed */
    FLAT_SKETCHES = 20,     /* blocks of FLAT_BLOCK_ROWS */
};

enum { FLAT_VERSION = 2, FLAT_BLOCK_ROWS = 64 };

/* How many of the best estimates hold so much of the k nearest, as measured. */
enum { FLAT_KS = 3, FLAT_RECALLS = 10 };
extern const uint32_t flat_ks[FLAT_KS];
extern const float flat_recalls[FLAT_RECALLS];

struct flat_header {
    uint32_t version, element;
    uint64_t count;
    uint32_t dim, score;
    double length_max;
    uint32_t candidates[FLAT_KS][FLAT_RECALLS];     /* 0 where there are no sketches */
    uint64_t measured;          /* rows that candidates were measured on; version 1: 0, all */
    double error;               /* of estimates of pairs of them, see flat_error */
    uint32_t reserved[14];
};
static_assert(sizeof(struct flat_header) == 224, "no padding");

struct flat {
    struct backend *backend;
    struct thread_pool *pool;
    const struct flat_header *header;
    struct screen_rows screen;
    struct originals originals;
    struct sketch *space;           /* NULL: no sketches */
    uint64_t space_hash;
    const unsigned char *sketches;
    struct mutex *lock;             /* guards idle */
    struct flat_scratch *idle;
};

/* ---- candidates ------------------------------------------------------------------------- */

/* A row with its value: as a number whose order is that of the values, ties by row. */
uint64_t flat_key(float value, uint32_t row);
float flat_key_value(uint64_t key);
uint32_t flat_key_row(uint64_t key);
/* Puts the `count` largest of keys [total] in front, in any order. */
void flat_largest(uint64_t *keys, size_t total, size_t count);

struct candidates {
    uint64_t *keys;
    size_t count, capacity;
    size_t limit;                   /* from here on it pays to raise the threshold */
};

/* A query on its way: `threshold` is what a row's interval has to reach. */
struct flat_task {
    const struct flat *flat;
    struct flat_scratch *scratch;
    struct screen_query query;
    const float *vector;            /* [dim] */
    size_t k;
    float threshold;
};

/* Queries that are multiplied with a row together. */
struct flat_group {
    struct flat_task tasks[SCREEN_GROUP_MAX];
    struct candidates candidates[SCREEN_GROUP_MAX];
    size_t of[SCREEN_GROUP_MAX];    /* the number of the query */
    float threshold[SCREEN_GROUP_MAX];
    struct screen_group group;
    int8_t *digits;                 /* [SCREEN_GROUP_MAX][stride] */
};

/* Groups of a thread, which pass over a block of rows before the next one. */
enum { FLAT_GROUPS = 16 };

/* What one search needs; kept for the next one. */
struct flat_scratch {
    struct flat_scratch *next;
    struct candidates one;          /* of a single query */
    struct flat_group *groups[FLAT_GROUPS];     /* NULL until they are needed */
    uint64_t *spare;                /* as large as the candidates whose threshold is raised */
    size_t spare_capacity;
    int8_t *digits;                 /* [stride] */
    float *widened;                 /* [SCREEN_TILE_MAX * dim] */
    unsigned char *prepared;        /* of a sketch_query */
    uint32_t list[SCREEN_STEP], found[SCREEN_STEP + 16];
    float values[SCREEN_STEP + 16];
    float estimates[8 * FLAT_BLOCK_ROWS];
};

struct flat_scratch *flat_scratch_take(const struct flat *flat);    /* NULL: no memory */
void flat_scratch_give(const struct flat *flat, struct flat_scratch *scratch);
void flat_scratch_free(struct flat_scratch *scratch);

void candidates_reset(struct candidates *c, size_t k);
bool candidates_add(struct candidates *c, float value, uint32_t row);
/* Rows that cannot have this score are out. */
void candidates_demand(struct flat_task *task, float score);
/* Raises the threshold to what k rows reach for certain, and drops the rows that do not. */
bool candidates_tighten(struct candidates *c, struct flat_task *task);
/* The k best, from the originals, to hits [k]; returns how many. false: no memory. */
bool candidates_finish(struct candidates *c, struct flat_task *task, struct hit *hits,
                       size_t *found);

/* ---- parts of a search ------------------------------------------------------------------ */

/* flat_batch.c: the queries [first, first + count) in groups of at most `group`, at most
 * FLAT_GROUPS of them. */
bool flat_search_groups(const struct flat *flat, struct flat_scratch *scratch,
                        const struct segment_query *query, size_t first, size_t count,
                        size_t group, const struct segment_hits *hits);
void flat_group_free(struct flat_group *group);
/* flat_search.c: one query. */
bool flat_search_one(const struct flat *flat, struct flat_scratch *scratch,
                     const struct segment_query *query, size_t at, const struct segment_hits *hits);
/* All rows scored: where the bounds do not hold. */
void flat_search_all(const struct flat *flat, struct flat_scratch *scratch,
                     const struct segment_query *query, size_t at, const struct segment_hits *hits);

static inline bool flat_allows(const uint64_t *allowed, size_t row)
{
    return !allowed || allowed[row / 64] >> row % 64 & 1;
}

/* flat_calibrate.c: fills header->candidates from `sketches` of all rows. */
enum akin_status flat_calibrate(const struct segment_build *build, const struct sketch *space,
                                const unsigned char *sketches, struct flat_header *header,
                                struct akin_error *error);
/* How far estimates are from scores, over pairs of the rows, in deviations of the scores. */
enum akin_status flat_error(const struct segment_build *build, const struct sketch *space,
                            const unsigned char *sketches, double *out, struct akin_error *error);
/* Candidates that this recall of k takes, where so many rows are allowed, at least one. */
size_t flat_candidates(const struct flat_header *header, size_t k, float recall, size_t allowed);
