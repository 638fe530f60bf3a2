/* The store of events: what goes in comes out, once, over segments, processes and labels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/thread.h"
#include "event_store_rig.h"
#include "watch/event_ids.h"

static void expect_info(struct rig *rig, uint64_t first, uint64_t last, size_t segments_min)
{
    struct event_store_info info;
    event_store_info(rig->store, &info);
    assert_int_equal(info.first, first);
    assert_int_equal(info.last, last);
    assert_int_equal(info.events, last ? last + 1 - first : 0);
    assert_true(info.segments >= segments_min);
    assert_int_equal(info.damaged, 0);
    assert_int_equal(rig->told.count, 0);
}

static void expect_cursor(struct rig *rig, const char *origin, const char *expected)
{
    char text[64];
    assert_ok(rig, event_store_cursor(rig->store, origin, text, sizeof text, &rig->error));
    assert_string_equal(text, expected);
}

static void test_append_and_read(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    expect_info(rig, 0, 0, 0);
    rig_fill(rig, 1, 100, 7);
    for (int again = 0; again < 2; again++) {
        rig_expect_all(rig, 1, 100);
        expect_info(rig, 1, 100, 1);
        expect_cursor(rig, "a", "at 97");
        expect_cursor(rig, "b", "at 100");
        expect_cursor(rig, "c", "");
        rig_open(rig);
    }
    char little[3];
    assert_int_equal(event_store_cursor(rig->store, "a", little, sizeof little, &rig->error),
                     AKIN_LIMIT);
}

static void test_from_a_number(void **state)
{
    struct rig *rig = *state;
    struct rig_reading up = { .next = 60, .stop = 3 };
    struct rig_reading down = { .next = 60, .stop = 3, .down = true };
    rig->settings.segment_bytes = 1000;
    rig_open(rig);
    rig_fill(rig, 1, 100, 3);
    assert_ok(rig, event_store_read(rig->store, 60, false, NULL, rig_take, &up, &rig->error));
    assert_ok(rig, event_store_read(rig->store, 60, true, NULL, rig_take, &down, &rig->error));
    assert_int_equal(up.next, 63);
    assert_int_equal(down.next, 57);
}

static void test_segments(void **state)
{
    struct rig *rig = *state;
    rig->settings.segment_bytes = 2000;
    rig->settings.durable = true;
    rig_open(rig);
    rig_fill(rig, 1, 300, 5);
    for (int again = 0; again < 2; again++) {
        rig_expect_all(rig, 1, 300);
        expect_info(rig, 1, 300, 10);
        expect_cursor(rig, "a", "at 299");
        rig_open(rig);
    }
    rig_fill(rig, 301, 50, 5);
    rig_expect_all(rig, 1, 350);
}

static void test_ids(void **state)
{
    struct rig *rig = *state;
    uint64_t numbers[8];
    rig->settings.segment_bytes = 1000;
    rig_open(rig);
    rig_fill(rig, 1, 50, 5);
    for (int again = 0; again < 2; again++) {
        assert_ok(rig, rig_append(rig, 1, 6, numbers));
        for (int i = 0; i < 6; i++)
            assert_int_equal(numbers[i], 0);
        rig_open(rig);
    }
    expect_info(rig, 1, 50, 2);
    struct made made;
    rig_make(51, &made);
    struct stored_event twice[] = {made.event, made.event};
    assert_ok(rig, event_store_append(rig->store, twice, 2, numbers, &rig->error));
    assert_int_equal(numbers[0], 51);
    assert_int_equal(numbers[1], 0);
    made.id[0] = 0;                     /* without an id each is new */
    assert_ok(rig, event_store_append(rig->store, twice, 2, numbers, &rig->error));
    assert_int_equal(numbers[0], 52);
    assert_int_equal(numbers[1], 53);
}

/* Against a plain memory of the last `max`. */
static void test_bounded_ids(void **state)
{
    enum { MAX = 1000, IDS = 20000 };
    struct event_ids ids;
    struct number_map last = { 0 };
    uint64_t puts = 0;
    (void)state;
    event_ids_init(&ids, MAX);
    for (uint64_t i = 0; i < IDS; i++) {
        uint64_t id = i % 3 ? 1 + hash_bytes(&i, sizeof i) % 1500 : i << 40 | 1, put;
        bool there = number_map_get(&last, id, &put) && puts - put <= MAX;
        assert_int_equal(event_ids_has(&ids, id), there);
        assert_true(event_ids_reserve(&ids, 1));
        event_ids_put(&ids, id);
        if (!there)
            assert_true(number_map_set(&last, id, puts++));
        assert_true(ids.count <= MAX);
    }
    assert_false(event_ids_has(&ids, 0));
    event_ids_deinit(&ids);
    number_map_deinit(&last);
}

