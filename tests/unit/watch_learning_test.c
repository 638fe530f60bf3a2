/* What a history that holds trouble teaches: sessions, bursts, kinds that were never seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "watch/scorer.h"
#include "watch/session.h"
#include "watch/watch.h"

static char path[] = "/tmp/akin_learning_XXXXXX";

struct seen {
    size_t events, event_alerts, good_alerts, bad_alerts, good, bad;
};

/* Bad sessions have a name that begins with b; of bad events nothing is said. */
static bool see_session(void *cookie, const struct akin_session_verdict *v)
{
    struct seen *seen = cookie;
    bool bad = v->name[0] == 'b';
    seen->good += !bad;
    seen->bad += bad;
    seen->good_alerts += !bad && v->alert;
    seen->bad_alerts += bad && v->alert;
    return true;
}

static bool see_event(void *cookie, const struct akin_event_verdict *v)
{
    struct seen *seen = cookie;
    seen->events++;
    seen->event_alerts += v->alert;
    return true;
}

static struct seen watch_text(const struct bytes *text, int train_until)
{
    struct seen seen = {0};
    struct akin_watch_input input = {.path = path, .session_field = "session", .batch = 64,
                                     .train_until = (uint64_t)train_until};
    struct akin_watch_sink sink = {&seen, see_event, see_session, NULL};
    struct akin_watch_settings settings;
    struct akin_watch_report report;
    struct watch *watch = NULL;
    assert_false(text->failed);
    assert_int_equal(file_write(path, text->data, text->count, NULL), AKIN_OK);
    scorer_settings_default(&settings);
    assert_int_equal(watch_open(&(struct scorer_tools){0}, &settings, &watch, NULL), AKIN_OK);
    assert_int_equal(watch_run(watch, &input, &sink, &report, NULL), AKIN_OK);
    watch_close(&watch);
    return seen;
}

static void add(struct bytes *text, int *seq, const char *kind, int session, const char *event)
{
    bytes_printf(text, "{\"seq\":%d,\"session\":\"%s%d\",\"text\":\"%s\"}\n", (*seq)++, kind,
                 session, event);
}

/* One of 16 sessions is bad, always in the same way, in the history too. */
static void trouble_that_comes_again_is_not_learned(void **state)
{
    struct bytes text = {0};
    int seq = 0, train_until = 0;
    (void)state;
    for (int s = 0; s < 1200; s++) {
        bool bad = s % 16 == 7;
        if (s == 800)
            train_until = seq;
        add(&text, &seq, bad ? "b" : "g", s, "allocate block");
        for (int i = 0; i < 3; i++)
            add(&text, &seq, bad ? "b" : "g", s, "receive block");
        if (bad)
            add(&text, &seq, "b", s, "exception while writing");
        for (int i = 0; i < 3 && !bad; i++)
            add(&text, &seq, "g", s, "block stored");
        for (int i = 0; i < s % 7 % 3 && !bad; i++)
            add(&text, &seq, "g", s, "block served");
        if (s % 5 == 0 && !bad)
            add(&text, &seq, "g", s, "block verified");
    }
    struct seen seen = watch_text(&text, train_until);
    assert_int_equal(seen.bad, 25);
    assert_int_equal(seen.bad_alerts, 25);
    assert_int_equal(seen.good_alerts, 0);
    bytes_deinit(&text);
}

/* Each session ends 700 sessions after it began, so that the gap within one is most of the history:
 * those that end in it are learned all the same. */
static void sessions_that_rest_are_learned(void **state)
{
    struct bytes text = {0};
    int seq = 0, train_until = 0, rest = 700;
    (void)state;
    for (int s = 0; s < 2000; s++) {
        if (s == 1000)
            train_until = seq;
        add(&text, &seq, "g", s, "allocate block");
        add(&text, &seq, "g", s, "block stored");
        if (s >= rest)
            add(&text, &seq, "g", s - rest, "block deleted");
    }
    for (int s = 0; s < 10; s++)
        for (int i = 0; i < 3; i++)
            add(&text, &seq, "b", s, i == 1 ? "block deleted" : "block stored");
    struct seen seen = watch_text(&text, train_until);
    assert_int_equal(seen.bad_alerts, 10);
    assert_true(seen.good_alerts < seen.good / 50);
    bytes_deinit(&text);
}

