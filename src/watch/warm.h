/* What a watch knows before its first event: learned again from the last events of the store;
 * vectors of kinds are taken from it instead of from the model. */
#pragma once

#include "watch/event_store.h"
#include "watch/scorer.h"

struct warm {
    uint64_t learned;           /* events */
    int64_t first_us;           /* when the oldest event of the store came; 0: there is none */
};

/* As history, the last `events` of the store. Those that raised an alarm count `alarmed_weight`,
 * those labelled normal count whole, those labelled anomalies not at all. */
enum akin_status warm_start(struct scorer *scorer, struct event_store *store, size_t events,
                            double alarmed_weight, struct warm *warm, struct akin_error *error);
/* The event that was stored, as the scorer sees it. */
struct event stored_event_view(const struct stored_event *stored);
