#include "watch/pipeline.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/system.h"
#include "watch/feed.h"
#include "watch/latency.h"
#include "watch/live_batch.h"

enum {
    TICK_MS = 100,              /* of the caller */
    HOUSEKEEPING_MS = 200,      /* between looks at alarms that go on, at most */
    LABELS_EVERY = 5,           /* of these looks, one is for labels */
    JUDGE_MS = 40,              /* what scoring a batch should take at most */
    BATCH_MIN = 64,
    FLUSH_MS = 5000,            /* for alarms on their way, at the end */
};

struct pipeline {
    const struct pipeline_settings *s;
    struct meeting meeting;
    struct feed *feeds;         /* [source_count] */
    size_t feed_count;          /* started */
    struct thread *thread;
    size_t *taken;              /* [source_count] of the batch, from each queue */

    /* The judging thread's. */
    struct live_batch batch;
    struct akin_watch_report counts;
    size_t batch_max;           /* by what the last batch took */
    uint64_t seen;              /* events, those learned before the start included */
    uint64_t tended_ns, tended;
    enum akin_status status;
    struct akin_error *error;

    /* Under the lock. */
    struct akin_watch_live_report report;
    struct latency verdict, durable;
    struct condition *changed;  /* done */
    bool done;
};

/* ---- what is there ----------------------------------------------------------------------- */

/* Under the lock. Each source in turn gets an equal share, then what is left goes round again. */
static void collect(struct pipeline *p)
{
    size_t active = 0, room = p->batch_max;
    for (size_t i = 0; i < p->feed_count; i++) {
        active += p->feeds[i].queue.count > 0;
        p->taken[i] = 0;
    }
    for (int round = 0; round < 2 && active; round++) {
        size_t share = round ? room : room / active;
        for (size_t i = 0; i < p->feed_count; i++) {
            struct feed *f = &p->feeds[i];
            size_t left = f->queue.count - p->taken[i];
            size_t count = left < share ? left : share;
            for (count = count < room ? count : room; count; count--, room--)
                live_batch_add(&p->batch, arrivals_at(&f->queue, p->taken[i]++),
                               f->source->name, false);
        }
    }
}

/* Under the lock: whether to begin, and if not how long to wait. */
static bool is_ready(struct pipeline *p, uint64_t *wait_ns)
{
    uint64_t now = clock_monotonic_ns(), oldest = UINT64_MAX;
    uint64_t deadline = (uint64_t)(p->s->live->deadline_ms * 1e6);
    size_t total = 0, ended = 0;
    bool full = false;
    for (size_t i = 0; i < p->feed_count; i++) {
        struct arrivals *q = &p->feeds[i].queue;
        total += q->count;
        ended += p->feeds[i].ended;
        full = full || q->count == q->max || q->bytes >= q->bytes_max;
        if (q->count && arrivals_at(q, 0)->arrived_ns < oldest)
            oldest = arrivals_at(q, 0)->arrived_ns;
    }
    *wait_ns = (uint64_t)HOUSEKEEPING_MS * 1000000;
    if (!total)
        return ended == p->feed_count;
    if (full || total >= p->batch_max || ended == p->feed_count || oldest + deadline <= now)
        return true;
    if (oldest + deadline - now < *wait_ns)
        *wait_ns = oldest + deadline - now;
    return false;
}

/* ---- the judging thread ------------------------------------------------------------------ */

/* A store that cannot be read now is heard of when it is written to. */
static void tend(struct pipeline *p)
{
    uint64_t now = clock_monotonic_ns();
    if (now - p->tended_ns < (uint64_t)HOUSEKEEPING_MS * 1000000)
        return;
    p->tended_ns = now;
    if (p->s->alerts && !alerts_tick(p->s->alerts, now))
        atomic_store(p->s->stopping, true);
    if (p->s->labels && ++p->tended % LABELS_EVERY == 0)
        (void)labels_look(p->s->labels, false, NULL);
}

/* The history goes on until so many events were seen, or until its time is over. */
static void mark_history(struct pipeline *p)
{
    uint64_t now = clock_monotonic_ns();
    for (size_t i = 0; i < p->batch.count; i++, p->seen++)
        p->batch.judged[i].history = p->s->history_ns ? now < p->s->history_ns
                                                      : p->seen < p->s->live->learn_events;
}

/* Under the lock, after a batch. */
static void count_batch(struct pipeline *p, uint64_t judged_ns, uint64_t kept_ns)
{
    for (size_t i = 0; i < p->batch.count; i++) {
        uint64_t arrived = p->batch.events[i]->arrived_ns;
        latency_add(&p->verdict, judged_ns - arrived);
        latency_add(&p->durable, kept_ns - arrived);
    }
    p->report.counts = p->counts;
    p->report.counts.kinds = scorer_kinds(p->s->scorer);
    p->report.stored += p->batch.count;
    p->report.again = p->batch.again;
    p->report.learning = !scorer_trained(p->s->scorer);
}

