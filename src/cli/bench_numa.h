/* How far memory is from CPUs, measured by a thread that is bound with its memory. */
#pragma once

#include "base/numa.h"

struct numa_figures {
    double latency_ns;          /* of a load whose address the load before it gave */
    double read_gb_s;           /* 10^9 bytes a second that `threads` threads read together */
    int threads;
    bool cpus_bound;            /* the system bound the readers to their node */
    int found_on;               /* node that the pages are on by the system's own account; -1: it
                                   does not tell, or they are on several */
};

struct numa_measure {
    size_t bytes;               /* read and chased through; far above what caches hold */
    int repeats;                /* the median of so many is told */
    int threads;                /* that read; 0: one per core of the reader's node */
};

/* From the CPUs of node `reader` to the memory of node `memory` (indexes). AKIN_MEMORY,
 * AKIN_ARGUMENT: the process may use no CPU of the reader. The calling thread stays as it is. */
enum akin_status numa_measure(const struct numa *numa, size_t reader, size_t memory,
                              const struct numa_measure *how, struct numa_figures *figures,
                              struct akin_error *error);
