/* The journal as a source of events, on journals of a test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef AKIN_SYSTEMD
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "events/source_journal.h"
#include "journal_rig.h"

static char folder[64];

struct heard {
    unsigned count;
    char last[1024];
};

static void hear(void *cookie, const char *source, const char *line)
{
    struct heard *heard = cookie;
    assert_non_null(source);
    heard->count++;
    snprintf(heard->last, sizeof heard->last, "%s", line);
}

static struct akin_watch_source usual(void)
{
    return (struct akin_watch_source){.kind = AKIN_SOURCE_JOURNAL, .name = "journal",
                                      .address = folder, .priority = 7};
}

static struct event_source *open_as(const struct akin_watch_source *settings, const char *cursor,
                                    struct heard *heard)
{
    struct event_source *source = NULL;
    struct akin_error error = {0};
    struct source_note note = {.cookie = heard, .tell = heard ? hear : NULL};
    if (source_journal_open(settings, cursor, note, &source, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return source;
}

static struct event_source *open_at(const char *cursor, struct heard *heard)
{
    struct akin_watch_source settings = usual();
    return open_as(&settings, cursor, heard);
}

static enum source_state next(struct event_source *source, int timeout_ms, struct event *event)
{
    enum source_state state;
    struct akin_error error = {0};
    if (source->next(source, timeout_ms, event, &state, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return state;
}

static void expect(struct event_source *source, const char *text)
{
    struct event event = {0};
    assert_int_equal(next(source, 5000, &event), SOURCE_EVENT);
    assert_string_equal(event.text, text);
    event_clear(&event);
}

static void expect_quiet(struct event_source *source)
{
    struct event event = {0};
    assert_int_equal(next(source, 30, &event), SOURCE_QUIET);
    event_clear(&event);
}

static void expect_events(struct event_source *source, unsigned first, unsigned count)
{
    char text[32];
    for (unsigned i = first; i < first + count; i++) {
        snprintf(text, sizeof text, "event %u", i);
        expect(source, text);
    }
}

static const char *in_folder(const char *name)
{
    static char path[4][128];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

/* Every test has a folder of its own. */
static int before(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/akin_journal_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int after(void **state)
{
    (void)state;
    return path_remove_tree(folder, NULL);
}

#define NEEDS_A_JOURNAL() do { (void)state; if (!journal_is_here()) skip(); } while (0)

static void entries_are_read(void **state)
{
    NEEDS_A_JOURNAL();
    enum { LONG = 3 << 20 };
    struct bytes text = {0};
    struct event event = {0};
    char *large = memory_alloc(LONG, 1);
    memset(large, 'x', LONG);           /* this one is stored compressed */
    entry_begin(&text, 0, "11111111111111111111111111111111");
    bytes_append_text(&text, "MESSAGE=Deleting bridge br0\nPRIORITY=3\n_COMM=ovs\n"
                      "SYSLOG_IDENTIFIER=ovs-vswitchd\nINSTANCE_ID=vm-7\n\n");
    entry_begin(&text, 1, "11111111111111111111111111111111");
    entry_binary(&text, "MESSAGE", "a\0b\nc\xff", 6);
    bytes_append_text(&text, "_COMM=odd\n\n");
    entry_begin(&text, 2, "11111111111111111111111111111111");
    bytes_append_text(&text, "PRIORITY=6\nCODE_LINE=5\n\n");
    entry_begin(&text, 3, "11111111111111111111111111111111");
    entry_binary(&text, "MESSAGE", large, LONG);
    bytes_append_text(&text, "\n");
    uint64_t random = 1;
    for (size_t i = 0; i < LONG; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        large[i] = (char)(' ' + (random >> 33) % 90);
    }
    entry_begin(&text, 4, "11111111111111111111111111111111");
    entry_binary(&text, "MESSAGE", large, LONG);
    bytes_append_text(&text, "\n");
    assert_true(journal_write(in_folder("a.journal"), &text));

    struct akin_watch_source settings = usual();
    settings.fields.session = "INSTANCE_ID";
    struct event_source *source = open_as(&settings, "t=0", NULL);
    assert_true(source->waits);
    assert_string_equal(source->name, "journal");
    assert_int_equal(next(source, 0, &event), SOURCE_EVENT);
    assert_string_equal(event.text, "Deleting bridge br0");
    assert_string_equal(event.source, "ovs-vswitchd");
    assert_string_equal(event.level, "err");
    assert_string_equal(event.session, "vm-7");
    assert_int_equal(event.session_bytes, 4);
    assert_string_equal(event.time, "2023-11-14T22:13:20.000000Z");
    assert_true(!strncmp(event.cursor, "s=", 2) && strlen(event.id) > 32);
    assert_int_equal(next(source, 0, &event), SOURCE_EVENT);
    assert_int_equal(event.text_bytes, 8);
    assert_memory_equal(event.text, "a\0b\nc\xef\xbf\xbd", 8);
    assert_string_equal(event.source, "odd");
    assert_string_equal(event.level, "");
    assert_string_equal(event.session, "");
    assert_int_equal(next(source, 0, &event), SOURCE_BAD);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(next(source, 0, &event), SOURCE_EVENT);
        assert_true(event.text_bytes <= EVENT_BYTES_MAX && event.text_bytes > EVENT_BYTES_MAX - 9);
        assert_string_equal(event.text + event.text_bytes - 4, " ...");
        assert_memory_equal(event.text, i ? large : "xxxxxxxx", 8);
    }
    assert_int_equal(next(source, 0, &event), SOURCE_QUIET);
    assert_int_equal(source->stored(source, 4, NULL), AKIN_OK);
    source->close(source);
    event_clear(&event);
    bytes_deinit(&text);
    memory_free(large);
}

