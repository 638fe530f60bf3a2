/* Tables for people: columns aligned by display width, numbers with thousands separators. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/memory.h"

enum table_align { TABLE_LEFT, TABLE_RIGHT };

struct table_column {
    const char *title; /* NULL in every column: no header line */
    enum table_align align;
    size_t width_max; /* longer cells are cut with an ellipsis; 0: no limit */
};

/* Cells are added from left to right, row by row, and printed together. */
struct table {
    const struct table_column *columns;
    size_t column_count;
    struct bytes *cells; /* [row][column] */
    size_t cell_count, capacity;
    bool failed; /* memory ran out: table_print prints what there is */
};

void table_init(struct table *table, const struct table_column *columns, size_t count);
void table_cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_print(const struct table *table, FILE *stream);
void table_deinit(struct table *table);

/* Terminal columns that `text` takes; control characters count as one. */
size_t text_width(const char *text, size_t bytes);

/* "1,234,567"; `text` has room for NUMBER_BYTES. Returns `text`. */
enum { NUMBER_BYTES = 40 };
const char *format_count(char *text, uint64_t value);
/* "14.96 MB" (powers of 1000) and "1:02:03" or "0:07". */
const char *format_bytes(char *text, uint64_t bytes);
const char *format_seconds(char *text, double seconds);
