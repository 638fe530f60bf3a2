/* The bus as a source of events, against a dbus-daemon of its own; and the ring in front of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef AKIN_SYSTEMD
#include "base/hash.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "bus_rig.h"
#include "events/dbus_text.h"
#include "events/event_ring.h"
#include "events/source_dbus.h"

/* ---- the ring ---------------------------------------------------------------------------- */

static struct event text_event(const char *text, size_t bytes, uint64_t seq)
{
    return (struct event){.seq = seq,
                          .text = text,
                          .text_bytes = bytes,
                          .time = "t",
                          .source = "s",
                          .level = "",
                          .session = "vm",
                          .session_bytes = 2,
                          .id = "i",
                          .cursor = ""};
}

/* Against a queue that cannot be wrong: numbers of events put and taken. */
static void ring_is_first_in_first_out(void **state)
{
    struct event_ring ring;
    struct event out = {0};
    char text[600];
    uint64_t put = 0, taken = 0, refused = 0, random = 1;
    (void)state;
    assert_true(event_ring_init(&ring, 4096));
    for (int i = 0; i < 200000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        if (random >> 60 < 8u + (unsigned)i / 1000 % 3) {
            size_t bytes = (size_t)(put * 7919 % 500);
            memset(text, (int)('a' + put % 26), bytes);
            struct event in = text_event(text, bytes, put);
            if (event_ring_put(&ring, &in))
                put++;
            else
                refused++;
        } else {
            event_ring_release(&ring);
            if (event_ring_take(&ring, &out)) {
                size_t bytes = (size_t)(taken * 7919 % 500);
                assert_int_equal(out.seq, taken);
                assert_int_equal(out.text_bytes, bytes);
                for (size_t j = 0; j < bytes; j++)
                    assert_int_equal(out.text[j], 'a' + taken % 26);
                assert_int_equal(out.text[bytes], 0);
                assert_string_equal(out.session, "vm");
                assert_string_equal(out.id, "i");
                taken++;
            } else {
                assert_int_equal(taken, put);
            }
        }
        assert_true(event_ring_used(&ring) <= 4096);
        assert_int_equal(ring.count, put - taken + (ring.taken > 0));
    }
    assert_true(refused > 100 && taken > 1000);
    event_ring_deinit(&ring);
}

/* What was handed out stays until it is let go of, however much comes. */
static void ring_keeps_what_is_handed_out(void **state)
{
    struct event_ring ring;
    struct event out = {0}, in = text_event("first", 5, 0);
    (void)state;
    assert_true(event_ring_init(&ring, 1024));
    assert_true(event_ring_put(&ring, &in));
    assert_true(event_ring_take(&ring, &out));
    in = text_event("other", 5, 1);
    size_t more = 0;
    while (event_ring_put(&ring, &in))
        more++;
    assert_true(more > 3);
    assert_string_equal(out.text, "first");
    in = text_event("too long for any ring", 5000, 2);
    assert_false(event_ring_put(&ring, &in));
    event_ring_deinit(&ring);
}

/* ---- the bus ----------------------------------------------------------------------------- */

static struct bus bus = {.folder = "/tmp/akin_bus_XXXXXX"};

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

static enum akin_status try_open(const char *const *match, size_t match_count, struct heard *heard,
                                 struct event_source **source, struct akin_error *error)
{
    struct akin_watch_source settings = {.kind = AKIN_SOURCE_DBUS, .name = "bus",
                                         .address = bus.address, .match = match,
                                         .match_count = match_count,
                                         .fields.session = "path"};
    struct source_note note = {.cookie = heard, .tell = heard ? hear : NULL};
    return source_dbus_open(&settings, NULL, note, source, error);
}

