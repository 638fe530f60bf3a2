/* For LD_PRELOAD: makes the n-th of the system calls that change files fail, or writes them all
 * down. Only descriptors above standard error count; standard output is where the program says what
 * it has acknowledged.
 *
 *   FAULT_NTH=n      from 1; each call below of a kind that can fail so counts
 *   FAULT_KIND=...   EIO ENOSPC EINTR: fails with that; SHORT: a write of half the bytes;
 *                    FULL: this and all later writes fail with ENOSPC;
 *                    KILL_BEFORE KILL_AFTER: the process dies by SIGKILL around the call
 *   FAULT_TRACE=F    appends each call to F; see crash_test.py for the form
 *   FAULT_SKIP=CALL  this one (fdatasync, fsync, syncfs) does nothing and says that all is well,
 *                    which a test of crashes must then find */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic long count;
static int trace_fd = -1;

static void raw_write(int fd, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes) {
        long done = syscall(SYS_write, fd, at, bytes);
        if (done <= 0)
            syscall(SYS_exit_group, 99);
        at += done;
        bytes -= (size_t)done;
    }
}

__attribute__((constructor))
static void begin(void)
{
    const char *path = getenv("FAULT_TRACE");
    if (path)
        trace_fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

static void die(void)
{
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
}

enum { PASS, FAIL, SHORT, DIE_AFTER };

/* What becomes of this call; errno is set for FAIL. */
static int verdict(const char *call, int is_write)
{
    const char *nth = getenv("FAULT_NTH"), *kind = getenv("FAULT_KIND");
    if (!nth || !kind || (!strcmp(kind, "SHORT") && !is_write) ||
        (!strcmp(kind, "EINTR") &&      /* which no signal interrupts */
         (!strcmp(call, "rename") || !strcmp(call, "mkdir"))))
        return PASS;
    long wanted = strtol(nth, NULL, 10);
    long number = ++count;
    if (!strcmp(kind, "FULL") && number > wanted) {
        errno = ENOSPC;
        return is_write ? FAIL : PASS;
    }
    if (number != wanted)
        return PASS;
    raw_write(2, "fault fired: ", 13);
    raw_write(2, call, strlen(call));
    raw_write(2, "\n", 1);
    if (!strcmp(kind, "KILL_BEFORE"))
        die();
    if (!strcmp(kind, "KILL_AFTER"))
        return DIE_AFTER;
    if (!strcmp(kind, "SHORT"))
        return SHORT;
    if (!strcmp(kind, "FULL") && !is_write)
        return PASS;
    errno = !strcmp(kind, "ENOSPC") || !strcmp(kind, "FULL") ? ENOSPC
            : !strcmp(kind, "EINTR")                         ? EINTR
                                                             : EIO;
    return FAIL;
}

static long finish(int what, long result)
{
    if (what == DIE_AFTER)
        die();
    return result;
}

/* ---- trace ------------------------------------------------------------------------------ */

struct event {
    char what[8];               /* write trunc sync dirsync syncall open mkdir rename unlink ack */
    uint64_t inode, offset, bytes;      /* of the data that follow */
};

static atomic_flag tracing = ATOMIC_FLAG_INIT;

static void trace(const char *what, int fd, uint64_t offset, const struct iovec *parts,
                  int parts_count, size_t bytes)
{
    if (trace_fd < 0)
        return;
    struct event event = { .offset = offset, .bytes = bytes };
    struct stat info;
    memcpy(event.what, what, strlen(what));
    if (fd >= 0 && !fstat(fd, &info))
        event.inode = info.st_ino;
    while (atomic_flag_test_and_set(&tracing))
        ;                       /* threads take turns */
    raw_write(trace_fd, &event, sizeof event);
    for (int i = 0; i < parts_count && bytes; i++) {
        size_t step = parts[i].iov_len < bytes ? parts[i].iov_len : bytes;
        raw_write(trace_fd, parts[i].iov_base, step);
        bytes -= step;
    }
    atomic_flag_clear(&tracing);
}

static void trace_text(const char *what, int fd, const char *text)
{
    struct iovec part = { (char *)(uintptr_t)text, strlen(text) };
    trace(what, fd, 0, &part, 1, part.iov_len);
}

/* ---- the calls -------------------------------------------------------------------------- */

ssize_t pwritev(int fd, const struct iovec *parts, int parts_count, off_t offset)
{
    int what = verdict("pwritev", 1);
    if (what == FAIL)
        return -1;
    ssize_t done;
    if (what == SHORT) {
        size_t total = 0, used = 0;
        struct iovec some[128];
        for (int i = 0; i < parts_count; i++)
            total += parts[i].iov_len;
        int kept = 0;
        for (; kept < parts_count && kept < 128 && used < total / 2; kept++) {
            some[kept] = parts[kept];
            if (some[kept].iov_len > total / 2 - used)
                some[kept].iov_len = total / 2 - used;
            used += some[kept].iov_len;
        }
        if (total == 1)
            errno = EINTR;
        done = total == 1 ? -1 : syscall(SYS_pwritev, fd, some, kept, offset, 0);
    } else {
        done = syscall(SYS_pwritev, fd, parts, parts_count, offset, 0);
    }
    if (done > 0)
        trace("write", fd, (uint64_t)offset, parts, parts_count, (size_t)done);
    return finish(what, done);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int parts_count, off_t offset)
    __attribute__((alias("pwritev")));

ssize_t write(int fd, const void *data, size_t bytes)
{
    if (fd == STDOUT_FILENO) {
        struct iovec part = { (void *)(uintptr_t)data, bytes };
        trace("ack", fd, 0, &part, 1, bytes);
        return syscall(SYS_write, fd, data, bytes);
    }
    if (fd <= STDERR_FILENO)
        return syscall(SYS_write, fd, data, bytes);
    int what = verdict("write", 1);
    if (what == FAIL)
        return -1;
    long at = syscall(SYS_lseek, fd, 0, SEEK_CUR);
    long done = syscall(SYS_write, fd, data, what == SHORT && bytes > 1 ? bytes / 2 : bytes);
    struct iovec part = { (void *)(uintptr_t)data, bytes };
    if (done > 0 && at >= 0)
        trace("write", fd, (uint64_t)at, &part, 1, (size_t)done);
    return finish(what, done);
}

static int skips(const char *call)
{
    const char *skip = getenv("FAULT_SKIP");
    return skip && !strcmp(skip, call);
}

int fdatasync(int fd)
{
    int what = verdict("fdatasync", 0);
    if (what == FAIL)
        return -1;
    if (skips("fdatasync"))
        return 0;
    int result = (int)syscall(SYS_fdatasync, fd);
    trace("sync", fd, 0, NULL, 0, 0);
    return (int)finish(what, result);
}

int fsync(int fd)
{
    struct stat info;
    int what = verdict("fsync", 0);
    if (what == FAIL)
        return -1;
    if (skips("fsync"))
        return 0;
    int result = (int)syscall(SYS_fsync, fd);
    if (fstat(fd, &info) || !S_ISDIR(info.st_mode)) {
        trace("sync", fd, 0, NULL, 0, 0);
    } else {
        char link[64], folder[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t bytes = readlink(link, folder, sizeof folder - 1);
        folder[bytes > 0 ? bytes : 0] = 0;
        trace_text("dirsync", fd, folder);
    }
    return (int)finish(what, result);
}

int syncfs(int fd)
{
    int what = verdict("syncfs", 0);
    if (what == FAIL)
        return -1;
    if (skips("syncfs"))
        return 0;
    int result = (int)syscall(SYS_syncfs, fd);
    trace("syncall", fd, 0, NULL, 0, 0);
    return (int)finish(what, result);
}

int ftruncate(int fd, off_t bytes)
{
    int what = verdict("ftruncate", 0);
    if (what == FAIL)
        return -1;
    int result = (int)syscall(SYS_ftruncate, fd, bytes);
    trace("trunc", fd, (uint64_t)bytes, NULL, 0, 0);
    return (int)finish(what, result);
}

int ftruncate64(int fd, off_t bytes) __attribute__((alias("ftruncate")));

int rename(const char *from, const char *to)
{
    int what = verdict("rename", 0);
    if (what == FAIL)
        return -1;
    int result = (int)syscall(SYS_rename, from, to);
    char both[8192];
    snprintf(both, sizeof both, "%s\n%s", from, to);
    if (result == 0)
        trace_text("rename", -1, both);
    return (int)finish(what, result);
}

int mkdir(const char *path, mode_t mode)
{
    int what = verdict("mkdir", 0);
    if (what == FAIL)
        return -1;
    int result = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (result == 0)
        trace_text("mkdir", -1, path);
    return (int)finish(what, result);
}

int rmdir(const char *path)
{
    int result = (int)syscall(SYS_rmdir, path);
    if (result == 0)
        trace_text("unlink", -1, path);
    return result;
}

int unlink(const char *path)
{
    int result = (int)syscall(SYS_unlink, path);
    if (result == 0)
        trace_text("unlink", -1, path);
    return result;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    int mode = va_arg(arguments, int);
    va_end(arguments);
    int what = verdict("open", 0);
    if (what == FAIL)
        return -1;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && (flags & O_ACCMODE) != O_RDONLY)
        trace_text((flags & O_TMPFILE) == O_TMPFILE ? "unnamed" : "open", fd, path);
    return (int)finish(what, fd);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));
