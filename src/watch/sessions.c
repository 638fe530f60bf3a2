#include "watch/sessions.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/status.h"

enum { ROUNDS = 2, GAP_BITS = 40, INCOMPLETE_SHARE = 8 };

/* Where a part hardly differs in the history, so much of it is one unit of surprise. */
static const double scale_min[SESSION_PARTS] = {
    [SESSION_COUNTS] = 0.05, [SESSION_ORDER] = 0.1, [SESSION_MISSING] = 0.5, [SESSION_EVENT] = 0.5,
};
static const double part_max = 30;      /* nats: one part alone is alarm enough, and no more */
static const double total_scale_min = 1;
/* Left out of what is learned from the history: sessions that are so much less unusual than those
 * that raise an alarm. Trouble that comes again and again makes itself look usual. */
static const double suspect_times = 10, suspicion_max = 0.05;

struct sessions {
    double alarm;
    struct session *items;
    size_t count, capacity;
    struct string_map names;            /* -> place in items */
    struct session_model *model;
    struct tail tails[SESSION_PARTS], total;
    uint64_t gaps[GAP_BITS];            /* between events of one session, by log2 */
};

struct sessions *sessions_create(double alarm)
{
    struct sessions *s = memory_alloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->alarm = alarm;
    s->model = session_model_create();
    if (!s->model)
        sessions_destroy(&s);
    return s;
}

static void drop(struct session *session)
{
    memory_free(session->name);
    memory_free(session->steps);
}

void sessions_destroy(struct sessions **sessions)
{
    struct sessions *s = *sessions;
    if (!s)
        return;
    for (size_t i = 0; i < s->count; i++)
        drop(&s->items[i]);
    memory_free(s->items);
    string_map_deinit(&s->names);
    session_model_destroy(&s->model);
    memory_free(s);
    *sessions = NULL;
}

static struct session *open_session(struct sessions *s, const char *name, size_t bytes,
                                    uint64_t event)
{
    if (!array_reserve((void **)&s->items, &s->capacity, s->count + 1, sizeof *s->items))
        return NULL;
    struct session *session = &s->items[s->count];
    *session = (struct session){.name = memory_copy_bytes(name, bytes), .name_bytes = bytes,
                                .first_event = event, .last_event = event};
    if (!session->name
        || !string_map_put(&s->names, session->name, bytes, s->count, NULL, NULL)) {
        drop(session);
        return NULL;
    }
    s->count++;
    return session;
}

bool sessions_add(struct sessions *s, const char *name, size_t bytes, struct session_step step,
                  uint64_t event, double strangeness, bool scored, bool *refused)
{
    uint64_t place;
    struct session *session;
    *refused = false;
    if (string_map_get(&s->names, name, bytes, &place)) {
        session = &s->items[place];
        uint64_t gap = event - session->last_event;
        size_t bits = 0;
        while (bits < GAP_BITS - 1 && gap >> (bits + 1))
            bits++;
        s->gaps[bits]++;
    } else {
        *refused = s->count == SESSIONS_MAX;
        if (*refused)
            return true;
        session = open_session(s, name, bytes, event);
        if (!session)
            return false;
    }
    session->last_event = event;
    session->scored = session->scored || scored;
    if (scored && strangeness > session->event_max)
        session->event_max = strangeness;
    if (session->step_count == SESSION_EVENTS_MAX)
        return true;
    if (!array_reserve((void **)&session->steps, &session->step_capacity, session->step_count + 1,
                       sizeof *session->steps))
        return false;
    session->steps[session->step_count++] = step;
    return true;
}

/* ---- learning ---------------------------------------------------------------------------- */

struct training {
    struct sessions *sessions;
    double (*parts)[SESSION_PARTS];     /* [count] */
    double *column;                     /* [count] */
    bool *good;                         /* [count] complete, and no alarm so far */
};

/* The parts in nats into `parts`; their sum. */
static double judge_parts(const struct sessions *s, double parts[SESSION_PARTS])
{
    double sum = 0;
    for (int p = 0; p < SESSION_PARTS; p++) {
        parts[p] = tail_surprise(&s->tails[p], parts[p]);
        parts[p] = parts[p] < part_max ? parts[p] : part_max + log1p(parts[p] - part_max);
        sum += parts[p];
    }
    return sum;
}

/* Sessions whose last event lies so close to the end that another one may come are not complete. */
static uint64_t usual_gap(const struct sessions *s)
{
    uint64_t all = 0, some = 0;
    for (size_t b = 0; b < GAP_BITS; b++)
        all += s->gaps[b];
    for (size_t b = 0; b < GAP_BITS; b++) {
        some += s->gaps[b];
        if (some * 100 >= all * 99)
            return (uint64_t)2 << b;
    }
    return 0;
}

