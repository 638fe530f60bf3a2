#include "watch/live.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/system.h"
#include "model/model.h"
#include "watch/labels.h"
#include "watch/pace.h"
#include "watch/pipeline.h"
#include "watch/verdict_json.h"
#include "watch/warm.h"

enum { CLOSE_MS = 1000 };       /* for alarms that are on their way still */

struct live {
    const struct akin_watch_live *s;
    struct scorer *scorer;
    struct keeper keeper;
    struct labels labels;
    struct alerts *alerts;
    struct pipeline_source sources[AKIN_WATCH_SOURCES_MAX];
    size_t source_count;
    atomic_bool stopping;
    struct warm warm;
};

void live_watch_default(struct akin_watch_live *live)
{
    *live = (struct akin_watch_live){ .deadline_ms = 5, .queue_events = 8192,
                                      .learn_events = 1000, .relearn_events = 100000,
                                      .session_idle = 10000 };
    live->alerts.repeat_seconds = 60;
}

static enum akin_status check(const struct akin_watch_live *s, struct akin_error *error)
{
    if (!s->source_count || s->source_count > AKIN_WATCH_SOURCES_MAX)
        return error_set(error, AKIN_ARGUMENT, "%zu sources; there may be 1 to %d",
                         s->source_count, AKIN_WATCH_SOURCES_MAX);
    if (!(s->deadline_ms >= 0 && s->deadline_ms <= 10000))
        return error_set(error, AKIN_ARGUMENT, "deadline_ms is %g; it is 0 to 10000",
                         s->deadline_ms);
    if (s->queue_events < 16 || s->queue_events > EVENT_QUEUE_MAX)
        return error_set(error, AKIN_ARGUMENT, "queue_events is %zu; it is 16 to %zu",
                         s->queue_events, EVENT_QUEUE_MAX);
    if (!(s->learn_seconds >= 0 && s->learn_seconds <= 1e9))
        return error_set(error, AKIN_ARGUMENT, "learn_seconds is %g; it is 0 to 1e9",
                         s->learn_seconds);
    if (!(s->speed >= 0 && s->speed <= 1e9))
        return error_set(error, AKIN_ARGUMENT, "speed is %g; it is 0 to 1e9", s->speed);
    return AKIN_OK;
}

/* ---- notes ------------------------------------------------------------------------------- */

static void note_line(void *cookie, const char *line)
{
    const struct akin_watch_live *s = cookie;
    if (s->note)
        s->note(s->cookie, line);
}

static void note_source(void *cookie, const char *source, const char *line)
{
    char text[1400];
    snprintf(text, sizeof text, "%s: %s", source, line);
    note_line(cookie, text);
}

/* ---- opening ----------------------------------------------------------------------------- */

static enum akin_status open_store(struct live *live, const struct kernels *kernels,
                                   const struct model *model, struct akin_error *error)
{
    char name[MODEL_IDENTITY_BYTES];
    struct event_store_settings settings = {
        .folder = live->s->store, .keep_seconds = live->s->keep_seconds,
        .keep_bytes = live->s->keep_bytes, .durable = true, .kernels = kernels,
    };
    if (!live->s->store)
        return AKIN_OK;
    if (model) {
        model_identity(model, name);
        settings.model = name;
    }
    return event_store_open(&settings, (struct event_store_note){(void *)live->s, note_line},
                            &live->keeper.store, error);
}

static enum akin_status open_alerts(struct live *live, struct akin_error *error)
{
    const struct akin_watch_alerts *a = &live->s->alerts;
    struct alerts_settings settings;
    alerts_settings_default(&settings);
    settings.file = a->file;
    settings.socket = a->socket;
    settings.webhook = a->webhook;
    settings.bus = a->bus;
    settings.severity_min = (enum alert_severity)a->severity_min;
    settings.repeat_seconds = a->repeat_seconds;
    settings.print = a->print;
    settings.cookie = a->cookie;
    settings.note = note_line;
    settings.note_cookie = (void *)live->s;
    return alerts_open(&settings, &live->alerts, error);
}

