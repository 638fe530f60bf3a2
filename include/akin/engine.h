/* SPDX-License-Identifier: Apache-2.0
 * The engine: kernels chosen for this CPU, one thread pool, a log sink. Everything else hangs on
 * one. Several engines may live in one process and share nothing. */
#ifndef AKIN_ENGINE_H
#define AKIN_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "akin/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum akin_log_level { AKIN_LOG_DEBUG, AKIN_LOG_INFO, AKIN_LOG_WARNING, AKIN_LOG_ERROR };

/* Where log lines go. `line` is one line, `key=value` style, without a newline and valid only
 * during the call, which may come from any thread. `write` NULL: nothing is logged. */
struct akin_log {
    void *cookie;
    void (*write)(void *cookie, enum akin_log_level level, const char *line);
};

/* How long work reports and how it is stopped. `update` is called on the calling thread, often;
 * `total` is 0 where it is not known. Other threads may be at work meanwhile, so `update` must not
 * call the engine that it hears from. Returning false asks the work to stop: it then leaves
 * nothing half written and returns AKIN_CANCELLED. `update` NULL: silent, not stoppable. */
struct akin_progress {
    void *cookie;
    bool (*update)(void *cookie, const char *stage, uint64_t done, uint64_t total);
};

struct akin_engine;

struct akin_engine_settings {
    int threads;        /* 0: one per CPU that this process may use */
    const char *pin;    /* where the threads of an engine that takes all cores are bound: "auto"
                           (NULL) each to a NUMA node, "cores" to a core, "off". Never the caller's
                           own, and none where the threads are fewer than the cores */
    const char *numa;   /* "auto" (NULL): weights are kept on every NUMA node; "off": nodes are not
                           looked at; a node's number: the calling thread and all threads of the
                           engine are bound to that node, with the memory that they touch first, as
                           numactl does, and the calling thread stays so. With one node: nothing */
    const char *device; /* where models encode: "cpu"; "cuda", "cuda:N", "cuda:all", which fail
                           where there is no such GPU; "auto" (NULL): a GPU where there is one that
                           the model fits, else the CPU. Asked for when a model is first opened */
    const char *cpu; /* highest kernel level allowed: "ref", "avx2", "avx512", "amx"; NULL: best */
    struct akin_log log;
    const char *home;   /* where to keep what is measured, when a model's folder cannot be written;
                           NULL: nowhere */
    const char *place;  /* parts that have a GPU of their own, or none, such as
                           "encoder=0,users=1,cache=cpu" of encoder, search, cache, users, bandits
                           and graph; NULL or "": all are on the GPU of `device`, the first one with
                           "cuda:all". With device "cpu": nothing. A GPU that is not there is an
                           error, with "auto" a warning */
    const char *cuda_library;   /* where libakin-cuda.so is; NULL: it is looked for beside the
                                   program, in ../lib from there, and where the system looks */
};

AKIN_API void akin_engine_settings_default(struct akin_engine_settings *settings);

/* Opens an engine; *engine is untouched on failure. Errors: AKIN_ARGUMENT (a bad setting, named),
 * AKIN_UNSUPPORTED (device or CPU level absent here), AKIN_MEMORY. Any thread. */
AKIN_API enum akin_status akin_engine_open(const struct akin_engine_settings *settings,
                                           struct akin_engine **engine, struct akin_error *error);

/* Closes it after everything opened on it has been closed; sets *engine to NULL, accepts NULL. */
AKIN_API void akin_engine_close(struct akin_engine **engine);

AKIN_API int akin_engine_threads(const struct akin_engine *engine);
/* "cpu", "cuda:0", "cuda:all"; "cuda" where one was asked for that is not there. */
AKIN_API const char *akin_engine_device(const struct akin_engine *engine);
/* The i-th part that may have a GPU of its own, such as "search", and where it computes in *device,
 * as above; NULL past the last one. */
AKIN_API const char *akin_engine_part(const struct akin_engine *engine, size_t i,
                                      const char **device);

/* What CUDA found on this machine, whatever device the engine was asked for. Versions are "" where
 * they are not known or the library is not there. */
enum { AKIN_GPUS_MAX = 16, AKIN_GPU_LACKS_MAX = 8 };

