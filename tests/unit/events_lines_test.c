/* Lines of files, pipes and followed files: rotation, truncation, cursors, bad lines. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/limits.h"
#include "source_rig.h"

static struct notes notes;
static char other[PATH_BYTES_MAX];      /* where `path` is rotated to */

static void add(const char *file, const char *text)
{
    FILE *to = fopen(file, "ab");
    assert_non_null(to);
    assert_int_equal(fwrite(text, 1, strlen(text), to), strlen(text));
    assert_int_equal(fclose(to), 0);
}

static struct event_source *open_lines(bool follow, bool plain, const char *cursor)
{
    struct akin_watch_source settings;
    struct event_source *source = NULL;
    struct akin_error error;
    source_settings_default(AKIN_SOURCE_LINES, &settings);
    settings.address = path;
    settings.follow = follow;
    settings.plain = plain;
    assert_int_equal(source_open(&settings, cursor, notes_begin(&notes), &source, &error), AKIN_OK);
    return source;
}

static void fresh(void)
{
    snprintf(other, sizeof other, "%.64s/log.1", folder);
    unlink(path);
    unlink(other);
}

static void a_file_is_read_to_its_end(void **state)
{
    (void)state;
    fresh();
    add(path, "a\n\nb\r\nc");
    struct event_source *s = open_lines(false, true, "");
    assert_true(s->waits);
    assert_string_equal(strrchr(s->name, '/'), "/log");
    struct got first = next_of(s, 0);
    assert_string_equal(first.text, "a");
    assert_int_equal(first.seq, 0);
    struct got second = next_of(s, 0);
    assert_string_equal(second.text, "b");
    assert_int_equal(second.seq, 2);
    assert_string_not_equal(first.id, second.id);
    assert_string_equal(next_of(s, 0).text, "c");
    assert_int_equal(next_of(s, 0).state, SOURCE_END);
    assert_int_equal(next_of(s, 0).state, SOURCE_END);
    assert_int_equal(s->stored(s, 3, NULL), AKIN_OK);
    source_close(&s);
    assert_null(s);

    s = open_lines(false, true, first.cursor);      /* goes on behind it, with the same ids */
    struct got again = next_of(s, 0);
    assert_string_equal(again.text, "b");
    assert_string_equal(again.id, second.id);
    assert_string_equal(again.cursor, second.cursor);
    source_close(&s);
    assert_string_equal(notes.text, "");
}

static void a_growing_file_is_followed(void **state)
{
    (void)state;
    fresh();
    struct event_source *s = open_lines(true, true, "");
    assert_int_equal(next_of(s, 0).state, SOURCE_QUIET);
    assert_int_equal(next_of(s, 30).state, SOURCE_QUIET);
    assert_non_null(strstr(notes.text, "waiting for it"));
    assert_ptr_equal(strstr(notes.text, "waiting"), strrchr(notes.text, 'w'));   /* told once */
    add(path, "a\nhal");
    expect(s, "a");
    assert_int_equal(next_of(s, 50).state, SOURCE_QUIET);   /* a half line waits */
    add(path, "f\n");
    expect(s, "half");
    source_close(&s);
}

static void rotation_loses_nothing(void **state)
{
    (void)state;
    fresh();
    add(path, "a\nb\n");
    struct event_source *s = open_lines(true, true, "");
    expect(s, "a");
    struct got b = wait_for(s);
    assert_int_equal(rename(path, other), 0);
    add(other, "c\n");              /* the writer has not heard of it */
    add(path, "d\n");
    add(other, "e\nend");
    expect(s, "c,e,end");
    struct got d = wait_for(s);
    assert_string_equal(d.text, "d");
    assert_string_not_equal(d.id, b.id);
    source_close(&s);

    s = open_lines(true, true, b.cursor);   /* while nobody ran */
    expect(s, "c,e,end,d");
    assert_non_null(strstr(notes.text, "log.1"));
    source_close(&s);
    assert_int_equal(unlink(other), 0);
    s = open_lines(true, true, b.cursor);   /* the old one is gone: that is told */
    expect(s, "d");
    assert_non_null(strstr(notes.text, "lost"));
    source_close(&s);
    s = open_lines(true, true, d.cursor);
    assert_int_equal(next_of(s, 0).state, SOURCE_QUIET);
    assert_string_equal(notes.text, "");
    source_close(&s);
}

static void a_cut_file_is_begun_again(void **state)
{
    (void)state;
    fresh();
    add(path, "a\nbbbbbbbb\n");
    struct event_source *s = open_lines(true, true, "");
    expect(s, "a");
    struct got b = wait_for(s);
    assert_int_equal(next_of(s, 0).state, SOURCE_QUIET);
    assert_int_equal(truncate(path, 0), 0);
    add(path, "a\n");
    struct got a = wait_for(s);
    assert_string_equal(a.text, "a");
    assert_non_null(strstr(notes.text, "cut"));
    assert_int_equal(next_of(s, 0).state, SOURCE_QUIET);
    assert_int_equal(truncate(path, 0), 0);     /* and is longer than before at the next look */
    add(path, "x\ny\nz\n");
    expect(s, "x,y,z");
    assert_int_equal(truncate(path, 0), 0);     /* before anybody looked whether that was all */
    add(path, "x\nother\nlines\n");
    expect(s, "x,other,lines");
    source_close(&s);

    s = open_lines(true, true, b.cursor);
    struct got x = wait_for(s);
    assert_string_equal(x.text, "x");
    assert_non_null(strstr(notes.text, "cut"));
    source_close(&s);
    struct event_source *once = open_lines(false, true, a.cursor);
    assert_string_equal(next_of(once, 0).text, "x");
    source_close(&once);
}

