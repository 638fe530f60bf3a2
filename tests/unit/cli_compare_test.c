/* Comparing training runs: a report of ours beside two in the form of the PyTorch script, figures
 * worked out by hand, refusals that name file and field, and what is shown. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "cli/bench_compare.h"

#define FIXTURES AKIN_SOURCE_DIR "/tests/fixtures/training"

static char scratch[] = "/tmp/akin_compare_XXXXXX";

static void near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-12 * fabs(expected)))
        fail_msg("%.15g is not %.15g", value, expected);
}

static struct comparison *all(void)
{
    struct comparison *c = memory_alloc(1, sizeof *c);
    assert_non_null(c);
    assert_int_equal(comparison_add(c, FIXTURES, NULL), AKIN_OK);
    assert_int_equal(c->count, 3);
    return c;
}

static void done(struct comparison *c)
{
    comparison_deinit(c);
    memory_free(c);
}

/* In the order of the names: ours, the script's on one GPU, on eight. */
static void test_figures(void **state)
{
    struct comparison *c = all();
    const double prices[] = {0.1, 3, 3};
    (void)state;
    assert_int_equal(comparison_price(c, prices, 3, NULL), AKIN_OK);
    assert_int_equal(comparison_finish(c, false, NULL), AKIN_OK);
    const struct compared_run *ours = &c->runs[0], *one = &c->runs[1], *eight = &c->runs[2];
    assert_string_equal(ours->device, "Example CPU");
    near(ours->mfu_pct, 49.3);
    near(ours->step_p50_ms, 2555);
    near(ours->dollars_per_million, 0.1 / 3600 / 50 * 1e6);
    near(ours->dollars_per_epoch, 0.1 / 3600 * 75000);  /* all samples, though 20 steps ran */
    assert_true(isnan(one->mfu_pct) && isnan(one->step_p50_ms));
    near(one->scaling_pct, 100);
    near(eight->scaling_pct, 80);
    near(eight->dollars_per_million, 24.0 / 3600 / 51200 * 1e6);
    near(eight->tokens_per_s, 51200 * 512.0);
    assert_int_equal(eight->best, 1u << COMPARE_SAMPLES);
    assert_int_equal(ours->best, 1u << COMPARE_MEMORY);
    assert_int_equal(one->best, 1u << COMPARE_MILLION | 1u << COMPARE_EPOCH);
    done(c);
}

static void test_prices(void **state)
{
    struct comparison *c = all();
    const double prices[] = {2, 3};
    struct akin_error error;
    (void)state;
    assert_int_equal(comparison_price(c, prices, 0, &error), AKIN_OK);
    assert_true(isnan(c->runs[0].price));
    assert_int_equal(comparison_price(c, prices, 1, &error), AKIN_OK);
    near(c->runs[2].price, 2);
    assert_int_equal(comparison_price(c, prices, 2, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "2 prices for 3 reports"));
    done(c);
}

/* ---- made-up reports --------------------------------------------------------------------- */

static const char *write_report(const char *name, const char *text)
{
    static char path[PATH_BYTES_MAX];
    assert_int_equal(path_join(path, sizeof path, scratch, name, NULL), AKIN_OK);
    assert_int_equal(file_write(path, text, strlen(text), NULL), AKIN_OK);
    return path;
}

static enum akin_status add_text(struct comparison *c, const char *name, const char *config,
                                 struct akin_error *error)
{
    char text[512];
    snprintf(text, sizeof text,
             "{\"metadata\": {\"gpu_name\": \"<X> \\\"1\\\"\", \"gpu_count\": 1}, "
             "\"config\": {%s}, \"summary\": {\"avg_throughput_samples_per_s\": 10}}", config);
    return comparison_add(c, write_report(name, text), error);
}