/* Where a source goes on: the store knows, and without one the trail. */
static enum akin_status find_cursor(struct live *live, const char *name, char *cursor,
                                    size_t bytes, struct akin_error *error)
{
    uint64_t added;
    cursor[0] = '\0';
    if (live->keeper.store) {
        TRY(event_store_cursor(live->keeper.store, name, cursor, bytes, error));
    } else if (live->keeper.audit && strlen(name) <= AKIN_AUDIT_SOURCE_BYTES_MAX) {
        TRY(akin_audit_cursor(live->keeper.audit, name, cursor, bytes, error));
        if (keeper_is_no_cursor(cursor))
            cursor[0] = '\0';
    }
    TRY(keeper_catch_up(&live->keeper, name, &added, error));
    if (added) {
        char text[400];
        snprintf(text, sizeof text, "%" PRIu64 " events were in the store and not in the audit "
                 "trail, and are now: the last run was cut off", added);
        note_source((void *)live->s, name, text);
    }
    return AKIN_OK;
}

static enum akin_status open_sources(struct live *live, struct akin_error *error)
{
    char name[SOURCE_NAME_BYTES_MAX + 1], cursor[AKIN_AUDIT_CURSOR_BYTES_MAX + 1];
    for (size_t i = 0; i < live->s->source_count; i++) {
        const struct akin_watch_source *s = &live->s->sources[i];
        struct pipeline_source *to = &live->sources[i];
        TRY(source_name(s, name, error));
        for (size_t k = 0; k < i; k++)
            if (!strcmp(live->sources[k].source->name, name))
                return error_set(error, AKIN_ARGUMENT, "there are two sources with the name %s: "
                                 "give one of them a name of its own", name);
        TRY(find_cursor(live, name, cursor, sizeof cursor, error));
        TRY(source_open(s, cursor, (struct source_note){(void *)live->s, note_source},
                        &to->source, error));
        live->source_count++;
        if (live->s->speed > 0)
            TRY(pace_source(&to->source, live->s->speed, error));
        to->drain = !to->source->waits
                    || (s->kind == AKIN_SOURCE_LINES && !strcmp(s->address, "-"));
    }
    return AKIN_OK;
}

/* ---- what the trail says of the watch itself --------------------------------------------- */

static const char own_source[] = "akin.watch";

static enum akin_status record(struct live *live, struct bytes *json, struct akin_error *error)
{
    const struct akin_audit_record one = { .data = json->data, .bytes = json->count,
                                           .source = own_source };
    enum akin_status status = json->failed ? error_memory(error)
                                           : keeper_records(&live->keeper, &one, 1, error);
    bytes_deinit(json);
    return status;
}

static enum akin_status record_start(struct live *live, const struct model *model,
                                     const struct akin_watch_settings *settings,
                                     struct akin_error *error)
{
    struct bytes json = {0};
    char name[MODEL_IDENTITY_BYTES] = "";
    const struct akin_watch_live *s = live->s;
    if (model)
        model_identity(model, name);
    bytes_append_text(&json, "{\"watch\":\"start\"");
    json_member_text(&json, ",", "model", name, strlen(name));
    bytes_printf(&json, ",\"alarm\":%g,\"session_alarm\":%g,\"alarmed_weight\":%g,"
                 "\"half_life_events\":%g,\"templates_max\":%zu", settings->event_alarm,
                 settings->session_alarm, settings->alarmed_weight, settings->half_life_events,
                 settings->templates_max);
    bytes_printf(&json, ",\"deadline_ms\":%g,\"learn_events\":%" PRIu64 ",\"learn_seconds\":%g,"
                 "\"session_idle\":%" PRIu64 ",\"keep_seconds\":%" PRIu64 ",\"keep_bytes\":%"
                 PRIu64 ",\"relearned\":%" PRIu64 ",\"sources\":[", s->deadline_ms,
                 s->learn_events, s->learn_seconds, s->session_idle, s->keep_seconds,
                 s->keep_bytes, live->warm.learned);
    for (size_t i = 0; i < live->source_count; i++) {
        const char *source = live->sources[i].source->name;
        json_member_text(&json, i ? ",{" : "{", "name", source, strlen(source));
        bytes_append_text(&json, "}");
    }
    bytes_append_text(&json, "]}");
    return record(live, &json, error);
}

