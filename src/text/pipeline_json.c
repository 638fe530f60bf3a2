#include "text/pipeline_json.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum { SEQUENCE_DEPTH_MAX = 16, WHERE_BYTES = 512, REPEAT_MAX = 1000 };

enum akin_status json_get_bool(const json_t *object, const char *key, const char *where,
                               bool *value, struct akin_error *error)
{
    const json_t *found = json_object_get(object, key);
    if (!json_is_boolean(found))
        return error_set(error, AKIN_FORMAT, "%s: %s: expected a boolean, found %s", where, key,
                         json_type_name(found));
    *value = json_is_true(found);
    return AKIN_OK;
}

/* ---- normalizers ------------------------------------------------------------------------- */

/* "x+" and "x{n,}" for one literal code point x, and texts without anything special in them: the
 * regular expressions that occur in tokenizers of our two kinds. */
static enum akin_status parse_regex(struct normalizer *normalizer, const char *regex, size_t bytes,
                                    const char *where, struct akin_error *error)
{
    static const char special[] = "\\^$.|?*+()[]{}";
    unsigned long least = 1;
    uint32_t code;
    int used = 0;
    size_t first = bytes > 0 ? utf8_decode(regex, bytes, &code) : 0, literal = 0;
    while (literal < bytes && (regex[literal] == '\0' || !strchr(special, regex[literal])))
        literal++;
    size_t rest = bytes - literal;
    bool plus = rest == 1 && regex[literal] == '+';
    bool braces = !plus && rest >= 4 && rest <= 6 && regex[literal + 1] >= '0' &&
                  regex[literal + 1] <= '9' &&
                  sscanf(regex + literal, "{%3lu,}%n", &least, &used) == 1 && (size_t)used == rest;
    if (literal == 0 || (rest > 0 && literal != first) || (rest > 0 && !plus && !braces) ||
        least < 1)
        return error_set(
            error, AKIN_UNSUPPORTED,
            "%s: pattern.Regex: \"%.200s\" is not supported, only literal texts and one "
            "repeated character such as \" {2,}\"",
            where, regex);
    bytes_append(&normalizer->pattern, regex, literal);
    normalizer->repeats = rest > 0;
    normalizer->repeat_min = least;
    return AKIN_OK;
}

static enum akin_status parse_replace(const json_t *json, const char *where,
                                      struct normalizer *normalizer, struct akin_error *error)
{
    const json_t *pattern = json_object_get(json, "pattern");
    const json_t *text = json_object_get(pattern, "String"),
                 *regex = json_object_get(pattern, "Regex");
    const json_t *content = json_object_get(json, "content");
    if (!json_is_string(text) && !json_is_string(regex))
        return error_set(error, AKIN_FORMAT,
                         "%s: pattern: expected {\"String\": ...} or {\"Regex\": ...}", where);
    if (!json_is_string(content))
        return error_set(error, AKIN_FORMAT, "%s: content: expected a string, found %s", where,
                         json_type_name(content));
    normalizer->kind = NORMALIZER_REPLACE;
    bytes_append(&normalizer->content, json_string_value(content), json_string_length(content));
    if (json_is_string(regex))
        return parse_regex(normalizer, json_string_value(regex), json_string_length(regex), where,
                           error);
    if (json_string_length(text) == 0)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: pattern.String: an empty text matches nothing "
                         "that could be replaced",
                         where);
    bytes_append(&normalizer->pattern, json_string_value(text), json_string_length(text));
    normalizer->repeat_min = 1;
    return AKIN_OK;
}

static enum akin_status parse_bert(const json_t *json, const char *where,
                                   struct normalizer *normalizer, struct akin_error *error)
{
    normalizer->kind = NORMALIZER_BERT;
    TRY(json_get_bool(json, "clean_text", where, &normalizer->clean, error));
    TRY(json_get_bool(json, "handle_chinese_chars", where, &normalizer->cjk, error));
    TRY(json_get_bool(json, "lowercase", where, &normalizer->lower, error));
    normalizer->strip_accents = normalizer->lower;
    return json_opt_bool(json, "strip_accents", where, &normalizer->strip_accents, error);
}

