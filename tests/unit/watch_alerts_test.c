/* Which alarms are the same, what is told of them and when; the file and the socket that they go
 * to, both of which go away and come back, fill up, and do not hold up who raises alarms. */
#include "alerts_rig.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/limits.h"

/* ---- the table -------------------------------------------------------------------------- */

static void severities(void **state)
{
    (void)state;
    assert_int_equal(alert_severity_of(1e-3, 0), ALERT_LOW);
    assert_int_equal(alert_severity_of(1e-5, 1), ALERT_MEDIUM);
    assert_int_equal(alert_severity_of(1e-7, 1), ALERT_HIGH);
    assert_int_equal(alert_severity_of(0, 0), ALERT_HIGH);
    assert_int_equal(alert_severity_of(1e-7, 2), ALERT_CRITICAL);
    assert_int_equal(alert_severity_of(1e-5, 2), ALERT_HIGH);
    assert_int_equal(alert_severity_of(1e-9, 3), ALERT_CRITICAL);
    assert_int_equal(alert_severity_of(1e-3, 3), ALERT_HIGH);
    assert_int_equal(alert_severity_of(0.0 / 0.0, -5), ALERT_LOW);
    assert_string_equal(alert_severity_name(ALERT_CRITICAL), "critical");
}

static void ten_thousand_are_one(void **state)
{
    (void)state;
    struct heard heard;
    struct alerts_settings settings = settings_for(&heard);
    struct alerts *alerts = open_alerts(&settings);
    uint64_t now = 5 * second;
    for (int i = 1; i <= 10000; i++) {
        assert_true(take(alerts, 7, i, now + (uint64_t)i * 1000000));
        assert_true(alerts_tick(alerts, now + (uint64_t)i * 1000000));
    }
    assert_int_equal(heard.count, 1);
    assert_string_equal(heard.last, "{\"n\":1,\"count\":1}");
    alerts_tick(alerts, now + 61 * second);     /* a minute after the first */
    assert_int_equal(heard.count, 2);
    assert_string_equal(heard.last, "{\"n\":10000,\"count\":10000,\"repeated\":true}");
    alerts_tick(alerts, now + 62 * second);
    assert_int_equal(heard.count, 2);
    take(alerts, 7, 1, now + 63 * second);      /* it goes on */
    assert_int_equal(heard.count, 2);
    alerts_tick(alerts, now + 122 * second);
    assert_string_equal(heard.last, "{\"n\":1,\"count\":10001,\"repeated\":true}");
    alerts_tick(alerts, now + 200 * second);    /* and is over */
    take(alerts, 7, 2, now + 201 * second);
    assert_string_equal(heard.last, "{\"n\":2,\"count\":1}");
    take(alerts, 7, 3, now + 202 * second);
    assert_int_equal(heard.count, 4);
    assert_true(alerts_flush(alerts, 0));       /* an end tells the rest */
    assert_string_equal(heard.last, "{\"n\":3,\"count\":2,\"repeated\":true}");
    struct alerts_counts counts = counts_of(alerts);
    assert_int_equal(counts.taken, 10003);
    assert_int_equal(counts.told, 2);
    assert_int_equal(counts.repeated, 3);
    assert_int_equal(counts.delivered + counts.failed + counts.dropped, 0);
    alerts_close(&alerts, 0);
    assert_null(alerts);
    assert_int_equal(heard.count, 5);
    alerts_close(&alerts, 0);
}

/* Without a call of alerts_tick, and with a clock that goes backwards. */
static void taking_is_enough(void **state)
{
    (void)state;
    struct heard heard;
    struct alerts_settings settings = settings_for(&heard);
    settings.repeat_seconds = 10;
    struct alerts *alerts = open_alerts(&settings);
    for (uint64_t t = 0; t < 100; t++)
        take(alerts, 1, 0, (100 + t) * second);
    assert_int_equal(heard.count, 10);
    assert_string_equal(heard.last, "{\"n\":0,\"count\":91,\"repeated\":true}");
    take(alerts, 1, 0, 3 * second);
    assert_int_equal(heard.count, 10);
    take(alerts, 1, 0, 1000 * second);          /* over, and begun again */
    assert_int_equal(heard.count, 12);
    assert_string_equal(heard.last, "{\"n\":0,\"count\":1}");
    alerts_close(&alerts, 0);
    settings.repeat_seconds = 0;
    alerts = open_alerts(&settings);
    heard.count = 0;
    for (int i = 0; i < 5; i++)
        take(alerts, 1, i, second);
    assert_int_equal(heard.count, 5);
    assert_string_equal(heard.last, "{\"n\":4,\"count\":1}");
    alerts_close(&alerts, 0);
    assert_int_equal(heard.count, 5);
}

