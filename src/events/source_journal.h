/* Entries of the journal of systemd as events, followed as they are written. */
#pragma once

#include "events/source.h"

/* settings->address is a folder of journal files, NULL the system's journal. match: FIELD=value;
 * values of one field are joined by "or", fields by "and", and "+" between them by "or";
 * unit=NAME is what `journalctl --unit` shows. priority 7 is all entries, also those without one.
 *
 * text is MESSAGE, source _SYSTEMD_UNIT, SYSLOG_IDENTIFIER or _COMM, the first that is there, level
 * the name of PRIORITY, time that of reception by the journal, session empty: fields.* name other
 * fields of the journal. An entry without a text is no event (SOURCE_BAD). A text longer than
 * EVENT_BYTES_MAX ends with " ...".
 *
 * `cursor` is what the last event had. NULL or "": the system's journal from now, a folder from its
 * oldest entry; "t=" and microseconds since 1970 in hexadecimal: from the first entry of then or
 * later. Where the entry of the cursor is not there any more, reading goes on at the first behind
 * it; where there is none, at its time; where that says nothing, at the oldest entry, because what
 * is seen twice has the same id; `note` hears of it. */
enum akin_status source_journal_open(const struct akin_watch_source *settings, const char *cursor,
                                     struct source_note note, struct event_source **source,
                                     struct akin_error *error);
