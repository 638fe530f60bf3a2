#include "text/text_buffer.h"

#include <string.h>

#include "base/memory.h"

/* `failed` stays: whoever starts with a text resets it. */
void text_clear(struct text_buffer *text, bool spanned)
{
    text->count = 0;
    text->spanned = spanned;
}

void text_deinit(struct text_buffer *text)
{
    memory_free(text->bytes);
    memory_free(text->spans);
    *text = (struct text_buffer){ 0 };
}

bool text_grow(struct text_buffer *text, size_t needed)
{
    if (!text->failed && needed < 256)
        needed = 256;
    text->failed = text->failed ||
                   !array_reserve((void **)&text->bytes, &text->bytes_capacity, needed, 1) ||
                   (text->spanned && !array_reserve((void **)&text->spans, &text->spans_capacity,
                                                    needed, sizeof *text->spans));
    return !text->failed;
}

void text_copy(struct text_buffer *text, const struct text_buffer *from, size_t begin, size_t end)
{
    size_t count = end - begin;
    if (count == 0 || !text_reserve(text, text->count + count))
        return;
    memcpy(text->bytes + text->count, from->bytes + begin, count);
    if (text->spanned)
        memcpy(text->spans + text->count, from->spans + begin, count * sizeof *text->spans);
    text->count += count;
}

struct text_pass text_pass_begin(const struct text_buffer *from, struct text_buffer *to)
{
    text_clear(to, from->spanned);
    text_reserve(to, from->count + 4);
    return (struct text_pass){ .from = from, .to = to };
}

static size_t code_bytes(const struct text_buffer *text, size_t at)
{
    uint32_t code;
    return at < text->count ? utf8_decode(text->bytes + at, text->count - at, &code) : 0;
}

void text_pass_skip(struct text_pass *pass, size_t codes)
{
    for (size_t i = 0; i < codes && pass->from->spanned; i++)
        pass->at += code_bytes(pass->from, pass->at);
}

void text_pass_emit(struct text_pass *pass, uint32_t code, ptrdiff_t change)
{
    struct token_offset span = { 0, 0 };
    if (pass->from->spanned) {
        if (change <= 0) {
            if (pass->at < pass->from->count)
                span = pass->from->spans[pass->at];
            text_pass_skip(pass, (size_t)-change + 1);
        } else if (pass->at > 0) {
            span = pass->from->spans[pass->at - 1];
        }
    }
    text_add(pass->to, code, span);
}
