/* Error texts, and the end of the process on a bug. */
#include "base/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *akin_status_sentence(enum akin_status status)
{
    static const char *const sentences[] = {
#define X(code, sentence) [code] = sentence,
        AKIN_STATUS_LIST(X)
#undef X
    };
    if ((unsigned)status >= AKIN_STATUS_COUNT)
        return "unknown status";
    return sentences[status];
}

/* Control characters in names and texts that end up in a message would break its one line. */
static void make_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

static void error_format(struct akin_error *error, enum akin_status status, const char *format,
                         va_list arguments)
{
    error->status = status;
    vsnprintf(error->message, sizeof error->message, format, arguments);
    make_one_line(error->message);
}

enum akin_status error_set(struct akin_error *error, enum akin_status status, const char *format,
                           ...)
{
    if (error) {
        va_list arguments;
        va_start(arguments, format);
        error_format(error, status, format, arguments);
        va_end(arguments);
    }
    return status;
}

static enum akin_status status_of_errno(int number)
{
    if (number == ENOENT)
        return AKIN_NOT_FOUND;
    if (number == ENOMEM)
        return AKIN_MEMORY;
    return AKIN_IO;
}

enum akin_status error_system(struct akin_error *error, const char *format, ...)
{
    int number = errno;
    enum akin_status status = status_of_errno(number);
    if (error) {
        va_list arguments;
        va_start(arguments, format);
        error_format(error, status, format, arguments);
        va_end(arguments);
        size_t used = strlen(error->message);
        char reason[128];
        snprintf(error->message + used, sizeof error->message - used, ": %s",
                 strerror_r(number, reason, sizeof reason));
    }
    return status;
}

enum akin_status error_memory(struct akin_error *error)
{
    return error_set(error, AKIN_MEMORY, "memory ran out");
}

enum akin_status error_context(struct akin_error *error, enum akin_status status,
                               const char *format, ...)
{
    if (error) {
        char old[sizeof error->message];
        memcpy(old, error->message, sizeof old);
        va_list arguments;
        va_start(arguments, format);
        error_format(error, status, format, arguments);
        va_end(arguments);
        size_t used = strlen(error->message);
        snprintf(error->message + used, sizeof error->message - used, ": %s", old);
    }
    return status;
}

void panic(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: this is a bug in akin: %s does not hold\n", file, line, what);
    abort();
}
