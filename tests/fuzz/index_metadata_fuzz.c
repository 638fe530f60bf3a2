/* Metadata of any bytes: refused with one line that names the row, or sealed and in memory alike,
 * sound, and retrieved as it was. */
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "index/columns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const char *text;
    size_t bytes;
};

static const char *text_of(const void *context, size_t row, size_t *bytes)
{
    const struct input *input = context;
    *bytes = row == 1 ? input->bytes : 0;
    return input->text;
}

struct blocks {
    struct segment_block blocks[3];
    struct bytes bytes[3];
    size_t count;
};

static enum akin_status begin(void *context, uint32_t type, struct akin_error *error)
{
    struct blocks *blocks = context;
    (void)error;
    blocks->blocks[blocks->count++].type = type;
    return AKIN_OK;
}

static enum akin_status append(void *context, const void *data, size_t bytes,
                               struct akin_error *error)
{
    struct blocks *blocks = context;
    struct bytes *block = &blocks->bytes[blocks->count - 1];
    bytes_append(block, data, bytes);
    blocks->blocks[blocks->count - 1].data = block->data;
    blocks->blocks[blocks->count - 1].bytes = block->count;
    return block->failed ? error_memory(error) : AKIN_OK;
}

static void compare(const struct blocks *blocks, const struct columns_tail *tail,
                    const struct input *input)
{
    static const char *const filters[] = { "a=1 OR a~x", "NOT a!=1 OR b>3", "b<=0 AND c!=x" };
    struct segment_blocks all = { blocks->blocks, blocks->count };
    struct columns columns;
    size_t bytes;
    ASSERT(columns_open(&columns, &all, 2, NULL) == AKIN_OK);
    ASSERT(columns_check(&columns, NULL) == AKIN_OK);
    const char *text = columns_text(&columns, 1, &bytes);
    ASSERT(bytes == input->bytes && !memcmp(text, input->text, bytes));
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        struct filter *filter = NULL;
        uint64_t sealed, added;
        ASSERT(filter_compile(NULL, 0, filters[i], &filter, NULL) == AKIN_OK);
        ASSERT(columns_evaluate(&columns, filter, &sealed, NULL, NULL) == AKIN_OK);
        ASSERT(columns_tail_evaluate(tail, 2, filter, &added, NULL, NULL) == AKIN_OK);
        ASSERT(sealed == added && sealed < 4);
        filter_destroy(&filter);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { (const char *)data, size };
    struct columns_rows rows = { .count = 2, .context = &input, .text = text_of };
    struct blocks blocks = { .count = 0 };
    struct segment_sink sink = { &blocks, begin, append };
    struct columns_tail *tail = NULL;
    struct akin_error error = { 0 }, built = { 0 };
    if (size == 0 || columns_tail_create(&tail, &error) != AKIN_OK)
        return 0;
    enum akin_status status = columns_tail_add(tail, &rows, &error);
    ASSERT(columns_build(&rows, &sink, &built) == status);
    if (status == AKIN_OK)
        compare(&blocks, tail, &input);
    else
        ASSERT(!strncmp(error.message, "row 1:", 6) && !strcmp(error.message, built.message));
    for (size_t i = 0; i < 3; i++)
        bytes_deinit(&blocks.bytes[i]);
    columns_tail_destroy(&tail);
    return 0;
}