static enum akin_status record_stop(struct live *live, const struct akin_watch_live_report *r,
                                    struct akin_error *error)
{
    struct bytes json = {0};
    bytes_printf(&json, "{\"watch\":\"stop\",\"received\":%" PRIu64 ",\"stored\":%" PRIu64
                 ",\"again\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"bad\":%"
                 PRIu64 ",\"alerts\":%" PRIu64 ",\"seconds\":%.3f}", r->received, r->stored,
                 r->again, r->dropped, r->lost, r->bad, r->counts.alerts, r->seconds);
    return record(live, &json, error);
}

/* ---- all of it --------------------------------------------------------------------------- */

/* What the store holds counts as history, so that a restart goes on where the last run was. */
static enum akin_status warm_up(struct live *live, const struct akin_watch_settings *settings,
                                struct akin_error *error)
{
    if (!live->keeper.store)
        return AKIN_OK;
    TRY(warm_start(live->scorer, live->keeper.store, live->s->relearn_events,
                   settings->alarmed_weight, &live->warm, error));
    bool enough = live->s->learn_seconds > 0
                      ? live->warm.first_us
                            && (double)(clock_unix_us() - live->warm.first_us) * 1e-6
                                   >= live->s->learn_seconds
                      : live->warm.learned >= live->s->learn_events;
    if (enough && live->warm.learned)
        TRY(scorer_end_history(live->scorer, error));
    return labels_look(&live->labels, true, error);
}

static uint64_t history_end(const struct live *live)
{
    if (!(live->s->learn_seconds > 0))
        return 0;
    double passed = live->warm.first_us ? (double)(clock_unix_us() - live->warm.first_us) * 1e-6
                                        : 0;
    double left = live->s->learn_seconds - (passed > 0 ? passed : 0);
    return clock_monotonic_ns() + (left > 0 ? (uint64_t)(left * 1e9) : 0);
}

static enum akin_status open_all(struct live *live, const struct kernels *kernels,
                                 const struct model *model,
                                 const struct akin_watch_settings *settings,
                                 struct akin_error *error)
{
    TRY(open_store(live, kernels, model, error));
    TRY(keeper_open(&live->keeper, error));
    TRY(warm_up(live, settings, error));
    TRY(open_sources(live, error));
    TRY(open_alerts(live, error));
    return record_start(live, model, settings, error);
}

enum akin_status live_watch_run(struct scorer *scorer, const struct scorer_tools *tools,
                          const struct akin_watch_settings *settings,
                          const struct akin_watch_live *s, struct akin_watch_live_report *report,
                          struct akin_error *error)
{
    struct live *live = memory_alloc(1, sizeof *live);
    *report = (struct akin_watch_live_report){0};
    if (!live)
        return error_memory(error);
    live->s = s;
    live->scorer = scorer;
    live->keeper.audit_folder = s->audit;
    live->keeper.note = (struct keeper_note){(void *)s, note_line};
    live->keeper.stopping = &live->stopping;
    live->labels.scorer = scorer;
    live->labels.keeper = &live->keeper;
    enum akin_status status = check(s, error);
    if (status == AKIN_OK)
        status = open_all(live, tools->kernels, tools->model, settings, error);
    if (status == AKIN_OK) {
        const struct pipeline_settings pipeline = {
            .scorer = scorer, .keeper = &live->keeper, .labels = &live->labels,
            .alerts = live->alerts, .sources = live->sources,
            .source_count = live->source_count, .live = s, .learned = live->warm.learned,
            .history_ns = history_end(live), .stopping = &live->stopping,
        };
        status = pipeline_run(&pipeline, report, error);
        report->relearned = live->warm.learned;
        enum akin_status stopped = record_stop(live, report, status == AKIN_OK ? error : NULL);
        status = status == AKIN_OK ? stopped : status;
    }
    for (size_t i = 0; i < live->source_count; i++)
        source_close(&live->sources[i].source);
    alerts_close(&live->alerts, CLOSE_MS);
    labels_deinit(&live->labels);
    keeper_close(&live->keeper);
    event_store_close(&live->keeper.store);
    memory_free(live);
    return status;
}
