/* Moments as people write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/moment.h"

static const int64_t now = 1780000000123456;

static void expect(const char *text, int64_t expected)
{
    int64_t us = -1;
    if (!moment_parse(text, now, &us))
        fail_msg("'%s' is no moment", text);
    if (us != expected)
        fail_msg("'%s': %lld, not %lld", text, (long long)us, (long long)expected);
}

static void test_durations(void **state)
{
    (void)state;
    expect("90s", now - 90000000);
    expect("15m", now - 900000000);
    expect("2h", now - 7200000000);
    expect("1.5h", now - 5400000000);
    expect("3d", now - 3 * 86400000000);
    expect("1w", now - 7 * 86400000000);
    expect("0s", now);
}

static void test_dates(void **state)
{
    (void)state;
    expect("1970-01-01", 0);
    expect("1970-01-02T00:00:01Z", 86401000000);
    expect("2000-02-29", 951782400000000);
    expect("2026-11-21", 1795219200000000);
    expect("2026-11-21 10:30", 1795257000000000);
    expect("2026-11-21T10:30:15Z", 1795257015000000);
    expect("9999-12-31T23:59:60", 253402300800000000);
}

static void test_others(void **state)
{
    static const char *const bad[] = {
        "", "yesterday", "2", "2x", "2hh", "-2h", "h", "inf", "1e30d", "nan", " 2h", "2 h",
        "2026-13-01", "2026-02-29", "2026-04-31", "1969-12-31", "2026-1-1", "2026-11-21T",
        "2026-11-21T25:00", "2026-11-21T10", "2026-11-21T10:61", "2026-11-21T10:30:", "2026-11-21x",
        "2026-11-21T10:30:61", "2026-11-21T10:30ZZ", "+2026-11-21", "2026-11--2", "0x10s"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t us;
        if (moment_parse(bad[i], now, &us))
            fail_msg("'%s' was taken for a moment", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations), cmocka_unit_test(test_dates),
        cmocka_unit_test(test_others)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
