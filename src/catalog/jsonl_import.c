/* Anybody's items and interactions as JSON lines. Items go straight to the output, one line at a
 * time; in memory stay their ids, the names of the users, and the ratings. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/csv.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/utf8.h"
#include "catalog/catalog.h"
#include "catalog/import.h"
#include "catalog/title.h"

enum { TITLE_BYTES_MAX = 80 };  /* of a title taken from the text */

/* Words of one line: NUL-terminated in `bytes`, found by offsets, since it may move. */
struct words {
    struct bytes bytes;
    size_t *offsets;
    size_t count, capacity;
    const char **list;      /* after words_list */
    size_t list_capacity;
};

struct jsonl {
    struct import import;
    struct akin_jsonl_fields fields;
    const char *data, *path;
    struct import_output output;
    bool output_open;           /* after the first good item, so that bad input touches nothing */
    struct string_pool pool;
    struct string_map items, users;     /* id to row, name to number */
    const char **user_names;
    size_t user_capacity;
    struct rating_table ratings;
    double rating_largest;
    struct words words;
    uint64_t line;
};

/* Counts a bad line. Always false, so that a failing check is one statement. */
static bool bad_line(struct jsonl *j, const char *field, const char *expected, const json_t *found)
{
    import_problem(&j->import, &j->import.report.skipped.malformed_rows, j->path, j->line,
                   "%s: expected %s, found %s", field, expected, json_type_name(found));
    return false;
}

/* ---- fields ----------------------------------------------------------------------------- */

/* Appends a string as a word: control characters become blanks, ends are trimmed. Offset of it. */
static size_t add_text(struct words *words, const char *text, size_t bytes, bool keep_lines)
{
    struct title_part part = title_trim(text, bytes);
    size_t offset = words->bytes.count;
    bytes_append(&words->bytes, part.text, part.bytes);
    bytes_append(&words->bytes, "", 1);
    for (size_t i = offset; i + 1 < words->bytes.count; i++) {
        unsigned char c = (unsigned char)words->bytes.data[i];
        if (c == 0 || ((c < ' ' || c == 0x7f) && !(keep_lines && (c == '\n' || c == '\t'))))
            words->bytes.data[i] = ' ';
    }
    return offset;
}

/* An optional string; *offset SIZE_MAX where it is absent, null or blank. */
static bool get_text(struct jsonl *j, const json_t *object, const char *field, bool keep_lines,
                     size_t *offset)
{
    const json_t *value = json_object_get(object, field);
    *offset = SIZE_MAX;
    if (!value || json_is_null(value))
        return true;
    if (!json_is_string(value))
        return bad_line(j, field, "a string", value);
    struct title_part part = title_trim(json_string_value(value), json_string_length(value));
    if (part.bytes)
        *offset = add_text(&j->words, part.text, part.bytes, keep_lines);
    return true;
}

/* A string or an integer as text. */
static bool get_id(struct jsonl *j, const json_t *object, const char *field, size_t *offset)
{
    const json_t *value = json_object_get(object, field);
    char number[32];
    if (json_is_integer(value)) {
        int length = snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        *offset = add_text(&j->words, number, (size_t)length, false);
        return true;
    }
    if (!json_is_string(value))
        return bad_line(j, field, "a string or an integer", value);
    if (title_trim(json_string_value(value), json_string_length(value)).bytes == 0)
        return bad_line(j, field, "an id", value);
    *offset = add_text(&j->words, json_string_value(value), json_string_length(value), false);
    return true;
}

static bool add_word(struct words *words, const char *text, size_t bytes)
{
    struct title_part part = title_trim(text, bytes);
    if (part.bytes == 0)
        return true;
    if (!array_reserve((void **)&words->offsets, &words->capacity, words->count + 1,
                       sizeof *words->offsets))
        return false;
    words->offsets[words->count++] = add_text(words, part.text, part.bytes, false);
    return true;
}

/* An optional array of strings, or one string separated by "|". Memory that runs out shows in
 * words.bytes.failed. */
static bool get_words(struct jsonl *j, const json_t *object, const char *field)
{
    const json_t *value = json_object_get(object, field);
    bool added = true;
    if (!value || json_is_null(value))
        return true;
    if (json_is_string(value)) {
        const char *text = json_string_value(value), *end = text + json_string_length(value);
        for (const char *bar; added && text <= end; text = bar + 1) {
            bar = memchr(text, '|', (size_t)(end - text));
            bar = bar ? bar : end;
            added = add_word(&j->words, text, (size_t)(bar - text));
        }
    } else if (json_is_array(value)) {
        for (size_t i = 0; added && i < json_array_size(value); i++) {
            const json_t *word = json_array_get(value, i);
            if (!json_is_string(word))
                return bad_line(j, field, "an array of strings", word);
            added = add_word(&j->words, json_string_value(word), json_string_length(word));
        }
    } else {
        return bad_line(j, field, "an array of strings or a string", value);
    }
    j->words.bytes.failed |= !added;
    return true;
}

