#include "watch/watch.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "watch/scorer.h"
#include "watch/live.h"
#include "watch/verdict_json.h"

struct watch {
    struct scorer_tools tools;      /* as they were at first */
    struct akin_watch_settings settings;
    struct scorer *scorer;
    struct event *events;           /* [SCORER_BATCH_MAX] */
    struct judged *batch;           /* [SCORER_BATCH_MAX] */
    size_t waiting;
};

void watch_close(struct watch **watch)
{
    struct watch *w = *watch;
    if (!w)
        return;
    for (size_t i = 0; w->events && i < SCORER_BATCH_MAX; i++)
        event_clear(&w->events[i]);
    scorer_close(&w->scorer);
    memory_free(w->events);
    memory_free(w->batch);
    memory_free(w);
    *watch = NULL;
}

enum akin_status watch_open(const struct scorer_tools *tools,
                            const struct akin_watch_settings *settings, struct watch **watch,
                            struct akin_error *error)
{
    struct watch *w = memory_alloc(1, sizeof *w);
    if (!w)
        return error_memory(error);
    w->tools = *tools;
    w->settings = *settings;
    w->events = memory_alloc(SCORER_BATCH_MAX, sizeof *w->events);
    w->batch = memory_alloc(SCORER_BATCH_MAX, sizeof *w->batch);
    enum akin_status status = w->events && w->batch
                                  ? scorer_open(tools, settings, &w->scorer, error)
                                  : error_memory(error);
    if (status != AKIN_OK)
        watch_close(&w);
    else
        *watch = w;
    return status;
}

enum akin_status watch_live(struct watch *w, const struct akin_watch_live *live,
                            struct akin_watch_live_report *report, struct akin_error *error)
{
    return live_watch_run(w->scorer, &w->tools, &w->settings, live, report, error);
}

/* ---- verdicts, and alarms as text ---------------------------------------------------------- */

struct telling {
    const struct akin_watch_sink *sink;
    bool explain;
    struct bytes json;
};

static bool tell_alarm(struct telling *t)
{
    bytes_append_text(&t->json, "}");
    return t->json.failed || t->sink->alarm(t->sink->cookie, t->json.data, t->json.count);
}

static bool tell_event(void *cookie, const struct akin_event_verdict *v)
{
    struct telling *t = cookie;
    if (t->sink->event && !t->sink->event(t->sink->cookie, v))
        return false;
    if (!v->alert || !t->sink->alarm)
        return true;
    bytes_clear(&t->json);
    bytes_append_text(&t->json, "{\"alert\":\"event\",");
    verdict_json_event(&t->json, v);
    if (t->explain)
        verdict_json_explain(&t->json, v);
    return tell_alarm(t);
}

static bool tell_session(void *cookie, const struct akin_session_verdict *v)
{
    struct telling *t = cookie;
    if (t->sink->session && !t->sink->session(t->sink->cookie, v))
        return false;
    if (!v->alert || !t->sink->alarm)
        return true;
    bytes_clear(&t->json);
    bytes_append_text(&t->json, "{\"alert\":\"session\",");
    verdict_json_session(&t->json, v);
    if (t->explain)
        verdict_json_session_explain(&t->json, v);
    return tell_alarm(t);
}

static enum akin_status flush(struct watch *w, const struct akin_watch_input *input,
                              const struct scorer_sink *sink, struct akin_watch_report *report,
                              struct akin_error *error)
{
    size_t count = w->waiting;
    w->waiting = 0;
    return scorer_batch(w->scorer, w->batch, count, input->session_idle, sink, report, error);
}

/* ---- a file or standard input ------------------------------------------------------------ */

static enum akin_status take_line(struct watch *w, const struct akin_watch_input *input,
                                  struct line_reader *reader, const char *line, size_t bytes,
                                  struct akin_watch_report *report, struct akin_error *error)
{
    struct event *event = &w->events[w->waiting];
    const struct akin_event_fields fields = {.session = input->session_field};
    char where[PATH_BYTES_MAX];
    uint64_t number = line_reader_number(reader);
    snprintf(where, sizeof where, "%.512s:%llu", strcmp(input->path, "-") ? input->path : "stdin",
             (unsigned long long)number);
    enum akin_status status = event_parse(event, input->plain ? EVENT_PLAIN : EVENT_JSONL, line,
                                          bytes, &fields, number - 1, where, error);
    if (status != AKIN_OK && status != AKIN_MEMORY && input->skip_bad) {
        report->bad_lines++;
        return AKIN_OK;
    }
    TRY(status);
    w->batch[w->waiting++] = (struct judged){ .event = event, .weight = 1,
                                              .history = event->seq < input->train_until };
    return AKIN_OK;
}

static enum akin_status read_lines(struct watch *w, const struct akin_watch_input *input,
                                   struct line_reader *reader, const struct scorer_sink *sink,
                                   struct akin_watch_report *report, struct akin_error *error)
{
    size_t batch = input->batch < 1                 ? 1
                   : input->batch < SCORER_BATCH_MAX ? input->batch : SCORER_BATCH_MAX;
    const char *line;
    size_t bytes;
    for (;;) {
        TRY(line_reader_next(reader, &line, &bytes, error));
        if (line && bytes)
            TRY(take_line(w, input, reader, line, bytes, report, error));
        if (w->waiting == batch || !line) {
            TRY(flush(w, input, sink, report, error));
            const struct akin_progress *p = &input->progress;
            if (p->update && !p->update(p->cookie, "events", line_reader_consumed(reader),
                                        line_reader_size(reader)))
                return error_set(error, AKIN_CANCELLED, "watching was stopped");
        }
        if (!line)
            return AKIN_OK;
    }
}

enum akin_status watch_run(struct watch *w, const struct akin_watch_input *input,
                           const struct akin_watch_sink *sink, struct akin_watch_report *report,
                           struct akin_error *error)
{
    struct line_reader *reader = NULL;
    struct telling telling = {.sink = sink, .explain = input->explain};
    const struct scorer_sink to = { .verdicts = { .cookie = &telling, .event = tell_event,
                                                 .session = tell_session } };
    uint64_t began = clock_monotonic_ns();
    *report = (struct akin_watch_report){0};
    TRY(line_reader_open(input->path, &reader, error));
    enum akin_status status = read_lines(w, input, reader, &to, report, error);
    line_reader_close(&reader);
    w->waiting = 0;
    if (status == AKIN_OK)
        status = scorer_end(w->scorer, &to, report, error);
    bytes_deinit(&telling.json);
    report->kinds = scorer_kinds(w->scorer);
    report->seconds = (double)(clock_monotonic_ns() - began) * 1e-9;
    return status;
}