static void test_different_work_is_refused(void **state)
{
    static const struct {
        const char *config, *word;
    } others[] = {
        {"\"d_model\": 256", "config.d_model is 128 in a.json and 256 in b.json"},
        {"\"amp\": false", "config.amp"},
        {"\"data_source\": \"disk (/mnt/ssd)\"", "config.data_source"},
        {"\"batch_size_per_gpu\": 8, \"effective_batch_size\": 8", "config.effective_batch_size"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct comparison *c = memory_alloc(1, sizeof *c);
        struct akin_error error;
        assert_int_equal(add_text(c, "a.json",
                                  "\"d_model\": 128, \"amp\": true, \"data_source\": \"memory\", "
                                  "\"batch_size_per_gpu\": 4, \"effective_batch_size\": 4",
                                  &error), AKIN_OK);
        assert_int_equal(add_text(c, "b.json", others[i].config, &error), AKIN_OK);
        assert_int_equal(comparison_finish(c, false, &error), AKIN_ARGUMENT);
        if (!strstr(error.message, others[i].word))
            fail_msg("%s", error.message);
        assert_non_null(strstr(error.message, "--force"));
        assert_int_equal(comparison_finish(c, true, &error), AKIN_OK);
        assert_int_equal(c->difference_count, 1);
        done(c);
    }
}

static void test_same_work_is_not(void **state)
{
    struct comparison *c = memory_alloc(1, sizeof *c);
    struct akin_error error;
    (void)state;
    /* Eight devices with an eighth of the batch each; a report that says less. */
    assert_int_equal(add_text(c, "a.json", "\"batch_size_per_gpu\": 64, "
                              "\"effective_batch_size\": 64, \"data_source\": \"in-memory\"",
                              &error), AKIN_OK);
    assert_int_equal(add_text(c, "b.json", "\"batch_size_per_gpu\": 8, "
                              "\"effective_batch_size\": 64, \"data_source\": \"memory\"",
                              &error), AKIN_OK);
    assert_int_equal(add_text(c, "c.json", "", &error), AKIN_OK);
    assert_int_equal(comparison_finish(c, false, &error), AKIN_OK);
    assert_int_equal(c->runs[0].best, 0);       /* all alike: none is best */
    done(c);
}

static void test_bad_files_are_named(void **state)
{
    static const struct {
        const char *text, *word;
    } bad[] = {
        {"", "not valid JSON"},
        {"[]", "expected an object, found an array"},
        {"{}", "metadata: expected an object"},
        {"{\"metadata\": {}, \"config\": {}}", "summary: expected an object"},
        {"{\"metadata\": {\"gpu_name\": 7}, \"config\": {}, \"summary\": {}}", "gpu_name"},
        {"{\"metadata\": {\"gpu_count\": -1}, \"config\": {}, \"summary\": {}}", "gpu_count"},
        {"{\"metadata\": {\"gpu_count\": 1e300}, \"config\": {}, \"summary\": {}}", "gpu_count"},
        {"{\"metadata\": {}, \"config\": {}, \"summary\": {\"peak_gpu_memory_mb\": \"x\"}}",
         "peak_gpu_memory_mb"},
        {"{\"metadata\": {}, \"config\": {}, \"summary\": {}, \"step_ms\": {\"p50\": []}}", "p50"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct comparison *c = memory_alloc(1, sizeof *c);
        struct akin_error error;
        assert_int_not_equal(comparison_add(c, write_report("bad.json", bad[i].text), &error),
                             AKIN_OK);
        if (!strstr(error.message, bad[i].word) || !strstr(error.message, "bad.json"))
            fail_msg("%s", error.message);
        done(c);
    }
    struct comparison *c = memory_alloc(1, sizeof *c);
    struct akin_error error;
    assert_int_equal(comparison_add(c, "/nowhere/at/all", &error), AKIN_NOT_FOUND);
    comparison_deinit(c);
    assert_int_equal(comparison_add(c, scratch, &error), AKIN_NOT_FOUND);  /* no bench_*.json */
    assert_non_null(strstr(error.message, "akin bench train"));
    done(c);
}

/* ---- what is shown ----------------------------------------------------------------------- */

static void test_a_report_that_says_nothing(void **state)
{
    struct comparison *c = memory_alloc(1, sizeof *c);
    struct bytes csv = {0}, page = {0};
    (void)state;
    assert_int_equal(comparison_add(c, write_report("none.json", "{\"metadata\": {}, "
                                    "\"config\": {}, \"summary\": {}}"), NULL), AKIN_OK);
    assert_int_equal(comparison_finish(c, false, NULL), AKIN_OK);
    comparison_csv(c, &csv);
    assert_non_null(strstr(csv.data, "none.json\",\"\",,,,,,,,,,,,\n"));
    json_t *json = comparison_json(c);
    const json_t *run = json_array_get(json_object_get(json, "runs"), 0);
    assert_true(json_is_null(json_object_get(run, "samples_per_s")));
    assert_true(json_is_null(json_object_get(run, "device")));
    json_decref(json);
    assert_int_equal(comparison_html(c, &page, NULL), AKIN_OK);
    assert_null(strstr(page.data, "<svg"));     /* there is nothing to draw */
    bytes_deinit(&csv);
    bytes_deinit(&page);
    done(c);
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, part)); at += strlen(part))
        count++;
    return count;
}

static void test_page_needs_nothing_else_and_escapes(void **state)
{
    struct comparison *c = all();
    struct bytes page = {0};
    const double price = 1;
    (void)state;
    assert_int_equal(comparison_price(c, &price, 1, NULL), AKIN_OK);
    assert_int_equal(add_text(c, "a<b>.json", "", NULL), AKIN_OK);
    assert_int_equal(comparison_finish(c, false, NULL), AKIN_OK);
    assert_int_equal(comparison_html(c, &page, NULL), AKIN_OK);
    assert_int_equal(count_of(page.data, "<svg"), 5);
    assert_int_equal(count_of(page.data, "<tr>"), 5);
    assert_null(strstr(page.data, "<script"));
    assert_null(strstr(page.data, "href"));
    assert_null(strstr(page.data, "<X>"));
    assert_null(strstr(page.data, "a<b>"));
    assert_non_null(strstr(page.data, "4: &lt;X&gt; &quot;1&quot; x 1"));
    bytes_deinit(&page);
    done(c);
}

static void test_long_names_are_cut_between_characters(void **state)
{
    struct comparison *c = memory_alloc(1, sizeof *c);
    char label[160];
    (void)state;
    c->count = 1;
    snprintf(c->runs[0].device, sizeof c->runs[0].device, "éééééééééééééééééééé");
    c->runs[0].devices = 8;
    compared_label(c, 0, label, sizeof label);
    assert_string_equal(label, "1: ééééééééééé… x 8");
    snprintf(c->runs[0].device, sizeof c->runs[0].device, "xéééééééééééééééééééé");
    compared_label(c, 0, label, sizeof label);
    assert_string_equal(label, "1: xéééééééééé… x 8");
    memory_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_prices),
        cmocka_unit_test(test_different_work_is_refused),
        cmocka_unit_test(test_same_work_is_not),
        cmocka_unit_test(test_bad_files_are_named),
        cmocka_unit_test(test_a_report_that_says_nothing),
        cmocka_unit_test(test_page_needs_nothing_else_and_escapes),
        cmocka_unit_test(test_long_names_are_cut_between_characters),
    };
    if (!mkdtemp(scratch))
        return 1;
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    path_remove_tree(scratch, NULL);
    return failures;
}
