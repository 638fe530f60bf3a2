/* See choice_store.h. */
#include "catalog/choice_store.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "catalog/live_internal.h"

enum { CHOICES_VERSION = 1 };

/* More evidence than any half-life lets an arm have. */
#define EVIDENCE_MAX 1e9

static const char schema_sql[] =
    "CREATE TABLE IF NOT EXISTS bandit_meta(id INTEGER PRIMARY KEY CHECK(id = 1), "
    "version INTEGER NOT NULL, settled INTEGER NOT NULL, requests INTEGER NOT NULL);"
    "INSERT OR IGNORE INTO bandit_meta SELECT 1, 1, ifnull(max(seq), 0), 0 FROM events;"
    "CREATE TABLE IF NOT EXISTS bandit_arms(segment TEXT NOT NULL, arm TEXT NOT NULL, "
    "alpha REAL NOT NULL, beta REAL NOT NULL, choices INTEGER NOT NULL, "
    "rewards INTEGER NOT NULL, reward REAL NOT NULL, PRIMARY KEY(segment, arm)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS bandit_choices(id INTEGER PRIMARY KEY, user TEXT NOT NULL, "
    "request INTEGER NOT NULL, place INTEGER NOT NULL, item TEXT NOT NULL, segment TEXT NOT NULL, "
    "arm TEXT NOT NULL, arm_share REAL NOT NULL, item_share REAL NOT NULL, "
    "timestamp INTEGER NOT NULL, reward REAL, UNIQUE(user, request, place));"
    "CREATE INDEX IF NOT EXISTS bandit_choices_open ON bandit_choices(user, item) "
    "WHERE reward IS NULL;"
    "CREATE INDEX IF NOT EXISTS bandit_choices_time ON bandit_choices(timestamp) "
    "WHERE reward IS NULL;";

enum statement {
    S_BEGIN, S_COMMIT, S_ROLLBACK, S_META, S_SETTLED, S_REQUEST, S_FIND, S_PUT, S_EACH, S_ADD,
    S_AGAIN, S_RATED, S_EXPIRED, S_CROWDED, S_PAY, S_REMOVE, S_LAST, S_COUNT
};

/* CROSS JOIN: events first, in their order. */
static const char *const sql[S_COUNT] = {
    [S_BEGIN] = "BEGIN IMMEDIATE",
    [S_COMMIT] = "COMMIT",
    [S_ROLLBACK] = "ROLLBACK",
    [S_META] = "SELECT version, settled, requests FROM bandit_meta",
    [S_SETTLED] = "UPDATE bandit_meta SET settled = ?1",
    [S_REQUEST] = "UPDATE bandit_meta SET requests = requests + 1",
    [S_FIND] = "SELECT segment, arm, alpha, beta, choices, rewards, reward FROM bandit_arms "
               "WHERE segment = ?1 AND arm = ?2",
    [S_PUT] = "INSERT OR REPLACE INTO bandit_arms VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [S_EACH] = "SELECT segment, arm, alpha, beta, choices, rewards, reward FROM bandit_arms "
               "ORDER BY segment, arm",
    [S_ADD] = "INSERT OR IGNORE INTO bandit_choices(user, request, place, item, segment, arm, "
              "arm_share, item_share, timestamp) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    [S_AGAIN] = "UPDATE bandit_choices SET item = ?4, segment = ?5, arm = ?6, arm_share = ?7, "
                "item_share = ?8, timestamp = ?9 WHERE user = ?1 AND request = ?2 AND place = ?3 "
                "AND reward IS NULL",
    [S_RATED] = "SELECT c.id, c.segment, c.arm, e.rating, e.seq FROM events e "
                "CROSS JOIN users u ON u.id = e.user CROSS JOIN items i ON i.id = e.item "
                "CROSS JOIN bandit_choices c INDEXED BY bandit_choices_open "
                "ON c.user = u.name AND c.item = i.name AND c.reward IS NULL "
                "WHERE e.seq >= ?1 ORDER BY e.seq, c.id LIMIT 1",
    [S_EXPIRED] = "SELECT id, segment, arm FROM bandit_choices INDEXED BY bandit_choices_time "
                  "WHERE reward IS NULL AND timestamp < ?1 ORDER BY timestamp, id LIMIT 1",
    [S_CROWDED] = "SELECT id, segment, arm FROM bandit_choices WHERE reward IS NULL AND id <= "
                  "(SELECT max(id) FROM bandit_choices) - ?1 ORDER BY id LIMIT 1",
    [S_PAY] = "UPDATE bandit_choices SET reward = ?2 WHERE id = ?1",
    [S_REMOVE] = "DELETE FROM bandit_choices WHERE id <= "
                 "(SELECT max(id) FROM bandit_choices) - ?1",
    [S_LAST] = "SELECT ifnull(max(seq), 0) FROM events",
};

