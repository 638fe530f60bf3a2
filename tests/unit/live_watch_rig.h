/* A watch whose sources are made up, for tests of the pipeline. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/thread.h"
#include "watch/pipeline.h"
#include "watch/warm.h"

/* Hands out events [next, end): their text is "<word> <number>", their cursor the number behind. */
struct made_source {
    struct event_source base;
    uint64_t next, end;
    const char *word;
    const char *session;        /* NULL: none */
    bool ids;
    bool distinct;              /* each of a kind of its own */
    uint64_t odd;               /* this one is of a kind of its own, and an error */
    uint64_t pause_at;          /* nothing comes from here on until *go */
    atomic_bool *go;
    uint64_t fail_at;
    uint64_t acknowledged, acknowledgements;
    uint64_t handed;
    struct event_store *store;  /* may be NULL: what is acknowledged must be in it */
    bool too_early;
    char text[128], id[64], cursor[32];
};

/* Two words that no two events share. */
static inline void made_kind(struct made_source *m)
{
    uint64_t number = m->next, words[2] = {number, number * 7919 + 17};
    size_t at = (size_t)snprintf(m->text, sizeof m->text, "%s", m->word);
    for (int w = 0; w < 2; w++) {
        m->text[at++] = ' ';
        for (int letter = 0; letter < 5; letter++, words[w] /= 26)
            m->text[at++] = (char)('a' + words[w] % 26);
    }
    snprintf(m->text + at, sizeof m->text - at, " %llu", (unsigned long long)number);
}

static inline enum akin_status made_next(struct event_source *source, int timeout_ms,
                                         struct event *event, enum source_state *state,
                                         struct akin_error *error)
{
    struct made_source *m = (struct made_source *)source;
    *state = SOURCE_QUIET;
    if (!event) {
        clock_sleep_us((unsigned)timeout_ms * 1000);
        return AKIN_OK;
    }
    if (m->next == m->end) {
        *state = SOURCE_END;
        return AKIN_OK;
    }
    if (m->fail_at && m->next >= m->fail_at)
        return error_set(error, AKIN_IO, "the wire is cut");
    if (m->go && m->next >= m->pause_at && !atomic_load(m->go)) {
        clock_sleep_us((unsigned)timeout_ms * 1000);
        return AKIN_OK;
    }
    bool odd = m->odd && m->next == m->odd;
    snprintf(m->text, sizeof m->text, "%s %llu", odd ? "the kernel is on fire" : m->word,
             (unsigned long long)m->next);
    if (m->distinct)
        made_kind(m);
    snprintf(m->id, sizeof m->id, "%s-%llu", m->base.name, (unsigned long long)m->next);
    snprintf(m->cursor, sizeof m->cursor, "%llu", (unsigned long long)++m->next);
    *event = (struct event){ .text = m->text, .text_bytes = strlen(m->text),
                             .level = odd ? "fatal" : "info", .cursor = m->cursor,
                             .id = m->ids ? m->id : "", .session = m->session,
                             .session_bytes = m->session ? strlen(m->session) : 0 };
    *state = SOURCE_EVENT;
    m->handed++;
    return AKIN_OK;
}

static inline enum akin_status made_stored(struct event_source *source, uint64_t ticket,
                                           struct akin_error *error)
{
    struct made_source *m = (struct made_source *)source;
    struct event_store_info info;
    (void)error;
    if (m->store) {
        event_store_info(m->store, &info);
        m->too_early = m->too_early || info.events < ticket;
    }
    m->too_early = m->too_early || ticket <= m->acknowledged || ticket > m->handed;
    m->acknowledged = ticket;
    m->acknowledgements++;
    return AKIN_OK;
}

static inline void made_close(struct event_source *source)
{
    (void)source;
}

static inline struct made_source made_source(const char *name, bool waits, uint64_t count)
{
    return (struct made_source){ .base = { .name = name, .waits = waits, .next = made_next,
                                           .stored = made_stored, .close = made_close },
                                 .end = count, .word = "took" };
}

struct live_rig {
    char folder[64], store_path[128], audit_path[128];
    struct scorer_tools tools;          /* nothing but counts where it is empty */
    struct scorer *scorer;
    struct keeper keeper;
    struct labels labels;
    struct alerts *alerts;
    struct akin_watch_live live;
    struct akin_watch_live_report report;
    atomic_bool stopping;
    uint64_t learned;
    struct bytes alarms, notes;         /* a line each */
    size_t alarm_count, note_count;
    struct mutex *lock;                 /* of the notes */
    uint64_t stop_after;                /* received; 0: never */
};

