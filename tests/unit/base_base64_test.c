/* Base64: the examples of RFC 4648, both ways, and every other spelling refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/base64.h"

static void examples(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}, {"\xff\xef\xbe", "/+++"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct bytes text = {0}, back = {0};
        size_t count = strlen(pairs[i][0]), digits = strlen(pairs[i][1]);
        char exact[8];
        base64_append(&text, pairs[i][0], count);
        assert_int_equal(text.count, digits);
        assert_memory_equal(text.data ? text.data : "", pairs[i][1], digits);
        assert_true(base64_read(pairs[i][1], digits, exact, count));
        assert_memory_equal(exact, pairs[i][0], count);
        assert_true(base64_decode(pairs[i][1], digits, &back));
        assert_int_equal(back.count, count);
        assert_memory_equal(back.data ? back.data : "", pairs[i][0], count);
        assert_false(base64_read(pairs[i][1], digits, exact, count + 3));
        bytes_deinit(&text);
        bytes_deinit(&back);
    }
}

static void refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "Z", "Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==", "Zm9\n", "Zm9-",
        ("Zm\xb7" "9"),
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct bytes out = {0};
        char exact[8];
        assert_false(base64_decode(texts[i], strlen(texts[i]), &out));
        for (size_t bytes = 1; bytes <= 6; bytes++)
            assert_false(base64_read(texts[i], strlen(texts[i]), exact, bytes));
        bytes_deinit(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(examples), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
