/* Layouts over base/csv.h. */
#include "catalog/import_table.h"

#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "catalog/title.h"

/* The map as UTF-8. */
static enum akin_status decode(struct table *table, const char **data, size_t *bytes,
                               struct akin_error *error)
{
    *data = (const char *)table->map.data;
    *bytes = table->map.bytes;
    if (!table->layout->text || utf8_valid(*data, *bytes))
        return AKIN_OK;
    size_t begin = 0;
    for (size_t at = 0; at <= *bytes; at++) {
        if (at < *bytes && (unsigned char)(*data)[at] < 0x80)
            continue;
        bytes_append(&table->decoded, *data + begin, at - begin);
        begin = at + 1;
        char encoded[4];
        if (at < *bytes)
            bytes_append(&table->decoded, encoded,
                         utf8_encode((unsigned char)(*data)[at], encoded));
    }
    if (table->decoded.failed)
        return error_memory(error);
    table->import->report.skipped.latin1_files++;
    *data = table->decoded.data;
    *bytes = table->decoded.count;
    return AKIN_OK;
}

/* Column names compare without case, without "_", and up to the ":" of "item_id:token". */
static bool same_name(const char *text, size_t bytes, const char *name, size_t name_bytes)
{
    size_t i = 0, j = 0;
    for (;;) {
        while (i < bytes && (text[i] == '_' || text[i] == ' '))
            i++;
        while (j < name_bytes && name[j] == '_')
            j++;
        bool text_ends = i == bytes || text[i] == ':', name_ends = j == name_bytes;
        if (text_ends || name_ends)
            return text_ends && name_ends;
        if (strncasecmp(text + i++, name + j++, 1))
            return false;
    }
}

static size_t find_column(const struct csv_reader *csv, const char *names)
{
    for (; *names; names += strspn(names, " ")) {
        size_t length = strcspn(names, " ");
        for (size_t i = 0; i < csv->field_count; i++)
            if (same_name(csv->fields[i].text, csv->fields[i].bytes, names, length))
                return i;
        names += length;
    }
    return SIZE_MAX;
}

/* csv_next with the column in the error. */
static enum akin_status next_fields(struct table *table, bool *row, struct akin_error *error)
{
    struct akin_error problem;
    enum akin_status status = csv_next(&table->csv, row, &problem);
    if (status != AKIN_FORMAT)
        return status == AKIN_OK ? status : error_memory(error);
    const char *name = table->header.data, *end = name ? name + table->header.count : NULL;
    for (size_t i = 0; name && name < end && i < table->csv.field_count; i++)
        name += strlen(name) + 1;
    bool named = name && name < end;
    return error_set(error, AKIN_FORMAT, "%s (column %zu%s%s)", problem.message,
                     table->csv.field_count + 1, named ? ", " : "", named ? name : "");
}

static enum akin_status read_header(struct table *table, struct akin_error *error)
{
    const struct table_layout *layout = table->layout;
    struct csv_reader *csv = &table->csv;
    bool row;
    TRY(next_fields(table, &row, error));
    if (!row || csv->field_count == 0)
        return error_set(error, AKIN_FORMAT,
                         "%s:1: there is no header; expected the column \"%.*s\"", table->path,
                         (int)strcspn(layout->columns[0].names, " "), layout->columns[0].names);
    for (size_t i = 0; i < layout->column_count; i++) {
        const char *names = layout->columns[i].names;
        table->places[i] = find_column(csv, names);
        if (table->places[i] == SIZE_MAX && !layout->columns[i].optional)
            return error_set(error, AKIN_FORMAT, "%s:%llu: the header lacks the column \"%.*s\"",
                             table->path, (unsigned long long)csv->line,
                             (int)strcspn(names, " "), names);
    }
    table->fields = csv->field_count;
    for (size_t i = 0; i < csv->field_count; i++) {
        bytes_append(&table->header, csv->fields[i].text, csv->fields[i].bytes);
        bytes_append(&table->header, "", 1);
    }
    return table->header.failed ? error_memory(error) : AKIN_OK;
}

