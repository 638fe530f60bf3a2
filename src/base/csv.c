/* Rows of separated values, RFC 4180 quoting where asked for. */
#include "base/csv.h"

#include <stdlib.h>
#include <string.h>

void csv_open(struct csv_reader *csv, const char *name, const char *data, size_t bytes,
              const char *separator, bool quoted)
{
    ASSERT(strlen(separator) == 1 || strlen(separator) == 2);
    *csv = (struct csv_reader){ .name = name, .data = data, .bytes = bytes, .quoted = quoted,
                                .next_line = 1 };
    memcpy(csv->separator, separator, strlen(separator) + 1);
    if (bytes >= 3 && !memcmp(data, "\xef\xbb\xbf", 3))
        csv->at = 3;
}

void csv_close(struct csv_reader *csv)
{
    bytes_deinit(&csv->unquoted);
}

static bool at_separator(const struct csv_reader *csv, size_t at)
{
    if (csv->data[at] != csv->separator[0])
        return false;
    return !csv->separator[1] || (at + 1 < csv->bytes && csv->data[at + 1] == csv->separator[1]);
}

/* End of a line at `at`: how many bytes it takes, 0 if there is none. */
static size_t line_end(const struct csv_reader *csv, size_t at)
{
    if (csv->data[at] == '\n')
        return 1;
    return csv->data[at] == '\r' && at + 1 < csv->bytes && csv->data[at + 1] == '\n' ? 2 : 0;
}

static enum akin_status add_field(struct csv_reader *csv, const char *text, size_t bytes,
                                  struct akin_error *error)
{
    if (csv->field_count == CSV_FIELDS_MAX)
        return error_set(error, AKIN_FORMAT, "%s:%llu: more than %d fields in a row", csv->name,
                         (unsigned long long)csv->line, CSV_FIELDS_MAX);
    csv->unquoted_at[csv->field_count] = SIZE_MAX;
    csv->fields[csv->field_count++] = (struct csv_field){ text, bytes };
    return AKIN_OK;
}

/* A field that begins with a quote, at csv->at. Without doubled quotes it is a view of the input;
 * with them its text goes to the reader's buffer. */
static enum akin_status quoted_field(struct csv_reader *csv, struct akin_error *error)
{
    size_t begin = ++csv->at;
    bool doubled = false;
    for (;;) {
        const char *quote = memchr(csv->data + csv->at, '"', csv->bytes - csv->at);
        if (!quote)
            return error_set(error, AKIN_FORMAT, "%s:%llu: a quote is opened here and never closed",
                             csv->name, (unsigned long long)csv->line);
        csv->at = (size_t)(quote - csv->data) + 1;
        if (csv->at >= csv->bytes || csv->data[csv->at] != '"')
            break;
        doubled = true;
        csv->at++;
    }
    const char *text = csv->data + begin;
    size_t bytes = csv->at - 1 - begin;
    for (const char *p = text; (p = memchr(p, '\n', bytes - (size_t)(p - text))); p++)
        csv->next_line++;
    if (!doubled)
        return add_field(csv, text, bytes, error);
    size_t start = csv->unquoted.count;
    for (size_t i = 0; i < bytes; i++) {
        bytes_append(&csv->unquoted, text + i, 1);
        i += text[i] == '"';
    }
    if (csv->unquoted.failed)
        return error_memory(error);
    TRY(add_field(csv, NULL, csv->unquoted.count - start, error));
    csv->unquoted_at[csv->field_count - 1] = start;
    return AKIN_OK;
}

/* The buffer may move while a row is read, so its fields are pointed into it at the end. */
static void settle_unquoted(struct csv_reader *csv)
{
    for (size_t i = 0; i < csv->field_count; i++)
        if (csv->unquoted_at[i] != SIZE_MAX)
            csv->fields[i].text = csv->unquoted.data + csv->unquoted_at[i];
}

enum akin_status csv_next(struct csv_reader *csv, bool *row, struct akin_error *error)
{
    csv->field_count = 0;
    bytes_clear(&csv->unquoted);
    *row = csv->at < csv->bytes;
    csv->line = csv->next_line;
    if (!*row)
        return AKIN_OK;
    size_t separator_bytes = strlen(csv->separator);
    size_t end = line_end(csv, csv->at);
    if (end) {                                  /* an empty line */
        csv->at += end;
        csv->next_line++;
        return AKIN_OK;
    }
    for (;;) {
        if (csv->quoted && csv->at < csv->bytes && csv->data[csv->at] == '"') {
            TRY(quoted_field(csv, error));
            if (csv->at < csv->bytes && !at_separator(csv, csv->at) && !line_end(csv, csv->at))
                return error_set(error, AKIN_FORMAT, "%s:%llu: text behind a closing quote",
                                 csv->name, (unsigned long long)csv->next_line);
        } else {
            size_t begin = csv->at;
            while (csv->at < csv->bytes && !at_separator(csv, csv->at) && !line_end(csv, csv->at))
                csv->at++;
            TRY(add_field(csv, csv->data + begin, csv->at - begin, error));
        }
        if (csv->at >= csv->bytes)
            break;
        end = line_end(csv, csv->at);
        if (end) {
            csv->at += end;
            csv->next_line++;
            break;
        }
        csv->at += separator_bytes;
    }
    settle_unquoted(csv);
    return AKIN_OK;
}

/* ---- numbers ---------------------------------------------------------------------------- */

bool parse_uint64(const char *text, size_t bytes, uint64_t *value)
{
    uint64_t result = 0;
    if (bytes == 0)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        unsigned digit = (unsigned)(unsigned char)text[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(result, 10u, &result) ||
            __builtin_add_overflow(result, digit, &result))
            return false;
    }
    *value = result;
    return true;
}

bool parse_int64(const char *text, size_t bytes, int64_t *value)
{
    bool negative = bytes && text[0] == '-';
    uint64_t magnitude;
    if (!parse_uint64(text + negative, bytes - negative, &magnitude) ||
        magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    *value = negative ? (int64_t)-magnitude : (int64_t)magnitude;
    return true;
}

bool parse_double(const char *text, size_t bytes, double *value)
{
    /* Short decimals such as 3.5 are exact this way; the rest goes through strtod. */
    uint64_t whole = 0, fraction = 0;
    double scale = 1;
    size_t i = 0;
    for (; i < bytes && i < 9 && text[i] >= '0' && text[i] <= '9'; i++)
        whole = whole * 10 + (uint64_t)(text[i] - '0');
    if (i && i < bytes && text[i] == '.')
        for (i++; i < bytes && scale < 1e6 && text[i] >= '0' && text[i] <= '9'; i++, scale *= 10)
            fraction = fraction * 10 + (uint64_t)(text[i] - '0');
    if (i && i == bytes && text[0] != '.') {
        *value = ((double)whole * scale + (double)fraction) / scale;
        return true;
    }
    char copy[128], *end;
    if (bytes == 0 || bytes >= sizeof copy || (unsigned char)text[0] <= ' ')
        return false;
    memcpy(copy, text, bytes);
    copy[bytes] = 0;
    if (strchr(copy, 'x') || strchr(copy, 'X') || strlen(copy) != bytes)
        return false;
    *value = strtod(copy, &end);
    return *end == 0;
}
