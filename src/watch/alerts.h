/* Alarms on their way to people: the same alarm ten thousand times is one with a count; each goes
 * to every sink that is configured, and one that fails does not hold up the others or the watch.
 * docs/watch-alerts.md says what the sinks promise. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum alert_severity { ALERT_LOW, ALERT_MEDIUM, ALERT_HIGH, ALERT_CRITICAL };

const char *alert_severity_name(enum alert_severity severity);
/* By how improbable it is, and how bad the event's own source says that it is (event_severity).
 * Improbable alone is at most high. */
enum alert_severity alert_severity_of(double probability, int event_severity);

struct alert {                  /* views, copied by alerts_take */
    uint64_t kind;              /* of the event, or a hash of "session": alarms of one kind, source
                                   and severity are the same alarm */
    const char *source;
    enum alert_severity severity;
    const char *json;           /* one object without a line end: all that is known */
    size_t json_bytes;
};

struct alerts_settings {
    /* Each may be NULL. A file is appended to; a socket is connected to, and again when it was
     * away; a webhook gets POSTs of application/json; a bus gets the signal Alert(s). */
    const char *file, *socket, *webhook;
    const char *bus;            /* "system", "session" or an address of D-Bus */
    enum alert_severity severity_min;   /* what is below goes nowhere */
    double repeat_seconds;      /* 60: an alarm that goes on is told again so often, with its count;
                                   after so long without it, it is over. 0: each is told */
    size_t queue_max;           /* 1024 alarms that wait for sinks that are away; beyond, the oldest
                                   goes, and is counted */
    int webhook_tries;          /* 8, with back-off that doubles from 0.5 s to a minute */
    int webhook_timeout_ms;     /* 10000, of one try */
    /* May be NULL: the caller's own sink, called by alerts_take and alerts_tick themselves. */
    bool (*print)(void *cookie, const char *json, size_t bytes);
    void *cookie;
    /* May be NULL: hears in one line that a sink is away, that it is back, and what it refuses;
     * called as `print` is. */
    void (*note)(void *cookie, const char *line);
    void *note_cookie;
};

struct alerts;

void alerts_settings_default(struct alerts_settings *settings);
/* AKIN_ARGUMENT (a setting, named), AKIN_UNSUPPORTED (built without it), AKIN_IO (the file). A
 * socket, server or bus that is away now is no error. All but alerts_count is for one thread. */
enum akin_status alerts_open(const struct alerts_settings *settings, struct alerts **alerts,
                             struct akin_error *error);
/* At `now_ns` (monotonic). The first of its kind goes out at once with "count":1; those that follow
 * are counted. false: `print` asked to stop. Never waits for a sink. */
bool alerts_take(struct alerts *alerts, const struct alert *alert, uint64_t now_ns);
/* Tells repetitions that are due ("count", "repeated":true); to be called a few times a second. */
bool alerts_tick(struct alerts *alerts, uint64_t now_ns);

struct alerts_counts {
    uint64_t taken;             /* by alerts_take */
    uint64_t told, repeated;    /* as the first of its kind, as a repetition */
    /* Each alarm that was told, in each sink but `print`: there, given up, or without room. */
    uint64_t delivered, failed, dropped;
};

void alerts_count(struct alerts *alerts, struct alerts_counts *counts);
/* Tells what repetitions were counted and not told yet, and waits at most timeout_ms until every
 * sink has what is on its way; false: it ran out. */
bool alerts_flush(struct alerts *alerts, int timeout_ms);
/* After a flush. What is not there by then is lost. NULL: nothing. */
void alerts_close(struct alerts **alerts, int timeout_ms);
