/* The only home of clocks. */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t clock_monotonic_ns(void);
int64_t clock_unix_seconds(void);
int64_t clock_unix_us(void);
void clock_sleep_us(unsigned us);
/* "20260102T030405Z" for file names, "2026-01-02T03:04:05Z" for people. */
void clock_stamp(char *text, size_t bytes);
void clock_iso(int64_t unix_seconds, char *text, size_t bytes);
