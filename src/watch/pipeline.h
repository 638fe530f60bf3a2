/* From sources to alarms, live: one thread for each source, one that judges.
 *
 * A source's thread copies each event into the source's own bounded queue. Where the queue is full,
 * a source that waits is not asked for more; from one that cannot wait all is taken, and what finds
 * no room is dropped, counted and told. The judging thread takes what is there, each source in
 * turn, so that a busy one does not hold up the others: events that come within the deadline go
 * together, for one run of the model and one wait for the disk. A batch is judged, then made
 * durable (keeper.h), and only then are alarms raised and the sources told to let go of it.
 * Whatever happens before that leaves the batch with its source. */
#pragma once

#include "events/source.h"
#include "watch/alerts.h"
#include "watch/scorer.h"
#include "watch/keeper.h"
#include "watch/labels.h"

struct pipeline_source {
    struct event_source *source;
    bool drain; /* what has come already is read before a stop, for nobody keeps it */
};

struct pipeline_settings {
    struct scorer *scorer;
    struct keeper *keeper;
    struct labels *labels;      /* may be NULL */
    struct alerts *alerts;      /* may be NULL */
    const struct pipeline_source *sources;
    size_t source_count;
    const struct akin_watch_live *live;     /* deadline, queue, history, sessions, report */
    uint64_t learned;           /* of the history, before the first event */
    uint64_t history_ns;        /* monotonic: the history ends then; 0: by count */
    atomic_bool *stopping;
};

/* Runs until the sources have ended, or `live->tick` says stop, and then until what was taken is
 * durable. AKIN_IO: the disk or a source failed; others than it went on to their end. */
enum akin_status pipeline_run(const struct pipeline_settings *settings,
                              struct akin_watch_live_report *report, struct akin_error *error);
