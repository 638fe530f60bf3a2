/* Alarms posted to tests/fake/webhook_server.py, which drops, stalls and refuses on demand. Skipped
 * (77) only where python3 is absent. */
#include "alerts_rig.h"

#include <signal.h>

enum { ANSWERS_MAX = 8 };

static char requests[PATH_BYTES_MAX], url[96];

static struct child serve(const char *const *answers)
{
    const char *arguments[ANSWERS_MAX + 4] = { "python3",
                                               AKIN_SOURCE_DIR "/tests/fake/webhook_server.py",
                                               requests };
    for (size_t i = 0; i < ANSWERS_MAX && answers[i]; i++)
        arguments[3 + i] = answers[i];
    in_test_folder(requests, "requests");
    unlink(requests);
    struct child child = start(arguments);
    char port[16];
    read_line(&child, port, sizeof port);
    snprintf(url, sizeof url, "http://user:secret@127.0.0.1:%s/alarms?key=1", port);
    return child;
}

#define SERVE(...) serve((const char *const[ANSWERS_MAX + 1]){ __VA_ARGS__ })

static struct alerts_settings posting(struct heard *heard)
{
    struct alerts_settings settings = settings_for(heard);
    settings.webhook = url;
    settings.webhook_timeout_ms = 60000;        /* of a server that answers when it can */
    settings.webhook_tries = 5;
    return settings;
}

static void breaks_stalls_and_recovers(void **state)
{
    (void)state;
    struct child server = SERVE("drop", "stall", "503", "201", "200");
    struct heard heard;
    struct alerts_settings settings = posting(&heard);
    settings.webhook_timeout_ms = 3000;
    struct alerts *alerts = open_alerts(&settings);
    uint64_t began = clock_monotonic_ns();
    take(alerts, 1, 1, second);
    take(alerts, 2, 2, second);
    assert_true(seconds_since(began) < 3);      /* far less than what follows takes */
    assert_true(alerts_flush(alerts, 60000));
    assert_true(seconds_since(began) > 0.5 + 3 + 1 + 2 - 0.1);
    assert_int_equal(lines_with("requests", " POST /alarms?key=1 application/json drop {\"n\":1,"
                                            "\"count\":1}"), 1);
    assert_int_equal(lines_with("requests", "{\"n\":1,\"count\":1}"), 4);   /* in order, whole */
    assert_int_equal(lines_with("requests", " 200 {\"n\":2,\"count\":1}"), 1);
    assert_int_equal(lines_with("requests", ""), 5);
    struct alerts_counts counts = counts_of(alerts);
    assert_int_equal(counts.delivered, 2);
    assert_int_equal(counts.failed + counts.dropped, 0);
    assert_int_equal(heard.notes, 2);           /* away, and back */
    assert_null(strstr(heard.note, "secret"));
    assert_non_null(strstr(heard.note, "webhook http://127.0.0.1:"));
    alerts_close(&alerts, 0);
    assert_int_equal(stop(&server, 0), 0);
}

/* `answer` is final: one request, and the next alarm is on its own. */
static void expect_final(const char *answer, const char *part)
{
    struct child server = SERVE(answer, "200");
    struct heard heard;
    struct alerts_settings settings = posting(&heard);
    struct alerts *alerts = open_alerts(&settings);
    take(alerts, 1, 1, second);
    take(alerts, 2, 2, second);
    assert_true(alerts_flush(alerts, 60000));
    assert_int_equal(lines_with("requests", ""), 2);
    assert_int_equal(counts_of(alerts).failed, 1);
    assert_int_equal(counts_of(alerts).delivered, 1);
    assert_int_equal(heard.notes, 2);
    assert_non_null(strstr(heard.first_note, part));
    alerts_close(&alerts, 0);
    assert_int_equal(stop(&server, 0), 0);
}

static void final_answers(void **state)
{
    (void)state;
    expect_final("400", "HTTP 400");
    expect_final("404", "HTTP 404");
    expect_final("302:file:///etc/passwd", "not followed");
    expect_final("307:/elsewhere", "not followed");
}

