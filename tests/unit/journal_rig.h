/* Journal files of a test's own, written by systemd-journal-remote from the export format. */
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"

#define JOURNAL_REMOTE "/lib/systemd/systemd-journal-remote"
#define JOURNAL_EPOCH_US 1700000000000000ull

struct journal_writer {
    pid_t pid;
    int fd;
};

static inline bool journal_is_here(void)
{
    return !access(JOURNAL_REMOTE, X_OK);
}

/* A writer that is fed through a pipe and goes on with the file where there is one. */
static inline struct journal_writer journal_open_writer(const char *file)
{
    struct journal_writer writer = {.pid = -1, .fd = -1};
    int ends[2];
    pid_t parent = getpid();
    if (pipe(ends))
        return writer;
    signal(SIGPIPE, SIG_IGN);
    writer.pid = fork();
    if (!writer.pid) {
        int nowhere = open("/dev/null", O_WRONLY);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || dup2(ends[0], 0) < 0 || dup2(nowhere, 2) < 0)
            _exit(1);
        close(ends[0]);
        close(ends[1]);
        execl(JOURNAL_REMOTE, JOURNAL_REMOTE, "-o", file, "-", (char *)NULL);
        _exit(127);
    }
    close(ends[0]);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    writer.fd = ends[1];
    return writer;
}

static inline bool journal_feed(const struct journal_writer *writer, const struct bytes *text)
{
    for (size_t at = 0; at < text->count;) {
        ssize_t count = write(writer->fd, text->data + at, text->count - at);
        if (count <= 0)
            return false;
        at += (size_t)count;
    }
    return !text->failed;
}

/* false: it did not end well. */
static inline bool journal_close_writer(struct journal_writer *writer)
{
    int status;
    close(writer->fd);
    return waitpid(writer->pid, &status, 0) == writer->pid && WIFEXITED(status) &&
           !WEXITSTATUS(status);
}

static inline void entry_begin(struct bytes *text, uint64_t ms, const char *boot)
{
    bytes_printf(text, "__REALTIME_TIMESTAMP=%llu\n__MONOTONIC_TIMESTAMP=%llu\n_BOOT_ID=%s\n",
                 (unsigned long long)(JOURNAL_EPOCH_US + ms * 1000),
                 (unsigned long long)(1000000 + ms * 1000), boot);
}

/* A field whose value may hold anything. */
static inline void entry_binary(struct bytes *text, const char *field, const void *value,
                                uint64_t bytes)
{
    bytes_printf(text, "%s\n", field);
    bytes_append(text, &bytes, sizeof bytes);
    bytes_append(text, value, (size_t)bytes);
    bytes_append(text, "\n", 1);
}

/* Entries "event FIRST" and so on, `step` apart, each at its number in milliseconds. */
static inline void entries(struct bytes *text, unsigned first, unsigned count, unsigned step)
{
    for (unsigned i = first; i < first + count * step; i += step) {
        entry_begin(text, i, "11111111111111111111111111111111");
        bytes_printf(text, "MESSAGE=event %u\nPRIORITY=%u\n_SYSTEMD_UNIT=unit%u.service\n\n", i,
                     i % 8, i % 3);
    }
}

static inline bool journal_write(const char *file, const struct bytes *text)
{
    struct journal_writer writer = journal_open_writer(file);
    bool fed = writer.pid > 0 && journal_feed(&writer, text);
    return journal_close_writer(&writer) && fed;
}

static inline bool journal_write_entries(const char *file, unsigned first, unsigned count,
                                         unsigned step)
{
    struct bytes text = {0};
    entries(&text, first, count, step);
    bool written = journal_write(file, &text);
    bytes_deinit(&text);
    return written;
}
