/* The live pipeline: what is acknowledged is stored, nothing is lost or doubled over stops and
 * restarts, what cannot wait is dropped and counted, a full disk is waited for, labels are heeded.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/limits.h"
#include "live_watch_rig.h"

static struct live_rig rig;

static int set_up(void **state)
{
    (void)state;
    return rig_set_up(&rig) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    rig_tear_down(&rig);
    return 0;
}

/* ---- what the store and the trail hold --------------------------------------------------- */

struct seen {
    const char *origin;
    uint64_t next, count;       /* the number that the text must end with */
    bool in_order;
};

static bool see_stored(void *cookie, const struct stored_event *event)
{
    struct seen *seen = cookie;
    const char *number = strrchr(event->text, ' ');
    seen->in_order = seen->in_order && number
                     && strtoull(number, NULL, 10) == seen->next++;
    seen->count++;
    return true;
}

/* Every event of the origin from 0 on, once each, in order. */
static void assert_all_stored(const char *origin, uint64_t count)
{
    struct seen seen = {.in_order = true};
    const struct event_filter filter = {.origin = origin};
    assert_int_equal(event_store_read(rig.keeper.store, 0, false, &filter, see_stored, &seen,
                                      NULL), AKIN_OK);
    assert_int_equal(seen.count, count);
    assert_true(seen.in_order);
}

/* How many records of the trail hold `text`. */
static size_t trail_count(const char *text)
{
    struct akin_audit_reader *reader = NULL;
    struct akin_audit_entry entry;
    struct bytes data = {0};
    size_t count = 0;
    bool more = true;
    assert_int_equal(akin_audit_reader_open(rig.audit_path, 0, &reader, NULL), AKIN_OK);
    while (akin_audit_reader_next(reader, &entry, &more, NULL) == AKIN_OK && more) {
        bytes_clear(&data);
        bytes_append(&data, entry.data, entry.bytes);
        count += strstr(data.data, text) != NULL;
    }
    akin_audit_reader_close(&reader);
    bytes_deinit(&data);
    return count;
}

/* ---- tests ------------------------------------------------------------------------------- */

static void all_is_stored_and_acknowledged(void **state)
{
    struct made_source a = made_source("a", true, 3000), b = made_source("b", true, 500);
    struct made_source *const sources[] = {&a, &b};
    (void)state;
    rig_open(&rig, true);
    a.store = b.store = rig.keeper.store;
    a.odd = 2500;
    b.word = "wrote";
    assert_int_equal(rig_run(&rig, sources, 2, NULL), AKIN_OK);
    assert_int_equal(rig.report.received, 3500);
    assert_int_equal(rig.report.stored, 3500);
    assert_int_equal(rig.report.counts.learned, 200);
    assert_int_equal(rig.report.counts.scored, 3300);
    assert_int_equal(rig.report.dropped, 0);
    assert_int_equal(rig.report.source_count, 2);
    assert_int_equal(a.acknowledged, 3000);
    assert_int_equal(b.acknowledged, 500);
    assert_false(a.too_early || b.too_early);
    assert_all_stored("a", 3000);
    assert_all_stored("b", 500);
    assert_int_equal(rig.alarm_count, 1);
    assert_non_null(strstr(rig.alarms.data, "the kernel is on fire 2500"));
    assert_int_equal(trail_count("\"watch\":\"event\""), 3500);
    assert_int_equal(trail_count("\"alert\":true"), 1);
    rig_close(&rig);
    assert_int_equal(akin_audit_verify(rig.audit_path, NULL, NULL, NULL), AKIN_OK);
}

