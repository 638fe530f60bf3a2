/* The live half of `akin watch`. */
#pragma once

#include "cli/cli.h"

/* Whether the options make sense, before a model is opened. */
enum akin_status watch_live_check(struct cli *cli, const char *replay);
/* Watches what --source names, or with `replay` (may be NULL) that file. */
enum akin_status watch_live_run(struct cli *cli, struct akin_watch *watch, const char *replay);