static enum akin_status parse_precompiled(const json_t *json, const char *where,
                                          struct normalizer *normalizer, struct akin_error *error)
{
    const json_t *map = json_object_get(json, "precompiled_charsmap");
    if (!json_is_string(map))
        return error_set(error, AKIN_FORMAT,
                         "%s: precompiled_charsmap: expected a string, found %s", where,
                         json_type_name(map));
    normalizer->kind = NORMALIZER_PRECOMPILED;
    return charsmap_init(&normalizer->charsmap, json_string_value(map), json_string_length(map),
                         where, error);
}

static enum akin_status parse_prepend(const json_t *json, const char *where,
                                      struct normalizer *normalizer, struct akin_error *error)
{
    const json_t *text = json_object_get(json, "prepend");
    if (!json_is_string(text))
        return error_set(error, AKIN_FORMAT, "%s: prepend: expected a string, found %s", where,
                         json_type_name(text));
    normalizer->kind = NORMALIZER_PREPEND;
    bytes_append(&normalizer->content, json_string_value(text), json_string_length(text));
    return AKIN_OK;
}

static enum akin_status parse_normalizer(const json_t *json, const char *type, const char *where,
                                         struct normalizer *normalizer, struct akin_error *error)
{
    static const struct { const char *type; enum normalizer_kind kind; int form; } plain[] = {
        { "NFD", NORMALIZER_FORM, 0 },
        { "NFKD", NORMALIZER_FORM, FORM_COMPATIBLE },
        { "NFC", NORMALIZER_FORM, FORM_COMPOSED },
        { "NFKC", NORMALIZER_FORM, FORM_COMPATIBLE | FORM_COMPOSED },
        { "Lowercase", NORMALIZER_LOWERCASE, 0 },
        { "StripAccents", NORMALIZER_STRIP_ACCENTS, 0 },
        { "Nmt", NORMALIZER_NMT, 0 },
    };
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (strcmp(type, plain[i].type) == 0) {
            normalizer->kind = plain[i].kind;
            normalizer->form = plain[i].form;
            return AKIN_OK;
        }
    }
    if (strcmp(type, "BertNormalizer") == 0)
        return parse_bert(json, where, normalizer, error);
    if (strcmp(type, "Precompiled") == 0)
        return parse_precompiled(json, where, normalizer, error);
    if (strcmp(type, "Replace") == 0)
        return parse_replace(json, where, normalizer, error);
    if (strcmp(type, "Prepend") == 0)
        return parse_prepend(json, where, normalizer, error);
    if (strcmp(type, "Strip") == 0) {
        normalizer->kind = NORMALIZER_STRIP;
        TRY(json_get_bool(json, "strip_left", where, &normalizer->left, error));
        return json_get_bool(json, "strip_right", where, &normalizer->right, error);
    }
    return error_set(error, AKIN_UNSUPPORTED, "%s: type: normalizer \"%s\" is not supported", where,
                     type);
}

static enum akin_status add_normalizers(const json_t *json, const char *where, int depth,
                                        struct normalizers *normalizers, struct akin_error *error)
{
    const char *type;
    if (depth > SEQUENCE_DEPTH_MAX)
        return error_set(error, AKIN_LIMIT, "%s: sequences are nested over %d deep", where,
                         SEQUENCE_DEPTH_MAX);
    TRY(json_get_string(json, "type", where, &type, error));
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(json, "normalizers");
        if (!json_is_array(list))
            return error_set(error, AKIN_FORMAT, "%s: normalizers: expected an array, found %s",
                             where, json_type_name(list));
        for (size_t i = 0; i < json_array_size(list); i++)
            TRY(add_normalizers(json_array_get(list, i), where, depth + 1, normalizers, error));
        return AKIN_OK;
    }
    if (!array_reserve((void **)&normalizers->items, &normalizers->capacity, normalizers->count + 1,
                       sizeof *normalizers->items))
        return error_memory(error);
    struct normalizer *added = &normalizers->items[normalizers->count++];
    memset(added, 0, sizeof *added);
    TRY(parse_normalizer(json, type, where, added, error));
    return added->pattern.failed || added->content.failed ? error_memory(error) : AKIN_OK;
}

enum akin_status normalizers_from_json(const json_t *json, const char *where,
                                       struct normalizers *normalizers, struct akin_error *error)
{
    char place[WHERE_BYTES];
    snprintf(place, sizeof place, "%.400s: normalizer", where);
    return !json || json_is_null(json) ? AKIN_OK
                                       : add_normalizers(json, place, 0, normalizers, error);
}