static inline bool rig_print(void *cookie, const char *json, size_t bytes)
{
    struct live_rig *r = cookie;
    bytes_append(&r->alarms, json, bytes);
    bytes_append(&r->alarms, "\n", 1);
    r->alarm_count++;
    return true;
}

static inline void rig_note(void *cookie, const char *line)
{
    struct live_rig *r = cookie;
    mutex_lock(r->lock);
    bytes_append_text(&r->notes, line);
    bytes_append_text(&r->notes, "\n");
    r->note_count++;
    mutex_unlock(r->lock);
}

static inline bool rig_tick(void *cookie, const struct akin_watch_live_report *report)
{
    struct live_rig *r = cookie;
    return !r->stop_after || report->received < r->stop_after;
}

/* A fresh process over what the folder has: scorer, store, trail, alarms. */
static inline void rig_open(struct live_rig *r, bool audit)
{
    struct akin_watch_settings settings;
    struct alerts_settings alerts;
    scorer_settings_default(&settings);
    atomic_store(&r->stopping, false);
    assert_int_equal(scorer_open(&r->tools, &settings, &r->scorer, NULL), AKIN_OK);
    snprintf(r->store_path, sizeof r->store_path, "%s/store", r->folder);
    snprintf(r->audit_path, sizeof r->audit_path, "%s/trail", r->folder);
    const struct event_store_settings store = { .folder = r->store_path,
                                                .kernels = r->tools.kernels,
                                                .model = r->tools.model ? "made" : NULL };
    r->keeper = (struct keeper){ .stopping = &r->stopping, .note = {r, rig_note},
                                 .audit_folder = audit ? r->audit_path : NULL };
    assert_int_equal(event_store_open(&store, (struct event_store_note){r, rig_note},
                                      &r->keeper.store, NULL), AKIN_OK);
    assert_int_equal(keeper_open(&r->keeper, NULL), AKIN_OK);
    r->labels = (struct labels){.scorer = r->scorer, .keeper = &r->keeper};
    alerts_settings_default(&alerts);
    alerts.print = rig_print;
    alerts.cookie = r;
    assert_int_equal(alerts_open(&alerts, &r->alerts, NULL), AKIN_OK);
    r->live = (struct akin_watch_live){ .deadline_ms = 1, .queue_events = 64,
                                        .learn_events = 200, .cookie = r, .tick = rig_tick,
                                        .note = rig_note };
}

static inline void rig_warm(struct live_rig *r)
{
    struct warm warm;
    assert_int_equal(warm_start(r->scorer, r->keeper.store, 10000, 0.25, &warm, NULL), AKIN_OK);
    r->learned = warm.learned;
    if (warm.learned >= r->live.learn_events)
        assert_int_equal(scorer_end_history(r->scorer, NULL), AKIN_OK);
    assert_int_equal(labels_look(&r->labels, true, NULL), AKIN_OK);
}

static inline void rig_close(struct live_rig *r)
{
    labels_deinit(&r->labels);
    alerts_close(&r->alerts, 100);
    keeper_close(&r->keeper);
    event_store_close(&r->keeper.store);
    scorer_close(&r->scorer);
}

static inline enum akin_status rig_run(struct live_rig *r, struct made_source *const *sources,
                                       size_t count, struct akin_error *error)
{
    struct pipeline_source list[8] = {{0}};
    for (size_t i = 0; i < count; i++) {
        list[i].source = &sources[i]->base;
        list[i].drain = !sources[i]->base.waits;
    }
    const struct pipeline_settings settings = {
        .scorer = r->scorer, .keeper = &r->keeper, .labels = &r->labels, .alerts = r->alerts,
        .sources = list, .source_count = count, .live = &r->live, .learned = r->learned,
        .stopping = &r->stopping,
    };
    return pipeline_run(&settings, &r->report, error);
}

static inline bool rig_set_up(struct live_rig *r)
{
    *r = (struct live_rig){.folder = "/tmp/akin_live_XXXXXX"};
    r->lock = mutex_create();
    return mkdtemp(r->folder) && r->lock;
}

static inline void rig_tear_down(struct live_rig *r)
{
    path_remove_tree(r->folder, NULL);
    bytes_deinit(&r->alarms);
    bytes_deinit(&r->notes);
    mutex_destroy(&r->lock);
}