static void what_is_written_now_is_followed(void **state)
{
    NEEDS_A_JOURNAL();
    struct bytes text = {0};
    struct heard heard = {0};
    struct event_source *source = open_at(NULL, &heard);    /* an empty folder */
    expect_quiet(source);
    assert_true(journal_write_entries(in_folder("a.journal"), 0, 5, 1));
    expect_events(source, 0, 5);
    expect_quiet(source);
    source->close(source);

    source = open_at("", &heard);       /* a folder is read from its start */
    expect_events(source, 0, 5);
    expect_quiet(source);
    struct journal_writer writer = journal_open_writer(in_folder("a.journal"));
    for (unsigned i = 5; i < 50; i++) {
        bytes_clear(&text);
        entries(&text, i, 1, 1);
        assert_true(journal_feed(&writer, &text));
        expect_events(source, i, 1);
    }
    assert_true(journal_close_writer(&writer));
    expect_quiet(source);
    source->close(source);
    assert_int_equal(heard.count, 0);
    bytes_deinit(&text);
}

/* As journald does it: the file gets another name, and a new one takes its place. */
static void rotation_is_followed(void **state)
{
    NEEDS_A_JOURNAL();
    struct bytes text = {0};
    struct event_source *source = open_at("t=0", NULL);
    char archived[32];
    for (unsigned round = 0; round < 6; round++) {
        unsigned first = round * 100;
        assert_true(journal_write_entries(in_folder("system.journal"), first, 60, 1));
        if (round % 2)      /* else it is found renamed, half read or not at all */
            expect_events(source, first, 60);
        else if (round)
            expect_events(source, first, 30);
        snprintf(archived, sizeof archived, "system@%u.journal", round);
        assert_int_equal(path_rename(in_folder("system.journal"), in_folder(archived), NULL),
                         AKIN_OK);
        struct journal_writer writer = journal_open_writer(in_folder("system.journal"));
        bytes_clear(&text);
        entries(&text, first + 60, 40, 1);
        assert_true(journal_feed(&writer, &text));
        if (!(round % 2))
            expect_events(source, round ? first + 30 : first, round ? 30 : 60);
        expect_events(source, first + 60, 40);
        assert_true(journal_close_writer(&writer));
        expect_quiet(source);
    }
    /* The oldest are removed, as when room is short; it does not read again or stop. */
    assert_int_equal(path_remove(in_folder("system@0.journal"), NULL), AKIN_OK);
    assert_int_equal(path_remove(in_folder("system@1.journal"), NULL), AKIN_OK);
    expect_quiet(source);
    assert_true(journal_write_entries(in_folder("system.journal"), 600, 10, 1));
    expect_events(source, 600, 10);
    source->close(source);
    bytes_deinit(&text);
}

/* Entries of two files in turn and of a third behind them; it ends after every n-th event, and what
 * is opened then goes on with the one behind it. */
