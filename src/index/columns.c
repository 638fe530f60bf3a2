/* Metadata of a segment: its three blocks written, found and evaluated. */
#include "index/columns.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "index/columns_image.h"

/* ---- texts of rows ---------------------------------------------------------------------- */

static const struct segment_block *find_block(const struct segment_blocks *blocks, uint32_t type)
{
    for (size_t i = 0; i < blocks->count; i++)
        if (blocks->blocks[i].type == type)
            return &blocks->blocks[i];
    return NULL;
}

static enum akin_status refuse(struct akin_error *error, const char *what)
{
    return error_set(error, AKIN_FORMAT, "metadata: %s: the file is damaged; build it again", what);
}

enum akin_status columns_texts_open(struct columns_texts *texts,
                                    const struct segment_blocks *blocks, size_t rows,
                                    struct akin_error *error)
{
    const struct segment_block *starts = find_block(blocks, COLUMNS_BLOCK_STARTS);
    const struct segment_block *json = find_block(blocks, COLUMNS_BLOCK_JSON);
    *texts = (struct columns_texts){ .rows = rows };
    if (!starts && !json)
        return AKIN_OK;
    if (!starts || !json)
        return refuse(error, "one of the blocks 5 and 6 is missing");
    size_t bytes;
    if ((uintptr_t)starts->data % sizeof(uint64_t) || rows == SIZE_MAX ||
        !size_mul(rows + 1, sizeof(uint64_t), &bytes) || starts->bytes != bytes)
        return refuse(error, "block 5 has the wrong size");
    const uint64_t *at = starts->data;
    if (at[0] != 0 || at[rows] != json->bytes)
        return refuse(error, "block 5 is not about block 6");
    *texts = (struct columns_texts){ at, json->data, rows, json->bytes };
    return AKIN_OK;
}

const char *columns_texts_get(const struct columns_texts *texts, size_t row, size_t *bytes)
{
    *bytes = 0;
    if (!texts->starts || row >= texts->rows)
        return "";
    uint64_t begin = texts->starts[row], end = texts->starts[row + 1];
    if (begin > end || end > texts->json_bytes)
        return "";
    *bytes = end - begin;
    return *bytes ? texts->json + begin : "";
}

/* ---- building --------------------------------------------------------------------------- */

static bool add_values(struct image_builder *builder, size_t row, const struct row_values *values)
{
    const char *bytes = values->bytes.data;
    for (size_t i = 0; i < values->count; i++) {
        const struct row_value *value = &values->values[i];
        const struct row_field *field = &values->fields[value->field];
        const char *name = bytes + field->name_at;
        if (value->is_text ? !image_builder_text(builder, row, name, field->name_bytes,
                                                 bytes + value->text_at, value->text_bytes)
                           : !image_builder_number(builder, row, name, field->name_bytes,
                                                   value->number))
            return false;
    }
    return true;
}

/* Rows into the builder; *bytes is the length of all texts. */
static enum akin_status gather(const struct columns_rows *rows, struct image_builder *builder,
                               size_t *bytes, struct akin_error *error)
{
    struct row_values values = { 0 };
    enum akin_status status = AKIN_OK;
    *bytes = 0;
    for (size_t row = 0; row < rows->count && status == AKIN_OK; row++) {
        char where[32];
        size_t text_bytes;
        const char *text = rows->text(rows->context, row, &text_bytes);
        snprintf(where, sizeof where, "row %zu", row);
        *bytes += text_bytes;
        status = row_parse(text, text_bytes, where, &values, error);
        if (status == AKIN_OK && !add_values(builder, row, &values))
            status = error_memory(error);
    }
    row_values_deinit(&values);
    return status;
}

static enum akin_status write_starts(const struct columns_rows *rows,
                                     const struct segment_sink *sink, struct akin_error *error)
{
    struct sink_buffer buffer;
    uint64_t at = 0;
    sink_buffer_init(&buffer, sink, COLUMNS_BLOCK_STARTS, error);
    sink_buffer_add(&buffer, &at, sizeof at);
    for (size_t row = 0; row < rows->count; row++) {
        size_t bytes;
        rows->text(rows->context, row, &bytes);
        at += bytes;
        sink_buffer_add(&buffer, &at, sizeof at);
    }
    return sink_buffer_close(&buffer);
}

static enum akin_status write_texts(const struct columns_rows *rows,
                                    const struct segment_sink *sink, struct akin_error *error)
{
    struct sink_buffer buffer;
    sink_buffer_init(&buffer, sink, COLUMNS_BLOCK_JSON, error);
    for (size_t row = 0; row < rows->count; row++) {
        size_t bytes;
        const char *text = rows->text(rows->context, row, &bytes);
        sink_buffer_add(&buffer, text, bytes);
    }
    return sink_buffer_close(&buffer);
}

enum akin_status columns_build(const struct columns_rows *rows, const struct segment_sink *sink,
                               struct akin_error *error)
{
    if (rows->count > UINT32_MAX)
        return error_set(error, AKIN_LIMIT, "%zu rows: a segment with metadata takes 4294967295",
                         rows->count);
    struct image_builder *builder = image_builder_create();
    if (!builder)
        return error_memory(error);
    size_t bytes;
    enum akin_status status = gather(rows, builder, &bytes, error);
    if (status == AKIN_OK && bytes)
        status = image_builder_write(builder, rows->count, sink, error);
    image_builder_destroy(&builder);
    if (status == AKIN_OK && bytes)
        status = write_starts(rows, sink, error);
    if (status == AKIN_OK && bytes)
        status = write_texts(rows, sink, error);
    return status;
}

/* ---- a segment -------------------------------------------------------------------------- */

enum akin_status columns_open(struct columns *columns, const struct segment_blocks *blocks,
                              size_t rows, struct akin_error *error)
{
    const struct segment_block *fields = find_block(blocks, COLUMNS_BLOCK_FIELDS);
    *columns = (struct columns){ .image.rows = rows };
    TRY(columns_texts_open(&columns->texts, blocks, rows, error));
    if (!fields != !columns->texts.starts)
        return refuse(error, "one of the blocks 4 and 5 is missing");
    if (fields && (rows > UINT32_MAX ||
                   !image_open(&columns->image, fields->data, fields->bytes, rows)))
        return refuse(error, "block 4 does not describe columns");
    return AKIN_OK;
}

enum akin_status columns_evaluate(const struct columns *columns, const struct filter *filter,
                                  uint64_t *bits, size_t *passing, struct akin_error *error)
{
    struct filter_source source = image_source(&columns->image);
    return filter_evaluate(filter, &source, bits, passing, error);
}

size_t columns_field_count(const struct columns *columns)
{
    return image_field_count(&columns->image);
}

struct columns_field_info columns_field(const struct columns *columns, size_t i)
{
    struct image_field field;
    if (!image_field(&columns->image, i, &field))
        return (struct columns_field_info){ .name = "" };
    return (struct columns_field_info){ field.name, field.name_bytes, field.texts,
                                        field.numbers };
}

bool columns_has_field(const struct columns *columns, const char *name)
{
    struct image_field field;
    return image_find(&columns->image, name, strlen(name), &field);
}