static void what_makes_them_the_same(void **state)
{
    (void)state;
    struct heard heard;
    struct alerts_settings settings = settings_for(&heard);
    settings.severity_min = ALERT_MEDIUM;
    struct alerts *alerts = open_alerts(&settings);
    struct alert alert = { .kind = 1, .source = "a", .severity = ALERT_HIGH, .json = "{}",
                           .json_bytes = 2 };
    alerts_take(alerts, &alert, second);
    assert_string_equal(heard.last, "{\"count\":1}");
    alert.source = "b";
    alerts_take(alerts, &alert, second);
    alert.severity = ALERT_CRITICAL;
    alerts_take(alerts, &alert, second);
    alert.kind = 2;
    alerts_take(alerts, &alert, second);
    assert_int_equal(heard.count, 4);
    alerts_take(alerts, &alert, second);
    alert.severity = ALERT_LOW;
    alerts_take(alerts, &alert, second);
    assert_int_equal(heard.count, 4);
    alert = (struct alert){ .severity = ALERT_HIGH, .json = "{ \n}", .json_bytes = 4 };
    alerts_take(alerts, &alert, second);
    assert_string_equal(heard.last, "{  \"count\":1}");
    heard.stop = true;
    alert.kind = 3;
    assert_false(alerts_take(alerts, &alert, second));
    heard.stop = false;
    char *big = memory_alloc(ALARM_BYTES_MAX + 1, 1);
    memset(big, ' ', ALARM_BYTES_MAX + 1);
    big[0] = '{';
    big[ALARM_BYTES_MAX] = '}';
    alert.json = big;
    alert.json_bytes = ALARM_BYTES_MAX + 1;
    assert_true(alerts_take(alerts, &alert, second));
    assert_int_equal(counts_of(alerts).dropped, 1);
    memory_free(big);
    alerts_close(&alerts, 0);
}

/* More kinds than there is room for: what is forgotten is told first, so the counts add up. */
static void many_kinds(void **state)
{
    (void)state;
    struct heard heard;
    struct alerts_settings settings = settings_for(&heard);
    struct alerts *alerts = open_alerts(&settings);
    for (uint64_t kind = 0; kind < 5000; kind++)
        for (int i = 0; i < 3; i++)
            take(alerts, kind, i, second + kind);
    assert_int_equal(heard.count, 5000 + 5000 - ALARM_KINDS_MAX);
    take(alerts, 4999, 9, second);
    assert_int_equal(counts_of(alerts).told, 5000);
    take(alerts, 0, 9, second);                 /* was forgotten */
    assert_int_equal(counts_of(alerts).told, 5001);
    alerts_close(&alerts, 0);
    /* and so are bytes */
    alerts = open_alerts(&settings);
    size_t bytes = (size_t)1 << 20;
    char *json = memory_alloc(bytes, 1);
    memset(json, ' ', bytes);
    json[0] = '{';
    json[bytes - 1] = '}';
    struct alert alert = { .severity = ALERT_HIGH, .json = json, .json_bytes = bytes };
    settings.print = NULL;
    for (alert.kind = 0; alert.kind < 200; alert.kind++)
        alerts_take(alerts, &alert, second + alert.kind);
    assert_int_equal(counts_of(alerts).told, 200);
    alert.kind = 0;
    alerts_take(alerts, &alert, second + 500);
    assert_int_equal(counts_of(alerts).told, 201);
    alert.kind = 199;
    alerts_take(alerts, &alert, second + 500);
    assert_int_equal(counts_of(alerts).told, 201);
    memory_free(json);
    alerts_close(&alerts, 0);
}

