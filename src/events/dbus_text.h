/* A message of D-Bus as one readable line:
 *
 *     org.freedesktop.systemd1.Manager.UnitNew /org/freedesktop/systemd1 ssh.service /org/...
 *
 * Signals and method calls begin with interface, member and path; errors with the name of the
 * error; method returns with the word "return". Then come the arguments: numbers, true and false;
 * strings as they are, in quotes where they hold blanks, quotes, brackets or control characters; (a
 * struct), [an array], {a=dictionary}, a variant as what is in it; bytes as the text that they are,
 * or else in hexadecimal. The length of the line, of a string and of an array, and how deep they
 * nest are bounded; what is left out is told by "..." and, where it is known, a count. */
#pragma once

#include <systemd/sd-bus.h>

#include "base/memory.h"

enum {
    DBUS_TEXT_BYTES = 8192,         /* beyond, the line ends with " ..." */
    DBUS_TEXT_STRING_BYTES = 1024,
    DBUS_TEXT_ITEMS = 32,           /* of one array */
    DBUS_TEXT_DEPTH = 12,
};

/* Replaces what is in `out`; a message whose arguments cannot be read keeps what was read of them
 * with "..." behind. False only when memory is out. */
bool dbus_text(sd_bus_message *message, struct bytes *out);
