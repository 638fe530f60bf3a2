/* The database as live_store.c (opening, reading) and live_append.c (writing) share it. */
#pragma once

#include <sqlite3.h>

#include "base/file.h"
#include "base/thread.h"
#include "catalog/live_store.h"

enum { LIVE_APPLICATION = 0x616b6e64, LIVE_SCHEMA = 1 };     /* "aknd" */

enum writer_statement {
    W_BEGIN, W_COMMIT, W_ROLLBACK, W_LAST, W_NEW_EVENTS, W_FIND_USER, W_ADD_USER, W_FIND_ITEM,
    W_ADD_ITEM, W_ADD_EVENT, W_PUT_STATE, W_COUNT
};

enum reader_statement { R_BEGIN, R_COMMIT, R_FIND_USER, R_STATE, R_EVENTS, R_COUNTS, R_COUNT };

/* Ratings of one call, waiting to be committed. */
struct live_waiter {
    const struct live_rating *ratings;
    size_t count;
    enum akin_status status;
    struct akin_error error;
    bool done;
    struct live_waiter *next;
};

struct live_store {
    char path[PATH_BYTES_MAX];
    struct live_settings settings;
    bool read_only;

    struct mutex *read_lock;        /* guards the reader's connection */
    sqlite3 *reader;
    sqlite3_stmt *read[R_COUNT];

    struct mutex *queue_lock;       /* guards these four */
    struct condition *queue_changed;
    struct live_waiter *first, *last;
    bool leading;                   /* somebody has the writer's connection and what follows */

    sqlite3 *writer;
    sqlite3_stmt *write[W_COUNT];
    uint64_t last_number;           /* of the events that `happened` knows */
    uint32_t *item_ids;             /* [items] number in the database; 0: not known */
    bool items_added;               /* in this transaction */
};

/* A connection to the database; the caller closes it, also where this fails. */
enum akin_status live_connect(const struct live_store *store, sqlite3 **db,
                              struct akin_error *error);
/* The reason why `db` refused, with its remedy. */
enum akin_status live_error(const struct live_store *store, sqlite3 *db, const char *doing,
                            struct akin_error *error);
/* Runs a statement that gives no row, and resets it. */
enum akin_status live_run(const struct live_store *store, sqlite3_stmt *statement,
                          const char *doing, struct akin_error *error);
/* The event of a row (number, name of the item, rating, timestamp), whose first column is `first`;
 * *known false where the catalogue does not have the item. AKIN_FORMAT: it is not a rating. */
enum akin_status live_event_of(const struct live_store *store, sqlite3_stmt *row, int first,
                               int name, struct live_event *event, bool *known,
                               struct akin_error *error);
