/* What the tokenizers ask about code points, precomputed from utf8proc into one table of flags.
 *
 * The peer reads its properties from several Rust crates, of Unicode 8 (categories), 9
 * (normalisation) and 16 and later (lower case, words, graphemes), and ids follow from what it
 * reads. unicode_differences.inc, made by asking it about every code point, lists where it differs
 * from utf8proc's Unicode 15.0; the lists state the wanted value, so that a newer utf8proc changes
 * nothing inside them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum {
    CODE_CONTROL     = 1 << 0,  /* BERT's clean-up removes it: Cc, Cf, Co, U+0000, U+FFFD */
    CODE_SPACE       = 1 << 1,  /* White_Space */
    CODE_PUNCTUATION = 1 << 2,  /* as BERT: P*, and all ASCII that is neither letter nor digit */
    CODE_NONSPACING  = 1 << 3,  /* Mn */
    CODE_MARK        = 1 << 4,  /* M* */
    CODE_WORD        = 1 << 5,  /* \w of UTS 18 */
    CODE_CJK         = 1 << 6,  /* BERT's "Chinese character" */
    CODE_DECOMPOSES  = 1 << 7,  /* canonically */
    CODE_COMPATIBLE  = 1 << 8,  /* has a compatibility decomposition */
    CODE_UPPER       = 1 << 9,  /* lower case differs */
    CODE_REORDERS    = 1 << 10, /* combining class is not 0 */
    CODE_LINKER      = 1 << 11, /* joins Indic consonants (GB9c) */
    GRAPHEME_SHIFT   = 12,      /* then an enum grapheme_class */
};

enum grapheme_class {
    GRAPHEME_OTHER, GRAPHEME_CR, GRAPHEME_LF, GRAPHEME_CONTROL, GRAPHEME_EXTEND, GRAPHEME_ZWJ,
    GRAPHEME_SPACING, GRAPHEME_PREPEND, GRAPHEME_REGIONAL, GRAPHEME_L, GRAPHEME_V, GRAPHEME_T,
    GRAPHEME_LV, GRAPHEME_LVT, GRAPHEME_PICTOGRAPHIC, GRAPHEME_CONSONANT,
};

enum { CODE_POINTS = 0x110000, DECOMPOSITION_MAX = 32 };

struct unicode {
    uint16_t page_of[CODE_POINTS >> 8];
    uint16_t *pages;    /* [page][256] */
};

enum akin_status unicode_init(struct unicode *unicode, struct akin_error *error);
void unicode_deinit(struct unicode *unicode);

static inline unsigned unicode_flags(const struct unicode *unicode, uint32_t code)
{
    return unicode->pages[(size_t)unicode->page_of[code >> 8] << 8 | (code & 0xff)];
}

/* Lower case of one code point without context, one or two code points; returns how many. */
int unicode_lower(uint32_t code, uint32_t lower[2]);
/* Full decomposition; returns the number of code points, >= 1. */
int unicode_decompose(uint32_t code, bool compatible, uint32_t out[DECOMPOSITION_MAX]);
/* The primary composite of a pair, or 0. */
uint32_t unicode_compose(uint32_t first, uint32_t second);
int unicode_combining_class(uint32_t code);

/* The end of the extended grapheme cluster (UAX 29, as of Unicode 17) that begins at text[begin].
 * `text` is valid UTF-8. */
size_t unicode_grapheme_end(const struct unicode *unicode, const char *text, size_t begin,
                            size_t bytes);
