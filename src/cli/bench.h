/* What benchmarks share: repeated timing with warm-up, and targets that are met or not. */
#pragma once

#include "cli/cli.h"

/* Calls `run` `warmups` times, then `repeats` times (at most BENCH_REPEATS_MAX), and gives the
 * median of the latter in milliseconds. Stops at the first failure. */
enum { BENCH_REPEATS_MAX = 101 };
enum akin_status bench_median_ms(enum akin_status (*run)(void *context), void *context, int warmups,
                                 int repeats, double *median_ms);

enum bench_sense { BENCH_BELOW, BENCH_AT_LEAST };

/* A figure to reach. `value` NaN: could not be measured, for the reason given. */
struct bench_target {
    const char *name, *unit;
    enum bench_sense sense;
    double value, limit;
    const char *reason;
};

json_t *bench_targets_json(const struct bench_target *targets, size_t count);
void bench_targets_print(const struct bench_target *targets, size_t count);
