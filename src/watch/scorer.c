#include "watch/scorer.h"

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

struct scorer {
    struct akin_watch_settings settings;
    struct scorer_tools tools;
    struct event_model events;
    struct feedback feedback;
    struct vector_cache *cache;
    struct sessions *sessions;
    uint64_t joins;                 /* of kinds, when the batch began */
    uint32_t *fresh;                /* [SCORER_BATCH_MAX] slots that need a vector */
    uint32_t *placed;               /* [SCORER_BATCH_MAX] slots */
    struct akin_text *texts;        /* [SCORER_BATCH_MAX] of those to embed */
    float *vectors;                 /* [SCORER_BATCH_MAX][dimension] */
    size_t fresh_count;
    struct bytes line, masked;
    double *history;                /* [HISTORY_SCORES] of events, a ring */
    size_t history_count;
    bool trained;
};

/* What one call of scorer_batch carries along. */
struct passing {
    const struct scorer_sink *sink;
    struct akin_watch_report *report;
    struct akin_error *error;
};

void scorer_settings_default(struct akin_watch_settings *settings)
{
    *settings = (struct akin_watch_settings){ .templates_max = 8192, .half_life_events = 1e6,
                                              .event_alarm = 1e-4, .session_alarm = 1e-3,
                                              .alarmed_weight = 0.25 };
}

