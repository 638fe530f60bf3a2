#include "watch/watch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/status.h"
#include "model/model.h"
#include "events/event.h"
#include "watch/mask.h"
#include "watch/score.h"
#include "watch/sessions.h"
#include "watch/vectors.h"

enum {
    BATCH_MAX = 4096,
    HISTORY_SCORES = 1 << 20,   /* the last ones; the earlier half is left out */
    CLOSE_EVERY = 1024,         /* events between looks for sessions that ended */
};

static const double event_scale_min = 0.5;  /* nats */

static_assert((int)AKIN_WATCH_EVENT_PARTS == (int)EVENT_PARTS, "the public parts are these");
static_assert((int)AKIN_WATCH_SESSION_PARTS == (int)SESSION_PARTS, "the public parts are these");
static_assert((int)AKIN_WATCH_NEAREST == (int)TEMPLATE_NEAREST, "the public neighbours are these");

/* An event on its way through a batch. */
struct waiting {
    struct event event;
    uint32_t slot;
};

struct watch {
    struct akin_watch_settings settings;
    struct model *model;
    struct event_model events;
    struct vector_cache *cache;
    struct sessions *sessions;
    struct waiting *batch;          /* [BATCH_MAX] */
    size_t waiting;
    uint64_t joins;                 /* of kinds, when the batch began */
    uint32_t *fresh;                /* [BATCH_MAX] slots that need a vector */
    struct akin_text *texts;        /* [BATCH_MAX] of those to embed */
    float *vectors;                 /* [BATCH_MAX][dimension] */
    size_t fresh_count;
    struct bytes line, masked;
    double *history;                /* [HISTORY_SCORES] of events, a ring */
    size_t history_count;
    bool trained;
};

void watch_settings_default(struct akin_watch_settings *settings)
{
    *settings = (struct akin_watch_settings){ .templates_max = 8192, .half_life_events = 1e6,
                                              .event_alarm = 1e-4, .session_alarm = 1e-3,
                                              .alarmed_weight = 0.25 };
}

static enum akin_status check(const struct akin_watch_settings *s, struct akin_error *error)
{
    if (s->templates_max < 2 * BATCH_MAX || s->templates_max > TEMPLATES_MAX)
        return error_set(error, AKIN_ARGUMENT, "templates_max is %zu; it is %d to %zu",
                         s->templates_max, 2 * BATCH_MAX, TEMPLATES_MAX);
    if (!(s->half_life_events >= 1 && s->half_life_events <= 1e15))
        return error_set(error, AKIN_ARGUMENT, "half_life_events is %g; it is 1 to 1e15",
                         s->half_life_events);
    if (!(s->event_alarm >= 0 && s->event_alarm < 0.5) || !(s->session_alarm >= 0
                                                           && s->session_alarm < 0.5))
        return error_set(error, AKIN_ARGUMENT, "an alarm is a probability from 0 to below 0.5");
    if (!(s->alarmed_weight >= 0 && s->alarmed_weight <= 1))
        return error_set(error, AKIN_ARGUMENT, "alarmed_weight is %g; it is 0 to 1",
                         s->alarmed_weight);
    return AKIN_OK;
}

void watch_close(struct watch **watch)
{
    struct watch *w = *watch;
    if (!w)
        return;
    for (size_t i = 0; w->batch && i < BATCH_MAX; i++)
        event_clear(&w->batch[i].event);
    templates_destroy(&w->events.templates);
    vector_cache_destroy(&w->cache);
    sessions_destroy(&w->sessions);
    memory_free(w->batch);
    memory_free(w->fresh);
    memory_free(w->texts);
    memory_free(w->vectors);
    memory_free(w->history);
    bytes_deinit(&w->line);
    bytes_deinit(&w->masked);
    memory_free(w);
    *watch = NULL;
}

