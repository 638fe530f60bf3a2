/* The CUDA back end lives in a library of its own, libakin-cuda.so, which is loaded when it is
 * first asked for, so that one program works with and without a card. It is looked for beside the
 * program or library that asks, in ../lib from there, and where the system looks. */
#pragma once

#include "compute/train_ops.h"

/* What the library gives. `version` is of this struct: another is refused. */
enum { CUDA_PLUGIN_VERSION = 1 };

struct cuda_plugin {
    uint32_t version;
    /* Cards that can be used. */
    int (*device_count)(void);
    enum akin_status (*train_create)(int ordinal, enum train_precision precision,
                                     struct train_device **device, struct akin_error *error);
};

/* The one symbol of the library: akin_cuda_plugin. */
typedef const struct cuda_plugin *cuda_plugin_entry(void);

/* Loaded once for the process, and kept. AKIN_NOT_FOUND: it is not there, or a library that it
 * needs is not; AKIN_UNSUPPORTED: it is of another version. Any thread. */
enum akin_status cuda_plugin_load(const struct cuda_plugin **plugin, struct akin_error *error);
