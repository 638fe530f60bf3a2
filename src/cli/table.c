/* See table.h. */
#include "cli/table.h"

#include <stdarg.h>
#include <string.h>
#include <utf8proc.h>

#include "base/status.h"
#include "base/utf8.h"

enum { GAP = 2 };

/* Titles come from other people's files: a control character must not reach the terminal. */
static bool is_control(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

static size_t code_width(uint32_t code)
{
    if (is_control(code))
        return 1;
    int width = utf8proc_charwidth((utf8proc_int32_t)code);
    return width > 0 ? (size_t)width : 0;
}

size_t text_width(const char *text, size_t bytes)
{
    size_t width = 0;
    for (size_t at = 0; at < bytes;) {
        uint32_t code = 0;
        at += utf8_decode(text + at, bytes - at, &code);
        width += code_width(code);
    }
    return width;
}

void table_init(struct table *table, const struct table_column *columns, size_t count)
{
    ASSERT(count > 0);
    *table = (struct table){.columns = columns, .column_count = count};
}

void table_cell(struct table *table, const char *format, ...)
{
    char small[512];
    va_list args;
    if (table->failed)
        return;
    if (!array_reserve((void **)&table->cells, &table->capacity, table->cell_count + 1,
                       sizeof *table->cells)) {
        table->failed = true;
        return;
    }
    struct bytes *cell = &table->cells[table->cell_count++];
    *cell = (struct bytes){0};
    va_start(args, format);
    int n = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    if (n < 0)
        return;
    if ((size_t)n < sizeof small) {
        bytes_append(cell, small, (size_t)n);
    } else {
        char *large = memory_alloc((size_t)n + 1, 1);
        if (large) {
            va_start(args, format);
            vsnprintf(large, (size_t)n + 1, format, args);
            va_end(args);
            bytes_append(cell, large, (size_t)n);
        }
        memory_free(large);
    }
    table->failed = table->failed || cell->failed;
}

static size_t limited(size_t width, size_t width_max)
{
    return width_max && width > width_max ? width_max : width;
}

static void print_blanks(FILE *stream, size_t count)
{
    for (size_t i = 0; i < count; i++)
        fputc(' ', stream);
}

/* Writes `text` in `width` columns at most; what was cut is shown by an ellipsis. */
static void print_text(FILE *stream, const char *text, size_t bytes, size_t width, size_t full)
{
    size_t room = full > width ? width - 1 : width, used = 0;
    for (size_t at = 0; at < bytes;) {
        char out[4];
        uint32_t code = 0;
        at += utf8_decode(text + at, bytes - at, &code);
        size_t columns = code_width(code);
        if (used + columns > room)
            break;
        used += columns;
        fwrite(out, 1, utf8_encode(is_control(code) ? ' ' : code, out), stream);
    }
    if (full > width) {
        fputs("\xe2\x80\xa6", stream);
        used++;
    }
    if (used < width && full > width)
        print_blanks(stream, width - used);
}

static void print_row(const struct table *table, const struct bytes *cells, const size_t *widths,
                      FILE *stream)
{
    for (size_t c = 0; c < table->column_count; c++) {
        const char *text = cells ? cells[c].data : table->columns[c].title;
        size_t bytes = cells ? cells[c].count : strlen(text);
        size_t full = bytes ? text_width(text, bytes) : 0;
        size_t width = limited(full, table->columns[c].width_max);
        if (c > 0)
            print_blanks(stream, GAP);
        if (table->columns[c].align == TABLE_RIGHT)
            print_blanks(stream, widths[c] - width);
        if (bytes)
            print_text(stream, text, bytes, width, full);
        if (table->columns[c].align == TABLE_LEFT && c + 1 < table->column_count)
            print_blanks(stream, widths[c] - width);
    }
    fputc('\n', stream);
}

void table_print(const struct table *table, FILE *stream)
{
    size_t rows = table->cell_count / table->column_count;
    bool header = table->columns[0].title != NULL;
    size_t *widths = memory_alloc(table->column_count, sizeof *widths);
    if (!widths)
        return;
    for (size_t c = 0; c < table->column_count; c++) {
        const struct table_column *column = &table->columns[c];
        if (header)
            widths[c] =
                limited(text_width(column->title, strlen(column->title)), column->width_max);
        for (size_t r = 0; r < rows; r++) {
            const struct bytes *cell = &table->cells[r * table->column_count + c];
            size_t width =
                cell->count ? limited(text_width(cell->data, cell->count), column->width_max) : 0;
            if (width > widths[c])
                widths[c] = width;
        }
    }
    if (header)
        print_row(table, NULL, widths, stream);
    for (size_t r = 0; r < rows; r++)
        print_row(table, &table->cells[r * table->column_count], widths, stream);
    memory_free(widths);
}

void table_deinit(struct table *table)
{
    for (size_t i = 0; i < table->cell_count; i++)
        bytes_deinit(&table->cells[i]);
    memory_free(table->cells);
    *table = (struct table){0};
}

/* ---- numbers ----------------------------------------------------------------------------- */

const char *format_count(char *text, uint64_t value)
{
    char digits[24];
    int count = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    char *out = text;
    for (int i = 0; i < count; i++) {
        if (i > 0 && (count - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = '\0';
    return text;
}

const char *format_bytes(char *text, uint64_t bytes)
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 999.995 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1000;
        unit++;
    }
    snprintf(text, NUMBER_BYTES, unit ? "%.2f %s" : "%.0f %s", value, units[unit]);
    return text;
}

const char *format_seconds(char *text, double seconds)
{
    double limit = 100.0 * 3600;
    unsigned long whole =
        seconds <= 0 ? 0 : (unsigned long)((seconds < limit ? seconds : limit) + 0.5);
    if (whole >= 3600)
        snprintf(text, NUMBER_BYTES, "%lu:%02lu:%02lu", whole / 3600, whole / 60 % 60, whole % 60);
    else
        snprintf(text, NUMBER_BYTES, "%lu:%02lu", whole / 60, whole % 60);
    return text;
}
