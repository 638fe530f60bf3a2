/* The columns that filters are evaluated on. Texts are folded and numbered, and each distinct text
 * keeps the list of its rows: memory grows with the number of (row, text) pairs, and not with rows
 * times texts as bitmaps for each text would, of which a catalogue has tens of thousands. */
#include <math.h>
#include <string.h>

#include "index/filter_program.h"
#include "index/fold.h"

/* (text, row) in row order, before they are sorted by text. */
struct pairs {
    uint32_t *texts, *rows;
    size_t count, text_capacity, row_capacity;
};

size_t filter_words(size_t rows)
{
    return rows / 64 + (rows % 64 != 0);
}

static bool add_pair(struct pairs *pairs, size_t text, size_t row)
{
    if (!array_reserve((void **)&pairs->texts, &pairs->text_capacity, pairs->count + 1,
                       sizeof *pairs->texts) ||
        !array_reserve((void **)&pairs->rows, &pairs->row_capacity, pairs->count + 1,
                       sizeof *pairs->rows))
        return false;
    pairs->texts[pairs->count] = (uint32_t)text;
    pairs->rows[pairs->count++] = (uint32_t)row;
    return true;
}

/* The number of a folded text in the column; a new one is added. */
static bool number_text(struct filter_table *table, struct text_column *column,
                        const struct bytes *folded, uint64_t *id)
{
    if (string_map_get(&column->ids, folded->data, folded->count, id))
        return true;
    char *kept = string_pool_add(&table->pool, folded->data, folded->count);
    if (!kept || !array_reserve((void **)&column->values, &column->value_capacity,
                                column->value_count + 1, sizeof *column->values))
        return false;
    *id = column->value_count;
    column->values[column->value_count++] = (struct text_value){ kept, folded->count };
    return string_map_set(&column->ids, kept, folded->count, *id);
}

static bool collect(struct filter_table *table, struct filter_column *column, const void *context,
                    struct pairs *pairs, struct bytes *folded)
{
    struct text_column *text = &column->text;
    for (size_t row = 0; row < table->rows; row++) {
        const char *value;
        for (size_t i = 0; (value = column->field->text(context, row, i)); i++) {
            uint64_t id;
            if (!*value)
                continue;
            bytes_clear(folded);
            if (!fold_append(folded, value, strlen(value)) ||
                !number_text(table, text, folded, &id) || !add_pair(pairs, id, row))
                return false;
            text->present[row / 64] |= (uint64_t)1 << row % 64;
        }
    }
    return true;
}

/* Counting sort of the pairs by text; rows stay ascending within one. */
static bool sort_pairs(struct text_column *column, const struct pairs *pairs)
{
    column->starts = memory_alloc(column->value_count + 2, sizeof *column->starts);
    column->rows = memory_alloc(pairs->count, sizeof *column->rows);
    if (!column->starts || !column->rows)
        return false;
    size_t *next = column->starts + 1;  /* next[v] runs from the first row of v to its end */
    for (size_t i = 0; i < pairs->count; i++)
        next[pairs->texts[i] + 1]++;
    for (size_t v = 0; v < column->value_count; v++)
        next[v + 1] += next[v];
    for (size_t i = 0; i < pairs->count; i++)
        column->rows[next[pairs->texts[i]]++] = pairs->rows[i];
    return true;
}

static bool create_text(struct filter_table *table, struct filter_column *column,
                        const void *context)
{
    struct text_column *text = &column->text;
    struct pairs pairs = { 0 };
    struct bytes folded = { 0 };
    text->present = memory_alloc(filter_words(table->rows), sizeof *text->present);
    bool fine = text->present && collect(table, column, context, &pairs, &folded) &&
                sort_pairs(text, &pairs);
    text->held = filter_words(table->rows) * sizeof *text->present +
                 pairs.count * sizeof *text->rows +
                 text->value_count * (sizeof *text->values + sizeof *text->starts) +
                 text->ids.capacity * 4 * sizeof(uint64_t);
    memory_free(pairs.texts);
    memory_free(pairs.rows);
    bytes_deinit(&folded);
    return fine;
}

static bool create_numbers(struct filter_table *table, struct filter_column *column,
                           const void *context)
{
    column->numbers = memory_alloc(table->rows, sizeof *column->numbers);
    for (size_t row = 0; column->numbers && row < table->rows; row++)
        if (!column->field->number(context, row, &column->numbers[row]))
            column->numbers[row] = NAN;
    return column->numbers;
}

enum akin_status filter_table_create(const struct filter_fields *fields,
                                     struct filter_table **table, struct akin_error *error)
{
    if (fields->rows > UINT32_MAX)
        return error_set(error, AKIN_LIMIT, "%zu rows: filters take up to 4294967295",
                         fields->rows);
    struct filter_table *t = memory_alloc(1, sizeof *t);
    if (!t)
        return error_memory(error);
    t->rows = fields->rows;
    t->columns = memory_alloc(fields->count, sizeof *t->columns);
    bool fine = t->columns;
    for (size_t i = 0; fine && i < fields->count; i++) {
        struct filter_column *column = &t->columns[t->column_count++];
        column->field = &fields->fields[i];
        fine = column->field->type == FILTER_TEXT ? create_text(t, column, fields->context)
                                                  : create_numbers(t, column, fields->context);
    }
    if (!fine) {
        filter_table_destroy(&t);
        return error_memory(error);
    }
    *table = t;
    return AKIN_OK;
}

void filter_table_destroy(struct filter_table **table)
{
    struct filter_table *t = *table;
    if (!t)
        return;
    for (size_t i = 0; i < t->column_count; i++) {
        struct text_column *text = &t->columns[i].text;
        string_map_deinit(&text->ids);
        memory_free(text->values);
        memory_free(text->starts);
        memory_free(text->rows);
        memory_free(text->present);
        memory_free(t->columns[i].numbers);
    }
    memory_free(t->columns);
    string_pool_deinit(&t->pool);
    memory_free(t);
    *table = NULL;
}

uint64_t filter_table_bytes(const struct filter_table *table)
{
    uint64_t bytes = sizeof *table + table->pool.bytes;
    for (size_t i = 0; i < table->column_count; i++) {
        bytes += sizeof *table->columns + table->columns[i].text.held;
        if (table->columns[i].numbers)
            bytes += table->rows * sizeof *table->columns->numbers;
    }
    return bytes;
}

size_t filter_table_rows(const struct filter_table *table)
{
    return table->rows;
}
