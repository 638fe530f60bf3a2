/* Tokens of training samples: made, stored, read back, checked. A sample is its source, then its
 * target, each of seq_len tokens. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* How a token lies in a file: little-endian, as this program's processors are. */
enum token_type {
    TOKEN_I64,                  /* int64: what the reference's program writes and reads */
    TOKEN_U16,                  /* uint16, for vocabularies of at most 65536 */
};

size_t token_bytes(enum token_type type);
const char *token_type_name(enum token_type type);      /* "i64", "u16" */

/* The first `count` tokens of a sample: a function of seed, sample and position, uniform in
 * [0, vocab) but for a bias below vocab / 2^32 (32 random bits, scaled). */
void tokens_make(uint64_t seed, uint64_t sample, size_t vocab, size_t count, int32_t *tokens);

void tokens_store(const int32_t *tokens, size_t count, enum token_type type, void *stored);

/* The first of `count` stored tokens that is not in [0, vocab), in *value; SIZE_MAX: all are. */
size_t tokens_first_bad(const void *stored, size_t count, enum token_type type, size_t vocab,
                        int64_t *value);
/* Reads them, and says the same at no further cost; `tokens` is then of no use. */
size_t tokens_load(const void *stored, size_t count, enum token_type type, size_t vocab,
                   int32_t *tokens, int64_t *value);
