/* A histogram of latencies: buckets an eighth of an octave wide, from a microsecond to hours, so
 * that quantiles are right to about 9 %. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { LATENCY_BUCKETS = 8 * 36 };

struct latency {
    uint64_t counts[LATENCY_BUCKETS], count, max_ns;
};

void latency_add(struct latency *latency, uint64_t ns);
/* The upper edge of the bucket that quantile `q` is in, at most the largest that was added. */
double latency_us(const struct latency *latency, double q);