/* Under the lock: the slots are free, and the sources hear of it. */
static void release(struct pipeline *p)
{
    for (size_t i = 0; i < p->feed_count; i++) {
        struct feed *f = &p->feeds[i];
        if (!p->taken[i])
            continue;
        f->stored = arrivals_at(&f->queue, p->taken[i] - 1)->ticket;
        arrivals_pop(&f->queue, p->taken[i]);
    }
    condition_wake(p->meeting.room);
}

/* Kinds that are new take the model's time, known ones next to none: so batches are as long as fits
 * into JUDGE_MS by the pace of the last one, and no event waits long for others of its batch. */
static void plan_next(struct pipeline *p, uint64_t took_ns)
{
    double each = (double)took_ns / (double)(p->batch.count ? p->batch.count : 1);
    double fits = each > 0 ? JUDGE_MS * 1e6 / each : SCORER_BATCH_MAX;
    p->batch_max = fits < BATCH_MIN ? BATCH_MIN : fits < SCORER_BATCH_MAX ? (size_t)fits
                                                                        : SCORER_BATCH_MAX;
}

/* Judges and keeps a batch; with `end` the sessions that are open still. */
static enum akin_status pass(struct pipeline *p, bool end)
{
    uint64_t began_ns = clock_monotonic_ns();
    mark_history(p);
    TRY(live_batch_judge(&p->batch, end, p->s->live->session_idle, &p->counts, p->error));
    uint64_t judged_ns = clock_monotonic_ns();
    plan_next(p, judged_ns - began_ns);
    TRY(live_batch_keep(&p->batch, p->error));
    uint64_t kept_ns = clock_monotonic_ns();
    mutex_lock(p->meeting.lock);
    count_batch(p, judged_ns, kept_ns);
    mutex_unlock(p->meeting.lock);
    if (!live_batch_alarm(&p->batch))
        atomic_store(p->s->stopping, true);
    return AKIN_OK;
}

static bool wait_for_events(struct pipeline *p)
{
    uint64_t wait_ns;
    mutex_lock(p->meeting.lock);
    if (!is_ready(p, &wait_ns)) {
        condition_wait_for(p->meeting.arrived, p->meeting.lock, wait_ns);
        mutex_unlock(p->meeting.lock);
        return false;
    }
    collect(p);
    mutex_unlock(p->meeting.lock);
    return true;
}

static void judge_all(void *context)
{
    struct pipeline *p = context;
    for (bool more = true; more && p->status == AKIN_OK;) {
        tend(p);
        if (!wait_for_events(p))
            continue;
        more = p->batch.count > 0;
        /* Sessions that a stop cuts off are not over. */
        if (more || !atomic_load(p->s->stopping))
            p->status = pass(p, !more);
        mutex_lock(p->meeting.lock);
        if (more && p->status == AKIN_OK)
            release(p);
        mutex_unlock(p->meeting.lock);
    }
    atomic_store(p->s->stopping, true);
    mutex_lock(p->meeting.lock);
    p->meeting.over = p->done = true;
    condition_wake(p->meeting.room);
    condition_wake(p->changed);
    mutex_unlock(p->meeting.lock);
}

/* ---- the caller's thread ----------------------------------------------------------------- */

/* Under the lock. */
static void fill_report(struct pipeline *p, uint64_t began_ns)
{
    struct akin_watch_live_report *r = &p->report;
    uint64_t now = clock_monotonic_ns(), oldest = now;
    r->received = r->dropped = r->lost = r->bad = 0;
    r->source_count = p->feed_count;
    for (size_t i = 0; i < p->feed_count; i++) {
        struct feed *f = &p->feeds[i];
        struct akin_source_report *one = &r->sources[i];
        *one = (struct akin_source_report){ .received = f->received, .dropped = f->dropped,
                                            .lost = f->lost, .bad = f->bad,
                                            .waiting = f->queue.count, .ended = f->ended };
        snprintf(one->name, sizeof one->name, "%s", f->source->name);
        r->received += f->received;
        r->dropped += f->dropped;
        r->lost += f->lost;
        r->bad += f->bad;
        if (f->queue.count && arrivals_at(&f->queue, 0)->arrived_ns < oldest)
            oldest = arrivals_at(&f->queue, 0)->arrived_ns;
    }
    r->lag_seconds = (double)(now - oldest) * 1e-9;
    r->latency_us_p50 = latency_us(&p->verdict, 0.5);
    r->latency_us_p99 = latency_us(&p->verdict, 0.99);
    r->latency_us_max = (double)p->verdict.max_ns / 1e3;
    r->stored_us_p50 = latency_us(&p->durable, 0.5);
    r->stored_us_p99 = latency_us(&p->durable, 0.99);
    r->seconds = r->counts.seconds = (double)(now - began_ns) * 1e-9;
    r->rss_bytes = system_rss_bytes();
}

