/* Metadata of any bytes: refused with one line that names the row, or sealed and in memory alike,
 * sound, and retrieved as it was. What jansson refuses is refused, and a field that it reads as a
 * value is one. */
#include <stdint.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
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

static bool is_text(const json_t *value)
{
    return json_is_string(value) && json_string_length(value) <= METADATA_TEXT_BYTES_MAX;
}

/* Values that a row may have; numbers aside, whose limits are our own. */
static bool is_value(const json_t *value)
{
    bool fine = true;
    size_t i;
    const json_t *item;
    json_array_foreach(value, i, item)
        fine = fine && is_text(item);
    return json_is_array(value) ? fine
                                : is_text(value) || json_is_boolean(value) || json_is_null(value);
}

/* Holds the reader of rows against another one. */
static void compare_with_jansson(const struct input *input, enum akin_status status)
{
    json_error_t problem;
    json_t *root = json_loadb(input->text, input->bytes, JSON_REJECT_DUPLICATES, &problem);
    ASSERT(root || status != AKIN_OK);
    bool fine = json_is_object(root) && json_object_size(root) == 1;
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
        fine = fine && *key && strlen(key) <= METADATA_NAME_BYTES_MAX && is_value(value);
    ASSERT(!fine || status == AKIN_OK);
    json_decref(root);
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
    compare_with_jansson(&input, status);
    if (status == AKIN_OK)
        compare(&blocks, tail, &input);
    else
        ASSERT(!strncmp(error.message, "row 1:", 6) && !strcmp(error.message, built.message));
    for (size_t i = 0; i < 3; i++)
        bytes_deinit(&blocks.bytes[i]);
    columns_tail_destroy(&tail);
    return 0;
}
