/* Opening the journal for what is wanted of it: which files, which filters. */
#pragma once

#include <systemd/sd-journal.h>

#include "events/source.h"

struct journal_what {           /* views */
    const char *folder;         /* NULL: the system's journal */
    const char *const *match;   /* as in source_journal.h */
    size_t match_count;
    int priority;
};

/* A negative errno; *refused is then the filter that is none, or NULL. */
int journal_handle_open(const struct journal_what *what, sd_journal **journal,
                        const char **refused);
/* Tells of each file that cannot be opened: libsystemd leaves those out without a word. */
void journal_handle_check(const struct journal_what *what, const struct source_note *note,
                          const char *name);
