/* The way of alarms to one sink: a bounded queue and a thread that empties it. A sink that is away
 * is tried again with back-off while alarms wait; when there are too many the oldest go. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum sink_result {
    SINK_TOOK,
    SINK_AGAIN,                 /* not now; the same alarm is tried again */
    SINK_REFUSED,               /* never this one */
};

/* One kind of place. Its functions are called by one thread at a time. */
struct alert_sink {
    char name[300];             /* for people; without secrets */
    /* `line` is a JSON object, a line end and a NUL; `bytes` counts the line end. Returns soon
     * after *stop. On anything but SINK_TOOK `error` says why. */
    enum sink_result (*send)(struct alert_sink *sink, char *line, size_t bytes,
                             const atomic_bool *stop, struct akin_error *error);
    void (*close)(struct alert_sink *sink);     /* frees it */
    int tries_max;              /* of one alarm; 0: until it is taken */
    unsigned pause_first_ms, pause_max_ms;      /* between tries; doubles */
    unsigned wait_ms;           /* set by send with SINK_AGAIN: the other side asks for at least so
                                   long */
};

/* AKIN_ARGUMENT, AKIN_IO, AKIN_UNSUPPORTED, AKIN_MEMORY. Only the file has to be there. */
enum akin_status alert_file_open(const char *path, struct alert_sink **sink,
                                 struct akin_error *error);
enum akin_status alert_socket_open(const char *path, struct alert_sink **sink,
                                   struct akin_error *error);
enum akin_status alert_webhook_open(const char *url, int tries_max, int timeout_ms,
                                    struct alert_sink **sink, struct akin_error *error);
enum akin_status alert_bus_open(const char *address, struct alert_sink **sink,
                                struct akin_error *error);

struct outlet;

struct outlet_counts {
    uint64_t delivered, failed, dropped;
};

/* Owns `sink` from here on, also when it fails. */
enum akin_status outlet_open(struct alert_sink *sink, size_t queue_max, struct outlet **outlet,
                             struct akin_error *error);
/* Copies; never waits for the sink. */
void outlet_push(struct outlet *outlet, const char *line, size_t bytes);
/* Waits until nothing is on its way, or clock_monotonic_ns is there; false: the latter. */
bool outlet_wait(struct outlet *outlet, uint64_t until_ns);
void outlet_count(struct outlet *outlet, struct outlet_counts *counts);
/* One line of what happened since the last call, into text[bytes]; false: nothing. */
bool outlet_note(struct outlet *outlet, char *text, size_t bytes);
/* What is on its way is lost. */
void outlet_close(struct outlet **outlet);
