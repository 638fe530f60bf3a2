/* Alarms on a bus of their own: a dbus-daemon of the test, and dbus-monitor as who listens. Skipped
 * (77) where these are absent. */
#include "alerts_rig.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>

static char address[128];

static struct child start_bus(void)
{
    char option[160], line[256];
    snprintf(address, sizeof address, "unix:path=%s/bus", folder);
    snprintf(option, sizeof option, "--address=%s", address);
    struct child bus = start((const char *const[]){ "dbus-daemon", "--session", "--nofork",
                                                    "--nopidfile", "--print-address", option,
                                                    NULL });
    read_line(&bus, line, sizeof line);
    return bus;
}

/* Returns once it sees signals: it sees one of ours that is sent until then. */
static struct child start_listener(void)
{
    char sender[160];
    snprintf(sender, sizeof sender, "--bus=%s", address);
    struct child listener = start((const char *const[]){
        "dbus-monitor", "--address", address, "type='signal',interface='org.akin.Watch1'", NULL });
    struct pollfd ready = { .fd = listener.out, .events = POLLIN };
    for (int i = 0; i < 100; i++) {
        struct child send = start((const char *const[]){
            "dbus-send", sender, "--type=signal", "/test", "org.akin.Watch1.Ready", NULL });
        assert_int_equal(stop(&send, 0), 0);
        if (poll(&ready, 1, 100) == 1)
            break;
    }
    return listener;
}

/* All that it prints until `part` comes, for at most a minute. */
static bool hears(const struct child *listener, const char *part, struct bytes *text)
{
    char some[4096];
    struct pollfd ready = { .fd = listener->out, .events = POLLIN };
    while (!(text->data && strstr(text->data, part))) {
        ssize_t got = poll(&ready, 1, 60000) == 1 ? read(listener->out, some, sizeof some) : 0;
        if (got <= 0)
            return false;
        bytes_append(text, some, (size_t)got);
    }
    return true;
}

static void signal_arrives(void **state)
{
    (void)state;
    struct child bus = start_bus(), listener = start_listener();
    struct heard heard;
    struct bytes text = { 0 };
    struct alerts_settings settings = settings_for(&heard);
    settings.bus = address;
    struct alerts *alerts = open_alerts(&settings);
    take(alerts, 1, 1, second);
    assert_true(hears(&listener, "\"n\":1", &text));
    assert_non_null(strstr(text.data, "path=/org/akin/Watch; interface=org.akin.Watch1; "
                                      "member=Alert"));
    assert_non_null(strstr(text.data, "string \"{\"n\":1,\"count\":1}\""));
    for (int i = 2; i <= 100; i++)
        take(alerts, (uint64_t)i, i, second);
    assert_true(alerts_flush(alerts, 60000));
    assert_int_equal(counts_of(alerts).delivered, 100);
    assert_true(hears(&listener, "\"n\":100", &text));
    struct alert bad = { .kind = 5000, .severity = ALERT_HIGH, .json = "{\"x\":\"\xff\"}",
                         .json_bytes = 9 };
    alerts_take(alerts, &bad, second);          /* no text of D-Bus; those behind it go on */
    take(alerts, 5001, 5001, second);
    assert_true(alerts_flush(alerts, 60000));
    assert_int_equal(counts_of(alerts).failed, 1);
    assert_int_equal(counts_of(alerts).delivered, 101);

    stop(&bus, SIGKILL);                        /* and back */
    stop(&listener, SIGKILL);
    unlink(address + strlen("unix:path="));
    take(alerts, 6000, 6000, second);
    wait_until((alerts_tick(alerts, second), strstr(heard.note, "is away")));
    bus = start_bus();
    assert_true(alerts_flush(alerts, 60000));
    assert_int_equal(counts_of(alerts).delivered, 102);
    listener = start_listener();
    bytes_clear(&text);
    take(alerts, 6001, 6001, second);
    assert_true(hears(&listener, "\"n\":6001", &text));
    alerts_close(&alerts, 1000);
    stop(&bus, SIGKILL);
    stop(&listener, SIGKILL);
    bytes_deinit(&text);
}

/* A bus that accepts and says nothing, and one that is not there. */
static void no_bus(void **state)
{
    (void)state;
    struct heard heard;
    struct alerts_settings settings = settings_for(&heard);
    settings.bus = "unix:path=/no/such/bus";
    struct alerts *alerts = open_alerts(&settings);
    take(alerts, 1, 1, second);
    wait_until((alerts_tick(alerts, second), heard.notes > 0));
    uint64_t began = clock_monotonic_ns();
    assert_false(alerts_flush(alerts, 200));
    assert_non_null(strstr(heard.note, "bus unix:path=/no/such/bus is away"));
    alerts_close(&alerts, 100);
    assert_true(seconds_since(began) < 20);
    struct akin_error error = { 0 };
    settings.bus = "nonsense";
    assert_int_equal(alerts_open(&settings, &alerts, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "'nonsense'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signal_arrives),
        cmocka_unit_test(no_bus),
    };
    struct alerts_settings settings;
    struct alerts *alerts = NULL;
    alerts_settings_default(&settings);
    settings.bus = "session";
    if (alerts_open(&settings, &alerts, NULL) == AKIN_UNSUPPORTED)
        return 77;
    alerts_close(&alerts, 0);
    static const char *const programs[] = { "dbus-daemon", "dbus-monitor", "dbus-send" };
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        struct child probe = start((const char *const[]){ programs[i], "--version", NULL });
        if (stop(&probe, 0) == 127)
            return 77;
    }
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