static void test_two_handles(void **state)
{
    struct rig *rig = *state;
    struct event_store *other, *reader;
    struct event_store *mine;
    struct event_store_settings reading = rig->settings;
    rig->settings.segment_bytes = 1500;
    rig_open(rig);
    assert_ok(rig, event_store_open(&rig->settings, (struct event_store_note){ 0 }, &other,
                                    &rig->error));
    reading.read_only = true;
    assert_ok(rig, event_store_open(&reading, (struct event_store_note){ 0 }, &reader,
                                    &rig->error));
    mine = rig->store;
    for (uint64_t n = 1; n <= 120; n += 4) {
        rig->store = n % 8 == 1 ? mine : other;
        rig_fill(rig, n, 4, 4);
    }
    uint64_t numbers[4];
    rig->store = mine;
    assert_ok(rig, rig_append(rig, 117, 2, numbers));
    assert_int_equal(numbers[0] + numbers[1], 0);   /* by the other */
    rig_expect_all(rig, 1, 120);
    rig->store = reader;
    assert_ok(rig, event_store_refresh(reader, &rig->error));
    rig_expect_all(rig, 1, 120);
    expect_cursor(rig, "b", "at 118");
    assert_int_equal(rig_append(rig, 1, 1, numbers), AKIN_ARGUMENT);
    assert_int_equal(event_store_label(reader, 1, 1, &rig->error), AKIN_ARGUMENT);
    rig->store = mine;
    event_store_close(&other);
    event_store_close(&reader);
}

static bool count_event(void *cookie, const struct stored_event *event)
{
    (void)event;
    ++*(size_t *)cookie;
    return true;
}

static size_t count_passing(struct rig *rig, const struct event_filter *filter)
{
    size_t up = 0, down = 0;
    assert_ok(rig, event_store_read(rig->store, 0, false, filter, count_event, &up, &rig->error));
    assert_ok(rig, event_store_read(rig->store, 0, true, filter, count_event, &down, &rig->error));
    assert_int_equal(up, down);
    return up;
}

static void test_filters(void **state)
{
    struct rig *rig = *state;
    rig->settings.segment_bytes = 3000;
    rig_open(rig);
    rig_fill(rig, 1, 200, 10);
    assert_ok(rig, event_store_label(rig->store, 9, -1, &rig->error));
    for (int again = 0; again < 2; again++) {
        assert_int_equal(count_passing(rig, &(struct event_filter){ .alerts = true }), 20);
        assert_int_equal(count_passing(rig, &(struct event_filter){ .source = "disk" }), 40);
        assert_int_equal(count_passing(rig, &(struct event_filter){ .source = "none" }), 0);
        assert_int_equal(count_passing(rig, &(struct event_filter){ .session = "session 4" }), 4);
        assert_int_equal(count_passing(rig, &(struct event_filter){ .origin = "a" }), 100);
        assert_int_equal(count_passing(rig, &(struct event_filter){ .level = "ERROR",
                                                                    .origin = "b" }), 34);
        assert_int_equal(count_passing(rig, &(struct event_filter){ .from_us = 11000000,
                                                                    .until_us = 20000000 }), 10);
        assert_int_equal(count_passing(rig, &(struct event_filter){ .score_min = 8 }), 40);
        assert_int_equal(count_passing(rig, &(struct event_filter){ .label = -1 }), 1);
        assert_int_equal(count_passing(rig, &(struct event_filter){ .label = 1 }), 0);
        rig_open(rig);
    }
}

static bool take_label(void *cookie, const struct stored_event *event)
{
    *(int *)cookie = event->label;
    return false;
}

static void expect_label(struct rig *rig, uint64_t number, int expected)
{
    int label = 9;
    assert_ok(rig, event_store_read(rig->store, number, false, NULL, take_label, &label,
                                    &rig->error));
    assert_int_equal(label, expected);
}

