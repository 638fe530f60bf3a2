/* Recommendations as people and programs read them. */
#pragma once

#include "cli/cli.h"

json_t *results_json(const struct akin_catalog *catalog, const struct akin_recommendation *results,
                     size_t count);
void results_print(const struct akin_catalog *catalog, const struct akin_recommendation *results,
                   size_t count);

/* Asks and answers for `akin recommend` and `akin search` over a catalogue; opens what it needs.
 * With `lists` the options --history and --exclude are read, with `explain` reasons are given. */
enum akin_status results_for_request(struct cli *cli, const struct akin_request *request,
                                     bool lists, bool explain);
