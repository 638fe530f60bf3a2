/* The arithmetic of the embedding report, against figures worked out by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/bench_estimate.h"
#include "cli/table.h"

static void near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-12 * fabs(expected)))
        fail_msg("%.15g is not %.15g", value, expected);
}

static void test_flops(void **state)
{
    /* MiniLM of 6 layers: 1,769,472 weights a layer, twice that a token, and 4 * 384 t^2. */
    const struct akin_model_info l6 = {.layers = 6, .hidden = 384, .intermediate = 1536};
    (void)state;
    near(encoder_flops(&l6, 0, 0), 0);
    near(encoder_flops(&l6, 1, 1), 6.0 * (2 * 1769472 + 4 * 384));
    /* Two texts of 10 and 20 tokens are 30 tokens, 500 squares. */
    near(encoder_flops(&l6, 30, 500),
         encoder_flops(&l6, 10, 100) + encoder_flops(&l6, 20, 400));
    near(encoder_flops(&l6, 23, 529), 6.0 * (46.0 * 1769472 + 4.0 * 529 * 384));
}

static void test_scaling(void **state)
{
    (void)state;
    near(scaling_efficiency(100, 1, 100, 1), 1);
    near(scaling_efficiency(150, 2, 100, 1), 0.75);
    near(scaling_efficiency(600, 8, 200, 2), 0.75);
    assert_true(isnan(scaling_efficiency(100, 2, 0, 1)));
    assert_true(isnan(scaling_efficiency(100, 0, 100, 1)));
    near(cores_rate(100, 1, 1, 64), 6400);
    near(cores_rate(300, 2, 0.5, 64), 4800);
    assert_true(isnan(cores_rate(100, 0, 1, 64)));
}

static void test_cost(void **state)
{
    (void)state;
    near(texts_seconds(5870, 1e6), 1e6 / 5870);
    near(texts_cost(1000, 3.6e6, 3.67), 3.67); /* an hour */
    near(texts_cost(1000, 1e6, 0), 0);
    assert_true(isnan(texts_seconds(0, 1e6)));
    assert_true(isnan(texts_cost(0, 1e6, 1)));
}

static void test_ranks(void **state)
{
    double odd[] = {3, 1, 2}, even[] = {4, 1, 3, 2}, hundred[100];
    (void)state;
    near(median_of(odd, 3), 2);
    near(median_of(even, 4), 2.5);
    assert_true(isnan(median_of(odd, 0)));
    for (int i = 0; i < 100; i++)
        hundred[i] = 100 - i;
    near(percentile_of(hundred, 100, 50), 50);
    near(percentile_of(hundred, 100, 99), 99);
    near(percentile_of(hundred, 100, 100), 100);
    near(percentile_of(hundred, 100, 0), 1);
    near(percentile_of(odd, 1, 99), 1);
    assert_true(isnan(percentile_of(odd, 0, 50)));
}

static void test_cosine(void **state)
{
    const float a[] = {1, 0, 2}, b[] = {2, 0, 4}, c[] = {0, 5, 0}, d[] = {-1, 0, -2};
    const float zero[] = {0, 0, 0}, bad[] = {NAN, 0, 0};
    (void)state;
    near(cosine_of(a, b, 3), 1);
    near(cosine_of(a, d, 3), -1);
    assert_true(cosine_of(a, c, 3) == 0);
    assert_true(isnan(cosine_of(a, zero, 3)));
    assert_true(isnan(cosine_of(a, bad, 3)));
}

static void test_durations(void **state)
{
    static const struct {
        double seconds;
        const char *text;
    } rows[] = {{0, "0.00 s"},        {9.876, "9.88 s"},      {119, "119.0 s"},
                {120, "2.0 min"},     {7199, "120.0 min"},    {7200, "2.0 h"},
                {172800, "2.0 days"}, {-7200, "-2.0 h"},      {1e9, "11574.1 days"},
                {NAN, "unknown"},     {INFINITY, "unknown"}};
    char text[NUMBER_BYTES];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_string_equal(format_duration(text, rows[i].seconds), rows[i].text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flops),  cmocka_unit_test(test_scaling),
        cmocka_unit_test(test_cost),   cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_cosine), cmocka_unit_test(test_durations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
