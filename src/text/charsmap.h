/* SentencePiece's `precompiled_charsmap`: a Darts double array from byte strings to replacements.
 *
 * Applied as the peer does, per grapheme cluster: a cluster of fewer than six bytes is replaced as
 * a whole when any prefix of it is a key (by what the shortest one maps to), otherwise each of its
 * code points is looked up by itself. */
#pragma once

#include "base/memory.h"
#include "text/text_buffer.h"
#include "text/unicode.h"

struct charsmap {
    uint32_t *units;        /* the double array, bounds-checked at each step */
    size_t units_count;
    struct bytes blob;      /* replacements, each ended by a NUL */
};

/* From base64; AKIN_FORMAT with `where` when it is not one or its sizes do not fit. */
enum akin_status charsmap_init(struct charsmap *map, const char *base64, size_t bytes,
                               const char *where, struct akin_error *error);
void charsmap_deinit(struct charsmap *map);

/* The replacement for the shortest key that is a prefix of `part`; false when there is none. */
bool charsmap_find(const struct charsmap *map, const char *part, size_t bytes,
                   const char **replacement, size_t *replacement_bytes);
void charsmap_apply(const struct charsmap *map, const struct unicode *unicode,
                    const struct text_buffer *from, struct text_buffer *to);
