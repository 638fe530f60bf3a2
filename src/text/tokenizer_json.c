/* Fills a struct tokenizer from a parsed tokenizer.json. The decoder, and settings that only
 * batching needs, are not read. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "text/pipeline_json.h"
#include "text/tokenizer_parts.h"

enum { WHERE_BYTES = 512, TOKEN_BYTES_MAX = UINT16_MAX, SPECIAL_TOKENS_MAX = 64 };

static enum akin_status expected(const json_t *found, const char *where, const char *field,
                                 const char *what, struct akin_error *error)
{
    return error_set(error, AKIN_FORMAT, "%s: %s: expected %s, found %s", where, field, what,
                     json_type_name(found));
}

/* An id, checked to be one. */
static enum akin_status read_id(const json_t *json, const char *where, const char *field,
                                uint32_t *id, struct akin_error *error)
{
    if (!json_is_integer(json))
        return expected(json, where, field, "an integer", error);
    json_int_t value = json_integer_value(json);
    if (value < 0 || value >= VOCABULARY_MAX)
        return error_set(error, AKIN_FORMAT, "%s: %s: id %lld is outside 0..%d (VOCABULARY_MAX)",
                         where, field, (long long)value, VOCABULARY_MAX - 1);
    *id = (uint32_t)value;
    return AKIN_OK;
}

static void saw_id(struct tokenizer *tokenizer, uint32_t id)
{
    if (id >= tokenizer->vocabulary_size)
        tokenizer->vocabulary_size = id + 1;
}

/* ---- models ------------------------------------------------------------------------------ */

static enum akin_status read_word_vocabulary(json_t *vocabulary, const char *where,
                                             struct trie_key *keys, struct tokenizer *tokenizer,
                                             struct akin_error *error)
{
    uint64_t *seen = memory_alloc(VOCABULARY_MAX / 64 + 1, sizeof *seen);
    const char *token;
    json_t *value;
    size_t count = 0;
    enum akin_status status = seen ? AKIN_OK : error_memory(error);
    if (status != AKIN_OK)
        return status;
    json_object_foreach(vocabulary, token, value) {
        uint32_t id = 0;
        TRY_DONE(read_id(value, where, "vocab", &id, error));
        if (seen[id / 64] >> id % 64 & 1) {
            status = error_set(error, AKIN_FORMAT,
                               "%s: vocab: id %u stands twice, the second time for "
                               "\"%.100s\"",
                               where, id, token);
            goto done;
        }
        seen[id / 64] |= (uint64_t)1 << id % 64;
        keys[count++] = (struct trie_key){ token, strlen(token), id };
        saw_id(tokenizer, id);
    }
done:
    memory_free(seen);
    return status;
}

static enum akin_status read_wordpiece(const json_t *json, const char *where,
                                       struct tokenizer *tokenizer, struct akin_error *error)
{
    struct wordpiece *model = &tokenizer->wordpiece;
    json_t *vocabulary = json_object_get(json, "vocab");
    const char *unknown, *prefix;
    int64_t codes_max;
    TRY(json_get_string(json, "unk_token", where, &unknown, error));
    TRY(json_get_string(json, "continuing_subword_prefix", where, &prefix, error));
    TRY(json_get_integer(json, "max_input_chars_per_word", where, &codes_max, error));
    if (codes_max < 0)
        return error_set(error, AKIN_FORMAT, "%s: max_input_chars_per_word: %lld is negative",
                         where, (long long)codes_max);
    if (!json_is_object(vocabulary))
        return expected(vocabulary, where, "vocab", "an object", error);
    size_t count = json_object_size(vocabulary);
    struct trie_key *keys = memory_alloc(count, sizeof *keys);
    enum akin_status status = keys ? AKIN_OK : error_memory(error);
    if (status == AKIN_OK)
        status = read_word_vocabulary(vocabulary, where, keys, tokenizer, error);
    if (status == AKIN_OK)
        status = trie_build(&model->trie, keys, count, NULL, error);
    memory_free(keys);
    if (status != AKIN_OK)
        return status;
    model->word_codes_max = (size_t)codes_max;
    model->continuation = trie_walk(&model->trie, TRIE_ROOT, prefix, strlen(prefix));
    model->unknown = trie_get(&model->trie, unknown, strlen(unknown));
    if (model->unknown == TRIE_NONE)
        return error_set(error, AKIN_FORMAT, "%s: unk_token: \"%.100s\" is not in the vocabulary",
                         where, unknown);
    return AKIN_OK;
}

