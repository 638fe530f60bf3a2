/* Tables and numbers for people. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/table.h"

static void printed(const struct table *table, char *text, size_t bytes)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    table_print(table, file);
    rewind(file);
    text[fread(text, 1, bytes - 1, file)] = '\0';
    fclose(file);
}

static void test_alignment(void **state)
{
    static const struct table_column columns[] = {
        {"n", TABLE_RIGHT, 0}, {"title", TABLE_LEFT, 0}, {"last", TABLE_LEFT, 0}};
    struct table table;
    char text[512];
    (void)state;
    table_init(&table, columns, 3);
    table_cell(&table, "%d", 1);
    table_cell(&table, "%s", "Am\xc3\xa9lie"); /* 6 columns, 7 bytes */
    table_cell(&table, "x");
    table_cell(&table, "%d", 100);
    table_cell(&table, "%s", "\xe5\x8d\x83\xe5\xb0\x8b"); /* two wide characters: 4 columns */
    table_cell(&table, "%s", "");
    printed(&table, text, sizeof text);
    assert_string_equal(text, "  n  title   last\n"
                              "  1  Am\xc3\xa9lie  x\n"
                              "100  \xe5\x8d\x83\xe5\xb0\x8b    \n");
    table_deinit(&table);
}

static void test_cut_and_clean(void **state)
{
    static const struct table_column columns[] = {{NULL, TABLE_LEFT, 5}, {NULL, TABLE_LEFT, 0}};
    struct table table;
    char text[512];
    (void)state;
    table_init(&table, columns, 2);
    table_cell(&table, "abcdefgh");
    table_cell(&table, "a\033[31mb\nc"); /* an escape sequence must not reach the terminal */
    table_cell(&table, "%s", "\xff");
    table_cell(&table, ".");
    printed(&table, text, sizeof text);
    assert_string_equal(text, "abcd\xe2\x80\xa6  a [31mb c\n"
                              "\xef\xbf\xbd      .\n");
    table_deinit(&table);
}

static void test_long_cell(void **state)
{
    static const struct table_column columns[] = {{NULL, TABLE_LEFT, 0}};
    struct table table;
    char long_text[3000], text[4000];
    (void)state;
    memset(long_text, 'y', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    table_init(&table, columns, 1);
    table_cell(&table, "%s", long_text);
    printed(&table, text, sizeof text);
    assert_int_equal(strlen(text), sizeof long_text);
    table_deinit(&table);
}

static void test_numbers(void **state)
{
    char text[NUMBER_BYTES];
    (void)state;
    assert_string_equal(format_count(text, 0), "0");
    assert_string_equal(format_count(text, 999), "999");
    assert_string_equal(format_count(text, 1000), "1,000");
    assert_string_equal(format_count(text, 62423), "62,423");
    assert_string_equal(format_count(text, UINT64_MAX), "18,446,744,073,709,551,615");
    assert_string_equal(format_bytes(text, 999), "999 bytes");
    assert_string_equal(format_bytes(text, 14963712), "14.96 MB");
    assert_string_equal(format_bytes(text, 999999), "1.00 MB");
    assert_string_equal(format_seconds(text, 7.4), "0:07");
    assert_string_equal(format_seconds(text, 3723), "1:02:03");
    assert_string_equal(format_seconds(text, -1), "0:00");
    assert_string_equal(format_seconds(text, 1e300), "100:00:00");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_cut_and_clean),
        cmocka_unit_test(test_long_cell),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
