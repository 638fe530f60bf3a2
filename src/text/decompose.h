/* Normalisation forms D, KD, C and KC of a text (UAX 15), with the bookkeeping of text_pass. */
#pragma once

#include "text/text_buffer.h"
#include "text/unicode.h"

/* Code points held back until their order is known: a starter and the marks that follow it. */
struct combining {
    uint32_t code;
    uint8_t combining_class;
    int8_t change;
};

struct decomposer {
    struct combining *pending;      /* since the last starter */
    struct combining *sorted;       /* for long runs */
    size_t count, pending_capacity, sorted_capacity;
};

enum { FORM_COMPATIBLE = 1, FORM_COMPOSED = 2 };    /* NFD is 0, NFKC is both */

void decomposer_deinit(struct decomposer *decomposer);

/* Where a filter is wanted, such as BERT's: code points for which `keep` is false are left out, and
 * with `lower` the others become lower case. */
struct decompose_filter {
    unsigned drop;      /* CODE_... flags; 0: keep all */
    bool lower;
};

/* Writes the form of `from` into `to`. The filter is for forms that are not composed. */
void text_decompose(const struct unicode *unicode, struct decomposer *decomposer, int form,
                    struct decompose_filter filter, const struct text_buffer *from,
                    struct text_buffer *to);