static enum akin_status learn_good(struct training *t, struct akin_error *error)
{
    struct sessions *s = t->sessions;
    session_model_destroy(&s->model);
    s->model = session_model_create();
    if (!s->model)
        return error_memory(error);
    for (size_t i = 0; i < s->count; i++)
        if (t->good[i] && !session_model_learn(s->model, &s->items[i]))
            return error_memory(error);
    return AKIN_OK;
}

static size_t gather(struct training *t, int part)
{
    size_t n = 0;
    for (size_t i = 0; i < t->sessions->count; i++)
        if (t->good[i])
            t->column[n++] = t->parts[i][part];
    return n;
}

static void lay_tails(struct training *t)
{
    struct sessions *s = t->sessions;
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++)
        if (t->good[i]) {
            session_model_measure(s->model, &s->items[i], true, t->parts[i]);
            t->parts[i][SESSION_EVENT] = s->items[i].event_max;
        }
    for (int p = 0; p < SESSION_PARTS; p++) {
        n = gather(t, p);
        s->tails[p] = tail_fit(t->column, n, scale_min[p]);
    }
    n = 0;
    for (size_t i = 0; i < s->count; i++)
        if (t->good[i])
            t->column[n++] = t->parts[i][0] = judge_parts(s, t->parts[i]);
    s->total = tail_fit(t->column, n, total_scale_min);
}

static enum akin_status train_rounds(struct training *t, uint64_t end, struct step_judge judge,
                                     struct akin_error *error)
{
    struct sessions *s = t->sessions;
    double suspicion = fmin(suspect_times * s->alarm, suspicion_max);
    uint64_t gap = usual_gap(s);
    if (gap > end / INCOMPLETE_SHARE) /* sessions that rest for hours would leave none */
        gap = end / INCOMPLETE_SHARE;
    for (size_t i = 0; i < s->count; i++) {
        struct session *session = &s->items[i];
        t->good[i] = session->last_event + gap < end;
        session->event_max = 0;
        for (size_t j = 0; j < session->step_count; j++) {
            double strange = judge.strangeness(judge.cookie, session->steps[j]);
            if (strange > session->event_max)
                session->event_max = strange;
        }
    }
    for (int round = 0;; round++) {
        TRY(learn_good(t, error));
        lay_tails(t);
        if (round == ROUNDS)
            return AKIN_OK;
        for (size_t i = 0; i < s->count; i++)
            t->good[i] = t->good[i]
                         && exp(-tail_surprise(&s->total, t->parts[i][0])) >= suspicion;
    }
}

enum akin_status sessions_train(struct sessions *s, struct step_judge judge,
                                struct akin_error *error)
{
    struct training t = {.sessions = s};
    enum akin_status status = AKIN_OK;
    uint64_t end = 0;
    t.parts = memory_alloc(s->count, sizeof *t.parts);
    t.column = memory_alloc(s->count, sizeof *t.column);
    t.good = memory_alloc(s->count, sizeof *t.good);
    for (size_t i = 0; i < s->count; i++)
        if (s->items[i].last_event > end)
            end = s->items[i].last_event;
    if (t.parts && t.column && t.good)
        status = train_rounds(&t, end, judge, error);
    else
        status = error_memory(error);
    memory_free(t.parts);
    memory_free(t.column);
    memory_free(t.good);
    return status;
}

/* ---- judging ----------------------------------------------------------------------------- */

static enum akin_status judge_one(struct sessions *s, struct session *session,
                                  const struct akin_watch_sink *sink,
                                  struct akin_watch_report *report, struct akin_error *error)
{
    struct akin_session_verdict v = {.name = session->name, .name_bytes = session->name_bytes,
                                     .events = session->step_count};
    session_model_measure(s->model, session, false, v.parts);
    v.parts[SESSION_EVENT] = session->event_max;
    double surprise = tail_surprise(&s->total, judge_parts(s, v.parts));
    v.score = surprise / log(10);
    v.probability = exp(-surprise);
    v.alert = session_model_count(s->model) > 0 && v.probability < s->alarm;
    report->sessions++;
    report->session_alerts += v.alert;
    if (!v.alert && !session_model_learn(s->model, session))
        return error_memory(error);
    if (sink->session && !sink->session(sink->cookie, &v))
        return error_set(error, AKIN_CANCELLED, "watching was stopped");
    return AKIN_OK;
}

enum akin_status sessions_close(struct sessions *s, uint64_t before,
                                const struct akin_watch_sink *sink,
                                struct akin_watch_report *report, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    size_t kept = 0;
    string_map_deinit(&s->names);
    for (size_t i = 0; i < s->count; i++) {
        struct session *session = &s->items[i];
        if (session->last_event < before) {
            if (session->scored && status == AKIN_OK)
                status = judge_one(s, session, sink, report, error);
            drop(session);
            continue;
        }
        s->items[kept] = *session;
        if (!string_map_put(&s->names, s->items[kept].name, s->items[kept].name_bytes, kept, NULL,
                            NULL) && status == AKIN_OK)
            status = error_memory(error);
        kept++;
    }
    s->count = kept;
    return status;
}
