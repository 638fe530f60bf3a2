/* From the JSON text of a row to its values, in one pass and without a tree: a reader for all of
 * JSON takes four times as long, and every row is read when it is added, sealed and merged. It
 * takes what RFC 8259 allows and no more; the fuzz target holds it against jansson.
 *
 * What is no value is refused and not passed over: nobody should find out by a filter that finds
 * nothing. */
#include <math.h>
#include <string.h>

#include "base/csv.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "index/columns_image.h"
#include "index/fold.h"

enum { NUMBER_BYTES_MAX = 127 };        /* what parse_double takes */

struct reader {
    struct row_values *out;
    const char *where;
    const char *text;
    size_t bytes, at;
    const char *key;            /* of the field being read, as written but for escapes */
    int key_shown;              /* bytes of it in messages */
    struct akin_error *error;
};

/* A string as it lies in the text or, where it had escapes, in out->plain. */
struct slice {
    const char *text;
    size_t bytes;
};

/* ---- errors ----------------------------------------------------------------------------- */

static enum akin_status expected(const struct reader *r, const char *what)
{
    return error_set(r->error, AKIN_FORMAT, "%s: byte %zu: not valid JSON: expected %s", r->where,
                     r->at + 1, what);
}

static enum akin_status refuse(const struct reader *r, enum akin_status status, const char *what)
{
    return error_set(r->error, status, "%s: %.*s: %s", r->where, r->key_shown, r->key, what);
}

static enum akin_status refuse_type(const struct reader *r, const char *wanted)
{
    char c = r->at < r->bytes ? r->text[r->at] : 0;
    if (!c || !strchr("{[\"tfn-0123456789", c))
        return expected(r, "a value");
    const char *found = c == '{'               ? "an object"
                        : c == '['             ? "an array"
                        : c == '"'             ? "a string"
                        : c == 'n'             ? "null"
                        : c == 't' || c == 'f' ? "a boolean"
                                               : "a number";
    return error_set(r->error, AKIN_FORMAT, "%s: %.*s: expected %s, found %s", r->where,
                     r->key_shown, r->key, wanted, found);
}

/* ---- strings ---------------------------------------------------------------------------- */

static void skip_blanks(struct reader *r)
{
    while (r->at < r->bytes && (r->text[r->at] == ' ' || r->text[r->at] == '\n' ||
                                r->text[r->at] == '\t' || r->text[r->at] == '\r'))
        r->at++;
}

/* Moves behind the character and the blanks around it; false where another stands. */
static bool take(struct reader *r, char c)
{
    skip_blanks(r);
    if (r->at == r->bytes || r->text[r->at] != c)
        return false;
    r->at++;
    skip_blanks(r);
    return true;
}

static bool take_hex(struct reader *r, uint32_t *code)
{
    *code = 0;
    if (r->bytes - r->at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char c = r->text[r->at++];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16)
            return false;
        *code = *code * 16 + digit;
    }
    return true;
}

/* Behind the backslash. */
static enum akin_status take_escape(struct reader *r, struct bytes *out)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    char c = r->at < r->bytes ? r->text[r->at++] : 0, encoded[4];
    const char *letter = c ? strchr(letters, c) : NULL;
    if (letter) {
        bytes_append(out, &meanings[letter - letters], 1);
        return AKIN_OK;
    }
    uint32_t code, low;
    if (c != 'u' || !take_hex(r, &code))
        return expected(r, "an escape such as \\n or \\u00e9");
    if (code == 0)
        return expected(r, "another character than \\u0000, which no text may hold");
    if (code >= 0xd800 && code < 0xdc00) {
        if (r->bytes - r->at < 2 || memcmp(r->text + r->at, "\\u", 2))
            return expected(r, "the second half of a surrogate pair");
        r->at += 2;
        if (!take_hex(r, &low) || low < 0xdc00 || low > 0xdfff)
            return expected(r, "the second half of a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
        return expected(r, "the first half of a surrogate pair");
    }
    bytes_append(out, encoded, utf8_encode(code, encoded));
    return AKIN_OK;
}

/* Up to the next quote, backslash or control character. */
static struct slice take_plain(struct reader *r)
{
    size_t begin = r->at;
    while (r->at < r->bytes && r->text[r->at] != '"' && r->text[r->at] != '\\' &&
           (unsigned char)r->text[r->at] >= ' ')
        r->at++;
    return (struct slice){ r->text + begin, r->at - begin };
}