static void a_stop_in_a_burst_loses_nothing(void **state)
{
    uint64_t next = 0;
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct made_source a = made_source("a", true, 100000);
        struct made_source *const sources[] = {&a};
        char cursor[64];
        rig_open(&rig, false);
        assert_int_equal(event_store_cursor(rig.keeper.store, "a", cursor, sizeof cursor, NULL),
                         AKIN_OK);
        a.next = strtoull(cursor, NULL, 10);
        assert_int_equal(a.next, next);
        rig.stop_after = 1;
        assert_int_equal(rig_run(&rig, sources, 1, NULL), AKIN_OK);
        assert_int_equal(a.acknowledged, a.handed);     /* what was taken was stored */
        next = a.next;
        assert_all_stored("a", next);
        rig_close(&rig);
    }
    assert_true(next > 0);
}

static void what_is_delivered_again_is_stored_once(void **state)
{
    struct made_source a = made_source("a", true, 400), again = made_source("a", true, 700);
    struct made_source *const first[] = {&a}, *const second[] = {&again};
    (void)state;
    a.ids = again.ids = true;
    rig_open(&rig, true);
    assert_int_equal(rig_run(&rig, first, 1, NULL), AKIN_OK);
    atomic_store(&rig.stopping, false);
    assert_int_equal(rig_run(&rig, second, 1, NULL), AKIN_OK);
    assert_int_equal(rig.report.again, 400);
    assert_int_equal(again.acknowledged, 700);
    assert_all_stored("a", 700);
    assert_int_equal(trail_count("\"again\":true"), 400);
    rig_close(&rig);
}

static void who_cannot_wait_is_read_to_the_end(void **state)
{
    struct made_source a = made_source("a", false, 60000);
    struct made_source *const sources[] = {&a};
    struct event_store_info info;
    (void)state;
    rig_open(&rig, false);
    rig.live.queue_events = 16;
    assert_int_equal(rig_run(&rig, sources, 1, NULL), AKIN_OK);
    event_store_info(rig.keeper.store, &info);
    assert_int_equal(rig.report.received, 60000);
    assert_true(rig.report.dropped > 0);
    assert_int_equal(rig.report.dropped + rig.report.stored, 60000);
    assert_int_equal(info.events, rig.report.stored);
    assert_non_null(strstr(rig.notes.data, "DROPPED"));
    assert_int_equal(a.acknowledged, 60000);
    rig_close(&rig);
}

/* One that does not wait but keeps what comes: nothing is dropped for want of room in the queue. */
static void who_keeps_is_not_dropped(void **state)
{
    struct made_source a = made_source("a", false, 5000);
    struct made_source *const sources[] = {&a};
    (void)state;
    a.base.keeps = true;
    rig_open(&rig, false);
    rig.live.queue_events = 16;
    assert_int_equal(rig_run(&rig, sources, 1, NULL), AKIN_OK);
    assert_int_equal(rig.report.received, 5000);
    assert_int_equal(rig.report.dropped, 0);
    assert_all_stored("a", 5000);
    rig_close(&rig);
}

static void a_source_that_fails_does_not_end_the_others(void **state)
{
    struct made_source a = made_source("a", true, 2000), b = made_source("b", true, 2000);
    struct made_source *const sources[] = {&a, &b};
    struct akin_error error;
    (void)state;
    rig_open(&rig, false);
    a.fail_at = 700;
    assert_int_equal(rig_run(&rig, sources, 2, &error), AKIN_IO);
    assert_non_null(strstr(error.message, "the wire is cut"));
    assert_all_stored("a", 700);
    assert_all_stored("b", 2000);
    assert_int_equal(b.acknowledged, 2000);
    assert_non_null(strstr(rig.notes.data, "a: the source has ended: the wire is cut"));
    rig_close(&rig);
}

/* A limit on the size of files stands in for a full disk. */
static atomic_bool room;

static bool free_the_disk(void *cookie, const struct akin_watch_live_report *report)
{
    struct live_rig *r = cookie;
    (void)report;
    mutex_lock(r->lock);
    bool told = r->notes.data && strstr(r->notes.data, "nothing is acknowledged");
    mutex_unlock(r->lock);
    if (told && !atomic_load(&room)) {
        struct rlimit limit;
        getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_FSIZE, &limit);
        atomic_store(&room, true);
    }
    return true;
}

