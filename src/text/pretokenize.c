#include "text/pretokenize.h"

#include <string.h>

void pieces_deinit(struct pieces *pieces)
{
    memory_free(pieces->items);
    *pieces = (struct pieces){ 0 };
}

bool pretokenizers_split_at_spaces(const struct pretokenizers *pretokenizers)
{
    if (pretokenizers->count == 0)
        return false;
    const struct pretokenizer *first = &pretokenizers->items[0];
    return first->kind != PRETOKENIZER_METASPACE || first->split;
}

bool pretokenizers_need_spans(const struct pretokenizers *pretokenizers)
{
    for (size_t i = 0; i < pretokenizers->count; i++) {
        if (pretokenizers->items[i].kind == PRETOKENIZER_METASPACE &&
            pretokenizers->items[i].scheme == PREPEND_FIRST)
            return true;
    }
    return false;
}

/* Runs between white space; with `isolate` punctuation is cut out, one code point a piece. */
static void split_whitespace(const struct unicode *unicode, const struct text_buffer *text,
                             struct piece piece, bool isolate, struct pieces *out)
{
    size_t begin = piece.begin, at = piece.begin;
    unsigned cut = CODE_SPACE | (isolate ? (unsigned)CODE_PUNCTUATION : 0);
    while (at < piece.end) {
        uint32_t code = (unsigned char)text->bytes[at];
        size_t took = code < 0x80 ? 1 : utf8_decode(text->bytes + at, piece.end - at, &code);
        unsigned flags = unicode_flags(unicode, code) & cut;
        if (flags) {
            if (begin < at)
                pieces_add(out, begin, at, TRIE_NONE);
            if (!(flags & CODE_SPACE))
                pieces_add(out, at, at + took, TRIE_NONE);
            begin = at + took;
        }
        at += took;
    }
    if (begin < at)
        pieces_add(out, begin, at, TRIE_NONE);
}

/* Whitespace: \w+|[^\w\s]+ */
static void split_words(const struct unicode *unicode, const struct text_buffer *text,
                        struct piece piece, struct pieces *out)
{
    enum { SPACE, WORD, SIGN } kind, last = SPACE;
    size_t begin = piece.begin;
    for (size_t at = piece.begin; at < piece.end;) {
        uint32_t code;
        size_t took = utf8_decode(text->bytes + at, piece.end - at, &code);
        unsigned flags = unicode_flags(unicode, code);
        kind = flags & CODE_WORD ? WORD : flags & CODE_SPACE ? SPACE : SIGN;
        if (kind != last) {
            if (last != SPACE)
                pieces_add(out, begin, at, TRIE_NONE);
            begin = at;
            last = kind;
        }
        at += took;
    }
    if (last != SPACE)
        pieces_add(out, begin, piece.end, TRIE_NONE);
}

static bool starts_with(const struct text_buffer *text, struct piece piece, const char *sign,
                        size_t bytes)
{
    return piece.end - piece.begin >= bytes && memcmp(text->bytes + piece.begin, sign, bytes) == 0;
}

/* Writes one piece with its spaces replaced and cuts it before each replacement sign. */
static void metaspace_piece(const struct pretokenizer *metaspace, const struct text_buffer *from,
                            struct piece piece, struct text_buffer *to, struct pieces *out)
{
    char sign[4];
    size_t sign_bytes = utf8_encode(metaspace->replacement, sign);
    struct token_offset span = text_span(from, piece.begin);
    bool prepend = metaspace->scheme == PREPEND_ALWAYS ||
                   (metaspace->scheme == PREPEND_FIRST && span.begin == 0);
    size_t begin = to->count;
    if (prepend && from->bytes[piece.begin] != ' ' && !starts_with(from, piece, sign, sign_bytes))
        text_add(to, metaspace->replacement, span);
    for (size_t at = piece.begin; at < piece.end && !to->failed;) {
        unsigned char byte = (unsigned char)from->bytes[at];
        struct piece rest = { (uint32_t)at, piece.end, TRIE_NONE };
        bool is_sign = byte == ' ' || (byte == (unsigned char)sign[0] &&
                                       starts_with(from, rest, sign, sign_bytes));
        if (is_sign && metaspace->split && to->count > begin) {
            pieces_add(out, begin, to->count, TRIE_NONE);
            begin = to->count;
        }
        if (is_sign) {
            text_add(to, metaspace->replacement, text_span(from, at));
            at += byte == ' ' ? 1 : sign_bytes;
        } else {
            if (!text_reserve(to, to->count + 4))
                break;
            if (to->spanned)
                to->spans[to->count] = from->spans[at];
            to->bytes[to->count++] = from->bytes[at++];
        }
    }
    if (begin < to->count)
        pieces_add(out, begin, to->count, TRIE_NONE);
}

static void copy_token(const struct text_buffer *from, struct piece piece, struct text_buffer *to,
                       struct pieces *out)
{
    size_t begin = to->count;
    text_copy(to, from, piece.begin, piece.end);
    pieces_add(out, begin, to->count, piece.token);
}

void pretokenizers_apply(const struct pretokenizers *pretokenizers, const struct unicode *unicode,
                         struct text_buffer **text, struct text_buffer **spare_text,
                         struct pieces **pieces, struct pieces **spare_pieces)
{
    for (size_t i = 0; i < pretokenizers->count; i++) {
        const struct pretokenizer *pretokenizer = &pretokenizers->items[i];
        const struct pieces *in = *pieces;
        struct pieces *out = *spare_pieces;
        bool rewrites = pretokenizer->kind == PRETOKENIZER_METASPACE;
        out->count = 0;
        if (rewrites) {
            text_clear(*spare_text, (*text)->spanned);
            text_reserve(*spare_text, (*text)->count + 4);
        }
        for (size_t p = 0; p < in->count && !out->failed; p++) {
            struct piece piece = in->items[p];
            if (piece.token != TRIE_NONE && rewrites)
                copy_token(*text, piece, *spare_text, out);
            else if (piece.token != TRIE_NONE)
                pieces_add(out, piece.begin, piece.end, piece.token);
            else if (rewrites)
                metaspace_piece(pretokenizer, *text, piece, *spare_text, out);
            else if (pretokenizer->kind == PRETOKENIZER_WHITESPACE)
                split_words(unicode, *text, piece, out);
            else
                split_whitespace(unicode, *text, piece, pretokenizer->kind == PRETOKENIZER_BERT,
                                 out);
        }
        *spare_pieces = *pieces;
        *pieces = out;
        if (rewrites) {
            struct text_buffer *kept = *text;
            *text = *spare_text;
            *spare_text = kept;
        }
    }
}
