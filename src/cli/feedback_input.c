/* See feedback_input.h. Values are read here and checked where they are used: only what is no
 * string or no number at all is refused. */
#include "cli/feedback_input.h"

#include <stdio.h>
#include <string.h>

#include "base/csv.h"
#include "base/file.h"
#include "base/json.h"

enum column { COLUMN_USER, COLUMN_ITEM, COLUMN_RATING, COLUMN_TIME, COLUMNS };

struct feedback_input {
    const char *path;
    struct line_reader *lines;
    bool csv;
    size_t columns[COLUMNS];            /* of CSV: position + 1; 0: not there */
    double rating_max;
    int64_t now;
    struct bytes texts;                 /* users and items of the batch, each with its NUL */
    uint64_t *numbers;                  /* [batch] lines */
    size_t *offsets;                    /* [2 * batch] of texts */
    size_t numbers_capacity, offsets_capacity;
    enum akin_status failed;            /* told after the ratings before it */
    struct akin_error failure;
};

/* ---- one line --------------------------------------------------------------------------- */

static enum akin_status add_text(struct feedback_input *in, const char *where, const char *field,
                                 const char *text, size_t bytes, size_t *offset,
                                 struct akin_error *error)
{
    if (memchr(text, 0, bytes))
        return error_set(error, AKIN_FORMAT, "%s: %s: holds a zero byte", where, field);
    *offset = in->texts.count;
    bytes_append(&in->texts, text, bytes);
    bytes_append(&in->texts, "", 1);
    return in->texts.failed ? error_memory(error) : AKIN_OK;
}

/* A string or an integer. */
static enum akin_status json_name(struct feedback_input *in, const json_t *object, const char *key,
                                  const char *where, size_t *offset, struct akin_error *error)
{
    const json_t *value = json_object_get(object, key);
    char digits[32];
    if (json_is_integer(value)) {
        int length = snprintf(digits, sizeof digits, "%lld", (long long)json_integer_value(value));
        return add_text(in, where, key, digits, (size_t)length, offset, error);
    }
    if (!json_is_string(value))
        return error_set(error, AKIN_FORMAT, "%s: %s: expected a string, found %s", where, key,
                         json_type_name(value));
    return add_text(in, where, key, json_string_value(value), json_string_length(value), offset,
                    error);
}

static enum akin_status read_json(struct feedback_input *in, const char *line, size_t bytes,
                                  const char *where, size_t *offsets,
                                  struct akin_feedback *feedback, struct akin_error *error)
{
    json_t *object = NULL;
    double rating = 0;
    enum akin_status status = AKIN_OK;
    TRY(json_parse(line, bytes, where, &object, error));
    if (!json_is_object(object))
        TRY_DONE(error_set(error, AKIN_FORMAT, "%s: expected an object, found %s", where,
                           json_type_name(object)));
    const char *item = json_object_get(object, "item") ? "item" : "media_id";
    TRY_DONE(json_name(in, object, "user", where, &offsets[0], error));
    TRY_DONE(json_name(in, object, item, where, &offsets[1], error));
    TRY_DONE(json_get_number(object, "rating", where, &rating, error));
    TRY_DONE(json_opt_integer(object, "timestamp", where, &feedback->timestamp, error));
    feedback->rating = (float)(rating / in->rating_max);
done:
    json_decref(object);
    return status;
}

static const struct csv_field *field_of(const struct feedback_input *in,
                                        const struct csv_reader *csv, enum column column)
{
    size_t at = in->columns[column];
    return at && at <= csv->field_count ? &csv->fields[at - 1] : NULL;
}

static enum akin_status take_fields(struct feedback_input *in, const struct csv_reader *csv,
                                    const char *where, size_t *offsets,
                                    struct akin_feedback *feedback, struct akin_error *error)
{
    const struct csv_field *user = field_of(in, csv, COLUMN_USER);
    const struct csv_field *item = field_of(in, csv, COLUMN_ITEM);
    const struct csv_field *number = field_of(in, csv, COLUMN_RATING);
    const struct csv_field *time = field_of(in, csv, COLUMN_TIME);
    double rating;
    if (!user || !item || !number)
        return error_set(error, AKIN_FORMAT, "%s: only %zu fields", where, csv->field_count);
    TRY(add_text(in, where, "user", user->text, user->bytes, &offsets[0], error));
    TRY(add_text(in, where, "item", item->text, item->bytes, &offsets[1], error));
    if (!parse_double(number->text, number->bytes, &rating))
        return error_set(error, AKIN_FORMAT, "%s: rating: \"%.*s\" is not a number", where,
                         (int)(number->bytes < 40 ? number->bytes : 40), number->text);
    if (time && time->bytes && !parse_int64(time->text, time->bytes, &feedback->timestamp))
        return error_set(error, AKIN_FORMAT, "%s: timestamp: \"%.*s\" is not a whole number",
                         where, (int)(time->bytes < 40 ? time->bytes : 40), time->text);
    feedback->rating = (float)(rating / in->rating_max);
    return AKIN_OK;
}

static enum akin_status read_csv(struct feedback_input *in, const char *line, size_t bytes,
                                 const char *where, size_t *offsets,
                                 struct akin_feedback *feedback, struct akin_error *error)
{
    struct csv_reader csv;
    bool row = false;
    csv_open(&csv, in->path, line, bytes, ",", true);
    enum akin_status status = csv_next(&csv, &row, error);
    if (status == AKIN_OK)
        status = take_fields(in, &csv, where, offsets, feedback, error);
    csv_close(&csv);
    return status;
}

