/* Text to tokens, as the Hugging Face `tokenizers` package does it, from tokenizer.json alone:
 * WordPiece (BERT) and Unigram (XLM-R) with their normalizers, pre-tokenizers, added tokens and
 * single-sequence post-processors. BPE and WordLevel, sequence pairs, padding and decoding are not
 * here; what a tokenizer.json asks for and is not supported is refused by name when it is opened.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct tokenizer;
struct tokenizer_scratch;

/* Bytes [begin, end) of the text that the caller gave. */
struct token_offset {
    uint32_t begin, end;
};

/* AKIN_FORMAT where a field is missing, of a wrong type or lies; AKIN_UNSUPPORTED names the field.
 */
enum akin_status tokenizer_open(const char *path, struct tokenizer **tokenizer,
                                struct akin_error *error);
/* The same from parsed JSON (borrowed); `where` stands for the path in errors. */
enum akin_status tokenizer_from_json(const json_t *root, const char *where,
                                     struct tokenizer **tokenizer, struct akin_error *error);
void tokenizer_close(struct tokenizer **tokenizer);     /* NULL is fine */

/* A tokenizer never changes: any thread may use it, each with a scratch of its own. The scratch's
 * buffers grow to what the longest text needed and stay; then encoding allocates nothing. */
enum akin_status tokenizer_scratch_create(struct tokenizer_scratch **scratch,
                                          struct akin_error *error);
void tokenizer_scratch_destroy(struct tokenizer_scratch **scratch);     /* NULL is fine */

/* Encodes `text` (any bytes; what is not UTF-8 is read as U+FFFD) with its special tokens into
 * ids[0..*count). At most ids_max come out: the text's tokens are cut at the right, special tokens
 * stay. ids_max must be at least tokenizer_special_tokens. offsets (nullable) receives the bytes of
 * each token, [0, 0) for special ones. AKIN_LIMIT above LINE_BYTES_MAX. */
enum akin_status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t bytes,
                                  struct tokenizer_scratch *scratch, uint32_t *ids,
                                  struct token_offset *offsets, size_t ids_max, size_t *count,
                                  struct akin_error *error);

const char *tokenizer_kind(const struct tokenizer *tokenizer);      /* "wordpiece" or "unigram" */
/* Every id is below this: the rows that an embedding table needs. */
uint32_t tokenizer_vocabulary_size(const struct tokenizer *tokenizer);
uint32_t tokenizer_special_tokens(const struct tokenizer *tokenizer);   /* added around each text */
/* From `padding`, else of "[PAD]" or "<pad>"; -1 where there is none. */
int64_t tokenizer_pad_id(const struct tokenizer *tokenizer);
/* truncation.max_length of the file; 0 where it has none. Encoding does not apply it by itself. */
uint32_t tokenizer_file_tokens_max(const struct tokenizer *tokenizer);
/* The id of a token by its text, added or of the vocabulary; -1 when there is none. */
int64_t tokenizer_token_id(const struct tokenizer *tokenizer, const char *token, size_t bytes);
