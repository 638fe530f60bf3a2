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

/* Each function may be NULL; false asks to stop (AKIN_CANCELLED). */
struct akin_watch_sink {
    void *cookie;
    bool (*event)(void *cookie, const struct akin_event_verdict *verdict);
    bool (*session)(void *cookie, const struct akin_session_verdict *verdict);
    /* Each alarm as an object of JSON, without a line end. */
    bool (*alarm)(void *cookie, const char *json, size_t bytes);
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
    bool explain;               /* alarms say which parts fired, and what is near */
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

/* ---- live: several sources at once, a store, an audit trail, alarms -------------------------- */

enum akin_severity { AKIN_SEVERITY_LOW, AKIN_SEVERITY_MEDIUM, AKIN_SEVERITY_HIGH,
                     AKIN_SEVERITY_CRITICAL };

/* Each text may be NULL. */
struct akin_watch_alerts {
    const char *file;           /* appended to */
    const char *socket;         /* of a UNIX socket that is connected to */
    const char *webhook;        /* URL that gets POSTs */
    const char *bus;            /* "system", "session" or an address of D-Bus: a signal each */
    enum akin_severity severity_min;    /* what is below goes nowhere */
    double repeat_seconds;      /* an alarm that goes on is told again so often; 0: each time */
    bool explain;               /* which parts fired, and what is near */
    void *cookie;
    /* May be NULL: each alarm as one line of JSON, without its end; false asks to stop. */
    bool (*print)(void *cookie, const char *json, size_t bytes);
};

struct akin_source_report {
    char name[256];
    uint64_t received, dropped; /* handed over by the source; of them, without room */
    uint64_t lost;              /* that the source itself knows to be lost */
    uint64_t bad;               /* lines and messages that were no events */
    size_t waiting;             /* in the queue now */
    bool ended;
};

enum { AKIN_WATCH_SOURCES_MAX = 64 };

struct akin_watch_live_report {
    struct akin_watch_report counts;    /* without sessions_refused nothing is left out of them */
    uint64_t received, dropped, lost, bad;  /* of all sources */
    uint64_t stored;            /* durable, those that were there already included */
    uint64_t again;             /* of them: there already */
    uint64_t relearned;         /* from the store, at the start */
    double lag_seconds;         /* how long the oldest event in a queue has waited */
    /* From arrival to verdict, and to durable. */
    double latency_us_p50, latency_us_p99, latency_us_max;
    double stored_us_p50, stored_us_p99;
    uint64_t alerts_told, alerts_repeated, alerts_delivered, alerts_failed, alerts_dropped;
    uint64_t rss_bytes;
    double seconds;
    bool learning;
    size_t source_count;
    struct akin_source_report sources[AKIN_WATCH_SOURCES_MAX];
};

struct akin_watch_live {
    const struct akin_watch_source *sources;
    size_t source_count;        /* 1 to AKIN_WATCH_SOURCES_MAX */
    const char *store;          /* folder of events, verdicts, vectors and labels; NULL: none */
    uint64_t keep_seconds, keep_bytes;  /* of the store; 0: without limit */
    const char *audit;          /* folder of an audit trail, made where there is none; NULL: none */
    struct akin_watch_alerts alerts;
    double deadline_ms;         /* an event waits so long for others, to go with them */
    size_t queue_events;        /* of each source, at most */
    /* The history, before which nothing raises an alarm: so many events, those that the store has
     * included; or, where it is above 0, so long since the first of them. */
    uint64_t learn_events;
    double learn_seconds;
    size_t relearn_events;      /* the last ones of the store that are learned from at the start */
    uint64_t session_idle;      /* as in akin_watch_input */
    double speed;               /* above 0: events come so many times as fast as their own times
                                   say; for files */
    void *cookie;
    /* Called some ten times a second by the thread that called; false stops. */
    bool (*tick)(void *cookie, const struct akin_watch_live_report *report);
    /* May be NULL: hears in one line what does not end the watch. Called by any thread. */
    void (*note)(void *cookie, const char *line);
};

AKIN_API void akin_watch_live_default(struct akin_watch_live *live);

/* Watches until the sources have ended or `tick` says stop; what was received by then is judged and
 * stored first. An event is let go of by its source (acknowledged, or its cursor moved) when it is
 * in the store and in the audit trail, and alarms are raised after that. *report is filled either
 * way. AKIN_IO: a source failed, or the disk and it was to stop; the rest is left to the sources.
 */
AKIN_API enum akin_status akin_watch_live(struct akin_watch *watch,
                                          const struct akin_watch_live *live,
                                          struct akin_watch_live_report *report,
                                          struct akin_error *error);

#ifdef __cplusplus
}
#endif
#endif