static void test_labels(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    rig_fill(rig, 1, 20, 4);
    assert_ok(rig, event_store_label(rig->store, 3, 1, &rig->error));
    assert_ok(rig, event_store_label(rig->store, 4, -1, &rig->error));
    assert_ok(rig, event_store_label(rig->store, 5, 1, &rig->error));
    assert_ok(rig, event_store_label(rig->store, 5, 0, &rig->error));
    assert_int_equal(event_store_label(rig->store, 21, 1, &rig->error), AKIN_NOT_FOUND);
    assert_int_equal(event_store_label(rig->store, 0, 1, &rig->error), AKIN_NOT_FOUND);
    assert_int_equal(event_store_label(rig->store, 1, 2, &rig->error), AKIN_ARGUMENT);
    for (int again = 0; again < 2; again++) {
        expect_label(rig, 3, 1);
        expect_label(rig, 4, -1);
        expect_label(rig, 5, 0);
        expect_label(rig, 6, 0);
        rig_open(rig);
    }
}

static void test_retention(void **state)
{
    struct rig *rig = *state;
    struct event_store_info info;
    rig->settings.segment_bytes = 4000;
    rig->settings.keep_bytes = 40000;
    rig_open(rig);
    rig_fill(rig, 1, 1000, 10);
    event_store_info(rig->store, &info);
    assert_int_equal(info.last, 1000);
    assert_true(info.first > 1 && info.bytes < 40000 + 8000);
    rig_expect_all(rig, info.first, 1000);
    uint64_t first = info.first;
    rig->settings.keep_bytes = 0;
    rig->settings.keep_seconds = 3600;  /* all are of 1970 */
    rig_open(rig);
    event_store_info(rig->store, &info);
    assert_true(info.first > first);
    assert_int_equal(info.segments, 1);
    rig_expect_all(rig, info.first, 1000);
    expect_cursor(rig, "a", "at 997");
    expect_cursor(rig, "b", "at 1000");
    rig_fill(rig, 1001, 40, 20);
}

/* Whoever was silent for so long that nothing of it is kept goes on where it was. */
static void test_old_cursors(void **state)
{
    struct rig *rig = *state;
    struct made made;
    uint64_t number;
    rig->settings.segment_bytes = 4000;
    rig->settings.keep_bytes = 20000;
    rig_open(rig);
    rig_make(1, &made);
    made.event.origin = "quiet";
    assert_ok(rig, event_store_append(rig->store, &made.event, 1, &number, &rig->error));
    rig_fill(rig, 2, 600, 10);
    rig_open(rig);
    expect_cursor(rig, "quiet", "at 1");
}

static void put_kinds(struct rig *rig)
{
    for (uint64_t kind = 0; kind < RIG_KINDS; kind++) {
        float vector[RIG_DIM] = { 1 };
        char text[32];
        vector[1] = (float)(kind / 2);  /* 0 and 1, 2 and 3 are alike */
        snprintf(text, sizeof text, "kind %" PRIu64, kind);
        assert_ok(rig, event_store_put_kind(rig->store, 100 + kind, text, vector, RIG_DIM,
                                            &rig->error));
    }
}

/* What the search must find: every event, compared one by one. */
static size_t search_plainly(uint64_t last, size_t k, bool (*passes)(uint64_t n),
                             uint64_t *numbers)
{
    size_t found = 0;
    for (uint64_t pair = 0; pair < 3; pair++)
        for (uint64_t n = last; n >= 1 && found < k; n--)
            if (n % RIG_KINDS / 2 == pair && passes(n))
                numbers[found++] = n;
    return found;
}

static bool any(uint64_t n)
{
    return n > 0;
}

static bool is_alert(uint64_t n)
{
    return n % 10 == 9;
}

static bool is_disk_alert(uint64_t n)
{
    return n % 5 == 0 && n % 3 == 2;
}

