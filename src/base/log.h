/* The log sink: a callback in settings, default none. One line, key=value, no secrets. */
#pragma once

#include "akin/engine.h"

void log_write(const struct akin_log *log, enum akin_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