static void a_full_disk_is_waited_for(void **state)
{
    struct made_source a = made_source("a", true, 2000);
    struct made_source *const sources[] = {&a};
    struct rlimit limit, small;
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    rig_open(&rig, true);
    a.store = rig.keeper.store;
    rig.live.tick = free_the_disk;
    getrlimit(RLIMIT_FSIZE, &limit);
    small = limit;
    small.rlim_cur = 40000;
    atomic_store(&room, false);
    setrlimit(RLIMIT_FSIZE, &small);
    enum akin_status status = rig_run(&rig, sources, 1, NULL);
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_int_equal(status, AKIN_OK);
    assert_true(atomic_load(&room));
    assert_false(a.too_early);
    assert_all_stored("a", 2000);
    assert_int_equal(a.acknowledged, 2000);
    assert_int_equal(trail_count("\"watch\":\"event\""), 2000);
    assert_non_null(strstr(rig.notes.data, "the disk takes events again"));
    const char *told = strstr(rig.notes.data, "nothing is acknowledged");
    assert_non_null(told);
    rig_close(&rig);
    assert_int_equal(akin_audit_verify(rig.audit_path, NULL, NULL, NULL), AKIN_OK);
}

/* The disk stays full: the watch can be stopped, and what it had is with the source still. */
static bool stop_when_told(void *cookie, const struct akin_watch_live_report *report)
{
    struct live_rig *r = cookie;
    (void)report;
    mutex_lock(r->lock);
    bool told = r->notes.data && strstr(r->notes.data, "nothing is acknowledged");
    mutex_unlock(r->lock);
    return !told;
}

static void a_full_disk_can_be_left(void **state)
{
    struct made_source a = made_source("a", true, 2000), rest = made_source("a", true, 2000);
    struct made_source *const sources[] = {&a}, *const others[] = {&rest};
    struct rlimit limit, small;
    struct akin_error error;
    char cursor[64];
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    rig_open(&rig, false);
    rig.live.tick = stop_when_told;
    getrlimit(RLIMIT_FSIZE, &limit);
    small = limit;
    small.rlim_cur = 40000;
    setrlimit(RLIMIT_FSIZE, &small);
    enum akin_status status = rig_run(&rig, sources, 1, &error);
    rig_close(&rig);
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_int_equal(status, AKIN_IO);
    assert_true(a.acknowledged < a.handed);
    rig_open(&rig, false);
    assert_int_equal(event_store_cursor(rig.keeper.store, "a", cursor, sizeof cursor, NULL), 0);
    rest.next = strtoull(cursor, NULL, 10);
    assert_true(rest.next >= a.acknowledged);
    assert_int_equal(rig_run(&rig, others, 1, NULL), AKIN_OK);
    assert_all_stored("a", 2000);
    rig_close(&rig);
}

static void the_trail_catches_up(void **state)
{
    struct made_source a = made_source("a", true, 300), b = made_source("a", true, 350);
    struct made_source *const first[] = {&a}, *const second[] = {&b};
    uint64_t added;
    (void)state;
    rig_open(&rig, true);
    assert_int_equal(keeper_catch_up(&rig.keeper, "a", &added, NULL), AKIN_OK);
    assert_int_equal(added, 0);
    assert_int_equal(rig_run(&rig, first, 1, NULL), AKIN_OK);
    rig_close(&rig);
    rig_open(&rig, false);      /* as if it had died between store and trail, fifty events long */
    b.next = 300;
    assert_int_equal(rig_run(&rig, second, 1, NULL), AKIN_OK);
    rig_close(&rig);
    assert_int_equal(trail_count("\"watch\":\"event\""), 300);
    rig_open(&rig, true);
    assert_int_equal(keeper_catch_up(&rig.keeper, "a", &added, NULL), AKIN_OK);
    assert_int_equal(added, 50);
    assert_int_equal(keeper_catch_up(&rig.keeper, "a", &added, NULL), AKIN_OK);
    assert_int_equal(added, 0);
    assert_int_equal(trail_count("\"watch\":\"event\""), 350);
    rig_close(&rig);
}

