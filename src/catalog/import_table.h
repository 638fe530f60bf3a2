/* A file of rows as a data set publishes it: separator, header or none, columns found by name or
 * place, UTF-8 or Latin-1. Rows that are empty or do not have the right number of fields are
 * counted and passed over. */
#pragma once

#include "base/csv.h"
#include "base/file.h"
#include "catalog/import.h"

enum { TABLE_COLUMNS_MAX = 4 };

/* How a kind of file is laid out. */
struct table_layout {
    const char *separator;      /* "," "::" "|" or tab */
    bool quoted;                /* RFC 4180 */
    bool header;
    bool text;                  /* may hold letters: checked for UTF-8, otherwise read as Latin-1 */
    size_t fields;              /* in every row; 0: as many as the header has */
    struct {
        const char *names;      /* with a header: what it may be called, separated by blanks */
        size_t place;           /* without one */
        bool optional;
    } columns[TABLE_COLUMNS_MAX];
    size_t column_count;
};

struct table {
    struct import *import;
    const char *path, *stage;
    const struct table_layout *layout;
    struct file_map map;
    struct bytes decoded;       /* a Latin-1 file in UTF-8 */
    struct csv_reader csv;
    size_t places[TABLE_COLUMNS_MAX];   /* SIZE_MAX: an optional column that is not there */
    size_t fields;
    struct bytes header;        /* the header's fields, each with a NUL behind, for errors */
};

/* AKIN_FORMAT: no header, or one without a column; the error names file, line and column. */
enum akin_status table_open(struct table *table, const char *path, const char *stage,
                            const struct table_layout *layout, struct import *import,
                            struct akin_error *error);
/* The next good row; *row false at the end. */
enum akin_status table_next(struct table *table, bool *row, struct akin_error *error);
void table_close(struct table *table);      /* zeroed is fine */

/* A field of the current row by the layout's column; empty where an optional one is not there. */
struct csv_field table_field(const struct table *table, size_t column);
uint64_t table_line(const struct table *table);

/* Number fields; false: the problem has been counted. `what` names the field. */
bool table_id(struct table *table, size_t column, const char *what, uint32_t *id);
bool table_timestamp(struct table *table, size_t column, int64_t *timestamp);
bool table_number(struct table *table, size_t column, const char *what, double *number);
