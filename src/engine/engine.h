/* What an open engine holds; shared by the files of this module only. */
#pragma once

#include "akin/engine.h"

struct backend;
struct thread_pool;

struct akin_engine {
    struct akin_log log;
    struct thread_pool *pool;
    struct backend *backend;
    unsigned cpu_flags;     /* base/cpu.h: what kernels may use */
    char kernels[16];       /* the level chosen */
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