struct choice_store {
    struct live_store *live;
    sqlite3 *db;
    sqlite3_stmt *statements[S_COUNT];
    int64_t next;               /* events before it are done with */
};

/* ---- opening ---------------------------------------------------------------------------- */

static enum akin_status run(struct choice_store *s, enum statement which, struct akin_error *error)
{
    return live_run(s->live, s->statements[which], "keeping choices", error);
}

/* A statement that gives one row, or none; the caller resets it. */
static enum akin_status step(struct choice_store *s, enum statement which, bool *row,
                             struct akin_error *error)
{
    int code = sqlite3_step(s->statements[which]);
    *row = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE
               ? AKIN_OK : live_error(s->live, s->db, "reading choices", error);
}

static enum akin_status check_version(struct choice_store *s, struct akin_error *error)
{
    bool row;
    enum akin_status status = step(s, S_META, &row, error);
    int64_t version = row ? sqlite3_column_int64(s->statements[S_META], 0) : 0;
    sqlite3_reset(s->statements[S_META]);
    TRY(status);
    if (version > CHOICES_VERSION)
        return error_set(error, AKIN_UNSUPPORTED, "%.500s: what was explored was kept by a newer "
                         "akin (version %lld, this one knows %d): use the newer one",
                         s->live->path, (long long)version, CHOICES_VERSION);
    if (version != CHOICES_VERSION)
        return error_set(error, AKIN_FORMAT, "%.500s: bandit_meta: version %lld is none of akin's: "
                         "restore the file from a copy, or drop the tables bandit_*", s->live->path,
                         (long long)version);
    return AKIN_OK;
}

