#include "watch/tail.h"

#include <math.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double quantile(const double *sorted, size_t count, double q)
{
    return count ? sorted[(size_t)(q * (double)(count - 1) + 0.5)] : 0;
}

struct tail tail_fit(double *values, size_t count, double scale_min)
{
    qsort(values, count, sizeof *values, by_value);
    double median = quantile(values, count, 0.5);
    double scale = (quantile(values, count, 0.9) - median) / log(5);
    return (struct tail){median, scale > scale_min ? scale : scale_min};
}

double tail_surprise(const struct tail *tail, double value)
{
    double z = (value - tail->median) / tail->scale;
    return z < 0 ? log(2) * exp(z) : log(2) + z;
}
