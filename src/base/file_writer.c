/* Writes that happen whole or not at all. The temporary file lies beside its target, so that the
 * rename stays within one file system. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

enum { BUFFER_BYTES = 1 << 18 };

struct file_writer {
    char path[PATH_BYTES_MAX];
    char temporary[PATH_BYTES_MAX + 32];    /* "" for standard output */
    int fd;
    size_t buffered;
    struct akin_error failure;              /* the first one; status AKIN_OK: none */
    char buffer[BUFFER_BYTES];
};

/* Devices and pipes, such as /dev/null, cannot be replaced by a rename: they are written to. */
static bool is_special(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

static int open_temporary(struct file_writer *w)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        snprintf(w->temporary, sizeof w->temporary, "%s.%ld-%d.part", w->path, (long)getpid(),
                 attempt);
        int fd = TEMP_FAILURE_RETRY(
            open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

enum akin_status file_writer_open(const char *path, struct file_writer **writer,
                                  struct akin_error *error)
{
    if (strlen(path) >= PATH_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "%.200s...: the path is too long", path);
    if (path_is_folder(path))
        return error_set(error, AKIN_IO, "%s: is a folder, not a file to write", path);
    struct file_writer *w = memory_alloc(1, sizeof *w);
    if (!w)
        return error_memory(error);
    snprintf(w->path, sizeof w->path, "%s", path);
    if (!strcmp(path, "-"))
        w->fd = STDOUT_FILENO;
    else if (is_special(path))
        w->fd = TEMP_FAILURE_RETRY(open(path, O_WRONLY | O_CLOEXEC));
    else
        w->fd = open_temporary(w);
    if (w->fd < 0) {
        enum akin_status status = error_system(error, "%s: cannot be written", path);
        memory_free(w);
        return status;
    }
    *writer = w;
    return AKIN_OK;
}

static void write_all(struct file_writer *w, const char *bytes, size_t count)
{
    while (count && w->failure.status == AKIN_OK) {
        ssize_t written = write(w->fd, bytes, count);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            error_system(&w->failure, "%s: cannot be written", w->path);
            return;
        }
        bytes += written;
        count -= (size_t)written;
    }
}

static void flush(struct file_writer *w)
{
    write_all(w, w->buffer, w->buffered);
    w->buffered = 0;
}

static enum akin_status report(const struct file_writer *w, struct akin_error *error)
{
    if (w->failure.status != AKIN_OK && error)
        *error = w->failure;
    return w->failure.status;
}

enum akin_status file_writer_write(struct file_writer *w, const void *bytes, size_t count,
                                   struct akin_error *error)
{
    if (count > BUFFER_BYTES - w->buffered)
        flush(w);
    if (count >= BUFFER_BYTES) {
        write_all(w, bytes, count);
    } else if (count) {
        memcpy(w->buffer + w->buffered, bytes, count);
        w->buffered += count;
    }
    return report(w, error);
}

enum akin_status file_writer_patch(struct file_writer *w, uint64_t offset, const void *bytes,
                                   size_t count, struct akin_error *error)
{
    flush(w);
    const char *at = bytes;
    while (count && w->failure.status == AKIN_OK) {
        ssize_t written = pwrite(w->fd, at, count, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            error_system(&w->failure, "%s: cannot be written", w->path);
        } else {
            at += written;
            offset += (uint64_t)written;
            count -= (size_t)written;
        }
    }
    return report(w, error);
}

/* `forgiven`: an errno that is no error. */
static enum akin_status sync_folder(const char *folder, int (*sync)(int fd), int forgiven,
                                    struct akin_error *error)
{
    int fd, result;
    do {
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return error_system(error, "%s", folder);
    enum akin_status status = AKIN_OK;
    do {
        result = sync(fd);
    } while (result && errno == EINTR);
    if (result && errno != forgiven)
        status = error_system(error, "%s: cannot be made durable", folder);
    close(fd);
    return status;
}

/* File systems that cannot sync a folder say EINVAL: no error. */
enum akin_status path_sync_folder(const char *path, struct akin_error *error)
{
    char folder[PATH_BYTES_MAX];
    size_t length = (size_t)(path_last(path) - path);
    if (length == 0)
        snprintf(folder, sizeof folder, ".");
    else
        snprintf(folder, sizeof folder, "%.*s", (int)length, path);
    return sync_folder(folder, fsync, EINVAL, error);
}

enum akin_status path_sync_all(const char *folder, struct akin_error *error)
{
    return sync_folder(folder, syncfs, 0, error);
}

enum akin_status file_writer_commit(struct file_writer **writer, struct akin_error *error)
{
    struct file_writer *w = *writer;
    flush(w);
    if (w->temporary[0] && w->failure.status == AKIN_OK) {
        if (TEMP_FAILURE_RETRY(fsync(w->fd)))
            error_system(&w->failure, "%s: cannot be made durable", w->path);
        else if (rename(w->temporary, w->path))
            error_system(&w->failure, "%s: cannot be put in place", w->path);
        else
            w->temporary[0] = 0;
    }
    enum akin_status status = report(w, error);
    bool renamed = status == AKIN_OK && w->fd != STDOUT_FILENO;
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s", w->path);
    file_writer_abort(writer);
    return renamed && !is_special(path) ? path_sync_folder(path, error) : status;
}

void file_writer_abort(struct file_writer **writer)
{
    struct file_writer *w = *writer;
    if (!w)
        return;
    if (w->fd != STDOUT_FILENO)
        close(w->fd);
    if (w->temporary[0])
        unlink(w->temporary);
    memory_free(w);
    *writer = NULL;
}

enum akin_status file_write(const char *path, const void *bytes, size_t count,
                            struct akin_error *error)
{
    struct file_writer *writer;
    TRY(file_writer_open(path, &writer, error));
    file_writer_write(writer, bytes, count, NULL);
    return file_writer_commit(&writer, error);
}