static void every_restart_goes_on(void **state)
{
    NEEDS_A_JOURNAL();
    enum { COUNT = 300 };
    static const unsigned lengths[] = {1, 2, 3, 7, 50, 99, 299, 300};
    struct heard heard = {0};
    struct event event = {0};
    char cursor[512];
    assert_true(journal_write_entries(in_folder("a.journal"), 0, 100, 2));
    assert_true(journal_write_entries(in_folder("b.journal"), 1, 100, 2));
    assert_true(journal_write_entries(in_folder("c.journal"), 200, 100, 1));
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        snprintf(cursor, sizeof cursor, "t=0");
        for (unsigned i = 0; i < COUNT;) {
            struct event_source *source = open_at(cursor, &heard);
            for (unsigned j = 0; j < lengths[l] && i < COUNT; j++, i++) {
                char text[32];
                snprintf(text, sizeof text, "event %u", i);
                assert_int_equal(next(source, 0, &event), SOURCE_EVENT);
                assert_string_equal(event.text, text);
                snprintf(cursor, sizeof cursor, "%s", event.cursor);
            }
            source->close(source);
        }
        struct event_source *source = open_at(cursor, &heard);
        expect_quiet(source);
        source->close(source);
    }
    assert_int_equal(heard.count, 0);
    struct event_source *source = open_at(cursor, &heard);  /* at the very end, then more comes */
    assert_true(journal_write_entries(in_folder("c.journal"), 300, 3, 1));
    expect_events(source, 300, 3);
    source->close(source);
    event_clear(&event);
}

/* Where a cursor comes from that is not quite one of this journal. */
static void bad_cursors_fall_back(void **state)
{
    NEEDS_A_JOURNAL();
    struct heard heard = {0};
    struct event event = {0};
    char cursor[512], first_id[600], text[1024];
    assert_true(journal_write_entries(in_folder("a.journal"), 0, 20, 1));
    assert_true(journal_write_entries(in_folder("b.journal"), 20, 20, 1));
    struct event_source *source = open_at("t=0", NULL);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(next(source, 0, &event), SOURCE_EVENT);
    snprintf(cursor, sizeof cursor, "%s", event.cursor);
    snprintf(first_id, sizeof first_id, "%s", event.id);
    source->close(source);

    source = open_at("t=60a24182aef3f", &heard);    /* 9.99 s into it: only a time */
    expect_quiet(source);
    source->close(source);
    snprintf(text, sizeof text, "t=%llx", JOURNAL_EPOCH_US + 9999);
    source = open_at(text, &heard);
    expect_events(source, 10, 30);
    source->close(source);
    assert_int_equal(heard.count, 0);

    source = open_at("nonsense", &heard);
    assert_int_equal(heard.count, 1);
    assert_non_null(strstr(heard.last, "nonsense"));
    expect_events(source, 0, 9);        /* again: ids are the same */
    assert_int_equal(next(source, 0, &event), SOURCE_EVENT);
    assert_string_equal(event.id, first_id);
    source->close(source);

    /* Another numbering and another boot: by its time; the same boot: it is the same entry. */
    snprintf(text, sizeof text, "s=%032d%s", 7, strchr(cursor, ';'));
    source = open_at(text, &heard);
    expect_events(source, 10, 30);
    source->close(source);
    assert_int_equal(heard.count, 1);
    char *boot = strstr(text, ";b=");
    memset(boot + 3, '9', 32);
    source = open_at(text, &heard);
    assert_int_equal(heard.count, 2);
    expect_events(source, 9, 31);
    source->close(source);

    /* Of a time that was not yet. */
    snprintf(text, sizeof text, "s=%032d;i=1;b=%032d;m=1;t=%llx;x=1", 7, 7,
             (unsigned long long)clock_unix_us() + 3600000000u);
    source = open_at(text, &heard);
    assert_int_equal(heard.count, 3);
    assert_non_null(strstr(heard.last, "future"));
    expect_events(source, 0, 40);
    source->close(source);

    /* Behind everything: what is written from then on comes, though its time is before. */
    snprintf(text, sizeof text, "s=%032d;i=1;b=%032d;m=1;t=%llx;x=1", 7, 7,
             (unsigned long long)clock_unix_us() - 3600000000u);
    source = open_at(text, &heard);
    assert_int_equal(heard.count, 4);
    expect_quiet(source);
    assert_true(journal_write_entries(in_folder("b.journal"), 40, 5, 1));
    expect_events(source, 40, 5);
    source->close(source);

    /* Its file was removed. */
    assert_int_equal(path_remove(in_folder("a.journal"), NULL), AKIN_OK);
    source = open_at(cursor, &heard);
    assert_int_equal(heard.count, 5);
    assert_non_null(strstr(heard.last, "not there"));
    expect_events(source, 20, 25);
    source->close(source);
    event_clear(&event);
}

