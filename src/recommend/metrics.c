/* Ranking metrics as in Järvelin and Kekäläinen (2002) for gains of 0 and 1, and the percentile
 * bootstrap of Efron over people. */
#include "recommend/metrics.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/rng.h"

static bool contains(const uint32_t *sorted, size_t count, uint32_t value)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (sorted[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && sorted[low] == value;
}

void metrics_of_list(const uint32_t *items, size_t count, const uint32_t *positives,
                     size_t positive_count, double values[METRIC_COUNT])
{
    double gain = 0, ideal = 0, first = 0;
    size_t hits = 0;
    for (size_t rank = 1; rank <= count && rank <= METRICS_K; rank++) {
        if (!contains(positives, positive_count, items[rank - 1]))
            continue;
        gain += 1 / log2((double)rank + 1);
        first = hits++ ? first : 1 / (double)rank;
    }
    for (size_t rank = 1; rank <= positive_count && rank <= METRICS_K; rank++)
        ideal += 1 / log2((double)rank + 1);
    values[METRIC_NDCG] = gain / ideal;
    values[METRIC_RECALL] = (double)hits / (double)positive_count;
    values[METRIC_HIT] = hits > 0;
    values[METRIC_MRR] = first;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Between the two nearest of the sorted values, in proportion. */
static double percentile(const double *sorted, size_t count, double share)
{
    double at = share * (double)(count - 1);
    size_t low = (size_t)at, high = low + 1 < count ? low + 1 : low;
    return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}

/* sums [columns] of one resample. */
static void resample(const double *values, size_t count, size_t columns, uint64_t seed,
                     double *sums)
{
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t i = 0; i < count; i++) {
        const double *row = values + rng_below(&rng, count) * columns;
        for (size_t c = 0; c < columns; c++)
            sums[c] += row[c];
    }
}

enum akin_status metrics_intervals(const double *values, size_t count, size_t columns,
                                   uint64_t seed, struct interval *intervals,
                                   struct akin_error *error)
{
    ASSERT(count > 0);
    double *sums = memory_alloc(columns * BOOTSTRAP_SAMPLES, sizeof *sums);
    double *means = memory_alloc(BOOTSTRAP_SAMPLES, sizeof *means);
    for (size_t s = 0; sums && s < BOOTSTRAP_SAMPLES; s++)
        resample(values, count, columns, seed * BOOTSTRAP_SAMPLES + s, sums + s * columns);
    for (size_t c = 0; sums && means && c < columns; c++) {
        double sum = 0;
        for (size_t i = 0; i < count; i++)
            sum += values[i * columns + c];
        for (size_t s = 0; s < BOOTSTRAP_SAMPLES; s++)
            means[s] = sums[s * columns + c] / (double)count;
        qsort(means, BOOTSTRAP_SAMPLES, sizeof *means, compare_doubles);
        intervals[c] = (struct interval){ sum / (double)count,
                                          percentile(means, BOOTSTRAP_SAMPLES, 0.025),
                                          percentile(means, BOOTSTRAP_SAMPLES, 0.975) };
    }
    bool done = sums && means;
    memory_free(sums);
    memory_free(means);
    return done ? AKIN_OK : error_memory(error);
}

enum akin_status metrics_of_catalogue(const uint32_t *items, size_t count, const double *popularity,
                                      size_t catalogue, size_t users, double *coverage,
                                      double *novelty, struct akin_error *error)
{
    bool *seen = memory_alloc(catalogue, sizeof *seen);
    if (!seen)
        return error_memory(error);
    size_t distinct = 0;
    double surprise = 0;
    for (size_t i = 0; i < count; i++) {
        distinct += !seen[items[i]];
        seen[items[i]] = true;
        surprise -= log2((popularity[items[i]] + 1) / ((double)users + 1));
    }
    memory_free(seen);
    *coverage = catalogue ? (double)distinct / (double)catalogue : 0;
    *novelty = count ? surprise / (double)count : 0;
    return AKIN_OK;
}
