/* Titles as they are published and as people type them: the year, the parts in parentheses, and a
 * folded key in which case, accents, punctuation and the place of an article do not matter. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/memory.h"

enum { TITLE_PARTS_MAX = 8 };

struct title_part {
    const char *text;
    size_t bytes;
};

/* A title taken apart: "City of Lost Children, The (La cite) (1995)" has the main part "City of
 * Lost Children, The", the alternate "La cite" and the year 1995. */
struct title {
    int year;                       /* 0: none */
    struct title_part whole;        /* without the year */
    struct title_part outside[TITLE_PARTS_MAX];    /* text outside parentheses */
    size_t outside_count;
    struct title_part inside[TITLE_PARTS_MAX]; /* text of each parenthesis, "a.k.a." taken off */
    size_t inside_count;
};

void title_parse(const char *text, size_t bytes, struct title *title);

/* The year in the last parenthesis of the form (1999), (1999-2001) or (1999- ), with a hyphen or a
 * dash; 0 if there is none. */
int title_year(const char *text, size_t bytes);

/* Takes a year that stands behind a blank at the end, as in "toy story 1995"; false if none does.
 */
bool title_take_bare_year(struct title_part *text, int *year);

/* Appends the key of parts: letters and digits only, folded; ", The" moved to the front. `bare`
 * leaves out that article, or "the", "a", "an" at the beginning. */
void title_key(struct bytes *key, const struct title_part *parts, size_t count, bool bare);

/* Lower case by code point; invalid bytes become U+FFFD; runs of blanks and control characters
 * become one blank; trimmed. Used for tags. */
void title_lower(struct bytes *out, const char *text, size_t bytes);

struct title_part title_trim(const char *text, size_t bytes);