static void test_search(void **state)
{
    static const struct { struct event_filter filter; bool (*passes)(uint64_t n); } cases[] = {
        {{ 0 }, any}, {{ .alerts = true }, is_alert},
        {{ .source = "disk", .level = "ERROR" }, is_disk_alert}};
    static const size_t ks[] = {1, 2, 10, 61, 300};
    struct rig *rig = *state;
    static const float query[RIG_DIM] = { 3 };
    rig->settings.segment_bytes = 3000;
    rig_open(rig);
    put_kinds(rig);
    rig_fill(rig, 1, 250, 10);
    for (int again = 0; again < 2; again++) {
        for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
            for (size_t i = 0; i < sizeof ks / sizeof ks[0]; i++) {
                struct event_hit hits[300];
                uint64_t numbers[300];
                size_t found = 99, expected = search_plainly(250, ks[i], cases[c].passes, numbers);
                assert_ok(rig, event_store_search(rig->store, query, ks[i], &cases[c].filter, hits,
                                                  &found, &rig->error));
                assert_int_equal(found, expected);
                for (size_t h = 0; h < found; h++)
                    assert_int_equal(hits[h].number, numbers[h]);
                if (found)
                    assert_true(hits[0].similarity > 0.4f && hits[0].similarity < 1.001f);
            }
        rig_open(rig);
    }
}

static bool is_of_session(uint64_t n)
{
    return n / 4 == 1000;
}

static bool is_rare(uint64_t n)
{
    return n % 10 == 9 && n % 3 == 1 && n > 11000;
}

/* So few pass that the rows are read in their order. */
static void test_rare(void **state)
{
    enum { EVENTS = 12000, MOST = 100 };
    static const float query[RIG_DIM] = { 3 };
    static const struct { struct event_filter filter; bool (*passes)(uint64_t n); } cases[] = {
        {{ .session = "session 1000" }, is_of_session},
        {{ .alerts = true, .level = "WARN", .from_us = 11001000000 }, is_rare}};
    static const size_t ks[] = {1, 3, 10, MOST};
    struct rig *rig = *state;
    rig_open(rig);
    put_kinds(rig);
    rig_fill(rig, 1, EVENTS, 250);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
        for (size_t i = 0; i < sizeof ks / sizeof ks[0]; i++) {
            struct event_hit hits[MOST];
            uint64_t numbers[MOST];
            size_t found = 0, expected = search_plainly(EVENTS, ks[i], cases[c].passes, numbers);
            assert_ok(rig, event_store_search(rig->store, query, ks[i], &cases[c].filter, hits,
                                              &found, &rig->error));
            assert_int_equal(found, expected);
            for (size_t h = 0; h < found; h++)
                assert_int_equal(hits[h].number, numbers[h]);
        }
}

static bool count_kind(void *cookie, uint64_t kind, const char *text, const float *vector,
                       size_t dimension)
{
    char expected[32];
    snprintf(expected, sizeof expected, "kind %" PRIu64, kind - 100);
    assert_string_equal(text, expected);
    assert_int_equal(dimension, RIG_DIM);
    assert_true(vector[0] == 1 && vector[1] == (float)((kind - 100) / 2));
    ++*(size_t *)cookie;
    return true;
}

/* Kinds come back for the model that they are of, and for no other one. */
static void test_kinds(void **state)
{
    struct rig *rig = *state;
    float other[RIG_DIM + 1] = { 1 };
    size_t count = 0;
    rig_open(rig);
    put_kinds(rig);
    put_kinds(rig);
    assert_int_equal(event_store_put_kind(rig->store, 7, "x", other, RIG_DIM + 1, &rig->error),
                     AKIN_ARGUMENT);
    rig_open(rig);                      /* closing writes them, too */
    assert_ok(rig, event_store_kinds(rig->store, count_kind, &count, &rig->error));
    assert_int_equal(count, RIG_KINDS);
    rig->settings.model = "another";
    rig_open(rig);
    assert_ok(rig, event_store_kinds(rig->store, count_kind, &count, &rig->error));
    assert_int_equal(count, RIG_KINDS);
    assert_ok(rig, event_store_put_kind(rig->store, 7, "x", other, RIG_DIM + 1, &rig->error));
    rig->settings.model = NULL;
    rig_open(rig);
    assert_ok(rig, event_store_put_kind(rig->store, 7, "x", NULL, 0, &rig->error));
    rig_open(rig);
    struct event_store_info info;
    event_store_info(rig->store, &info);
    assert_int_equal(info.kinds, 1);
    assert_int_equal(info.dimension, 0);
}

struct worker {
    struct event_store *store;
    size_t done;
    _Atomic size_t turns;       /* also of one that failed */
    enum akin_status status;
    struct akin_error error;
    _Atomic bool *stop;
};

