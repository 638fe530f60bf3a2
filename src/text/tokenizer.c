/* Encoding: raw added tokens cut the text into stretches; each stretch is normalised, cut by
 * normalised added tokens and the pre-tokenizers into pieces, and the model turns these into
 * tokens, until there are enough. Long stretches are worked on in parts where that cannot change
 * the result, so that a limit on tokens is also one on time and memory. */
#include "text/tokenizer.h"

#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "text/tokenizer_parts.h"

enum { PART_BYTES = 8 << 10 };

struct tokenizer_scratch {
    struct text_buffer valid;       /* the whole text, where it was not UTF-8 */
    struct text_buffer text[2];
    struct pieces pieces[2];
    struct decomposer decomposer;
    struct viterbi viterbi;
};

/* The text to encode: valid UTF-8, and its spans where it had to be repaired. */
struct source {
    const char *bytes;
    const struct token_offset *spans;   /* NULL: a code point stands for its own bytes */
    size_t count;
};

struct encoding {
    const struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    struct source source;
    struct token_sink sink;
    bool spanned;
    struct akin_error *error;
};

enum akin_status tokenizer_scratch_create(struct tokenizer_scratch **scratch,
                                          struct akin_error *error)
{
    *scratch = memory_alloc(1, sizeof **scratch);
    return *scratch ? AKIN_OK : error_memory(error);
}

void tokenizer_scratch_destroy(struct tokenizer_scratch **scratch)
{
    struct tokenizer_scratch *s = *scratch;
    if (!s)
        return;
    text_deinit(&s->valid);
    for (int i = 0; i < 2; i++) {
        text_deinit(&s->text[i]);
        pieces_deinit(&s->pieces[i]);
    }
    decomposer_deinit(&s->decomposer);
    viterbi_deinit(&s->viterbi);
    memory_free(s);
    *scratch = NULL;
}

/* Copies source[begin, end) with the spans that its bytes have in the caller's text. */
static void load(const struct encoding *encoding, size_t begin, size_t end,
                 struct text_buffer *text)
{
    const struct source *source = &encoding->source;
    size_t count = end - begin;
    text_clear(text, encoding->spanned);
    if (!text_reserve(text, count + 4))
        return;
    memcpy(text->bytes, source->bytes + begin, count);
    text->count = count;
    if (!text->spanned)
        return;
    if (source->spans) {
        memcpy(text->spans, source->spans + begin, count * sizeof *text->spans);
        return;
    }
    for (size_t at = 0; at < count;) {
        uint32_t code;
        size_t took = utf8_decode(text->bytes + at, count - at, &code);
        struct token_offset span = { (uint32_t)(begin + at), (uint32_t)(begin + at + took) };
        for (size_t i = 0; i < took; i++)
            text->spans[at++] = span;
    }
}

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* The end of the part that begins at `begin`: before the first space between two ASCII letters or
 * digits after PART_BYTES, or the end of the stretch. */
static size_t part_end(const struct encoding *encoding, size_t begin, size_t end)
{
    const char *bytes = encoding->source.bytes;
    if (!encoding->tokenizer->cuttable || end - begin <= PART_BYTES)
        return end;
    for (size_t at = begin + PART_BYTES; at + 1 < end; at++) {
        const char *space = memchr(bytes + at, ' ', end - 1 - at);
        if (!space)
            return end;
        at = (size_t)(space - bytes);
        if (is_alphanumeric(bytes[at - 1]) && is_alphanumeric(bytes[at + 1]))
            return at;
    }
    return end;
}

/* Cuts a normalised text by the added tokens that match normalised text. */
static void cut_normalized(const struct tokenizer *tokenizer, const struct text_buffer *text,
                           struct pieces *pieces)
{
    size_t at = 0, taken = 0;
    pieces->count = 0;
    for (;;) {
        struct added_match match = added_tokens_next(&tokenizer->added, true, &tokenizer->unicode,
                                                     text->bytes, text->count, taken, &at);
        if (taken < match.begin)
            pieces_add(pieces, taken, match.begin, TRIE_NONE);
        if (!match.token)
            return;
        pieces_add(pieces, match.begin, match.end, match.token->id);
        taken = match.end;
    }
}

/* RobertaProcessing drops the spaces that an added token took along from its offsets, but one in
 * front where it takes that for a prefix of its own making. */