static void the_same_line_again_is_another_event(void **state)
{
    (void)state;
    fresh();
    add(path, "start\n");
    struct event_source *s = open_lines(true, true, "");
    struct got first = wait_for(s);
    next_of(s, 0);
    assert_int_equal(truncate(path, 0), 0);
    next_of(s, 150);
    add(path, "start\n");
    struct got second = wait_for(s);
    assert_string_equal(second.text, "start");
    assert_string_not_equal(second.id, first.id);
    source_close(&s);
}

static void bad_cursors_begin_at_the_start(void **state)
{
    static const char *const cursors[] = {
        "x", "1:2", "1:1:1:99999999999999999999999:5:0", "1:1:1:3:4000:0", "1:1:1:-3:3:0",
        "2:1:1:3:3:0", "1:1:1:3:3:0 more", "1:1:0:3:3:0", "s=journal"
    };
    (void)state;
    fresh();
    add(path, "a\nb\n");
    for (size_t i = 0; i < sizeof cursors / sizeof cursors[0]; i++) {
        struct event_source *s = open_lines(false, true, cursors[i]);
        expect(s, "a,b");
        assert_string_not_equal(notes.text, "");
        source_close(&s);
    }
}

static void a_mark_of_utf8_is_no_text(void **state)
{
    (void)state;
    fresh();
    add(path, "\xef\xbb\xbf{\"text\":\"a\"}\n");
    struct event_source *s = open_lines(false, false, "");
    expect(s, "a");
    source_close(&s);
    fresh();
    add(path, "\xef\xbb\xbf\n\xef\xbb\xbf" "b\n");
    s = open_lines(false, true, "");
    expect(s, "\xef\xbb\xbf" "b");
    source_close(&s);
}

static void bad_lines_are_named(void **state)
{
    (void)state;
    fresh();
    add(path, "{\"text\":\"a\"}\nnot json\n{\"text\":\"\xff\"}\n[]\n");
    char *large = calloc(EVENT_BYTES_MAX + 2, 1);
    assert_non_null(large);
    memset(large, 'x', EVENT_BYTES_MAX + 1);
    add(path, large);
    add(path, "\n{\"text\":\"b\",\"seq\":70}\n");
    struct event_source *s = open_lines(false, false, "");
    expect(s, "a");
    const char *const places[] = {"log:2", "log:3", "log:4", "log:5"};
    for (int i = 0; i < 4; i++) {
        struct got bad = next_of(s, 1000);
        assert_int_equal(bad.state, SOURCE_BAD);
        assert_non_null(strstr(bad.error.message, places[i]));
        assert_int_equal(bad.error.status, i == 3 ? AKIN_LIMIT : AKIN_FORMAT);
    }
    struct got b = next_of(s, 0);
    assert_string_equal(b.text, "b");
    assert_int_equal(b.seq, 70);
    source_close(&s);

    fresh();
    large[EVENT_BYTES_MAX] = 0;         /* just fits */
    add(path, large);
    s = open_lines(false, true, "");
    assert_int_equal(next_of(s, 1000).state, SOURCE_EVENT);
    assert_int_equal(next_of(s, 0).state, SOURCE_END);
    source_close(&s);
    free(large);
}

static void bytes_of_any_kind_are_text(void **state)
{
    struct event event = {0};
    enum source_state what;
    (void)state;
    fresh();
    FILE *to = fopen(path, "wb");
    assert_non_null(to);
    fwrite("a\0b\xff\n\0\n", 1, 7, to);
    fclose(to);
    struct event_source *s = open_lines(false, true, "");
    assert_int_equal(s->next(s, 0, &event, &what, NULL), AKIN_OK);
    assert_int_equal(event.text_bytes, 6);
    assert_memory_equal(event.text, "a\0b\xef\xbf\xbd", 6);
    assert_int_equal(s->next(s, 0, &event, &what, NULL), AKIN_OK);
    assert_int_equal(event.text_bytes, 1);
    event_clear(&event);
    source_close(&s);
}