static enum akin_status read_scores(const json_t *vocabulary, const char *where,
                                    struct trie_key *keys, struct unigram *model,
                                    struct akin_error *error)
{
    double least = INFINITY;
    for (size_t i = 0; i < model->count; i++) {
        const json_t *entry = json_array_get(vocabulary, i);
        const json_t *token = json_array_get(entry, 0), *score = json_array_get(entry, 1);
        if (!json_is_string(token) || !json_is_number(score) || json_array_size(entry) != 2)
            return error_set(error, AKIN_FORMAT, "%s: vocab[%zu]: expected [token, score]", where,
                             i);
        keys[i] =
            (struct trie_key){json_string_value(token), json_string_length(token), (uint32_t)i};
        if (keys[i].count > TOKEN_BYTES_MAX)
            return error_set(error, AKIN_LIMIT,
                             "%s: vocab[%zu]: a token of %zu bytes; the most is %d", where, i,
                             keys[i].count, TOKEN_BYTES_MAX);
        if (keys[i].count > model->token_bytes_max)
            model->token_bytes_max = keys[i].count;
        model->scores[i] = json_number_value(score);
        least = model->scores[i] < least ? model->scores[i] : least;
    }
    model->unknown_score = least - 10;
    return AKIN_OK;
}

static enum akin_status read_unigram(const json_t *json, const char *where,
                                     struct tokenizer *tokenizer, struct akin_error *error)
{
    struct unigram *model = &tokenizer->unigram;
    const json_t *vocabulary = json_object_get(json, "vocab"),
                 *unknown = json_object_get(json, "unk_id");
    if (!json_is_array(vocabulary))
        return expected(vocabulary, where, "vocab", "an array", error);
    size_t count = json_array_size(vocabulary);
    if (count == 0 || count > VOCABULARY_MAX)
        return error_set(error, count == 0 ? AKIN_FORMAT : AKIN_LIMIT,
                         "%s: vocab: %zu tokens, outside 1..%d (VOCABULARY_MAX)", where, count,
                         VOCABULARY_MAX);
    model->count = (uint32_t)count;
    model->unknown = TRIE_NONE;
    if (unknown && !json_is_null(unknown))
        TRY(read_id(unknown, where, "unk_id", &model->unknown, error));
    if (model->unknown != TRIE_NONE && model->unknown >= count)
        return error_set(error, AKIN_FORMAT,
                         "%s: unk_id: %u is not below the vocabulary's %zu tokens", where,
                         model->unknown, count);
    TRY(json_opt_bool(json, "byte_fallback", where, &model->byte_fallback, error));
    struct trie_key *keys = memory_alloc(count, sizeof *keys);
    model->scores = memory_alloc(count, sizeof *model->scores);
    enum akin_status status = keys && model->scores ? AKIN_OK : error_memory(error);
    if (status == AKIN_OK)
        status = read_scores(vocabulary, where, keys, model, error);
    if (status == AKIN_OK)
        status = trie_build(&model->trie, keys, count, NULL, error);
    memory_free(keys);
    if (status != AKIN_OK)
        return status;
    saw_id(tokenizer, model->count - 1);
    for (unsigned byte = 0; byte < 256; byte++) {
        char token[8];
        int bytes = snprintf(token, sizeof token, "<0x%02X>", byte);
        model->byte_ids[byte] = trie_get(&model->trie, token, (size_t)bytes);
    }
    return AKIN_OK;
}

/* Files from before `type` are told apart by their fields, as the peer does. */
static enum akin_status read_model(const json_t *json, const char *file,
                                   struct tokenizer *tokenizer, struct akin_error *error)
{
    char where[WHERE_BYTES];
    const char *type = NULL;
    snprintf(where, sizeof where, "%.400s: model", file);
    if (!json_is_object(json))
        return expected(json, file, "model", "an object", error);
    TRY(json_opt_string(json, "type", where, &type, error));
    if (!type)
        type = json_object_get(json, "merges")                    ? "BPE"
               : json_object_get(json, "continuing_subword_prefix") ? "WordPiece"
               : json_is_array(json_object_get(json, "vocab"))      ? "Unigram"
                                                                    : "WordLevel";
    if (strcmp(type, "WordPiece") == 0) {
        tokenizer->kind = MODEL_WORDPIECE;
        return read_wordpiece(json, where, tokenizer, error);
    }
    if (strcmp(type, "Unigram") == 0) {
        tokenizer->kind = MODEL_UNIGRAM;
        return read_unigram(json, where, tokenizer, error);
    }
    return error_set(error, AKIN_UNSUPPORTED,
                     "%s: type: \"%.100s\" is not supported, only WordPiece and "
                     "Unigram",
                     where, type);
}