enum akin_status watch_open(const struct kernels *kernels, struct model *model,
                            const struct akin_watch_settings *settings, struct watch **watch,
                            struct akin_error *error)
{
    struct akin_model_info info = {0};
    TRY(check(settings, error));
    struct watch *w = memory_alloc(1, sizeof *w);
    if (!w)
        return error_memory(error);
    if (model)
        model_info(model, &info);
    w->settings = *settings;
    w->model = model;
    w->events = (struct event_model){ .kernels = kernels, .dimension = info.dimension,
                                      .half_life = settings->half_life_events,
                                      .templates = templates_create(settings->templates_max) };
    w->cache = vector_cache_create(2 * settings->templates_max, info.dimension);
    w->sessions = sessions_create(settings->session_alarm);
    w->batch = memory_alloc(BATCH_MAX, sizeof *w->batch);
    w->fresh = memory_alloc(BATCH_MAX, sizeof *w->fresh);
    w->texts = memory_alloc(BATCH_MAX, sizeof *w->texts);
    w->vectors = memory_alloc_aligned((size_t)BATCH_MAX * info.dimension, sizeof *w->vectors);
    w->history = memory_alloc(HISTORY_SCORES, sizeof *w->history);
    if (!w->events.templates || !w->cache || !w->sessions || !w->batch || !w->fresh || !w->texts
        || !w->vectors || !w->history) {
        watch_close(&w);
        return error_memory(error);
    }
    *watch = w;
    return AKIN_OK;
}

/* ---- from a line to its kind ------------------------------------------------------------- */

/* What the kind of an event is told by: level, source and text, masked. */
static enum akin_status find_kind(struct watch *w, struct waiting *waiting,
                                  struct akin_error *error)
{
    const struct event *e = &waiting->event;
    const char *const before[] = {e->level, e->source};
    bool added;
    bytes_clear(&w->line);
    for (int i = 0; i < 2; i++)
        if (*before[i]) {
            bytes_append(&w->line, before[i], strnlen(before[i], EVENT_MASKED_BYTES / 4));
            bytes_append(&w->line, " ", 1);
        }
    bytes_append(&w->line, e->text,
                 e->text_bytes < EVENT_MASKED_BYTES ? e->text_bytes : EVENT_MASKED_BYTES);
    mask_text(w->line.data, w->line.count, &w->masked);
    if (w->line.failed || w->masked.failed)
        return error_memory(error);
    waiting->slot = templates_find(w->events.templates, w->masked.data, w->masked.count, &added);
    if (waiting->slot == UINT32_MAX)
        return error_memory(error);
    if (added)
        w->fresh[w->fresh_count++] = waiting->slot;
    return AKIN_OK;
}

static bool give_vector(struct watch *w, uint32_t slot, const float *vector)
{
    struct template *t = templates_at(w->events.templates, slot);
    if (!t->vector)
        t->vector = memory_alloc_aligned(w->events.dimension, sizeof *t->vector);
    if (!t->vector)
        return false;
    memcpy(t->vector, vector, w->events.dimension * sizeof *vector);
    event_model_place(&w->events, slot);
    return true;
}

/* Vectors for the kinds that are new in this batch; a kind may have been joined with others since
 * it was found, and then another one holds its slot, or none. */
static enum akin_status embed_fresh(struct watch *w, struct akin_watch_report *report,
                                    struct akin_error *error)
{
    struct akin_embed_settings settings;
    size_t missing = 0, dimension = w->events.dimension;
    for (size_t i = 0; i < w->fresh_count; i++) {
        struct template *t = templates_at(w->events.templates, w->fresh[i]);
        const float *known = t->id && !t->vector ? vector_cache_get(w->cache, t->id) : NULL;
        if (known && !give_vector(w, w->fresh[i], known))
            return error_memory(error);
        if (!t->id || t->vector)
            continue;
        w->texts[missing] = (struct akin_text){t->text, strlen(t->text)};
        w->fresh[missing++] = w->fresh[i];
    }
    w->fresh_count = 0;
    if (!missing)
        return AKIN_OK;
    model_embed_settings_default(&settings);
    TRY(model_embed(w->model, w->texts, missing, &settings, w->vectors, NULL, error));
    report->embedded += missing;
    for (size_t i = 0; i < missing; i++) {
        uint64_t id = templates_at(w->events.templates, w->fresh[i])->id;
        if (!give_vector(w, w->fresh[i], w->vectors + i * dimension)
            || !vector_cache_put(w->cache, id, w->vectors + i * dimension))
            return error_memory(error);
    }
    return AKIN_OK;
}