static void pipes_end_with_their_writers(void **state)
{
    (void)state;
    fresh();
    assert_int_equal(mkfifo(path, 0600), 0);
    struct event_source *s = open_lines(false, true, "1:1:1:3:3:0");
    assert_int_equal(next_of(s, 20).state, SOURCE_QUIET);
    int fd = open(path, O_WRONLY);
    assert_int_equal(write(fd, "a\nb", 3), 3);
    struct got a = wait_for(s);
    assert_string_equal(a.text, "a");
    assert_string_equal(a.id, "");
    assert_string_equal(a.cursor, "");
    assert_int_equal(next_of(s, 20).state, SOURCE_QUIET);
    close(fd);
    expect(s, "b");
    assert_int_equal(wait_for(s).state, SOURCE_END);
    source_close(&s);

    s = open_lines(true, true, "");     /* and go on where they are followed */
    for (int i = 0; i < 2; i++) {
        fd = open(path, O_WRONLY);
        assert_int_equal(write(fd, "c\n", 2), 2);
        close(fd);
        expect(s, "c");
        assert_int_equal(next_of(s, 20).state, SOURCE_QUIET);
    }
    source_close(&s);
}

static void what_cannot_be_opened_is_said(void **state)
{
    struct akin_watch_source settings;
    struct event_source *source = NULL;
    struct akin_error error;
    (void)state;
    fresh();
    source_settings_default(AKIN_SOURCE_LINES, &settings);
    settings.address = path;
    assert_int_equal(source_open(&settings, NULL, notes_begin(&notes), &source, &error),
                     AKIN_NOT_FOUND);
    assert_non_null(strstr(error.message, "log"));
    settings.address = folder;
    assert_int_equal(source_open(&settings, NULL, notes_begin(&notes), &source, &error), AKIN_IO);
    settings.address = "";
    assert_int_equal(source_open(&settings, NULL, notes_begin(&notes), &source, &error),
                     AKIN_ARGUMENT);
    settings.address = path;
    settings.name = "two\nlines";
    assert_int_equal(source_open(&settings, NULL, notes_begin(&notes), &source, &error),
                     AKIN_ARGUMENT);
    settings.kind = (enum akin_source_kind)99;
    assert_int_equal(source_open(&settings, NULL, notes_begin(&notes), &source, &error),
                     AKIN_ARGUMENT);
    source_settings_default(AKIN_SOURCE_NATS, &settings);
    assert_int_equal(source_open(&settings, NULL, notes_begin(&notes), &source, &error),
                     AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "stream"));
    assert_null(source);
}

static void fields_have_names(void **state)
{
    static const char line[] =
        "{\"msg\":\"no\",\"log\":{\"text\":\"yes\",\"a.b\":{\"c\":\"deep\"}},\"log.id\":17,"
        "\"when\":1.5,\"pid\":42,\"seq\":3,\"x\":{\"y\":true}}";
    const struct akin_event_fields fields = {.text = "log.text", .time = "when", .level = "",
                                             .source = "log.a.b.c", .session = "pid",
                                             .id = "log.id"};
    const struct akin_event_fields absent = {.text = "x.y"}, seq = {.id = "seq"};
    struct event e = {0};
    struct akin_error error;
    (void)state;
    assert_int_equal(event_parse(&e, EVENT_JSONL, line, sizeof line - 1, &fields, 0, "f:1", &error),
                     AKIN_OK);
    assert_string_equal(e.text, "yes");
    assert_string_equal(e.source, "deep");
    assert_string_equal(e.time, "1.500000");
    assert_string_equal(e.session, "42");
    assert_string_equal(e.id, "17");
    assert_string_equal(e.level, "");
    assert_int_equal(e.seq, 3);
    assert_int_equal(event_parse(&e, EVENT_JSONL, line, sizeof line - 1, &absent, 0, "f:1", &error),
                     AKIN_FORMAT);
    assert_non_null(strstr(error.message, "f:1: x.y"));
    assert_int_equal(event_parse(&e, EVENT_JSONL, line, sizeof line - 1, &seq, 0, "f:1", NULL), 0);
    assert_string_equal(e.id, "3");
    assert_int_equal(e.seq, 3);
    assert_string_equal(e.text, "no");
    static const char nul[] = "{\"text\":\"a\",\"id\":\"x\\u0000y\"}";
    const struct akin_event_fields id = {.id = "id"};
    assert_int_equal(event_parse(&e, EVENT_JSONL, nul, sizeof nul - 1, &id, 0, "f:1", &error),
                     AKIN_FORMAT);
    char long_id[EVENT_ID_BYTES_MAX + 64];
    int bytes = snprintf(long_id, sizeof long_id, "{\"text\":\"a\",\"id\":\"%0*d\"}",
                         EVENT_ID_BYTES_MAX + 1, 7);
    assert_int_equal(event_parse(&e, EVENT_JSONL, long_id, (size_t)bytes, &id, 0, "f:1", &error),
                     AKIN_LIMIT);
    event_clear(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_to_its_end),
        cmocka_unit_test(a_growing_file_is_followed),
        cmocka_unit_test(rotation_loses_nothing),
        cmocka_unit_test(a_cut_file_is_begun_again),
        cmocka_unit_test(the_same_line_again_is_another_event),
        cmocka_unit_test(bad_cursors_begin_at_the_start),
        cmocka_unit_test(a_mark_of_utf8_is_no_text),
        cmocka_unit_test(bad_lines_are_named),
        cmocka_unit_test(bytes_of_any_kind_are_text),
        cmocka_unit_test(pipes_end_with_their_writers),
        cmocka_unit_test(what_cannot_be_opened_is_said),
        cmocka_unit_test(fields_have_names),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
