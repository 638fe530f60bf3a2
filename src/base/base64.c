#include "base/base64.h"

#include <stdint.h>
#include <string.h>

void base64_append(struct bytes *out, const void *bytes, size_t count)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *at = bytes;
    for (; count; at += 3) {
        size_t taken = count < 3 ? count : 3;
        uint32_t word = (uint32_t)at[0] << 16 | (taken > 1 ? (uint32_t)at[1] << 8 : 0) |
                        (taken > 2 ? at[2] : 0);
        char four[4] = {digits[word >> 18], digits[word >> 12 & 63], digits[word >> 6 & 63],
                        digits[word & 63]};
        memset(four + 1 + taken, '=', 3 - taken);
        bytes_append(out, four, 4);
        count -= taken;
    }
}

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_read(const char *text, size_t count, void *out, size_t bytes)
{
    unsigned char *to = out;
    if (count != (bytes + 2) / 3 * 4)
        return false;
    for (size_t at = 0; at < bytes; at += 3, text += 4) {
        size_t taken = bytes - at < 3 ? bytes - at : 3;
        uint32_t word = 0;
        for (size_t i = 0; i < 4; i++) {
            int digit = i <= taken ? digit_of(text[i]) : 0;
            if (digit < 0 || (i > taken && text[i] != '='))
                return false;
            word = word << 6 | (uint32_t)digit;
        }
        for (size_t i = 0; i < taken; i++)
            to[at + i] = (unsigned char)(word >> (16 - 8 * i));
        if (taken < 3 && word & (0xffffu >> (8 * (taken - 1))))
            return false;               /* bits that stand for nothing */
    }
    return true;
}

bool base64_decode(const char *text, size_t count, struct bytes *out)
{
    if (count % 4 != 0)
        return false;
    for (size_t at = 0; at < count; at += 4, text += 4) {
        bool last = at + 4 == count;
        size_t padding = last && text[3] == '=' ? (text[2] == '=' ? 2 : 1) : 0;
        unsigned char three[3];
        if (!base64_read(text, 4, three, 3 - padding))
            return false;
        bytes_append(out, three, 3 - padding);
    }
    return true;
}
