/* A source slowed down to its events' own times, for replays: an event is handed out when so much
 * time has passed since the first as its time says, divided by `speed`. One whose time cannot be
 * read, or lies before that of the event in front of it, does not wait. */
#pragma once

#include "events/source.h"

/* Takes over *source, which is then the slowed one; closing it closes both. */
enum akin_status pace_source(struct event_source **source, double speed, struct akin_error *error);

/* A time as logs write it, in microseconds: "2026-01-02T03:04:05.678Z", with a blank or a dash for
 * the T, with dots for the colons, or a number of seconds, milliseconds, microseconds or
 * nanoseconds since 1970. Zones are not heeded. false: neither. */
bool pace_time(const char *text, int64_t *us);
