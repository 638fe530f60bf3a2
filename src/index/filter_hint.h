/* What is strange about a filter for the rows that there are: a field that no row has, beside the
 * one that was probably meant, or a condition that no value of a field's type can pass. It is no
 * mistake, since the next row may bring the field: a hint for people. */
#pragma once

#include "base/limits.h"
#include "index/filter_program.h"

/* Gathers what there is for one condition. Begin with { .node = ... }. */
struct filter_hint {
    const struct filter_node *node;
    bool known, texts, numbers;
    size_t distance;                    /* of the nearest name, if that is not empty */
    char nearest[METADATA_NAME_BYTES_MAX + 1];
};

/* A field that there is; the same one may come any number of times. */
void filter_hint_field(struct filter_hint *hint, const char *name, size_t bytes, bool texts,
                       bool numbers);
/* One sentence into text[bytes]; false, and "": nothing is strange. */
bool filter_hint_say(const struct filter_hint *hint, const struct filter *filter, char *text,
                     size_t bytes);

/* Letters to change, insert, drop or swap with the next one; SIZE_MAX: too many for a slip. */
size_t name_distance(const char *a, size_t a_bytes, const char *b, size_t b_bytes);
