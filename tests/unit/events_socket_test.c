/* A UNIX socket that many write to: half lines, floods, bad lines, the file and its permissions. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/limits.h"
#include "source_rig.h"

static struct notes notes;

static enum akin_status try_open(bool plain, unsigned mode, struct event_source **source,
                                 struct akin_error *error)
{
    struct akin_watch_source settings;
    source_settings_default(AKIN_SOURCE_SOCKET, &settings);
    settings.address = path;
    settings.plain = plain;
    settings.mode = mode;
    *source = NULL;
    return source_open(&settings, NULL, notes_begin(&notes), source, error);
}

static struct event_source *open_socket(bool plain)
{
    struct event_source *source;
    struct akin_error error;
    assert_int_equal(try_open(plain, 0, &source, &error), AKIN_OK);
    return source;
}

static int connect_to(const char *to)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%.100s", to);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void many_write_at_once(void **state)
{
    enum { CLIENTS = 100, LINES = 20 };
    int fds[CLIENTS], next_line[CLIENTS] = {0};
    (void)state;
    struct event_source *s = open_socket(true);
    assert_true(s->waits);
    for (int i = 0; i < CLIENTS; i++)
        fds[i] = connect_to(path);
    for (int line = 0; line < LINES; line++)
        for (int i = 0; i < CLIENTS; i++) {
            char text[64];
            snprintf(text, sizeof text, "%d %d", i, line);
            say(fds[i], text);
            if (line % 5 == 0)
                assert_int_not_equal(next_of(s, 0).state, SOURCE_BAD);  /* half lines wait */
            say(fds[i], "\n");
        }
    /* What came at the half lines was whole lines of others: count by what is missing. */
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    int got = 0, last[CLIENTS];
    memset(last, -1, sizeof last);
    for (struct got g; (g = next_of(s, 100)).state == SOURCE_EVENT; got++) {
        int client, line;
        assert_int_equal(sscanf(g.text, "%d %d", &client, &line), 2);
        assert_true(line > last[client]);       /* the order of each is kept */
        last[client] = line;
        next_line[client]++;
    }
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(last[i], LINES - 1);
    assert_true(got > 0);
    source_close(&s);
    assert_int_equal(access(path, F_OK), -1);
}

static void half_lines_wait_and_the_last_counts(void **state)
{
    (void)state;
    struct event_source *s = open_socket(true);
    int a = connect_to(path), b = connect_to(path);
    say(a, "one\ntw");
    expect(s, "one");
    assert_int_equal(next_of(s, 20).state, SOURCE_QUIET);
    say(b, "other\n");
    expect(s, "other");
    say(a, "o\n\nthr");
    expect(s, "two");
    close(a);
    expect(s, "thr");
    close(b);
    assert_int_equal(next_of(s, 20).state, SOURCE_QUIET);     /* others may come */
    a = connect_to(path);
    say(a, "again\n");
    expect(s, "again");
    close(a);
    source_close(&s);
}

static void a_flood_does_not_keep_others_out(void **state)
{
    char *flood = malloc(1 << 20);
    (void)state;
    assert_non_null(flood);
    for (size_t i = 0; i < 1 << 20; i += 16)
        memcpy(flood + i, "flood flood 123\n", 16);
    struct event_source *s = open_socket(true);
    int a = connect_to(path), b = connect_to(path);
    assert_int_equal(fcntl(a, F_SETFL, O_NONBLOCK), 0);
    while (write(a, flood, 1 << 20) > 0) {      /* until the socket is full: it waits then */
    }
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(next_of(s, 100).state, SOURCE_EVENT);
    say(b, "calm\n");
    bool heard = false;
    for (int i = 0; i < 20000 && !heard; i++) {
        while (write(a, flood, 1 << 20) > 0) {
        }
        heard = !strcmp(next_of(s, 100).text, "calm");
    }
    assert_true(heard);
    close(a);
    close(b);
    free(flood);
    source_close(&s);
}

static void half_lines_together_are_bounded(void **state)
{
    enum { CLIENTS = 80, BYTES = 1000000 };
    int fds[CLIENTS], events = 0, bad = 0;
    char *half = malloc(BYTES);
    (void)state;
    assert_non_null(half);
    memset(half, 'x', BYTES);
    struct event_source *s = open_socket(true);
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = connect_to(path);
        assert_int_equal(fcntl(fds[i], F_SETFL, O_NONBLOCK), 0);
        for (size_t sent = 0; sent < BYTES;) {
            ssize_t went = write(fds[i], half + sent, BYTES - sent);
            sent += went > 0 ? (size_t)went : 0;
            assert_int_equal(next_of(s, 0).state, SOURCE_QUIET);
        }
    }
    for (int i = 0; i < CLIENTS; i++) {
        say(fds[i], "\n");
        struct got got = wait_for(s);
        events += got.state == SOURCE_EVENT;
        bad += got.state == SOURCE_BAD && got.error.status == AKIN_LIMIT;
        close(fds[i]);
    }
    assert_int_equal(events + bad, CLIENTS);
    assert_in_range(events, SOCKET_BYTES_MAX / BYTES, SOCKET_BYTES_MAX / BYTES + 3);
    int a = connect_to(path);       /* what they held is free again */
    assert_int_equal(fcntl(a, F_SETFL, O_NONBLOCK), 0);
    for (size_t sent = 0; sent < BYTES;) {
        ssize_t went = write(a, half + sent, BYTES - sent);
        sent += went > 0 ? (size_t)went : 0;
        assert_int_equal(next_of(s, 0).state, SOURCE_QUIET);
    }
    say(a, "\n");
    assert_int_equal(wait_for(s).state, SOURCE_EVENT);
    close(a);
    free(half);
    source_close(&s);
}

