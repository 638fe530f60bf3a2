/* How unusual a value is among those that were seen, as a probability.
 *
 * The history is contaminated, so its extreme values say nothing about the tail of normal traffic:
 * an exponential tail is laid through the median and the 90 % quantile and continued. That is what
 * the threshold depends on, and a tenth of the history may be abnormal before it moves much. */
#pragma once

#include <stddef.h>

struct tail {
    double median, scale;
};

/* Sorts `values`. `scale_min` stands where the values hardly differ. No values: median 0. */
struct tail tail_fit(double *values, size_t count, double scale_min);
/* -ln of the estimated probability that normal traffic has `value` or more: 0 or above, strictly
 * increasing but for rounding, ln 2 at the median. */
double tail_surprise(const struct tail *tail, double value);
/* A quantile of sorted values; 0 where there are none. */
double quantile(const double *sorted, size_t count, double q);
