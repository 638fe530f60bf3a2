/* Alarms on their way to people: the same alarm ten thousand times is one with a count; each goes
 * to every sink that is configured, and one that fails does not hold up the others or the watch. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum alert_severity { ALERT_LOW, ALERT_MEDIUM, ALERT_HIGH, ALERT_CRITICAL };

const char *alert_severity_name(enum alert_severity severity);
/* By how improbable it is, and how bad the event's own source says that it is (event_severity). */
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
    const char *file, *socket, *webhook, *bus;
    enum alert_severity severity_min;
    double repeat_seconds;      /* 60: an alarm that goes on is told again so often, with its count */
    size_t queue_max;           /* 1024 alarms that wait for sinks that are away; beyond, the oldest
                                   goes, and is counted */
    int webhook_tries;          /* 8, with back-off that doubles from 0.5 s to a minute */
    /* May be NULL: the caller's own sink, called by alerts_take and alerts_tick themselves. */
    bool (*print)(void *cookie, const char *json, size_t bytes);
    void *cookie;
};

struct alerts;

void alerts_settings_default(struct alerts_settings *settings);
enum akin_status alerts_open(const struct alerts_settings *settings, struct alerts **alerts,
                             struct akin_error *error);
/* At `now_ns` (monotonic). The first of its kind goes out at once with "count":1; those that follow
 * are counted. false: `print` asked to stop. Never waits for a sink. */
bool alerts_take(struct alerts *alerts, const struct alert *alert, uint64_t now_ns);
/* Tells repetitions that are due ("count", "repeated":true); to be called a few times a second. */
bool alerts_tick(struct alerts *alerts, uint64_t now_ns);

struct alerts_counts {
    uint64_t taken, told, repeated, delivered, failed, dropped;
};

void alerts_count(struct alerts *alerts, struct alerts_counts *counts);
/* Waits at most timeout_ms for what is on its way. */
void alerts_close(struct alerts **alerts, int timeout_ms);
