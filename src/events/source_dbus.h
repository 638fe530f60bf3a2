/* Messages of a bus as events, by monitoring it. What they read like: dbus_text.h. */
#pragma once

#include "events/source.h"

/* Signals, method calls and errors, unless settings->match says otherwise; method returns only
 * where a rule names them. source is the interface, or the sender where there is none; level
 * "error" for errors, else "info"; time that of arrival. fields.source and fields.session may name
 * what they are taken from: sender, destination, path, interface or member. A bus tells nothing
 * twice, so there is no cursor; ids are those of this connection. Our own alarms are left out. */
enum akin_status source_dbus_open(const struct akin_watch_source *settings, const char *cursor,
                                  struct source_note note, struct event_source **source,
                                  struct akin_error *error);
