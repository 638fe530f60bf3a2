/* A file or standard input from its start to its end, through a scorer; live sources in live.h. */
#pragma once

#include "akin/watch.h"

struct scorer_tools;
struct watch;

/* As akin_watch_open, akin_watch_run. */
enum akin_status watch_open(const struct scorer_tools *tools,
                            const struct akin_watch_settings *settings, struct watch **watch,
                            struct akin_error *error);
void watch_close(struct watch **watch);
enum akin_status watch_run(struct watch *watch, const struct akin_watch_input *input,
                           const struct akin_watch_sink *sink, struct akin_watch_report *report,
                           struct akin_error *error);
enum akin_status watch_live(struct watch *watch, const struct akin_watch_live *live,
                            struct akin_watch_live_report *report, struct akin_error *error);
