/* Pre-tokenizers: they split a normalised text into the pieces that the model sees one by one. */
#pragma once

#include "base/memory.h"
#include "text/text_buffer.h"
#include "text/trie.h"
#include "text/unicode.h"

enum pretokenizer_kind {
    PRETOKENIZER_BERT,
    PRETOKENIZER_WHITESPACE_SPLIT,
    PRETOKENIZER_WHITESPACE,
    PRETOKENIZER_METASPACE,
};

enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

struct pretokenizer {
    enum pretokenizer_kind kind;
    uint32_t replacement;           /* Metaspace */
    enum prepend_scheme scheme;
    bool split;
};

struct pretokenizers {
    struct pretokenizer *items;
    size_t count, capacity;
};

struct piece {
    uint32_t begin, end;    /* bytes of the text buffer */
    uint32_t token;         /* an added token's id, or TRIE_NONE */
};

struct pieces {
    struct piece *items;
    size_t count, capacity;
    bool failed;            /* memory ran out */
};

static inline void pieces_add(struct pieces *pieces, size_t begin, size_t end, uint32_t token)
{
    if (pieces->count == pieces->capacity &&
        !array_reserve((void **)&pieces->items, &pieces->capacity, pieces->count + 1,
                       sizeof *pieces->items)) {
        pieces->failed = true;
        return;
    }
    pieces->items[pieces->count++] = (struct piece){ (uint32_t)begin, (uint32_t)end, token };
}

void pieces_deinit(struct pieces *pieces);

/* Whether spaces always end a piece, so that a text may be cut before one. */
bool pretokenizers_split_at_spaces(const struct pretokenizers *pretokenizers);
/* Whether spans of the original are needed although nobody asked for offsets. */
bool pretokenizers_need_spans(const struct pretokenizers *pretokenizers);

/* Input and output in *pieces and *text; the spare ones are for the taking. Metaspace rewrites the
 * text, the others only split it. Empty pieces vanish; added tokens stay whole. */
void pretokenizers_apply(const struct pretokenizers *pretokenizers, const struct unicode *unicode,
                         struct text_buffer **text, struct text_buffer **spare_text,
                         struct pieces **pieces, struct pieces **spare_pieces);
