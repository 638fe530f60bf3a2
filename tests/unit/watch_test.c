/* Events, kinds, tails and sessions, and the whole of it without a model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/limits.h"
#include "events/event.h"
#include "watch/scorer.h"
#include "watch/tail.h"
#include "watch/template.h"
#include "watch/watch.h"

static char folder[] = "/tmp/akin_watch_XXXXXX";
static char path[256];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/e.jsonl", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return path_remove_tree(folder, NULL);
}

/* ---- events ------------------------------------------------------------------------------ */

static void events_are_read(void **state)
{
    static const char line[] =
        "{\"seq\":7,\"message\":\"a\\u0000b\",\"src\":\"s\",\"level\":\"ERROR\","
        "\"vm\":\"v\",\"ts\":\"t\"}";
    const struct akin_event_fields vm = {.session = "vm"};
    struct event e = {0};
    (void)state;
    assert_int_equal(event_parse(&e, EVENT_JSONL, line, sizeof line - 1, &vm, 3, "x", NULL), 0);
    assert_int_equal(e.seq, 7);
    assert_int_equal(e.text_bytes, 3);
    assert_memory_equal(e.text, "a\0b", 3);
    assert_string_equal(e.source, "s");
    assert_string_equal(e.session, "v");
    assert_string_equal(e.time, "t");
    assert_int_equal(event_severity(e.level), 2);
    assert_int_equal(event_parse(&e, EVENT_PLAIN, "x\xff", 2, &vm, 3, "x", NULL), 0);
    assert_int_equal(e.seq, 3);
    assert_string_equal(e.text, "x\xef\xbf\xbd");
    event_clear(&e);
}

static void bad_events_are_named(void **state)
{
    static const char *const lines[] = {"",
                                        "[]",
                                        "{\"text\":5}",
                                        "{\"text\":\"\"}",
                                        "{\"text\"",
                                        "{\"text\":\"a\",\"seq\":-1}",
                                        "{\"text\":\"a\",\"seq\":\"b\"}",
                                        "{\"text\":\"\xff\"}"};
    struct event e = {0};
    struct akin_error error;
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_int_equal(event_parse(&e, EVENT_JSONL, lines[i], strlen(lines[i]), NULL, 0,
                                     "f:9", &error), AKIN_FORMAT);
        assert_non_null(strstr(error.message, "f:9"));
    }
    char *large = memory_alloc(EVENT_BYTES_MAX + 1, 1);
    assert_non_null(large);
    assert_int_equal(event_parse(&e, EVENT_PLAIN, large, EVENT_BYTES_MAX + 1, NULL, 0, "f:9",
                                 &error),
                     AKIN_LIMIT);
    assert_int_equal(event_parse(&e, EVENT_PLAIN, large, EVENT_BYTES_MAX, NULL, 0, "f:9", &error),
                     AKIN_OK);
    memory_free(large);
    event_clear(&e);
}

/* ---- kinds ------------------------------------------------------------------------------- */

static uint32_t find(struct templates *t, const char *text, bool *added)
{
    return templates_find(t, text, strlen(text), added);
}

static void kinds_stay_and_join(void **state)
{
    struct templates *t = templates_create(64);
    char text[64];
    bool added;
    (void)state;
    uint32_t started = find(t, "vm started now", &added);
    assert_true(added);
    uint64_t id = templates_at(t, started)->id;
    assert_int_not_equal(find(t, "vm paused now", &added), started);
    assert_int_equal(find(t, "vm started now", &added), started);
    assert_false(added);
    assert_int_equal(templates_at(t, started)->id, id);
    for (int i = 0; i < 2 * TEMPLATE_SIBLINGS; i++) {
        snprintf(text, sizeof text, "user u%c logged in", 'a' + i);
        uint32_t slot = find(t, text, &added);
        templates_at(t, slot)->count += 1;
    }
    uint32_t joined = find(t, "user anybody logged in", &added);
    assert_false(added);
    assert_string_equal(templates_at(t, joined)->text, "user <*> logged in");
    assert_true(templates_at(t, joined)->count == 2 * TEMPLATE_SIBLINGS);
    assert_int_equal(templates_count(t), 3);
    templates_destroy(&t);
}

static void kinds_are_bounded(void **state)
{
    struct templates *t = templates_create(64);
    char text[64];
    bool added;
    (void)state;
    for (int i = 0; i < 20000; i++) { /* two words differ, so that none joins */
        snprintf(text, sizeof text, "w%x new %x kind", i % 97, i);
        assert_int_not_equal(find(t, text, &added), UINT32_MAX);
        assert_true(templates_count(t) <= 64);
        if (i % 10 == 0)
            find(t, "often seen", &added);
    }
    find(t, "often seen", &added);
    assert_false(added);
    templates_destroy(&t);
}

/* ---- tails ------------------------------------------------------------------------------- */

