/* akin.db: what people rated since the import, in SQLite (docs/formats.md).
 *
 * The truth is a list of events that only grows. Everything else can be made again from it: the
 * state of a user that the caller folds his events to is kept beside them only so that a long past
 * need not be folded again, and is dropped without harm.
 *
 * Group commit: whoever finds nobody committing takes all ratings that wait and commits them
 * together, so that many threads, each waiting for its own acknowledgement, share one flush to
 * disk.
 *
 * Any number of processes at once. Before a process commits, it reads what others committed since,
 * so that it learns all events, its own and theirs, in the order of their numbers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct catalog;
struct live_store;

/* A rating to keep. 0 to 1; checked by the caller. */
struct live_rating {
    const char *user;           /* at most USER_NAME_BYTES_MAX bytes of UTF-8 */
    uint32_t row;               /* of the catalogue */
    float rating;
    int64_t timestamp;
};

/* A rating that is kept. Of two the one with the greater number came later. */
struct live_event {
    uint64_t number;
    uint32_t row;
    float rating;
    int64_t timestamp;
};

/* What the events of a user up to a number were folded to, by a caller who knows how. */
struct live_state {
    const char *user;
    uint64_t number;
    uint64_t fingerprint;       /* of all that the fold depends on beside the events */
    const void *bytes;
    size_t count;
};

struct live_hooks {
    void *context;
    /* An event is on disk: of this process, before it is acknowledged, or of another. Called in the
     * order of the numbers, by one thread at a time. Events of items that the catalogue does not
     * have are left out. */
    void (*happened)(void *context, const char *user, const struct live_event *event);
    /* The next state to be written with this commit; valid until the next call. May be NULL. */
    bool (*next_state)(void *context, struct live_state *state);
};

struct live_settings {
    const struct catalog *catalog;  /* must outlive the store */
    bool durable;               /* flushed to disk before it is acknowledged: survives a loss of
                                   power; otherwise it survives the end of the process */
    bool from_start;            /* `happened` is called for all events, not only for new ones */
    int busy_ms;                /* how long to wait for other processes */
    struct live_hooks hooks;
};

/* Makes the database where there is none. Errors: AKIN_FORMAT (not a database of ours, or damaged),
 * AKIN_UNSUPPORTED (made by a newer version), AKIN_BUSY (locked by somebody), AKIN_IO. */
enum akin_status live_store_open(const char *path, const struct live_settings *settings,
                                 struct live_store **store, struct akin_error *error);
void live_store_close(struct live_store **store);
bool live_store_read_only(const struct live_store *store);

/* Returns when all of `ratings` are kept, or none. Any thread. A count of 0 writes states only. */
enum akin_status live_store_append(struct live_store *store, const struct live_rating *ratings,
                                   size_t count, struct akin_error *error);

/* Learns what other processes committed, unless somebody is committing, who then does. */
enum akin_status live_store_refresh(struct live_store *store, struct akin_error *error);

struct live_reader {
    void *context;
    /* The state with this fingerprint, where there is one; first. false: cannot be used. */
    bool (*state)(void *context, const struct live_state *state);
    /* Each event after it (or all), in order. */
    void (*event)(void *context, const struct live_event *event);
};

/* What is known of a user, as of one moment; *known false where nothing is. Any thread. */
enum akin_status live_store_read(struct live_store *store, const char *user, uint64_t fingerprint,
                                 const struct live_reader *reader, bool *known,
                                 struct akin_error *error);

struct live_counts {
    uint64_t users, items, events, states;
};
enum akin_status live_store_count(struct live_store *store, struct live_counts *counts,
                                  struct akin_error *error);
