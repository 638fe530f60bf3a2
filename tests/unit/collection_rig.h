/* What the tests of collections share: a folder, a host, and an oracle that holds all rows in plain
 * arrays and searches them one by one. Include after cmocka.h. */
#pragma once

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "compute/backend.h"
#include "index/collection_parts.h"

struct rig {
    char folder[64], path[128];
    struct collection_host host;
    struct akin_error error;
};

static inline void rig_ok(const struct rig *rig, enum akin_status status)
{
    if (status != AKIN_OK)
        fail_msg("status %d, \"%s\"", status, rig->error.message);
}

static inline void rig_begin(struct rig *rig, int threads)
{
    *rig = (struct rig){ .folder = "/tmp/akin_collection_XXXXXX" };
    assert_non_null(mkdtemp(rig->folder));
    snprintf(rig->path, sizeof rig->path, "%s/x.akx", rig->folder);
    rig->host.cpu_flags = cpu_detect();
    rig->host.pool = thread_pool_create(threads);
    assert_non_null(rig->host.pool);
    rig_ok(rig, cpu_backend_create(rig->host.cpu_flags, rig->host.pool, &rig->host.backend,
                                   &rig->error));
}

static inline void rig_end(struct rig *rig)
{
    cpu_backend_destroy(&rig->host.backend);
    thread_pool_destroy(&rig->host.pool);
    assert_int_equal(path_remove_tree(rig->folder, NULL), AKIN_OK);
}

static inline struct collection *rig_open(struct rig *rig, enum akin_index_mode mode)
{
    struct collection *c = NULL;
    rig_ok(rig, collection_open(&rig->host, rig->path, mode, &c, &rig->error));
    return c;
}

/* Seals early, so that a test sees much of it. */
static inline void rig_seal_rows(struct collection *c, size_t rows)
{
    mutex_lock(c->writing);
    c->seal_rows = rows;
    mutex_unlock(c->writing);
}

/* ---- the oracle -------------------------------------------------------------------------- */

enum { ORACLE_DIM_MAX = 16, ORACLE_ROWS_MAX = 700 };

struct oracle {
    size_t dim;
    enum akin_metric metric;
    bool alive[ORACLE_ROWS_MAX];        /* by id */
    float rows[ORACLE_ROWS_MAX][ORACLE_DIM_MAX];
    int stamp[ORACLE_ROWS_MAX];         /* in the metadata; -1: none */
};

struct oracle_hit {
    float score;
    int64_t id;
};

static inline int oracle_order(const void *a, const void *b)
{
    const struct oracle_hit *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static inline void oracle_unit(const struct oracle *o, const float *in, float *out)
{
    memcpy(out, in, o->dim * sizeof *out);
    if (o->metric == AKIN_METRIC_COSINE)
        unit_row(in, o->dim, out);
}

/* Of rows with a stamp of stamp_min or more, in an order of its own; each score is the product's
 * own of one pair. */
static inline size_t oracle_search(const struct oracle *o, const struct backend *backend,
                                   const float *query, int stamp_min, struct oracle_hit *hits)
{
    float q[ORACLE_DIM_MAX], x[ORACLE_DIM_MAX];
    size_t count = 0;
    oracle_unit(o, query, q);
    for (int64_t id = 0; id < ORACLE_ROWS_MAX; id++) {
        if (!o->alive[id] || o->stamp[id] < stamp_min)
            continue;
        oracle_unit(o, o->rows[id], x);
        hits[count].id = id;
        hits[count++].score =
            cpu_score(backend, q, x, o->dim,
                      o->metric == AKIN_METRIC_L2 ? SCORE_L2 : SCORE_INNER_PRODUCT);
    }
    qsort(hits, count, sizeof *hits, oracle_order);
    return count;
}

/* Small whole numbers, so that scores tie often. */
static inline void random_row(struct rng *rng, size_t dim, float *row)
{
    for (size_t i = 0; i < dim; i++)
        row[i] = (float)rng_below(rng, 5) - 2;
}
