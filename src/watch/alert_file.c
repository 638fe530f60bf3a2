/* Alarms into a file, one a line, by whole lines: what a full disk cuts off is taken back, and is
 * written again when there is room. A file that was moved away (rotation) is made anew; one whose
 * last line was cut off by a crash gets a line end first. Not synced: who needs proof of an alarm
 * has the audit log. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "watch/alert_outlet.h"

struct file_sink {
    struct alert_sink sink;
    char *path;
    int fd;                     /* -1: none */
    bool torn;                  /* the last line has no end */
};

static void shut(struct file_sink *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

static enum akin_status open_file(struct file_sink *f, struct akin_error *error)
{
    struct stat info;
    char last = '\n';
    f->fd = open(f->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
    if (f->fd < 0)
        return error_system(error, "%s: alarms cannot be appended to it", f->path);
    enum akin_status status = AKIN_OK;
    if (fstat(f->fd, &info))
        status = error_system(error, "%s", f->path);
    else if (!S_ISREG(info.st_mode))
        status = error_set(error, AKIN_ARGUMENT,
                           "%s: alarms are appended to regular files only; this is none", f->path);
    else if (info.st_size > 0 && pread(f->fd, &last, 1, info.st_size - 1) != 1)
        status = error_system(error, "%s: cannot be read", f->path);
    f->torn = last != '\n';
    if (status != AKIN_OK)
        shut(f);
    return status;
}

/* Whether the path still leads to the file that is open. */
static bool is_there(const struct file_sink *f)
{
    struct stat now, ours;
    return !stat(f->path, &now) && !fstat(f->fd, &ours) && now.st_dev == ours.st_dev &&
           now.st_ino == ours.st_ino;
}

/* `written` bytes of a line are there, and not the rest. */
static void take_back(struct file_sink *f, ssize_t written)
{
    struct stat info;
    off_t end = lseek(f->fd, 0, SEEK_CUR);
    f->torn = true;
    if (end >= written && !fstat(f->fd, &info) && info.st_size == end &&    /* nobody's behind it */
        !ftruncate(f->fd, end - written))
        f->torn = false;
}

static enum sink_result file_send(struct alert_sink *sink, char *line, size_t bytes,
                                  const atomic_bool *stop, struct akin_error *error)
{
    struct file_sink *f = (struct file_sink *)sink;
    (void)stop;
    if (f->fd >= 0 && !is_there(f))
        shut(f);
    if (f->fd < 0 && open_file(f, error) != AKIN_OK)
        return SINK_AGAIN;
    if (f->torn && write(f->fd, "\n", 1) != 1) {
        error_system(error, "%s: cannot be written", f->path);
        return SINK_AGAIN;
    }
    f->torn = false;
    ssize_t written = write(f->fd, line, bytes);
    if (written == (ssize_t)bytes)
        return SINK_TOOK;
    if (written > 0) {
        take_back(f, written);
        error_set(error, AKIN_IO, "%s: only a part of a line could be written", f->path);
    } else {
        error_system(error, "%s: cannot be written", f->path);
    }
    return SINK_AGAIN;
}

static void file_close(struct alert_sink *sink)
{
    struct file_sink *f = (struct file_sink *)sink;
    shut(f);
    memory_free(f->path);
    memory_free(f);
}

enum akin_status alert_file_open(const char *path, struct alert_sink **sink,
                                 struct akin_error *error)
{
    struct file_sink *f = memory_alloc(1, sizeof *f);
    if (!f)
        return error_memory(error);
    f->sink = (struct alert_sink){ .send = file_send, .close = file_close, .pause_first_ms = 100,
                                   .pause_max_ms = 5000 };
    snprintf(f->sink.name, sizeof f->sink.name, "file %s", path_last(path));
    f->fd = -1;
    f->path = memory_copy_string(path);
    enum akin_status status = f->path ? open_file(f, error) : error_memory(error);
    if (status != AKIN_OK)
        file_close(&f->sink);
    else
        *sink = &f->sink;
    return status;
}
