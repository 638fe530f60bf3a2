/* Columns of what the caller describes, in memory, in the form that segments have on disk. */
#include <string.h>

#include "index/columns_image.h"
#include "index/fold.h"

struct filter_table {
    struct columns_image image;
};

static bool add_texts(struct image_builder *builder, const struct filter_fields *fields,
                      const struct filter_field *field, struct bytes *folded)
{
    size_t name_bytes = strcspn(field->names, " ");
    for (size_t row = 0; row < fields->rows; row++) {
        const char *value;
        for (size_t i = 0; (value = field->text(fields->context, row, i)); i++) {
            if (!*value)
                continue;
            bytes_clear(folded);
            if (!fold_append(folded, value, strlen(value)) ||
                !image_builder_text(builder, row, field->names, name_bytes, folded->data,
                                    folded->count))
                return false;
        }
    }
    return true;
}

static bool add_numbers(struct image_builder *builder, const struct filter_fields *fields,
                        const struct filter_field *field)
{
    size_t name_bytes = strcspn(field->names, " ");
    for (size_t row = 0; row < fields->rows; row++) {
        double number;
        if (field->number(fields->context, row, &number) && number == number &&
            !image_builder_number(builder, row, field->names, name_bytes, number))
            return false;
    }
    return true;
}

static enum akin_status create(const struct filter_fields *fields, struct filter_table *table,
                               struct akin_error *error)
{
    struct image_builder *builder = image_builder_create();
    struct bytes folded = { 0 };
    bool fine = builder;
    for (size_t i = 0; fine && i < fields->count; i++) {
        const struct filter_field *field = &fields->fields[i];
        fine = field->type == FILTER_TEXT ? add_texts(builder, fields, field, &folded)
                                          : add_numbers(builder, fields, field);
    }
    enum akin_status status =
        fine ? image_builder_image(builder, fields->rows, &table->image, error)
             : error_memory(error);
    image_builder_destroy(&builder);
    bytes_deinit(&folded);
    return status;
}

enum akin_status filter_table_create(const struct filter_fields *fields,
                                     struct filter_table **table, struct akin_error *error)
{
    if (fields->rows > UINT32_MAX)
        return error_set(error, AKIN_LIMIT, "%zu rows: filters take up to 4294967295",
                         fields->rows);
    struct filter_table *t = memory_alloc(1, sizeof *t);
    if (!t)
        return error_memory(error);
    enum akin_status status = create(fields, t, error);
    if (status == AKIN_OK)
        *table = t;
    else
        filter_table_destroy(&t);
    return status;
}

void filter_table_destroy(struct filter_table **table)
{
    if (!*table)
        return;
    memory_free((void *)(*table)->image.data);
    memory_free(*table);
    *table = NULL;
}

uint64_t filter_table_bytes(const struct filter_table *table)
{
    return sizeof *table + table->image.bytes;
}

size_t filter_table_rows(const struct filter_table *table)
{
    return table->image.rows;
}

enum akin_status filter_table_evaluate(const struct filter_table *table,
                                       const struct filter *filter, uint64_t *bits,
                                       size_t *passing, struct akin_error *error)
{
    struct filter_source source = image_source(&table->image);
    return filter_evaluate(filter, &source, bits, passing, error);
}
