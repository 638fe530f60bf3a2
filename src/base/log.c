/* One formatted line to the caller's sink. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void log_write(const struct akin_log *log, enum akin_log_level level, const char *format, ...)
{
    if (!log || !log->write)
        return;
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    log->write(log->cookie, level, line);
}
