/* What was judged, made durable: first in the store of events, then in the audit trail. A disk that
 * is full or fails is told once and waited for; until it is well again nothing is acknowledged.
 *
 * The store comes first, because it knows which events it has already. What a crash leaves in the
 * store and not in the trail is written to the trail when watching begins again (keeper_catch_up);
 * an event that is delivered again is in the trail again, marked as such. */
#pragma once

#include <stdatomic.h>

#include "akin/audit.h"
#include "base/memory.h"
#include "watch/event_store.h"

struct keeper_note {            /* one line each; may be called from the scorer's thread */
    void *cookie;
    void (*tell)(void *cookie, const char *line);
};

struct keeper {
    struct event_store *store;  /* may be NULL */
    const char *audit_folder;   /* NULL: no trail */
    struct akin_audit *audit;   /* NULL while it cannot be opened */
    struct keeper_note note;
    atomic_bool *stopping;      /* the disk is not waited for any longer */
    struct bytes record;
    bool troubled;              /* and told */
};

/* What the trail says of an event beside what is stored: the members of a verdict (verdict_json.h),
 * empty for an event of the history. */
struct kept_event {
    struct stored_event event;  /* its number is filled in; 0: it was there already */
    const char *members;
    size_t members_bytes;
    bool history;
};

/* Opens the trail, and makes it where there is none. */
enum akin_status keeper_open(struct keeper *keeper, struct akin_error *error);
/* Signs a checkpoint. */
void keeper_close(struct keeper *keeper);

/* Returns once the events are durable, or with AKIN_IO once it is to stop and they are not. */
enum akin_status keeper_keep(struct keeper *keeper, struct kept_event *events, size_t count,
                             struct akin_error *error);
/* Records of the watch's own into the trail; nothing where there is none. */
enum akin_status keeper_records(struct keeper *keeper, const struct akin_audit_record *records,
                                size_t count, struct akin_error *error);
/* What the trail has for a source that had no cursor when the trail began. */
bool keeper_is_no_cursor(const char *cursor);
/* Writes to the trail what the store has of `origin` and the trail lacks. *added: how many. */
enum akin_status keeper_catch_up(struct keeper *keeper, const char *origin, uint64_t *added,
                                 struct akin_error *error);