/* An integer, or a string that begins with four digits; 0 where it is absent, null or "". */
static bool get_year(struct jsonl *j, const json_t *object, const char *field, int *year)
{
    static const char expected[] = "a year from 1 to 9999, or a string that begins with one";
    const json_t *value = json_object_get(object, field);
    uint64_t digits;
    *year = 0;
    if (!value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0))
        return true;
    if (json_is_integer(value) && json_integer_value(value) >= 1 &&
        json_integer_value(value) <= 9999)
        *year = (int)json_integer_value(value);
    else if (json_is_string(value) && json_string_length(value) >= 4 &&
             parse_uint64(json_string_value(value), 4, &digits))
        *year = (int)digits;
    else
        return bad_line(j, field, expected, value);
    return true;
}

static bool words_list(struct words *words)
{
    if (words->bytes.failed || !array_reserve((void **)&words->list, &words->list_capacity,
                                              words->count + 1, sizeof *words->list))
        return false;
    for (size_t i = 0; i < words->count; i++)
        words->list[i] = words->bytes.data + words->offsets[i];
    return true;
}

static void words_clear(struct words *words)
{
    bytes_clear(&words->bytes);
    words->count = 0;
}

/* ---- lines ------------------------------------------------------------------------------ */

/* Calls `take` with each line's object. `take` counts what is wrong with it. */
static enum akin_status each_line(struct jsonl *j, const char *path, const char *stage,
                                  enum akin_status (*take)(struct jsonl *, const json_t *,
                                                           struct akin_error *),
                                  struct akin_error *error)
{
    struct line_reader *reader;
    const char *line;
    size_t bytes;
    enum akin_status status;
    j->path = path;
    TRY(line_reader_open(path, &reader, error));
    while ((status = line_reader_next(reader, &line, &bytes, error)) == AKIN_OK && line) {
        struct akin_error problem = { 0 };
        json_t *root = NULL;
        j->line = line_reader_number(reader);
        TRY_DONE(import_step(&j->import, stage, line_reader_consumed(reader),
                             line_reader_size(reader), error));
        if (j->line == 1 && bytes >= 3 && !memcmp(line, "\xef\xbb\xbf", 3)) {
            line += 3;
            bytes -= 3;
        }
        if (title_trim(line, bytes).bytes == 0) {
            import_problem(&j->import, &j->import.report.skipped.empty_lines, path, j->line,
                           "the line is empty");
            continue;
        }
        if (json_parse(line, bytes, "column", &root, &problem) != AKIN_OK) {
            bool big = strstr(problem.message, "too big integer");
            import_problem(&j->import,
                           big ? &j->import.report.skipped.ids_out_of_range
                               : &j->import.report.skipped.malformed_rows,
                           path, j->line, "%s", problem.message);
            continue;
        }
        words_clear(&j->words);
        if (json_is_object(root))
            status = take(j, root, error);
        else
            bad_line(j, "the line", "an object", root);
        json_decref(root);
        if (status != AKIN_OK)
            break;
    }
done:
    line_reader_close(&reader);
    return status;
}

/* ---- items ------------------------------------------------------------------------------ */

static enum akin_status write_item(struct jsonl *j, struct import_item *item,
                                   struct akin_error *error)
{
    char beginning[TITLE_BYTES_MAX + 1];
    if (!j->output_open) {
        TRY(import_output_open(&j->output, j->data, false, error));
        j->output_open = true;
    }
    if (!item->title) {     /* the beginning of the text, whole characters of it */
        size_t length = 0;
        for (size_t took; item->text[length]; length += took) {
            uint32_t code;
            took = utf8_decode(item->text + length, strlen(item->text + length), &code);
            if (length + took > TITLE_BYTES_MAX)
                break;
        }
        memcpy(beginning, item->text, length);
        beginning[length] = 0;
        for (char *c = beginning; (c = strpbrk(c, "\n\t"));)
            *c = ' ';
        item->title = beginning;
    }
    return import_output_item(&j->output, &j->import, item, error);
}