static void wrong_settings(void **state)
{
    (void)state;
    static char longest[200];
    char path[PATH_BYTES_MAX];
    struct heard heard;
    struct alerts_settings settings = settings_for(&heard), good = settings;
    struct alerts *alerts = NULL;
    struct akin_error error;
#define REFUSES(what, status_wanted, part)                                          \
    do {                                                                            \
        settings = good;                                                            \
        settings.what;                                                              \
        memset(&error, 0, sizeof error);                                            \
        assert_int_equal(alerts_open(&settings, &alerts, &error), status_wanted);   \
        assert_null(alerts);                                                        \
        if (!strstr(error.message, part))                                           \
            fail_msg("'%s' lacks '%s'", error.message, part);                       \
    } while (0)
    REFUSES(repeat_seconds = -1, AKIN_ARGUMENT, "-1 s");
    REFUSES(repeat_seconds = 0.0 / 0.0, AKIN_ARGUMENT, "nan");
    REFUSES(queue_max = 0, AKIN_ARGUMENT, "0 alarms");
    REFUSES(queue_max = SIZE_MAX, AKIN_ARGUMENT, "alarms may wait");
    REFUSES(webhook_tries = 0, AKIN_ARGUMENT, "webhook");
    REFUSES(webhook_timeout_ms = 0, AKIN_ARGUMENT, "webhook");
    REFUSES(webhook = "file:///etc/passwd", AKIN_ARGUMENT, "http://");
    REFUSES(webhook = "nonsense", AKIN_ARGUMENT, "https://");
    REFUSES(webhook = "htps://user:secret@host/", AKIN_ARGUMENT, "http://");
    assert_null(strstr(error.message, "secret"));
    REFUSES(webhook = "", AKIN_ARGUMENT, "http://");
    REFUSES(file = "/no/such/folder/alarms", AKIN_NOT_FOUND, "/no/such/folder/alarms");
    REFUSES(file = "/tmp", AKIN_IO, "/tmp");
    REFUSES(file = "/dev/null", AKIN_ARGUMENT, "regular");
    REFUSES(socket = "", AKIN_ARGUMENT, "socket");
    memset(longest, 'x', sizeof longest - 1);
    REFUSES(socket = longest, AKIN_ARGUMENT, "107");
    assert_int_equal(mkfifo(in_test_folder(path, "fifo"), 0600), 0);
    REFUSES(file = path, AKIN_ARGUMENT, "regular");
}

/* ---- the file --------------------------------------------------------------------------- */

static void file_takes_whole_lines(void **state)
{
    (void)state;
    char path[PATH_BYTES_MAX], moved[PATH_BYTES_MAX];
    struct heard heard;
    struct alerts_settings settings = settings_for(&heard);
    settings.file = in_test_folder(path, "alarms.jsonl");
    assert_int_equal(file_write(path, "{\"n\":-1}\n{\"n\":", 14, NULL), AKIN_OK);    /* torn */
    struct alerts *alerts = open_alerts(&settings);
    for (int i = 0; i < 100; i++)
        take(alerts, (uint64_t)i, i, second);
    assert_true(alerts_flush(alerts, 60000));
    assert_int_equal(lines_with("alarms.jsonl", "\"count\":1}"), 100);
    assert_int_equal(lines_with("alarms.jsonl", "{\"n\":0,"), 1);
    assert_int_equal(lines_with("alarms.jsonl", ""), 102);
    assert_int_equal(rename(path, in_test_folder(moved, "alarms.1")), 0);   /* rotation */
    take(alerts, 200, 200, second);
    assert_true(alerts_flush(alerts, 60000));
    assert_int_equal(lines_with("alarms.jsonl", ""), 1);
    assert_int_equal(unlink(path), 0);
    take(alerts, 201, 201, second);
    assert_true(alerts_flush(alerts, 60000));
    assert_int_equal(lines_with("alarms.jsonl", "{\"n\":201,\"count\":1}"), 1);
    assert_int_equal(counts_of(alerts).delivered, 102);
    alerts_close(&alerts, 1000);
}

/* A file that may not grow stands in for a full disk. */
static void full_disk(void **state)
{
    (void)state;
    char path[PATH_BYTES_MAX];
    struct heard heard;
    struct alerts_settings settings = settings_for(&heard);
    struct rlimit before, small;
    settings.file = in_test_folder(path, "full.jsonl");
    signal(SIGXFSZ, SIG_IGN);
    struct alerts *alerts = open_alerts(&settings);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 95;        /* four lines and a part */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (int i = 0; i < 9; i++)
        take(alerts, (uint64_t)i, i, second);
    wait_until((alerts_tick(alerts, second), heard.notes > 0));
    uint64_t bytes = 0;
    assert_int_equal(path_bytes(path, &bytes, NULL), AKIN_OK);
    assert_int_equal(lines_with("full.jsonl", "\"count\":1}"), 5);
    assert_int_equal(bytes, 5 * strlen("{\"n\":0,\"count\":1}\n"));
    assert_non_null(strstr(heard.note, "file full.jsonl is away"));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(alerts_flush(alerts, 60000));
    assert_int_equal(lines_with("full.jsonl", "\"count\":1}"), 9);
    assert_int_equal(lines_with("full.jsonl", ""), 9);
    assert_non_null(strstr(heard.note, "takes alarms again"));
    assert_int_equal(heard.notes, 2);
    alerts_close(&alerts, 1000);
}

/* ---- the socket ------------------------------------------------------------------------- */

