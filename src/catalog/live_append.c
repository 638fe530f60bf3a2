/* Group commit. A thread that wants ratings kept puts them into a queue; if nobody is leading, it
 * leads: it takes what is in the queue, its own included, commits all as one transaction, tells
 * `happened` of each event in order, and wakes those who wait. Meanwhile the queue fills again. */
#include <string.h>

#include "base/memory.h"
#include "catalog/catalog.h"
#include "catalog/live_internal.h"

enum { GROUP_RATINGS_MAX = 1 << 16, STATES_MAX = 1024 };     /* of one commit */

/* ---- one transaction -------------------------------------------------------------------- */

/* Tells of events that other processes committed. */
static enum akin_status catch_up(struct live_store *s, struct akin_error *error)
{
    sqlite3_stmt *row = s->write[W_NEW_EVENTS];
    enum akin_status status = AKIN_OK;
    int code = SQLITE_DONE;
    sqlite3_bind_int64(row, 1, (int64_t)s->last_number);
    while (status == AKIN_OK && (code = sqlite3_step(row)) == SQLITE_ROW) {
        struct live_event event;
        bool known;
        status = live_event_of(s, row, 0, 1, &event, &known, error);
        if (status != AKIN_OK)
            break;
        const char *user = (const char *)sqlite3_column_text(row, 4);
        if (known && user)
            s->settings.hooks.happened(s->settings.hooks.context, user, &event);
        s->last_number = event.number;
    }
    if (status == AKIN_OK && code != SQLITE_DONE)
        status = live_error(s, s->writer, "reading new events", error);
    sqlite3_reset(row);
    return status;
}

/* The number of a name, given to it where it has none. */
static enum akin_status number_of(struct live_store *s, enum writer_statement find,
                                  enum writer_statement add, const char *name, int64_t *number,
                                  bool *added, struct akin_error *error)
{
    sqlite3_bind_text(s->write[find], 1, name, -1, SQLITE_STATIC);
    int code = sqlite3_step(s->write[find]);
    if (code == SQLITE_ROW)
        *number = sqlite3_column_int64(s->write[find], 0);
    enum akin_status status = code == SQLITE_ROW || code == SQLITE_DONE
                                  ? AKIN_OK : live_error(s, s->writer, "writing", error);
    sqlite3_reset(s->write[find]);
    *added = status == AKIN_OK && code == SQLITE_DONE;
    if (*added) {
        sqlite3_bind_text(s->write[add], 1, name, -1, SQLITE_STATIC);
        status = live_run(s, s->write[add], "writing", error);
        *number = sqlite3_last_insert_rowid(s->writer);
    }
    return status;
}

static enum akin_status item_number(struct live_store *s, uint32_t row, int64_t *number,
                                    struct akin_error *error)
{
    struct akin_item item;
    bool added;
    *number = s->item_ids[row];
    if (*number)
        return AKIN_OK;
    catalog_item(s->settings.catalog, row, &item);
    TRY(number_of(s, W_FIND_ITEM, W_ADD_ITEM, item.id, number, &added, error));
    s->items_added |= added;
    if (*number > 0 && *number <= UINT32_MAX)
        s->item_ids[row] = (uint32_t)*number;
    return AKIN_OK;
}

/* Those of one call get the numbers from `number` on. */
static enum akin_status write_events(struct live_store *s, const struct live_waiter *waiter,
                                     uint64_t number, struct akin_error *error)
{
    sqlite3_stmt *add = s->write[W_ADD_EVENT];
    const char *last = NULL;
    int64_t user = 0, item;
    bool added;
    for (size_t i = 0; i < waiter->count; i++) {
        const struct live_rating *rating = &waiter->ratings[i];
        if (!last || strcmp(last, rating->user))
            TRY(number_of(s, W_FIND_USER, W_ADD_USER, rating->user, &user, &added, error));
        last = rating->user;
        TRY(item_number(s, rating->row, &item, error));
        sqlite3_bind_int64(add, 1, (int64_t)(number + i));
        sqlite3_bind_int64(add, 2, user);
        sqlite3_bind_int64(add, 3, item);
        sqlite3_bind_double(add, 4, (double)rating->rating);
        sqlite3_bind_int64(add, 5, rating->timestamp);
        TRY(live_run(s, add, "writing", error));
    }
    return AKIN_OK;
}

static enum akin_status write_states(struct live_store *s, struct akin_error *error)
{
    sqlite3_stmt *put = s->write[W_PUT_STATE];
    struct live_state state;
    for (size_t i = 0; i < STATES_MAX && s->settings.hooks.next_state; i++) {
        if (!s->settings.hooks.next_state(s->settings.hooks.context, &state))
            break;
        sqlite3_bind_text(put, 1, state.user, -1, SQLITE_STATIC);
        sqlite3_bind_int64(put, 2, (int64_t)state.number);
        sqlite3_bind_int64(put, 3, (int64_t)state.fingerprint);
        sqlite3_bind_blob64(put, 4, state.bytes, state.count, SQLITE_STATIC);
        enum akin_status status = live_run(s, put, "writing a state", error);
        sqlite3_clear_bindings(put);
        TRY(status);
    }
    return AKIN_OK;
}

