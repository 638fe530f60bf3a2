/* What was watched: events with their verdicts, the vectors of their kinds, labels and the cursors
 * of sources, in one folder that several processes may write at once.
 *
 * Every file is append-only or replaced by rename, so that a snapshot of the file system opens at
 * any instant. Events lie in segments; a record carries its checksum. Who appends holds the
 * folder's lock for that moment, first reads what others have appended since, and leaves out events
 * whose id is there already: each is stored once, however often it is delivered. Old segments go
 * whole, by age and by size. docs/formats.md has the bytes. Any thread may call. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct event_store;
struct kernels;

struct search_device_ops;

/* A card that may compare kinds. It is asked for once, when there are many and they are searched
 * again; `find` may be NULL, as may be what it gives: none. */
struct event_store_card {
    const struct search_device_ops *(*find)(void *cookie, int *ordinal);
    void *cookie;
    bool required;              /* a search fails where the card does; otherwise the CPU goes on */
};

struct event_store_settings {
    const char *folder;         /* made where it is not there */
    uint64_t keep_seconds;      /* 0: for ever */
    uint64_t keep_bytes;        /* 0: without limit */
    bool durable;               /* appended means: survives a loss of power */
    bool read_only;             /* nothing is written; what another process appends is seen after
                                   event_store_refresh */
    const struct kernels *kernels;  /* outlive the store */
    struct backend *backend;    /* outlives it too: for many searches among many kinds; NULL: all
                                   kinds are compared each time */
    const char *model;          /* what the model of the kinds' vectors is known by, such as the
                                   hash of its files; vectors of different models are kept apart.
                                   NULL: none */
    uint64_t segment_bytes;     /* 0: EVENT_SEGMENT_BYTES */
    struct event_store_card card;
};

/* What is told of damage and repairs that do not stop it, in one line each. It may not call the
 * store. `tell` may be NULL. */
struct event_store_note {
    void *cookie;
    void (*tell)(void *cookie, const char *line);
};

struct stored_event {           /* texts with a NUL behind them; "" for none, never NULL */
    uint64_t number;            /* from 1, in the order of appending; given by the store */
    int64_t time_us;            /* since 1970: when it came */
    const char *origin;         /* name of the event_source that brought it */
    const char *id;             /* the same for the same event, whatever brings it; "": none, and
                                   it is always new. Known among the last EVENT_IDS_MAX */
    const char *cursor;         /* where its origin goes on behind it */
    const char *text, *time, *source, *level, *session;
    size_t text_bytes, session_bytes;
    uint64_t kind;              /* id of its template */
    float score;                /* -log10 of probability */
    bool alert;
    int8_t label;               /* -1 normal, 0 none, 1 anomaly: as labelled by now */
};

enum akin_status event_store_open(const struct event_store_settings *settings,
                                  struct event_store_note note, struct event_store **store,
                                  struct akin_error *error);
void event_store_close(struct event_store **store);
/* Whether `folder` says that it is one. */
bool event_store_is_there(const char *folder);

/* Appends all that are new, in order, and returns once they are durable: numbers[i] is the number
 * of event i, or 0 where it was there already. AKIN_IO with nothing acknowledged where the disk is
 * full or fails: the same call may be made again when there is room. */
enum akin_status event_store_append(struct event_store *store, const struct stored_event *events,
                                    size_t count, uint64_t *numbers, struct akin_error *error);

/* The cursor of the last event of `origin` that has one, into text[bytes]; "": none. */
enum akin_status event_store_cursor(struct event_store *store, const char *origin, char *text,
                                    size_t bytes, struct akin_error *error);

/* -1, 0 or 1. AKIN_NOT_FOUND: no such event (or no longer). */
enum akin_status event_store_label(struct event_store *store, uint64_t number, int label,
                                   struct akin_error *error);

/* Takes over what other processes appended since. */
enum akin_status event_store_refresh(struct event_store *store, struct akin_error *error);

struct event_store_info {
    uint64_t first, last;       /* numbers that are kept; last 0: none */
    uint64_t events, alerts, labels, kinds, bytes;
    size_t segments, damaged;   /* of them: served without what is damaged */
    size_t dimension;           /* of the kinds' vectors; 0: there are none */
};

void event_store_info(struct event_store *store, struct event_store_info *info);

/* ---- reading and searching ------------------------------------------------------------------ */

struct event_filter {           /* all that are set must hold */
    int64_t from_us, until_us;  /* 0: open */
    bool alerts;                /* only those that raised an alarm */
    int label;                  /* only this one; 0: whatever */
    const char *source, *session, *origin, *level;  /* NULL: whatever */
    double score_min;           /* 0: whatever */
};

/* Events from number `from` on (or, `newest`, backwards from it; 0: the end), in that order, that
 * pass. `take` gets views valid during its call; false stops. */
enum akin_status event_store_read(struct event_store *store, uint64_t from, bool newest,
                                  const struct event_filter *filter,
                                  bool (*take)(void *cookie, const struct stored_event *event),
                                  void *cookie, struct akin_error *error);

/* Kinds, with the vector of their text by the model of the settings (dimension 0: none). Appended
 * once each, fp16, by the next append at the latest; beyond TEMPLATES_MAX they are left out. */
enum akin_status event_store_put_kind(struct event_store *store, uint64_t kind, const char *text,
                                      const float *vector, size_t dimension,
                                      struct akin_error *error);

/* All kinds that have a vector by this model: what a cache begins with. `take` may not call the
 * store; false stops. */
enum akin_status event_store_kinds(struct event_store *store,
                                   bool (*take)(void *cookie, uint64_t kind, const char *text,
                                                const float *vector, size_t dimension),
                                   void *cookie, struct akin_error *error);

struct event_hit {
    uint64_t number;
    float similarity;           /* cosine of the query and the event's kind */
};

/* The k events most similar to `query` [dimension] that pass, best first; of equal ones the newest
 * first. *found is below k where fewer pass. */
enum akin_status event_store_search(struct event_store *store, const float *query, size_t k,
                                    const struct event_filter *filter, struct event_hit *hits,
                                    size_t *found, struct akin_error *error);
