#include "text/normalize.h"

#include <string.h>

#include "base/memory.h"

void normalizers_deinit(struct normalizers *normalizers)
{
    for (size_t i = 0; i < normalizers->count; i++) {
        charsmap_deinit(&normalizers->items[i].charsmap);
        bytes_deinit(&normalizers->items[i].pattern);
        bytes_deinit(&normalizers->items[i].content);
    }
    memory_free(normalizers->items);
    *normalizers = (struct normalizers){ 0 };
}

static bool charsmap_is_local(const struct charsmap *map)
{
    const char *replacement;
    size_t bytes;
    if (charsmap_find(map, " ", 1, &replacement, &bytes))
        return false;
    for (char c = '0'; c <= 'z'; c++) {
        if (charsmap_find(map, &c, 1, &replacement, &bytes) &&
            (bytes == 0 || memchr(replacement, ' ', bytes)))
            return false;
    }
    return true;
}

bool normalizers_are_local(const struct normalizers *normalizers)
{
    for (size_t i = 0; i < normalizers->count; i++) {
        const struct normalizer *normalizer = &normalizers->items[i];
        switch (normalizer->kind) {
        case NORMALIZER_STRIP:
        case NORMALIZER_PREPEND:
            return false;
        case NORMALIZER_PRECOMPILED:
            if (!charsmap_is_local(&normalizer->charsmap))
                return false;
            break;
        case NORMALIZER_REPLACE:
            for (size_t at = 0; at < normalizer->pattern.count; at++) {
                if (normalizer->pattern.data[at] != ' ')
                    return false;
            }
            if (normalizer->pattern.count * normalizer->repeat_min < 2)
                return false;
            break;
        default:
            break;
        }
    }
    return true;
}

static bool is_ascii(const struct text_buffer *text)
{
    unsigned char all = 0;
    for (size_t i = 0; i < text->count; i++)
        all |= (unsigned char)text->bytes[i];
    return all < 0x80;
}

/* What becomes of one code point: false drops it, otherwise *code is written with the old span. */
typedef bool (*code_map)(const struct normalizer *normalizer, const struct unicode *unicode,
                         uint32_t *code);

static void map_codes(const struct normalizer *normalizer, const struct unicode *unicode,
                      code_map map, const struct text_buffer *from, struct text_buffer *to)
{
    text_clear(to, from->spanned);
    text_reserve(to, from->count + 4);
    for (size_t at = 0; at < from->count && !to->failed;) {
        uint32_t code;
        size_t took = utf8_decode(from->bytes + at, from->count - at, &code);
        if (map(normalizer, unicode, &code))
            text_add(to, code, text_span(from, at));
        at += took;
    }
}

static void lowercase(const struct unicode *unicode, const struct text_buffer *from,
                      struct text_buffer *to)
{
    text_clear(to, from->spanned);
    text_reserve(to, from->count + 4);
    for (size_t at = 0; at < from->count && !to->failed;) {
        uint32_t code, lower[2];
        size_t took = utf8_decode(from->bytes + at, from->count - at, &code);
        lower[0] = code;
        int count = unicode_flags(unicode, code) & CODE_UPPER ? unicode_lower(code, lower) : 1;
        for (int i = 0; i < count; i++)
            text_add(to, lower[i], text_span(from, at));
        at += took;
    }
}

static bool keep_unmarked(const struct normalizer *normalizer, const struct unicode *unicode,
                          uint32_t *code)
{
    (void)normalizer;
    return !(unicode_flags(unicode, *code) & CODE_MARK);
}

