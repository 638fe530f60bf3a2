/* What the writers that are killed share: how they end, and numbers that are a function of one. */
#pragma once

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "base/status.h"

static struct akin_error error;

/* At once: nothing that the library registered for the end of a process runs. */
__attribute__((format(printf, 2, 3), noreturn))
static void die(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    _exit(code);
}

#define MUST(call)                                          \
    do {                                                    \
        if ((call) != AKIN_OK)                              \
            die(2, "%s: %s", #call, error.message);         \
    } while (0)

static uint64_t mix(uint64_t n)
{
    n = (n ^ n >> 31) * 0x9e3779b97f4a7c15;
    return n ^ n >> 29;
}
