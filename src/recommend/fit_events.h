/* What a taste is learned from: the ratings of the catalogue, and behind them those that were made
 * live since (akin.db). Of several ratings of one item by one person the latest stays, as in the
 * catalogue; one that was made live is later than any of the catalogue. */
#pragma once

#include "recommend/histories.h"

struct catalog;

struct fit_events {
    struct history_event *events;       /* [count] of one person in their order */
    size_t count, users;        /* people, new ones included */
    size_t live;                /* events among those that are not of the catalogue */
};

/* People are numbered as in the catalogue, new ones behind them. AKIN_LIMIT: more events or people
 * than fit. What live_store_open refuses is refused. */
enum akin_status fit_events_read(const struct catalog *catalog, struct fit_events *events,
                                 struct akin_error *error);
void fit_events_deinit(struct fit_events *events);
/* The same as histories. */
enum akin_status fit_histories(const struct catalog *catalog, const struct fit_events *events,
                               struct histories *histories, struct akin_error *error);