struct akin_gpu {
    char name[128];
    char bus[32];           /* its PCI address, "0000:07:00.0" */
    int node;               /* the number of the NUMA node near it; -1: any */
    int processors;
    int capability;         /* 90: 9.0; 0: the card could not be asked */
    uint64_t memory_bytes, memory_free_bytes;
    char why_not[256];      /* it cannot be used: why; otherwise "" */
};

struct akin_gpu_support {
    char library[512];      /* libakin-cuda.so that was loaded; "": none */
    char driver[80];        /* NVIDIA's, by NVML */
    char driver_cuda[16], runtime[16], cublaslt[16], nccl[16];
    bool nvml;
    size_t count;           /* GPUs, those that cannot be used included */
    struct akin_gpu gpus[AKIN_GPUS_MAX];
    size_t lacks_count;     /* what is missing, and what to do about it */
    struct {
        char what[384], fix[256];
    } lacks[AKIN_GPU_LACKS_MAX];
};

/* What this process holds on a GPU, in bytes by use; the driver's own part is not in it. */
struct akin_gpu_memory {
    uint64_t encoder;       /* weights and streams of models */
    uint64_t search;        /* rows that requests search, lists of neighbours, events */
    uint64_t index, users, personal, bandits, graph, training, other, total;
};

/* false: the engine computes on no GPU, or there is none of that number. Loads nothing. */
AKIN_API bool akin_engine_gpu_memory(const struct akin_engine *engine, int gpu,
                                     struct akin_gpu_memory *memory);

/* Loads the driver and asks every GPU, which takes part of a second and some memory of each. */
AKIN_API void akin_engine_gpus(const struct akin_engine *engine, struct akin_gpu_support *support);
AKIN_API const char *akin_engine_kernels(const struct akin_engine *engine); /* such as "avx512" */

enum akin_precision {
    AKIN_PRECISION_AUTO, AKIN_PRECISION_FP32, AKIN_PRECISION_BF16, AKIN_PRECISION_FP16,
    AKIN_PRECISION_INT8
};

/* Billions of operations per second (a multiplication and an addition are two) that all threads of
 * this engine reach together at `precision` in loops that touch no memory, with the instruction
 * sets that it may use: the limit that speeds are a share of. Measured by the call, which takes
 * about 0.1 s; on a busy machine it is lower. 0 where unknown: AUTO, and a precision that this CPU
 * has no instructions for. Any thread; concurrent calls on one engine take turns. */
AKIN_API double akin_engine_peak_gflops(const struct akin_engine *engine,
                                        enum akin_precision precision);

/* Where the threads of an engine run. */
struct akin_placement {
    int threads;
    int cpus, cores, nodes; /* hardware threads, cores and NUMA nodes that they may use; 0, 0 and 1
                               where the system does not tell */
    int quota;              /* CPUs' worth of time that a control group allows; 0: no limit */
    int pinned;             /* threads that are bound; the caller's is never among them */
    char pinned_to[8];      /* "cores" or "nodes"; "" where none is */
    char why_not[64];       /* none is: why; otherwise "" */
    int node;               /* all is bound to this NUMA node; -1: to none */
    bool node_memory;       /* and so is memory; otherwise it is by first touch */
};

AKIN_API void akin_engine_placement(const struct akin_engine *engine,
                                    struct akin_placement *placement);

/* What this machine is, for reports. Strings are empty where unknown. */
struct akin_machine {
    char hostname[128];
    char cpu[128];
    char cpu_features[256];  /* those that akin has kernels for, separated by blanks */
    int cpus;                /* usable by this process */
    int numa_nodes;
    uint64_t memory_bytes;
    uint64_t memory_available_bytes;
};

AKIN_API void akin_machine_describe(struct akin_machine *machine);

/* Largest resident size of this process so far, in bytes; 0 where unknown. */
AKIN_API uint64_t akin_peak_rss_bytes(void);
/* Resident size of this process now, in bytes; 0 where unknown. */
AKIN_API uint64_t akin_rss_bytes(void);

/* Nanoseconds of a monotonic clock. Any thread. */
AKIN_API uint64_t akin_clock_ns(void);

#ifdef __cplusplus
}
#endif
#endif