static void asked_to_wait(void **state)
{
    (void)state;
    struct child server = SERVE("429:2", "408", "200");
    struct heard heard;
    struct alerts_settings settings = posting(&heard);
    struct alerts *alerts = open_alerts(&settings);
    uint64_t began = clock_monotonic_ns();
    take(alerts, 1, 1, second);
    assert_true(alerts_flush(alerts, 60000));
    assert_true(seconds_since(began) > 2 + 1 - 0.1);
    assert_int_equal(lines_with("requests", ""), 3);
    assert_int_equal(counts_of(alerts).delivered, 1);
    alerts_close(&alerts, 0);
    assert_int_equal(stop(&server, 0), 0);
}

static void gives_up_after_its_tries(void **state)
{
    (void)state;
    struct child server = SERVE("503", "503", "200");
    struct heard heard;
    struct alerts_settings settings = posting(&heard);
    settings.webhook_tries = 2;
    struct alerts *alerts = open_alerts(&settings);
    take(alerts, 1, 1, second);
    take(alerts, 2, 2, second);
    assert_true(alerts_flush(alerts, 60000));
    assert_int_equal(lines_with("requests", "{\"n\":1,"), 2);
    assert_int_equal(lines_with("requests", "{\"n\":2,"), 1);
    assert_int_equal(counts_of(alerts).failed, 1);
    assert_int_equal(counts_of(alerts).delivered, 1);
    alerts_close(&alerts, 0);
    assert_int_equal(stop(&server, 0), 0);
}

/* A server that never answers: who raises alarms does not notice, nor does who closes. */
static void stalled_server(void **state)
{
    (void)state;
    struct child server = SERVE("stall");
    struct heard heard;
    struct alerts_settings settings = posting(&heard);
    settings.queue_max = 10;
    struct alerts *alerts = open_alerts(&settings);
    take(alerts, 0, 0, second);
    wait_until(lines_with("requests", "") == 1);
    uint64_t began = clock_monotonic_ns();
    for (int i = 1; i <= 1000; i++)
        take(alerts, (uint64_t)i, i, second);
    print_message("1,000 alarms past a server that stalls: %.2f ms\n",
                  seconds_since(began) * 1e3);
    assert_true(seconds_since(began) < 20);
    assert_int_equal(counts_of(alerts).dropped, 990);
    began = clock_monotonic_ns();
    alerts_close(&alerts, 200);
    assert_true(seconds_since(began) < 20);
    assert_int_equal(stop(&server, SIGKILL), -SIGKILL);
}

static void nobody_listens(void **state)
{
    (void)state;
    struct heard heard;
    struct alerts_settings settings = posting(&heard);
    settings.webhook = "http://127.0.0.1:9/";
    struct alerts *alerts = open_alerts(&settings);
    take(alerts, 1, 1, second);
    wait_until((alerts_tick(alerts, second), heard.notes > 0));
    assert_false(alerts_flush(alerts, 100));
    assert_non_null(strstr(heard.note, "is away"));
    settings.webhook_tries = 1;
    alerts_close(&alerts, 0);
    alerts = open_alerts(&settings);
    take(alerts, 1, 1, second);
    assert_true(alerts_flush(alerts, 60000));
    assert_non_null(strstr(heard.note, "after 1 try"));
    assert_int_equal(counts_of(alerts).failed, 1);
    alerts_close(&alerts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(breaks_stalls_and_recovers), cmocka_unit_test(final_answers),
        cmocka_unit_test(asked_to_wait),              cmocka_unit_test(gives_up_after_its_tries),
        cmocka_unit_test(stalled_server),             cmocka_unit_test(nobody_listens),
    };
    setenv("no_proxy", "127.0.0.1", 1);     /* a proxy of the machine must not be asked */
    struct child probe = start((const char *const[]){ "python3", "-c", "", NULL });
    if (stop(&probe, 0) == 127)
        return 77;
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
