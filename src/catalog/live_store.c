/* akin.db: opening, errors, and reading one user. Writing is in live_append.c. */
#include "catalog/live_store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "catalog/catalog.h"
#include "catalog/live_internal.h"

/* CROSS JOIN: events first, in their order; items and users are looked up. */
static const char *const writer_sql[W_COUNT] = {
    [W_BEGIN] = "BEGIN IMMEDIATE",
    [W_COMMIT] = "COMMIT",
    [W_ROLLBACK] = "ROLLBACK",
    [W_LAST] = "SELECT max(seq) FROM events",
    [W_NEW_EVENTS] = "SELECT e.seq, i.name, e.rating, e.timestamp, u.name FROM events e "
                     "CROSS JOIN items i ON i.id = e.item CROSS JOIN users u ON u.id = e.user "
                     "WHERE e.seq > ?1 ORDER BY e.seq",
    [W_FIND_USER] = "SELECT id FROM users WHERE name = ?1",
    [W_ADD_USER] = "INSERT INTO users(name) VALUES(?1)",
    [W_FIND_ITEM] = "SELECT id FROM items WHERE name = ?1",
    [W_ADD_ITEM] = "INSERT INTO items(name) VALUES(?1)",
    [W_ADD_EVENT] = "INSERT INTO events(seq, user, item, rating, timestamp) "
                    "VALUES(?1, ?2, ?3, ?4, ?5)",
    [W_PUT_STATE] = "INSERT INTO states(user, seq, fingerprint, state) "
                    "SELECT id, ?2, ?3, ?4 FROM users WHERE name = ?1 "
                    "ON CONFLICT(user) DO UPDATE SET seq = excluded.seq, "
                    "fingerprint = excluded.fingerprint, state = excluded.state "
                    "WHERE excluded.seq > seq OR excluded.fingerprint <> fingerprint",
};

static const char *const reader_sql[R_COUNT] = {
    [R_BEGIN] = "BEGIN",
    [R_COMMIT] = "COMMIT",
    [R_FIND_USER] = "SELECT id FROM users WHERE name = ?1",
    [R_STATE] = "SELECT seq, state FROM states WHERE user = ?1 AND fingerprint = ?2",
    [R_EVENTS] = ("SELECT e.seq, i.name, e.rating, e.timestamp "
                  "FROM events e INDEXED BY events_user CROSS JOIN items i ON i.id = e.item "
                  "WHERE e.user = ?1 AND e.seq > ?2 ORDER BY e.seq"),
    [R_COUNTS] = ("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM items), "
                  "(SELECT count(*) FROM events), (SELECT count(*) FROM states)"),
};

static const char schema_sql[] =
    "CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"
    "CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"
    "CREATE TABLE events(seq INTEGER PRIMARY KEY, user INTEGER NOT NULL, item INTEGER NOT NULL, "
    "rating REAL NOT NULL, timestamp INTEGER NOT NULL);"
    "CREATE INDEX events_user ON events(user);"
    "CREATE TABLE states(user INTEGER PRIMARY KEY, seq INTEGER NOT NULL, "
    "fingerprint INTEGER NOT NULL, state BLOB NOT NULL);";

/* Pages of the log after which they are brought into the database: 32 MB. Many events then share
 * the writing of one page. */
#define CONNECTION_SQL "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; " \
                       "PRAGMA cache_size = -8000; PRAGMA wal_autocheckpoint = 8000"

enum { RETRY_MS = 5 };

/* ---- errors ----------------------------------------------------------------------------- */

enum akin_status live_error(const struct live_store *store, sqlite3 *db, const char *doing,
                            struct akin_error *error)
{
    const char *why = db ? sqlite3_errmsg(db) : "out of memory";
    int code = db ? sqlite3_errcode(db) & 0xff : SQLITE_NOMEM;
    int system_code = db ? sqlite3_system_errno(db) : 0;
    const char *path = store->path;
    switch (code) {
    case SQLITE_NOMEM:
        return error_memory(error);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(error, AKIN_BUSY, "%.500s: %s: another program has locked it for more "
                         "than %d ms: try again when that has ended", path, doing,
                         store->settings.busy_ms);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return error_set(error, AKIN_FORMAT, "%.500s: %s: the file is damaged or no database (%s): "
                         "restore it from a copy, or remove it to begin anew", path, doing, why);
    case SQLITE_FULL:
        return error_set(error, AKIN_IO, "%.500s: %s: the disk is full; nothing was changed: make "
                         "room and try again", path, doing);
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        return error_set(error, AKIN_IO,
                         "%.500s: %s: %s%s%s: the file and its folder must be there "
                         "and writable",
                         path, doing, why, system_code ? ": " : "",
                         system_code ? strerror(system_code) : "");
    case SQLITE_IOERR:
        return error_set(error, AKIN_IO, "%.500s: %s: %s%s%s", path, doing, why,
                         system_code ? ": " : "", system_code ? strerror(system_code) : "");
    default:
        return error_set(error, AKIN_FORMAT, "%.500s: %s: %s: the database is not as akin makes "
                         "it: restore it from a copy, or remove it to begin anew", path, doing,
                         why);
    }
}

