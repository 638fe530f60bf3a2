/* See bench_estimate.h. */
#include "cli/bench_estimate.h"

#include <math.h>
#include <stdlib.h>

#include "base/status.h"
#include "cli/table.h"

double encoder_flops(const struct akin_model_info *model, double tokens, double squares)
{
    double hidden = (double)model->hidden, intermediate = (double)model->intermediate;
    double weights = 2 * tokens * (4 * hidden * hidden + 2 * hidden * intermediate);
    return (double)model->layers * (weights + 4 * squares * hidden);
}

double scaling_efficiency(double rate, int threads, double base_rate, int base_threads)
{
    if (!(base_rate > 0) || base_threads < 1 || threads < 1)
        return NAN;
    return (rate / threads) / (base_rate / base_threads);
}

double cores_rate(double base_rate, int base_threads, double efficiency, int cores)
{
    return base_threads < 1 ? NAN : base_rate / base_threads * cores * efficiency;
}

double texts_seconds(double rate, double texts)
{
    return rate > 0 ? texts / rate : NAN;
}

double texts_cost(double rate, double texts, double dollars_per_hour)
{
    return texts_seconds(rate, texts) / 3600 * dollars_per_hour;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median_of(double *values, size_t count)
{
    if (count == 0)
        return NAN;
    qsort(values, count, sizeof *values, compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

double percentile_of(double *values, size_t count, double percent)
{
    if (count == 0)
        return NAN;
    qsort(values, count, sizeof *values, compare_doubles);
    size_t rank = (size_t)ceil((double)count * percent / 100);
    return values[rank < 1 ? 0 : rank > count ? count - 1 : rank - 1];
}

double cosine_of(const float *a, const float *b, size_t dimension)
{
    double aa = 0, bb = 0, ab = 0;
    for (size_t d = 0; d < dimension; d++) {
        aa += (double)a[d] * a[d];
        bb += (double)b[d] * b[d];
        ab += (double)a[d] * b[d];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : NAN;
}

const char *format_duration(char *text, double seconds)
{
    static const struct {
        double seconds;
        const char *unit;
    } units[] = {{86400, "days"}, {3600, "h"}, {60, "min"}};
    if (!isfinite(seconds)) {
        snprintf(text, NUMBER_BYTES, "unknown");
        return text;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (fabs(seconds) >= 2 * units[i].seconds) {
            snprintf(text, NUMBER_BYTES, "%.1f %s", seconds / units[i].seconds, units[i].unit);
            return text;
        }
    }
    snprintf(text, NUMBER_BYTES, fabs(seconds) < 10 ? "%.2f s" : "%.1f s", seconds);
    return text;
}
