/* Where events come from: one table of functions, one file a kind (lines, socket, bus, journal,
 * stream). A source is driven by one thread of its own, which calls its functions in turn; it never
 * starts threads that call back. What it hands out is copied before it is asked again.
 *
 * Tickets count the events of a source from 1: each SOURCE_EVENT takes one, and nothing else does.
 * `stored` says that every event up to a ticket is durable; only then does a source let go of them
 * (acknowledges, moves its cursor); of what is bad it lets go by itself. A source that is closed,
 * or whose process dies, delivers the rest again: events are seen at least once, and the store
 * leaves out those whose id it has. */
#pragma once

#include <stdbool.h>

#include "akin/watch.h"
#include "events/event.h"

enum source_state {
    SOURCE_EVENT,           /* *event is filled */
    SOURCE_QUIET,           /* nothing came in that time */
    SOURCE_BAD,             /* what came is no event: *error says why; it counts and is left out */
    SOURCE_END,             /* nothing will ever come: a file that is not followed, a closed pipe */
};

struct event_source {
    const char *name;       /* unique among the sources of a watch; cursors are kept by it */
    /* What is not asked for waits where it is. Otherwise the one who sends grows or loses, and the
     * reader must take all, drop what finds no room and count that. */
    bool waits;
    /* Of one that does not wait: `next` with `event` NULL hands out nothing (SOURCE_QUIET), but
     * takes in what comes, as far as the source has room itself. For who has none just now. */
    bool keeps;
    uint64_t lost;          /* events that the source itself knows to be lost, so far */

    /* Waits at most timeout_ms (0: not at all) for an event. The same error again and again is told
     * once, with what is done about it; a source that can go on (a bus that restarts, a server that
     * is away) returns SOURCE_QUIET meanwhile and tries again with back-off. An error that is
     * returned ends the source. */
    enum akin_status (*next)(struct event_source *source, int timeout_ms, struct event *event,
                             enum source_state *state, struct akin_error *error);
    enum akin_status (*stored)(struct event_source *source, uint64_t ticket,
                               struct akin_error *error);
    void (*close)(struct event_source *source);
};

/* Opens what `settings` describe (akin/watch.h), to go on behind `cursor` ("" or NULL: from now, or
 * from the start of a file or a folder of journals). AKIN_ARGUMENT (a field, named),
 * AKIN_UNSUPPORTED (built without it), AKIN_NOT_FOUND, AKIN_IO. `note` hears in one line of what
 * does not end the source: a restart of the bus, a cursor that does not fit and what is done
 * instead. */
struct source_note {
    void *cookie;
    void (*tell)(void *cookie, const char *source, const char *line);
};

enum akin_status source_open(const struct akin_watch_source *settings, const char *cursor,
                             struct source_note note, struct event_source **source,
                             struct akin_error *error);
/* The name that such a source has, into name[SOURCE_NAME_BYTES_MAX + 1] (base/limits.h): cursors
 * are looked up by it before it is opened. AKIN_ARGUMENT as source_open. */
enum akin_status source_name(const struct akin_watch_source *settings, char *name,
                             struct akin_error *error);
void source_settings_default(enum akin_source_kind kind, struct akin_watch_source *settings);
void source_close(struct event_source **source);    /* NULL: nothing */