static void tails_are_monotone_and_calibrated(void **state)
{
    enum { COUNT = 10000 };
    static double values[COUNT];
    (void)state;
    for (int i = 0; i < COUNT; i++) /* an exponential distribution; one in twenty is far off */
        values[i] = i % 20 == 0 ? 1000 : -__builtin_log((i + 0.5) / COUNT);
    struct tail tail = tail_fit(values, COUNT, 1e-6);
    double last = -1;
    for (double x = -5; x < 50; x += 0.25) {
        double surprise = tail_surprise(&tail, x);
        assert_true(surprise > last && surprise >= 0);
        last = surprise;
    }
    /* The truth is x; what is far off in the history may cost a share of it, not more. */
    assert_true(tail_surprise(&tail, 7) > 5 && tail_surprise(&tail, 7) < 8);
    tail = tail_fit(values, 0, 0.5);
    assert_true(tail_surprise(&tail, 1) > tail_surprise(&tail, 0));
}

/* ---- all of it --------------------------------------------------------------------------- */

struct seen {
    size_t events, alerts, sessions;
    char alarmed[512];
    double usual, unusual;
};

static bool see_event(void *cookie, const struct akin_event_verdict *v)
{
    struct seen *seen = cookie;
    seen->events++;
    seen->alerts += v->alert;
    if (strstr(v->text, "panic"))
        seen->unusual = v->score;
    else
        seen->usual = v->score;
    return true;
}

static bool see_session(void *cookie, const struct akin_session_verdict *v)
{
    struct seen *seen = cookie;
    seen->sessions++;
    size_t used = strlen(seen->alarmed);
    if (v->alert)
        snprintf(seen->alarmed + used, sizeof seen->alarmed - used, "%s", v->name);
    return true;
}

static void add_session(struct bytes *out, int *seq, int session, const char *const *steps)
{
    for (; *steps; steps++, ++*seq)
        bytes_printf(out, "{\"seq\":%d,\"session\":\"s%d\",\"text\":\"%s %d\"}\n", *seq, session,
                     *steps, session);
}

static enum akin_status run(const struct akin_watch_input *input, struct seen *seen,
                            struct akin_watch_report *report, struct akin_error *error)
{
    struct akin_watch_settings settings;
    struct watch *watch = NULL;
    struct akin_watch_sink sink = {seen, see_event, see_session, NULL};
    scorer_settings_default(&settings);
    assert_int_equal(watch_open(&(struct scorer_tools){0}, &settings, &watch, NULL), AKIN_OK);
    enum akin_status status = watch_run(watch, input, &sink, report, error);
    watch_close(&watch);
    return status;
}

static void sessions_and_events_are_told_apart(void **state)
{
    static const char *const usual[] = {"open", "read", "write", "close", NULL};
    static const char *const longer[] = {"open", "read", "read", "write", "close", NULL};
    static const char *const cut_off[] = {"open", "read", "write", NULL};
    static const char *const turned[] = {"close", "write", "read", "open", NULL};
    static const char *const worse[] = {"open", "kernel panic in", "read", "write", "close", NULL};
    struct akin_watch_input input = {.path = path, .session_field = "session"};
    struct bytes text = {0};
    int seq = 0, session = 0;
    (void)state;
    for (; session < 300; session++)
        add_session(&text, &seq, session, session % 3 ? usual : longer);
    input.train_until = (uint64_t)seq;
    add_session(&text, &seq, 1000, usual);
    add_session(&text, &seq, 1001, cut_off);
    add_session(&text, &seq, 1002, longer);
    add_session(&text, &seq, 1003, turned);
    add_session(&text, &seq, 1004, worse);
    add_session(&text, &seq, 1005, usual);
    assert_int_equal(file_write(path, text.data, text.count, NULL), AKIN_OK);
    for (input.batch = 1; input.batch < 5000; input.batch *= 7) {
        struct seen seen = {0};
        struct akin_watch_report report;
        assert_int_equal(run(&input, &seen, &report, NULL), AKIN_OK);
        assert_int_equal(report.events, seq);
        assert_int_equal(seen.events, (uint64_t)seq - input.train_until);
        assert_int_equal(seen.sessions, 6);
        assert_string_equal(seen.alarmed, "s1001s1003s1004");
        assert_true(seen.unusual > 2 * seen.usual);
    }
    bytes_deinit(&text);
}

static void bad_lines_are_named_or_counted(void **state)
{
    static const char text[] = "{\"text\":\"a\"}\n{broken\n\n{\"text\":\"b\"}";
    struct akin_watch_input input = {.path = path, .session_field = "session", .batch = 8};
    struct akin_watch_report report;
    struct akin_error error;
    struct seen seen = {0};
    (void)state;
    assert_int_equal(file_write(path, text, sizeof text - 1, NULL), AKIN_OK);
    assert_int_equal(run(&input, &seen, &report, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, ":2"));
    input.skip_bad = true;
    assert_int_equal(run(&input, &seen, &report, &error), AKIN_OK);
    assert_int_equal(report.bad_lines, 1);
    assert_int_equal(report.scored, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_read), cmocka_unit_test(bad_events_are_named),
        cmocka_unit_test(kinds_stay_and_join), cmocka_unit_test(kinds_are_bounded),
        cmocka_unit_test(tails_are_monotone_and_calibrated),
        cmocka_unit_test(sessions_and_events_are_told_apart),
        cmocka_unit_test(bad_lines_are_named_or_counted),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
