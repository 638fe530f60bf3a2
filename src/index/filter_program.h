/* A compiled filter, and what it is evaluated on: the one place where the parser (filter_parse.c),
 * the evaluator (filter.c) and the sources of columns meet. */
#pragma once

#include "base/memory.h"
#include "index/filter.h"

enum filter_op {
    FILTER_AND, FILTER_OR, FILTER_NOT,  /* of what stands before in the program */
    FILTER_IN,                  /* one of the values; `negated`: has a value, and none of them */
    FILTER_CONTAINS,            /* a text that contains the value */
    FILTER_RANGE,               /* first value <= number <= second value */
};

/* A text of a row is compared with `text`, a number with `number`. */
struct filter_value {
    double number; /* NaN, which equals no number, where the value does not read as one */
    const char *text;           /* folded */
    size_t text_bytes;
};

struct filter_node {
    enum filter_op op;
    bool negated;
    const char *name;           /* of the field, folded; with a NUL behind */
    size_t name_bytes;
    uint64_t name_hash;         /* hash_bytes */
    size_t first_value, value_count;
};

/* The expression with operators behind their operands: evaluated left to right with a stack of
 * bitmaps, without recursion. */
struct filter {
    struct filter_node *nodes;
    size_t node_count, node_capacity;
    struct filter_value *values;
    size_t value_count, value_capacity;
    size_t stack, stack_max;    /* bitmaps: now, while compiling; at most, while evaluating */
    struct string_pool pool;
};

/* Rows whose fields are tested. `test` writes bits for every row, what is behind the last row does
 * not matter; `values` are those of the node. A field that it does not know is missing everywhere.
 * `scratch` is as large as bits. Both of filter_words(rows). */
struct filter_source {
    const void *context;
    size_t rows;
    void (*test)(const void *context, const struct filter_node *node,
                 const struct filter_value *values, uint64_t *bits, uint64_t *scratch);
};

/* Writes bits [filter_words(rows)], those behind the last row 0, and the number of ones to *passing
 * (may be NULL). */
enum akin_status filter_evaluate(const struct filter *filter, const struct filter_source *source,
                                 uint64_t *bits, size_t *passing, struct akin_error *error);

/* Ones in `words` words. */
size_t filter_count(const uint64_t *bits, size_t words);
