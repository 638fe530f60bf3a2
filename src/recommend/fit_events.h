/* What a taste is learned from: the ratings of the catalogue, and behind them those that were made
 * live since (akin.db). Of several ratings of one item by one person the latest stays, as in the
 * catalogue; one that was made live is later than any of the catalogue. */
#pragma once

#include "recommend/histories.h"

struct catalog;

struct fit_counts {
    size_t users, live;         /* people, new ones included; live events among those kept */
};

/* People are numbered as in the catalogue, new ones behind them. `counts` may be NULL.
 * AKIN_LIMIT: more events or people than fit. What live_store_open refuses is refused. */
enum akin_status fit_histories(const struct catalog *catalog, struct histories *histories,
                               struct fit_counts *counts, struct akin_error *error);
