/* Householder reflections to a tridiagonal matrix, then QL steps with Wilkinson's shift (Golub and
 * Van Loan, Matrix Computations, 8.3). Rows of `vectors` are turned, so that all inner loops run
 * along memory. */
#include "compute/cpu/eigen.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { STEPS_MAX = 60 };    /* of one eigenvalue; two or three are usual */

/* So many numbers at a time, so that neither waits for the one before it. */
enum { LANES = 8 };

static double dot(const double *a, const double *b, size_t n)
{
    double sums[LANES] = { 0 }, sum = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            sums[j] += a[i + j] * b[i + j];
    for (; i < n; i++)
        sum += a[i] * b[i];
    for (size_t j = 0; j < LANES; j++)
        sum += sums[j];
    return sum;
}

static void add_scaled(double *restrict a, const double *restrict b, double factor, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            a[i + j] += factor * b[i + j];
    for (; i < n; i++)
        a[i] += factor * b[i];
}

/* The unit vector of the reflection that takes row k behind column k to its first axis, left in
 * that row; returns the component that remains, or the row's own where it is reduced already. */
static double reflector(double *x, size_t n, bool *used)
{
    double length = sqrt(dot(x, x, n)), alpha = x[0] > 0 ? -length : length;
    *used = length > fabs(x[0]);
    if (!*used)
        return x[0];
    x[0] -= alpha;
    double inverse = 1 / sqrt(dot(x, x, n));
    for (size_t i = 0; i < n; i++)
        x[i] *= inverse;
    return alpha;
}

/* a [n][n] -= 2 v w' + 2 w v' with w = a v - (v' a v) v */
static void reflect_both(double *a, size_t stride, const double *v, double *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        w[i] = dot(a + i * stride, v, n);
    add_scaled(w, v, -dot(v, w, n), n);
    for (size_t i = 0; i < n; i++) {
        add_scaled(a + i * stride, w, -2 * v[i], n);
        add_scaled(a + i * stride, v, -2 * w[i], n);
    }
}

/* Leaves the diagonal in d, what is beside it in e [n - 1], the product of the reflections in q. */
static void tridiagonalize(double *a, size_t n, double *d, double *e, double *q, double *w)
{
    for (size_t k = 0; k + 2 < n; k++) {
        bool used;
        double *v = a + k * n + k + 1;
        e[k] = reflector(v, n - k - 1, &used);
        if (used)
            reflect_both(a + (k + 1) * n + k + 1, n, v, w, n - k - 1);
        else
            memset(v, 0, (n - k - 1) * sizeof *v);
    }
    if (n > 1)
        e[n - 2] = a[(n - 2) * n + n - 1];
    for (size_t i = 0; i < n; i++)
        d[i] = a[i * n + i];
    memset(q, 0, n * n * sizeof *q);
    for (size_t i = 0; i < n; i++)
        q[i * n + i] = 1;
    for (size_t k = n < 2 ? 0 : n - 2; k-- > 0; ) {     /* rows of q are columns of the product */
        const double *v = a + k * n + k + 1;
        for (size_t i = k + 1; i < n; i++) {
            double *row = q + i * n + k + 1;
            add_scaled(row, v, -2 * dot(row, v, n - k - 1), n - k - 1);
        }
    }
}

static void turn_rows(double *restrict a, double *restrict b, double c, double s, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            double x = a[i + j], y = b[i + j];
            a[i + j] = c * x - s * y;
            b[i + j] = s * x + c * y;
        }
    for (; i < n; i++) {
        double x = a[i], y = b[i];
        a[i] = c * x - s * y;
        b[i] = s * x + c * y;
    }
}

/* One implicit QL step on [first, last]. */
static void step(double *d, double *e, size_t first, size_t last, double *vectors, size_t n)
{
    double delta = (d[first + 1] - d[first]) / (2 * e[first]);
    double root = hypot(delta, 1), g = d[last] - d[first] +
                                        e[first] / (delta + copysign(root, delta));
    double s = 1, c = 1, p = 0;
    for (size_t i = last; i-- > first; ) {
        double f = s * e[i], b = c * e[i], r = hypot(f, g);
        if (i + 1 < last)
            e[i + 1] = r;
        if (r == 0) {           /* the matrix falls into two here */
            d[i + 1] -= p;
            if (i + 1 < last)
                e[i + 1] = 0;
            return;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        turn_rows(vectors + i * n, vectors + (i + 1) * n, c, s, n);
    }
    d[first] -= p;
    e[first] = g;
}

static size_t end_of_part(const double *d, const double *e, size_t first, size_t n)
{
    size_t last = first;
    while (last + 1 < n && fabs(e[last]) > DBL_EPSILON * (fabs(d[last]) + fabs(d[last + 1])))
        last++;
    return last;
}

/* The component that is largest becomes positive. */
static void fix_sign(double *row, size_t n)
{
    size_t largest = 0;
    for (size_t j = 1; j < n; j++)
        if (fabs(row[j]) > fabs(row[largest]))
            largest = j;
    bool negative = row[largest] < 0;
    for (size_t j = 0; negative && j < n; j++)
        row[j] = -row[j];
}

static void sort_descending(double *values, double *vectors, double *spare, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t best = i;
        for (size_t j = i + 1; j < n; j++)
            if (values[j] > values[best])
                best = j;
        if (best != i) {
            double value = values[i];
            values[i] = values[best];
            values[best] = value;
            memcpy(spare, vectors + i * n, n * sizeof *spare);
            memcpy(vectors + i * n, vectors + best * n, n * sizeof *spare);
            memcpy(vectors + best * n, spare, n * sizeof *spare);
        }
        fix_sign(vectors + i * n, n);
    }
}

void eigen_solve(double *a, size_t n, double *values, double *vectors, double *scratch)
{
    double *e = scratch, *w = scratch + n;
    tridiagonalize(a, n, values, e, vectors, w);
    for (size_t first = 0; first < n; first++)
        for (int i = 0; i < STEPS_MAX; i++) {
            size_t last = end_of_part(values, e, first, n);
            if (last == first)
                break;
            step(values, e, first, last, vectors, n);
        }
    sort_descending(values, vectors, w, n);
}
