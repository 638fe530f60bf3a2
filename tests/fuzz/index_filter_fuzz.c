/* A filter of any bytes: refused with a message of one line, or evaluated, and then the filter and
 * its negation pass each row exactly once. */
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "index/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS = 70 };     /* more than one word */

static const char *const genres[] = { "Drama", "Sci-Fi", "Film Noir",
                                      ("Com\xc3\xa9" "die"), "R&B" };

static const char *genre_of(const void *context, size_t row, size_t i)
{
    (void)context;
    return i < row % 3 ? genres[(row + i) % 5] : NULL;
}

static bool year_of(const void *context, size_t row, double *value)
{
    (void)context;
    *value = 1950 + (double)row;
    return row % 7 != 0;
}

static const struct filter_field fields[] = {
    { .names = "genre g", .type = FILTER_TEXT, .text = genre_of },
    { .names = "year y", .type = FILTER_NUMBER, .number = year_of },
};

static void evaluate(const struct filter_table *table, const char *text, uint64_t bits[2],
                     size_t *passing)
{
    struct filter *filter = NULL;
    struct akin_error error = { 0 };
    if (filter_compile(fields, 2, text, &filter, &error) != AKIN_OK) {
        ASSERT(error.message[0] && !strchr(error.message, '\n'));
        *passing = SIZE_MAX;
        return;
    }
    ASSERT(filter_table_evaluate(table, filter, bits, passing, &error) == AKIN_OK);
    ASSERT(bits[1] >> (ROWS - 64) == 0);
    filter_destroy(&filter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct filter_fields described = { .fields = fields, .count = 2, .rows = ROWS };
    struct filter_table *table = NULL;
    struct bytes text = { 0 };
    uint64_t bits[2], negated[2];
    size_t passing, others;
    bytes_append(&text, data, size);
    bytes_append_text(&text, "");
    if (!text.failed && filter_table_create(&described, &table, NULL) == AKIN_OK) {
        evaluate(table, text.data, bits, &passing);
        bytes_clear(&text);
        bytes_append_text(&text, "NOT (");
        bytes_append(&text, data,
                     size && memchr(data, 0, size) ? strlen((const char *)data) : size);
        bytes_append_text(&text, ")");
        if (passing != SIZE_MAX && !text.failed) {
            evaluate(table, text.data, negated, &others);
            ASSERT(others == SIZE_MAX || (passing + others == ROWS && !(bits[0] & negated[0])));
        }
    }
    filter_table_destroy(&table);
    bytes_deinit(&text);
    return 0;
}
