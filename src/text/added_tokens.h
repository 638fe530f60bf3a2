/* Added tokens: texts such as "[SEP]" that become one token wherever they occur, before (normalized
 * false) or after normalisation. Leftmost match, the longest at a place; matches do not overlap. */
#pragma once

#include "base/memory.h"
#include "text/text_buffer.h"
#include "text/trie.h"
#include "text/unicode.h"

struct added_token {
    struct bytes text;      /* as the file has it */
    struct bytes content;   /* what is matched: normalised where `normalized` */
    uint32_t id;
    bool single_word, left, right, normalized, special;
};

struct added_tokens {
    struct added_token *items;
    size_t count, capacity;
    struct trie raw, normalized;            /* values index items */
    bool raw_first[256], normalized_first[256];
    bool any_raw, any_normalized;
};

/* Builds the tries from the items; AKIN_FORMAT when two of them match the same text. */
enum akin_status added_tokens_index(struct added_tokens *tokens, const char *where,
                                    struct akin_error *error);
void added_tokens_deinit(struct added_tokens *tokens);

struct added_match {
    const struct added_token *token;    /* NULL: none */
    size_t begin, end;
};

/* The next match in bytes[at, count), in the raw or the normalised set. `from` is the end of what
 * is already taken (for spaces to the left). Pass *at back in to go on behind it. */
struct added_match added_tokens_next(const struct added_tokens *tokens, bool normalized,
                                     const struct unicode *unicode, const char *bytes, size_t count,
                                     size_t taken, size_t *at);
