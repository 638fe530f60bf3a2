/* What the three files of filters share: columns of a table, nodes of a filter. */
#pragma once

#include "base/hash.h"
#include "base/memory.h"
#include "index/filter.h"

/* The rows of value v are rows[starts[v]] .. rows[starts[v + 1] - 1], ascending. */
struct text_column {
    struct string_map ids;      /* folded text -> v */
    struct text_value {
        const char *text;       /* folded */
        size_t bytes;
    } *values;                  /* [value_count] */
    size_t value_count, value_capacity;
    size_t *starts;             /* [value_count + 1] */
    uint32_t *rows;
    uint64_t *present;          /* bitmap: rows that have any value */
    size_t held;                /* bytes of the arrays, for reports */
};

struct filter_column {
    const struct filter_field *field;
    struct text_column text;    /* FILTER_TEXT */
    double *numbers;            /* FILTER_NUMBER: [rows], NaN where missing */
};

struct filter_table {
    struct filter_column *columns;
    size_t column_count, rows;
    struct string_pool pool;    /* folded texts */
};

enum filter_op {
    FILTER_AND, FILTER_OR, FILTER_NOT,  /* of what stands before in the program */
    FILTER_IN,                  /* one of the values; `negated`: has a value, and none of them */
    FILTER_CONTAINS,            /* a text that contains the value */
    FILTER_RANGE,               /* first value <= number <= second value */
};

struct filter_value {
    double number;
    size_t id;                  /* of a text in its column; SIZE_MAX: no row has it */
    const char *text;           /* folded, for FILTER_CONTAINS */
    size_t text_bytes;
};

struct filter_node {
    enum filter_op op;
    bool negated;
    const struct filter_column *column;
    size_t first_value, value_count;
};

/* The expression with operators behind their operands: evaluated left to right with a stack of
 * bitmaps, without recursion. */
struct filter {
    const struct filter_table *table;
    struct filter_node *nodes;
    size_t node_count, node_capacity;
    struct filter_value *values;
    size_t value_count, value_capacity;
    size_t stack, stack_max;    /* bitmaps: now, while compiling; at most, while evaluating */
    struct string_pool pool;
};
