/* How long work takes, on standard error: a bar on a terminal, a line every few seconds elsewhere.
 * Also the home of the signals: the flag that Ctrl-C sets is what stops the work. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "akin/engine.h"

/* SIGINT and SIGTERM set a flag, and the second of them ends the process at once. SIGPIPE and
 * SIGXFSZ are ignored, so that the write that fails tells. */
void signals_install(void);
bool signals_interrupted(void);
/* From now on SIGUSR1 asks for a report; whether it did since the last call. */
void signals_take_reports(void);
bool signals_report_asked(void);
/* While nothing would be left half done, such as when waiting for input: the first signal ends the
 * process at once. */
void signals_end_at_once(bool at_once);

struct progress {
    bool quiet, terminal, color;
    bool bar_shown;
    const char *unit; /* "texts", "bytes"; NULL: not said */
    char stage[64];
    uint64_t begin_ns, shown_ns, done, total;
};

void progress_init(struct progress *progress, bool quiet);
/* Starts afresh, counting in `unit`, and gives what the library wants. */
struct akin_progress progress_begin(struct progress *progress, const char *unit);
bool progress_update(void *cookie, const char *stage, uint64_t done, uint64_t total);
/* Removes the bar; where the work took a while, one line says how much was done. */
void progress_end(struct progress *progress);
/* Removes the bar before something else is written. */
void progress_clear(struct progress *progress);
