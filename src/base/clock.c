/* The only home of clocks. */
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t clock_monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t clock_process_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

int64_t clock_unix_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec;
}

int64_t clock_unix_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void clock_sleep_us(unsigned us)
{
    struct timespec t = { .tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000 };
    nanosleep(&t, NULL);    /* a signal may end it early */
}

static void format(int64_t seconds, const char *how, char *text, size_t bytes)
{
    time_t when = (time_t)seconds;
    struct tm broken;
    if (!gmtime_r(&when, &broken) || !strftime(text, bytes, how, &broken))
        snprintf(text, bytes, "%lld", (long long)seconds);
}

void clock_stamp(char *text, size_t bytes)
{
    format(clock_unix_seconds(), "%Y%m%dT%H%M%SZ", text, bytes);
}

void clock_iso(int64_t unix_seconds, char *text, size_t bytes)
{
    format(unix_seconds, "%Y-%m-%dT%H:%M:%SZ", text, bytes);
}

void clock_iso_us(int64_t unix_us, char *text, size_t bytes)
{
    char seconds[32];
    int64_t us = unix_us % 1000000;
    if (us < 0)
        us += 1000000;
    clock_iso((unix_us - us) / 1000000, seconds, sizeof seconds);
    snprintf(text, bytes, "%.*s.%06dZ", (int)strcspn(seconds, "Z"), seconds, (int)us);
}

/* Years that begin in March have their odd day at the end. */
int64_t clock_days(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year, era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}