static enum akin_status make_tables(struct choice_store *s, struct akin_error *error)
{
    if (sqlite3_exec(s->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(s->db, schema_sql, NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK)
        return AKIN_OK;
    enum akin_status status = live_error(s->live, s->db, "making tables of choices", error);
    sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

static enum akin_status open_tables(struct choice_store *s, struct akin_error *error)
{
    if (live_store_read_only(s->live))
        return error_set(error, AKIN_IO, "%.500s: the file cannot be written: make it and its "
                         "folder writable", s->live->path);
    TRY(live_connect(s->live, &s->db, error));
    if (sqlite3_exec(s->db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL) != SQLITE_OK)
        return live_error(s->live, s->db, "opening", error);
    TRY(make_tables(s, error));
    for (int i = 0; i < S_COUNT; i++)
        if (sqlite3_prepare_v3(s->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &s->statements[i],
                               NULL) != SQLITE_OK)
            return live_error(s->live, s->db, "opening choices", error);
    return check_version(s, error);
}

enum akin_status choice_store_open(struct live_store *live, struct choice_store **store,
                                   struct akin_error *error)
{
    struct choice_store *opened = memory_alloc(1, sizeof *opened);
    if (!opened)
        return error_memory(error);
    opened->live = live;
    enum akin_status status = open_tables(opened, error);
    if (status == AKIN_OK)
        *store = opened;
    else
        choice_store_close(&opened);
    return status;
}

void choice_store_close(struct choice_store **store)
{
    if (!*store)
        return;
    for (int i = 0; i < S_COUNT; i++)
        sqlite3_finalize((*store)->statements[i]);
    sqlite3_close((*store)->db);
    memory_free(*store);
    *store = NULL;
}

/* ---- transactions ----------------------------------------------------------------------- */

enum akin_status choice_store_begin(struct choice_store *s, struct akin_error *error)
{
    bool row;
    TRY(run(s, S_BEGIN, error));
    enum akin_status status = step(s, S_META, &row, error);
    s->next = row ? sqlite3_column_int64(s->statements[S_META], 1) + 1 : 0;
    sqlite3_reset(s->statements[S_META]);
    if (status == AKIN_OK && !row)
        status = error_set(error, AKIN_FORMAT, "%.500s: bandit_meta is empty: restore the file "
                           "from a copy, or drop the tables bandit_*", s->live->path);
    return status == AKIN_OK ? AKIN_OK : choice_store_end(s, status, error);
}

enum akin_status choice_store_end(struct choice_store *s, enum akin_status status,
                                  struct akin_error *error)
{
    if (status == AKIN_OK)
        status = run(s, S_COMMIT, error);
    if (status != AKIN_OK && !sqlite3_get_autocommit(s->db))
        (void)run(s, S_ROLLBACK, NULL);
    return status;
}

/* ---- arms ------------------------------------------------------------------------------- */

static void copy_name(char to[CHOICE_NAME_BYTES], sqlite3_stmt *row, int column)
{
    const char *name = (const char *)sqlite3_column_text(row, column);
    snprintf(to, CHOICE_NAME_BYTES, "%s", name ? name : "");
}

static enum akin_status read_arm(struct choice_store *s, sqlite3_stmt *row, struct choice_arm *arm,
                                 struct akin_error *error)
{
    copy_name(arm->segment, row, 0);
    copy_name(arm->arm, row, 1);
    arm->alpha = sqlite3_column_double(row, 2);
    arm->beta = sqlite3_column_double(row, 3);
    arm->choices = (uint64_t)sqlite3_column_int64(row, 4);
    arm->rewards = (uint64_t)sqlite3_column_int64(row, 5);
    arm->reward = sqlite3_column_double(row, 6);
    if (arm->alpha >= 0 && arm->alpha <= EVIDENCE_MAX && arm->beta >= 0 &&
        arm->beta <= EVIDENCE_MAX && arm->reward >= 0 && isfinite(arm->reward))
        return AKIN_OK;
    return error_set(error, AKIN_FORMAT, "%.500s: bandit_arms: segment %s, arm %s: alpha %g and "
                     "beta %g are no evidence: restore the file from a copy, or delete that row",
                     s->live->path, arm->segment, arm->arm, arm->alpha, arm->beta);
}

enum akin_status choice_store_find(struct choice_store *s, const char *segment, const char *arm,
                                   struct choice_arm *found, bool *known, struct akin_error *error)
{
    sqlite3_stmt *find = s->statements[S_FIND];
    *found = (struct choice_arm){ 0 };
    snprintf(found->segment, sizeof found->segment, "%s", segment);
    snprintf(found->arm, sizeof found->arm, "%s", arm);
    sqlite3_bind_text(find, 1, segment, -1, SQLITE_STATIC);
    sqlite3_bind_text(find, 2, arm, -1, SQLITE_STATIC);
    enum akin_status status = step(s, S_FIND, known, error);
    if (*known)
        status = read_arm(s, find, found, error);
    sqlite3_reset(find);
    sqlite3_clear_bindings(find);
    return status;
}

enum akin_status choice_store_put(struct choice_store *s, const struct choice_arm *arm,
                                  struct akin_error *error)
{
    sqlite3_stmt *put = s->statements[S_PUT];
    sqlite3_bind_text(put, 1, arm->segment, -1, SQLITE_STATIC);
    sqlite3_bind_text(put, 2, arm->arm, -1, SQLITE_STATIC);
    sqlite3_bind_double(put, 3, arm->alpha);
    sqlite3_bind_double(put, 4, arm->beta);
    sqlite3_bind_int64(put, 5, (int64_t)arm->choices);
    sqlite3_bind_int64(put, 6, (int64_t)arm->rewards);
    sqlite3_bind_double(put, 7, arm->reward);
    enum akin_status status = run(s, S_PUT, error);
    sqlite3_clear_bindings(put);
    return status;
}

enum akin_status choice_store_each(struct choice_store *s,
                                   enum akin_status (*visit)(void *context,
                                                             const struct choice_arm *arm,
                                                             struct akin_error *error),
                                   void *context, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    for (bool row = true; status == AKIN_OK && row;) {
        struct choice_arm arm;
        status = step(s, S_EACH, &row, error);
        if (status == AKIN_OK && row)
            status = read_arm(s, s->statements[S_EACH], &arm, error);
        if (status == AKIN_OK && row)
            status = visit(context, &arm, error);
    }
    sqlite3_reset(s->statements[S_EACH]);
    return status;
}

/* ---- choices ---------------------------------------------------------------------------- */

enum akin_status choice_store_request(struct choice_store *s, uint64_t *number,
                                      struct akin_error *error)
{
    bool row;
    TRY(run(s, S_REQUEST, error));
    enum akin_status status = step(s, S_META, &row, error);
    *number = row ? (uint64_t)sqlite3_column_int64(s->statements[S_META], 2) : 0;
    sqlite3_reset(s->statements[S_META]);
    return status;
}

static enum akin_status write_choice(struct choice_store *s, enum statement which,
                                     const struct choice *choice, bool *written,
                                     struct akin_error *error)
{
    sqlite3_stmt *add = s->statements[which];
    sqlite3_bind_text(add, 1, choice->user, -1, SQLITE_STATIC);
    sqlite3_bind_int64(add, 2, (int64_t)choice->request);
    sqlite3_bind_int64(add, 3, choice->place);
    sqlite3_bind_text(add, 4, choice->item, -1, SQLITE_STATIC);
    sqlite3_bind_text(add, 5, choice->segment, -1, SQLITE_STATIC);
    sqlite3_bind_text(add, 6, choice->arm, -1, SQLITE_STATIC);
    sqlite3_bind_double(add, 7, choice->arm_share);
    sqlite3_bind_double(add, 8, choice->item_share);
    sqlite3_bind_int64(add, 9, choice->timestamp);
    enum akin_status status = run(s, which, error);
    *written = status == AKIN_OK && sqlite3_changes(s->db) > 0;
    sqlite3_clear_bindings(add);
    return status;
}

enum akin_status choice_store_add(struct choice_store *s, const struct choice *choice, bool *added,
                                  struct akin_error *error)
{
    bool again;
    TRY(write_choice(s, S_ADD, choice, added, error));
    return *added ? AKIN_OK : write_choice(s, S_AGAIN, choice, &again, error);
}

/* ---- rewards ---------------------------------------------------------------------------- */

static enum akin_status pay(struct choice_store *s, int64_t id, double reward,
                            struct akin_error *error)
{
    sqlite3_bind_int64(s->statements[S_PAY], 1, id);
    sqlite3_bind_double(s->statements[S_PAY], 2, reward);
    return run(s, S_PAY, error);
}

/* The first row of `which`, whose columns begin with id, segment, arm, and whose parameter is
 * `bound`. */
static enum akin_status first_of(struct choice_store *s, enum statement which, int64_t bound,
                                 struct choice_due *due, bool *any, struct akin_error *error)
{
    sqlite3_stmt *row = s->statements[which];
    int64_t id = 0;
    sqlite3_bind_int64(row, 1, bound);
    enum akin_status status = step(s, which, any, error);
    due->reward = 0;
    if (*any) {
        id = sqlite3_column_int64(row, 0);
        copy_name(due->segment, row, 1);
        copy_name(due->arm, row, 2);
    }
    if (*any && which == S_RATED) {
        due->reward = sqlite3_column_double(row, 3);
        s->next = sqlite3_column_int64(row, 4);
        if (!(due->reward >= 0 && due->reward <= 1))
            status = error_set(error, AKIN_FORMAT, "%.500s: event %lld: the rating %g is not 0 to "
                               "1: restore the file from a copy", s->live->path,
                               (long long)s->next, due->reward);
    }
    sqlite3_reset(row);
    return status == AKIN_OK && *any ? pay(s, id, due->reward, error) : status;
}

/* All events are seen. */
static enum akin_status settle(struct choice_store *s, struct akin_error *error)
{
    bool row;
    enum akin_status status = step(s, S_LAST, &row, error);
    int64_t last = row ? sqlite3_column_int64(s->statements[S_LAST], 0) : 0;
    sqlite3_reset(s->statements[S_LAST]);
    TRY(status);
    if (last >= s->next) {
        sqlite3_bind_int64(s->statements[S_SETTLED], 1, last);
        TRY(run(s, S_SETTLED, error));
        s->next = last + 1;
    }
    sqlite3_bind_int64(s->statements[S_REMOVE], 1, CHOICES_KEPT);
    return run(s, S_REMOVE, error);
}

enum akin_status choice_store_next_due(struct choice_store *s, int64_t expired,
                                       struct choice_due *due, bool *any,
                                       struct akin_error *error)
{
    TRY(first_of(s, S_RATED, s->next, due, any, error));
    if (!*any)
        TRY(first_of(s, S_EXPIRED, expired, due, any, error));
    if (!*any)
        TRY(first_of(s, S_CROWDED, CHOICES_KEPT, due, any, error));
    return *any ? AKIN_OK : settle(s, error);
}
