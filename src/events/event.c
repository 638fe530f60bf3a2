#include "events/event.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/limits.h"
#include "base/utf8.h"

void event_clear(struct event *event)
{
    if (event->root)
        json_decref(event->root);
    bytes_deinit(&event->plain);
    *event = (struct event){0};
}

/* The first of the names that the object has as a text; numbers and others are left out. */
static const char *first_text(const json_t *object, const char *const *names, size_t *bytes)
{
    for (; *names; names++) {
        const json_t *value = json_object_get(object, *names);
        if (json_is_string(value)) {
            *bytes = json_string_length(value);
            return json_string_value(value);
        }
    }
    *bytes = 0;
    return "";
}

static enum akin_status read_json(struct event *event, const char *line, size_t bytes,
                                  const char *session_field, const char *where,
                                  struct akin_error *error)
{
    static const char *const texts[] = {"text", "message", "MESSAGE", "msg", NULL};
    static const char *const times[] = {"time", "ts", "timestamp", "@timestamp", NULL};
    static const char *const sources[] = {"source", "src", "logger", "unit", NULL};
    static const char *const levels[] = {"level", "severity", "priority", NULL};
    const char *const sessions[] = {session_field, NULL};
    size_t unused;
    int64_t seq = -1;
    TRY(json_parse(line, bytes, where, &event->root, error));
    if (!json_is_object(event->root))
        return error_set(error, AKIN_FORMAT, "%s: an event is a JSON object, found %s", where,
                         json_type_name(event->root));
    event->text = first_text(event->root, texts, &event->text_bytes);
    event->time = first_text(event->root, times, &unused);
    event->source = first_text(event->root, sources, &unused);
    event->level = first_text(event->root, levels, &unused);
    event->session = first_text(event->root, sessions, &event->session_bytes);
    if (!*event->text)
        return error_set(error, AKIN_FORMAT, "%s: text: an event needs a field \"text\" or "
                         "\"message\" that is a string and not empty", where);
    TRY(json_opt_integer(event->root, "seq", where, &seq, error));
    if (seq >= 0)
        event->seq = (uint64_t)seq;
    else if (json_object_get(event->root, "seq"))
        return error_set(error, AKIN_FORMAT, "%s: seq: %" PRId64 " is below 0", where, seq);
    return AKIN_OK;
}

/* Invalid bytes become U+FFFD, so that whatever reads the text later need not ask again. */
static enum akin_status read_plain(struct event *event, const char *line, size_t bytes,
                                   struct akin_error *error)
{
    if (utf8_valid(line, bytes)) {
        bytes_append(&event->plain, line, bytes);
    } else {
        for (size_t at = 0; at < bytes;) {
            char encoded[4];
            uint32_t code;
            at += utf8_decode(line + at, bytes - at, &code);
            bytes_append(&event->plain, encoded, utf8_encode(code, encoded));
        }
    }
    bytes_append(&event->plain, "", 0);
    if (event->plain.failed)
        return error_memory(error);
    event->text = event->plain.data ? event->plain.data : "";
    event->text_bytes = event->plain.count;
    return AKIN_OK;
}

enum akin_status event_parse(struct event *event, enum event_form form, const char *line,
                             size_t bytes, const char *session_field, uint64_t number,
                             const char *where, struct akin_error *error)
{
    event_clear(event);
    *event = (struct event){.seq = number, .text = "", .time = "", .source = "", .level = "",
                            .session = ""};
    if (bytes > EVENT_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "%s: the event has %zu bytes; at most %zu are read",
                         where, bytes, EVENT_BYTES_MAX);
    enum akin_status status = form == EVENT_PLAIN
                                  ? read_plain(event, line, bytes, error)
                                  : read_json(event, line, bytes, session_field, where, error);
    if (status != AKIN_OK)
        event_clear(event);
    return status;
}

int event_severity(const char *level)
{
    static const struct {
        const char *name;
        int severity;
    } names[] = {
        {"warn", 1}, {"warning", 1}, {"err", 2}, {"error", 2}, {"severe", 2}, {"crit", 3},
        {"critical", 3}, {"alert", 3}, {"emerg", 3}, {"emergency", 3}, {"fatal", 3},
        {"failure", 3}, {"panic", 3},
        {"4", 1}, {"3", 2}, {"2", 3}, {"1", 3}, {"0", 3}, /* syslog */
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!strcasecmp(level, names[i].name))
            return names[i].severity;
    return 0;
}