static void keep_searching(void *context)
{
    static const float query[RIG_DIM] = { 1 };
    struct worker *w = context;
    struct event_hit hits[10];
    size_t found;
    for (; !*w->stop && w->status == AKIN_OK; w->turns++) {
        w->status = event_store_search(w->store, query, 10, NULL, hits, &found, &w->error);
        w->done += found;
    }
}

static void keep_reading(void *context)
{
    struct worker *w = context;
    for (; !*w->stop && w->status == AKIN_OK; w->turns++)
        w->status = event_store_read(w->store, 0, true, &(struct event_filter){ .alerts = true },
                                     count_event, &w->done, &w->error);
}

static void keep_adding_kinds(void *context)
{
    struct worker *w = context;
    float vector[RIG_DIM] = { 1 };
    struct event_store_info info;
    for (uint64_t kind = 1000; !*w->stop && kind < 3000 && w->status == AKIN_OK; kind++) {
        w->status = event_store_put_kind(w->store, kind, "more", vector, RIG_DIM, &w->error);
        event_store_info(w->store, &info);
        w->done++;
        w->turns++;
    }
}

static bool all_had_a_turn(struct worker *workers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!workers[i].turns)
            return false;
    return true;
}

/* One appends while others look: over the ends of segments, and segments that go. */
static void test_threads(void **state)
{
    static void (*const jobs[])(void *) = {keep_searching, keep_reading, keep_adding_kinds};
    enum { JOBS = sizeof jobs / sizeof jobs[0] };
    struct rig *rig = *state;
    struct worker workers[JOBS];
    struct thread *threads[JOBS];
    _Atomic bool stop = false;
    rig->settings.segment_bytes = 4000;
    rig->settings.keep_bytes = 60000;
    rig_open(rig);
    put_kinds(rig);
    rig_fill(rig, 1, 10, 10);
    for (int i = 0; i < JOBS; i++) {
        workers[i] = (struct worker){ .store = rig->store, .stop = &stop };
        threads[i] = thread_start(jobs[i], &workers[i], false);
        assert_non_null(threads[i]);
    }
    /* A busy machine may be slow to start the others. */
    for (uint64_t n = 11; n < 2000 || !all_had_a_turn(workers, JOBS); n += 10) {
        rig_fill(rig, n, 10, 10);
        if (n % 100 == 1)
            assert_ok(rig, event_store_label(rig->store, n, 1, &rig->error));
    }
    stop = true;
    for (int i = 0; i < JOBS; i++) {
        thread_join(&threads[i]);
        if (workers[i].status != AKIN_OK)
            fail_msg("%s", workers[i].error.message);
        assert_true(workers[i].done > 0);
    }
}

static void test_bad_use(void **state)
{
    struct rig *rig = *state;
    char *longest = calloc(1, EVENT_RECORD_BYTES_MAX + 1);
    struct made made;
    uint64_t number;
    rig->settings.read_only = true;
    assert_int_equal(rig_try(rig), AKIN_NOT_FOUND);
    rig->settings.read_only = false;
    rig_open(rig);
    rig_make(1, &made);
    assert_non_null(longest);
    memset(longest, 'x', EVENT_RECORD_BYTES_MAX);
    made.event.source = longest;
    assert_int_equal(event_store_append(rig->store, &made.event, 1, &number, &rig->error),
                     AKIN_LIMIT);
    assert_int_equal(event_store_append(rig->store, NULL, 0, NULL, &rig->error), AKIN_OK);
    made.event.source = longest + EVENT_RECORD_BYTES_MAX - 1000000;
    made.event.text = longest;
    made.event.text_bytes = (size_t)1 << 20;
    made.event.session = "";
    made.event.session_bytes = 0;
    assert_ok(rig, event_store_append(rig->store, &made.event, 1, &number, &rig->error));
    rig_open(rig);
    struct event_store_info info;
    event_store_info(rig->store, &info);
    assert_int_equal(info.events, 1);
    rig->settings.model = longest;
    assert_int_equal(rig_try(rig), AKIN_ARGUMENT);
    free(longest);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_append_and_read), TEST(test_from_a_number), TEST(test_segments), TEST(test_ids),
        TEST(test_bounded_ids),     TEST(test_two_handles),   TEST(test_filters),
        TEST(test_labels),          TEST(test_retention),     TEST(test_old_cursors),
        TEST(test_search),          TEST(test_rare),          TEST(test_kinds),
        TEST(test_threads),         TEST(test_bad_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
