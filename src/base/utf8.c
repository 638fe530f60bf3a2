/* Table 3-7 of the Unicode Standard: which second bytes a lead byte allows. */
#include "base/utf8.h"

enum { REPLACEMENT = 0xfffd };

/* Bytes of the sequence that `lead` begins (0: none) and the range of its second byte. */
static int sequence_bytes(unsigned char lead, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2)
        return 0;
    if (lead < 0xe0)
        return 2;
    if (lead < 0xf0) {
        if (lead == 0xe0)
            *low = 0xa0;
        if (lead == 0xed)
            *high = 0x9f;
        return 3;
    }
    if (lead > 0xf4)
        return 0;
    if (lead == 0xf0)
        *low = 0x90;
    if (lead == 0xf4)
        *high = 0x8f;
    return 4;
}

size_t utf8_decode(const char *text, size_t bytes, uint32_t *code)
{
    static const unsigned char lead_mask[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
    const unsigned char *t = (const unsigned char *)text;
    unsigned char low, high;
    int needed = sequence_bytes(t[0], &low, &high);
    *code = REPLACEMENT;
    if (needed == 0)
        return 1;
    uint32_t value = t[0] & lead_mask[needed];
    for (int i = 1; i < needed; i++) {
        if ((size_t)i >= bytes || t[i] < low || t[i] > high)
            return (size_t)i;
        value = value << 6 | (t[i] & 0x3f);
        low = 0x80;
        high = 0xbf;
    }
    *code = value;
    return (size_t)needed;
}

size_t utf8_encode(uint32_t code, char *text)
{
    if (code < 0x80) {
        text[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        text[0] = (char)(0xc0 | code >> 6);
        text[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        text[0] = (char)(0xe0 | code >> 12);
        text[1] = (char)(0x80 | (code >> 6 & 0x3f));
        text[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    text[0] = (char)(0xf0 | code >> 18);
    text[1] = (char)(0x80 | (code >> 12 & 0x3f));
    text[2] = (char)(0x80 | (code >> 6 & 0x3f));
    text[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

bool utf8_valid(const char *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        if ((unsigned char)text[at] < 0x80) {
            at++;
            continue;
        }
        uint32_t code;
        size_t took = utf8_decode(text + at, bytes - at, &code);
        /* U+FFFD itself is three bytes long; a replacement stands for fewer, or for other bytes. */
        if (code == REPLACEMENT && !(took == 3 && (unsigned char)text[at] == 0xef &&
                                     (unsigned char)text[at + 1] == 0xbf))
            return false;
        at += took;
    }
    return true;
}
