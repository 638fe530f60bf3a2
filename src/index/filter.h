/* Filters: expressions such as "genre=Sci-Fi AND year>=1990" over rows with fields. The language is
 * described in docs/filters.md. A filter is compiled once and gives one bit for each row of every
 * source that it is evaluated on: a table, built once over what the caller describes, or what
 * columns.h makes of the metadata of an index. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum filter_type { FILTER_TEXT, FILTER_NUMBER };

/* A field. A row has any number of texts in it, or one number, or nothing ("missing"). */
struct filter_field {
    const char *names;          /* "genre genres": all that people may type; the first is shown */
    enum filter_type type;
    /* FILTER_TEXT: the i-th text of a row, NULL behind the last. Empty texts count as none. */
    const char *(*text)(const void *context, size_t row, size_t i);
    /* FILTER_NUMBER: false, or a value of NaN, where it is missing. */
    bool (*number)(const void *context, size_t row, double *value);
};

struct filter_fields {
    const struct filter_field *fields;  /* [count], read by filter_table_create only */
    size_t count;
    size_t rows;
    const void *context;        /* of the callbacks */
};

struct filter;

/* AKIN_ARGUMENT: "filter, column 7: expected a value, found the end". AKIN_LIMIT: longer or deeper
 * than FILTER_NODES_MAX and FILTER_DEPTH_MAX. Other fields than the given ones are a mistake;
 * `fields` NULL: any name is a field, which may hold texts and numbers. Any thread. */
enum akin_status filter_compile(const struct filter_field *fields, size_t field_count,
                                const char *text, struct filter **filter,
                                struct akin_error *error);
void filter_destroy(struct filter **filter);

/* The folded name of the field of the i-th condition, NULL behind the last. */
const char *filter_name(const struct filter *filter, size_t i);

/* 64-bit words of a bitmap over `rows`: row r is bit r % 64 of word r / 64. */
size_t filter_words(size_t rows);

/* ---- tables ----------------------------------------------------------------------------- */

struct filter_table;

enum akin_status filter_table_create(const struct filter_fields *fields,
                                     struct filter_table **table, struct akin_error *error);
void filter_table_destroy(struct filter_table **table);
uint64_t filter_table_bytes(const struct filter_table *table);
size_t filter_table_rows(const struct filter_table *table);

/* Writes bits [filter_words(rows)], those behind the last row 0, and the number of ones to *passing
 * (may be NULL). Any thread. */
enum akin_status filter_table_evaluate(const struct filter_table *table,
                                       const struct filter *filter, uint64_t *bits,
                                       size_t *passing, struct akin_error *error);
