/* The normalizers of a tokenizer.json, run one after the other over a stretch of text. */
#pragma once

#include "text/charsmap.h"
#include "text/decompose.h"
#include "text/text_buffer.h"
#include "text/unicode.h"

enum normalizer_kind {
    NORMALIZER_BERT,
    NORMALIZER_STRIP,
    NORMALIZER_STRIP_ACCENTS,
    NORMALIZER_FORM,
    NORMALIZER_LOWERCASE,
    NORMALIZER_NMT,
    NORMALIZER_PRECOMPILED,
    NORMALIZER_REPLACE,
    NORMALIZER_PREPEND,
};

struct normalizer {
    enum normalizer_kind kind;
    bool clean, cjk, strip_accents, lower;      /* BERT */
    bool left, right;                           /* Strip */
    int form;                                   /* NFC, NFD, NFKC, NFKD */
    struct charsmap charsmap;                   /* Precompiled */
    /* Replace: `pattern` repeated repeat_min times or more (as often as it fits where repeats is
     * set, else once) becomes `content`; Prepend: content. */
    struct bytes pattern, content;
    size_t repeat_min;
    bool repeats;
};

struct normalizers {
    struct normalizer *items;
    size_t count, capacity;
};

void normalizers_deinit(struct normalizers *normalizers);

/* Whether a text may be cut where one letter or digit, one space and another letter or digit (all
 * ASCII) follow each other, before the space, and its parts normalised apart with the same result.
 */
bool normalizers_are_local(const struct normalizers *normalizers);

/* *text is both input and output; *spare is another buffer; either may come back as the result. */
void normalizers_apply(const struct normalizers *normalizers, const struct unicode *unicode,
                       struct decomposer *decomposer, struct text_buffer **text,
                       struct text_buffer **spare);