enum akin_status table_open(struct table *table, const char *path, const char *stage,
                            const struct table_layout *layout, struct import *import,
                            struct akin_error *error)
{
    *table = (struct table){ .import = import, .path = path, .stage = stage, .layout = layout,
                             .fields = layout->fields };
    const char *data;
    size_t bytes;
    TRY(file_map_open(path, &table->map, error));
    enum akin_status status = decode(table, &data, &bytes, error);
    if (status == AKIN_OK) {
        csv_open(&table->csv, path, data, bytes, layout->separator, layout->quoted);
        for (size_t i = 0; i < layout->column_count; i++)
            table->places[i] = layout->columns[i].place;
        if (layout->header)
            status = read_header(table, error);
    }
    if (status != AKIN_OK)
        table_close(table);
    return status;
}

void table_close(struct table *table)
{
    if (!table->path)
        return;
    csv_close(&table->csv);
    bytes_deinit(&table->decoded);
    bytes_deinit(&table->header);
    file_map_close(&table->map);
    *table = (struct table){ 0 };
}

uint64_t table_line(const struct table *table)
{
    return table->csv.line;
}

enum akin_status table_next(struct table *table, bool *row, struct akin_error *error)
{
    struct akin_import_report *report = &table->import->report;
    for (;;) {
        TRY(next_fields(table, row, error));
        if (!*row) {
            table->import->steps = 0;   /* so that this one is told */
            return import_step(table->import, table->stage, table->csv.bytes, table->csv.bytes,
                               error);
        }
        TRY(import_step(table->import, table->stage, table->csv.at, table->csv.bytes, error));
        size_t fields = table->csv.field_count;
        if (fields == table->fields)
            return AKIN_OK;
        bool blank = fields == 0 ||
                     (fields == 1 &&
                      title_trim(table->csv.fields[0].text, table->csv.fields[0].bytes).bytes == 0);
        if (blank)
            import_problem(table->import, &report->skipped.empty_lines, table->path,
                           table_line(table), "the line is empty");
        else
            import_problem(table->import, &report->skipped.malformed_rows, table->path,
                           table_line(table), "%zu fields where %zu are expected", fields,
                           table->fields);
    }
}

struct csv_field table_field(const struct table *table, size_t column)
{
    size_t place = table->places[column];
    return place < table->csv.field_count ? table->csv.fields[place] : (struct csv_field){ "", 0 };
}

/* ---- numbers ---------------------------------------------------------------------------- */

/* How much of a bad field is shown. */
static int shown(struct csv_field field)
{
    return field.bytes < 40 ? (int)field.bytes : 40;
}

bool table_id(struct table *table, size_t column, const char *what, uint32_t *id)
{
    struct csv_field field = table_field(table, column);
    uint64_t value;
    if (parse_uint64(field.text, field.bytes, &value) && value <= UINT32_MAX) {
        *id = (uint32_t)value;
        return true;
    }
    bool digits = field.bytes > 0;
    for (size_t i = 0; i < field.bytes; i++)
        digits &= field.text[i] >= '0' && field.text[i] <= '9';
    struct akin_import_report *report = &table->import->report;
    if (digits)
        import_problem(table->import, &report->skipped.ids_out_of_range, table->path,
                       table_line(table), "%s: %.*s does not fit in 32 bits", what, shown(field),
                       field.text);
    else
        import_problem(table->import, &report->skipped.malformed_rows, table->path,
                       table_line(table), "%s: expected a number, found \"%.*s\"", what,
                       shown(field), field.text);
    return false;
}

bool table_number(struct table *table, size_t column, const char *what, double *number)
{
    struct csv_field field = table_field(table, column);
    if (parse_double(field.text, field.bytes, number))
        return true;
    import_problem(table->import, &table->import->report.skipped.malformed_rows, table->path,
                   table_line(table), "%s: expected a number, found \"%.*s\"", what, shown(field),
                   field.text);
    return false;
}

bool table_timestamp(struct table *table, size_t column, int64_t *timestamp)
{
    struct csv_field field = table_field(table, column);
    if (parse_int64(field.text, field.bytes, timestamp))
        return true;
    double seconds;
    if (!table_number(table, column, "timestamp", &seconds))
        return false;
    if (!(seconds >= -9e18 && seconds <= 9e18)) {
        import_problem(table->import, &table->import->report.skipped.malformed_rows, table->path,
                       table_line(table), "timestamp: %.*s is out of range", shown(field),
                       field.text);
        return false;
    }
    *timestamp = (int64_t)seconds;
    return true;
}