static enum akin_status take_item(struct jsonl *j, const json_t *object, struct akin_error *error)
{
    const struct akin_jsonl_fields *f = &j->fields;
    struct words *words = &j->words;
    struct import_item item = { 0 };
    size_t id, title, text, genres;
    bool added;
    if (!get_id(j, object, f->id, &id) || !get_text(j, object, f->title, false, &title) ||
        !get_text(j, object, f->text, true, &text) || !get_year(j, object, f->year, &item.year) ||
        !get_words(j, object, f->genres))
        return AKIN_OK;
    genres = words->count;
    if (!get_words(j, object, f->themes))
        return AKIN_OK;
    if (title == SIZE_MAX && text == SIZE_MAX) {
        bad_line(j, f->title, "a title or a text", NULL);
        return AKIN_OK;
    }
    if (!words_list(words))
        return error_memory(error);
    const char *name = words->bytes.data + id;
    if (string_map_get(&j->items, name, strlen(name), &(uint64_t){ 0 })) {
        import_problem(&j->import, &j->import.report.skipped.duplicate_items, j->path, j->line,
                       "%s: \"%.100s\" is there already", f->id, name);
        return AKIN_OK;
    }
    if (j->items.count == UINT32_MAX)
        return error_set(error, AKIN_LIMIT, "%s:%llu: more than %u items", j->path,
                         (unsigned long long)j->line, UINT32_MAX);
    const char *kept = string_pool_add(&j->pool, name, strlen(name));
    if (!kept || !string_map_put(&j->items, kept, strlen(kept), j->items.count, NULL, &added))
        return error_memory(error);
    item.id = kept;
    item.title = title == SIZE_MAX ? NULL : words->bytes.data + title;
    item.text = text == SIZE_MAX ? NULL : words->bytes.data + text;
    item.genres = words->list;
    item.genre_count = genres;
    item.themes = words->list + genres;
    item.theme_count = words->count - genres;
    return write_item(j, &item, error);
}

/* ---- interactions ----------------------------------------------------------------------- */

static bool number_of_user(struct jsonl *j, const char *name, uint32_t *number)
{
    uint64_t known;
    if (string_map_get(&j->users, name, strlen(name), &known)) {
        *number = (uint32_t)known;
        return true;
    }
    const char *kept = string_pool_add(&j->pool, name, strlen(name));
    if (!kept || j->users.count == UINT32_MAX ||
        !array_reserve((void **)&j->user_names, &j->user_capacity, j->users.count + 1,
                       sizeof *j->user_names))
        return false;
    *number = (uint32_t)j->users.count;
    j->user_names[*number] = kept;
    return string_map_put(&j->users, kept, strlen(kept), *number, NULL, NULL);
}

/* A number, `otherwise` where it is absent or null. */
static bool get_number(struct jsonl *j, const json_t *object, const char *field, double otherwise,
                       double *number)
{
    const json_t *value = json_object_get(object, field);
    *number = otherwise;
    if (!value || json_is_null(value))
        return true;
    if (!json_is_number(value))
        return bad_line(j, field, "a number", value);
    *number = json_number_value(value);
    return true;
}

static bool get_timestamp(struct jsonl *j, const json_t *object, const char *field,
                          int64_t *timestamp)
{
    const json_t *value = json_object_get(object, field);
    double seconds;
    if (json_is_integer(value)) {
        *timestamp = json_integer_value(value);
        return true;
    }
    if (!get_number(j, object, field, 0, &seconds))
        return false;
    if (!(seconds >= -9e18 && seconds <= 9e18))
        return bad_line(j, field, "Unix seconds", value);
    *timestamp = (int64_t)seconds;
    return true;
}

static enum akin_status take_interaction(struct jsonl *j, const json_t *object,
                                         struct akin_error *error)
{
    const struct akin_jsonl_fields *f = &j->fields;
    struct akin_import_report *report = &j->import.report;
    size_t user, item;
    uint64_t row;
    double rating;
    struct rating_record record = { 0 };
    int64_t timestamp;
    if (!get_id(j, object, f->user, &user) || !get_id(j, object, f->item, &item) ||
        !get_number(j, object, f->rating, 1, &rating) ||
        !get_timestamp(j, object, f->timestamp, &timestamp))
        return AKIN_OK;
    if (j->words.bytes.failed)
        return error_memory(error);
    if (!isfinite((float)rating) || rating < 0 || (f->rating_max > 0 && rating > f->rating_max)) {
        import_problem(&j->import, &report->skipped.invalid_ratings, j->path, j->line,
                       "%s: %g is not on the scale", f->rating, rating);
        return AKIN_OK;
    }
    const char *name = j->words.bytes.data + item;
    if (!string_map_get(&j->items, name, strlen(name), &row)) {
        import_problem(&j->import, &report->skipped.ratings_of_unknown_items, j->path, j->line,
                       "%s: there is no item \"%.100s\"", f->item, name);
        return AKIN_OK;
    }
    record.item = (uint32_t)row;
    record.rating = (float)rating;
    record.timestamp = timestamp;
    uint32_t number;
    if (!number_of_user(j, j->words.bytes.data + user, &number))
        return error_memory(error);
    record.user = number;
    if (!rating_table_add(&j->ratings, record))
        return error_memory(error);
    j->rating_largest = rating > j->rating_largest ? rating : j->rating_largest;
    return AKIN_OK;
}

