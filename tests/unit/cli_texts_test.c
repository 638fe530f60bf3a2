/* Texts out of files, and what is said about files that have none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/file.h"
#include "cli/texts.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/akin-texts-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return path_remove_tree(folder, NULL) == AKIN_OK ? 0 : -1;
}

struct got {
    struct text_window window;
    struct akin_error error;
    enum akin_status status;
    size_t measured;
    uint64_t blank_lines;
};

/* Writes `bytes` to a file called `name`, measures it and reads it. */
static void read_back(struct got *got, const char *name, const char *bytes, size_t count,
                      const char *format, const char *field)
{
    char path[128];
    struct text_source *source = NULL;
    memset(got, 0, sizeof *got);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(file_write(path, bytes, count, NULL), AKIN_OK);
    const struct text_source_settings settings = {
        .path = path, .format = format, .field = field, .rereadable = true};
    got->status = text_source_open(&settings, &source, &got->error);
    if (got->status == AKIN_OK)
        got->status = text_source_measure(source, &got->measured, &got->error);
    if (got->status == AKIN_OK)
        got->status = text_window_fill(&got->window, source, 1000, &got->error);
    if (source)
        got->blank_lines = text_source_blank_lines(source);
    text_source_close(&source);
}

static void expect(struct got *got, size_t count, const char *const *texts)
{
    if (got->status != AKIN_OK)
        fail_msg("%s", got->error.message);
    assert_int_equal(got->window.count, count);
    assert_int_equal(got->measured, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(got->window.texts[i].count, strlen(texts[i]));
        assert_memory_equal(got->window.texts[i].bytes, texts[i], strlen(texts[i]));
    }
    text_window_deinit(&got->window);
}

static void expect_refusal(struct got *got, enum akin_status status, const char *words)
{
    assert_int_equal(got->status, status);
    if (!strstr(got->error.message, words))
        fail_msg("'%s' is not in '%s'", words, got->error.message);
    text_window_deinit(&got->window);
}

#define READ(got, name, text, field) read_back(got, name, text, sizeof(text) - 1, NULL, field)

static void test_txt(void **state)
{
    static const char *const lines[] = {"one", "", "\xff two", ""};
    struct got got;
    (void)state;
    READ(&got, "a.txt", "one\n\n\xff two\r\n\n", NULL);
    expect(&got, 4, lines);
    READ(&got, "b", "one\n", NULL);
    expect(&got, 1, lines);
    READ(&got, "nul.txt", "a\0b\n", NULL);
    assert_int_equal(got.status, AKIN_OK);
    assert_int_equal(got.window.texts[0].count, 3);
    text_window_deinit(&got.window);
    READ(&got, "empty.txt", "", NULL);
    expect_refusal(&got, AKIN_NOT_FOUND, "no texts");
}

static void test_jsonl(void **state)
{
    static const char *const texts[] = {"one", "zw\xc3\xb6lf"};
    struct got got;
    (void)state;
    READ(&got, "a.jsonl", "{\"text\": \"one\"}\n \n{\"id\": 4, \"text\": \"zw\\u00f6lf\"}\n\n",
         NULL);
    assert_int_equal(got.blank_lines, 2);
    expect(&got, 2, texts);
    READ(&got, "b.jsonl", "{\"body\": \"one\"}\n", "body");
    expect(&got, 1, texts);
    READ(&got, "type.jsonl", "{\"text\": \"one\"}\n{\"text\": 5}\n", NULL);
    expect_refusal(&got, AKIN_FORMAT, "type.jsonl:2: text: expected a string, found an integer");
    READ(&got, "absent.jsonl", "{\"txt\": \"one\"}\n", NULL);
    expect_refusal(&got, AKIN_FORMAT, "absent.jsonl:1: text:");
    READ(&got, "cut.jsonl", "{\"text\": \"one\"}\n{\"text\": \"cut", NULL);
    expect_refusal(&got, AKIN_FORMAT, "cut.jsonl:2");
    READ(&got, "array.jsonl", "[1]\n", NULL);
    expect_refusal(&got, AKIN_FORMAT, "expected an object, found an array");
}

static void test_csv(void **state)
{
    static const char *const texts[] = {"a, \"b\"\nc", "d"};
    struct got got;
    (void)state;
    READ(&got, "a.csv", "id,text\n1,\"a, \"\"b\"\"\nc\"\n2,d\n", NULL);
    expect(&got, 2, texts);
    READ(&got, "b.csv", "id,text\n1,d\n", "title");
    expect_refusal(&got, AKIN_FORMAT, "b.csv:1: no column named 'title'");
    READ(&got, "short.csv", "id,text\n1,d\n2\n", NULL);
    expect_refusal(&got, AKIN_FORMAT, "short.csv:3: 1 fields where the header has 2");
    READ(&got, "open.csv", "id,text\n1,\"d\n", NULL);
    expect_refusal(&got, AKIN_FORMAT, "open.csv:2");
    READ(&got, "empty.csv", "", NULL);
    expect_refusal(&got, AKIN_FORMAT, "no column named 'text'");
    READ(&got, "header.csv", "id,text\n", NULL);
    expect_refusal(&got, AKIN_NOT_FOUND, "no texts");
}

static void test_format(void **state)
{
    static const char *const texts[] = {"one"};
    struct got got;
    (void)state;
    read_back(&got, "lines.txt", "{\"text\": \"one\"}\n", 16, "jsonl", NULL);
    expect(&got, 1, texts);
    read_back(&got, "lines.txt", "x", 1, "yaml", NULL);
    expect_refusal(&got, AKIN_ARGUMENT, "yaml");
}

static void test_windows(void **state)
{
    char path[128];
    struct text_source *source = NULL;
    struct text_window window = {0};
    size_t sizes[4];
    (void)state;
    snprintf(path, sizeof path, "%s/w.txt", folder);
    assert_int_equal(file_write(path, "a\nbb\nccc\n", 9, NULL), AKIN_OK);
    const struct text_source_settings settings = {.path = path};
    assert_int_equal(text_source_open(&settings, &source, NULL), AKIN_OK);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(text_window_fill(&window, source, 2, NULL), AKIN_OK);
        sizes[i] = window.count;
    }
    assert_int_equal(sizes[0], 2);
    assert_int_equal(sizes[1], 1);
    assert_int_equal(sizes[2], 0);
    assert_int_equal(sizes[3], 0);
    assert_int_equal(text_source_rewind(source, NULL), AKIN_OK);
    assert_int_equal(text_window_fill(&window, source, 9, NULL), AKIN_OK);
    assert_int_equal(window.count, 3);
    text_window_deinit(&window);
    text_source_close(&source);
}

static void test_absent(void **state)
{
    struct text_source *source = NULL;
    struct akin_error error;
    struct text_source_settings settings = {.path = "/nonexistent/a.txt", .rereadable = true};
    (void)state;
    assert_int_equal(text_source_open(&settings, &source, &error), AKIN_NOT_FOUND);
    assert_non_null(strstr(error.message, "/nonexistent/a.txt"));
    settings.path = folder;
    assert_int_equal(text_source_open(&settings, &source, &error), AKIN_IO);
    assert_null(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_txt),     cmocka_unit_test(test_jsonl),
        cmocka_unit_test(test_csv),     cmocka_unit_test(test_format),
        cmocka_unit_test(test_windows), cmocka_unit_test(test_absent),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
