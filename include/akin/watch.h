/* SPDX-License-Identifier: Apache-2.0
 * Watching a stream of events: each is compared with what came before it, and so is each session
 * that events belong to. Learns without labels, from a history that may hold trouble itself. */
#ifndef AKIN_WATCH_H
#define AKIN_WATCH_H

#include "akin/model.h"

#ifdef __cplusplus
extern "C" {
#endif

struct akin_watch;

struct akin_watch_settings {
    size_t templates_max;       /* kinds of events kept; those not seen for longest are forgotten */
    double half_life_events;    /* what was counted so many events ago counts half */
    double event_alarm;         /* alert below this probability that normal traffic has an event so
                                   strange */
    double session_alarm;       /* the same for sessions */
    double alarmed_weight;      /* what an event that was alarmed on counts for, 0 to 1 */
};

AKIN_API void akin_watch_settings_default(struct akin_watch_settings *settings);

/* `model` may be NULL: no distances between texts then. Engine and model must outlive it. Errors:
 * AKIN_ARGUMENT (a setting out of range, named), AKIN_MEMORY. */
AKIN_API enum akin_status akin_watch_open(struct akin_engine *engine, struct akin_model *model,
                                          const struct akin_watch_settings *settings,
                                          struct akin_watch **watch, struct akin_error *error);
AKIN_API void akin_watch_close(struct akin_watch **watch);

enum { AKIN_WATCH_EVENT_PARTS = 4, AKIN_WATCH_SESSION_PARTS = 4, AKIN_WATCH_NEAREST = 5 };

/* "rarity", "burst", "distance", "severity". */
AKIN_API const char *akin_watch_event_part(size_t part);
/* "counts", "order", "missing", "event". */
AKIN_API const char *akin_watch_session_part(size_t part);

/* Views are valid during the call that brings them. */
struct akin_event_verdict {
    uint64_t seq;
    double score;               /* -log10 of probability: the stranger, the higher */
    double probability;         /* estimated: that normal traffic has an event so strange */
    bool alert;
    const char *text, *time, *source, *level, *session;     /* "" where the event has none */
    size_t text_bytes, session_bytes;
    const char *kind;           /* its template: masked, with <*> for what became variable */
    uint64_t kind_id;           /* stays as long as the template's text does */
    double parts[AKIN_WATCH_EVENT_PARTS];   /* nats */
    struct {
        const char *kind;
        double distance, count; /* 1 - cosine; decayed */
    } nearest[AKIN_WATCH_NEAREST];
    size_t nearest_count;
};

struct akin_session_verdict {
    const char *name;
    size_t name_bytes, events;
    double score, probability;
    bool alert;
    double parts[AKIN_WATCH_SESSION_PARTS]; /* nats */
};

/* ---- where events come from ----------------------------------------------------------------- */

enum akin_source_kind {
    AKIN_SOURCE_LINES,      /* standard input or a file, which may be followed as it grows */
    AKIN_SOURCE_SOCKET,     /* a UNIX socket that is listened on; whoever connects sends lines */
    AKIN_SOURCE_DBUS,       /* a message bus, monitored */
    AKIN_SOURCE_JOURNAL,    /* the journal of systemd */
    AKIN_SOURCE_NATS,       /* a durable consumer of a NATS JetStream stream */
};

/* Names of the fields of a line of JSON; NULL: the usual ones (docs/watch.md). */
struct akin_event_fields {
    const char *text, *time, *source, *level, *session, *id;
};

struct akin_watch_source {
    enum akin_source_kind kind;
    const char *name;       /* unique in a watch: what it reads is remembered under this name; NULL:
                               one is made of kind and address */
    const char *address;    /* LINES: a file, or "-". SOCKET: its path. DBUS: "system", "session" or
                               an address of D-Bus. JOURNAL: a directory, NULL: the system's.
                               NATS: a URL, or several with commas between */
    bool plain;             /* LINES, SOCKET, NATS: a line is the text; else a JSON object */
    unsigned mode;          /* SOCKET: permissions of its file; 0: 0600 */
    bool follow;            /* LINES: go on at the end of the file, over rotation and truncation */
    struct akin_event_fields fields;
    /* DBUS: match rules, one of which must fit. JOURNAL: FIELD=value, as journalctl joins them. */
    const char *const *match;
    size_t match_count;
    int priority;           /* JOURNAL: this one and more urgent ones, 0 to 7 */
    const char *stream, *consumer, *subject;    /* NATS; consumer is the durable name that several
                                                   processes share; subject may be NULL: all */
};

AKIN_API void akin_watch_source_default(enum akin_source_kind kind,
                                        struct akin_watch_source *source);

/* Either function may be NULL; false asks to stop (AKIN_CANCELLED). */
struct akin_watch_sink {
    void *cookie;
    bool (*event)(void *cookie, const struct akin_event_verdict *verdict);
    bool (*session)(void *cookie, const struct akin_session_verdict *verdict);
};

struct akin_watch_input {
    const char *path;           /* "-": standard input */
    bool plain;                 /* a line is the text; else a line is a JSON object */
    const char *session_field;  /* of the objects; default "session" */
    uint64_t train_until;       /* events with a lower seq are history, and bring no verdict */
    size_t batch; /* events that wait for each other; 1: none waits. Changes no verdict
                     but for which kinds' vectors are there */
    uint64_t session_idle;      /* a session is judged after so many events without one of its own;
                                   0: at the end */
    bool skip_bad;              /* a line that is no event is counted, not an error */
    struct akin_progress progress;      /* stage "events", in bytes */
};

AKIN_API void akin_watch_input_default(struct akin_watch_input *input);

struct akin_watch_report {
    uint64_t events, learned, scored, alerts, bad_lines;
    uint64_t sessions, session_alerts;  /* judged */
    uint64_t sessions_refused;          /* beyond the limit; their events were scored alone */
    uint64_t embedded;                  /* texts that went through the model */
    size_t kinds;                       /* kept now */
    double seconds;
};

/* Reads events to the end, in order. What was learned stays for the next call. Errors name file and
 * line: AKIN_NOT_FOUND, AKIN_IO, AKIN_FORMAT, AKIN_LIMIT, AKIN_MEMORY, AKIN_CANCELLED. One thread
 * at a time. */
AKIN_API enum akin_status akin_watch_run(struct akin_watch *watch,
                                         const struct akin_watch_input *input,
                                         const struct akin_watch_sink *sink,
                                         struct akin_watch_report *report,
                                         struct akin_error *error);

#ifdef __cplusplus
}
#endif
#endif
