/* Charts: numbers land where they belong, texts are escaped, nothing that cannot be drawn is. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "cli/chart.h"

static char path[] = "/tmp/akin_chart_XXXXXX";

static char *read_chart(struct bytes *text)
{
    assert_int_equal(file_read(path, 1 << 20, text, NULL), AKIN_OK);
    return text->data;
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, part)); at += strlen(part))
        count++;
    return count;
}

static double attribute(const char *at, const char *name)
{
    char key[16];
    snprintf(key, sizeof key, " %s=\"", name);
    const char *value = strstr(at, key);
    assert_non_null(value);
    char *end;
    double number = strtod(value + strlen(key), &end);
    assert_int_equal(*end, '"');
    return number;
}

static void test_bars_have_lengths_in_proportion(void **state)
{
    (void)state;
    struct chart chart = { .title = "a < b & \"c\"\x01", .note = "here", .x_label = "NDCG@10",
                           .digits = 3 };
    struct chart_bar bars[] = { { "one", 0.25, 0.2, 0.3, false }, { "two", 0.5, NAN, NAN, true },
                                { "none", NAN, NAN, NAN, false } };
    struct bytes text = { 0 };
    assert_int_equal(chart_bars(path, &chart, bars, 3, NULL), AKIN_OK);
    const char *svg = read_chart(&text);
    assert_non_null(strstr(svg, "<title>a &lt; b &amp; &quot;c&quot; </title>"));
    assert_int_equal(count_of(svg, "<rect"), 2);
    assert_int_equal(count_of(svg, "class=\"interval\""), 2);
    assert_non_null(strstr(svg, ">0.250<"));
    assert_non_null(strstr(svg, ">none<"));
    const char *first = strstr(svg, "<rect"), *second = strstr(first + 1, "<rect");
    double ratio = attribute(second, "width") / attribute(first, "width");
    assert_true(fabs(ratio - 2) < 0.01);
    assert_null(strstr(svg, "nan"));
    bytes_deinit(&text);
}

static void test_lines_break_where_a_point_is_missing(void **state)
{
    (void)state;
    struct chart chart = { .title = "hits", .x_label = "slots", .y_label = "share", .log_x = true };
    double x[] = { 0, 10, 100, 1000, 10000 }, y[] = { 1, 0.1, NAN, 0.5, 0.9 };
    struct chart_line line = { "ours", x, y, 5, true };
    struct bytes text = { 0 };
    assert_int_equal(chart_lines(path, &chart, &line, 1, NULL), AKIN_OK);
    const char *svg = read_chart(&text), *curve = strstr(svg, " d=\"");
    assert_non_null(curve);
    char *end = strchr(curve + 4, '"');
    *end = '\0';
    assert_int_equal(count_of(curve, "M"), 2);
    assert_int_equal(count_of(curve, "L"), 1);
    *end = '"';
    assert_int_equal(count_of(svg, "<circle"), 3);
    const char *one = strstr(svg, "<circle"), *two = strstr(one + 1, "<circle"),
               *three = strstr(two + 1, "<circle");
    double step = attribute(three, "cx") - attribute(two, "cx");
    assert_true(fabs(attribute(two, "cx") - attribute(one, "cx") - 2 * step) < 0.3);
    assert_true(attribute(three, "cy") < attribute(two, "cy"));
    assert_null(strstr(svg, "nan"));
    bytes_deinit(&text);
}

static void test_extremes_stay_on_the_paper(void **state)
{
    (void)state;
    struct chart chart = { .title = "t", .x_label = "x", .y_label = "y" };
    double huge[][2] = {{1e-300, 1e300}, {-5, -5}, {0, 0}, {3.000001, 3}, {-1e300, 1e300}};
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        double x[] = { 1, 2 };
        struct chart_line line = { "l", x, huge[i], 2, false };
        struct bytes text = { 0 };
        assert_int_equal(chart_lines(path, &chart, &line, 1, NULL), AKIN_OK);
        const char *svg = read_chart(&text);
        for (const char *at = svg; (at = strstr(at, "<circle")); at++) {
            assert_true(attribute(at, "cy") > 0 && attribute(at, "cy") < 400);
            assert_true(attribute(at, "cx") > 0 && attribute(at, "cx") < 720);
        }
        assert_null(strstr(svg, "nan"));
        assert_null(strstr(svg, "inf"));
        bytes_deinit(&text);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    struct chart chart = { .title = "t", .x_label = "x", .y_label = "y" };
    struct chart_bar bar = { "minus", -1, NAN, NAN, false };
    struct akin_error error;
    double none[] = { NAN };
    struct chart_line line = { "l", none, none, 1, false };
    assert_int_equal(unlink(path), 0);
    assert_int_equal(chart_bars(path, &chart, &bar, 1, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "minus"));
    assert_int_equal(chart_bars(path, &chart, &bar, 0, &error), AKIN_ARGUMENT);
    assert_int_equal(chart_bars(path, &chart, &bar, CHART_BARS_MAX + 1, &error), AKIN_ARGUMENT);
    assert_int_equal(chart_lines(path, &chart, &line, 1, &error), AKIN_ARGUMENT);
    assert_int_equal(chart_lines(path, &chart, &line, CHART_LINES_MAX + 1, &error), AKIN_ARGUMENT);
    assert_false(path_exists(path));
    bar.value = 1;
    assert_int_not_equal(chart_bars("/nowhere/x.svg", &chart, &bar, 1, &error), AKIN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bars_have_lengths_in_proportion),
        cmocka_unit_test(test_lines_break_where_a_point_is_missing),
        cmocka_unit_test(test_extremes_stay_on_the_paper),
        cmocka_unit_test(test_refusals),
    };
    int made = mkstemp(path);
    if (made < 0)
        return 1;
    close(made);
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failures;
}