/* ---- added tokens ------------------------------------------------------------------------ */

/* What a token that is matched after normalisation looks like then. */
static enum akin_status normalize_content(const struct tokenizer *tokenizer,
                                          struct added_token *token, struct akin_error *error)
{
    struct text_buffer buffers[2] = { 0 }, *text = &buffers[0], *spare = &buffers[1];
    struct decomposer decomposer = { 0 };
    if (text_reserve(text, token->text.count + 4)) {
        memcpy(text->bytes, token->text.data, token->text.count);
        text->count = token->text.count;
    }
    normalizers_apply(&tokenizer->normalizers, &tokenizer->unicode, &decomposer, &text, &spare);
    bytes_append(&token->content, text->bytes, text->count);
    bool failed = text->failed || spare->failed || token->content.failed;
    text_deinit(&buffers[0]);
    text_deinit(&buffers[1]);
    decomposer_deinit(&decomposer);
    return failed ? error_memory(error) : AKIN_OK;
}

static struct added_token *find_added(struct added_tokens *added, const char *text, size_t bytes)
{
    for (size_t i = 0; i < added->count; i++) {
        if (added->items[i].text.count == bytes &&
            memcmp(added->items[i].text.data, text, bytes) == 0)
            return &added->items[i];
    }
    return NULL;
}

/* As the peer does, the id is the one that the vocabulary has for the text, and else the next free
 * one: the file's own `id` is only checked to be a number. Of two entries for one text the later
 * one's flags count. */
static enum akin_status read_added_token(const json_t *json, const char *where, uint32_t *next_id,
                                         struct tokenizer *tokenizer, struct akin_error *error)
{
    struct added_tokens *added = &tokenizer->added;
    struct added_token token = { 0 };
    const json_t *content = json_object_get(json, "content");
    if (!json_is_string(content))
        return expected(content, where, "content", "a string", error);
    TRY(read_id(json_object_get(json, "id"), where, "id", &token.id, error));
    TRY(json_get_bool(json, "single_word", where, &token.single_word, error));
    TRY(json_get_bool(json, "lstrip", where, &token.left, error));
    TRY(json_get_bool(json, "rstrip", where, &token.right, error));
    TRY(json_get_bool(json, "normalized", where, &token.normalized, error));
    TRY(json_get_bool(json, "special", where, &token.special, error));
    const char *text = json_string_value(content);
    size_t bytes = json_string_length(content);
    if (bytes == 0)
        return AKIN_OK;
    struct added_token *earlier = find_added(added, text, bytes);
    token.id = earlier ? earlier->id : trie_get(tokenizer_trie(tokenizer), text, bytes);
    if (token.id == TRIE_NONE)
        token.id = (*next_id)++;
    saw_id(tokenizer, token.id);
    if (earlier) {
        bytes_deinit(&earlier->text);
        bytes_deinit(&earlier->content);
    } else if (!array_reserve((void **)&added->items, &added->capacity, added->count + 1,
                              sizeof *added->items)) {
        return error_memory(error);
    } else {
        earlier = &added->items[added->count++];
    }
    *earlier = token;
    bytes_append(&earlier->text, text, bytes);
    if (token.normalized)
        return normalize_content(tokenizer, earlier, error);
    bytes_append(&earlier->content, text, bytes);
    return earlier->text.failed || earlier->content.failed ? error_memory(error) : AKIN_OK;
}

static enum akin_status read_added_tokens(const json_t *json, const char *file,
                                          uint32_t model_tokens, struct tokenizer *tokenizer,
                                          struct akin_error *error)
{
    if (json && !json_is_null(json) && !json_is_array(json))
        return expected(json, file, "added_tokens", "an array", error);
    uint32_t next_id = model_tokens;
    for (size_t i = 0; i < json_array_size(json); i++) {
        char where[WHERE_BYTES];
        snprintf(where, sizeof where, "%.400s: added_tokens[%zu]", file, i);
        TRY(read_added_token(json_array_get(json, i), where, &next_id, tokenizer, error));
    }
    return added_tokens_index(&tokenizer->added, file, error);
}

/* ---- post-processors --------------------------------------------------------------------- */

