/* Files at offsets, over pread, pwritev, fdatasync and locks of open file descriptions. */
#include "base/file_at.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/memory.h"

enum {
    PARTS_AT_ONCE = 64,
    COPY_BYTES = 1 << 20,
    TRANSFER_BYTES_MAX = 1 << 30,       /* Linux moves less than 2 GiB in one call */
};

/* A file without a name, on file systems that cannot make one: made with one and unlinked. */
static int open_unnamed(const char *folder)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    for (int attempt = 0; fd < 0 && errno != ENOSPC && errno != EIO && attempt < 100; attempt++) {
        char path[PATH_BYTES_MAX];
        snprintf(path, sizeof path, "%s/.akin.%ld-%d", folder, (long)getpid(), attempt);
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0)
            unlink(path);
        else if (errno != EEXIST)
            break;
    }
    return fd;
}

static int open_mode(const char *path, enum file_at_mode mode)
{
    int fd;
    do {
        if (mode == FILE_AT_UNNAMED)
            fd = open_unnamed(path);
        else if (mode == FILE_AT_CREATE)
            fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        else if (mode == FILE_AT_READ_DIRECT)
            fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
        else
            fd = open(path, (mode == FILE_AT_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

enum akin_status file_at_open(const char *path, enum file_at_mode mode, struct file_at *file,
                              struct akin_error *error)
{
    struct file_at opened = { .fd = -1, .path = memory_copy_string(path) };
    if (!opened.path)
        return error_memory(error);
    opened.fd = open_mode(path, mode);
    opened.direct = mode == FILE_AT_READ_DIRECT && opened.fd >= 0;
    if (mode == FILE_AT_READ_DIRECT && opened.fd < 0 && errno == EINVAL)
        opened.fd = open_mode(path, FILE_AT_READ);
    enum akin_status status = AKIN_OK;
    struct stat info;
    if (opened.fd < 0) {
        bool exists = mode == FILE_AT_CREATE && errno == EEXIST;
        status = error_system(error, "%s", path);
        if (exists)
            status = error_set(error, AKIN_BUSY, "%s: exists already", path);
    } else if (fstat(opened.fd, &info)) {
        status = error_system(error, "%s", path);
    } else if (!S_ISREG(info.st_mode)) {
        status = error_set(error, AKIN_IO, "%s: not a regular file", path);
    }
    if (status == AKIN_OK)
        *file = opened;
    else
        file_at_close(&opened);
    return status;
}

void file_at_close(struct file_at *file)
{
    if (file->fd >= 0)
        close(file->fd);
    memory_free(file->path);
    *file = (struct file_at){ .fd = -1 };
}

enum akin_status file_at_share(const struct file_at *file, struct file_at *shared,
                               struct akin_error *error)
{
    struct file_at opened = { .fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0), .direct = file->direct };
    if (opened.fd < 0)
        return error_system(error, "%s", file->path);
    opened.path = memory_copy_string(file->path);
    if (!opened.path) {
        file_at_close(&opened);
        return error_memory(error);
    }
    *shared = opened;
    return AKIN_OK;
}

enum akin_status file_at_size(const struct file_at *file, uint64_t *bytes,
                              struct akin_error *error)
{
    struct stat info;
    if (fstat(file->fd, &info))
        return error_system(error, "%s", file->path);
    *bytes = (uint64_t)info.st_size;
    return AKIN_OK;
}

enum akin_status file_at_read(const struct file_at *file, uint64_t offset, void *data, size_t bytes,
                              struct akin_error *error)
{
    char *at = data;
    while (bytes) {
        size_t want = bytes < TRANSFER_BYTES_MAX ? bytes : TRANSFER_BYTES_MAX;
        ssize_t got = pread(file->fd, at, want, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_system(error, "%s: byte %" PRIu64 " cannot be read", file->path, offset);
        if (got == 0)
            return error_set(error, AKIN_FORMAT,
                             "%s: ends at byte %" PRIu64 ", where %zu more should be: cut short",
                             file->path, offset, bytes);
        at += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return AKIN_OK;
}

enum akin_status file_at_read_blocks(struct file_at *file, uint64_t offset, size_t bytes,
                                     unsigned char *buffer, const unsigned char **data,
                                     struct akin_error *error)
{
    size_t lead = (size_t)(offset % FILE_BLOCK_BYTES), want = lead + bytes, got = 0;
    size_t span = (want + FILE_BLOCK_BYTES - 1) / FILE_BLOCK_BYTES * FILE_BLOCK_BYTES;
    while (got < want) {
        ssize_t step = pread(file->fd, buffer + got, span - got, (off_t)(offset - lead + got));
        if (step < 0 && errno == EINTR)
            continue;
        if (step < 0 && errno == EINVAL && file->direct) {
            int flags = fcntl(file->fd, F_GETFL);
            if (flags >= 0 && fcntl(file->fd, F_SETFL, flags & ~O_DIRECT) == 0) {
                file->direct = false;
                continue;
            }
            errno = EINVAL;
        }
        if (step < 0)
            return error_system(error, "%s: byte %" PRIu64 " cannot be read", file->path,
                                offset - lead + got);
        got += (size_t)step;
        bool ended = step == 0 || (file->direct && got % FILE_BLOCK_BYTES);
        if (ended && got < want)
            return error_set(error, AKIN_FORMAT,
                             "%s: ends at byte %" PRIu64 ", where %zu more should be: cut short",
                             file->path, offset - lead + got, want - got);
    }
    *data = buffer + lead;
    return AKIN_OK;
}

enum akin_status file_at_write(const struct file_at *file, uint64_t offset,
                               const struct file_part *parts, size_t count,
                               struct akin_error *error)
{
    size_t done = 0;                    /* bytes of parts[0] */
    while (count) {
        struct iovec vectors[PARTS_AT_ONCE];
        size_t used = 0, total = 0;
        for (; used < count && used < PARTS_AT_ONCE && total < TRANSFER_BYTES_MAX; used++) {
            size_t skip = used ? 0 : done, left = parts[used].bytes - skip;
            left = left < TRANSFER_BYTES_MAX - total ? left : TRANSFER_BYTES_MAX - total;
            vectors[used].iov_base = (char *)(uintptr_t)parts[used].data + skip;
            vectors[used].iov_len = left;
            total += left;
        }
        ssize_t written = total ? pwritev(file->fd, vectors, (int)used, (off_t)offset) : 0;
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0 || (total && written == 0)) {
            errno = written ? errno : ENOSPC;
            return error_system(error, "%s: cannot be written at byte %" PRIu64, file->path,
                                offset);
        }
        offset += (uint64_t)written;
        done += (size_t)written;
        for (; count && done >= parts->bytes; parts++, count--)
            done -= parts->bytes;
    }
    return AKIN_OK;
}

/* An interrupted fdatasync has neither done its work nor used up the system's report of a failure,
 * so only that one is called again; any other failure is final, whatever a second call would say.
 */
enum akin_status file_at_sync(const struct file_at *file, struct akin_error *error)
{
    int result;
    do {
        result = fdatasync(file->fd);
    } while (result && errno == EINTR);
    if (result)
        return error_system(error, "%s: cannot be made durable", file->path);
    return AKIN_OK;
}

/* Without waiting flags it reports no failure of a write, and uses up no report: that stays for
 * file_at_sync. */
void file_at_begin_sync(const struct file_at *file, uint64_t offset, uint64_t bytes)
{
    (void)sync_file_range(file->fd, (off_t)offset, (off_t)bytes, SYNC_FILE_RANGE_WRITE);
}

enum akin_status file_at_truncate(const struct file_at *file, uint64_t bytes,
                                  struct akin_error *error)
{
    int result;
    do {
        result = ftruncate(file->fd, (off_t)bytes);
    } while (result && errno == EINTR);
    if (result)
        return error_system(error, "%s: cannot be cut to %" PRIu64 " bytes", file->path, bytes);
    return AKIN_OK;
}

enum akin_status file_at_copy(const struct file_at *from, uint64_t from_offset,
                              const struct file_at *to, uint64_t to_offset, uint64_t bytes,
                              struct akin_error *error)
{
    char *buffer = memory_alloc_aligned(COPY_BYTES, 1);
    if (!buffer)
        return error_memory(error);
    enum akin_status status = AKIN_OK;
    while (bytes && status == AKIN_OK) {
        size_t step = bytes < COPY_BYTES ? (size_t)bytes : COPY_BYTES;
        status = file_at_read(from, from_offset, buffer, step, error);
        if (status == AKIN_OK)
            status = file_at_write(to, to_offset, &(struct file_part){ buffer, step }, 1, error);
        from_offset += step;
        to_offset += step;
        bytes -= step;
    }
    memory_free(buffer);
    return status;
}

enum akin_status file_at_lock(const struct file_at *file, struct akin_error *error)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    int result;
    do {
        result = fcntl(file->fd, F_OFD_SETLK, &lock);
    } while (result && errno == EINTR);
    if (result && (errno == EAGAIN || errno == EACCES))
        return error_set(
            error, AKIN_BUSY,
            "%s: locked by another writer; one may write at a time: end that one first",
            file->path);
    if (result)
        return error_system(error, "%s: cannot be locked", file->path);
    return AKIN_OK;
}

enum akin_status file_at_wait_lock(const struct file_at *file, bool shared,
                                   struct akin_error *error)
{
    struct flock lock = { .l_type = shared ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
    int result;
    do {
        result = fcntl(file->fd, F_OFD_SETLKW, &lock);
    } while (result && errno == EINTR);
    if (result)
        return error_system(error, "%s: cannot be locked", file->path);
    return AKIN_OK;
}

void file_at_unlock(const struct file_at *file)
{
    struct flock lock = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
    int result;
    do {
        result = fcntl(file->fd, F_OFD_SETLK, &lock);
    } while (result && errno == EINTR);
}

bool file_at_is_locked(const struct file_at *file)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    return fcntl(file->fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

void file_at_take_mode(const struct file_at *to, const struct file_at *from)
{
    struct stat info;
    if (fstat(from->fd, &info) || fchmod(to->fd, info.st_mode & 07777))
        return;                         /* the umask's, then */
}

bool file_at_is_current(const struct file_at *file)
{
    struct stat ours, named;
    return fstat(file->fd, &ours) == 0 && stat(file->path, &named) == 0 &&
           ours.st_ino == named.st_ino && ours.st_dev == named.st_dev;
}

enum akin_status file_window_open(const struct file_at *file, uint64_t offset, size_t bytes,
                                  struct file_window *window, struct akin_error *error)
{
    *window = (struct file_window){ .map.data = (const unsigned char *)"", .bytes = bytes };
    window->data = window->map.data;
    if (bytes == 0)
        return AKIN_OK;
    size_t lead = (size_t)(offset % (uint64_t)sysconf(_SC_PAGESIZE)), span;
    if (!size_add(bytes, lead, &span))
        return error_memory(error);
    void *data = mmap(NULL, span, PROT_READ, MAP_SHARED, file->fd, (off_t)(offset - lead));
    if (data == MAP_FAILED)
        return error_system(error, "%s: cannot be mapped", file->path);
    window->map = (struct file_map){ .data = data, .bytes = span, .mapped = true };
    window->data = window->map.data + lead;
    return AKIN_OK;
}

void file_window_close(struct file_window *window)
{
    file_map_close(&window->map);
    *window = (struct file_window){ .map.data = (const unsigned char *)"" };
}
