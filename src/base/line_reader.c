/* Lines of a file or of standard input, through one buffer that grows to the longest line. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"

enum { READ_BYTES = 1 << 16 };

struct line_reader {
    char *name;
    int fd;
    bool at_end;                /* read() has said so */
    char *buffer;
    size_t capacity, begin, end; /* unread bytes are [begin, end) */
    uint64_t number, consumed, size;
};

enum akin_status line_reader_open(const char *path, struct line_reader **reader,
                                  struct akin_error *error)
{
    bool standard_input = !strcmp(path, "-");
    int fd = standard_input ? STDIN_FILENO
                            : TEMP_FAILURE_RETRY(open(path, O_RDONLY | O_CLOEXEC));
    if (fd < 0)
        return error_system(error, "%s", path);
    struct stat info;
    if (fstat(fd, &info) || S_ISDIR(info.st_mode)) {
        if (!standard_input)
            close(fd);
        return error_set(error, AKIN_IO, "%s: not a file that can be read", path);
    }
    struct line_reader *r = memory_alloc(1, sizeof *r);
    if (r) {
        *r = (struct line_reader){.fd = fd,
                                  .name =
                                      memory_copy_string(standard_input ? "standard input" : path),
                                  .size = S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0};
    }
    if (!r || !r->name) {
        memory_free(r);
        if (!standard_input)
            close(fd);
        return error_memory(error);
    }
    *reader = r;
    return AKIN_OK;
}

/* Reads more bytes behind `end`. */
static enum akin_status fill(struct line_reader *r, struct akin_error *error)
{
    if (r->begin) {
        memmove(r->buffer, r->buffer + r->begin, r->end - r->begin);
        r->end -= r->begin;
        r->begin = 0;
    }
    if (r->end >= LINE_BYTES_MAX)
        return error_set(error, AKIN_LIMIT,
                         "%s:%llu: the line is longer than the limit of %zu bytes", r->name,
                         (unsigned long long)r->number + 1, LINE_BYTES_MAX);
    if (!array_reserve((void **)&r->buffer, &r->capacity, r->end + READ_BYTES, 1))
        return error_memory(error);
    ssize_t got;
    do
        got = read(r->fd, r->buffer + r->end, r->capacity - r->end);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return error_system(error, "%s", r->name);
    r->at_end = got == 0;
    r->end += (size_t)got;
    return AKIN_OK;
}

enum akin_status line_reader_next(struct line_reader *r, const char **line, size_t *bytes,
                                  struct akin_error *error)
{
    const char *newline = NULL;
    for (size_t searched = 0;;) {
        size_t unread = r->end - r->begin;
        if (unread > searched)
            newline = memchr(r->buffer + r->begin + searched, '\n', unread - searched);
        if (newline || r->at_end)
            break;
        searched = unread;
        TRY(fill(r, error));
    }
    size_t length = newline ? (size_t)(newline - (r->buffer + r->begin)) : r->end - r->begin;
    if (!newline && length == 0) {
        *line = NULL;
        *bytes = 0;
        return AKIN_OK;
    }
    *line = r->buffer + r->begin;
    r->begin += length + (newline != NULL);
    r->consumed += length + (newline != NULL);
    r->number++;
    if (length && (*line)[length - 1] == '\r' && newline)
        length--;
    *bytes = length;
    return AKIN_OK;
}

uint64_t line_reader_number(const struct line_reader *r)
{
    return r->number;
}

uint64_t line_reader_consumed(const struct line_reader *r)
{
    return r->consumed;
}

uint64_t line_reader_size(const struct line_reader *r)
{
    return r->size;
}

void line_reader_close(struct line_reader **reader)
{
    struct line_reader *r = *reader;
    if (!r)
        return;
    if (r->fd != STDIN_FILENO)
        close(r->fd);
    memory_free(r->buffer);
    memory_free(r->name);
    memory_free(r);
    *reader = NULL;
}