static enum akin_status check(const struct akin_watch_settings *s, struct akin_error *error)
{
    if (s->templates_max < 2 * SCORER_BATCH_MAX || s->templates_max > TEMPLATES_MAX)
        return error_set(error, AKIN_ARGUMENT, "templates_max is %zu; it is %d to %zu",
                         s->templates_max, 2 * SCORER_BATCH_MAX, TEMPLATES_MAX);
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

void scorer_close(struct scorer **scorer)
{
    struct scorer *s = *scorer;
    if (!s)
        return;
    templates_destroy(&s->events.templates);
    placing_destroy(&s->events.placing);
    vector_cache_destroy(&s->cache);
    sessions_destroy(&s->sessions);
    feedback_deinit(&s->feedback);
    memory_free(s->fresh);
    memory_free(s->placed);
    memory_free(s->texts);
    memory_free(s->vectors);
    memory_free(s->history);
    bytes_deinit(&s->line);
    bytes_deinit(&s->masked);
    memory_free(s);
    *scorer = NULL;
}

enum akin_status scorer_open(const struct scorer_tools *tools,
                            const struct akin_watch_settings *settings, struct scorer **scorer,
                            struct akin_error *error)
{
    struct akin_model_info info = {0};
    TRY(check(settings, error));
    struct scorer *s = memory_alloc(1, sizeof *s);
    if (!s)
        return error_memory(error);
    if (tools->model)
        model_info(tools->model, &info);
    s->settings = *settings;
    s->tools = *tools;
    s->feedback.overall = -log(settings->event_alarm > 1e-300 ? settings->event_alarm : 1e-300);
    s->events = (struct event_model){ .kernels = tools->kernels, .pool = tools->pool,
                                      .dimension = info.dimension,
                                      .placing = placing_create(info.dimension),
                                      .half_life = settings->half_life_events,
                                      .templates = templates_create(settings->templates_max) };
    s->cache = vector_cache_create(2 * settings->templates_max, info.dimension);
    s->sessions = sessions_create(settings->session_alarm);
    s->fresh = memory_alloc(SCORER_BATCH_MAX, sizeof *s->fresh);
    s->placed = memory_alloc(SCORER_BATCH_MAX, sizeof *s->placed);
    s->texts = memory_alloc(SCORER_BATCH_MAX, sizeof *s->texts);
    s->vectors = memory_alloc_aligned((size_t)SCORER_BATCH_MAX * info.dimension,
                                      sizeof *s->vectors);
    s->history = memory_alloc(HISTORY_SCORES, sizeof *s->history);
    if (!s->events.templates || !s->events.placing || !s->cache || !s->sessions || !s->fresh
        || !s->placed || !s->texts || !s->vectors || !s->history) {
        scorer_close(&s);
        return error_memory(error);
    }
    *scorer = s;
    return AKIN_OK;
}

bool scorer_trained(const struct scorer *s)
{
    return s->trained;
}

size_t scorer_dimension(const struct scorer *s)
{
    return s->events.dimension;
}

size_t scorer_kinds(const struct scorer *s)
{
    return templates_count(s->events.templates);
}

/* ---- from an event to its kind ----------------------------------------------------------- */

/* What the kind of an event is told by: level, source and text, masked. */
static enum akin_status find_kind(struct scorer *s, const struct event *e, uint32_t *slot,
                                  struct akin_error *error)
{
    const char *const before[] = {e->level, e->source};
    bool added;
    bytes_clear(&s->line);
    for (int i = 0; i < 2; i++)
        if (*before[i]) {
            bytes_append(&s->line, before[i], strnlen(before[i], EVENT_MASKED_BYTES / 4));
            bytes_append(&s->line, " ", 1);
        }
    bytes_append(&s->line, e->text,
                 e->text_bytes < EVENT_MASKED_BYTES ? e->text_bytes : EVENT_MASKED_BYTES);
    mask_text(s->line.data, s->line.count, &s->masked);
    if (s->line.failed || s->masked.failed)
        return error_memory(error);
    *slot = templates_find(s->events.templates, s->masked.data, s->masked.count, &added);
    if (*slot == UINT32_MAX)
        return error_memory(error);
    if (added)
        s->fresh[s->fresh_count++] = *slot;
    return AKIN_OK;
}

static enum akin_status give_vector(struct scorer *s, uint32_t slot, const float *vector,
                                    const struct scorer_sink *sink, struct akin_error *error)
{
    struct template *t = templates_at(s->events.templates, slot);
    size_t dimension = s->events.dimension;
    if (!t->vector)
        t->vector = memory_alloc_aligned(dimension, sizeof *t->vector);
    if (!t->vector)
        return error_memory(error);
    memcpy(t->vector, vector, dimension * sizeof *vector);
    return sink->kind ? sink->kind(sink->cookie, t->id, t->text, t->vector, dimension, error)
                      : AKIN_OK;
}

/* With another model where this one fails. */
static enum akin_status embed(struct scorer *s, size_t count, struct akin_error *error)
{
    struct akin_embed_settings settings;
    struct akin_error why = {0};
    model_embed_settings_default(&settings);
    enum akin_status status = model_embed(s->tools.model, s->texts, count, &settings, s->vectors,
                                          NULL, &why);
    struct model *other = NULL;
    if (status != AKIN_OK && s->tools.instead)
        other = s->tools.instead(s->tools.cookie, status, &why);
    if (other) {
        s->tools.model = other;
        return model_embed(other, s->texts, count, &settings, s->vectors, NULL, error);
    }
    if (status != AKIN_OK && error)
        *error = why;
    return status;
}

/* Kinds whose vector is known by their text. Those that are left stand in front in `fresh`. */
static enum akin_status take_known(struct scorer *s, size_t count, size_t *left,
                                   const struct scorer_sink *sink, struct akin_error *error)
{
    size_t known = 0;
    *left = 0;
    for (size_t i = 0; i < count; i++) {
        const struct template *t = templates_at(s->events.templates, s->fresh[i]);
        if (!t->id || t->vector)
            continue;
        const float *vector = vector_cache_get(s->cache, t->id);
        if (!vector) {
            s->fresh[(*left)++] = s->fresh[i];
            continue;
        }
        TRY(give_vector(s, s->fresh[i], vector, sink, error));
        s->placed[known++] = s->fresh[i];
    }
    event_model_place(&s->events, s->placed, known);
    return AKIN_OK;
}

/* Vectors for the kinds that are new in this batch, all that the model has to see in one call; a
 * kind may have been joined with others since it was found, and then another one holds its slot, or
 * none. */
static enum akin_status embed_fresh(struct scorer *s, const struct scorer_sink *sink,
                                    struct akin_watch_report *report, struct akin_error *error)
{
    size_t missing = 0, dimension = s->events.dimension, count = s->fresh_count;
    s->fresh_count = 0;
    if (!s->tools.model)
        return AKIN_OK;
    TRY(take_known(s, count, &missing, sink, error));
    for (size_t i = 0; i < missing; i++) {
        const struct template *t = templates_at(s->events.templates, s->fresh[i]);
        s->texts[i] = (struct akin_text){t->text, strlen(t->text)};
    }
    if (!missing)
        return AKIN_OK;
    TRY(embed(s, missing, error));
    report->embedded += missing;
    for (size_t i = 0; i < missing; i++) {
        uint64_t id = templates_at(s->events.templates, s->fresh[i])->id;
        TRY(give_vector(s, s->fresh[i], s->vectors + i * dimension, sink, error));
        if (!vector_cache_put(s->cache, id, s->vectors + i * dimension))
            return error_memory(error);
    }
    event_model_place(&s->events, s->fresh, missing);
    return AKIN_OK;
}

enum akin_status scorer_know(struct scorer *s, uint64_t kind, const float *vector,
                            struct akin_error *error)
{
    if (s->tools.model && !vector_cache_put(s->cache, kind, vector))
        return error_memory(error);
    return AKIN_OK;
}

/* Its vector, where it has none, comes with those of the next batch. */
enum akin_status scorer_kind_of(struct scorer *s, const struct event *event, uint64_t *kind,
                               struct akin_error *error)
{
    const struct scorer_sink nobody = {0};
    struct akin_watch_report report = {0};
    uint32_t slot;
    if (s->fresh_count == SCORER_BATCH_MAX)
        TRY(embed_fresh(s, &nobody, &report, error));
    TRY(find_kind(s, event, &slot, error));
    *kind = templates_at(s->events.templates, slot)->id;
    return AKIN_OK;
}

/* ---- labels ------------------------------------------------------------------------------ */

static double standing_threshold(const struct scorer *s)
{
    return -log(s->settings.event_alarm > 1e-300 ? s->settings.event_alarm : 1e-300);
}

enum akin_status scorer_feedback(struct scorer *s, struct feedback_label *labels, size_t count,
                                struct akin_error *error)
{
    if (!feedback_set(&s->feedback, standing_threshold(s), labels, count))
        return error_memory(error);
    return AKIN_OK;
}

double scorer_threshold(const struct scorer *s, uint64_t kind)
{
    return feedback_threshold(&s->feedback, kind);
}

/* ---- from a kind to a verdict ------------------------------------------------------------ */

static double step_strangeness(void *cookie, struct session_step step)
{
    struct scorer *s = cookie;
    const struct template *t = templates_at(s->events.templates, step.slot);
    return t->id == step.kind ? event_model_rarity(&s->events, step.slot) : 0;
}

enum akin_status scorer_end_history(struct scorer *s, struct akin_error *error)
{
    if (s->trained)
        return AKIN_OK;
    size_t kept = s->history_count < HISTORY_SCORES ? s->history_count : HISTORY_SCORES;
    /* The first events of all are strange whatever they are. */
    size_t skip = s->history_count <= HISTORY_SCORES ? kept / 2 : 0;
    s->trained = true;
    s->events.tail = tail_fit(s->history + skip, kept - skip, event_scale_min);
    /* Rarity ends where a kind was never seen, however far the tail is laid. So the tail is cut to
     * where an error of a new kind raises an alarm, in a history with many errors too. */
    double reach = event_model_new_error(&s->events) - s->events.tail.median;
    double wanted = standing_threshold(s) - log(2);
    if (reach > 0 && s->events.tail.scale > reach / wanted)
        s->events.tail.scale = fmax(reach / wanted, event_scale_min);
    return sessions_train(s->sessions, (struct step_judge){s, step_strangeness}, error);
}

static void explain(struct scorer *s, uint32_t slot, struct akin_event_verdict *v)
{
    const struct template *t = templates_at(s->events.templates, slot);
    for (size_t i = 0; i < TEMPLATE_NEAREST && t->nearest_id[i]; i++) {
        const struct template *other = templates_at(s->events.templates, t->nearest[i]);
        if (other->id != t->nearest_id[i])
            continue;
        v->nearest[v->nearest_count].kind = other->text;
        v->nearest[v->nearest_count].distance = (double)t->distance[i];
        v->nearest[v->nearest_count++].count = event_model_count(&s->events, t->nearest[i]);
    }
}

static enum akin_status tell(struct scorer *s, struct judged *judged,
                             const double parts[EVENT_PARTS], const struct passing *p)
{
    const struct event *e = judged->event;
    const struct akin_watch_sink *sink = &p->sink->verdicts;
    const struct template *t = templates_at(s->events.templates, judged->slot);
    struct akin_event_verdict v = {
        .seq = e->seq, .score = judged->surprise / log(10), .probability = exp(-judged->surprise),
        .text = e->text, .text_bytes = e->text_bytes, .time = e->time, .source = e->source,
        .level = e->level, .session = e->session, .session_bytes = e->session_bytes,
        .kind = t->text, .kind_id = t->id
    };
    v.alert = judged->surprise > feedback_threshold(&s->feedback, t->id) && s->history_count > 0;
    judged->alert = v.alert;
    judged->scored = true;
    memcpy(v.parts, parts, sizeof v.parts);
    explain(s, judged->slot, &v);
    p->report->scored++;
    p->report->alerts += v.alert;
    event_model_learn(&s->events, judged->slot, v.alert ? s->settings.alarmed_weight : 1, false);
    if (sink->event && !sink->event(sink->cookie, &v))
        return error_set(p->error, AKIN_CANCELLED, "watching was stopped");
    return AKIN_OK;
}

static enum akin_status judge_one(struct scorer *s, struct judged *judged, const struct passing *p)
{
    const struct event *e = judged->event;
    double parts[EVENT_PARTS];
    bool refused = false, history = !s->trained && judged->history;
    if (!s->trained && !history)
        TRY(scorer_end_history(s, p->error));
    double sum = event_model_measure(&s->events, judged->slot, event_severity(e->level), parts);
    judged->kind = templates_at(s->events.templates, judged->slot)->id;
    judged->alert = judged->scored = false;
    judged->surprise = 0;
    struct session_step step = {judged->kind, judged->slot};
    p->report->events++;
    if (e->session_bytes
        && !sessions_add(s->sessions, e->session, e->session_bytes, step, s->events.clock,
                         parts[EVENT_RARITY], !history, &refused))
        return error_memory(p->error);
    p->report->sessions_refused += refused;
    if (!history) {
        judged->surprise = tail_surprise(&s->events.tail, sum);
        return tell(s, judged, parts, p);
    }
    p->report->learned++;
    if (judged->weight >= 1)    /* what was alarmed on says nothing about what is normal */
        s->history[s->history_count++ % HISTORY_SCORES] = sum;
    event_model_learn(&s->events, judged->slot, judged->weight, true);
    return AKIN_OK;
}

/* Near kinds that were forgotten are found anew for all of a batch together. */
static void renew(struct scorer *s, const struct judged *batch, size_t count)
{
    if (!s->events.dimension)
        return;
    for (size_t i = 0; i < count; i++)
        s->placed[i] = batch[i].slot;
    event_model_renew(&s->events, s->placed, count);
}

enum akin_status scorer_batch(struct scorer *s, struct judged *batch, size_t count,
                             uint64_t session_idle, const struct scorer_sink *sink,
                             struct akin_watch_report *report, struct akin_error *error)
{
    const struct passing p = {sink, report, error};
    ASSERT(count <= SCORER_BATCH_MAX);
    TRY(embed_fresh(s, sink, report, error));   /* what scorer_kind_of has left */
    for (size_t i = 0; i < count; i++)
        TRY(find_kind(s, batch[i].event, &batch[i].slot, error));
    TRY(embed_fresh(s, sink, report, error));
    renew(s, batch, count);
    bool joined = templates_joins(s->events.templates) != s->joins;
    for (size_t i = 0; i < count; i++) {
        if (joined) /* with a later event of this batch, perhaps */
            TRY(find_kind(s, batch[i].event, &batch[i].slot, error));
        TRY(judge_one(s, &batch[i], &p));
        if (session_idle && s->trained && s->events.clock % CLOSE_EVERY == 0
            && s->events.clock > session_idle)
            TRY(sessions_close(s->sessions, s->events.clock - session_idle, &sink->verdicts,
                               report, error));
    }
    s->joins = templates_joins(s->events.templates);
    return AKIN_OK;
}

enum akin_status scorer_end(struct scorer *s, const struct scorer_sink *sink,
                           struct akin_watch_report *report, struct akin_error *error)
{
    return s->trained ? sessions_close(s->sessions, UINT64_MAX, &sink->verdicts, report, error)
                      : AKIN_OK;
}
