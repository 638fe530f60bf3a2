/* How good a list of ten is: the usual measures over a whole catalogue (no sampled negatives),
 * means over people with 95 % intervals, and what lists as a whole look like. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { METRICS_K = 10 };

enum metric { METRIC_NDCG, METRIC_RECALL, METRIC_HIT, METRIC_MRR, METRIC_COUNT };

/* One list against what was chosen: `positives` ascending and distinct, at least one.
 *   NDCG    sum of 1 / log2(rank + 1) over hits, divided by its largest possible value
 *   recall  hits / positives;  hit  1 if there is one;  MRR  1 / rank of the first hit, or 0 */
void metrics_of_list(const uint32_t *items, size_t count, const uint32_t *positives,
                     size_t positive_count, double values[METRIC_COUNT]);

struct interval {
    double mean, low, high;     /* low and high: the middle 95 % of the means of resamples */
};

enum { BOOTSTRAP_SAMPLES = 1000 };

/* values [count][columns], count at least 1: of each column its mean and bootstrap interval,
 * percentiles of the means of BOOTSTRAP_SAMPLES resamples of the rows. Each resample has a
 * generator of its own, made from the seed and its number. */
enum akin_status metrics_intervals(const double *values, size_t count, size_t columns,
                                   uint64_t seed, struct interval *intervals,
                                   struct akin_error *error);

/* Of `count` recommended items (all lists behind each other): the share of the catalogue that
 * occurs among them, and the mean of -log2((c + 1) / (users + 1)), c the people who have the item.
 */
enum akin_status metrics_of_catalogue(const uint32_t *items, size_t count, const double *popularity,
                                      size_t catalogue, size_t users, double *coverage,
                                      double *novelty, struct akin_error *error);