/* ---- the whole -------------------------------------------------------------------------- */

static enum akin_status write_names(struct jsonl *j, struct akin_error *error)
{
    struct bytes *line = &j->output.line;
    for (size_t i = 0; i <= j->users.count; i++) {
        bytes_clear(line);
        bytes_append_text(line, i == 0 ? "[" : i < j->users.count ? ",\n" : "");
        if (i < j->users.count)
            json_append_string(line, j->user_names[i], strlen(j->user_names[i]));
        else
            bytes_append_text(line, "]\n");
        if (line->failed)
            return error_memory(error);
        TRY(file_writer_write(j->output.names, line->data, line->count, error));
    }
    return AKIN_OK;
}

static enum akin_status run(struct jsonl *j, const char *items, const char *interactions,
                            struct akin_error *error)
{
    struct akin_import_report *report = &j->import.report;
    TRY(each_line(j, items, "items", take_item, error));
    if (!j->output_open)
        return error_set(error, AKIN_FORMAT, "%s: there is no item in it%s%s", items,
                         report->first_problem[0] ? "; " : "", report->first_problem);
    uint64_t malformed = report->skipped.malformed_rows;
    if (interactions)
        TRY(each_line(j, interactions, "ratings", take_interaction, error));
    if (j->ratings.count == 0 && report->skipped.malformed_rows > malformed &&
        report->skipped.ratings_of_unknown_items == 0 && report->skipped.invalid_ratings == 0)
        return error_set(error, AKIN_FORMAT, "%s: no line could be used; %s", interactions,
                         report->first_problem);
    TRY(rating_table_sort(&j->ratings, &report->skipped.duplicate_ratings, error));
    j->output.rating_max = j->fields.rating_max > 0 ? j->fields.rating_max : j->rating_largest;
    if (!(j->output.rating_max > 0))
        j->output.rating_max = 1;
    TRY(write_names(j, error));
    TRY(import_output_ratings(&j->output, &j->import, &j->ratings, error));
    return import_output_commit(&j->output, &j->import, error);
}

static struct akin_jsonl_fields with_defaults(const struct akin_jsonl_fields *given)
{
    struct akin_jsonl_fields f = given ? *given : (struct akin_jsonl_fields){ 0 };
    f.id = f.id ? f.id : "id";
    f.title = f.title ? f.title : "title";
    f.text = f.text ? f.text : "text";
    f.year = f.year ? f.year : "year";
    f.genres = f.genres ? f.genres : "genres";
    f.themes = f.themes ? f.themes : "tags";
    f.user = f.user ? f.user : "user";
    f.item = f.item ? f.item : "item";
    f.rating = f.rating ? f.rating : "rating";
    f.timestamp = f.timestamp ? f.timestamp : "timestamp";
    return f;
}

enum akin_status catalog_import_jsonl(const char *items, const char *interactions,
                                      const struct akin_jsonl_fields *fields, const char *data,
                                      struct akin_progress progress,
                                      struct akin_import_report *report, struct akin_error *error)
{
    struct jsonl *j = memory_alloc(1, sizeof *j);
    if (!j)
        return error_memory(error);
    j->import.progress = progress;
    j->fields = with_defaults(fields);
    j->data = data;
    enum akin_status status = run(j, items, interactions, error);
    if (report)
        *report = j->import.report;
    import_output_abort(&j->output);
    rating_table_deinit(&j->ratings);
    string_map_deinit(&j->items);
    string_map_deinit(&j->users);
    string_pool_deinit(&j->pool);
    memory_free(j->user_names);
    bytes_deinit(&j->words.bytes);
    memory_free(j->words.offsets);
    memory_free(j->words.list);
    memory_free(j);
    return status;
}