static void count_matches(const char *const *match, size_t count, int priority, unsigned wanted)
{
    struct akin_watch_source settings = usual();
    struct event event = {0};
    unsigned found = 0;
    settings.match = match;
    settings.match_count = count;
    settings.priority = priority;
    struct event_source *source = open_as(&settings, "t=0", NULL);
    while (next(source, 0, &event) == SOURCE_EVENT)
        found++;
    source->close(source);
    event_clear(&event);
    assert_int_equal(found, wanted);
}

static void filters_choose(void **state)
{
    NEEDS_A_JOURNAL();
    static const char *const unit[] = {"unit=unit1", "unit=unit2.service"};
    static const char *const fields[] = {"_SYSTEMD_UNIT=unit1.service", "PRIORITY=4", "PRIORITY=5"};
    static const char *const either[] = {"MESSAGE=event 7", "+", "_SYSTEMD_UNIT=unit0.service"};
    static const char *const bad[] = {"PRIORITY=4", "lower case"};
    struct akin_watch_source settings = usual();
    struct source_note quiet = {0};
    struct event_source *source = NULL;
    struct akin_error error;
    assert_true(journal_write_entries(in_folder("a.journal"), 0, 240, 1));
    count_matches(NULL, 0, 7, 240);
    count_matches(NULL, 0, 3, 120);
    count_matches(NULL, 0, 0, 30);
    count_matches(unit, 1, 7, 80);
    count_matches(unit, 2, 7, 160);
    count_matches(unit, 2, 3, 80);
    count_matches(fields, 1, 7, 80);
    count_matches(fields, 3, 7, 20);
    count_matches(fields, 3, 4, 10);
    count_matches(either, 3, 7, 81);
    settings.match = bad;
    settings.match_count = 2;
    assert_int_equal(source_journal_open(&settings, NULL, quiet, &source, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "lower case"));
    settings.match_count = 0;
    settings.priority = 8;
    assert_int_equal(source_journal_open(&settings, NULL, quiet, &source, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "priority"));
    settings.priority = 7;
    settings.address = "/tmp/akin_no_journal_here";
    assert_int_equal(source_journal_open(&settings, NULL, quiet, &source, &error), AKIN_NOT_FOUND);
    assert_non_null(strstr(error.message, settings.address));
    assert_null(source);
}

/* ---- damage -------------------------------------------------------------------------------- */

/* Most of a file are tables at its start and room at its end: what is damaged is in between. */
static void damaged_copy(const struct bytes *whole, size_t from, size_t to, uint64_t seed)
{
    struct bytes copy = {0};
    bytes_append(&copy, whole->data, whole->count);
    for (unsigned i = 0; i < 1 + seed % 7; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t at = from + (size_t)((seed >> 20) % (to - from - 64));
        memset(copy.data + at, (int)(seed >> 55), 1 + seed % 3 * 20);
    }
    assert_int_equal(file_write(in_folder("bad.journal"), copy.data, copy.count, NULL), AKIN_OK);
    bytes_deinit(&copy);
}

static uint64_t number_at(const struct bytes *file, uint64_t at)
{
    uint64_t number;
    assert_true(at + sizeof number <= file->count);
    memcpy(&number, file->data + at, sizeof number);
    return number;
}

/* Where the n-th entry is: https://systemd.io/JOURNAL_FILE_FORMAT */
static uint64_t entry_of(const struct bytes *file, unsigned n)
{
    enum { ENTRY = 3 };
    uint64_t at = number_at(file, 88);
    for (unsigned found = 0;; at = (at + number_at(file, at + 8) + 7) & ~(uint64_t)7) {
        assert_true(at < file->count);
        if (file->data[at] == ENTRY && found++ == n)
            return at;
    }
}

static size_t end_of(const struct bytes *file)
{
    uint64_t last = number_at(file, 136);
    return (size_t)(last + number_at(file, last + 8));
}

