#include "watch/verdict_json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/json.h"

const char *watch_event_part(size_t part)
{
    static const char *const names[] = {"rarity", "burst", "distance", "severity"};
    return part < AKIN_WATCH_EVENT_PARTS ? names[part] : "?";
}

const char *watch_session_part(size_t part)
{
    static const char *const names[] = {"counts", "order", "missing", "event"};
    return part < AKIN_WATCH_SESSION_PARTS ? names[part] : "?";
}

static void append_real(struct bytes *out, double value)
{
    if (isfinite(value))
        bytes_printf(out, "%.6g", value);
    else
        bytes_append_text(out, "null");
}

static void member_real(struct bytes *out, const char *name, double value)
{
    bytes_printf(out, ",\"%s\":", name);
    append_real(out, value);
}

void json_member_text(struct bytes *out, const char *before, const char *name, const char *text,
                      size_t bytes)
{
    bytes_printf(out, "%s\"%s\":", before, name);
    if (bytes)
        json_append_string(out, text, bytes);
    else
        bytes_append_text(out, "null");
}

static void append_parts(struct bytes *out, const double *parts, size_t count,
                         const char *(*name)(size_t))
{
    bytes_append_text(out, ",\"parts\":{");
    for (size_t i = 0; i < count; i++) {
        bytes_printf(out, "%s\"%s\":", i ? "," : "", name(i));
        append_real(out, parts[i]);
    }
    bytes_append_text(out, "}");
}

void verdict_json_event(struct bytes *out, const struct akin_event_verdict *v)
{
    bytes_printf(out, "\"seq\":%" PRIu64, v->seq);
    json_member_text(out, ",", "time", v->time, strlen(v->time));
    json_member_text(out, ",", "source", v->source, strlen(v->source));
    json_member_text(out, ",", "level", v->level, strlen(v->level));
    json_member_text(out, ",", "session", v->session, v->session_bytes);
    json_member_text(out, ",", "text", v->text, v->text_bytes);
    member_real(out, "score", v->score);
    member_real(out, "probability", v->probability);
}

void verdict_json_explain(struct bytes *out, const struct akin_event_verdict *v)
{
    json_member_text(out, ",", "template", v->kind, strlen(v->kind));
    append_parts(out, v->parts, AKIN_WATCH_EVENT_PARTS, watch_event_part);
    bytes_append_text(out, ",\"nearest\":[");
    for (size_t i = 0; i < v->nearest_count; i++) {
        json_member_text(out, i ? ",{" : "{", "template", v->nearest[i].kind,
                         strlen(v->nearest[i].kind));
        member_real(out, "distance", v->nearest[i].distance);
        member_real(out, "count", v->nearest[i].count);
        bytes_append_text(out, "}");
    }
    bytes_append_text(out, "]");
}

void verdict_json_session(struct bytes *out, const struct akin_session_verdict *v)
{
    json_member_text(out, "", "session", v->name, v->name_bytes);
    bytes_printf(out, ",\"events\":%zu", v->events);
    member_real(out, "score", v->score);
    member_real(out, "probability", v->probability);
}

void verdict_json_session_explain(struct bytes *out, const struct akin_session_verdict *v)
{
    append_parts(out, v->parts, AKIN_WATCH_SESSION_PARTS, watch_session_part);
}
