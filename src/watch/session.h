/* What a session looks like among those of the past: how often each kind of event is in it (a
 * vector of hashed counts), in which order (3-grams of kinds), and what should have followed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct session_step {
    uint64_t kind;          /* id of the template */
    uint32_t slot;          /* where it was; for who scores events */
};

struct session {
    char *name;
    size_t name_bytes;
    uint64_t first_event, last_event;   /* in order of arrival */
    struct session_step *steps;         /* at most SESSION_EVENTS_MAX */
    size_t step_count, step_capacity;
    double event_max;                   /* the strangest of its events */
    bool scored;                        /* has events behind the history */
};

enum { SESSION_COUNTS, SESSION_ORDER, SESSION_MISSING, SESSION_EVENT, SESSION_PARTS };

struct session_model;

struct session_model *session_model_create(void);   /* NULL: no memory */
void session_model_destroy(struct session_model **model);
/* After some ten thousand sessions all that is known counts half. false: no memory; what was
 * learned of it so far stays. */
bool session_model_learn(struct session_model *model, const struct session *session);
double session_model_count(const struct session_model *model);
/* How strange each part is, unbounded above; SESSION_EVENT is left to the caller. `own`: the
 * session is among those that were learned, and is not compared with itself. */
void session_model_measure(struct session_model *model, const struct session *session, bool own,
                           double parts[SESSION_PARTS]);