/* ---- batches ---------------------------------------------------------------------------- */

/* The next line that is not blank; *line NULL at the end. */
static enum akin_status next_line(struct feedback_input *in, const char **line, size_t *bytes,
                                  struct akin_error *error)
{
    do {
        TRY(line_reader_next(in->lines, line, bytes, error));
    } while (*line && strspn(*line, " \t\r\n") >= *bytes);
    return AKIN_OK;
}

static enum akin_status read_one(struct feedback_input *in, const char *line, size_t bytes,
                                 size_t i, struct akin_feedback *feedback,
                                 struct akin_error *error)
{
    char where[512];
    in->numbers[i] = line_reader_number(in->lines);
    snprintf(where, sizeof where, "%.400s:%llu", in->path, (unsigned long long)in->numbers[i]);
    *feedback = (struct akin_feedback){ .timestamp = in->now };
    return (in->csv ? read_csv : read_json)(in, line, bytes, where, &in->offsets[2 * i], feedback,
                                            error);
}

enum akin_status feedback_input_next(struct feedback_input *in, struct akin_feedback *feedback,
                                     size_t count, size_t *got, struct akin_error *error)
{
    *got = 0;
    bytes_clear(&in->texts);
    if (!array_reserve((void **)&in->numbers, &in->numbers_capacity, count, sizeof *in->numbers) ||
        !array_reserve((void **)&in->offsets, &in->offsets_capacity, 2 * count,
                       sizeof *in->offsets))
        return error_memory(error);
    while (in->failed == AKIN_OK && *got < count) {
        const char *line;
        size_t bytes;
        in->failed = next_line(in, &line, &bytes, &in->failure);
        if (in->failed == AKIN_OK && !line)
            break;
        if (in->failed == AKIN_OK)
            in->failed = read_one(in, line, bytes, *got, &feedback[*got], &in->failure);
        *got += in->failed == AKIN_OK;
    }
    for (size_t i = 0; i < *got; i++) {
        feedback[i].user = in->texts.data + in->offsets[2 * i];
        feedback[i].item = in->texts.data + in->offsets[2 * i + 1];
    }
    if (in->failed == AKIN_OK || *got)
        return AKIN_OK;
    if (error)
        *error = in->failure;
    return in->failed;
}

const char *feedback_input_name(const struct feedback_input *in)
{
    return in->path;
}

uint64_t feedback_input_line(const struct feedback_input *in, size_t i)
{
    return in->numbers[i];
}

/* ---- open and close --------------------------------------------------------------------- */

static bool is_named(const struct csv_field *field, const char *name)
{
    return field->bytes == strlen(name) && !memcmp(field->text, name, field->bytes);
}

static enum akin_status read_header(struct feedback_input *in, struct akin_error *error)
{
    static const char *const names[COLUMNS] = { "user", "item", "rating", "timestamp" };
    struct csv_reader csv;
    const char *line;
    size_t bytes;
    bool row = false;
    TRY(next_line(in, &line, &bytes, error));
    if (!line)
        return AKIN_OK;
    if (bytes >= 3 && !memcmp(line, "\xef\xbb\xbf", 3)) {
        line += 3;
        bytes -= 3;
    }
    csv_open(&csv, in->path, line, bytes, ",", true);
    enum akin_status status = csv_next(&csv, &row, error);
    for (size_t f = 0; status == AKIN_OK && f < csv.field_count; f++)
        for (size_t c = 0; c < COLUMNS; c++)
            if (is_named(&csv.fields[f], names[c]) ||
                (c == COLUMN_ITEM && is_named(&csv.fields[f], "media_id")))
                in->columns[c] = f + 1;
    csv_close(&csv);
    for (size_t c = 0; status == AKIN_OK && c < COLUMN_TIME; c++)
        if (!in->columns[c])
            status = error_set(error, AKIN_FORMAT, "%.500s:1: there is no column \"%s\": the first "
                               "line names user, item, rating and perhaps timestamp", in->path,
                               names[c]);
    return status;
}

enum akin_status feedback_input_open(const char *path, const char *format, double rating_max,
                                     int64_t now, struct feedback_input **input,
                                     struct akin_error *error)
{
    size_t length = strlen(path);
    struct feedback_input *in = memory_alloc(1, sizeof *in);
    if (!in)
        return error_memory(error);
    *in = (struct feedback_input){ .path = path, .rating_max = rating_max, .now = now };
    in->csv = format ? !strcmp(format, "csv") : length > 4 && !strcmp(path + length - 4, ".csv");
    enum akin_status status = line_reader_open(path, &in->lines, error);
    if (status == AKIN_OK && in->csv)
        status = read_header(in, error);
    if (status == AKIN_OK)
        *input = in;
    else
        feedback_input_close(&in);
    return status;
}

void feedback_input_close(struct feedback_input **input)
{
    struct feedback_input *in = *input;
    if (!in)
        return;
    if (in->lines)
        line_reader_close(&in->lines);
    bytes_deinit(&in->texts);
    memory_free(in->numbers);
    memory_free(in->offsets);
    memory_free(in);
    *input = NULL;
}
