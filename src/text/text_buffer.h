/* A piece of text on its way through the normalizers: valid UTF-8, and for each byte the bytes of
 * the original that it stands for (all bytes of one code point carry the same span). Spans are kept
 * only where somebody asks for them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/utf8.h"
#include "text/tokenizer.h"

struct text_buffer {
    char *bytes;
    struct token_offset *spans;     /* [count] where spanned */
    size_t count, bytes_capacity, spans_capacity;
    bool spanned;
    bool failed;                    /* memory ran out: checked once, at the end */
};

void text_clear(struct text_buffer *text, bool spanned);
void text_deinit(struct text_buffer *text);
bool text_grow(struct text_buffer *text, size_t needed);

static inline bool text_reserve(struct text_buffer *text, size_t needed)
{
    bool enough =
        needed <= text->bytes_capacity && (!text->spanned || needed <= text->spans_capacity);
    return enough || text_grow(text, needed);
}

/* Appends one code point; nothing after memory ran out. */
static inline void text_add(struct text_buffer *text, uint32_t code, struct token_offset span)
{
    if (!text_reserve(text, text->count + 4))
        return;
    size_t took = utf8_encode(code, text->bytes + text->count);
    if (text->spanned) {
        for (size_t i = 0; i < took; i++)
            text->spans[text->count + i] = span;
    }
    text->count += took;
}

/* Appends from[begin, end) with its spans. */
void text_copy(struct text_buffer *text, const struct text_buffer *from, size_t begin, size_t end);

static inline struct token_offset text_span(const struct text_buffer *text, size_t at)
{
    return text->spanned ? text->spans[at] : (struct token_offset){ 0, 0 };
}

/* One rewriting of a text, with the peer's bookkeeping of where code points come from: each written
 * one has a `change`. 0 takes the place of the next one read, 1 is new and shares the span of the
 * one before, -n takes the place of the next one and swallows n more. */
struct text_pass {
    const struct text_buffer *from;
    struct text_buffer *to;
    size_t at;      /* bytes of `from` accounted for */
};

struct text_pass text_pass_begin(const struct text_buffer *from, struct text_buffer *to);
void text_pass_emit(struct text_pass *pass, uint32_t code, ptrdiff_t change);
void text_pass_skip(struct text_pass *pass,
                    size_t codes); /* accounts for code points not written */
