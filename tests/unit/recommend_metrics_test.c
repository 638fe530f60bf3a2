/* Metrics against values worked out by hand, intervals against what resampling must give. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "recommend/metrics.h"

static void near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-12))
        fail_msg("%.17g, expected %.17g", value, expected);
}

static void lists_by_hand(void **state)
{
    (void)state;
    const uint32_t items[] = { 9, 4, 7, 1, 2, 3, 5, 6, 8, 10, 11 };
    double v[METRIC_COUNT];
    const uint32_t first[] = { 9 };
    metrics_of_list(items, 10, first, 1, v);
    near(v[METRIC_NDCG], 1);
    near(v[METRIC_RECALL], 1);
    near(v[METRIC_HIT], 1);
    near(v[METRIC_MRR], 1);
    const uint32_t third[] = { 7 };
    metrics_of_list(items, 10, third, 1, v);
    near(v[METRIC_NDCG], 0.5);                      /* 1 / log2(4) */
    near(v[METRIC_MRR], 1.0 / 3);
    const uint32_t some[] = { 4, 7, 100, 200 };     /* ranks 2 and 3 of four that there are */
    metrics_of_list(items, 10, some, 4, v);
    near(v[METRIC_NDCG], (1 / log2(3) + 0.5) / (1 + 1 / log2(3) + 0.5 + 1 / log2(5)));
    near(v[METRIC_RECALL], 0.5);
    near(v[METRIC_HIT], 1);
    near(v[METRIC_MRR], 0.5);
    const uint32_t eleventh[] = { 11 };             /* beyond the ten */
    metrics_of_list(items, 11, eleventh, 1, v);
    for (int m = 0; m < METRIC_COUNT; m++)
        near(v[m], 0);
    metrics_of_list(items, 0, first, 1, v);         /* an empty list */
    near(v[METRIC_NDCG], 0);
}

static void more_positives_than_ranks(void **state)
{
    (void)state;
    uint32_t items[METRICS_K], positives[20];
    double v[METRIC_COUNT];
    for (uint32_t i = 0; i < 20; i++)
        positives[i] = i;
    for (uint32_t i = 0; i < METRICS_K; i++)
        items[i] = i;
    metrics_of_list(items, METRICS_K, positives, 20, v);
    near(v[METRIC_NDCG], 1);        /* the best that ten places allow */
    near(v[METRIC_RECALL], 0.5);
}

static void intervals(void **state)
{
    (void)state;
    double values[400][3];
    struct interval a[3], b[3];
    for (size_t i = 0; i < 400; i++) {
        values[i][0] = 0.25;
        values[i][1] = i % 2;
        values[i][2] = sqrt((double)i);
    }
    assert_int_equal(metrics_intervals(values[0], 400, 3, 7, a, NULL), AKIN_OK);
    near(a[0].mean, 0.25);
    near(a[0].low, 0.25);
    near(a[0].high, 0.25);
    near(a[1].mean, 0.5);           /* standard error 0.025: 1.96 of them on each side */
    assert_true(fabs(a[1].low - 0.451) < 0.006 && fabs(a[1].high - 0.549) < 0.006);
    assert_int_equal(metrics_intervals(values[0], 400, 3, 7, b, NULL), AKIN_OK);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(metrics_intervals(values[0], 400, 3, 8, b, NULL), AKIN_OK);
    assert_true(a[2].low != b[2].low && a[2].high != b[2].high);
    assert_int_equal(metrics_intervals(values[1], 1, 3, 8, b, NULL), AKIN_OK);
    near(b[1].low, 1);
    near(b[1].high, 1);
}

static void catalogue(void **state)
{
    (void)state;
    const uint32_t items[] = { 0, 1, 1, 3 };
    const double popularity[] = { 3, 1, 9, 0, 0 };
    double coverage, novelty;
    assert_int_equal(metrics_of_catalogue(items, 4, popularity, 5, 7, &coverage, &novelty, NULL),
                     AKIN_OK);
    near(coverage, 0.6);
    near(novelty, (1 + 2 + 2 + 3) / 4.0);           /* -log2 of 4/8, 2/8, 2/8, 1/8 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_by_hand),
        cmocka_unit_test(more_positives_than_ranks),
        cmocka_unit_test(intervals),
        cmocka_unit_test(catalogue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
