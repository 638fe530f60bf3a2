/* From the JSON text of a row to its values. What is not a value is refused and not passed over:
 * nobody should find out by a filter that finds nothing. */
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"
#include "index/columns_image.h"
#include "index/fold.h"

static const int64_t whole_max = (int64_t)1 << 53;

struct reader {
    struct row_values *out;
    const char *where;
    const char *key;            /* of the field being read, as written */
    struct akin_error *error;
};

static enum akin_status refuse(const struct reader *r, enum akin_status status, const char *what)
{
    return error_set(r->error, status, "%s: %.80s: %s", r->where, r->key, what);
}

static enum akin_status refuse_type(const struct reader *r, const json_t *value,
                                    const char *expected)
{
    return error_set(r->error, AKIN_FORMAT, "%s: %.80s: expected %s, found %s", r->where, r->key,
                     expected, json_type_name(value));
}

/* Appends a folded text with a NUL behind; where it begins and ends. */
static bool append_folded(struct reader *r, const char *text, size_t text_bytes, size_t *at,
                          size_t *bytes)
{
    struct bytes *out = &r->out->bytes;
    *at = out->count;
    if (!fold_append(out, text, text_bytes))
        return false;
    *bytes = out->count - *at;
    bytes_append(out, "", 1);
    return !out->failed;
}

static enum akin_status add_value(struct reader *r, struct row_value value)
{
    struct row_values *out = r->out;
    if (!array_reserve((void **)&out->values, &out->capacity, out->count + 1,
                       sizeof *out->values))
        return error_memory(r->error);
    value.field = out->field_count - 1;
    out->values[out->count++] = value;
    return AKIN_OK;
}

static enum akin_status add_text(struct reader *r, const char *text, size_t bytes)
{
    struct row_value value = { .is_text = true };
    if (bytes == 0)
        return AKIN_OK;
    if (bytes > METADATA_TEXT_BYTES_MAX)
        return error_set(r->error, AKIN_LIMIT,
                         "%s: %.80s: a text of %zu bytes: at most %zu can be filtered by", r->where,
                         r->key, bytes, METADATA_TEXT_BYTES_MAX);
    if (r->out->count >= METADATA_TEXTS_MAX)
        return error_set(r->error, AKIN_LIMIT, "%s: %.80s: more than %d values in one row",
                         r->where, r->key, METADATA_TEXTS_MAX);
    if (!append_folded(r, text, bytes, &value.text_at, &value.text_bytes))
        return error_memory(r->error);
    return add_value(r, value);
}

static enum akin_status add_number(struct reader *r, const json_t *json)
{
    if (json_is_integer(json)) {
        int64_t whole = json_integer_value(json);
        if (whole > whole_max || whole < -whole_max)
            return refuse(r, AKIN_LIMIT, "beyond 2^53 numbers lose digits: write it as a string");
    }
    return add_value(r, (struct row_value){ .number = json_number_value(json) });
}

static enum akin_status add_list(struct reader *r, const json_t *list)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        if (!json_is_string(item))
            return refuse_type(r, item, "a list of strings only");
        TRY(add_text(r, json_string_value(item), json_string_length(item)));
    }
    return AKIN_OK;
}

/* Names that differ in case only are one field, and a row has it once. */
static enum akin_status add_field(struct reader *r)
{
    struct row_values *out = r->out;
    struct row_field field;
    size_t bytes = strlen(r->key);
    if (bytes == 0)
        return refuse(r, AKIN_FORMAT, "a field without a name");
    if (bytes > METADATA_NAME_BYTES_MAX)
        return error_set(r->error, AKIN_LIMIT, "%s: %.80s...: a name of %zu bytes: at most %d",
                         r->where, r->key, bytes, METADATA_NAME_BYTES_MAX);
    if (out->field_count >= METADATA_FIELDS_MAX)
        return error_set(r->error, AKIN_LIMIT, "%s: %.80s: more than %d fields in one row",
                         r->where, r->key, METADATA_FIELDS_MAX);
    if (!append_folded(r, r->key, bytes, &field.name_at, &field.name_bytes) ||
        !array_reserve((void **)&out->fields, &out->field_capacity, out->field_count + 1,
                       sizeof *out->fields))
        return error_memory(r->error);
    const char *name = out->bytes.data + field.name_at;
    field.name_hash = hash_bytes(name, field.name_bytes);
    for (size_t i = 0; i < out->field_count; i++)
        if (out->fields[i].name_hash == field.name_hash &&
            out->fields[i].name_bytes == field.name_bytes &&
            !memcmp(out->bytes.data + out->fields[i].name_at, name, field.name_bytes))
            return refuse(r, AKIN_FORMAT, "twice in one row, but for case: rename one of the two");
    out->fields[out->field_count++] = field;
    return AKIN_OK;
}

static enum akin_status add_any(struct reader *r, const json_t *value)
{
    TRY(add_field(r));
    switch (json_typeof(value)) {
    case JSON_STRING:
        return add_text(r, json_string_value(value), json_string_length(value));
    case JSON_TRUE:
        return add_text(r, "true", 4);
    case JSON_FALSE:
        return add_text(r, "false", 5);
    case JSON_INTEGER:
    case JSON_REAL:
        return add_number(r, value);
    case JSON_ARRAY:
        return add_list(r, value);
    case JSON_NULL:
        return AKIN_OK;
    case JSON_OBJECT:
        break;
    }
    return refuse_type(r, value, "a string, a number, a boolean or a list of strings");
}

enum akin_status row_parse(const char *text, size_t bytes, const char *where,
                           struct row_values *values, struct akin_error *error)
{
    struct reader reader = { .out = values, .where = where, .error = error };
    json_t *root = NULL;
    values->count = values->field_count = 0;
    bytes_clear(&values->bytes);
    if (bytes == 0)
        return AKIN_OK;
    if (bytes > METADATA_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "%s: metadata of %zu bytes: at most %zu for one row",
                         where, bytes, METADATA_BYTES_MAX);
    TRY(json_parse_strict(text, bytes, where, &root, error));
    enum akin_status status = AKIN_OK;
    if (!json_is_object(root))
        status = error_set(error, AKIN_FORMAT, "%s: expected an object of fields, found %s", where,
                           json_type_name(root));
    void *at = status == AKIN_OK ? json_object_iter(root) : NULL;
    for (; at && status == AKIN_OK; at = json_object_iter_next(root, at)) {
        reader.key = json_object_iter_key(at);
        status = add_any(&reader, json_object_iter_value(at));
    }
    json_decref(root);
    return status;
}

void row_values_deinit(struct row_values *values)
{
    memory_free(values->fields);
    memory_free(values->values);
    bytes_deinit(&values->bytes);
    *values = (struct row_values){ 0 };
}

enum akin_status columns_row_check(const char *text, size_t bytes, const char *where,
                                   struct akin_error *error)
{
    struct row_values values = { 0 };
    enum akin_status status = row_parse(text, bytes, where, &values, error);
    row_values_deinit(&values);
    return status;
}
