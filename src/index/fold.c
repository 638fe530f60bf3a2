/* Case folding and canonical composition by utf8proc; text in ASCII takes a short way. */
#include "index/fold.h"

#include <utf8proc.h>

#include "base/utf8.h"

#define FOLD_OPTIONS (UTF8PROC_CASEFOLD | UTF8PROC_COMPOSE | UTF8PROC_STABLE)

static bool is_ascii(const char *text, size_t bytes)
{
    unsigned char all = 0;
    for (size_t i = 0; i < bytes; i++)
        all |= (unsigned char)text[i];
    return all < 0x80;
}

static void append_ascii(struct bytes *out, const char *text, size_t bytes)
{
    size_t at = out->count;
    bytes_append(out, text, bytes);
    for (size_t i = at; !out->failed && i < out->count; i++)
        if (out->data[i] >= 'A' && out->data[i] <= 'Z')
            out->data[i] = (char)(out->data[i] - 'A' + 'a');
}

static void append_valid(struct bytes *out, const char *text, size_t bytes)
{
    char encoded[4];
    uint32_t code;
    for (size_t i = 0; i < bytes;) {
        i += utf8_decode(text + i, bytes - i, &code);
        bytes_append(out, encoded, utf8_encode(code, encoded));
    }
}

/* `text` is valid UTF-8. */
static void append_folded(struct bytes *out, const char *text, size_t bytes)
{
    const utf8proc_uint8_t *in = (const utf8proc_uint8_t *)text;
    utf8proc_ssize_t length = (utf8proc_ssize_t)bytes;
    utf8proc_ssize_t room = utf8proc_decompose(in, length, NULL, 0, FOLD_OPTIONS);
    utf8proc_int32_t *codes = room < 0 ? NULL : memory_alloc((size_t)room + 1, sizeof *codes);
    if (!codes) {
        out->failed = true;
        return;
    }
    length = utf8proc_decompose(in, length, codes, room, FOLD_OPTIONS);
    if (length >= 0)
        length = utf8proc_normalize_utf32(codes, length, FOLD_OPTIONS);
    if (length < 0)
        out->failed = true;
    char encoded[4];
    for (utf8proc_ssize_t i = 0; i < length; i++)
        bytes_append(out, encoded, utf8_encode((uint32_t)codes[i], encoded));
    memory_free(codes);
}

bool fold_append(struct bytes *out, const char *text, size_t bytes)
{
    if (is_ascii(text, bytes)) {
        append_ascii(out, text, bytes);
    } else if (utf8_valid(text, bytes)) {
        append_folded(out, text, bytes);
    } else {
        struct bytes valid = { 0 };
        append_valid(&valid, text, bytes);
        if (valid.failed)
            out->failed = true;
        else
            append_folded(out, valid.data, valid.count);
        bytes_deinit(&valid);
    }
    return !out->failed;
}
