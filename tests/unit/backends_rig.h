/* Backends with one, two and three threads, for tests that compare their bits. */
#pragma once

#include "base/cpu.h"
#include "base/thread.h"
#include "compute/backend.h"

enum { THREADS_TRIED = 3 };

static struct thread_pool *pools[THREADS_TRIED];
static struct backend *backends[THREADS_TRIED];     /* with 1, 2, 3 threads */

static inline int backends_open(void)
{
    for (int i = 0; i < THREADS_TRIED; i++) {
        pools[i] = thread_pool_create(i + 1);
        if (!pools[i] || cpu_backend_create(cpu_detect(), pools[i], &backends[i], NULL) != AKIN_OK)
            return -1;
    }
    return 0;
}

static inline void backends_close(void)
{
    for (int i = 0; i < THREADS_TRIED; i++) {
        cpu_backend_destroy(&backends[i]);
        thread_pool_destroy(&pools[i]);
    }
}