/* What the first run learned the second one knows: no history, and the same alarm. A label then
 * silences it, and another one brings it back. */
static void a_restart_is_warm_and_labels_are_heeded(void **state)
{
    static const int labels[] = {0, -1, 1};
    static const size_t alarms[] = {1, 0, 1};
    uint64_t odd = 0;
    (void)state;
    rig_open(&rig, true);
    struct made_source a = made_source("a", true, 1000);
    struct made_source *const first[] = {&a};
    a.odd = 900;
    assert_int_equal(rig_run(&rig, first, 1, NULL), AKIN_OK);
    assert_int_equal(rig.alarm_count, 1);
    assert_non_null(strstr(rig.alarms.data, "\"id\":901"));
    rig_close(&rig);
    for (int round = 0; round < 3; round++) {
        struct made_source b = made_source("a", true, 1100 + 100 * (uint64_t)round);
        struct made_source *const next[] = {&b};
        size_t before = rig.alarm_count;
        rig_open(&rig, true);
        odd = 1050 + 100 * (uint64_t)round;
        if (labels[round])
            assert_int_equal(event_store_label(rig.keeper.store, 901, labels[round], NULL), 0);
        rig_warm(&rig);
        assert_true(scorer_trained(rig.scorer));
        b.next = 1000 + 100 * (uint64_t)round;
        b.odd = odd;
        assert_int_equal(rig_run(&rig, next, 1, NULL), AKIN_OK);
        assert_int_equal(rig.report.counts.learned, 0);
        assert_int_equal(rig.alarm_count - before, alarms[round]);
        rig_close(&rig);
    }
    assert_int_equal(trail_count("\"watch\":\"label\""), 2);
}

/* A label that is given while the watch goes on: the trail has it when it is heeded. */
static atomic_bool labelled;

static bool label_it(void *cookie, const struct akin_watch_live_report *report)
{
    struct live_rig *r = cookie;
    static uint64_t at;
    if (!atomic_load(&labelled) && report->counts.alerts == 1 && !at) {
        assert_int_equal(event_store_label(r->keeper.store, 901, -1, NULL), AKIN_OK);
        at = clock_monotonic_ns();
    }
    if (at && (seconds_since(at) > 60 || trail_count("\"watch\":\"label\"") == 1))
        atomic_store(&labelled, true);
    return true;
}

static void a_running_watch_hears_of_labels(void **state)
{
    struct made_source a = made_source("a", true, 1200);
    struct made_source *const sources[] = {&a};
    (void)state;
    rig_open(&rig, true);
    rig.live.tick = label_it;
    a.odd = 900;
    a.pause_at = 1000;
    a.go = &labelled;
    assert_int_equal(rig_run(&rig, sources, 1, NULL), AKIN_OK);
    assert_int_equal(rig.report.counts.alerts, 1);
    struct event odd = {.text = "the kernel is on fire 1", .text_bytes = 23, .level = "fatal",
                        .source = "", .session = "", .time = ""};
    uint64_t kind;
    assert_int_equal(scorer_kind_of(rig.scorer, &odd, &kind, NULL), AKIN_OK);
    assert_true(scorer_threshold(rig.scorer, kind) > scorer_threshold(rig.scorer, 1));
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_is_stored_and_acknowledged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stop_in_a_burst_loses_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_delivered_again_is_stored_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_cannot_wait_is_read_to_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_keeps_is_not_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_source_that_fails_does_not_end_the_others, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_full_disk_is_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_disk_can_be_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_trail_catches_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_restart_is_warm_and_labels_are_heeded, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_running_watch_hears_of_labels, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
