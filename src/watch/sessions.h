/* The sessions that are open, and the judgement of those that end. */
#pragma once

#include "akin/watch.h"
#include "watch/session.h"
#include "watch/tail.h"

struct sessions;

struct sessions *sessions_create(double alarm);     /* NULL: no memory */
void sessions_destroy(struct sessions **sessions);

/* An event of session `name`, the `event`-th of all. *refused: there are too many sessions, and it
 * was not taken. false: no memory. */
bool sessions_add(struct sessions *sessions, const char *name, size_t bytes,
                  struct session_step step, uint64_t event, double strangeness, bool scored,
                  bool *refused);

/* How strange an event of that kind is by what is known now, for the history's sessions. */
struct step_judge {
    void *cookie;
    double (*strangeness)(void *cookie, struct session_step step);
};

/* Ends the history: learns the sessions that were complete, leaves out those that it would raise an
 * alarm on, learns again, and lays the tails. Those still going on stay open. */
enum akin_status sessions_train(struct sessions *sessions, struct step_judge judge,
                                struct akin_error *error);

/* Judges and forgets the sessions without an event since `before`, in the order of their first; one
 * that raises no alarm is learned. Those with no event behind the history are only forgotten. */
enum akin_status sessions_close(struct sessions *sessions, uint64_t before,
                                const struct akin_watch_sink *sink,
                                struct akin_watch_report *report, struct akin_error *error);