/* The greatest number so far; others may have used some that this catalogue cannot read. */
static enum akin_status last_number(struct live_store *s, uint64_t *number,
                                    struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    if (sqlite3_step(s->write[W_LAST]) == SQLITE_ROW)
        *number = (uint64_t)sqlite3_column_int64(s->write[W_LAST], 0);
    else
        status = live_error(s, s->writer, "writing", error);
    sqlite3_reset(s->write[W_LAST]);
    return status;
}

/* Between BEGIN and COMMIT, both included. *first: the number of the group's first event. */
static enum akin_status transact(struct live_store *s, const struct live_waiter *group,
                                 uint64_t *first, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    TRY(catch_up(s, error));            /* most of it while others may still write */
    TRY(live_run(s, s->write[W_BEGIN], "writing", error));
    s->items_added = false;
    uint64_t number = 0;
    TRY_DONE(catch_up(s, error));
    TRY_DONE(last_number(s, &number, error));
    *first = ++number;
    for (const struct live_waiter *w = group; w; number += w->count, w = w->next)
        TRY_DONE(write_events(s, w, number, error));
    TRY_DONE(write_states(s, error));
    TRY_DONE(live_run(s, s->write[W_COMMIT], "committing", error));
    return AKIN_OK;
done:
    if (!sqlite3_get_autocommit(s->writer))
        (void)live_run(s, s->write[W_ROLLBACK], "rolling back", NULL);
    if (s->items_added)     /* their numbers are gone */
        memset(s->item_ids, 0, catalog_item_count(s->settings.catalog) * sizeof *s->item_ids);
    return status;
}

static enum akin_status commit_group(struct live_store *s, const struct live_waiter *group,
                                     struct akin_error *error)
{
    uint64_t number = 0;
    if (s->read_only)
        return error_set(error, AKIN_IO, "%.500s: the file cannot be written: make it and its "
                         "folder writable", s->path);
    TRY(transact(s, group, &number, error));
    for (const struct live_waiter *w = group; w; w = w->next)
        for (size_t i = 0; i < w->count; i++) {
            const struct live_rating *rating = &w->ratings[i];
            struct live_event event = { number, rating->row, rating->rating, rating->timestamp };
            s->settings.hooks.happened(s->settings.hooks.context, rating->user, &event);
            s->last_number = number++;
        }
    return AKIN_OK;
}

/* ---- the queue -------------------------------------------------------------------------- */

/* Takes the first of the queue, at least one. */
static struct live_waiter *take_group(struct live_store *s)
{
    struct live_waiter *group = s->first, *end = group;
    size_t ratings = end->count;
    while (end->next && ratings + end->next->count <= GROUP_RATINGS_MAX) {
        end = end->next;
        ratings += end->count;
    }
    s->first = end->next;
    if (!s->first)
        s->last = NULL;
    end->next = NULL;
    return group;
}

/* Called and left with the lock held. */
static void lead(struct live_store *s)
{
    struct akin_error error = { 0 };
    struct live_waiter *group = take_group(s);
    s->leading = true;
    mutex_unlock(s->queue_lock);
    enum akin_status status = commit_group(s, group, &error);
    mutex_lock(s->queue_lock);
    for (struct live_waiter *w = group, *next; w; w = next) {
        next = w->next;     /* once done, it is its owner's again */
        w->status = status;
        w->error = error;
        w->done = true;
    }
    s->leading = false;
    condition_wake(s->queue_changed);
}

enum akin_status live_store_append(struct live_store *s, const struct live_rating *ratings,
                                   size_t count, struct akin_error *error)
{
    struct live_waiter self = { .ratings = ratings, .count = count };
    mutex_lock(s->queue_lock);
    if (s->last)
        s->last->next = &self;
    else
        s->first = &self;
    s->last = &self;
    while (!self.done) {
        if (s->leading)
            condition_wait(s->queue_changed, s->queue_lock);
        else
            lead(s);
    }
    mutex_unlock(s->queue_lock);
    if (self.status != AKIN_OK && error)
        *error = self.error;
    return self.status;
}

enum akin_status live_store_refresh(struct live_store *s, struct akin_error *error)
{
    mutex_lock(s->queue_lock);
    bool lead_now = !s->leading;
    s->leading = true;
    mutex_unlock(s->queue_lock);
    if (!lead_now)
        return AKIN_OK;
    enum akin_status status = catch_up(s, error);
    mutex_lock(s->queue_lock);
    s->leading = false;
    condition_wake(s->queue_changed);
    mutex_unlock(s->queue_lock);
    return status;
}
