/* Verdicts as JSON, for alarms and for the audit trail. */
#pragma once

#include "akin/watch.h"
#include "base/memory.h"

/* The members of an object, without its braces: seq, time, source, level, session, text, score,
 * probability. */
void verdict_json_event(struct bytes *out, const struct akin_event_verdict *verdict);
/* To follow them: template, parts and nearest. */
void verdict_json_explain(struct bytes *out, const struct akin_event_verdict *verdict);
/* session, events, score, probability; then parts. */
void verdict_json_session(struct bytes *out, const struct akin_session_verdict *verdict);
void verdict_json_session_explain(struct bytes *out, const struct akin_session_verdict *verdict);
/* `"name":` and a string, null where it is empty; `before` goes in front (",", or ""). */
void json_member_text(struct bytes *out, const char *before, const char *name, const char *text,
                      size_t bytes);
/* As akin_watch_event_part and akin_watch_session_part. */
const char *watch_event_part(size_t part);
const char *watch_session_part(size_t part);
