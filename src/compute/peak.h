/* How fast this machine can multiply at all: what a matrix product's speed is a share of. */
#pragma once

#include "compute/backend.h"

struct thread_pool;

/* Billions of operations per second (a multiplication and an addition are two) of all threads of
 * `pool` together, in loops that touch registers only, with the fastest instructions that
 * `cpu_flags` (base/cpu.h) allow. Takes about 0.1 s; a busy machine gives less than it has. 0:
 * there are no instructions for `precision`. */
double peak_gflops(unsigned cpu_flags, struct thread_pool *pool, enum compute_precision precision);
