/* Which titles share words, and how rare these are: the cosine of two titles as sets of words, each
 * weighted by idf^2, idf = ln(items / items with the word). So "Goldfinger" finds nothing by it,
 * and "Star Trek: First Contact" its crew. The year at the end, articles and the numbers of sequels
 * are no words of a title. */
#pragma once

#include "base/status.h"
#include "recommend/gather.h"

struct catalog;
struct titles;

enum akin_status titles_create(const struct catalog *catalog, struct titles **titles,
                               struct akin_error *error);
void titles_destroy(struct titles **titles);
uint64_t titles_bytes(const struct titles *titles);

/* The cosine of each item that has a word of this one's, itself included, to `out`, which is
 * clear. */
void titles_gather(const struct titles *titles, size_t row, struct gather *out);
/* The same for one other item. */
float titles_cosine(const struct titles *titles, size_t row, size_t other);

/* Whether `word` [bytes], folded as by title_key, is one that titles_gather leaves out. */
bool titles_skip(const char *word, size_t bytes);
