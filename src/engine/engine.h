/* What an open engine holds; shared by the files of this module only. */
#pragma once

#include "akin/engine.h"
#include "base/numa.h"
#include "base/topology.h"

struct backend;
struct thread_pool;

struct akin_engine {
    struct akin_log log;
    struct topology *topology;
    struct thread_pool *pool;
    enum topology_pin pin;  /* asked for */
    struct numa_choice numa;
    struct backend *backend;
    unsigned cpu_flags;     /* base/cpu.h: what kernels may use */
    char kernels[16];       /* the level chosen */
    char instruction_sets[128];
    char *home;             /* NULL: none */
};

struct akin_model {
    struct model *model;
};

struct akin_index {
    struct collection *collection;
};

struct akin_catalog {
    struct catalog *catalog;
};

struct akin_recommender {
    const struct akin_engine *engine;
    const struct catalog *catalog;
    struct recommender *recommender;
    struct users *users;
    struct taste *taste;        /* what `akin fit` learned; NULL: nothing, or not asked for yet */
    struct speaker *speaker;    /* of it */
    struct neighbors *neighbors;    /* the cache that answers, or NULL */
    struct model *model;        /* NULL: requests with a query are refused */
    size_t dimension;
};

/* engine_recommend.c: whether queries of this model may be compared with the catalogue's vectors.
 */
enum akin_status engine_check_model(const struct catalog *catalog, const struct model *model,
                                    const struct akin_log *log, struct akin_error *error);
