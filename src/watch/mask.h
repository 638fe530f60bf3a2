/* What changes from event to event of one kind, replaced by what it is: numbers (decimal and
 * hexadecimal alike, so that a value without letters is no other kind than one with) by <n>, UUIDs,
 * addresses, paths, times with the name of a month and keys in base 64 by <uuid>, <ip>, <mac>,
 * <email>, <path>, <time>, <key>. One pass, no regular expression; identifiers glued to words are
 * masked too (<uuid>_del, blk_-123, tap8327ce4e-4f), and so are digits inside a word: br0 and br1
 * are one kind. */
#pragma once

#include "base/memory.h"

/* Replaces the contents of `out` (NUL added behind); out->failed where memory is out. */
void mask_text(const char *text, size_t bytes, struct bytes *out);
