/* The inside of struct tokenizer, for the two files that fill and run it. */
#pragma once

#include "base/memory.h"
#include "text/added_tokens.h"
#include "text/models.h"
#include "text/normalize.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"

enum model_kind { MODEL_WORDPIECE, MODEL_UNIGRAM };

struct id_list {
    uint32_t *items;
    size_t count, capacity;
};

struct tokenizer {
    struct unicode unicode;
    struct added_tokens added;
    struct normalizers normalizers;
    struct pretokenizers pretokenizers;
    enum model_kind kind;
    struct wordpiece wordpiece;
    struct unigram unigram;
    struct id_list prefix, suffix;  /* special tokens around the text's own */
    bool trims_offsets, trims_all;  /* RobertaProcessing: spaces at the ends of added tokens */
    bool cuttable;                  /* long texts may be worked on in parts */
    uint32_t vocabulary_size, file_tokens_max;
    int64_t pad_id;
};

static inline const struct trie *tokenizer_trie(const struct tokenizer *tokenizer)
{
    return tokenizer->kind == MODEL_WORDPIECE ? &tokenizer->wordpiece.trie
                                              : &tokenizer->unigram.trie;
}
