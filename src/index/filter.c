/* Evaluation of filters: a stack of bitmaps over the rows. A test on texts walks the rows of the
 * texts that match and not all rows; a test on numbers reads the whole column. */
#include "index/filter.h"

#include <string.h>

#include "index/filter_program.h"

static void add_rows(const struct text_column *column, size_t id, uint64_t *bits)
{
    for (size_t i = column->starts[id]; i < column->starts[id + 1]; i++)
        bits[column->rows[i] / 64] |= (uint64_t)1 << column->rows[i] % 64;
}

static void test_text(const struct filter *filter, const struct filter_node *node, uint64_t *bits,
                      size_t words)
{
    const struct text_column *column = &node->column->text;
    const struct filter_value *values = filter->values + node->first_value;
    memset(bits, 0, words * sizeof *bits);
    if (node->op == FILTER_CONTAINS) {
        for (size_t v = 0; v < column->value_count; v++)
            if (memmem(column->values[v].text, column->values[v].bytes, values->text,
                       values->text_bytes))
                add_rows(column, v, bits);
        return;
    }
    for (size_t i = 0; i < node->value_count; i++)
        if (values[i].id != SIZE_MAX)
            add_rows(column, values[i].id, bits);
    for (size_t w = 0; node->negated && w < words; w++)
        bits[w] = column->present[w] & ~bits[w];
}

/* NaN, a missing number, is in no range and equals nothing. */
static bool test_number(const struct filter_node *node, const struct filter_value *values,
                        double number)
{
    if (node->op == FILTER_RANGE)
        return values[0].number <= number && number <= values[1].number;
    for (size_t i = 0; i < node->value_count; i++)
        if (values[i].number == number)
            return !node->negated;
    return node->negated && number == number;
}

static void test_numbers(const struct filter *filter, const struct filter_node *node,
                         uint64_t *bits)
{
    const struct filter_value *values = filter->values + node->first_value;
    size_t rows = filter->table->rows;
    for (size_t begin = 0; begin < rows; begin += 64) {
        uint64_t word = 0;
        for (size_t i = 0; i < 64 && begin + i < rows; i++)
            word |= (uint64_t)test_number(node, values, node->column->numbers[begin + i]) << i;
        bits[begin / 64] = word;
    }
}

/* Zero behind the last row, whatever NOT made of it. */
static void clear_tail(uint64_t *bits, size_t rows)
{
    if (rows % 64)
        bits[rows / 64] &= ((uint64_t)1 << rows % 64) - 1;
}

/* The program ends with its one result in the first bitmap of the stack. */
static void run(const struct filter *filter, uint64_t *stack, size_t words)
{
    size_t depth = 0;
    for (size_t n = 0; n < filter->node_count; n++) {
        const struct filter_node *node = &filter->nodes[n];
        if (node->op == FILTER_IN || node->op == FILTER_CONTAINS || node->op == FILTER_RANGE) {
            uint64_t *bits = stack + words * depth++;
            if (node->column->field->type == FILTER_TEXT)
                test_text(filter, node, bits, words);
            else
                test_numbers(filter, node, bits);
            continue;
        }
        if (node->op != FILTER_NOT)
            depth--;
        uint64_t *left = stack + words * (depth - 1);
        const uint64_t *right = stack + words * depth;
        for (size_t w = 0; w < words; w++)
            left[w] = node->op == FILTER_NOT   ? ~left[w]
                      : node->op == FILTER_AND ? left[w] & right[w]
                                               : left[w] | right[w];
        clear_tail(left, filter->table->rows);
    }
    ASSERT(depth == 1);
}

enum akin_status filter_evaluate(const struct filter *filter, uint64_t *bits, size_t *passing,
                                 struct akin_error *error)
{
    size_t words = filter_words(filter->table->rows), ones = 0;
    uint64_t *stack = memory_alloc_aligned(filter->stack_max, (words + 1) * sizeof *stack);
    if (!stack)
        return error_memory(error);
    run(filter, stack, words);
    memcpy(bits, stack, words * sizeof *bits);
    for (size_t w = 0; w < words; w++)
        ones += (size_t)__builtin_popcountll(bits[w]);
    if (passing)
        *passing = ones;
    memory_free(stack);
    return AKIN_OK;
}

void filter_destroy(struct filter **filter)
{
    struct filter *f = *filter;
    if (!f)
        return;
    memory_free(f->nodes);
    memory_free(f->values);
    string_pool_deinit(&f->pool);
    memory_free(f);
    *filter = NULL;
}
