/* Lines in, verdicts out: parse, mask, find the kind, embed the kinds that are new, score, learn. A
 * source is where lines come from; there is one so far, a file or standard input. */
#pragma once

#include "akin/watch.h"

struct kernels;
struct model;
struct watch;

/* `model` may be NULL. As akin_watch_open, akin_watch_run. */
enum akin_status watch_open(const struct kernels *kernels, struct model *model,
                            const struct akin_watch_settings *settings, struct watch **watch,
                            struct akin_error *error);
void watch_close(struct watch **watch);
void watch_settings_default(struct akin_watch_settings *settings);
enum akin_status watch_run(struct watch *watch, const struct akin_watch_input *input,
                           const struct akin_watch_sink *sink, struct akin_watch_report *report,
                           struct akin_error *error);