static void fill_alerts(struct pipeline *p)
{
    struct alerts_counts c;
    if (!p->s->alerts)
        return;
    alerts_count(p->s->alerts, &c);
    p->report.alerts_told = c.told;
    p->report.alerts_repeated = c.repeated;
    p->report.alerts_delivered = c.delivered;
    p->report.alerts_failed = c.failed;
    p->report.alerts_dropped = c.dropped;
}

static void attend(struct pipeline *p, uint64_t began_ns)
{
    struct akin_watch_live_report now;
    const struct akin_watch_live *live = p->s->live;
    for (bool done = false; !done;) {
        mutex_lock(p->meeting.lock);
        if (!p->done)
            condition_wait_for(p->changed, p->meeting.lock, (uint64_t)TICK_MS * 1000000);
        done = p->done;
        fill_report(p, began_ns);
        fill_alerts(p);
        now = p->report;
        mutex_unlock(p->meeting.lock);
        if (!done && live->tick && !live->tick(live->cookie, &now))
            atomic_store(p->s->stopping, true);
    }
}

static enum akin_status start(struct pipeline *p, struct akin_error *error)
{
    const struct pipeline_settings *s = p->s;
    struct meeting *m = &p->meeting;
    m->lock = mutex_create();
    m->arrived = condition_create();
    m->room = condition_create();
    p->feeds = memory_alloc(s->source_count, sizeof *p->feeds);
    p->taken = memory_alloc(s->source_count, sizeof *p->taken);
    p->changed = condition_create();
    if (!m->lock || !m->arrived || !m->room || !p->changed || !p->feeds || !p->taken
        || !live_batch_init(&p->batch))
        return error_memory(error);
    for (; p->feed_count < s->source_count; p->feed_count++)
        TRY(feed_start(&p->feeds[p->feed_count], m, s->sources[p->feed_count].source,
                       s->sources[p->feed_count].drain, s->live->queue_events, error));
    p->thread = thread_start(judge_all, p, false);
    return p->thread ? AKIN_OK : error_set(error, AKIN_MEMORY, "the system starts no thread");
}

static void finish(struct pipeline *p)
{
    if (p->meeting.lock) {
        atomic_store(p->s->stopping, true);
        mutex_lock(p->meeting.lock);
        p->meeting.over = true;
        condition_wake(p->meeting.room);
        mutex_unlock(p->meeting.lock);
    }
    thread_join(&p->thread);
    for (size_t i = 0; i < p->feed_count; i++)
        feed_join(&p->feeds[i]);
    live_batch_deinit(&p->batch);
    memory_free(p->feeds);
    memory_free(p->taken);
    condition_destroy(&p->meeting.arrived);
    condition_destroy(&p->meeting.room);
    condition_destroy(&p->changed);
    mutex_destroy(&p->meeting.lock);
}

enum akin_status pipeline_run(const struct pipeline_settings *settings,
                              struct akin_watch_live_report *report, struct akin_error *error)
{
    struct akin_error judging;
    uint64_t began_ns = clock_monotonic_ns();
    struct pipeline p = {
        .s = settings, .seen = settings->learned, .batch_max = BATCH_MIN, .error = &judging,
        .meeting = { .stopping = settings->stopping, .cookie = settings->live->cookie,
                     .note = settings->live->note },
        .batch = { .scorer = settings->scorer, .keeper = settings->keeper,
                   .alerts = settings->alerts, .explain = settings->live->alerts.explain },
        .report = { .learning = !scorer_trained(settings->scorer) },
    };
    enum akin_status status = start(&p, error);
    if (status == AKIN_OK) {
        attend(&p, began_ns);
        thread_join(&p.thread);
        status = p.status;
        if (status != AKIN_OK && error)
            *error = judging;
        if (settings->alerts)
            (void)alerts_flush(settings->alerts, FLUSH_MS);
        for (size_t i = 0; i < p.feed_count; i++) /* the sources hear of the last batch */
            thread_join(&p.feeds[i].thread);
        fill_report(&p, began_ns);
        fill_alerts(&p);
    }
    for (size_t i = 0; status == AKIN_OK && i < p.feed_count; i++)
        if (p.feeds[i].status != AKIN_OK) {
            status = p.feeds[i].status;
            if (error)
                *error = p.feeds[i].error;
        }
    *report = p.report;
    finish(&p);
    return status;
}
