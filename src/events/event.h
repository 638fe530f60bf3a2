/* An event: a line of text with where and when it comes from. Read from a line of JSON or of plain
 * text, or filled by a source of its own kind; nothing else is decided here. */
#pragma once

#include "akin/watch.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/status.h"

/* Views that are valid until the next event_parse with the same object, or the next call of the
 * source that filled it. A field that an event lacks is empty, never NULL. */
struct event {
    uint64_t seq;           /* of the line; else the number of the line, from 0 */
    const char *text, *time, *source, *level, *session;
    size_t text_bytes, session_bytes;
    const char *id;         /* the same for the same event, however often it is delivered */
    const char *cursor;     /* where its source goes on behind it */
    json_t *root;           /* owns the views */
    struct bytes plain;
};

enum event_form { EVENT_JSONL, EVENT_PLAIN };

/* `where` is for errors ("events.jsonl:7"), `number` the seq where the line has none. `fields` (may
 * be NULL) names the fields of an object: its keys, or, where it has no such key, keys of objects
 * in objects with dots between; "" is no field. One without a name is looked for as
 *   text     text, message, MESSAGE, msg             level    level, severity, priority
 *   time     time, ts, timestamp, @timestamp         session  session
 *   source   source, src, logger, unit               id       none: nobody can guess what is unique
 * Text and source are strings; the others may be numbers. AKIN_FORMAT, AKIN_LIMIT: the line is no
 * event; the object is then empty and may be used again. Invalid UTF-8 is read as U+FFFD where a
 * line is plain text, and refused in JSON. NUL is a byte of text like any other, but not of an id.
 */
enum akin_status event_parse(struct event *event, enum event_form form, const char *line,
                             size_t bytes, const struct akin_event_fields *fields,
                             uint64_t number, const char *where, struct akin_error *error);
void event_clear(struct event *event);  /* before the object is dropped */

/* How bad a source says that an event is: 0 for information or less or what is not known, 1 for
 * warnings, 2 for errors, 3 for what ends something (critical, fatal, emergency). */
int event_severity(const char *level);
