#include "watch/latency.h"

#include <math.h>

static size_t bucket_of(uint64_t ns)
{
    uint64_t us = ns / 1000;
    if (!us)
        return 0;
    unsigned octave = 63 - (unsigned)__builtin_clzll(us);
    /* the three bits behind the leading one */
    unsigned eighth = (unsigned)(octave >= 3 ? us >> (octave - 3) : us << (3 - octave)) & 7;
    size_t bucket = 8 * (size_t)octave + eighth + 1;
    return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

void latency_add(struct latency *latency, uint64_t ns)
{
    latency->counts[bucket_of(ns)]++;
    latency->count++;
    if (ns > latency->max_ns)
        latency->max_ns = ns;
}

double latency_us(const struct latency *latency, double q)
{
    double wanted = q * (double)latency->count, max = (double)latency->max_ns / 1e3;
    uint64_t seen = 0;
    for (size_t i = 0; i < LATENCY_BUCKETS && latency->count; i++) {
        seen += latency->counts[i];
        if ((double)seen < wanted || !seen)
            continue;
        double edge = ldexp(1 + (double)(i % 8) / 8, (int)(i / 8));
        return edge < max ? edge : max;
    }
    return max;
}
