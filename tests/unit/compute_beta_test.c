/* Draws of the Beta distribution against its exact function: Kolmogorov-Smirnov and moments over a
 * grid of shapes, and that the test sees a draw that is a little wrong. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "compute/cpu/kernels.h"

enum { DRAWS = 20000, MANY = 1 << 20 };

/* The greatest distance for which one in 40,000 samples would be worse: the grid has 100 cells. */
static const double distance_max = 2.32;

/* The continued fraction of the incomplete Beta function by Lentz' method, DLMF 8.17.22. */
static double fraction(double a, double b, double x)
{
    double c = 1, d = 1 / (1 - (a + b) * x / (a + 1)), value = d;
    for (int m = 1; m < 20000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 / (1 + even * d);
        c = 1 + even / c;
        value *= c * d;
        d = 1 / (1 + odd * d);
        c = 1 + odd / c;
        value *= c * d;
        if (fabs(c * d - 1) < 1e-12)
            break;
    }
    return value;
}

static double beta_cdf(double a, double b, double x, double log_beta)
{
    if (x <= 0 || x >= 1)
        return x > 0;
    double front = exp(a * log(x) + b * log1p(-x) - log_beta);
    if (x < (a + 1) / (a + b + 2))
        return front * fraction(a, b, x) / a;
    return 1 - front * fraction(b, a, 1 - x) / b;
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* What a float next to 1 cannot say is not held against it: each draw stands for its rounding. */
static double distance(float *x, size_t count, double a, double b)
{
    double log_beta = lgamma(a) + lgamma(b) - lgamma(a + b), worst = 0;
    qsort(x, count, sizeof *x, ascending);
    for (size_t i = 0; i < count; i++) {
        double low = ((double)nextafterf(x[i], 0) + (double)x[i]) / 2;
        double high = ((double)nextafterf(x[i], 1) + (double)x[i]) / 2;
        worst = fmax(worst, (double)(i + 1) / (double)count - beta_cdf(a, b, high, log_beta));
        worst = fmax(worst, beta_cdf(a, b, low, log_beta) - (double)i / (double)count);
    }
    return worst * sqrt((double)count);
}

struct rig {
    struct kernels kernels;
    float *alpha, *beta, *x;    /* [MANY] */
};

static int start(void **state)
{
    struct rig *rig = memory_alloc(1, sizeof *rig);
    assert_non_null(rig);
    kernels_select(&rig->kernels, cpu_detect());
    rig->alpha = memory_alloc(MANY, sizeof *rig->alpha);
    rig->beta = memory_alloc(MANY, sizeof *rig->beta);
    rig->x = memory_alloc(MANY, sizeof *rig->x);
    assert_true(rig->alpha && rig->beta && rig->x);
    *state = rig;
    return 0;
}

static int stop(void **state)
{
    struct rig *rig = *state;
    memory_free(rig->alpha);
    memory_free(rig->beta);
    memory_free(rig->x);
    memory_free(rig);
    return 0;
}

static void draw(struct rig *rig, float a, float b, size_t count, uint32_t round)
{
    struct beta_key key = { .seed = { 7, 9 }, .round = { round, 0 } };
    for (size_t i = 0; i < count; i++) {
        rig->alpha[i] = a;
        rig->beta[i] = b;
    }
    rig->kernels.draw_beta_f32(rig->x, rig->alpha, rig->beta, count, &key);
}

static void test_distribution(void **state)
{
    static const float shapes[] = { 0.5f, 0.7f, 1, 1.5f, 3, 10, 100, 1e3f, 1e4f, 1e5f };
    enum { SHAPES = sizeof shapes / sizeof *shapes };
    struct rig *rig = *state;
    for (uint32_t i = 0; i < SHAPES; i++)
        for (uint32_t j = 0; j < SHAPES; j++) {
            draw(rig, shapes[i], shapes[j], DRAWS, i * SHAPES + j);
            double d = distance(rig->x, DRAWS, (double)shapes[i], (double)shapes[j]);
            if (!(d < distance_max))
                fail_msg("Beta(%g, %g): distance %.3f / sqrt n", (double)shapes[i],
                         (double)shapes[j], d);
        }
}

/* Small shapes, as decay leaves them, and the test itself: another distribution is told apart. */
static void test_small_and_wrong(void **state)
{
    struct rig *rig = *state;
    draw(rig, 0.05f, 0.2f, DRAWS, 1);
    assert_true(distance(rig->x, DRAWS, (double)0.05f, (double)0.2f) < distance_max);
    draw(rig, 1, 1, DRAWS, 2);
    assert_true(distance(rig->x, DRAWS, 1.05, 1) > distance_max);
    draw(rig, 100, 100, DRAWS, 2);
    assert_true(distance(rig->x, DRAWS, 120, 120) > distance_max);
}

static void test_moments(void **state)
{
    static const float shapes[][2] = {{0.5f, 0.5f}, {1, 1}, {2, 5}, {30, 3}, {1e3f, 1e5f}};
    struct rig *rig = *state;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        double a = (double)shapes[s][0], b = (double)shapes[s][1], n = a + b;
        double mean = a / n, variance = a * b / (n * n * (n + 1)), m1 = 0, m2 = 0, m3 = 0, m4 = 0;
        draw(rig, shapes[s][0], shapes[s][1], MANY, 77);
        for (size_t i = 0; i < MANY; i++) {
            double z = ((double)rig->x[i] - mean) / sqrt(variance);
            m1 += z / MANY;
            m2 += z * z / MANY;
            m3 += z * z * z / MANY;
            m4 += z * z * z * z / MANY;
        }
        double skew = 2 * (b - a) * sqrt(n + 1) / ((n + 2) * sqrt(a * b));
        double excess = 6 * ((a - b) * (a - b) * (n + 1) - a * b * (n + 2)) /
                        (a * b * (n + 2) * (n + 3));
        assert_true(fabs(m1) < 5e-3);
        assert_true(fabs(m2 - 1) < 5 * sqrt((2 + excess) / MANY));
        assert_true(fabs(m3 - skew) < 0.03);
        assert_true(fabs(m4 - 3 - excess) < 0.15);
    }
}

/* Rounds, streams, arms and seeds each give other numbers, and none follows another. */
static void test_keys(void **state)
{
    struct rig *rig = *state;
    struct beta_key keys[5] = { { .seed = { 1, 0 } }, { .seed = { 0, 1 } }, { .round = { 1, 0 } },
                                { .round = { 0, 1 } }, { .stream = 1 } };
    double mean[5] = { 0 }, product[5] = { 0 };
    enum { COUNT = 100000 };
    draw(rig, 1, 1, COUNT, 0);
    for (int i = 0; i < 5; i++) {
        float *x = rig->x + (i % 2 + 1) * COUNT, *y = rig->x + ((i + 1) % 2 + 1) * COUNT;
        rig->kernels.draw_beta_f32(x, rig->alpha, rig->beta, COUNT, &keys[i]);
        for (size_t j = 0; j < COUNT; j++) {
            mean[i] += (double)x[j] / COUNT;
            product[i] += ((double)x[j] - 0.5) * ((double)y[j] - 0.5) * 12 / COUNT;
        }
        assert_true(fabs(mean[i] - 0.5) < 5e-3);
        assert_true(i == 0 || fabs(product[i]) < 0.016);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_small_and_wrong),
        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
