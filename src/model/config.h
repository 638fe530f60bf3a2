/* What a model folder says about itself: config.json (the encoder), modules.json and
 * 1_Pooling/config.json (what happens to its output), sentence_bert_config.json (how long a text
 * may be), config_sentence_transformers.json (prompts). Every field is checked for its range and
 * against the others; errors name the file and the field. Does not look at weights or tokenizer. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file.h"
#include "base/log.h"
#include "compute/backend.h"

struct model_prompt {
    char *name, *text;
};

struct model_config {
    char folder[PATH_BYTES_MAX];        /* with config.json, tokenizer.json and the weights */
    char architecture[64];              /* "BertModel", "XLMRobertaModel", "RobertaModel" */
    size_t layers, hidden, heads, intermediate, vocabulary;
    size_t positions;                   /* rows of the position table */
    size_t position_first;              /* of a text's first token: 0, or pad_token_id + 1 */
    size_t types;                       /* rows of the token type table; 0: none */
    float epsilon;                      /* of every LayerNorm */
    size_t tokens_max;                  /* special tokens included */
    enum pooling pooling;
    bool normalize;
    struct model_prompt *prompts;
    size_t prompt_count;
};

/* `log` may be NULL. *config is empty on failure. */
enum akin_status model_config_load(const char *directory, const struct akin_log *log,
                                   struct model_config *config, struct akin_error *error);
void model_config_deinit(struct model_config *config);

const char *pooling_name(enum pooling pooling);     /* "mean", "cls", "max" */
