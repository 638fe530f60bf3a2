/* See sample_tokens.h. Loops run over blocks of a constant length, which the compiler turns into
 * vectors; a token is out of range when its sign bit or that of (vocab - 1) - token is set, so one
 * OR over a block tells whether it has to be looked at again. */
#include "train/sample_tokens.h"

#include <stdbool.h>
#include <string.h>

#include "base/philox.h"

enum { BLOCK = 128, ROW_TOKENS = 4 * PHILOX_ROW };

/* Keeps the numbers of samples apart from those of whatever else has the same seed. */
static const uint32_t stream = 0x53414d50u;

size_t token_bytes(enum token_type type)
{
    return type == TOKEN_U16 ? sizeof(uint16_t) : sizeof(int64_t);
}

const char *token_type_name(enum token_type type)
{
    return type == TOKEN_U16 ? "u16" : "i64";
}

void tokens_make(uint64_t seed, uint64_t sample, size_t vocab, size_t count, int32_t *tokens)
{
    uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
    uint32_t counter[4] = { 0, stream, (uint32_t)sample, (uint32_t)(sample >> 32) };
    uint32_t row[4][PHILOX_ROW], scale = (uint32_t)vocab;
    for (size_t at = 0; at < count; at += ROW_TOKENS, counter[0] += PHILOX_ROW) {
        size_t end = count - at < ROW_TOKENS ? count - at : ROW_TOKENS;
        philox_4x32_row(counter, key, row);
        for (int word = 0; word < 4; word++)
            for (int i = 0; i < PHILOX_ROW; i++)
                row[word][i] = (uint32_t)((uint64_t)row[word][i] * scale >> 32);
        if (end == ROW_TOKENS)
            for (int i = 0; i < PHILOX_ROW; i++)
                for (int word = 0; word < 4; word++)
                    tokens[at + (size_t)(4 * i + word)] = (int32_t)row[word][i];
        else
            for (size_t i = 0; i < end; i++)
                tokens[at + i] = (int32_t)row[i % 4][i / 4];
    }
}

void tokens_store(const int32_t *tokens, size_t count, enum token_type type, void *stored)
{
    int64_t *wide = stored;
    uint16_t *narrow = stored;
    for (size_t i = 0; i < count; i++) {
        if (type == TOKEN_U16)
            narrow[i] = (uint16_t)tokens[i];
        else
            wide[i] = tokens[i];
    }
}

/* ---- checking ---------------------------------------------------------------------------- */

static bool wide_block_is_bad(const int64_t *in, int64_t top)
{
    uint64_t bad = 0;
    for (int i = 0; i < BLOCK; i++)
        bad |= (uint64_t)in[i] | ((uint64_t)top - (uint64_t)in[i]);
    return bad >> 63;
}

static bool narrow_block_is_bad(const uint16_t *in, int32_t top)
{
    uint32_t bad = 0;
    for (int i = 0; i < BLOCK; i++)
        bad |= (uint32_t)(top - in[i]);
    return bad >> 31;
}

static size_t look_at(const void *stored, size_t begin, size_t end, enum token_type type,
                      size_t vocab, int64_t *value)
{
    for (size_t i = begin; i < end; i++) {
        int64_t token = type == TOKEN_U16 ? ((const uint16_t *)stored)[i]
                                          : ((const int64_t *)stored)[i];
        if (token < 0 || (uint64_t)token >= vocab) {
            *value = token;
            return i;
        }
    }
    return SIZE_MAX;
}

size_t tokens_first_bad(const void *stored, size_t count, enum token_type type, size_t vocab,
                        int64_t *value)
{
    const int64_t *wide = stored;
    const uint16_t *narrow = stored;
    int64_t top = (int64_t)vocab - 1;
    size_t at = 0;
    for (; count - at >= BLOCK; at += BLOCK) {
        bool bad = type == TOKEN_U16 ? narrow_block_is_bad(narrow + at, (int32_t)top)
                                     : wide_block_is_bad(wide + at, top);
        if (bad)
            return look_at(stored, at, at + BLOCK, type, vocab, value);
    }
    return look_at(stored, at, count, type, vocab, value);
}

/* ---- reading ----------------------------------------------------------------------------- */

static bool load_wide_block(const int64_t *in, int64_t top, int32_t *out)
{
    uint64_t bad = 0;
    for (int i = 0; i < BLOCK; i++) {
        bad |= (uint64_t)in[i] | ((uint64_t)top - (uint64_t)in[i]);
        out[i] = (int32_t)in[i];
    }
    return bad >> 63;
}

static bool load_narrow_block(const uint16_t *in, int32_t top, int32_t *out)
{
    uint32_t bad = 0;
    for (int i = 0; i < BLOCK; i++) {
        bad |= (uint32_t)(top - in[i]);
        out[i] = in[i];
    }
    return bad >> 31;
}

size_t tokens_load(const void *stored, size_t count, enum token_type type, size_t vocab,
                   int32_t *tokens, int64_t *value)
{
    const int64_t *wide = stored;
    const uint16_t *narrow = stored;
    int64_t top = (int64_t)vocab - 1;
    size_t at = 0;
    for (; count - at >= BLOCK; at += BLOCK) {
        bool bad = type == TOKEN_U16 ? load_narrow_block(narrow + at, (int32_t)top, tokens + at)
                                     : load_wide_block(wide + at, top, tokens + at);
        if (bad)
            return look_at(stored, at, at + BLOCK, type, vocab, value);
    }
    for (size_t i = at; i < count; i++)
        tokens[i] = type == TOKEN_U16 ? narrow[i] : (int32_t)wide[i];
    return look_at(stored, at, count, type, vocab, value);
}