static void add_token(struct encoding *encoding, uint32_t id, const struct text_buffer *text,
                      size_t begin, size_t end)
{
    const struct tokenizer *tokenizer = encoding->tokenizer;
    const struct unicode *unicode = &tokenizer->unicode;
    size_t first = begin, last = end, spaces = 0;
    while (tokenizer->trims_offsets && first < end) {
        uint32_t code;
        size_t took = utf8_decode(text->bytes + first, end - first, &code);
        if (!(unicode_flags(unicode, code) & CODE_SPACE))
            break;
        first += took;
        spaces++;
    }
    bool at_front = encoding->sink.count == 0 || (text->spanned && text->spans[begin].begin == 0);
    if (!tokenizer->trims_all && spaces == 1 && at_front)
        first = begin;
    while (tokenizer->trims_offsets && last > first) {
        size_t one = last - 1;
        uint32_t code;
        while (one > first && ((unsigned char)text->bytes[one] & 0xc0) == 0x80)
            one--;
        utf8_decode(text->bytes + one, last - one, &code);
        if (!(unicode_flags(unicode, code) & CODE_SPACE))
            break;
        last = one;
    }
    if (first < last)
        sink_add(&encoding->sink, id, text, first, last);
    else
        sink_add(&encoding->sink, id, text, begin, end);
}

static bool memory_failed(const struct tokenizer_scratch *s)
{
    return s->valid.failed || s->text[0].failed || s->text[1].failed || s->pieces[0].failed ||
           s->pieces[1].failed;
}

/* One part of a stretch without raw added tokens, through to the model. */
static enum akin_status encode_part(struct encoding *encoding, size_t begin, size_t end)
{
    const struct tokenizer *tokenizer = encoding->tokenizer;
    struct tokenizer_scratch *s = encoding->scratch;
    struct text_buffer *text = &s->text[0], *spare = &s->text[1];
    struct pieces *pieces = &s->pieces[0], *spare_pieces = &s->pieces[1];
    load(encoding, begin, end, text);
    normalizers_apply(&tokenizer->normalizers, &tokenizer->unicode, &s->decomposer, &text, &spare);
    if (memory_failed(s))
        return error_memory(encoding->error);
    if (text->count > UINT32_MAX)
        return error_set(encoding->error, AKIN_LIMIT, "the text is over 4 GiB after normalisation");
    cut_normalized(tokenizer, text, pieces);
    pretokenizers_apply(&tokenizer->pretokenizers, &tokenizer->unicode, &text, &spare, &pieces,
                        &spare_pieces);
    if (memory_failed(s))
        return error_memory(encoding->error);
    for (size_t i = 0; i < pieces->count && !sink_full(&encoding->sink); i++) {
        struct piece piece = pieces->items[i];
        if (piece.token != TRIE_NONE)
            add_token(encoding, piece.token, text, piece.begin, piece.end);
        else if (tokenizer->kind == MODEL_WORDPIECE)
            wordpiece_encode(&tokenizer->wordpiece, text, piece, &encoding->sink);
        else
            TRY(unigram_encode(&tokenizer->unigram, text, piece, &s->viterbi, &encoding->sink,
                               encoding->error));
    }
    return AKIN_OK;
}

static enum akin_status encode_source(struct encoding *encoding)
{
    const struct tokenizer *tokenizer = encoding->tokenizer;
    const struct source *source = &encoding->source;
    size_t at = 0, taken = 0;
    while (!sink_full(&encoding->sink)) {
        struct added_match match = added_tokens_next(&tokenizer->added, false, &tokenizer->unicode,
                                                     source->bytes, source->count, taken, &at);
        for (size_t begin = taken; begin < match.begin && !sink_full(&encoding->sink);) {
            size_t end = part_end(encoding, begin, match.begin);
            TRY(encode_part(encoding, begin, end));
            begin = end;
        }
        if (!match.token)
            return AKIN_OK;
        load(encoding, match.begin, match.end, &encoding->scratch->text[0]);
        if (memory_failed(encoding->scratch))
            return error_memory(encoding->error);
        add_token(encoding, match.token->id, &encoding->scratch->text[0], 0,
                  match.end - match.begin);
        taken = match.end;
    }
    return AKIN_OK;
}

/* Each maximal ill-formed part becomes one U+FFFD that stands for its bytes. */
static void repair(const char *text, size_t bytes, struct text_buffer *valid)
{
    text_clear(valid, true);
    text_reserve(valid, bytes + 4);
    for (size_t at = 0; at < bytes && !valid->failed;) {
        uint32_t code;
        size_t took = utf8_decode(text + at, bytes - at, &code);
        text_add(valid, code, (struct token_offset){ (uint32_t)at, (uint32_t)(at + took) });
        at += took;
    }
}