static struct event_source *open_source(const char *const *match, size_t match_count,
                                        struct heard *heard)
{
    struct event_source *source = NULL;
    struct akin_error error = {0};
    if (try_open(match, match_count, heard, &source, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return source;
}

static enum source_state next(struct event_source *source, int timeout_ms, struct event *event)
{
    enum source_state state;
    assert_int_equal(source->next(source, timeout_ms, event, &state, NULL), AKIN_OK);
    return state;
}

/* How long a busy machine may take over what is on its way. */
enum { SOON_MS = 30000 };

/* The next one whose text begins so; others are passed over. */
static void expect(struct event_source *source, const char *text)
{
    struct event event = {0};
    while (next(source, SOON_MS, &event) == SOURCE_EVENT)
        if (!strncmp(event.text, text, 8)) {
            assert_string_equal(event.text, text);
            return;
        }
    fail_msg("nothing came that begins like %s", text);
}

static int set_up(void **state)
{
    (void)state;
    if (!bus_is_here()) {
        print_message("no dbus-daemon: skipped\n");
        return 0;
    }
    return mkdtemp(bus.folder) && bus_start(&bus, "") ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    bus_stop(&bus);
    return bus.address[0] ? path_remove_tree(bus.folder, NULL) : 0;
}

/* Another test may have left it dead. */
static int before(void **state)
{
    (void)state;
    return !bus_is_here() || bus.pid > 0 || bus_start(&bus, "") ? 0 : -1;
}

#define NEEDS_A_BUS() do { (void)state; if (!bus_is_here()) skip(); } while (0)

static void messages_are_readable(void **state)
{
    NEEDS_A_BUS();
    struct event_source *source = open_source(NULL, 0, NULL);
    sd_bus *client = bus_connect(&bus);
    sd_bus_error failure = {0};
    struct event event = {0};
    assert_true(!source->waits && source->keeps);
    assert_string_equal(source->name, "bus");
    assert_true(sd_bus_emit_signal(client, "/a", "network.ovs.bridge", "create", "ss", "br0",
                                   "192.168.1.1/24") >= 0);
    assert_true(sd_bus_flush(client) >= 0);
    do
        assert_int_equal(next(source, SOON_MS, &event), SOURCE_EVENT);
    while (strncmp(event.text, "network", 7));
    assert_string_equal(event.text, "network.ovs.bridge.create /a br0 192.168.1.1/24");
    assert_int_equal(event.text_bytes, strlen(event.text));
    assert_string_equal(event.source, "network.ovs.bridge");
    assert_string_equal(event.level, "info");
    assert_string_equal(event.session, "/a");
    assert_int_equal(event.session_bytes, 2);
    assert_int_equal(strlen(event.time), strlen("2026-01-02T03:04:05.678901Z"));
    assert_true(*event.id && !*event.cursor);
    assert_int_equal(source->stored(source, 1, NULL), AKIN_OK);

    assert_true(sd_bus_emit_signal(client, "/b", "t.t", "kinds", "ybnqiuxtdsog", 255, 1, -7, 8, -9,
                                   10, (int64_t)-11, (uint64_t)12, 1.5, "two \"words\"\n\\\x01",
                                   "/o", "a{sv}") >= 0);
    expect(source, "t.t.kinds /b 255 true -7 8 -9 10 -11 12 1.5 "
           "\"two \\\"words\\\"\\n\\\\\\x01\" /o \"a{sv}\"");
    assert_true(sd_bus_emit_signal(client, "/b", "t.t", "holds", "a{sv}(i(ss))asvaas", 2, "k", "i",
                                   5, "empty", "s", "", 1, "x", "y", 0, "ai", 2, 3, 4, 2, 1, "p", 2,
                                   "q", "r") >= 0);
    expect(source, "t.t.holds /b {k=5 empty=\"\"} (1 (x y)) [] [3 4] [[p] [q r]]");
    /* A call to nobody, and the error that comes of it. */
    assert_true(sd_bus_call_method(client, "org.akin.Nobody", "/c", "t.t", "method", &failure, NULL,
                                   "s", "\xc3\xa4") < 0);
    sd_bus_error_free(&failure);
    expect(source, "t.t.method /c \xc3\xa4");
    assert_int_equal(next(source, SOON_MS, &event), SOURCE_EVENT);
    assert_string_equal(event.text, "org.freedesktop.DBus.Error.ServiceUnknown \"The name "
                        "org.akin.Nobody was not provided by any .service files\"");
    assert_string_equal(event.level, "error");
    assert_string_equal(event.source, "org.freedesktop.DBus");
    /* Our own alarms are no events, and answers are none unless they are asked for. */
    assert_true(sd_bus_call_method(client, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                   "org.freedesktop.DBus", "GetId", NULL, NULL, "") >= 0);
    expect(source, "org.freedesktop.DBus.GetId /org/freedesktop/DBus");
    assert_true(sd_bus_emit_signal(client, "/b", "org.akin.Watch1", "Alert", "s", "x") >= 0);
    assert_true(sd_bus_call_method(client, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                   "org.freedesktop.DBus", "GetId", NULL, NULL, "") >= 0);
    assert_int_equal(next(source, 200, &event), SOURCE_QUIET);
    assert_true(sd_bus_emit_signal(client, "/b", "t.t", "after", "s", "an alarm") >= 0);
    expect(source, "t.t.after /b \"an alarm\"");   /* who says alarms is heard for all that */
    sd_bus_flush_close_unref(client);
    source->close(source);
}

static void large_messages_are_cut(void **state)
{
    NEEDS_A_BUS();
    static const char *const match[] = {"interface='big.big'"};
    struct event_source *source = open_source(match, 1, NULL);
    sd_bus *client = bus_connect(&bus);
    sd_bus_message *message;
    struct event event = {0};
    char *large = memory_alloc(100001, 1);
    unsigned char data[300];
    memset(large, 'y', 100000);
    memset(large, 'x', 1021);
    memcpy(large + 1021, "\xc3\xa4\xc3\xa4", 4);    /* the second one would be cut in two */
    assert_true(sd_bus_emit_signal(client, "/", "big.big", "s", "s", large) >= 0);
    assert_int_equal(next(source, SOON_MS, &event), SOURCE_EVENT);
    assert_true(utf8_valid(event.text, event.text_bytes));
    assert_non_null(strstr(event.text, "x\xc3\xa4...(100000 bytes)"));

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)i;
    assert_true(sd_bus_message_new_signal(client, &message, "/", "big.big", "ay") >= 0);
    assert_true(sd_bus_message_append_array(message, 'y', data, sizeof data) >= 0);
    assert_true(sd_bus_message_append_array(message, 'y', "eth0", 5) >= 0);
    assert_true(sd_bus_message_append_array(message, 'y', "", 0) >= 0);
    assert_true(sd_bus_send(client, message, NULL) >= 0);
    sd_bus_message_unref(message);
    expect(source, "big.big.ay / 0x000102030405060708090a0b0c0d0e0f...(300 bytes) eth0 0x");

    static const unsigned counts[] = {32, 33, 4000, 100000};
    static const char *const ends[] = {" 31] 7", " 31 ...(1 more)] 7", " 31 ...(3968 more)] 7",
                                       " 31] ..."};
    for (size_t i = 0; i < 4; i++) {
        assert_true(sd_bus_message_new_signal(client, &message, "/", "big.big", "au") >= 0);
        assert_true(sd_bus_message_open_container(message, 'a', "u") >= 0);
        for (unsigned j = 0; j < counts[i]; j++)
            assert_true(sd_bus_message_append(message, "u", j) >= 0);
        assert_true(sd_bus_message_close_container(message) >= 0);
        assert_true(sd_bus_message_append(message, "u", 7) >= 0);
        assert_true(sd_bus_send(client, message, NULL) >= 0);
        sd_bus_message_unref(message);
        assert_int_equal(next(source, SOON_MS, &event), SOURCE_EVENT);
        assert_true(event.text_bytes < 200);
        assert_string_equal(event.text + event.text_bytes - strlen(ends[i]), ends[i]);
    }
    /* Variants in variants, and more text than a line takes. */
    assert_true(sd_bus_message_new_signal(client, &message, "/", "big.big", "deep") >= 0);
    for (int i = 0; i < 30; i++)
        assert_true(sd_bus_message_open_container(message, 'v', i == 29 ? "s" : "v") >= 0);
    assert_true(sd_bus_message_append(message, "s", "bottom") >= 0);
    for (int i = 0; i < 30; i++)
        assert_true(sd_bus_message_close_container(message) >= 0);
    for (int i = 0; i < 60; i++)
        assert_true(sd_bus_message_append(message, "s", large + 50000) >= 0);
    assert_true(sd_bus_send(client, message, NULL) >= 0);
    sd_bus_message_unref(message);
    assert_int_equal(next(source, SOON_MS, &event), SOURCE_EVENT);
    assert_memory_equal(event.text, "big.big.deep / ... yyyy", 23);
    assert_true(event.text_bytes < DBUS_TEXT_BYTES + 2 * DBUS_TEXT_STRING_BYTES);
    assert_string_equal(event.text + event.text_bytes - 4, " ...");
    memory_free(large);
    sd_bus_flush_close_unref(client);
    source->close(source);
}

static void rules_choose(void **state)
{
    NEEDS_A_BUS();
    static const char *const match[] = {"type='signal',member='Wanted'",
                                        "type='method_return',sender='org.freedesktop.DBus'"};
    struct event_source *source = open_source(match, 2, NULL);
    sd_bus *client = bus_connect(&bus);
    sd_bus_emit_signal(client, "/b", "t.t", "Other", "s", "x");
    sd_bus_emit_signal(client, "/b", "t.t", "Wanted", "s", "x");
    expect(source, "t.t.Wanted /b x");
    assert_true(sd_bus_call_method(client, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                   "org.freedesktop.DBus", "NameHasOwner", NULL, NULL, "s",
                                   "org.freedesktop.DBus") >= 0);
    expect(source, "return true");
    source->close(source);

    /* A rule that answers fit as well, but does not ask for them. */
    static const char *const anything[] = {""};
    struct event event = {0};
    source = open_source(anything, 1, NULL);
    assert_true(sd_bus_call_method(client, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                   "org.freedesktop.DBus", "NameHasOwner", NULL, NULL, "s",
                                   "org.freedesktop.DBus") >= 0);
    expect(source, "org.freedesktop.DBus.NameHasOwner /org/freedesktop/DBus org.freedesktop.DBus");
    assert_int_equal(next(source, 200, &event), SOURCE_QUIET);
    sd_bus_flush_close_unref(client);
    source->close(source);
}

static void what_is_wrong_is_named(void **state)
{
    NEEDS_A_BUS();
    static const char *const bad[] = {"type='signal'", "type='nothing'", "member='x'"};
    static const char *const broken[] = {"\xff"};
    struct event_source *source = NULL;
    struct akin_error error;
    assert_int_equal(try_open(bad, 3, NULL, &source, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "\"type='nothing'\""));
    assert_null(strstr(error.message, "type='signal'"));
    assert_int_equal(try_open(broken, 1, NULL, &source, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "match"));

    struct akin_watch_source settings = {.kind = AKIN_SOURCE_DBUS, .name = "b",
                                         .address = "nonsense"};
    struct source_note quiet = {0};
    assert_int_equal(source_dbus_open(&settings, NULL, quiet, &source, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "address"));
    settings.address = "unix:path=/tmp/akin_no_bus_here";
    assert_int_equal(source_dbus_open(&settings, NULL, quiet, &source, &error), AKIN_NOT_FOUND);
    assert_non_null(strstr(error.message, "akin_no_bus_here"));
    /* What other sources of the same watch may have. */
    struct heard heard = {0};
    struct source_note note = {.cookie = &heard, .tell = hear};
    settings.address = bus.address;
    settings.fields.session = "session";
    assert_int_equal(source_dbus_open(&settings, NULL, note, &source, &error), AKIN_OK);
    source->close(source);
    assert_int_equal(heard.count, 0);
    settings.fields.session = "vm";
    assert_int_equal(source_dbus_open(&settings, NULL, note, &source, &error), AKIN_OK);
    source->close(source);
    source = NULL;
    assert_int_equal(heard.count, 1);
    assert_non_null(strstr(heard.last, "\"vm\""));

    struct bus closed = {.folder = "/tmp/akin_bus_XXXXXX"}, open_one = bus;
    assert_non_null(mkdtemp(closed.folder));
    assert_true(bus_start(&closed, "<deny send_destination=\"org.freedesktop.DBus\" "
                          "send_interface=\"org.freedesktop.DBus.Monitoring\"/>"));
    bus = closed;
    enum akin_status status = try_open(NULL, 0, NULL, &source, &error);
    bus = open_one;
    bus_stop(&closed);
    path_remove_tree(closed.folder, NULL);
    assert_int_equal(status, AKIN_IO);
    assert_non_null(strstr(error.message, "root"));
    assert_null(source);
}

/* Numbers from 0, each once, in order; ids all different. */
static void a_flood_has_no_gap(void **state)
{
    NEEDS_A_BUS();
    enum { COUNT = 20000 };
    struct heard heard = {0};
    struct event_source *source = open_source(NULL, 0, &heard);
    struct string_map ids = {0};
    struct string_pool pool = {0};
    struct event event = {0};
    unsigned wanted = 0;
    pid_t child =
        bus_flood(&bus, COUNT, "one hundred and twenty bytes or so of what a service says");
    while (wanted < COUNT && next(source, SOON_MS, &event) == SOURCE_EVENT) {
        char expected[128];
        bool added = false;
        if (strncmp(event.text, "org.akin.Test", 13))
            continue;
        snprintf(expected, sizeof expected, "org.akin.Test.Number /test %u \"one", wanted++);
        assert_memory_equal(event.text, expected, strlen(expected));
        char *id = string_pool_add(&pool, event.id, strlen(event.id));
        assert_true(string_map_put(&ids, id, strlen(id), 0, NULL, &added) && added);
    }
    assert_int_equal(wanted, COUNT);
    assert_int_equal(source->lost, 0);
    assert_int_equal(heard.count, 0);
    assert_true(bus_flooded(child));
    string_map_deinit(&ids);
    string_pool_deinit(&pool);
    source->close(source);
}

/* Ours takes one event for hundreds that come: what has no room is counted, to the last one. */
static void a_slow_reader_counts_what_it_drops(void **state)
{
    NEEDS_A_BUS();
    enum { COUNT = 45000 };
    char filling[1001];
    struct heard heard = {0};
    static const char *const match[] = {"interface='org.akin.Test'"};
    struct event_source *source = open_source(match, 1, &heard);
    struct event event = {0};
    uint64_t taken = 0;
    unsigned last = 0;
    memset(filling, 'f', sizeof filling - 1);
    filling[sizeof filling - 1] = 0;
    pid_t child = bus_flood(&bus, COUNT, filling);
    enum source_state nothing;          /* whoever has no room takes none, and none is lost by it */
    assert_int_equal(source->next(source, 100, NULL, &nothing, NULL), AKIN_OK);
    assert_int_equal(nothing, SOURCE_QUIET);
    for (int i = 0; !source->lost && i < 50000; i++) {
        taken += next(source, 0, &event) == SOURCE_EVENT;
        clock_sleep_us(2000);
    }
    while (taken + source->lost < COUNT && next(source, SOON_MS, &event) == SOURCE_EVENT) {
        unsigned number =
            (unsigned)strtoul(event.text + strlen("org.akin.Test.Number /test "), NULL, 10);
        assert_true(number > last);
        last = number;
        taken++;
    }
    assert_true(bus_flooded(child));
    assert_int_equal(next(source, 200, &event), SOURCE_QUIET);
    assert_int_equal(taken + source->lost, COUNT);
    assert_true(source->lost > 0 && taken > 10000);
    assert_true(heard.count >= 1 && heard.count < 10);
    assert_non_null(strstr(heard.last, "dropped"));
    source->close(source);
}

static size_t open_files(void)
{
    struct names names = {0};
    assert_int_equal(path_list("/proc/self/fd", &names, NULL), AKIN_OK);
    size_t count = names.count;
    names_deinit(&names);
    return count;
}

static void a_restart_is_survived(void **state)
{
    NEEDS_A_BUS();
    static const char *const match[] = {"interface='t.t'"};
    struct heard heard = {0};
    size_t files = open_files();
    struct event_source *source = open_source(match, 1, &heard);
    struct event event = {0};
    char first_id[128];
    sd_bus *client = bus_connect(&bus);
    sd_bus_emit_signal(client, "/", "t.t", "Before", "");
    assert_int_equal(next(source, SOON_MS, &event), SOURCE_EVENT);
    snprintf(first_id, sizeof first_id, "%s", event.id);
    sd_bus_emit_signal(client, "/", "t.t", "Last", "");
    for (int i = 0; i < 2; i++)         /* it has passed that on when it answers once more */
        assert_true(sd_bus_call_method(client, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                       "org.freedesktop.DBus", "GetId", NULL, NULL, "") >= 0);
    sd_bus_flush_close_unref(client);
    bus_stop(&bus);
    expect(source, "t.t.Last /");       /* what came before the end is not lost with it */
    for (int i = 0; heard.count < 1 && i < SOON_MS / 10; i++)
        assert_int_equal(next(source, 10, &event), SOURCE_QUIET);
    for (int i = 0; i < 20; i++)
        assert_int_equal(next(source, 20, &event), SOURCE_QUIET);
    assert_int_equal(heard.count, 1);
    assert_non_null(strstr(heard.last, "gone"));
    assert_true(bus_start(&bus, ""));
    for (int i = 0; heard.count < 2 && i < SOON_MS / 10; i++)
        assert_int_equal(next(source, 10, &event), SOURCE_QUIET);
    assert_int_equal(heard.count, 2);
    assert_non_null(strstr(heard.last, "back"));
    client = bus_connect(&bus);
    sd_bus_emit_signal(client, "/", "t.t", "After", "");
    sd_bus_flush_close_unref(client);
    assert_int_equal(next(source, SOON_MS, &event), SOURCE_EVENT);
    assert_string_equal(event.text, "t.t.After /");
    assert_string_not_equal(event.id, first_id);    /* both are the first on their connection */
    source->close(source);
    assert_int_equal(open_files(), files);
}
#endif

int main(void)
{
#ifdef AKIN_SYSTEMD
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_is_first_in_first_out),
        cmocka_unit_test(ring_keeps_what_is_handed_out),
        cmocka_unit_test_setup(messages_are_readable, before),
        cmocka_unit_test_setup(large_messages_are_cut, before),
        cmocka_unit_test_setup(rules_choose, before),
        cmocka_unit_test_setup(what_is_wrong_is_named, before),
        cmocka_unit_test_setup(a_flood_has_no_gap, before),
        cmocka_unit_test_setup(a_slow_reader_counts_what_it_drops, before),
        cmocka_unit_test_setup(a_restart_is_survived, before),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
#else
    print_message("built without libsystemd: skipped\n");
    return 77;
#endif
}
