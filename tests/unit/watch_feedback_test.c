/* What labels do to thresholds; the queue between a source and the scorer; latencies; times of
 * logs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "watch/arrivals.h"
#include "watch/feedback.h"
#include "watch/latency.h"
#include "watch/pace.h"

static const double ln2 = 0.69314718055994531;

static bool near(double a, double b)
{
    return a - b < 1e-9 && b - a < 1e-9;
}

static void labels_that_agree_move_nothing(void **state)
{
    struct feedback f = {0};
    struct feedback_label labels[] = {{1, 12, true}, {1, 5, false}, {2, 9.1, false}};
    (void)state;
    assert_true(feedback_set(&f, 9.2, labels, 3));
    assert_true(near(feedback_threshold(&f, 1), 9.2));
    assert_true(near(feedback_threshold(&f, 2), 9.2));
    assert_true(near(feedback_threshold(&f, 3), 9.2));
    assert_true(feedback_set(&f, 9.2, NULL, 0));
    assert_true(near(feedback_threshold(&f, 1), 9.2));
    feedback_deinit(&f);
}

static void false_and_missed_alarms_move_their_kind(void **state)
{
    struct feedback f = {0};
    struct feedback_label labels[] = {
        {1, 12, false}, {1, 15, false},     /* false alarms */
        {2, 3, true},                       /* missed */
        {3, 12, false}, {3, 11, true}, {3, 14, true},   /* no cut is right about all */
        {4, 0.1, true},                     /* below nothing there is no threshold */
    };
    (void)state;
    assert_true(feedback_set(&f, 9.2, labels, 7));
    assert_true(near(feedback_threshold(&f, 1), 15 + ln2));
    assert_true(near(feedback_threshold(&f, 2), 3 - ln2));
    assert_true(near(feedback_threshold(&f, 3), 9.2));  /* one is wrong either way: it stays */
    assert_true(near(feedback_threshold(&f, 4), 0));
    assert_true(near(feedback_threshold(&f, 5), 9.2));  /* too few labels for all kinds */
    feedback_deinit(&f);
}

static void many_labels_move_them_all(void **state)
{
    struct feedback f = {0};
    struct feedback_label labels[8];
    (void)state;
    for (size_t i = 0; i < 8; i++)      /* false alarms of four kinds */
        labels[i] = (struct feedback_label){i % 4, 10 + (double)i, false};
    assert_true(feedback_set(&f, 9.2, labels, 7));
    assert_true(near(feedback_threshold(&f, 99), 9.2));
    for (size_t i = 0; i < 8; i++)
        labels[i] = (struct feedback_label){i % 4, 10 + (double)i, false};
    assert_true(feedback_set(&f, 9.2, labels, 8));
    assert_true(near(feedback_threshold(&f, 99), 17 + ln2));
    assert_true(near(feedback_threshold(&f, 0), 17 + ln2));
    for (size_t i = 0; i < 8; i++)      /* as many, of three kinds */
        labels[i] = (struct feedback_label){i % 3, 10 + (double)i, false};
    assert_true(feedback_set(&f, 9.2, labels, 8));
    assert_true(near(feedback_threshold(&f, 99), 9.2));
    feedback_deinit(&f);
}

/* ---- arrivals ---------------------------------------------------------------------------- */

static void queues_copy_and_are_bounded(void **state)
{
    struct arrivals q;
    char text[] = "a\0b", *large = memory_alloc(1 << 20, 1);
    struct event event = {.text = text, .text_bytes = 3, .time = "t"};
    (void)state;
    assert_non_null(large);
    assert_true(arrivals_init(&q, 4, 1 << 20));
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 4; i++) {
            struct arrival *slot = arrivals_slot(&q);
            assert_non_null(slot);
            event.seq = (uint64_t)i;
            assert_true(arrival_fill(slot, &event));
            arrivals_push(&q);
        }
        assert_null(arrivals_slot(&q));
        text[0] = 'z';
        for (size_t i = 0; i < 4; i++) {
            const struct event *e = &arrivals_at(&q, i)->event;
            assert_int_equal(e->seq, i);
            assert_int_equal(e->text_bytes, 3);
            assert_memory_equal(e->text, "a\0b", 4);
            assert_string_equal(e->time, "t");
            assert_string_equal(e->id, "");
            assert_string_equal(e->session, "");
        }
        text[0] = 'a';
        arrivals_pop(&q, round % 2 ? 4 : 3);
        arrivals_pop(&q, round % 2 ? 0 : 1);
    }
    memset(large, 'x', 1 << 20);
    event.text = large;
    event.text_bytes = 1 << 20;
    assert_true(arrival_fill(arrivals_slot(&q), &event));
    arrivals_push(&q);
    assert_null(arrivals_slot(&q));     /* full of bytes */
    arrivals_pop(&q, 1);
    assert_int_equal(q.bytes, 0);
    assert_non_null(arrivals_slot(&q));
    arrivals_deinit(&q);
    memory_free(large);
}

/* ---- latencies --------------------------------------------------------------------------- */

static void quantiles_are_near(void **state)
{
    static struct latency l;
    (void)state;
    assert_true(latency_us(&l, 0.5) <= 0);
    for (uint64_t us = 1; us <= 10000; us++)
        latency_add(&l, us * 1000);
    for (double q = 0.1; q < 1; q += 0.1) {
        double want = q * 10000, got = latency_us(&l, q);
        assert_true(got > want * 0.99 && got < want * 1.13);
    }
    assert_true(near(latency_us(&l, 1), 10000));
    latency_add(&l, UINT64_MAX);
    latency_add(&l, 0);
    assert_true(latency_us(&l, 0.5) < 6000);
}

/* ---- times of logs ----------------------------------------------------------------------- */

static void times_are_read(void **state)
{
    static const struct {
        const char *text;
        int64_t us;
    } times[] = {
        {"1970-01-02T00:00:01Z", 86401000000}, {"1970-01-02 00:00:01.5", 86401500000},
        {"1970-01-02-00.00.01.500000", 86401500000}, {"1970-01-02T00:01", 86460000000},
        {"86401", 86401000000}, {"86401.5", 86401500000}, {"1767323045000", 1767323045000000},
        {"1767323045000000", 1767323045000000}, {"1767323045000000000", 1767323045000000},
    };
    static const char *const bad[] = {"", "x", "1970-13-02T00:00:01", "1970-01-02", "nan", "-5",
                                      "1970-01-02T00:99:01", "1e99", "12:00:01"};
    int64_t us;
    (void)state;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        assert_true(pace_time(times[i].text, &us));
        assert_int_equal(us, times[i].us);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(pace_time(bad[i], &us));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_that_agree_move_nothing),
        cmocka_unit_test(false_and_missed_alarms_move_their_kind),
        cmocka_unit_test(many_labels_move_them_all),
        cmocka_unit_test(queues_copy_and_are_bounded),
        cmocka_unit_test(quantiles_are_near),
        cmocka_unit_test(times_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