static enum akin_status append_id(struct id_list *list, uint32_t id, const char *where,
                                  struct tokenizer *tokenizer, struct akin_error *error)
{
    if (list->count >= SPECIAL_TOKENS_MAX)
        return error_set(error, AKIN_LIMIT, "%s: more than %d special tokens around a text", where,
                         SPECIAL_TOKENS_MAX);
    if (!array_reserve((void **)&list->items, &list->capacity, list->count + 1,
                       sizeof *list->items))
        return error_memory(error);
    list->items[list->count++] = id;
    saw_id(tokenizer, id);
    return AKIN_OK;
}

/* One more special token at the outside of the prefix: later processors wrap earlier ones. */
static enum akin_status prepend_ids(struct tokenizer *tokenizer, const struct id_list *outer,
                                    const char *where, struct akin_error *error)
{
    struct id_list *prefix = &tokenizer->prefix;
    size_t inner = prefix->count;
    for (size_t i = 0; i < outer->count; i++)
        TRY(append_id(prefix, outer->items[i], where, tokenizer, error));
    if (outer->count > 0) {
        memmove(prefix->items + outer->count, prefix->items, inner * sizeof *prefix->items);
        memcpy(prefix->items, outer->items, outer->count * sizeof *prefix->items);
    }
    return AKIN_OK;
}

static enum akin_status read_template(const json_t *json, const char *where,
                                      struct tokenizer *tokenizer, struct akin_error *error)
{
    const json_t *single = json_object_get(json, "single");
    const json_t *special = json_object_get(json, "special_tokens");
    struct id_list before = { 0 };
    bool after = false;
    enum akin_status status = AKIN_OK;
    if (!json_is_array(single))
        return expected(single, where, "single", "an array", error);
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i);
        const json_t *name = json_object_get(json_object_get(piece, "SpecialToken"), "id");
        const json_t *sequence = json_object_get(json_object_get(piece, "Sequence"), "id");
        if (json_is_string(sequence) && strcmp(json_string_value(sequence), "A") == 0 && !after) {
            after = true;
            continue;
        }
        if (!json_is_string(name)) {
            status =
                error_set(error, json_is_string(sequence) ? AKIN_UNSUPPORTED : AKIN_FORMAT,
                          "%s: single[%zu]: expected a SpecialToken, or Sequence A once", where, i);
            goto done;
        }
        const json_t *ids =
            json_object_get(json_object_get(special, json_string_value(name)), "ids");
        if (!json_is_array(ids)) {
            status = expected(ids, where, "special_tokens: ids", "an array", error);
            goto done;
        }
        for (size_t k = 0; k < json_array_size(ids); k++) {
            uint32_t id = 0;
            TRY_DONE(read_id(json_array_get(ids, k), where, "special_tokens: ids", &id, error));
            TRY_DONE(append_id(after ? &tokenizer->suffix : &before, id, where, tokenizer, error));
        }
    }
    if (after)
        status = prepend_ids(tokenizer, &before, where, error);
    else
        status = error_set(error, AKIN_UNSUPPORTED, "%s: single: Sequence A does not occur", where);
done:
    memory_free(before.items);
    return status;
}

/* BertProcessing and RobertaProcessing: cls, the text, sep. */
static enum akin_status read_cls_sep(const json_t *json, const char *where,
                                     struct tokenizer *tokenizer, struct akin_error *error)
{
    uint32_t cls = 0, sep = 0;
    TRY(read_id(json_array_get(json_object_get(json, "cls"), 1), where, "cls", &cls, error));
    TRY(read_id(json_array_get(json_object_get(json, "sep"), 1), where, "sep", &sep, error));
    struct id_list outer = { .items = &cls, .count = 1 };
    TRY(prepend_ids(tokenizer, &outer, where, error));
    return append_id(&tokenizer->suffix, sep, where, tokenizer, error);
}

