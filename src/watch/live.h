/* akin_watch_live: opens what its settings name, runs the pipeline, closes it all. */
#pragma once

#include "akin/watch.h"

struct scorer;
struct kernels;
struct model;

void live_watch_default(struct akin_watch_live *live);
/* As akin_watch_live. `settings` are those of the scorer, for the trail; `model` may be NULL. */
enum akin_status live_watch_run(struct scorer *scorer, const struct kernels *kernels,
                          const struct model *model, const struct akin_watch_settings *settings,
                          const struct akin_watch_live *live,
                          struct akin_watch_live_report *report, struct akin_error *error);
