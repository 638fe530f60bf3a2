/* Command lines: what is read, what is refused and with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/options.h"

static const struct option own_rows[] = {
    {"input", 'i', OPTION_TEXT, "FILE", NULL, "the input", 0, 0},
    {"top", 'k', OPTION_COUNT, "K", "10", "how many", 1, 100},
    {"recall", 0, OPTION_NUMBER, "R", "0.5", "a share", 0, 1},
    {"kind", 0, OPTION_CHOICE, "auto|flat", "auto", "a kind", 0, 0},
    {"exact", 0, OPTION_FLAG, "", NULL, "a flag", 0, 0},
};
static const struct option common_rows[] = {
    {"json", 0, OPTION_FLAG, "", NULL, "as JSON", 0, 0},
};
static const struct option_table own = {own_rows, 5}, common = {common_rows, 1};

struct parsed {
    struct options options;
    struct akin_error error;
    enum akin_status status;
    int at;
};

static void parse(struct parsed *p, int argc, char *const *argv, bool until_word)
{
    memset(p, 0, sizeof *p);
    options_init(&p->options, own, common);
    p->status = options_parse(&p->options, argc, argv, &p->at, until_word, &p->error);
}

#define PARSE(p, ...)                                                                              \
    do {                                                                                           \
        char *argv_[] = {__VA_ARGS__};                                                             \
        parse((p), (int)(sizeof argv_ / sizeof argv_[0]), argv_, false);                           \
    } while (0)

static void refused(const struct parsed *p, const char *words)
{
    assert_int_equal(p->status, AKIN_ARGUMENT);
    if (!strstr(p->error.message, words))
        fail_msg("'%s' is not in '%s'", words, p->error.message);
}

static void test_spellings(void **state)
{
    struct parsed p;
    (void)state;
    PARSE(&p, "--input", "a", "-k", "3", "--recall=0.25", "word", "--exact", "--json");
    assert_int_equal(p.status, AKIN_OK);
    assert_string_equal(options_text(&p.options, "input"), "a");
    assert_int_equal(options_count(&p.options, "top"), 3);
    assert_true(options_number(&p.options, "recall") == 0.25);
    assert_true(options_flag(&p.options, "exact"));
    assert_true(options_flag(&p.options, "json"));
    assert_int_equal(p.options.positional_count, 1);
    assert_string_equal(p.options.positionals[0], "word");
    PARSE(&p, "-k7", "-i-", "--kind", "flat");
    assert_int_equal(p.status, AKIN_OK);
    assert_int_equal(options_count(&p.options, "top"), 7);
    assert_string_equal(options_text(&p.options, "input"), "-");
    assert_string_equal(options_text(&p.options, "kind"), "flat");
}

static void test_defaults(void **state)
{
    struct parsed p;
    char *const nothing[] = {NULL};
    (void)state;
    parse(&p, 0, nothing, false);
    assert_int_equal(p.status, AKIN_OK);
    assert_null(options_text(&p.options, "input"));
    assert_int_equal(options_count(&p.options, "top"), 10);
    assert_string_equal(options_text(&p.options, "kind"), "auto");
    assert_false(options_given(&p.options, "kind"));
    assert_false(options_flag(&p.options, "exact"));
}

static void test_values_that_look_like_options(void **state)
{
    struct parsed p;
    (void)state;
    PARSE(&p, "--input", "-", "--", "--exact", "-k");
    assert_int_equal(p.status, AKIN_OK);
    assert_false(options_flag(&p.options, "exact"));
    assert_int_equal(p.options.positional_count, 2);
    PARSE(&p, "--input=--exact");
    assert_int_equal(p.status, AKIN_OK);
    assert_string_equal(options_text(&p.options, "input"), "--exact");
    PARSE(&p, "--input=");
    assert_int_equal(p.status, AKIN_OK);
    assert_string_equal(options_text(&p.options, "input"), "");
}

static void test_refusals(void **state)
{
    struct parsed p;
    (void)state;
    PARSE(&p, "--inptu", "a");
    refused(&p, "did you mean --input?");
    PARSE(&p, "--no-such-option");
    refused(&p, "unknown option --no-such-option");
    PARSE(&p, "-x");
    refused(&p, "unknown option -x");
    PARSE(&p, "--input");
    refused(&p, "--input needs a value");
    PARSE(&p, "--input", "--exact");
    refused(&p, "--input needs a value");
    PARSE(&p, "--exact=1");
    refused(&p, "takes no value");
    PARSE(&p, "--kind", "fla");
    refused(&p, "not one of auto|flat");
    char word[] = "a", *words[POSITIONALS_MAX + 1];
    for (int i = 0; i <= POSITIONALS_MAX; i++)
        words[i] = word;
    parse(&p, POSITIONALS_MAX, words, false);
    assert_int_equal(p.status, AKIN_OK);
    parse(&p, POSITIONALS_MAX + 1, words, false);
    refused(&p, "too many arguments");
}

static void test_numbers(void **state)
{
    static char *const bad_counts[] = {"0", "101", "-1", "1.5", "", "1e3", "99999999999999999999",
                                       " 5"};
    static char *const bad_numbers[] = {"-0.1", "1.1", "nan", "inf", "", "0.5x"};
    struct parsed p;
    (void)state;
    for (size_t i = 0; i < sizeof bad_counts / sizeof bad_counts[0]; i++) {
        char *argv[] = {"-k", bad_counts[i]};
        parse(&p, 2, argv, false);
        refused(&p, "not a whole number from 1 to 100");
    }
    for (size_t i = 0; i < sizeof bad_numbers / sizeof bad_numbers[0]; i++) {
        char *argv[] = {"--recall", bad_numbers[i]};
        parse(&p, 2, argv, false);
        refused(&p, "not a number from 0 to 1");
    }
}

static void test_until_word(void **state)
{
    struct parsed p;
    char *const argv[] = {"--json", "embed", "--no-option-of-these"};
    (void)state;
    parse(&p, 3, argv, true);
    assert_int_equal(p.status, AKIN_OK);
    assert_int_equal(p.at, 1);
    assert_true(options_flag(&p.options, "json"));
    assert_int_equal(p.options.positional_count, 0);
}

static void test_nearest_word(void **state)
{
    static const char *const words[] = {"embed", "search", "index build"};
    (void)state;
    assert_string_equal(nearest_word("embde", words, 3), "embed");
    assert_string_equal(nearest_word("serach", words, 3), "search");
    assert_string_equal(nearest_word("ind", words, 3), "index build");
    assert_null(nearest_word("frobnicate", words, 3));
    assert_null(nearest_word("", words, 3));
}

static void test_help(void **state)
{
    struct bytes text = {0};
    (void)state;
    options_help(&text, own);
    assert_false(text.failed);
    for (size_t i = 0; i < own.count; i++) {
        assert_non_null(strstr(text.data, own_rows[i].name));
        assert_non_null(strstr(text.data, own_rows[i].help));
    }
    assert_non_null(strstr(text.data, "(default 10)"));
    bytes_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spellings),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values_that_look_like_options),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_until_word),
        cmocka_unit_test(test_nearest_word),
        cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
