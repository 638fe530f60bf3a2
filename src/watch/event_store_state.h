/* The inside of a store of events. Two locks of the process: `writing` is had by who appends, takes
 * over or removes, for as long as the disk takes, and `state` by who changes or reads what is in
 * memory, for a moment. The lock of the folder keeps processes apart; who has it has `writing`.
 *
 *   store              a line that says what the folder is
 *   lock               locked while something is appended (or, shared, taken over)
 *   events-N.log       segments; N is the number of the first event; the last one grows
 *   events-N.idx       sidecars of those that do not
 *   kinds-MODEL.log    kinds and their vectors by one model
 *   labels.log         labels, the last one of an event holds */
#pragma once

#include "base/thread.h"
#include "watch/event_ids.h"
#include "watch/event_kinds.h"
#include "watch/event_segment.h"
#include "watch/kind_card.h"
#include "watch/kind_index.h"

struct origin_cursor {
    char *origin;
    struct bytes cursor;
};

struct event_store {
    char folder[PATH_BYTES_MAX - 64];       /* room for the names in it */
    struct event_store_settings settings;
    struct event_store_note note;
    struct mutex *writing;

    struct file_at lock;            /* fd -1: a read-only copy without one */
    struct file_at log;             /* of the last segment; -1: there is none */
    struct file_at label_log;
    uint64_t label_end;
    struct event_ids ids;
    bool unsynced;                  /* the log has what this process does not know to be durable */
    bool stale;                     /* what is in memory is not all: to be loaded anew */
    struct bytes scratch;

    struct turnstile *state; /* guards all below; fair, as searches may come without a pause */
    struct event_segment **segments;        /* ascending; the last one grows */
    size_t segment_count, segment_capacity;
    size_t lost_segments;           /* which nothing can be read of */
    uint64_t next;                  /* number of the next event */
    struct origin_cursor *cursors;
    size_t cursor_count, cursor_capacity;
    bool cursors_failed;            /* memory ran out */
    struct number_map labels;       /* number -> label + 1 */
    struct event_kinds kinds;
    struct kind_index *index;       /* of the kinds; NULL: not worth it so far */
    struct kind_card card;
    bool card_asked;
    uint64_t searches;              /* among many kinds */
};

/* ---- event_store_open.c ------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3)))
void store_tell(const struct event_store *store, const char *format, ...);
enum { LOG_FILE, SIDECAR_FILE };
void store_segment_path(const struct event_store *store, uint64_t first, int which,
                        char path[PATH_BYTES_MAX]);
/* All that is in memory, anew from the folder. Locked. */
enum akin_status store_load(struct event_store *store, struct akin_error *error);
/* Adds an empty segment behind the others and opens its file, which is there. */
enum akin_status store_follow(struct event_store *store, uint64_t first, struct akin_error *error);
/* The sink of segment_take; the cookie is the store. */
void store_see_event(void *cookie, const struct stored_event *event, uint64_t id);
/* Takes over the records of the last segment's file up to its end. */
enum akin_status store_take_log(struct event_store *store, bool exclusive,
                                struct akin_error *error);

/* ---- event_store_read.c -------------------------------------------------------------------- */

/* A filter as numbers of one segment's tables. */
struct segment_filter {
    bool none;                      /* nothing in it passes */
    uint32_t source, session, origin, level;    /* ROW_NONE: whatever */
};

struct segment_filter store_filter(const struct event_segment *segment,
                                   const struct event_filter *filter);
bool store_passes(const struct event_store *store, const struct event_segment *segment,
                  const struct event_row *row, const struct event_filter *filter,
                  const struct segment_filter *places);

/* ---- event_store.c ------------------------------------------------------------------------ */

/* What others did since. */
enum akin_status store_catch_up(struct event_store *store, bool exclusive,
                                struct akin_error *error);
enum akin_status store_take_labels(struct event_store *store, bool exclusive,
                                   struct akin_error *error);
/* Removes old segments as far as the settings want it; what cannot be removed stays. */
void store_retain(struct event_store *store);
int store_label_of(const struct event_store *store, uint64_t number);