static enum akin_status read_post_processor(const json_t *json, const char *where, int depth,
                                            struct tokenizer *tokenizer, struct akin_error *error)
{
    const char *type;
    if (!json || json_is_null(json))
        return AKIN_OK;
    TRY(json_get_string(json, "type", where, &type, error));
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(json, where, tokenizer, error);
    if (strcmp(type, "BertProcessing") == 0)
        return read_cls_sep(json, where, tokenizer, error);
    if (strcmp(type, "RobertaProcessing") == 0) {
        bool prefix = false;
        TRY(json_get_bool(json, "trim_offsets", where, &tokenizer->trims_offsets, error));
        TRY(json_get_bool(json, "add_prefix_space", where, &prefix, error));
        tokenizer->trims_all = !prefix;
        return read_cls_sep(json, where, tokenizer, error);
    }
    const json_t *list = json_object_get(json, "processors");
    if (strcmp(type, "Sequence") != 0 || depth > 0)
        return error_set(error, AKIN_UNSUPPORTED, "%s: type: \"%.100s\" is not supported", where,
                         type);
    if (!json_is_array(list))
        return expected(list, where, "processors", "an array", error);
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(read_post_processor(json_array_get(list, i), where, depth + 1, tokenizer, error));
    return AKIN_OK;
}

/* ---- the file ---------------------------------------------------------------------------- */

static enum akin_status read_settings(const json_t *root, const char *file,
                                      struct tokenizer *tokenizer, struct akin_error *error)
{
    char where[WHERE_BYTES];
    const char *version = "1.0", *direction = "Right";
    const json_t *truncation = json_object_get(root, "truncation");
    const json_t *padding = json_object_get(root, "padding");
    int64_t tokens_max = 0;
    TRY(json_opt_string(root, "version", file, &version, error));
    if (strcmp(version, "1.0") != 0)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: version: \"%.100s\" is not supported, only 1.0", file, version);
    snprintf(where, sizeof where, "%.400s: truncation", file);
    TRY(json_opt_integer(truncation, "max_length", where, &tokens_max, error));
    TRY(json_opt_string(truncation, "direction", where, &direction, error));
    if (strcmp(direction, "Right") != 0)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: direction: \"%.100s\" is not supported, only Right", where,
                         direction);
    if (tokens_max < 0 || tokens_max > UINT32_MAX)
        return error_set(error, AKIN_FORMAT, "%s: max_length: %lld is out of range", where,
                         (long long)tokens_max);
    tokenizer->file_tokens_max = (uint32_t)tokens_max;
    tokenizer->pad_id = tokenizer_token_id(tokenizer, "[PAD]", 5);
    if (tokenizer->pad_id < 0)
        tokenizer->pad_id = tokenizer_token_id(tokenizer, "<pad>", 5);
    if (json_is_object(padding)) {
        uint32_t id = 0;
        snprintf(where, sizeof where, "%.400s: padding", file);
        TRY(read_id(json_object_get(padding, "pad_id"), where, "pad_id", &id, error));
        tokenizer->pad_id = id;
    }
    return AKIN_OK;
}

static enum akin_status fill(const json_t *root, const char *file, struct tokenizer *tokenizer,
                             struct akin_error *error)
{
    char where[WHERE_BYTES];
    const json_t *model = json_object_get(root, "model");
    if (!json_is_object(root))
        return error_set(error, AKIN_FORMAT, "%s: expected an object, found %s", file,
                         json_type_name(root));
    TRY(normalizers_from_json(json_object_get(root, "normalizer"), file, &tokenizer->normalizers,
                              error));
    TRY(pretokenizers_from_json(json_object_get(root, "pre_tokenizer"), file,
                                &tokenizer->pretokenizers, error));
    TRY(read_model(model, file, tokenizer, error));
    snprintf(where, sizeof where, "%.400s: post_processor", file);
    TRY(read_post_processor(json_object_get(root, "post_processor"), where, 0, tokenizer, error));
    TRY(unicode_init(&tokenizer->unicode, error));
    const json_t *vocabulary = json_object_get(model, "vocab");
    size_t tokens =
        json_is_array(vocabulary) ? json_array_size(vocabulary) : json_object_size(vocabulary);
    TRY(read_added_tokens(json_object_get(root, "added_tokens"), file, (uint32_t)tokens, tokenizer,
                          error));
    TRY(read_settings(root, file, tokenizer, error));
    tokenizer->cuttable = normalizers_are_local(&tokenizer->normalizers) &&
                          pretokenizers_split_at_spaces(&tokenizer->pretokenizers) &&
                          !tokenizer->added.any_normalized;
    return AKIN_OK;
}

enum akin_status tokenizer_from_json(const json_t *root, const char *where,
                                     struct tokenizer **tokenizer, struct akin_error *error)
{
    struct tokenizer *made = memory_alloc(1, sizeof *made);
    if (!made)
        return error_memory(error);
    enum akin_status status = fill(root, where, made, error);
    if (status == AKIN_OK)
        *tokenizer = made;
    else
        tokenizer_close(&made);
    return status;
}