/* At the opening quote; moves behind the closing one. */
static enum akin_status take_string(struct reader *r, struct slice *string)
{
    struct bytes *plain = &r->out->plain;
    size_t begin = r->at++;
    *string = take_plain(r);
    bool escaped = r->at < r->bytes && r->text[r->at] == '\\';
    if (escaped) {
        bytes_clear(plain);
        bytes_append(plain, string->text, string->bytes);
    }
    while (r->at < r->bytes && r->text[r->at] == '\\') {
        r->at++;
        TRY(take_escape(r, plain));
        *string = take_plain(r);
        bytes_append(plain, string->text, string->bytes);
    }
    if (r->at == r->bytes || r->text[r->at] != '"')
        return expected(r, r->at == r->bytes ? "a quote" : "no control character in a string");
    r->at++;
    if (escaped) {
        if (plain->failed)
            return error_memory(r->error);
        *string = (struct slice){ plain->data, plain->count };
    }
    if (!utf8_valid(string->text, string->bytes)) {
        r->at = begin;
        return expected(r, "valid UTF-8 in this string");
    }
    return AKIN_OK;
}

/* ---- values ----------------------------------------------------------------------------- */

/* Appends a folded text with a NUL behind; where it begins and ends. */
static bool append_folded(struct reader *r, struct slice text, size_t *at, size_t *bytes)
{
    struct bytes *out = &r->out->bytes;
    *at = out->count;
    if (!fold_append(out, text.text, text.bytes))
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

static enum akin_status add_text(struct reader *r, struct slice text)
{
    struct row_value value = { .is_text = true };
    if (text.bytes == 0)
        return AKIN_OK;
    if (text.bytes > METADATA_TEXT_BYTES_MAX)
        return error_set(r->error, AKIN_LIMIT,
                         "%s: %.*s: a text of %zu bytes: at most %zu can be filtered by", r->where,
                         r->key_shown, r->key, text.bytes, METADATA_TEXT_BYTES_MAX);
    if (r->out->count >= METADATA_TEXTS_MAX)
        return error_set(r->error, AKIN_LIMIT, "%s: %.*s: more than %d values in one row",
                         r->where, r->key_shown, r->key, METADATA_TEXTS_MAX);
    if (!append_folded(r, text, &value.text_at, &value.text_bytes))
        return error_memory(r->error);
    return add_value(r, value);
}

static bool take_digits(struct reader *r)
{
    size_t begin = r->at;
    while (r->at < r->bytes && r->text[r->at] >= '0' && r->text[r->at] <= '9')
        r->at++;
    return r->at > begin;
}

/* Moves behind a number; `whole`: it has neither a fraction nor an exponent. */
static bool take_number(struct reader *r, bool *whole)
{
    r->at += r->text[r->at] == '-';
    size_t first = r->at;
    if (!take_digits(r) || (r->text[first] == '0' && r->at > first + 1))
        return false;
    *whole = true;
    if (r->at < r->bytes && r->text[r->at] == '.') {
        r->at++;
        *whole = false;
        if (!take_digits(r))
            return false;
    }
    if (r->at < r->bytes && (r->text[r->at] == 'e' || r->text[r->at] == 'E')) {
        r->at++;
        *whole = false;
        r->at += r->at < r->bytes && (r->text[r->at] == '-' || r->text[r->at] == '+');
        return take_digits(r);
    }
    return true;
}

static enum akin_status add_number(struct reader *r)
{
    struct row_value value = { .is_text = false };
    size_t begin = r->at;
    bool whole;
    int64_t exact;
    if (!take_number(r, &whole))
        return expected(r, "a number");
    const char *text = r->text + begin;
    size_t bytes = r->at - begin;
    if (whole && (!parse_int64(text, bytes, &exact) || exact > ((int64_t)1 << 53) ||
                  exact < -((int64_t)1 << 53)))
        return refuse(r, AKIN_LIMIT, "whole numbers beyond 2^53 lose digits: write a string");
    if (bytes > NUMBER_BYTES_MAX)
        return refuse(r, AKIN_LIMIT, "a number of more than 127 characters");
    if (!parse_double(text, bytes, &value.number) || !isfinite(value.number))
        return refuse(r, AKIN_LIMIT, "a number beyond the range of double precision");
    return add_value(r, value);
}

static enum akin_status add_list(struct reader *r)
{
    struct slice text;
    r->at++;
    skip_blanks(r);
    if (take(r, ']'))
        return AKIN_OK;
    do {
        if (r->at == r->bytes || r->text[r->at] != '"')
            return refuse_type(r, "a list of strings only");
        TRY(take_string(r, &text));
        TRY(add_text(r, text));
    } while (take(r, ','));
    return take(r, ']') ? AKIN_OK : expected(r, "',' or ']'");
}

/* true, false or null. */
static enum akin_status add_word(struct reader *r)
{
    static const char *const words[] = { "true", "false", "null" };
    for (size_t i = 0; i < 3; i++) {
        size_t bytes = strlen(words[i]);
        if (r->bytes - r->at >= bytes && !memcmp(r->text + r->at, words[i], bytes)) {
            r->at += bytes;
            return add_text(r, (struct slice){ words[i], i < 2 ? bytes : 0 });
        }
    }
    return expected(r, "a value");
}

static enum akin_status add_any(struct reader *r)
{
    struct slice text;
    switch (r->at < r->bytes ? r->text[r->at] : 0) {
    case '"':
        TRY(take_string(r, &text));
        return add_text(r, text);
    case '[':
        return add_list(r);
    case 't':
    case 'f':
    case 'n':
        return add_word(r);
    case '{':
        return refuse_type(r, "a string, a number, a boolean or a list of strings");
    default:
        if (r->at == r->bytes || !strchr("-0123456789", r->text[r->at]) || !r->text[r->at])
            return expected(r, "a value");
        return add_number(r);
    }
}

/* ---- fields ----------------------------------------------------------------------------- */

/* Names that differ in case only are one field, and a row has it once. */
static enum akin_status add_field(struct reader *r, struct slice name)
{
    struct row_values *out = r->out;
    struct row_field field;
    r->key = name.text;
    r->key_shown = name.bytes > 80 ? 80 : (int)name.bytes;
    if (name.bytes == 0)
        return refuse(r, AKIN_FORMAT, "a field without a name");
    if (name.bytes > METADATA_NAME_BYTES_MAX)
        return error_set(r->error, AKIN_LIMIT, "%s: %.*s...: a name of %zu bytes: at most %d",
                         r->where, r->key_shown, r->key, name.bytes, METADATA_NAME_BYTES_MAX);
    if (out->field_count >= METADATA_FIELDS_MAX)
        return error_set(r->error, AKIN_LIMIT, "%s: %.*s: more than %d fields in one row",
                         r->where, r->key_shown, r->key, METADATA_FIELDS_MAX);
    if (!append_folded(r, name, &field.name_at, &field.name_bytes) ||
        !array_reserve((void **)&out->fields, &out->field_capacity, out->field_count + 1,
                       sizeof *out->fields))
        return error_memory(r->error);
    const char *folded = out->bytes.data + field.name_at;
    field.name_hash = hash_bytes(folded, field.name_bytes);
    for (size_t i = 0; i < out->field_count; i++)
        if (out->fields[i].name_hash == field.name_hash &&
            out->fields[i].name_bytes == field.name_bytes &&
            !memcmp(out->bytes.data + out->fields[i].name_at, folded, field.name_bytes))
            return refuse(r, AKIN_FORMAT, "twice in one row (case does not count)");
    out->fields[out->field_count++] = field;
    return AKIN_OK;
}

static enum akin_status read_object(struct reader *r)
{
    if (take(r, '}'))
        return AKIN_OK;
    do {
        struct slice name;
        char key[80];
        if (r->at == r->bytes || r->text[r->at] != '"')
            return expected(r, "the name of a field in quotes");
        TRY(take_string(r, &name));
        TRY(add_field(r, name));
        memcpy(key, name.text, (size_t)r->key_shown);   /* a value with escapes takes its place */
        r->key = key;
        if (!take(r, ':'))
            return expected(r, "':'");
        TRY(add_any(r));
    } while (take(r, ','));
    return take(r, '}') ? AKIN_OK : expected(r, "',' or '}'");
}

enum akin_status row_parse(const char *text, size_t bytes, const char *where,
                           struct row_values *values, struct akin_error *error)
{
    struct reader r = { .out = values, .where = where, .text = text, .bytes = bytes,
                        .error = error };
    values->count = values->field_count = 0;
    bytes_clear(&values->bytes);
    if (bytes == 0)
        return AKIN_OK;
    if (bytes > METADATA_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "%s: metadata of %zu bytes: at most %zu for one row",
                         where, bytes, METADATA_BYTES_MAX);
    if (!take(&r, '{'))
        return expected(&r, "an object of fields, such as {\"year\": 1999}");
    TRY(read_object(&r));
    return r.at == r.bytes ? AKIN_OK : expected(&r, "the end");
}

void row_values_deinit(struct row_values *values)
{
    memory_free(values->fields);
    memory_free(values->values);
    bytes_deinit(&values->bytes);
    bytes_deinit(&values->plain);
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
