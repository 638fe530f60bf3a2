/* The protocol of akin/evaluate.h: a split file in, a table of metrics out. */
#pragma once

#include "akin/evaluate.h"
#include "base/status.h"

struct backend;
struct catalog;
struct graph_card;

void evaluate_settings_default(struct akin_evaluate_settings *settings);

/* `card`: that places the items of the graph (graph_place.h); NULL: none. */
enum akin_status evaluate(const struct backend *backend, const struct catalog *catalog,
                          const struct graph_card *card,
                          const struct akin_evaluate_settings *settings,
                          struct akin_evaluation *evaluation, struct akin_error *error);
