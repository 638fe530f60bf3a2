/* Blocks of columns of any bytes: refused, or evaluated without a step outside, and checked. Input:
 * rows and the bytes of blocks 4, 5 and 6 as four numbers, then the blocks. Once as they are, and
 * once with the sizes in the blocks made right, so that what lies behind them is reached. */
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "index/columns_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS_MAX = 4096 };

static void evaluate(const struct columns *columns)
{
    static const char *const texts[] = { "genre=drama OR genre~a OR genre!=horror",
                                         "year>1980 AND year<2000 AND year!=1990 OR year IN (7, 8)",
                                         "genre NOT IN (x, y) AND NOT year BETWEEN 1 AND 1e9" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct filter *filter = NULL;
        uint64_t bits[ROWS_MAX / 64];
        size_t passing;
        if (filter_compile(NULL, 0, texts[i], &filter, NULL) == AKIN_OK &&
            columns_evaluate(columns, filter, bits, &passing, NULL) == AKIN_OK)
            ASSERT(passing <= columns->image.rows);
        filter_destroy(&filter);
    }
}

static void try_blocks(const struct segment_blocks *blocks, size_t rows)
{
    struct columns columns;
    struct akin_error error = { 0 };
    size_t sum = 0, bytes;
    if (columns_open(&columns, blocks, rows, &error) != AKIN_OK) {
        ASSERT(error.message[0]);
        return;
    }
    evaluate(&columns);
    for (size_t row = 0; row < rows; row++) {
        const char *text = columns_text(&columns, row, &bytes);
        for (size_t i = 0; i < bytes; i++)
            sum += (unsigned char)text[i];
    }
    for (size_t i = 0; i < columns_field_count(&columns); i++)
        sum += columns_field(&columns, i).name_bytes;
    ASSERT(columns_check(&columns, &error) == AKIN_OK || error.message[0] || sum);
}

static void mend(struct segment_block *blocks, uint64_t rows)
{
    struct image_header *header = (struct image_header *)blocks[0].data;
    uint64_t *starts = (uint64_t *)blocks[1].data;
    if (blocks[0].bytes >= sizeof *header) {
        header->version = IMAGE_VERSION;
        header->bytes = blocks[0].bytes;
        header->rows = rows;
    }
    if (blocks[1].bytes == (rows + 1) * sizeof *starts) {
        starts[0] = 0;
        starts[rows] = blocks[2].bytes;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct segment_block blocks[3] = { { .type = COLUMNS_BLOCK_FIELDS },
                                       { .type = COLUMNS_BLOCK_STARTS },
                                       { .type = COLUMNS_BLOCK_JSON } };
    struct segment_blocks all = { blocks, 3 };
    uint64_t numbers[4];
    if (size < sizeof numbers)
        return 0;
    memcpy(numbers, data, sizeof numbers);
    numbers[0] %= ROWS_MAX;
    size_t at = sizeof numbers;
    bool fine = true;
    for (size_t i = 0; i < 3; i++) {
        size_t bytes = numbers[i + 1] < size - at ? numbers[i + 1] : size - at;
        void *copy = memory_alloc_aligned(bytes, 1);
        fine = fine && copy;
        if (copy && bytes)
            memcpy(copy, data + at, bytes);
        blocks[i].data = copy;
        blocks[i].bytes = bytes;
        at += bytes;
    }
    if (fine) {
        try_blocks(&all, numbers[0]);
        mend(blocks, numbers[0]);
        try_blocks(&all, numbers[0]);
    }
    for (size_t i = 0; i < 3; i++)
        memory_free((void *)blocks[i].data);
    return 0;
}
