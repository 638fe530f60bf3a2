/* akin_watch_live: opens what its settings name, runs the pipeline, closes it all. */
#pragma once

#include "akin/watch.h"

struct scorer;
struct scorer_tools;

void live_watch_default(struct akin_watch_live *live);
/* As akin_watch_live. `tools` and `settings` are those of the scorer. */
enum akin_status live_watch_run(struct scorer *scorer, const struct scorer_tools *tools,
                          const struct akin_watch_settings *settings,
                          const struct akin_watch_live *live,
                          struct akin_watch_live_report *report, struct akin_error *error);
