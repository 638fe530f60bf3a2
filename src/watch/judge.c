#include "watch/judge.h"

#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "base/status.h"
#include "model/model.h"
#include "watch/mask.h"
#include "watch/score.h"
#include "watch/sessions.h"
#include "watch/vectors.h"

enum {
    HISTORY_SCORES = 1 << 20,   /* the last ones; the earlier half is left out */
    CLOSE_EVERY = 1024,         /* events between looks for sessions that ended */
};

static const double event_scale_min = 0.5;  /* nats */

static_assert((int)AKIN_WATCH_EVENT_PARTS == (int)EVENT_PARTS, "the public parts are these");
static_assert((int)AKIN_WATCH_SESSION_PARTS == (int)SESSION_PARTS, "the public parts are these");
static_assert((int)AKIN_WATCH_NEAREST == (int)TEMPLATE_NEAREST, "the public neighbours are these");

struct judge {
    struct akin_watch_settings settings;
    struct model *model;
    struct event_model events;
    struct feedback feedback;
    struct vector_cache *cache;
    struct sessions *sessions;
    uint64_t joins;                 /* of kinds, when the batch began */
    uint32_t *fresh;                /* [JUDGE_BATCH_MAX] slots that need a vector */
    struct akin_text *texts;        /* [JUDGE_BATCH_MAX] of those to embed */
    float *vectors;                 /* [JUDGE_BATCH_MAX][dimension] */
    size_t fresh_count;
    struct bytes line, masked;
    double *history;                /* [HISTORY_SCORES] of events, a ring */
    size_t history_count;
    bool trained;
};

/* What one call of judge_batch carries along. */
struct passing {
    const struct judge_sink *sink;
    struct akin_watch_report *report;
    struct akin_error *error;
};

void judge_settings_default(struct akin_watch_settings *settings)
{
    *settings = (struct akin_watch_settings){ .templates_max = 8192, .half_life_events = 1e6,
                                              .event_alarm = 1e-4, .session_alarm = 1e-3,
                                              .alarmed_weight = 0.25 };
}

