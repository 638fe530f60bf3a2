#include "events/event.h"

#include <inttypes.h>
#include <stdio.h>
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

/* The value of `name`: a key, or keys of objects in objects with dots between. *owner and *key are
 * where it hangs; NULL: there is none. Recursion is as deep as the name has dots. */
static json_t *find(json_t *object, const char *name, json_t **owner, const char **key)
{
    json_t *found = json_object_get(object, name);
    *owner = object;
    *key = name;
    for (const char *dot = strchr(name, '.'); !found && dot; dot = strchr(dot + 1, '.')) {
        json_t *inner = json_object_getn(object, name, (size_t)(dot - name));
        if (json_is_object(inner))
            found = find(inner, dot + 1, owner, key);
    }
    return found;
}

enum { TEXTS_ONLY, NUMBERS_TOO };

/* A number gives way to its text in the object, which owns what views show. */
static const json_t *as_text(json_t *owner, const char *key, const json_t *value)
{
    char digits[64];
    if (json_is_integer(value))
        snprintf(digits, sizeof digits, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        snprintf(digits, sizeof digits, "%.6f", json_real_value(value));
    else
        return NULL;
    json_t *text = json_string(digits);
    return text && !json_object_set_new(owner, key, text) ? text : NULL;
}

/* The field that is named, or the first of the usual ones that the object has; else "". */
static const char *field_text(json_t *object, const char *named, const char *const *usual,
                              int numbers, size_t *bytes)
{
    const char *const only[] = {named, NULL};
    *bytes = 0;
    if (named && !*named)
        return "";
    for (const char *const *name = named ? only : usual; *name; name++) {
        json_t *owner;
        const char *key;
        const json_t *value = find(object, *name, &owner, &key);
        if (value && numbers == NUMBERS_TOO && !json_is_string(value))
            value = as_text(owner, key, value);
        if (json_is_string(value)) {
            *bytes = json_string_length(value);
            return json_string_value(value);
        }
    }
    return "";
}

static enum akin_status check_id(const struct event *event, size_t bytes, const char *where,
                                 struct akin_error *error)
{
    if (bytes > EVENT_ID_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "%s: the id has %zu bytes; at most %d are read", where,
                         bytes, EVENT_ID_BYTES_MAX);
    if (strlen(event->id) != bytes)
        return error_set(error, AKIN_FORMAT, "%s: the id holds a NUL", where);
    return AKIN_OK;
}

static enum akin_status read_json(struct event *event, const char *line, size_t bytes,
                                  const struct akin_event_fields *fields, const char *where,
                                  struct akin_error *error)
{
    static const char *const texts[] = {"text", "message", "MESSAGE", "msg", NULL};
    static const char *const times[] = {"time", "ts", "timestamp", "@timestamp", NULL};
    static const char *const sources[] = {"source", "src", "logger", "unit", NULL};
    static const char *const levels[] = {"level", "severity", "priority", NULL};
    static const char *const sessions[] = {"session", NULL}, *const ids[] = {NULL};
    size_t unused, id_bytes;
    int64_t seq = -1;
    TRY(json_parse(line, bytes, where, &event->root, error));
    json_t *root = event->root;
    if (!json_is_object(root))
        return error_set(error, AKIN_FORMAT, "%s: an event is a JSON object, found %s", where,
                         json_type_name(root));
    TRY(json_opt_integer(root, "seq", where, &seq, error));
    if (seq >= 0)
        event->seq = (uint64_t)seq;
    else if (json_object_get(root, "seq"))
        return error_set(error, AKIN_FORMAT, "%s: seq: %" PRId64 " is below 0", where, seq);
    event->text = field_text(root, fields->text, texts, TEXTS_ONLY, &event->text_bytes);
    event->source = field_text(root, fields->source, sources, TEXTS_ONLY, &unused);
    event->time = field_text(root, fields->time, times, NUMBERS_TOO, &unused);
    event->level = field_text(root, fields->level, levels, NUMBERS_TOO, &unused);
    event->session = field_text(root, fields->session, sessions, NUMBERS_TOO,
                                &event->session_bytes);
    event->id = field_text(root, fields->id, ids, NUMBERS_TOO, &id_bytes);
    if (!event->text_bytes && fields->text)
        return error_set(error, AKIN_FORMAT, "%s: %s: an event needs this field, a string that is "
                         "not empty", where, fields->text);
    if (!event->text_bytes)
        return error_set(error, AKIN_FORMAT, "%s: text: an event needs a field \"text\" or "
                         "\"message\" that is a string and not empty", where);
    return check_id(event, id_bytes, where, error);
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
                             size_t bytes, const struct akin_event_fields *fields,
                             uint64_t number, const char *where, struct akin_error *error)
{
    static const struct akin_event_fields usual;
    event_clear(event);
    *event = (struct event){.seq = number, .text = "", .time = "", .source = "", .level = "",
                            .session = "", .id = "", .cursor = ""};
    if (bytes > EVENT_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "%s: the event has %zu bytes; at most %zu are read",
                         where, bytes, EVENT_BYTES_MAX);
    enum akin_status status = form == EVENT_PLAIN
                                  ? read_plain(event, line, bytes, error)
                                  : read_json(event, line, bytes, fields ? fields : &usual, where,
                                              error);
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