/* ---- pre-tokenizers ---------------------------------------------------------------------- */

/* Files from before prepend_scheme say the same with add_prefix_space. */
static enum akin_status parse_metaspace(const json_t *json, const char *where,
                                        struct pretokenizer *pretokenizer, struct akin_error *error)
{
    const char *replacement, *scheme = NULL;
    bool prefix = true;
    pretokenizer->kind = PRETOKENIZER_METASPACE;
    pretokenizer->split = true;
    TRY(json_get_string(json, "replacement", where, &replacement, error));
    TRY(json_opt_string(json, "prepend_scheme", where, &scheme, error));
    TRY(json_opt_bool(json, "add_prefix_space", where, &prefix, error));
    TRY(json_opt_bool(json, "split", where, &pretokenizer->split, error));
    size_t bytes = strlen(replacement);
    if (bytes == 0 || utf8_decode(replacement, bytes, &pretokenizer->replacement) != bytes)
        return error_set(error, AKIN_FORMAT, "%s: replacement: expected one character", where);
    if (!scheme)
        scheme = prefix ? "always" : "never";
    if (strcmp(scheme, "always") == 0)
        pretokenizer->scheme = PREPEND_ALWAYS;
    else if (strcmp(scheme, "first") == 0)
        pretokenizer->scheme = PREPEND_FIRST;
    else if (strcmp(scheme, "never") == 0)
        pretokenizer->scheme = PREPEND_NEVER;
    else
        return error_set(error, AKIN_FORMAT, "%s: prepend_scheme: expected always, first or never, "
                         "found \"%.100s\"", where, scheme);
    if (!prefix && pretokenizer->scheme != PREPEND_NEVER)
        return error_set(error, AKIN_FORMAT,
                         "%s: add_prefix_space: false contradicts prepend_scheme "
                         "\"%s\"",
                         where, scheme);
    return AKIN_OK;
}

static enum akin_status add_pretokenizers(const json_t *json, const char *where, int depth,
                                          struct pretokenizers *pretokenizers,
                                          struct akin_error *error)
{
    const char *type;
    if (depth > SEQUENCE_DEPTH_MAX)
        return error_set(error, AKIN_LIMIT, "%s: sequences are nested over %d deep", where,
                         SEQUENCE_DEPTH_MAX);
    TRY(json_get_string(json, "type", where, &type, error));
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(json, "pretokenizers");
        if (!json_is_array(list))
            return error_set(error, AKIN_FORMAT, "%s: pretokenizers: expected an array, found %s",
                             where, json_type_name(list));
        for (size_t i = 0; i < json_array_size(list); i++)
            TRY(add_pretokenizers(json_array_get(list, i), where, depth + 1, pretokenizers, error));
        return AKIN_OK;
    }
    if (!array_reserve((void **)&pretokenizers->items, &pretokenizers->capacity,
                       pretokenizers->count + 1, sizeof *pretokenizers->items))
        return error_memory(error);
    struct pretokenizer *added = &pretokenizers->items[pretokenizers->count++];
    memset(added, 0, sizeof *added);
    if (strcmp(type, "BertPreTokenizer") == 0)
        added->kind = PRETOKENIZER_BERT;
    else if (strcmp(type, "WhitespaceSplit") == 0)
        added->kind = PRETOKENIZER_WHITESPACE_SPLIT;
    else if (strcmp(type, "Whitespace") == 0)
        added->kind = PRETOKENIZER_WHITESPACE;
    else if (strcmp(type, "Metaspace") == 0)
        return parse_metaspace(json, where, added, error);
    else
        return error_set(error, AKIN_UNSUPPORTED, "%s: type: pre-tokenizer \"%s\" is not supported",
                         where, type);
    return AKIN_OK;
}

enum akin_status pretokenizers_from_json(const json_t *json, const char *where,
                                         struct pretokenizers *pretokenizers,
                                         struct akin_error *error)
{
    char place[WHERE_BYTES];
    snprintf(place, sizeof place, "%.400s: pre_tokenizer", where);
    return !json || json_is_null(json) ? AKIN_OK
                                       : add_pretokenizers(json, place, 0, pretokenizers, error);
}
