/* What attention has to give, in double, from the contract: for kernelcheck and backendcheck. */
#pragma once

#include <math.h>
#include <stdlib.h>

#include "compute/cpu/kernels.h"

/* Row `query` of the result [dim] and the largest error of each number in it. `p` [keys] is
 * scratch. */
static inline void attend_exact(const struct head *h, size_t query, bool rough, double *p,
                                double *out, double *bound)
{
    const double unit = 0x1p-24;
    const float *q = h->q + query * h->stride;
    double max = -INFINITY, sum = 0, worst = 0;
    for (size_t j = 0; j < h->keys; j++) {
        double score = 0, magnitude = 0;
        for (size_t d = 0; d < h->dim; d++) {
            double term = (double)q[d] * (double)h->k[j * h->stride + d];
            score += term;
            magnitude += fabs(term);
        }
        p[j] = score / sqrt((double)h->dim);
        max = fmax(max, p[j]);
        worst = fmax(worst, magnitude / sqrt((double)h->dim));
    }
    for (size_t j = 0; j < h->keys; j++)
        sum += p[j] = exp(p[j] - max);
    double relative = (2 * ((double)h->dim + 5) * worst + (double)h->keys + 20) * unit;
    if (rough)
        relative += expm1(2 * (0x1p-8 + 0x1p-12) * worst) + 0x1p-8 + 0x1p-11;
    for (size_t d = 0; d < h->dim; d++) {
        double value = 0, magnitude = 0;
        for (size_t j = 0; j < h->keys; j++) {
            double term = p[j] / sum * (double)h->v[j * h->stride + d];
            value += term;
            magnitude += fabs(term);
        }
        out[d] = value;
        bound[d] = relative * magnitude;
    }
}
