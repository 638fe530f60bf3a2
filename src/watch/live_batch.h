/* A batch of live events on its way through the scorer, the keeper and the alarms. */
#pragma once

#include "watch/alerts.h"
#include "watch/arrivals.h"
#include "watch/scorer.h"
#include "watch/keeper.h"

struct batch_verdict;
struct batch_session;

struct live_batch {
    struct scorer *scorer;
    struct keeper *keeper;
    struct alerts *alerts;              /* may be NULL */
    bool explain;                       /* alarms say why */
    size_t count;
    struct judged *judged;              /* [SCORER_BATCH_MAX] */
    struct arrival **events;       /* [SCORER_BATCH_MAX] */
    const char **origins;               /* [SCORER_BATCH_MAX] */
    struct kept_event *kept;            /* [SCORER_BATCH_MAX] */
    struct batch_verdict *verdicts;     /* [SCORER_BATCH_MAX] */
    size_t told;                        /* verdicts came for those before it */
    struct batch_session *sessions;
    size_t session_count, session_capacity;
    struct bytes members, json;
    uint64_t again;                     /* events that the store had */
};

bool live_batch_init(struct live_batch *batch);
void live_batch_deinit(struct live_batch *batch);
void live_batch_add(struct live_batch *batch, struct arrival *event, const char *origin,
                    bool history);
/* Scores what was added, or with `end` the sessions that are open still. Kinds go to the store. */
enum akin_status live_batch_judge(struct live_batch *batch, bool end, uint64_t session_idle,
                                  struct akin_watch_report *report, struct akin_error *error);
/* As keeper_keep. */
enum akin_status live_batch_keep(struct live_batch *batch, struct akin_error *error);
/* Raises the alarms, and empties the batch; false: somebody asked to stop. */
bool live_batch_alarm(struct live_batch *batch);
