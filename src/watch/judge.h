/* Batches of events in, verdicts out: mask, find the kind, embed the kinds that are new, score,
 * learn. Where events come from and where verdicts go is not known here. One thread at a time. */
#pragma once

#include "akin/watch.h"
#include "events/event.h"
#include "watch/feedback.h"

struct kernels;
struct model;
struct judge;

enum { JUDGE_BATCH_MAX = 4096 };

/* One event of a batch, and what became of it. */
struct judged {
    const struct event *event;
    bool history;           /* learned, and no verdict; ignored once there was an event that is not */
    double weight;          /* what it counts for as history: 1, less where it was alarmed on */
    uint64_t kind;          /* out: id of its template */
    double surprise;        /* out: -ln of probability; 0 for history */
    bool scored, alert;     /* out; not scored: of the history */
    uint32_t slot;          /* the judge's own */
};

/* Each may be NULL. Kinds are told when they get a vector, before the events of their batch. */
struct judge_sink {
    struct akin_watch_sink verdicts;
    void *cookie;
    enum akin_status (*kind)(void *cookie, uint64_t kind, const char *text, const float *vector,
                             size_t dimension, struct akin_error *error);
};

/* `model` may be NULL: no distances between texts. AKIN_ARGUMENT, AKIN_MEMORY. */
enum akin_status judge_open(const struct kernels *kernels, struct model *model,
                            const struct akin_watch_settings *settings, struct judge **judge,
                            struct akin_error *error);
void judge_close(struct judge **judge);
void judge_settings_default(struct akin_watch_settings *settings);

/* At most JUDGE_BATCH_MAX events, in order. How they are cut into batches changes no verdict but
 * for which kinds' vectors are there. Adds to the report's counts. After an error the judge may go
 * on with other events. `session_idle` as in akin_watch_input. */
enum akin_status judge_batch(struct judge *judge, struct judged *batch, size_t count,
                             uint64_t session_idle, const struct judge_sink *sink,
                             struct akin_watch_report *report, struct akin_error *error);
/* Judges the sessions that are open still. */
enum akin_status judge_end(struct judge *judge, const struct judge_sink *sink,
                           struct akin_watch_report *report, struct akin_error *error);

/* Ends the history now; nothing where it has ended. */
enum akin_status judge_end_history(struct judge *judge, struct akin_error *error);
bool judge_trained(const struct judge *judge);
size_t judge_kinds(const struct judge *judge);

/* A vector that is known from earlier, for kinds with that id; NULL is fine where there is no
 * model. AKIN_MEMORY. */
enum akin_status judge_know(struct judge *judge, uint64_t kind, const float *vector,
                            struct akin_error *error);
/* The kind that such an event has now; it is made where there is none. */
enum akin_status judge_kind_of(struct judge *judge, const struct event *event, uint64_t *kind,
                               struct akin_error *error);
/* The labels that people gave, all of them; they replace those given before. */
enum akin_status judge_feedback(struct judge *judge, struct feedback_label *labels, size_t count,
                                struct akin_error *error);
/* What an event of that kind must exceed in -ln of probability to raise an alarm. */
double judge_threshold(const struct judge *judge, uint64_t kind);
