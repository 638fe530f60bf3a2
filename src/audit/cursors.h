/* Where each source has to go on: the cursor of its last record, in the order in which the sources
 * first had one. */
#pragma once

#include "audit/entry.h"
#include "base/hash.h"

struct cursor {
    char *source, *text;
    size_t source_bytes, bytes, capacity;
};

struct cursors {
    struct cursor *items;
    size_t count, capacity;
    struct string_map map;          /* source to item */
};

/* Takes over the cursor of an entry, if it has one. */
enum akin_status cursors_take(struct cursors *cursors, const struct entry *entry,
                              struct akin_error *error);
/* NULL: none. */
const struct cursor *cursors_find(const struct cursors *cursors, const char *source,
                                  size_t bytes);
void cursors_append(const struct cursors *cursors, struct bytes *out);
/* From what cursors_append wrote, all of it; false when it is anything else or memory is out. */
bool cursors_read(struct cursors *cursors, const unsigned char *bytes, size_t count);
void cursors_deinit(struct cursors *cursors);
