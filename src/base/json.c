/* jansson with errors that name the place. */
#include "base/json.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/utf8.h"

enum akin_status json_read(const char *path, size_t bytes_max, json_t **root,
                           struct akin_error *error)
{
    struct bytes text = { 0 };
    enum akin_status status = file_read(path, bytes_max, &text, error);
    if (status == AKIN_OK) {
        json_error_t problem;
        *root = json_loadb(text.data, text.count, JSON_REJECT_DUPLICATES, &problem);
        if (!*root)
            status = error_set(error, AKIN_FORMAT, "%s:%d:%d: not valid JSON: %s", path,
                               problem.line, problem.column, problem.text);
    }
    bytes_deinit(&text);
    return status;
}

static enum akin_status parse(const char *text, size_t bytes, size_t flags, const char *where,
                              json_t **root, struct akin_error *error)
{
    json_error_t problem;
    json_t *value = json_loadb(text, bytes, flags | JSON_DECODE_ANY, &problem);
    if (!value)
        return error_set(error, AKIN_FORMAT, "%s:%d: not valid JSON: %s", where, problem.column,
                         problem.text);
    *root = value;
    return AKIN_OK;
}

enum akin_status json_parse(const char *text, size_t bytes, const char *where, json_t **root,
                            struct akin_error *error)
{
    return parse(text, bytes, JSON_ALLOW_NUL, where, root, error);
}

enum akin_status json_parse_strict(const char *text, size_t bytes, const char *where,
                                   json_t **root, struct akin_error *error)
{
    return parse(text, bytes, JSON_REJECT_DUPLICATES, where, root, error);
}

const char *json_type_name(const json_t *value)
{
    if (!value)
        return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "nothing";
}

static enum akin_status wrong_type(const json_t *value, const char *key, const char *where,
                                   const char *expected, struct akin_error *error)
{
    return error_set(error, AKIN_FORMAT, "%s: %s: expected %s, found %s", where, key, expected,
                     json_type_name(value));
}

static bool absent(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return !value || json_is_null(value);
}

enum akin_status json_get_string(const json_t *object, const char *key, const char *where,
                                 const char **value, struct akin_error *error)
{
    const json_t *found = json_object_get(object, key);
    if (!json_is_string(found))
        return wrong_type(found, key, where, "a string", error);
    *value = json_string_value(found);
    return AKIN_OK;
}

enum akin_status json_get_integer(const json_t *object, const char *key, const char *where,
                                  int64_t *value, struct akin_error *error)
{
    const json_t *found = json_object_get(object, key);
    if (!json_is_integer(found))
        return wrong_type(found, key, where, "an integer", error);
    *value = json_integer_value(found);
    return AKIN_OK;
}

enum akin_status json_get_number(const json_t *object, const char *key, const char *where,
                                 double *value, struct akin_error *error)
{
    const json_t *found = json_object_get(object, key);
    if (!json_is_number(found))
        return wrong_type(found, key, where, "a number", error);
    *value = json_number_value(found);
    return AKIN_OK;
}

enum akin_status json_opt_string(const json_t *object, const char *key, const char *where,
                                 const char **value, struct akin_error *error)
{
    return absent(object, key) ? AKIN_OK : json_get_string(object, key, where, value, error);
}

enum akin_status json_opt_integer(const json_t *object, const char *key, const char *where,
                                  int64_t *value, struct akin_error *error)
{
    return absent(object, key) ? AKIN_OK : json_get_integer(object, key, where, value, error);
}

enum akin_status json_opt_number(const json_t *object, const char *key, const char *where,
                                 double *value, struct akin_error *error)
{
    return absent(object, key) ? AKIN_OK : json_get_number(object, key, where, value, error);
}

enum akin_status json_opt_bool(const json_t *object, const char *key, const char *where,
                               bool *value, struct akin_error *error)
{
    if (absent(object, key))
        return AKIN_OK;
    const json_t *found = json_object_get(object, key);
    if (!json_is_boolean(found))
        return wrong_type(found, key, where, "a boolean", error);
    *value = json_is_true(found);
    return AKIN_OK;
}

void json_append_string(struct bytes *out, const char *text, size_t bytes)
{
    bytes_append(out, "\"", 1);
    for (size_t at = 0; at < bytes;) {
        uint32_t code;
        size_t took = utf8_decode(text + at, bytes - at, &code);
        at += took;
        char encoded[4];
        switch (code) {
        case '"':
            bytes_append(out, "\\\"", 2);
            break;
        case '\\':
            bytes_append(out, "\\\\", 2);
            break;
        case '\n':
            bytes_append(out, "\\n", 2);
            break;
        case '\r':
            bytes_append(out, "\\r", 2);
            break;
        case '\t':
            bytes_append(out, "\\t", 2);
            break;
        default:
            if (code < 0x20 || code == 0x7f)
                bytes_printf(out, "\\u%04x", code);
            else
                bytes_append(out, encoded, utf8_encode(code, encoded));
        }
    }
    bytes_append(out, "\"", 1);
}
