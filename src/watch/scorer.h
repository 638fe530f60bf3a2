/* Batches of events in, verdicts out: mask, find the kind, embed the kinds that are new, score,
 * learn. Where events come from and where verdicts go is not known here. One thread at a time. */
#pragma once

#include "akin/watch.h"
#include "events/event.h"
#include "watch/feedback.h"

struct kernels;
struct model;
struct scorer;
struct thread_pool;

/* What a scorer computes with. */
struct scorer_tools {
    const struct kernels *kernels;
    struct thread_pool *pool;       /* shares out what is large; NULL: none */
    struct model *model;            /* NULL: no distances between texts */
    /* The model has failed, as a card may: another one with the same vectors but for rounding, for
     * what it was asked and all that follows; NULL: there is none. May be NULL. */
    struct model *(*instead)(void *cookie, enum akin_status status, const struct akin_error *why);
    void *cookie;
};

enum { SCORER_BATCH_MAX = 4096 };

/* One event of a batch, and what became of it. */
struct judged {
    const struct event *event;
    bool history; /* learned, and no verdict; ignored once there was an event that is not */
    double weight;          /* what it counts for as history: 1, less where it was alarmed on */
    uint64_t kind;          /* out: id of its template */
    double surprise;        /* out: -ln of probability; 0 for history */
    bool scored, alert;     /* out; not scored: of the history */
    uint32_t slot;          /* the scorer's own */
};

/* Each may be NULL. Kinds are told when they get a vector, before the events of their batch. */
struct scorer_sink {
    struct akin_watch_sink verdicts;
    void *cookie;
    enum akin_status (*kind)(void *cookie, uint64_t kind, const char *text, const float *vector,
                             size_t dimension, struct akin_error *error);
};

/* The tools are copied. AKIN_ARGUMENT, AKIN_MEMORY. */
enum akin_status scorer_open(const struct scorer_tools *tools,
                            const struct akin_watch_settings *settings, struct scorer **scorer,
                            struct akin_error *error);
void scorer_close(struct scorer **scorer);
void scorer_settings_default(struct akin_watch_settings *settings);

/* At most SCORER_BATCH_MAX events, in order. How they are cut into batches changes no verdict but
 * for which kinds' vectors are there. Adds to the report's counts. After an error the scorer may go
 * on with other events. `session_idle` as in akin_watch_input. */
enum akin_status scorer_batch(struct scorer *scorer, struct judged *batch, size_t count,
                             uint64_t session_idle, const struct scorer_sink *sink,
                             struct akin_watch_report *report, struct akin_error *error);
/* Judges the sessions that are open still. */
enum akin_status scorer_end(struct scorer *scorer, const struct scorer_sink *sink,
                           struct akin_watch_report *report, struct akin_error *error);

/* Ends the history now; nothing where it has ended. */
enum akin_status scorer_end_history(struct scorer *scorer, struct akin_error *error);
bool scorer_trained(const struct scorer *scorer);
size_t scorer_kinds(const struct scorer *scorer);
size_t scorer_dimension(const struct scorer *scorer);    /* of vectors; 0: there is no model */

/* A vector that is known from earlier, for kinds with that id; NULL is fine where there is no
 * model. AKIN_MEMORY. */
enum akin_status scorer_know(struct scorer *scorer, uint64_t kind, const float *vector,
                            struct akin_error *error);
/* The kind that such an event has now; it is made where there is none. */
enum akin_status scorer_kind_of(struct scorer *scorer, const struct event *event, uint64_t *kind,
                               struct akin_error *error);
/* The labels that people gave, all of them; they replace those given before. */
enum akin_status scorer_feedback(struct scorer *scorer, struct feedback_label *labels, size_t count,
                                struct akin_error *error);
/* What an event of that kind must exceed in -ln of probability to raise an alarm. */
double scorer_threshold(const struct scorer *scorer, uint64_t kind);