enum akin_status live_run(const struct live_store *store, sqlite3_stmt *statement,
                          const char *doing, struct akin_error *error)
{
    int code = sqlite3_step(statement);
    enum akin_status status =
        code == SQLITE_DONE || code == SQLITE_ROW
            ? AKIN_OK : live_error(store, sqlite3_db_handle(statement), doing, error);
    sqlite3_reset(statement);
    return status;
}

static enum akin_status execute(const struct live_store *store, sqlite3 *db, const char *sql,
                                struct akin_error *error)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return live_error(store, db, "opening", error);
    return AKIN_OK;
}

/* The one number that `sql` gives. */
static enum akin_status ask(const struct live_store *store, sqlite3 *db, const char *sql,
                            int64_t *value, struct akin_error *error)
{
    sqlite3_stmt *statement = NULL;
    enum akin_status status = AKIN_OK;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        *value = sqlite3_column_int64(statement, 0);
    else
        status = live_error(store, db, "opening", error);
    sqlite3_finalize(statement);
    return status;
}

/* ---- opening ---------------------------------------------------------------------------- */

enum akin_status live_connect(const struct live_store *store, sqlite3 **db,
                              struct akin_error *error)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(store->path, db, flags, NULL) != SQLITE_OK)
        return live_error(store, *db, "opening", error);
    sqlite3_extended_result_codes(*db, 1);
    sqlite3_busy_timeout(*db, store->settings.busy_ms);
    sqlite3_db_config(*db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(*db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    return execute(store, *db, CONNECTION_SQL, error);
}

/* Whose database it is; *fresh: nobody's yet. Asked inside a transaction, since another process may
 * be making the schema between two of the questions. */
static enum akin_status check_identity(const struct live_store *store, bool *fresh,
                                       struct akin_error *error)
{
    int64_t application, schema, tables;
    TRY(ask(store, store->writer, "PRAGMA application_id", &application, error));
    TRY(ask(store, store->writer, "PRAGMA user_version", &schema, error));
    TRY(ask(store, store->writer, "SELECT count(*) FROM sqlite_schema", &tables, error));
    *fresh = application == 0 && schema == 0 && tables == 0;
    if (*fresh)
        return AKIN_OK;
    if (application != LIVE_APPLICATION)
        return error_set(error, AKIN_FORMAT, "%.500s: a database of another program: move it away",
                         store->path);
    if (schema > LIVE_SCHEMA)
        return error_set(error, AKIN_UNSUPPORTED, "%.500s: schema %lld was made by a newer akin, "
                         "this one knows up to %d: use the newer one", store->path,
                         (long long)schema, LIVE_SCHEMA);
    if (schema != LIVE_SCHEMA)
        return error_set(error, AKIN_FORMAT, "%.500s: schema %lld is none of akin's: restore the "
                         "file from a copy, or remove it to begin anew", store->path,
                         (long long)schema);
    return AKIN_OK;
}

/* A change of the journal does not wait for others by itself. */
static enum akin_status use_log(const struct live_store *store, struct akin_error *error)
{
    sqlite3_stmt *statement = NULL;
    int code, waited = 0;
    for (;; waited += RETRY_MS) {
        code = sqlite3_prepare_v2(store->writer, "PRAGMA journal_mode = WAL", -1, &statement, NULL);
        if (code == SQLITE_OK)
            code = sqlite3_step(statement);
        if ((code & 0xff) != SQLITE_BUSY || waited >= store->settings.busy_ms)
            break;
        sqlite3_finalize(statement);
        statement = NULL;
        sqlite3_sleep(RETRY_MS);
    }
    enum akin_status status = AKIN_OK;
    if (code != SQLITE_ROW)
        status = live_error(store, store->writer, "opening", error);
    else if (strcmp((const char *)sqlite3_column_text(statement, 0), "wal"))
        status = error_set(error, AKIN_UNSUPPORTED, "%.500s: this file system has no memory that "
                           "processes share, which SQLite's log needs: keep the catalogue on a "
                           "local disk", store->path);
    sqlite3_finalize(statement);
    return status;
}

static enum akin_status make_schema(const struct live_store *store, struct akin_error *error)
{
    char identity[128];
    bool fresh;
    TRY(execute(store, store->writer, "BEGIN IMMEDIATE", error));
    enum akin_status status = check_identity(store, &fresh, error);
    snprintf(identity, sizeof identity, "PRAGMA application_id = %d; PRAGMA user_version = %d",
             LIVE_APPLICATION, LIVE_SCHEMA);
    if (status == AKIN_OK && fresh) {
        status = execute(store, store->writer, schema_sql, error);
        if (status == AKIN_OK)
            status = execute(store, store->writer, identity, error);
    }
    if (status == AKIN_OK)
        status = execute(store, store->writer, "COMMIT", error);
    if (status != AKIN_OK) {
        sqlite3_exec(store->writer, "ROLLBACK", NULL, NULL, NULL);
        return status;
    }
    return path_sync_folder(store->path, error);
}

static enum akin_status prepare(const struct live_store *store, sqlite3 *db,
                                const char *const *sql, size_t count, sqlite3_stmt **statements,
                                struct akin_error *error)
{
    for (size_t i = 0; i < count; i++)
        if (sqlite3_prepare_v3(db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &statements[i], NULL))
            return live_error(store, db, "opening", error);
    return AKIN_OK;
}

static enum akin_status open_database(struct live_store *store, struct akin_error *error)
{
    bool fresh;
    int64_t last = 0;
    TRY(live_connect(store, &store->writer, error));
    store->read_only = sqlite3_db_readonly(store->writer, "main") == 1;
    TRY(execute(store, store->writer, "BEGIN", error));
    TRY(check_identity(store, &fresh, error));
    TRY(execute(store, store->writer, "COMMIT", error));
    if (!store->read_only) {
        TRY(use_log(store, error));
        TRY(execute(store, store->writer, store->settings.durable ? "PRAGMA synchronous = FULL"
                                                                  : "PRAGMA synchronous = NORMAL",
                    error));
    }
    if (fresh)
        TRY(make_schema(store, error));
    TRY(prepare(store, store->writer, writer_sql, W_COUNT, store->write, error));
    TRY(live_connect(store, &store->reader, error));
    TRY(prepare(store, store->reader, reader_sql, R_COUNT, store->read, error));
    if (!store->settings.from_start)
        TRY(ask(store, store->writer, "SELECT ifnull(max(seq), 0) FROM events", &last, error));
    store->last_number = (uint64_t)last;
    return AKIN_OK;
}

enum akin_status live_store_open(const char *path, const struct live_settings *settings,
                                 struct live_store **store, struct akin_error *error)
{
    struct live_store *opened = memory_alloc(1, sizeof *opened);
    if (!opened)
        return error_memory(error);
    opened->settings = *settings;
    snprintf(opened->path, sizeof opened->path, "%s", path);
    opened->read_lock = mutex_create();
    opened->queue_lock = mutex_create();
    opened->queue_changed = condition_create();
    opened->item_ids =
        memory_alloc(catalog_item_count(settings->catalog), sizeof *opened->item_ids);
    enum akin_status status = AKIN_OK;
    if (strlen(path) + sizeof "-journal" > sizeof opened->path)
        status = error_set(error, AKIN_LIMIT, "%.200s...: the path is too long", path);
    else if (!opened->read_lock || !opened->queue_lock || !opened->queue_changed ||
             !opened->item_ids)
        status = error_memory(error);
    else
        status = open_database(opened, error);
    if (status == AKIN_OK)
        *store = opened;
    else
        live_store_close(&opened);
    return status;
}

void live_store_close(struct live_store **store)
{
    struct live_store *s = *store;
    if (!s)
        return;
    for (size_t i = 0; i < W_COUNT; i++)
        sqlite3_finalize(s->write[i]);
    for (size_t i = 0; i < R_COUNT; i++)
        sqlite3_finalize(s->read[i]);
    sqlite3_close(s->reader);
    sqlite3_close(s->writer);
    mutex_destroy(&s->read_lock);
    mutex_destroy(&s->queue_lock);
    condition_destroy(&s->queue_changed);
    memory_free(s->item_ids);
    memory_free(s);
    *store = NULL;
}

bool live_store_read_only(const struct live_store *store)
{
    return store->read_only;
}

/* ---- reading ---------------------------------------------------------------------------- */

enum akin_status live_event_of(const struct live_store *store, sqlite3_stmt *row, int first,
                               int name, struct live_event *event, bool *known,
                               struct akin_error *error)
{
    const char *item = (const char *)sqlite3_column_text(row, name);
    double rating = sqlite3_column_double(row, first + 2);
    size_t found = 0;
    *event = (struct live_event){
        .number = (uint64_t)sqlite3_column_int64(row, first),
        .rating = (float)rating,
        .timestamp = sqlite3_column_int64(row, first + 3),
    };
    if (!(rating >= 0 && rating <= 1))
        return error_set(error, AKIN_FORMAT, "%.500s: event %llu: the rating %g is not 0 to 1: "
                         "restore the file from a copy", store->path,
                         (unsigned long long)event->number, rating);
    *known = item && catalog_find_id(store->settings.catalog, item, &found, NULL) == AKIN_OK;
    event->row = (uint32_t)found;
    return AKIN_OK;
}

/* Within a transaction. */
static enum akin_status read_user(struct live_store *s, int64_t user, const char *name,
                                  uint64_t fingerprint, const struct live_reader *reader,
                                  struct akin_error *error)
{
    sqlite3_stmt *find = s->read[R_STATE], *events = s->read[R_EVENTS];
    int64_t after = 0;
    sqlite3_bind_int64(find, 1, user);
    sqlite3_bind_int64(find, 2, (int64_t)fingerprint);
    int code = sqlite3_step(find);
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return live_error(s, s->reader, "reading a user", error);
    if (code == SQLITE_ROW) {
        struct live_state state = {
            .user = name, .number = (uint64_t)sqlite3_column_int64(find, 0),
            .fingerprint = fingerprint, .bytes = sqlite3_column_blob(find, 1),
            .count = (size_t)sqlite3_column_bytes(find, 1),
        };
        if (reader->state(reader->context, &state))
            after = (int64_t)state.number;
    }
    sqlite3_bind_int64(events, 1, user);
    sqlite3_bind_int64(events, 2, after);
    while ((code = sqlite3_step(events)) == SQLITE_ROW) {
        struct live_event event;
        bool known;
        TRY(live_event_of(s, events, 0, 1, &event, &known, error));
        if (known)
            reader->event(reader->context, &event);
    }
    return code == SQLITE_DONE ? AKIN_OK : live_error(s, s->reader, "reading a user", error);
}

static enum akin_status read_locked(struct live_store *s, const char *name, uint64_t fingerprint,
                                    const struct live_reader *reader, bool *known,
                                    struct akin_error *error)
{
    sqlite3_stmt *find = s->read[R_FIND_USER];
    TRY(live_run(s, s->read[R_BEGIN], "reading a user", error));
    enum akin_status status = AKIN_OK;
    sqlite3_bind_text(find, 1, name, -1, SQLITE_STATIC);
    int code = sqlite3_step(find);
    *known = code == SQLITE_ROW;
    if (code == SQLITE_ROW)
        status = read_user(s, sqlite3_column_int64(find, 0), name, fingerprint, reader, error);
    else if (code != SQLITE_DONE)
        status = live_error(s, s->reader, "reading a user", error);
    sqlite3_reset(find);
    sqlite3_clear_bindings(find);
    sqlite3_reset(s->read[R_STATE]);
    sqlite3_reset(s->read[R_EVENTS]);
    (void)live_run(s, s->read[R_COMMIT], "reading a user", NULL);
    return status;
}

enum akin_status live_store_read(struct live_store *s, const char *user, uint64_t fingerprint,
                                 const struct live_reader *reader, bool *known,
                                 struct akin_error *error)
{
    mutex_lock(s->read_lock);
    enum akin_status status = read_locked(s, user, fingerprint, reader, known, error);
    mutex_unlock(s->read_lock);
    return status;
}

enum akin_status live_store_count(struct live_store *s, struct live_counts *counts,
                                  struct akin_error *error)
{
    sqlite3_stmt *row = s->read[R_COUNTS];
    enum akin_status status = AKIN_OK;
    mutex_lock(s->read_lock);
    if (sqlite3_step(row) == SQLITE_ROW)
        *counts = (struct live_counts){ (uint64_t)sqlite3_column_int64(row, 0),
                                        (uint64_t)sqlite3_column_int64(row, 1),
                                        (uint64_t)sqlite3_column_int64(row, 2),
                                        (uint64_t)sqlite3_column_int64(row, 3) };
    else
        status = live_error(s, s->reader, "counting", error);
    sqlite3_reset(row);
    mutex_unlock(s->read_lock);
    return status;
}
