/* The only home of clocks. */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t clock_monotonic_ns(void);
/* CPU time of all threads of this process. */
uint64_t clock_process_cpu_ns(void);
/* Since a moment of clock_monotonic_ns. */
static inline double seconds_since(uint64_t began_ns)
{
    return (double)(clock_monotonic_ns() - began_ns) * 1e-9;
}
static inline double ms_since(uint64_t began_ns)
{
    return (double)(clock_monotonic_ns() - began_ns) * 1e-6;
}
int64_t clock_unix_seconds(void);
int64_t clock_unix_us(void);
void clock_sleep_us(unsigned us);
/* "20260102T030405Z" for file names, "2026-01-02T03:04:05Z" for people. */
void clock_stamp(char *text, size_t bytes);
void clock_iso(int64_t unix_seconds, char *text, size_t bytes);
/* "2026-01-02T03:04:05.678901Z" */
void clock_iso_us(int64_t unix_us, char *text, size_t bytes);
/* Days since 1970 of a date of the Gregorian calendar. */
int64_t clock_days(int year, int month, int day);
