/* Finds titles as people type them, and the nearest ones where none fits. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

struct title_entry;

struct title_index {
    struct title_entry *entries;    /* sorted by hash of the key, then row */
    size_t count, capacity;
    struct string_pool keys;
};

/* Adds the ways in which `title` may be typed. Rows come in ascending order. */
enum akin_status title_index_add(struct title_index *index, uint32_t row, const char *title,
                                 int year, struct akin_error *error);
/* Call once, after the last add. */
void title_index_sort(struct title_index *index);
void title_index_deinit(struct title_index *index);
uint64_t title_index_bytes(const struct title_index *index);

/* The row that `query` means: a year in it must agree (an item without a year will do if none
 * does); then the title's own name goes before its alternates, and those before its beginning
 * ("star wars" for "Star Wars: Episode IV - A New Hope"), and a typed article before a name without
 * it; then the most rated (`ratings` [row]) wins, then the lowest row. */
bool title_index_find(const struct title_index *index, const uint32_t *ratings, const char *query,
                      uint32_t *row, struct akin_error *error, enum akin_status *status);

enum { TITLE_NEAREST = 5 };

/* Rows of the nearest titles, best first, by edit distance of the keys; a title that contains the
 * query counts as near. Returns how many there are, at most TITLE_NEAREST. */
size_t title_index_nearest(const struct title_index *index, const uint32_t *ratings,
                           const char *query, uint32_t *rows);