/* ---- from a kind to a verdict ------------------------------------------------------------ */

static double step_strangeness(void *cookie, struct session_step step)
{
    struct watch *w = cookie;
    const struct template *t = templates_at(w->events.templates, step.slot);
    return t->id == step.kind ? event_model_rarity(&w->events, step.slot) : 0;
}

static enum akin_status finish_history(struct watch *w, struct akin_error *error)
{
    size_t kept = w->history_count < HISTORY_SCORES ? w->history_count : HISTORY_SCORES;
    /* The first events of all are strange whatever they are. */
    size_t skip = w->history_count <= HISTORY_SCORES ? kept / 2 : 0;
    w->trained = true;
    w->events.tail = tail_fit(w->history + skip, kept - skip, event_scale_min);
    /* Rarity ends where a kind was never seen, however far the tail is laid. So the tail is cut to
     * where an error of a new kind raises an alarm, in a history with many errors too. */
    double reach = event_model_new_error(&w->events) - w->events.tail.median;
    double wanted = -log(w->settings.event_alarm > 1e-300 ? w->settings.event_alarm : 1e-300)
                    - log(2);
    if (reach > 0 && w->events.tail.scale > reach / wanted)
        w->events.tail.scale = fmax(reach / wanted, event_scale_min);
    return sessions_train(w->sessions, (struct step_judge){w, step_strangeness}, error);
}

static void explain(struct watch *w, uint32_t slot, struct akin_event_verdict *v)
{
    const struct template *t = templates_at(w->events.templates, slot);
    for (size_t i = 0; i < TEMPLATE_NEAREST && t->nearest_id[i]; i++) {
        const struct template *other = templates_at(w->events.templates, t->nearest[i]);
        if (other->id != t->nearest_id[i])
            continue;
        v->nearest[v->nearest_count].kind = other->text;
        v->nearest[v->nearest_count].distance = (double)t->distance[i];
        v->nearest[v->nearest_count++].count = event_model_count(&w->events, t->nearest[i]);
    }
}

static enum akin_status tell(struct watch *w, const struct waiting *waiting, double surprise,
                             const double parts[EVENT_PARTS], const struct akin_watch_sink *sink,
                             struct akin_watch_report *report, struct akin_error *error)
{
    const struct event *e = &waiting->event;
    const struct template *t = templates_at(w->events.templates, waiting->slot);
    struct akin_event_verdict v = {
        .seq = e->seq, .score = surprise / log(10), .probability = exp(-surprise),
        .text = e->text, .text_bytes = e->text_bytes, .time = e->time, .source = e->source,
        .level = e->level, .session = e->session, .session_bytes = e->session_bytes,
        .kind = t->text, .kind_id = t->id
    };
    v.alert = v.probability < w->settings.event_alarm && w->history_count > 0;
    memcpy(v.parts, parts, sizeof v.parts);
    explain(w, waiting->slot, &v);
    report->scored++;
    report->alerts += v.alert;
    event_model_learn(&w->events, waiting->slot, v.alert ? w->settings.alarmed_weight : 1, false);
    if (sink->event && !sink->event(sink->cookie, &v))
        return error_set(error, AKIN_CANCELLED, "watching was stopped");
    return AKIN_OK;
}

