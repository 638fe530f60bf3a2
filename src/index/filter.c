/* Evaluation of filters: a stack of bitmaps over the rows. What a condition on a field means for
 * the rows is for the source (columns_image.c, columns_tail.c). */
#include "index/filter.h"

#include <string.h>

#include "index/filter_program.h"

size_t filter_words(size_t rows)
{
    return rows / 64 + (rows % 64 != 0);
}

/* One bit of a sum of three, and what it carries. */
static uint64_t add_bits(uint64_t a, uint64_t b, uint64_t c, uint64_t *carry)
{
    *carry = (a & b) | ((a ^ b) & c);
    return a ^ b ^ c;
}

static size_t count_word(uint64_t w)
{
    w -= w >> 1 & 0x5555555555555555u;
    w = (w & 0x3333333333333333u) + (w >> 2 & 0x3333333333333333u);
    w = (w + (w >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (size_t)(w * 0x0101010101010101u >> 56);
}

/* Carry-save adders, after Harley and Seal: eight words cost one count and 35 operations, for there
 * may be no instruction that counts. */
size_t filter_count(const uint64_t *bits, size_t words)
{
    uint64_t ones = 0, twos = 0, fours = 0;
    size_t eights = 0, w = 0, rest = 0;
    for (; w + 8 <= words; w += 8) {
        const uint64_t *b = bits + w;
        uint64_t two[4], four[2], eight;
        ones = add_bits(ones, b[0], b[1], &two[0]);
        ones = add_bits(ones, b[2], b[3], &two[1]);
        ones = add_bits(ones, b[4], b[5], &two[2]);
        ones = add_bits(ones, b[6], b[7], &two[3]);
        twos = add_bits(twos, two[0], two[1], &four[0]);
        twos = add_bits(twos, two[2], two[3], &four[1]);
        fours = add_bits(fours, four[0], four[1], &eight);
        eights += count_word(eight);
    }
    for (; w < words; w++)
        rest += count_word(bits[w]);
    return 8 * eights + 4 * count_word(fours) + 2 * count_word(twos) + count_word(ones) + rest;
}

/* Zero behind the last row, whatever NOT and the columns made of it. */
static void clear_tail(uint64_t *bits, size_t rows)
{
    if (rows % 64)
        bits[rows / 64] &= ((uint64_t)1 << rows % 64) - 1;
}

static void combine(enum filter_op op, uint64_t *restrict left, const uint64_t *restrict right,
                    size_t words)
{
    if (op == FILTER_NOT) {
        for (size_t w = 0; w < words; w++)
            left[w] = ~left[w];
    } else if (op == FILTER_AND) {
        for (size_t w = 0; w < words; w++)
            left[w] &= right[w];
    } else {
        for (size_t w = 0; w < words; w++)
            left[w] |= right[w];
    }
}

/* The lowest bitmap of the stack is the caller's; the program ends with its one result there. The
 * last of the others is for the source. */
enum akin_status filter_evaluate(const struct filter *filter, const struct filter_source *source,
                                 uint64_t *bits, size_t *passing, struct akin_error *error)
{
    size_t words = filter_words(source->rows), depth = 0;
    uint64_t *stack = memory_alloc_aligned(filter->stack_max, words * sizeof *stack);
    if (!stack)
        return error_memory(error);
    uint64_t *scratch = stack + (filter->stack_max - 1) * words;
    for (size_t n = 0; n < filter->node_count; n++) {
        const struct filter_node *node = &filter->nodes[n];
        bool test = node->op > FILTER_NOT;
        if (!test && node->op != FILTER_NOT)
            depth--;
        size_t top = test ? depth++ : depth - 1;
        uint64_t *left = top ? stack + (top - 1) * words : bits;
        if (test)
            source->test(source->context, node, filter->values + node->first_value, left, scratch);
        else
            combine(node->op, left, stack + top * words, words);
    }
    ASSERT(depth == 1);
    memory_free(stack);
    clear_tail(bits, source->rows);
    if (passing)
        *passing = filter_count(bits, words);
    return AKIN_OK;
}

const char *filter_name(const struct filter *filter, size_t i)
{
    for (size_t n = 0; n < filter->node_count; n++)
        if (filter->nodes[n].op > FILTER_NOT && i-- == 0)
            return filter->nodes[n].name;
    return NULL;
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
