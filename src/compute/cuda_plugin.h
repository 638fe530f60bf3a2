/* The CUDA back end lives in a library of its own, libakin-cuda.so, which is loaded when it is
 * first asked for, so that one program works with and without a card. It is looked for beside the
 * program or library that asks, in ../lib from there, and where the system looks; or it is where
 * the setting cuda_library says. */
#pragma once

#include "compute/bandit_device.h"
#include "compute/cuda_use.h"
#include "compute/encoder_device.h"
#include "compute/graph_device.h"
#include "compute/ivf_device.h"
#include "compute/personal_device.h"
#include "compute/search_device.h"
#include "compute/train_ops.h"
#include "compute/user_device.h"

/* What a card is, and what it is used through. Versions as CUDA numbers them: 13000 is 13.0. */
struct cuda_description {
    char name[128];
    size_t memory_total, memory_free;       /* bytes */
    int processors;                         /* streaming multiprocessors */
    int capability;                         /* 90: 9.0 */
    int driver, runtime;                    /* the driver's and the runtime's CUDA */
    size_t blas;                            /* cuBLASLt: 130002 is 13.0.2 */
    char bus[32];                           /* its PCI address: "0000:07:00.0" */
};

/* What the library gives. `version` is of this struct: another is refused. */
enum { CUDA_PLUGIN_VERSION = 5 };

enum { CUDA_SUM_ID_BYTES = 128 };
struct cuda_sum;

struct cuda_plugin {
    uint32_t version;
    /* Cards that can be used. A process that has asked must not fork and go on to use them. */
    int (*device_count)(void);
    enum akin_status (*device_describe)(int ordinal, struct cuda_description *description,
                                        struct akin_error *error);
    /* Bytes of a card's memory that this process holds for one use. Any thread. */
    size_t (*memory)(int ordinal, enum cuda_use use);
    const struct encoder_device_ops *encoder;
    const struct search_device_ops *search;
    const struct bandit_device_ops *bandit;
    const struct user_device_ops *users;
    const struct personal_device_ops *personal;
    const struct ivf_device_ops *ivf;
    const struct graph_device_ops *graph;

    enum akin_status (*train_create)(int ordinal, enum train_precision precision,
                                     struct train_device **device, struct akin_error *error);
    /* The most bytes of the card that a training device has held at once. */
    size_t (*train_peak_bytes)(const struct train_device *device);

    /* Sums over the cards of several processes; NULL, all of them, in a build without NCCL. An id
     * is made by one process and known to all before any creates. AKIN_NOT_FOUND: NCCL is not
     * installed. Errors of start and wait are the device's: its finish tells them. */
    enum akin_status (*sum_id)(unsigned char id[CUDA_SUM_ID_BYTES], struct akin_error *error);
    enum akin_status (*sum_create)(struct train_device *device,
                                   const unsigned char id[CUDA_SUM_ID_BYTES], size_t rank,
                                   size_t world, struct cuda_sum **sum, struct akin_error *error);
    /* values [count] of the device become their sums, once what was asked of the device is done;
     * beside what is asked after. */
    void (*sum_start)(struct cuda_sum *sum, float *values, size_t count);
    /* What is asked of the device from here on sees the sums. */
    void (*sum_wait)(struct cuda_sum *sum);
    void (*sum_destroy)(struct cuda_sum **sum);
};

/* The one symbol of the library: akin_cuda_plugin. */
typedef const struct cuda_plugin *cuda_plugin_entry(void);

/* Loaded once for the process, and kept. `path`: where it is; NULL or "": it is looked for.
 * AKIN_NOT_FOUND: it is not there, or a library that it needs is not; AKIN_UNSUPPORTED: it is of
 * another version. Any thread. */
enum akin_status cuda_plugin_load(const char *path, const struct cuda_plugin **plugin,
                                  struct akin_error *error);
/* Where it was loaded from. */
void cuda_plugin_where(const struct cuda_plugin *plugin, char *path, size_t bytes);
/* Of the library that sums over several cards: 22703 is 2.27.3; 0: it is not installed. */
int cuda_nccl_version(void);
