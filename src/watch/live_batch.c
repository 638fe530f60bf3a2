#include "watch/live_batch.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "watch/verdict_json.h"

/* Members of a verdict, in `members` of the batch: those that are always there, then the reasons.
 */
struct batch_verdict {
    size_t begin, plain_bytes, bytes;
    double probability;
};

struct batch_session {
    struct batch_verdict verdict;
    uint64_t hash;
    bool alert;
};

bool live_batch_init(struct live_batch *b)
{
    b->judged = memory_alloc(SCORER_BATCH_MAX, sizeof *b->judged);
    b->events = memory_alloc(SCORER_BATCH_MAX, sizeof *b->events);
    b->origins = memory_alloc(SCORER_BATCH_MAX, sizeof *b->origins);
    b->kept = memory_alloc(SCORER_BATCH_MAX, sizeof *b->kept);
    b->verdicts = memory_alloc(SCORER_BATCH_MAX, sizeof *b->verdicts);
    return b->judged && b->events && b->origins && b->kept && b->verdicts;
}

void live_batch_deinit(struct live_batch *b)
{
    memory_free(b->judged);
    memory_free(b->events);
    memory_free(b->origins);
    memory_free(b->kept);
    memory_free(b->verdicts);
    memory_free(b->sessions);
    bytes_deinit(&b->members);
    bytes_deinit(&b->json);
}

void live_batch_add(struct live_batch *b, struct arrival *event, const char *origin,
                    bool history)
{
    b->judged[b->count] = (struct judged){.event = &event->event, .history = history, .weight = 1};
    b->verdicts[b->count] = (struct batch_verdict){0};
    b->events[b->count] = event;
    b->origins[b->count++] = origin;
}

/* ---- verdicts ---------------------------------------------------------------------------- */

static bool take_event(void *cookie, const struct akin_event_verdict *v)
{
    struct live_batch *b = cookie;
    while (b->judged[b->told].event->text != v->text) /* history has no verdict */
        b->told++;
    struct batch_verdict *verdict = &b->verdicts[b->told++];
    verdict->probability = v->probability;
    if (!v->alert && !b->keeper->audit_folder)
        return true;
    verdict->begin = b->members.count;
    verdict_json_event(&b->members, v);
    verdict->plain_bytes = b->members.count - verdict->begin;
    if (v->alert)
        verdict_json_explain(&b->members, v);
    verdict->bytes = b->members.count - verdict->begin;
    return true;
}

static bool take_session(void *cookie, const struct akin_session_verdict *v)
{
    struct live_batch *b = cookie;
    if (!array_reserve((void **)&b->sessions, &b->session_capacity, b->session_count + 1,
                       sizeof *b->sessions)) {
        b->members.failed = true;
        return true;
    }
    struct batch_session *s = &b->sessions[b->session_count++];
    *s = (struct batch_session){ .alert = v->alert, .verdict.begin = b->members.count,
                                 .verdict.probability = v->probability };
    s->hash = hash_bytes("session", sizeof "session" - 1);
    verdict_json_session(&b->members, v);
    s->verdict.plain_bytes = b->members.count - s->verdict.begin;
    if (v->alert)
        verdict_json_session_explain(&b->members, v);
    s->verdict.bytes = b->members.count - s->verdict.begin;
    return true;
}

static enum akin_status take_kind(void *cookie, uint64_t kind, const char *text,
                                  const float *vector, size_t dimension, struct akin_error *error)
{
    struct live_batch *b = cookie;
    return b->keeper->store ? event_store_put_kind(b->keeper->store, kind, text, vector, dimension,
                                                   error)
                            : AKIN_OK;
}

enum akin_status live_batch_judge(struct live_batch *b, bool end, uint64_t session_idle,
                                  struct akin_watch_report *report, struct akin_error *error)
{
    const struct scorer_sink sink = {
        .verdicts = {.cookie = b, .event = take_event, .session = take_session},
        .cookie = b,
        .kind = take_kind};
    b->told = 0;
    if (end)
        TRY(scorer_end(b->scorer, &sink, report, error));
    else
        TRY(scorer_batch(b->scorer, b->judged, b->count, session_idle, &sink, report, error));
    return b->members.failed ? error_memory(error) : AKIN_OK;
}

/* ---- made durable ------------------------------------------------------------------------ */