static void bad_lines_are_left_out(void **state)
{
    (void)state;
    struct event_source *s = open_socket(false);
    int a = connect_to(path);
    say(a, "{\"text\":\"a\"}\n{\n{\"text\":\"\xc3\"}\n");
    expect(s, "a");
    for (int i = 2; i < 4; i++) {
        struct got bad = wait_for(s);
        char place[64];
        snprintf(place, sizeof place, "client 1:%d", i);
        assert_int_equal(bad.state, SOURCE_BAD);
        assert_non_null(strstr(bad.error.message, place));
    }
    char *large = malloc(4 * EVENT_BYTES_MAX);
    assert_non_null(large);
    memset(large, 'x', 4 * EVENT_BYTES_MAX);
    assert_int_equal(fcntl(a, F_SETFL, O_NONBLOCK), 0);
    for (size_t sent = 0; sent < 4 * EVENT_BYTES_MAX;) {
        ssize_t went = write(a, large + sent, 4 * EVENT_BYTES_MAX - sent);
        sent += went > 0 ? (size_t)went : 0;
        assert_int_equal(next_of(s, 0).state, SOURCE_QUIET);
    }
    while (write(a, "\n{\"text\":\"b\"}\n", 15) < 0)
        assert_int_equal(next_of(s, 0).state, SOURCE_QUIET);
    struct got bad = wait_for(s);
    assert_int_equal(bad.state, SOURCE_BAD);
    assert_int_equal(bad.error.status, AKIN_LIMIT);
    expect(s, "b");
    close(a);
    free(large);
    source_close(&s);
}

static void the_file_is_private_and_taken_over_if_stale(void **state)
{
    struct stat info;
    struct event_source *second;
    struct akin_error error;
    (void)state;
    struct event_source *s = open_socket(true);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_int_equal(try_open(true, 0, &second, &error), AKIN_BUSY);
    assert_null(second);
    assert_int_equal(access(path, F_OK), 0);        /* and the first one still listens */
    int a = connect_to(path);
    say(a, "a\n");
    expect(s, "a");
    close(a);
    source_close(&s);

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.100s", path);
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(stale, (struct sockaddr *)&address, sizeof address), 0);
    close(stale);
    assert_int_equal(try_open(true, 0666, &s, &error), AKIN_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0666);
    unlink(path);           /* as cleaners of /tmp do */
    for (int i = 0; i < 300 && access(path, F_OK); i++)
        next_of(s, 100);
    a = connect_to(path);
    say(a, "b\n");
    expect(s, "b");
    assert_non_null(strstr(notes.text, "made again"));
    close(a);
    source_close(&s);
}

static void what_cannot_be_listened_at_is_said(void **state)
{
    struct akin_watch_source settings;
    struct event_source *s = NULL;
    struct akin_error error;
    char keep[PATH_BYTES_MAX], far[256];
    (void)state;
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    close(fd);
    assert_int_equal(try_open(true, 0, &s, &error), AKIN_IO);
    assert_int_equal(access(path, F_OK), 0);    /* a file is nobody's socket to remove */
    unlink(path);
    snprintf(keep, sizeof keep, "%s", path);
    snprintf(path, sizeof path, "%.64s/none/socket", folder);
    assert_int_equal(try_open(true, 0, &s, &error), AKIN_NOT_FOUND);
    snprintf(path, sizeof path, "%s", keep);
    assert_int_equal(try_open(true, 01777, &s, &error), AKIN_ARGUMENT);
    memset(far, 'x', sizeof far);
    far[sizeof far - 1] = 0;
    source_settings_default(AKIN_SOURCE_SOCKET, &settings);
    settings.address = far;
    assert_int_equal(source_open(&settings, NULL, notes_begin(&notes), &s, &error), AKIN_ARGUMENT);
    settings.address = NULL;
    assert_int_equal(source_open(&settings, NULL, notes_begin(&notes), &s, &error), AKIN_ARGUMENT);
    assert_null(s);
}

static void without_descriptors_clients_wait(void **state)
{
    struct rlimit limit, low;
    int fds[8];
    (void)state;
    struct event_source *s = open_socket(true);
    for (int i = 0; i < 8; i++)
        fds[i] = connect_to(path);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    low.rlim_cur = (rlim_t)fds[7] + 3;          /* two more */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    say(fds[0], "a\n");
    say(fds[7], "b\n");
    expect(s, "a");
    assert_int_equal(next_of(s, 20).state, SOURCE_QUIET);
    assert_non_null(strstr(notes.text, "wait"));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    expect(s, "b");
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    source_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_write_at_once),
        cmocka_unit_test(half_lines_wait_and_the_last_counts),
        cmocka_unit_test(a_flood_does_not_keep_others_out),
        cmocka_unit_test(half_lines_together_are_bounded),
        cmocka_unit_test(bad_lines_are_left_out),
        cmocka_unit_test(the_file_is_private_and_taken_over_if_stale),
        cmocka_unit_test(what_cannot_be_listened_at_is_said),
        cmocka_unit_test(without_descriptors_clients_wait),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