static void add_steady(struct bytes *text, int *seq, int count)
{
    for (int i = 0; i < count; i++)
        bytes_printf(text, "{\"seq\":%d,\"text\":\"%s\"}\n", (*seq)++,
                     i % 50 == 0 ? "port deleted" : i % 2 ? "strength changed" : "owner changed");
}

static void add_burst(struct bytes *text, int *seq)
{
    for (int i = 0; i < 80; i++)
        bytes_printf(text, "{\"seq\":%d,\"text\":\"port deleted\"}\n", (*seq)++);
}

static void bursts_raise_alarms_where_they_are_rare(void **state)
{
    (void)state;
    for (int every = 0; every <= 500; every += 500) {
        struct bytes text = {0};
        int seq = 0;
        for (int i = 0; i < 20; i++) {
            add_steady(&text, &seq, 500);
            if (every || i == 10) /* one in the history does not make them usual */
                add_burst(&text, &seq);
        }
        int train_until = seq;
        add_steady(&text, &seq, 500);
        add_burst(&text, &seq);
        add_steady(&text, &seq, 500);
        struct seen seen = watch_text(&text, train_until);
        if (every)
            assert_int_equal(seen.event_alerts, 0);
        else
            assert_in_range(seen.event_alerts, 10, 80);
        bytes_deinit(&text);
    }
}

/* Sources such as a bus tell no severities; what never came before is alarm enough there. */
static void a_new_kind_without_severity_raises_an_alarm(void **state)
{
    struct bytes text = {0};
    int seq = 0;
    (void)state;
    for (int i = 0; i < 50; i++) {
        add_steady(&text, &seq, 100);
        for (int k = 0; k < 12; k++)
            bytes_printf(&text, "{\"seq\":%d,\"text\":\"%c unit has started\"}\n", seq++, 'a' + k);
    }
    int train_until = seq;
    add_steady(&text, &seq, 100);
    bytes_printf(&text, "{\"seq\":%d,\"text\":\"bridge deleted\"}\n", seq++);
    struct seen seen = watch_text(&text, train_until);
    assert_int_equal(seen.event_alerts, 1);
    bytes_deinit(&text);
}

static void sessions_of_long_ago_fade(void **state)
{
    enum { MANY = 1 << 15 };
    struct session_step before[] = {{1 << 8, 0}, {2 << 8, 0}}, now[] = {{3 << 8, 0}, {4 << 8, 0}};
    struct session old = {.steps = before, .step_count = 2}, new = {.steps = now, .step_count = 2};
    double at_first[SESSION_PARTS], at_last[SESSION_PARTS];
    struct session_model *model = session_model_create();
    (void)state;
    assert_non_null(model);
    for (int i = 0; i < MANY; i++)
        assert_true(session_model_learn(model, i % 2 ? &old : &new));
    session_model_measure(model, &old, false, at_first);
    for (int i = 0; i < 14 * MANY; i++)
        assert_true(session_model_learn(model, &new));
    session_model_measure(model, &old, false, at_last);
    assert_true(at_first[SESSION_COUNTS] < 0.001);
    assert_true(at_last[SESSION_COUNTS] > 0.1);
    assert_true(at_last[SESSION_ORDER] > at_first[SESSION_ORDER] + 4);
    assert_true(session_model_count(model) < 2.5 * MANY);
    session_model_measure(model, &new, false, at_last);
    assert_true(at_last[SESSION_COUNTS] < 0.001);
    session_model_destroy(&model);
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trouble_that_comes_again_is_not_learned),
        cmocka_unit_test(sessions_that_rest_are_learned),
        cmocka_unit_test(bursts_raise_alarms_where_they_are_rare),
        cmocka_unit_test(a_new_kind_without_severity_raises_an_alarm),
        cmocka_unit_test(sessions_of_long_ago_fade),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
