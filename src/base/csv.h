/* Rows of separated values from memory: RFC 4180 quoting, or plain split at a separator of one or
 * two bytes ("::", "|", tab). Fields are views into the input, or into a buffer of the reader where
 * quotes had to be undone; they live until the next row. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

enum { CSV_FIELDS_MAX = 64 };

struct csv_field {
    const char *text;
    size_t bytes;
};

struct csv_reader {
    const char *name;           /* for errors */
    const char *data;
    size_t bytes, at;
    char separator[3];
    bool quoted;                /* RFC 4180 quotes are honoured */
    uint64_t line;              /* where the current row began, from 1 */
    uint64_t next_line;
    struct csv_field fields[CSV_FIELDS_MAX];
    size_t field_count;
    struct bytes unquoted;      /* texts of this row's fields that had doubled quotes */
    size_t unquoted_at[CSV_FIELDS_MAX]; /* where in it, or SIZE_MAX for a view of the input */
};

void csv_open(struct csv_reader *csv, const char *name, const char *data, size_t bytes,
              const char *separator, bool quoted);
/* Reads a row; *row false at the end. A line of nothing is a row of 0 fields. AKIN_FORMAT: an
 * unclosed quote, more than CSV_FIELDS_MAX fields; the error names file and line. */
enum akin_status csv_next(struct csv_reader *csv, bool *row, struct akin_error *error);
void csv_close(struct csv_reader *csv);

/* Numbers of fields: false unless the whole field is one. */
bool parse_uint64(const char *text, size_t bytes, uint64_t *value);
bool parse_int64(const char *text, size_t bytes, int64_t *value);
bool parse_double(const char *text, size_t bytes, double *value);   /* finite or not; "." only */