static enum akin_status check(const struct akin_watch_settings *s, struct akin_error *error)
{
    if (s->templates_max < 2 * JUDGE_BATCH_MAX || s->templates_max > TEMPLATES_MAX)
        return error_set(error, AKIN_ARGUMENT, "templates_max is %zu; it is %d to %zu",
                         s->templates_max, 2 * JUDGE_BATCH_MAX, TEMPLATES_MAX);
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

void judge_close(struct judge **judge)
{
    struct judge *j = *judge;
    if (!j)
        return;
    templates_destroy(&j->events.templates);
    vector_cache_destroy(&j->cache);
    sessions_destroy(&j->sessions);
    feedback_deinit(&j->feedback);
    memory_free(j->fresh);
    memory_free(j->texts);
    memory_free(j->vectors);
    memory_free(j->history);
    bytes_deinit(&j->line);
    bytes_deinit(&j->masked);
    memory_free(j);
    *judge = NULL;
}

enum akin_status judge_open(const struct kernels *kernels, struct model *model,
                            const struct akin_watch_settings *settings, struct judge **judge,
                            struct akin_error *error)
{
    struct akin_model_info info = {0};
    TRY(check(settings, error));
    struct judge *j = memory_alloc(1, sizeof *j);
    if (!j)
        return error_memory(error);
    if (model)
        model_info(model, &info);
    j->settings = *settings;
    j->model = model;
    j->feedback.overall = -log(settings->event_alarm > 1e-300 ? settings->event_alarm : 1e-300);
    j->events = (struct event_model){ .kernels = kernels, .dimension = info.dimension,
                                      .half_life = settings->half_life_events,
                                      .templates = templates_create(settings->templates_max) };
    j->cache = vector_cache_create(2 * settings->templates_max, info.dimension);
    j->sessions = sessions_create(settings->session_alarm);
    j->fresh = memory_alloc(JUDGE_BATCH_MAX, sizeof *j->fresh);
    j->texts = memory_alloc(JUDGE_BATCH_MAX, sizeof *j->texts);
    j->vectors = memory_alloc_aligned((size_t)JUDGE_BATCH_MAX * info.dimension,
                                      sizeof *j->vectors);
    j->history = memory_alloc(HISTORY_SCORES, sizeof *j->history);
    if (!j->events.templates || !j->cache || !j->sessions || !j->fresh || !j->texts || !j->vectors
        || !j->history) {
        judge_close(&j);
        return error_memory(error);
    }
    *judge = j;
    return AKIN_OK;
}

bool judge_trained(const struct judge *j)
{
    return j->trained;
}

size_t judge_kinds(const struct judge *j)
{
    return templates_count(j->events.templates);
}

/* ---- from an event to its kind ----------------------------------------------------------- */

/* What the kind of an event is told by: level, source and text, masked. */
static enum akin_status find_kind(struct judge *j, const struct event *e, uint32_t *slot,
                                  struct akin_error *error)
{
    const char *const before[] = {e->level, e->source};
    bool added;
    bytes_clear(&j->line);
    for (int i = 0; i < 2; i++)
        if (*before[i]) {
            bytes_append(&j->line, before[i], strnlen(before[i], EVENT_MASKED_BYTES / 4));
            bytes_append(&j->line, " ", 1);
        }
    bytes_append(&j->line, e->text,
                 e->text_bytes < EVENT_MASKED_BYTES ? e->text_bytes : EVENT_MASKED_BYTES);
    mask_text(j->line.data, j->line.count, &j->masked);
    if (j->line.failed || j->masked.failed)
        return error_memory(error);
    *slot = templates_find(j->events.templates, j->masked.data, j->masked.count, &added);
    if (*slot == UINT32_MAX)
        return error_memory(error);
    if (added)
        j->fresh[j->fresh_count++] = *slot;
    return AKIN_OK;
}

static enum akin_status give_vector(struct judge *j, uint32_t slot, const float *vector,
                                    const struct judge_sink *sink, struct akin_error *error)
{
    struct template *t = templates_at(j->events.templates, slot);
    size_t dimension = j->events.dimension;
    if (!t->vector)
        t->vector = memory_alloc_aligned(dimension, sizeof *t->vector);
    if (!t->vector)
        return error_memory(error);
    memcpy(t->vector, vector, dimension * sizeof *vector);
    event_model_place(&j->events, slot);
    return sink->kind ? sink->kind(sink->cookie, t->id, t->text, t->vector, dimension, error)
                      : AKIN_OK;
}

/* Vectors for the kinds that are new in this batch; a kind may have been joined with others since
 * it was found, and then another one holds its slot, or none. */
static enum akin_status embed_fresh(struct judge *j, const struct judge_sink *sink,
                                    struct akin_watch_report *report, struct akin_error *error)
{
    struct akin_embed_settings settings;
    size_t missing = 0, dimension = j->events.dimension, count = j->fresh_count;
    j->fresh_count = 0;
    if (!j->model)
        return AKIN_OK;
    for (size_t i = 0; i < count; i++) {
        struct template *t = templates_at(j->events.templates, j->fresh[i]);
        const float *known = t->id && !t->vector ? vector_cache_get(j->cache, t->id) : NULL;
        if (known)
            TRY(give_vector(j, j->fresh[i], known, sink, error));
        if (!t->id || t->vector)
            continue;
        j->texts[missing] = (struct akin_text){t->text, strlen(t->text)};
        j->fresh[missing++] = j->fresh[i];
    }
    if (!missing)
        return AKIN_OK;
    model_embed_settings_default(&settings);
    TRY(model_embed(j->model, j->texts, missing, &settings, j->vectors, NULL, error));
    report->embedded += missing;
    for (size_t i = 0; i < missing; i++) {
        uint64_t id = templates_at(j->events.templates, j->fresh[i])->id;
        TRY(give_vector(j, j->fresh[i], j->vectors + i * dimension, sink, error));
        if (!vector_cache_put(j->cache, id, j->vectors + i * dimension))
            return error_memory(error);
    }
    return AKIN_OK;
}

enum akin_status judge_know(struct judge *j, uint64_t kind, const float *vector,
                            struct akin_error *error)
{
    if (j->model && !vector_cache_put(j->cache, kind, vector))
        return error_memory(error);
    return AKIN_OK;
}

enum akin_status judge_kind_of(struct judge *j, const struct event *event, uint64_t *kind,
                               struct akin_error *error)
{
    const struct judge_sink nobody = {0};
    struct akin_watch_report report = {0};
    uint32_t slot;
    TRY(find_kind(j, event, &slot, error));
    TRY(embed_fresh(j, &nobody, &report, error));
    *kind = templates_at(j->events.templates, slot)->id;
    return AKIN_OK;
}

/* ---- labels ------------------------------------------------------------------------------ */

static double standing_threshold(const struct judge *j)
{
    return -log(j->settings.event_alarm > 1e-300 ? j->settings.event_alarm : 1e-300);
}

enum akin_status judge_feedback(struct judge *j, struct feedback_label *labels, size_t count,
                                struct akin_error *error)
{
    if (!feedback_set(&j->feedback, standing_threshold(j), labels, count))
        return error_memory(error);
    return AKIN_OK;
}

double judge_threshold(const struct judge *j, uint64_t kind)
{
    return feedback_threshold(&j->feedback, kind);
}

/* ---- from a kind to a verdict ------------------------------------------------------------ */

static double step_strangeness(void *cookie, struct session_step step)
{
    struct judge *j = cookie;
    const struct template *t = templates_at(j->events.templates, step.slot);
    return t->id == step.kind ? event_model_rarity(&j->events, step.slot) : 0;
}

enum akin_status judge_end_history(struct judge *j, struct akin_error *error)
{
    if (j->trained)
        return AKIN_OK;
    size_t kept = j->history_count < HISTORY_SCORES ? j->history_count : HISTORY_SCORES;
    /* The first events of all are strange whatever they are. */
    size_t skip = j->history_count <= HISTORY_SCORES ? kept / 2 : 0;
    j->trained = true;
    j->events.tail = tail_fit(j->history + skip, kept - skip, event_scale_min);
    /* Rarity ends where a kind was never seen, however far the tail is laid. So the tail is cut to
     * where an error of a new kind raises an alarm, in a history with many errors too. */
    double reach = event_model_new_error(&j->events) - j->events.tail.median;
    double wanted = standing_threshold(j) - log(2);
    if (reach > 0 && j->events.tail.scale > reach / wanted)
        j->events.tail.scale = fmax(reach / wanted, event_scale_min);
    return sessions_train(j->sessions, (struct step_judge){j, step_strangeness}, error);
}

static void explain(struct judge *j, uint32_t slot, struct akin_event_verdict *v)
{
    const struct template *t = templates_at(j->events.templates, slot);
    for (size_t i = 0; i < TEMPLATE_NEAREST && t->nearest_id[i]; i++) {
        const struct template *other = templates_at(j->events.templates, t->nearest[i]);
        if (other->id != t->nearest_id[i])
            continue;
        v->nearest[v->nearest_count].kind = other->text;
        v->nearest[v->nearest_count].distance = (double)t->distance[i];
        v->nearest[v->nearest_count++].count = event_model_count(&j->events, t->nearest[i]);
    }
}

static enum akin_status tell(struct judge *j, struct judged *judged,
                             const double parts[EVENT_PARTS], const struct passing *p)
{
    const struct event *e = judged->event;
    const struct akin_watch_sink *sink = &p->sink->verdicts;
    const struct template *t = templates_at(j->events.templates, judged->slot);
    struct akin_event_verdict v = {
        .seq = e->seq, .score = judged->surprise / log(10), .probability = exp(-judged->surprise),
        .text = e->text, .text_bytes = e->text_bytes, .time = e->time, .source = e->source,
        .level = e->level, .session = e->session, .session_bytes = e->session_bytes,
        .kind = t->text, .kind_id = t->id
    };
    v.alert = judged->surprise > feedback_threshold(&j->feedback, t->id) && j->history_count > 0;
    judged->alert = v.alert;
    judged->scored = true;
    memcpy(v.parts, parts, sizeof v.parts);
    explain(j, judged->slot, &v);
    p->report->scored++;
    p->report->alerts += v.alert;
    event_model_learn(&j->events, judged->slot, v.alert ? j->settings.alarmed_weight : 1, false);
    if (sink->event && !sink->event(sink->cookie, &v))
        return error_set(p->error, AKIN_CANCELLED, "watching was stopped");
    return AKIN_OK;
}

static enum akin_status judge_one(struct judge *j, struct judged *judged, const struct passing *p)
{
    const struct event *e = judged->event;
    double parts[EVENT_PARTS];
    bool refused = false, history = !j->trained && judged->history;
    if (!j->trained && !history)
        TRY(judge_end_history(j, p->error));
    double sum = event_model_measure(&j->events, judged->slot, event_severity(e->level), parts);
    judged->kind = templates_at(j->events.templates, judged->slot)->id;
    judged->alert = judged->scored = false;
    judged->surprise = 0;
    struct session_step step = {judged->kind, judged->slot};
    p->report->events++;
    if (e->session_bytes
        && !sessions_add(j->sessions, e->session, e->session_bytes, step, j->events.clock,
                         parts[EVENT_RARITY], !history, &refused))
        return error_memory(p->error);
    p->report->sessions_refused += refused;
    if (!history) {
        judged->surprise = tail_surprise(&j->events.tail, sum);
        return tell(j, judged, parts, p);
    }
    p->report->learned++;
    if (judged->weight >= 1)    /* what was alarmed on says nothing about what is normal */
        j->history[j->history_count++ % HISTORY_SCORES] = sum;
    event_model_learn(&j->events, judged->slot, judged->weight, true);
    return AKIN_OK;
}

enum akin_status judge_batch(struct judge *j, struct judged *batch, size_t count,
                             uint64_t session_idle, const struct judge_sink *sink,
                             struct akin_watch_report *report, struct akin_error *error)
{
    const struct passing p = {sink, report, error};
    ASSERT(count <= JUDGE_BATCH_MAX);
    j->fresh_count = 0;
    for (size_t i = 0; i < count; i++)
        TRY(find_kind(j, batch[i].event, &batch[i].slot, error));
    TRY(embed_fresh(j, sink, report, error));
    bool joined = templates_joins(j->events.templates) != j->joins;
    for (size_t i = 0; i < count; i++) {
        if (joined) /* with a later event of this batch, perhaps */
            TRY(find_kind(j, batch[i].event, &batch[i].slot, error));
        TRY(judge_one(j, &batch[i], &p));
        if (session_idle && j->trained && j->events.clock % CLOSE_EVERY == 0
            && j->events.clock > session_idle)
            TRY(sessions_close(j->sessions, j->events.clock - session_idle, &sink->verdicts,
                               report, error));
    }
    j->joins = templates_joins(j->events.templates);
    return AKIN_OK;
}

enum akin_status judge_end(struct judge *j, const struct judge_sink *sink,
                           struct akin_watch_report *report, struct akin_error *error)
{
    return j->trained ? sessions_close(j->sessions, UINT64_MAX, &sink->verdicts, report, error)
                      : AKIN_OK;
}