static enum akin_status judge(struct watch *w, const struct waiting *waiting,
                              const struct akin_watch_input *input,
                              const struct akin_watch_sink *sink, struct akin_watch_report *report,
                              struct akin_error *error)
{
    const struct event *e = &waiting->event;
    double parts[EVENT_PARTS];
    bool refused = false, history = !w->trained && e->seq < input->train_until;
    if (!w->trained && !history)
        TRY(finish_history(w, error));
    double sum = event_model_measure(&w->events, waiting->slot, event_severity(e->level), parts);
    struct session_step step = {templates_at(w->events.templates, waiting->slot)->id,
                                waiting->slot};
    report->events++;
    if (e->session_bytes
        && !sessions_add(w->sessions, e->session, e->session_bytes, step, w->events.clock,
                         parts[EVENT_RARITY], !history, &refused))
        return error_memory(error);
    report->sessions_refused += refused;
    if (!history)
        return tell(w, waiting, tail_surprise(&w->events.tail, sum), parts, sink, report, error);
    report->learned++;
    w->history[w->history_count++ % HISTORY_SCORES] = sum;
    event_model_learn(&w->events, waiting->slot, 1, true);
    return AKIN_OK;
}

static enum akin_status flush(struct watch *w, const struct akin_watch_input *input,
                              const struct akin_watch_sink *sink, struct akin_watch_report *report,
                              struct akin_error *error)
{
    if (w->model)
        TRY(embed_fresh(w, report, error));
    w->fresh_count = 0;
    bool joined = templates_joins(w->events.templates) != w->joins;
    for (size_t i = 0; i < w->waiting; i++) {
        if (joined) /* with a later event of this batch, perhaps */
            TRY(find_kind(w, &w->batch[i], error));
        TRY(judge(w, &w->batch[i], input, sink, report, error));
        if (input->session_idle && w->trained && w->events.clock % CLOSE_EVERY == 0
            && w->events.clock > input->session_idle)
            TRY(sessions_close(w->sessions, w->events.clock - input->session_idle, sink, report,
                               error));
    }
    w->waiting = w->fresh_count = 0;
    w->joins = templates_joins(w->events.templates);
    return AKIN_OK;
}

/* ---- a file or standard input ------------------------------------------------------------ */

static enum akin_status take_line(struct watch *w, const struct akin_watch_input *input,
                                  struct line_reader *reader, const char *line, size_t bytes,
                                  struct akin_watch_report *report, struct akin_error *error)
{
    struct waiting *waiting = &w->batch[w->waiting];
    const struct akin_event_fields fields = {.session = input->session_field};
    char where[PATH_BYTES_MAX];
    uint64_t number = line_reader_number(reader);
    snprintf(where, sizeof where, "%.512s:%llu", strcmp(input->path, "-") ? input->path : "stdin",
             (unsigned long long)number);
    enum akin_status status = event_parse(&waiting->event, input->plain ? EVENT_PLAIN : EVENT_JSONL,
                                          line, bytes, &fields, number - 1, where, error);
    if (status != AKIN_OK && status != AKIN_MEMORY && input->skip_bad) {
        report->bad_lines++;
        return AKIN_OK;
    }
    TRY(status);
    TRY(find_kind(w, waiting, error));
    w->waiting++;
    return AKIN_OK;
}

static enum akin_status read_lines(struct watch *w, const struct akin_watch_input *input,
                                   struct line_reader *reader, const struct akin_watch_sink *sink,
                                   struct akin_watch_report *report, struct akin_error *error)
{
    size_t batch = input->batch < 1 ? 1 : input->batch < BATCH_MAX ? input->batch : BATCH_MAX;
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
    uint64_t began = clock_monotonic_ns();
    *report = (struct akin_watch_report){0};
    TRY(line_reader_open(input->path, &reader, error));
    enum akin_status status = read_lines(w, input, reader, sink, report, error);
    line_reader_close(&reader);
    w->waiting = w->fresh_count = 0;
    if (status == AKIN_OK && w->trained)
        status = sessions_close(w->sessions, UINT64_MAX, sink, report, error);
    report->kinds = templates_count(w->events.templates);
    report->seconds = (double)(clock_monotonic_ns() - began) * 1e-9;
    return status;
}