/* The good file's 100 entries come, whatever is wrong with the other one. */
static void read_the_good_ones(struct heard *heard)
{
    struct event_source *source = open_at("t=0", heard);
    struct string_map ids = {0};        /* behind damage, some may come again */
    struct string_pool pool = {0};
    struct event event = {0};
    unsigned all = 0;
    enum source_state got;
    while ((got = next(source, 0, &event)) != SOURCE_QUIET) {
        char *id =
            string_pool_add(&pool, event.id ? event.id : "", event.id ? strlen(event.id) : 0);
        if (got == SOURCE_EVENT && !strcmp(event.source, "good"))
            assert_true(string_map_put(&ids, id, strlen(id), 0, NULL, NULL));
        assert_true(all++ < 10000);
    }
    assert_int_equal(ids.count, 100);
    string_map_deinit(&ids);
    string_pool_deinit(&pool);
    source->close(source);
    event_clear(&event);
}

static void damage_stops_nothing(void **state)
{
    NEEDS_A_JOURNAL();
    struct bytes text = {0}, whole = {0};
    struct heard heard = {0};
    assert_true(journal_write_entries(in_folder("bad.journal"), 1, 100, 2));
    for (unsigned i = 0; i < 200; i += 2) {
        entry_begin(&text, i, "11111111111111111111111111111111");
        bytes_printf(&text, "MESSAGE=good %u\n_SYSTEMD_UNIT=good\n\n", i);
    }
    assert_true(journal_write(in_folder("good.journal"), &text));
    assert_int_equal(file_read(in_folder("bad.journal"), (size_t)64 << 20, &whole, NULL), AKIN_OK);
    read_the_good_ones(&heard);
    assert_int_equal(heard.count, 0);
    static const size_t lengths[] = {0, 1, 8, 200, 4096, 100000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        assert_int_equal(file_write(in_folder("bad.journal"), whole.data, lengths[i], NULL),
                         AKIN_OK);
        memset(&heard, 0, sizeof heard);
        read_the_good_ones(&heard);
        assert_int_equal(heard.count, 1);
        assert_non_null(strstr(heard.last, "bad.journal"));
    }
    for (uint64_t seed = 1; seed <= 60; seed++) {
        damaged_copy(&whole, seed % 4 ? (size_t)entry_of(&whole, 0) : 0, end_of(&whole), seed);
        read_the_good_ones(NULL);
    }
    bytes_deinit(&text);
    bytes_deinit(&whole);
}

/* The number of an entry in the middle is broken: to libsystemd everything behind it lies in front
 * of it. It comes all the same, and so does what is written later. */
static void what_is_behind_damage_is_found(void **state)
{
    NEEDS_A_JOURNAL();
    struct bytes whole = {0};
    struct heard heard = {0};
    struct event event = {0};
    struct event_source *source;
    unsigned found = 0, last = 0;
    assert_true(journal_write_entries(in_folder("a.journal"), 0, 3000, 1));
    assert_int_equal(file_read(in_folder("a.journal"), (size_t)64 << 20, &whole, NULL), AKIN_OK);
    whole.data[entry_of(&whole, 1000) + 20] = 1;
    assert_int_equal(file_write(in_folder("a.journal"), whole.data, whole.count, NULL), AKIN_OK);
    source = open_at("t=0", &heard);
    while (next(source, 0, &event) == SOURCE_EVENT) {
        unsigned number = (unsigned)strtoul(event.text + 6, NULL, 10);
        assert_true(!found || number > last);
        last = number;
        found++;
    }
    assert_int_equal(found, 3000);
    assert_int_equal(last, 2999);
    assert_int_equal(heard.count, 1);
    assert_non_null(strstr(heard.last, "damaged"));
    expect_quiet(source);
    assert_true(journal_write_entries(in_folder("b.journal"), 3000, 10, 1));
    expect_events(source, 3000, 10);
    source->close(source);
    event_clear(&event);
    bytes_deinit(&whole);
}
#endif

int main(void)
{
#ifdef AKIN_SYSTEMD
    if (!journal_is_here())
        print_message("no " JOURNAL_REMOTE ": skipped\n");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(entries_are_read, before, after),
        cmocka_unit_test_setup_teardown(what_is_written_now_is_followed, before, after),
        cmocka_unit_test_setup_teardown(rotation_is_followed, before, after),
        cmocka_unit_test_setup_teardown(every_restart_goes_on, before, after),
        cmocka_unit_test_setup_teardown(bad_cursors_fall_back, before, after),
        cmocka_unit_test_setup_teardown(filters_choose, before, after),
        cmocka_unit_test_setup_teardown(damage_stops_nothing, before, after),
        cmocka_unit_test_setup_teardown(what_is_behind_damage_is_found, before, after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
#else
    print_message("built without libsystemd: skipped\n");
    return 77;
#endif
}
