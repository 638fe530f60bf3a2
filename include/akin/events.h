/* SPDX-License-Identifier: Apache-2.0
 * What was watched: the events that `akin watch --store` kept, with verdicts and labels. Reading,
 * searching by meaning, labelling, and snapshots; a watch may write to the store meanwhile. */
#ifndef AKIN_EVENTS_H
#define AKIN_EVENTS_H

#include "akin/model.h"

#ifdef __cplusplus
extern "C" {
#endif

struct akin_events;

struct akin_events_settings {
    const char *folder;         /* of the store */
    bool label;                 /* labels are to be given: it must be writable */
    void *cookie;
    /* May be NULL: hears in one line of damage that is served around. */
    void (*note)(void *cookie, const char *line);
};

/* `model` may be NULL: no search by text then; else it is the one that the watch had. Engine and
 * model must outlive it. AKIN_NOT_FOUND: no store; AKIN_FORMAT, AKIN_IO, AKIN_MEMORY. */
AKIN_API enum akin_status akin_events_open(struct akin_engine *engine, struct akin_model *model,
                                           const struct akin_events_settings *settings,
                                           struct akin_events **events, struct akin_error *error);
AKIN_API void akin_events_close(struct akin_events **events);
/* Takes over what was stored since it was opened. */
AKIN_API enum akin_status akin_events_refresh(struct akin_events *events,
                                              struct akin_error *error);

struct akin_event_filter {      /* all that are set must hold */
    int64_t from_us, until_us;  /* since 1970; 0: open */
    bool alerts;                /* only those that raised an alarm */
    int label;                  /* only this one, -1 normal, 1 anomaly; 0: whatever */
    const char *source, *session, *origin, *level;  /* NULL: whatever */
    double score_min;           /* 0: whatever */
};

struct akin_stored_event {      /* texts are "" where there is none */
    uint64_t number;            /* from 1, in the order of coming */
    int64_t time_us;            /* when it came, since 1970 */
    const char *text, *time, *source, *level, *session;
    size_t text_bytes, session_bytes;
    const char *origin, *id;
    uint64_t kind;
    double score;               /* -log10 of probability */
    bool alert;
    int label;                  /* -1 normal, 0 none, 1 anomaly */
    float similarity;           /* cosine of the query and the event's kind; 0 without a query */
};

/* The k events most similar to `query` that pass, best first, of equal ones the newest first;
 * without one (NULL) the newest k. `take` gets views valid during its call; false stops.
 * AKIN_ARGUMENT: a query without a model. AKIN_NOT_FOUND: the store has events, but no vectors of
 * that model. Any thread. */
AKIN_API enum akin_status akin_events_search(struct akin_events *events, const char *query,
                                             size_t k, const struct akin_event_filter *filter,
                                             bool (*take)(void *cookie,
                                                          const struct akin_stored_event *event),
                                             void *cookie, struct akin_error *error);

/* The same by a vector [dimension] of that model: for queries that are embedded already. */
AKIN_API enum akin_status akin_events_nearest(struct akin_events *events, const float *query,
                                              size_t dimension, size_t k,
                                              const struct akin_event_filter *filter,
                                              bool (*take)(void *cookie,
                                                           const struct akin_stored_event *event),
                                              void *cookie, struct akin_error *error);

/* -1 normal, 1 anomaly, 0 takes a label back. Durable when it returns. AKIN_NOT_FOUND: no such
 * event (or no longer). */
AKIN_API enum akin_status akin_events_label(struct akin_events *events, uint64_t number, int label,
                                            struct akin_error *error);

struct akin_events_info {
    uint64_t first, last;       /* numbers that are kept; last 0: none */
    uint64_t events, alerts, labels, kinds, bytes;
    size_t segments, damaged;   /* of them: served without what is damaged */
    size_t dimension;           /* of the vectors by this model; 0: there are none */
    int64_t first_us, last_us;  /* when they came */
};

AKIN_API enum akin_status akin_events_info(struct akin_events *events,
                                           struct akin_events_info *info,
                                           struct akin_error *error);

/* ---- snapshots ------------------------------------------------------------------------------- */

struct akin_snapshot_settings {
    const char *folder;         /* where snapshots are kept; made where it is not there */
    const char *store;
    const char *audit;          /* an audit trail to go with it; NULL: none */
    size_t keep;                /* the oldest ones beyond are removed; 0: none is */
};

struct akin_snapshot_report {
    char path[4096];            /* of the snapshot: store and audit are folders in it */
    const char *store_method, *audit_method;    /* "btrfs snapshot", "reflink", "copy"; "" */
    uint64_t files, bytes;      /* copied, or shared by reflinks */
    size_t removed;
    double seconds;
};

/* Store and trail together, as they are at one moment each while both go on being written: what was
 * acknowledged before the call is in it. Opens and verifies as it is. Only what this function made
 * is ever removed. AKIN_NOT_FOUND, AKIN_IO, AKIN_BUSY (the trail changed too fast, again and
 * again). */
AKIN_API enum akin_status akin_snapshot_make(const struct akin_snapshot_settings *settings,
                                             struct akin_snapshot_report *report,
                                             struct akin_error *error);

#ifdef __cplusplus
}
#endif
#endif