static size_t put_special(const struct id_list *list, uint32_t *ids, struct token_offset *offsets)
{
    for (size_t i = 0; i < list->count; i++) {
        ids[i] = list->items[i];
        if (offsets)
            offsets[i] = (struct token_offset){ 0, 0 };
    }
    return list->count;
}

enum akin_status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                                  struct tokenizer_scratch *scratch, uint32_t *ids,
                                  struct token_offset *offsets, size_t ids_max, size_t *count,
                                  struct akin_error *error)
{
    size_t special = tokenizer->prefix.count + tokenizer->suffix.count;
    if (bytes > LINE_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "a text of %zu bytes; the most is %zu (LINE_BYTES_MAX)",
                         bytes, LINE_BYTES_MAX);
    if (ids_max < special)
        return error_set(error, AKIN_ARGUMENT,
                         "room for %zu tokens, but the special ones alone are %zu", ids_max,
                         special);
    struct tokenizer_scratch *s = scratch;
    s->valid.failed = s->text[0].failed = s->text[1].failed = false;
    s->pieces[0].failed = s->pieces[1].failed = false;
    struct encoding encoding = {
        .tokenizer = tokenizer,
        .scratch = scratch,
        .source = { .bytes = text, .count = bytes },
        .spanned = offsets || pretokenizers_need_spans(&tokenizer->pretokenizers),
        .error = error,
    };
    if (!utf8_valid(text, bytes)) {
        repair(text, bytes, &s->valid);
        if (s->valid.failed)
            return error_memory(error);
        encoding.source = (struct source){ s->valid.bytes, s->valid.spans, s->valid.count };
    }
    size_t done = put_special(&tokenizer->prefix, ids, offsets);
    encoding.sink = (struct token_sink){ .ids = ids + done,
                                         .offsets = offsets ? offsets + done : NULL,
                                         .limit = ids_max - special };
    TRY(encode_source(&encoding));
    done += encoding.sink.count;
    done += put_special(&tokenizer->suffix, ids + done, offsets ? offsets + done : NULL);
    *count = done;
    return AKIN_OK;
}

enum akin_status tokenizer_open(const char *path, struct tokenizer **tokenizer,
                                struct akin_error *error)
{
    json_t *root = NULL;
    TRY(json_read(path, JSON_FILE_BYTES_MAX, &root, error));
    enum akin_status status = tokenizer_from_json(root, path, tokenizer, error);
    json_decref(root);
    return status;
}

void tokenizer_close(struct tokenizer **tokenizer)
{
    struct tokenizer *t = *tokenizer;
    if (!t)
        return;
    unicode_deinit(&t->unicode);
    added_tokens_deinit(&t->added);
    normalizers_deinit(&t->normalizers);
    memory_free(t->pretokenizers.items);
    trie_deinit(&t->wordpiece.trie);
    trie_deinit(&t->unigram.trie);
    memory_free(t->unigram.scores);
    memory_free(t->prefix.items);
    memory_free(t->suffix.items);
    memory_free(t);
    *tokenizer = NULL;
}

const char *tokenizer_kind(const struct tokenizer *tokenizer)
{
    return tokenizer->kind == MODEL_WORDPIECE ? "wordpiece" : "unigram";
}

uint32_t tokenizer_vocabulary_size(const struct tokenizer *tokenizer)
{
    return tokenizer->vocabulary_size;
}

uint32_t tokenizer_special_tokens(const struct tokenizer *tokenizer)
{
    return (uint32_t)(tokenizer->prefix.count + tokenizer->suffix.count);
}

int64_t tokenizer_pad_id(const struct tokenizer *tokenizer)
{
    return tokenizer->pad_id;
}

uint32_t tokenizer_file_tokens_max(const struct tokenizer *tokenizer)
{
    return tokenizer->file_tokens_max;
}

int64_t tokenizer_token_id(const struct tokenizer *tokenizer, const char *token, size_t bytes)
{
    for (size_t i = 0; i < tokenizer->added.count; i++) {
        const struct bytes *text = &tokenizer->added.items[i].text;
        if (text->count == bytes && memcmp(text->data, token, bytes) == 0)
            return tokenizer->added.items[i].id;
    }
    uint32_t id = trie_get(tokenizer_trie(tokenizer), token, bytes);
    return id == TRIE_NONE ? -1 : (int64_t)id;
}