/* SentencePiece's nmt rules, as the peer writes them out. */
static bool map_nmt(const struct normalizer *normalizer, const struct unicode *unicode,
                    uint32_t *code)
{
    uint32_t c = *code;
    (void)normalizer;
    (void)unicode;
    if ((c >= 0x01 && c <= 0x08) || c == 0x0b || (c >= 0x0e && c <= 0x1f) || c == 0x7f ||
        c == 0x8f || c == 0x9f)
        return false;
    if (c == 0x09 || c == 0x0a || c == 0x0c || c == 0x0d || c == 0x1680 ||
        (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff ||
        c == 0xfffd)
        *code = ' ';
    return true;
}

/* ---- BERT -------------------------------------------------------------------------------- */

/* Clean-up and spaces around Chinese characters. Returns the flags of all that was written. */
static unsigned bert_clean(const struct normalizer *normalizer, const struct unicode *unicode,
                           const struct text_buffer *from, struct text_buffer *to)
{
    unsigned seen = 0;
    text_clear(to, from->spanned);
    text_reserve(to, from->count + 4);
    for (size_t at = 0; at < from->count && !to->failed;) {
        uint32_t code;
        struct token_offset span = text_span(from, at);
        at += utf8_decode(from->bytes + at, from->count - at, &code);
        unsigned flags = unicode_flags(unicode, code);
        if (normalizer->clean && flags & (CODE_CONTROL | CODE_SPACE)) {
            if (code == '\t' || code == '\n' || code == '\r' || !(flags & CODE_CONTROL))
                text_add(to, ' ', span);
            continue;
        }
        if (normalizer->cjk && flags & CODE_CJK) {
            text_add(to, ' ', span);
            text_add(to, code, span);
            text_add(to, ' ', span);
        } else {
            text_add(to, code, span);
        }
        seen |= flags;
    }
    return seen;
}

/* All steps at once, in place; false when the text is not all ASCII (then nothing has changed). */
static bool bert_ascii(const struct normalizer *normalizer, struct text_buffer *text)
{
    if (!is_ascii(text))
        return false;
    size_t kept = 0;
    for (size_t at = 0; at < text->count; at++) {
        unsigned char c = (unsigned char)text->bytes[at];
        if (c < 0x20 || c == 0x7f) {
            bool space = c == '\t' || c == '\n' || c == '\r';
            if (normalizer->clean && !space)
                continue;
            if (normalizer->clean)
                c = ' ';
        } else if (normalizer->lower && c >= 'A' && c <= 'Z') {
            c = (unsigned char)(c + ('a' - 'A'));
        }
        text->bytes[kept] = (char)c;
        if (text->spanned)
            text->spans[kept] = text->spans[at];
        kept++;
    }
    text->count = kept;
    return true;
}

static void swap(struct text_buffer **a, struct text_buffer **b)
{
    struct text_buffer *kept = *a;
    *a = *b;
    *b = kept;
}

static void bert(const struct normalizer *normalizer, const struct unicode *unicode,
                 struct decomposer *decomposer, struct text_buffer **text,
                 struct text_buffer **spare)
{
    if (bert_ascii(normalizer, *text))
        return;
    unsigned seen = bert_clean(normalizer, unicode, *text, *spare);
    swap(text, spare);
    unsigned marked = CODE_DECOMPOSES | CODE_REORDERS | CODE_NONSPACING;
    if (normalizer->strip_accents && seen & marked) {
        struct decompose_filter filter = { .drop = CODE_NONSPACING, .lower = normalizer->lower };
        text_decompose(unicode, decomposer, 0, filter, *text, *spare);
        swap(text, spare);
    } else if (normalizer->lower && seen & CODE_UPPER) {
        lowercase(unicode, *text, *spare);
        swap(text, spare);
    }
}

/* ---- the others -------------------------------------------------------------------------- */

static void strip(const struct normalizer *normalizer, const struct unicode *unicode,
                  const struct text_buffer *from, struct text_buffer *to)
{
    size_t begin = 0, end = from->count, at = 0, last = 0;
    bool leading = normalizer->left;
    while (at < from->count) {
        uint32_t code;
        at += utf8_decode(from->bytes + at, from->count - at, &code);
        bool space = unicode_flags(unicode, code) & CODE_SPACE;
        leading = leading && space;
        if (leading)
            begin = at;
        if (!space)
            last = at;
    }
    if (normalizer->right && last < end)
        end = last;
    text_clear(to, from->spanned);
    if (begin < end)
        text_copy(to, from, begin, end);
}

static void add_text(struct text_buffer *to, const struct bytes *content, struct token_offset span)
{
    for (size_t at = 0; at < content->count;) {
        uint32_t code;
        at += utf8_decode(content->data + at, content->count - at, &code);
        text_add(to, code, span);
    }
}

/* Bytes of the match at `at`, 0 for none. */
static size_t match_bytes(const struct normalizer *normalizer, const struct text_buffer *from,
                          size_t at)
{
    size_t one = normalizer->pattern.count, times = 0;
    while (from->count - at >= (times + 1) * one &&
           memcmp(from->bytes + at + times * one, normalizer->pattern.data, one) == 0) {
        times++;
        if (!normalizer->repeats && times == normalizer->repeat_min)
            break;
    }
    return times >= normalizer->repeat_min ? times * one : 0;
}

static void replace(const struct normalizer *normalizer, const struct text_buffer *from,
                    struct text_buffer *to)
{
    text_clear(to, from->spanned);
    text_reserve(to, from->count + 4);
    size_t copied = 0;
    for (size_t at = 0; at < from->count && !to->failed;) {
        const char *next = memchr(from->bytes + at, normalizer->pattern.data[0], from->count - at);
        if (!next)
            break;
        at = (size_t)(next - from->bytes);
        size_t matched = match_bytes(normalizer, from, at);
        if (matched == 0) {
            at++;
            continue;
        }
        text_copy(to, from, copied, at);
        at += matched;
        copied = at;
        add_text(to, &normalizer->content, text_span(from, at - 1));
    }
    text_copy(to, from, copied, from->count);
}

void normalizers_apply(const struct normalizers *normalizers, const struct unicode *unicode,
                       struct decomposer *decomposer, struct text_buffer **text,
                       struct text_buffer **spare)
{
    for (size_t i = 0; i < normalizers->count; i++) {
        const struct normalizer *normalizer = &normalizers->items[i];
        struct decompose_filter all = { 0 };
        switch (normalizer->kind) {
        case NORMALIZER_BERT:
            bert(normalizer, unicode, decomposer, text, spare);
            continue;
        case NORMALIZER_FORM:
            if (is_ascii(*text))
                continue;
            text_decompose(unicode, decomposer, normalizer->form, all, *text, *spare);
            break;
        case NORMALIZER_STRIP:
            strip(normalizer, unicode, *text, *spare);
            break;
        case NORMALIZER_STRIP_ACCENTS:
            map_codes(normalizer, unicode, keep_unmarked, *text, *spare);
            break;
        case NORMALIZER_LOWERCASE:
            lowercase(unicode, *text, *spare);
            break;
        case NORMALIZER_NMT:
            map_codes(normalizer, unicode, map_nmt, *text, *spare);
            break;
        case NORMALIZER_PRECOMPILED:
            charsmap_apply(&normalizer->charsmap, unicode, *text, *spare);
            break;
        case NORMALIZER_REPLACE:
            replace(normalizer, *text, *spare);
            break;
        case NORMALIZER_PREPEND:
            text_clear(*spare, (*text)->spanned);
            if ((*text)->count > 0)
                add_text(*spare, &normalizer->content, text_span(*text, 0));
            text_copy(*spare, *text, 0, (*text)->count);
            break;
        }
        swap(text, spare);
    }
}
