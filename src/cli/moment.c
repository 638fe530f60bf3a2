#include "cli/moment.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

bool duration_parse(const char *text, double *seconds)
{
    static const struct { char letter; double seconds; } units[] = {
        {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    double count = strtod(text, &end);
    if (end != text + strspn(text, "0123456789."))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        double value = count * units[i].seconds;
        if (*end != units[i].letter || end[1] || !isfinite(value) || value > 1e11)
            continue;
        *seconds = value;
        return true;
    }
    return false;
}

static bool parse_ago(const char *text, int64_t now_us, int64_t *us)
{
    double seconds;
    if (!duration_parse(text, &seconds))
        return false;
    *us = now_us - (int64_t)(seconds * 1e6);
    return true;
}

static bool is_date(int year, int month, int day)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return year >= 1970 && year <= 9999 && month >= 1 && month <= 12 && day >= 1
           && day <= lengths[month - 1] + (month == 2 && leap);
}

bool moment_parse(const char *text, int64_t now_us, int64_t *us)
{
    int year, month, day, hour = 0, minute = 0, second = 0, used = 0;
    if (parse_ago(text, now_us, us))
        return true;
    if (strspn(text, "0123456789") != 4
        || sscanf(text, "%4d-%2d-%2d%n", &year, &month, &day, &used) != 3 || used != 10)
        return false;
    const char *rest = text + used;
    if (*rest == 'T' || *rest == ' ') {
        rest++;
        used = 0;
        if (strspn(rest, "0123456789:") < 5 || sscanf(rest, "%2d:%2d%n", &hour, &minute, &used) != 2
            || used != 5)
            return false;
        rest += used;
        if (*rest == ':') {
            used = 0;
            if (sscanf(rest + 1, "%2d%n", &second, &used) != 1 || used != 2)
                return false;
            rest += 3;
        }
    }
    rest += *rest == 'Z';
    if (*rest || !is_date(year, month, day) || hour < 0 || hour > 23 || minute < 0 || minute > 59
        || second < 0 || second > 60)
        return false;
    *us = ((clock_days(year, month, day) * 24 + hour) * 60 + minute) * 60000000
          + (int64_t)second * 1000000;
    return true;
}