static void fill_kept(struct live_batch *b)
{
    for (size_t i = 0; i < b->count; i++) {
        const struct arrival *q = b->events[i];
        const struct event *e = &q->event;
        const struct judged *j = &b->judged[i];
        const struct batch_verdict *v = &b->verdicts[i];
        b->kept[i] = (struct kept_event){
            .event = { .time_us = q->time_us, .origin = b->origins[i], .id = e->id,
                       .cursor = e->cursor, .text = e->text, .time = e->time, .source = e->source,
                       .level = e->level, .session = e->session, .text_bytes = e->text_bytes,
                       .session_bytes = e->session_bytes, .kind = j->kind,
                       .score = (float)(j->surprise / log(10)), .alert = j->alert },
            .members = b->members.data ? b->members.data + v->begin : "",
            .members_bytes = v->bytes, .history = !j->scored,
        };
    }
}

static enum akin_status keep_sessions(struct live_batch *b, struct akin_error *error)
{
    struct akin_audit_record *records = memory_alloc(b->session_count, sizeof *records);
    struct bytes *out = &b->json;
    enum akin_status status = AKIN_OK;
    bytes_clear(out);
    for (size_t i = 0; records && i < b->session_count; i++) {
        const struct batch_session *s = &b->sessions[i];
        size_t begin = out->count;
        bytes_printf(out, "{\"watch\":\"session\",\"alert\":%s,", s->alert ? "true" : "false");
        bytes_append(out, b->members.data + s->verdict.begin, s->verdict.bytes);
        bytes_append_text(out, "}");
        records[i] = (struct akin_audit_record){.bytes = out->count - begin};
    }
    if (!records || out->failed)
        status = error_memory(error);
    for (size_t i = 0, at = 0; status == AKIN_OK && i < b->session_count; at += records[i++].bytes)
        records[i].data = out->data + at;
    if (status == AKIN_OK)
        status = keeper_records(b->keeper, records, b->session_count, error);
    memory_free(records);
    return status;
}

enum akin_status live_batch_keep(struct live_batch *b, struct akin_error *error)
{
    fill_kept(b);
    TRY(keeper_keep(b->keeper, b->kept, b->count, error));
    for (size_t i = 0; b->keeper->store && i < b->count; i++)
        b->again += !b->kept[i].event.number;
    return b->session_count && b->keeper->audit_folder ? keep_sessions(b, error) : AKIN_OK;
}

/* ---- alarms ------------------------------------------------------------------------------ */

static bool raise(struct live_batch *b, const struct batch_verdict *v, struct alert *alert)
{
    struct bytes *out = &b->json;
    bytes_append(out, b->members.data + v->begin, b->explain ? v->bytes : v->plain_bytes);
    bytes_append_text(out, "}");
    if (out->failed)
        return true;        /* the verdict is stored; a later alarm finds memory again */
    alert->json = out->data;
    alert->json_bytes = out->count;
    return alerts_take(b->alerts, alert, clock_monotonic_ns());
}

static bool alarm_event(struct live_batch *b, size_t i)
{
    const struct stored_event *e = &b->kept[i].event;
    const struct batch_verdict *v = &b->verdicts[i];
    struct alert alert = { .kind = e->kind, .source = e->source };
    alert.severity = alert_severity_of(v->probability, event_severity(e->level));
    bytes_clear(&b->json);
    b->json.failed = false;
    bytes_append_text(&b->json, "{\"alert\":\"event\",\"id\":");
    if (e->number)
        bytes_printf(&b->json, "%" PRIu64, e->number);
    else
        bytes_append_text(&b->json, "null");
    json_member_text(&b->json, ",", "origin", e->origin, strlen(e->origin));
    bytes_printf(&b->json, ",\"severity\":\"%s\"%s,", alert_severity_name(alert.severity),
                 b->keeper->store && !e->number ? ",\"again\":true" : "");
    return raise(b, v, &alert);
}

static bool alarm_session(struct live_batch *b, const struct batch_session *s)
{
    struct alert alert = { .kind = s->hash, .source = "" };
    alert.severity = alert_severity_of(s->verdict.probability, 0);
    bytes_clear(&b->json);
    b->json.failed = false;
    bytes_printf(&b->json, "{\"alert\":\"session\",\"severity\":\"%s\",",
                 alert_severity_name(alert.severity));
    return raise(b, &s->verdict, &alert);
}

bool live_batch_alarm(struct live_batch *b)
{
    bool go_on = true;
    for (size_t i = 0; b->alerts && i < b->count; i++)
        if (b->judged[i].alert)
            go_on = alarm_event(b, i) && go_on;
    for (size_t i = 0; b->alerts && i < b->session_count; i++)
        if (b->sessions[i].alert)
            go_on = alarm_session(b, &b->sessions[i]) && go_on;
    b->count = b->session_count = 0;
    bytes_clear(&b->members);
    return go_on;
}
