/* Errors: three kinds, three tools. A bug is an ASSERT; an operating error is an enum akin_status
 * with a text in the caller's struct akin_error; a partial result is told in the out struct. */
#pragma once

#include <stdarg.h>

#include "akin/status.h"

/* Fills `error` (may be NULL) and returns `status`, so that a failing path is one statement. */
enum akin_status error_set(struct akin_error *error, enum akin_status status, const char *format,
                           ...) __attribute__((format(printf, 3, 4)));

/* The same with ": <strerror(errno)>" appended; the status is AKIN_IO, or AKIN_NOT_FOUND for
 * ENOENT, AKIN_MEMORY for ENOMEM. Call it before anything else can change errno. */
enum akin_status error_system(struct akin_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

enum akin_status error_memory(struct akin_error *error);

/* Puts "<context>: " before the message already in `error`; returns its status unchanged. */
enum akin_status error_context(struct akin_error *error, enum akin_status status,
                               const char *format, ...) __attribute__((format(printf, 3, 4)));

#define TRY(call)                                                                    \
    do {                                                                             \
        enum akin_status status_ = (call);                                           \
        if (status_ != AKIN_OK)                                                      \
            return status_;                                                          \
    } while (0)

/* In a function with `enum akin_status status = AKIN_OK;` and a label `done:` that cleans up. */
#define TRY_DONE(call)                                                               \
    do {                                                                             \
        status = (call);                                                             \
        if (status != AKIN_OK)                                                       \
            goto done;                                                               \
    } while (0)

void panic(const char *file, int line, const char *what) __attribute__((noreturn));

/* Cheap enough to stay in release builds. One fact each. */
#define ASSERT(condition) ((condition) ? (void)0 : panic(__FILE__, __LINE__, #condition))
