/* Alarms of tests, what the caller's own sink hears of them, and other processes. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "watch/alerts.h"

static const uint64_t second = 1000000000;

struct heard {
    size_t count, notes;
    char last[512], first_note[512], note[512];
    bool stop;
};

static bool hear(void *cookie, const char *json, size_t bytes)
{
    struct heard *heard = cookie;
    assert_true(bytes && json[0] == '{' && json[bytes - 1] == '}' && json[bytes] == 0);
    assert_null(strchr(json, '\n'));
    snprintf(heard->last, sizeof heard->last, "%s", json);
    heard->count++;
    return !heard->stop;
}

static void hear_note(void *cookie, const char *line)
{
    struct heard *heard = cookie;
    snprintf(heard->note, sizeof heard->note, "%s", line);
    if (heard->notes++ == 0)
        snprintf(heard->first_note, sizeof heard->first_note, "%s", line);
}

static struct alerts_settings settings_for(struct heard *heard)
{
    struct alerts_settings s;
    alerts_settings_default(&s);
    s.print = hear;
    s.note = hear_note;
    s.cookie = s.note_cookie = heard;
    memset(heard, 0, sizeof *heard);
    return s;
}

static struct alerts *open_alerts(const struct alerts_settings *settings)
{
    struct alerts *alerts = NULL;
    struct akin_error error = { 0 };
    if (alerts_open(settings, &alerts, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return alerts;
}

/* An alarm {"n":<n>} of this kind. */
static bool take(struct alerts *alerts, uint64_t kind, int n, uint64_t now_ns)
{
    char json[64];
    int bytes = snprintf(json, sizeof json, "{\"n\":%d}", n);
    struct alert alert = { .kind = kind, .source = "syslog", .severity = ALERT_MEDIUM,
                           .json = json, .json_bytes = (size_t)bytes };
    return alerts_take(alerts, &alert, now_ns);
}

static struct alerts_counts counts_of(struct alerts *alerts)
{
    struct alerts_counts counts;
    alerts_count(alerts, &counts);
    return counts;
}

/* Waits up to a minute; what is not there by then is not coming. */
#define wait_until(condition)                                        \
    do {                                                             \
        for (int i_ = 0; !(condition) && i_ < 12000; i_++)           \
            clock_sleep_us(5000);                                    \
        assert_true(condition);                                      \
    } while (0)

/* ---- files ------------------------------------------------------------------------------ */

static char folder[64];

__attribute__((unused)) static int make_test_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/akin_alerts_test_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

__attribute__((unused)) static int remove_test_folder(void **state)
{
    (void)state;
    return path_remove_tree(folder, NULL);
}

static const char *in_test_folder(char path[PATH_BYTES_MAX], const char *name)
{
    snprintf(path, PATH_BYTES_MAX, "%s/%s", folder, name);
    return path;
}

/* Lines of a file of the folder that have `part`; each must be whole. */
__attribute__((unused)) static size_t lines_with(const char *name, const char *part)
{
    char path[PATH_BYTES_MAX];
    struct bytes text = { 0 };
    size_t count = 0;
    if (!path_exists(in_test_folder(path, name)))
        return 0;
    assert_int_equal(file_read(path, 1 << 26, &text, NULL), AKIN_OK);
    for (char *line = text.data, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        count += strstr(line, part) != NULL;
    }
    bytes_deinit(&text);
    return count;
}

/* ---- processes -------------------------------------------------------------------------- */

struct child {
    pid_t pid;
    int in, out;                /* its standard input, which ends with this; its output */
};

__attribute__((unused)) static struct child start(const char *const *arguments)
{
    int in[2], out[2];
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    struct child child = { .pid = fork(), .in = in[1], .out = out[0] };
    assert_true(child.pid >= 0);
    if (child.pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        for (int fd = 3; fd < 64; fd++)
            close(fd);
        execvp(arguments[0], (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    return child;
}

/* The first line of its output; "": it ended without one. */
__attribute__((unused)) static void read_line(const struct child *child, char *text, size_t bytes)
{
    size_t used = 0;
    while (used + 1 < bytes && read(child->out, text + used, 1) == 1 && text[used] != '\n')
        used++;
    text[used] = 0;
}

/* Its exit status, or minus the signal that ended it. */
__attribute__((unused)) static int stop(struct child *child, int signal)
{
    int status = 0;
    close(child->in);
    close(child->out);
    if (signal)
        kill(child->pid, signal);
    assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}