static int listen_at(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

/* Reads one line, waiting up to a minute. */
static void expect_line(int fd, const char *line)
{
    char text[256];
    size_t used = 0;
    struct pollfd ready = { .fd = fd, .events = POLLIN };
    while (used + 1 < sizeof text && poll(&ready, 1, 60000) == 1 &&
           recv(fd, text + used, 1, 0) == 1 && text[used] != '\n')
        used++;
    text[used] = 0;
    assert_string_equal(text, line);
}

static void socket_away_and_back(void **state)
{
    (void)state;
    char path[PATH_BYTES_MAX];
    struct heard heard;
    struct alerts_settings settings = settings_for(&heard);
    settings.socket = in_test_folder(path, "alarms");
    struct alerts *alerts = open_alerts(&settings);
    take(alerts, 1, 1, second);
    take(alerts, 2, 2, second);
    wait_until((alerts_tick(alerts, second), heard.notes > 0));
    assert_non_null(strstr(heard.note, "is away"));
    int door = listen_at(path), guest = accept(door, NULL, NULL);
    expect_line(guest, "{\"n\":1,\"count\":1}");
    expect_line(guest, "{\"n\":2,\"count\":1}");
    wait_until((alerts_tick(alerts, second), heard.notes == 2));
    close(guest);               /* the listener restarts */
    close(door);
    unlink(path);
    take(alerts, 3, 3, second);
    clock_sleep_us(250000);
    door = listen_at(path);
    guest = accept(door, NULL, NULL);
    expect_line(guest, "{\"n\":3,\"count\":1}");
    assert_int_equal(send(guest, "hello", 5, 0), 5);    /* nobody asked */
    take(alerts, 4, 4, second);
    expect_line(guest, "{\"n\":4,\"count\":1}");
    assert_true(alerts_flush(alerts, 60000));
    assert_int_equal(counts_of(alerts).delivered, 4);
    alerts_close(&alerts, 1000);
    close(guest);
    close(door);
}

/* A listener that does not read: the oldest go, nobody waits, and the file has them all. */
static void slow_sink(void **state)
{
    (void)state;
    char path[PATH_BYTES_MAX], file[PATH_BYTES_MAX];
    struct heard heard;
    struct alerts_settings settings = settings_for(&heard);
    settings.socket = in_test_folder(path, "slow");
    settings.file = in_test_folder(file, "beside.jsonl");
    settings.queue_max = 50000;
    int door = listen_at(path);
    struct alerts *alerts = open_alerts(&settings);
    uint64_t began = clock_monotonic_ns(), worst = 0;
    for (int i = 0; i < 100000; i++) {
        uint64_t before = clock_monotonic_ns();
        take(alerts, (uint64_t)i, i, second + (uint64_t)i);
        uint64_t took = clock_monotonic_ns() - before;
        worst = took > worst ? took : worst;
        while (i % 10000 == 9999 && counts_of(alerts).delivered < (uint64_t)i)
            clock_sleep_us(1000);               /* the file keeps up */
    }
    print_message("100,000 alarms past a listener that sleeps: %.2f s, slowest call %.2f ms\n",
                  seconds_since(began), (double)worst * 1e-6);
    assert_true(seconds_since(began) < 120);
    alerts_tick(alerts, second);
    assert_non_null(strstr(heard.note, "too slow"));
    wait_until(lines_with("beside.jsonl", "count") == 100000);
    struct alerts_counts counts = counts_of(alerts);
    assert_true(counts.dropped > 40000 && counts.dropped <= 50000);
    assert_int_equal(counts.failed, 0);
    began = clock_monotonic_ns();
    assert_false(alerts_flush(alerts, 100));
    alerts_close(&alerts, 100);
    assert_true(seconds_since(began) < 20);     /* 0.2 s, and what a busy machine adds */
    close(door);
}

static void close_does_not_wait_for_ever(void **state)
{
    (void)state;
    char path[PATH_BYTES_MAX];
    struct heard heard;
    struct alerts_settings settings = settings_for(&heard);
    settings.socket = in_test_folder(path, "nobody");
    struct alerts *alerts = open_alerts(&settings);
    take(alerts, 1, 1, second);
    wait_until((alerts_tick(alerts, second), heard.notes > 0));
    uint64_t began = clock_monotonic_ns();
    alerts_close(&alerts, 300);
    double seconds = seconds_since(began);
    assert_true(seconds >= 0.3 && seconds < 20);
    assert_non_null(strstr(heard.note, "is away"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(severities),
        cmocka_unit_test(ten_thousand_are_one),
        cmocka_unit_test(taking_is_enough),
        cmocka_unit_test(what_makes_them_the_same),
        cmocka_unit_test(many_kinds),
        cmocka_unit_test(wrong_settings),
        cmocka_unit_test(file_takes_whole_lines),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(socket_away_and_back),
        cmocka_unit_test(slow_sink),
        cmocka_unit_test(close_does_not_wait_for_ever),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
