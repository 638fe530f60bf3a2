/* Building the sealed form of columns: values are gathered field by field in the order of the rows,
 * sorted, laid out and appended. What is written depends on the values alone. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "index/columns_image.h"

enum { CUT_ROWS_MIN = 512 }; /* between two cuts: fewer are walked faster than bitmaps are read */

struct built_text {
    const char *text;
    size_t bytes;
    size_t id;                  /* in order of appearance */
};

struct text_row {
    uint32_t text, row;
};

struct number_row {
    double number;
    uint32_t row;
};

struct built_field {
    const char *name;
    size_t name_bytes;
    struct string_map ids;
    struct built_text *texts;
    size_t text_count, text_capacity;
    struct text_row *text_rows;
    size_t text_row_count, text_row_capacity;
    struct number_row *numbers;
    size_t number_count, number_capacity;
    /* sorted */
    uint64_t *starts;           /* [text_count + 1] in the rows of all texts */
    uint32_t *rows;
    double *values;
    uint64_t *lists;            /* [value_count + 1] */
    uint64_t *cuts;
    size_t value_count, cut_count;
    struct image_entry entry;
};

struct image_builder {
    struct string_map ids;      /* of fields */
    struct built_field *fields;
    size_t field_count, field_capacity;
    struct string_pool pool;
    size_t rows, words;
};

/* ---- gathering -------------------------------------------------------------------------- */

struct image_builder *image_builder_create(void)
{
    return memory_alloc(1, sizeof(struct image_builder));
}

void image_builder_destroy(struct image_builder **builder)
{
    struct image_builder *b = *builder;
    if (!b)
        return;
    for (size_t i = 0; i < b->field_count; i++) {
        struct built_field *field = &b->fields[i];
        string_map_deinit(&field->ids);
        memory_free(field->texts);
        memory_free(field->text_rows);
        memory_free(field->numbers);
        memory_free(field->starts);
        memory_free(field->rows);
        memory_free(field->values);
        memory_free(field->lists);
        memory_free(field->cuts);
    }
    string_map_deinit(&b->ids);
    memory_free(b->fields);
    string_pool_deinit(&b->pool);
    memory_free(b);
    *builder = NULL;
}

/* The field of a name; a new one is added. NULL: memory is out. */
static struct built_field *field_of(struct image_builder *b, const char *name, size_t bytes)
{
    uint64_t id;
    if (string_map_get(&b->ids, name, bytes, &id))
        return &b->fields[id];
    const char *kept = string_pool_add(&b->pool, name, bytes);
    if (!kept || !array_reserve((void **)&b->fields, &b->field_capacity, b->field_count + 1,
                                sizeof *b->fields) ||
        !string_map_set(&b->ids, kept, bytes, b->field_count))
        return NULL;
    struct built_field *field = &b->fields[b->field_count++];
    *field = (struct built_field){ .name = kept, .name_bytes = bytes };
    return field;
}

static bool number_text(struct image_builder *b, struct built_field *field, const char *text,
                        size_t bytes, uint64_t *id)
{
    if (string_map_get(&field->ids, text, bytes, id))
        return true;
    *id = field->text_count;
    const char *kept = string_pool_add(&b->pool, text, bytes);
    if (*id >= UINT32_MAX || !kept ||
        !array_reserve((void **)&field->texts, &field->text_capacity, *id + 1,
                       sizeof *field->texts) ||
        !string_map_set(&field->ids, kept, bytes, *id))
        return false;
    field->texts[field->text_count++] = (struct built_text){ kept, bytes, *id };
    return true;
}

bool image_builder_text(struct image_builder *b, size_t row, const char *name, size_t name_bytes,
                        const char *text, size_t text_bytes)
{
    uint64_t id;
    struct built_field *field = field_of(b, name, name_bytes);
    if (!field || !number_text(b, field, text, text_bytes, &id) ||
        !array_reserve((void **)&field->text_rows, &field->text_row_capacity,
                       field->text_row_count + 1, sizeof *field->text_rows))
        return false;
    field->text_rows[field->text_row_count++] = (struct text_row){ (uint32_t)id, (uint32_t)row };
    return true;
}

bool image_builder_number(struct image_builder *b, size_t row, const char *name, size_t name_bytes,
                          double number)
{
    struct built_field *field = field_of(b, name, name_bytes);
    if (!field || !array_reserve((void **)&field->numbers, &field->number_capacity,
                                 field->number_count + 1, sizeof *field->numbers))
        return false;
    /* adding 0 makes 0 of -0: equal numbers are one value */
    field->numbers[field->number_count++] = (struct number_row){ number + 0.0, (uint32_t)row };
    return true;
}

/* ---- sorting ---------------------------------------------------------------------------- */

static int compare_texts(const void *left, const void *right)
{
    const struct built_text *a = left, *b = right;
    int order = memcmp(a->text, b->text, a->bytes < b->bytes ? a->bytes : b->bytes);
    return order ? order : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

static int compare_fields(const void *left, const void *right)
{
    const struct built_field *a = left, *b = right;
    struct built_text a_name = { .text = a->name, .bytes = a->name_bytes };
    struct built_text b_name = { .text = b->name, .bytes = b->name_bytes };
    return compare_texts(&a_name, &b_name);
}

static int compare_numbers(const void *left, const void *right)
{
    const struct number_row *a = left, *b = right;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

/* Two passes of a counting sort: texts into the order of their bytes, rows behind their text. A row
 * that has a text twice is listed once. */
static bool sort_texts(struct built_field *field)
{
    size_t texts = field->text_count;
    uint32_t *place = memory_alloc(texts, sizeof *place);
    field->starts = memory_alloc(texts + 2, sizeof *field->starts);
    field->rows = memory_alloc(field->text_row_count, sizeof *field->rows);
    if (!place || !field->starts || !field->rows) {
        memory_free(place);
        return false;
    }
    if (texts)
        qsort(field->texts, texts, sizeof *field->texts, compare_texts);
    for (size_t v = 0; v < texts; v++)
        place[field->texts[v].id] = (uint32_t)v;
    uint64_t *next = field->starts + 1; /* next[v] runs from the first row of v to its end */
    for (size_t i = 0; i < field->text_row_count; i++)
        next[place[field->text_rows[i].text] + 1]++;
    for (size_t v = 0; v < texts; v++)
        next[v + 1] += next[v];
    for (size_t i = 0; i < field->text_row_count; i++)
        field->rows[next[place[field->text_rows[i].text]]++] = field->text_rows[i].row;
    memory_free(place);
    size_t kept = 0;
    for (size_t v = 0; v < texts; v++) {
        size_t begin = field->starts[v], end = field->starts[v + 1];
        field->starts[v] = kept;
        for (size_t i = begin; i < end; i++)
            if (i == begin || field->rows[i] != field->rows[i - 1])
                field->rows[kept++] = field->rows[i];
    }
    field->starts[texts] = kept;
    return true;
}

/* Cuts stand between two values, at most `step` rows apart where no single value has more. */
static void choose_cuts(struct built_field *field, size_t step)
{
    size_t last = 0;
    for (size_t v = 1; v < field->value_count; v++)
        if (field->lists[v + 1] - last > step) {
            field->cuts[field->cut_count++] = v;
            last = field->lists[v];
        }
    field->cuts[field->cut_count++] = field->value_count;
}

static bool sort_numbers(struct built_field *field, size_t rows)
{
    size_t count = field->number_count;
    if (count)
        qsort(field->numbers, count, sizeof *field->numbers, compare_numbers);
    field->values = memory_alloc(count, sizeof *field->values);
    field->lists = memory_alloc(count + 1, sizeof *field->lists);
    field->cuts = memory_alloc(2 * IMAGE_CUTS + 2, sizeof *field->cuts);
    if (!field->values || !field->lists || !field->cuts)
        return false;
    for (size_t i = 0; i < count; i++)
        if (i == 0 || field->numbers[i].number != field->numbers[i - 1].number) {
            field->values[field->value_count] = field->numbers[i].number;
            field->lists[field->value_count++] = i;
        }
    field->lists[field->value_count] = count;
    size_t step = count / IMAGE_CUTS + 1;
    if (count >= rows / IMAGE_LIST_BITS && count)
        choose_cuts(field, step > CUT_ROWS_MIN ? step : CUT_ROWS_MIN);
    return true;
}

static size_t text_rows(const struct built_field *field, size_t v)
{
    return field->starts[v + 1] - field->starts[v];
}

static bool has_map(const struct built_field *field, size_t v, size_t rows)
{
    return text_rows(field, v) * IMAGE_LIST_BITS >= rows;
}

/* Sorts everything and says in the entries where it will lie; *bytes is all of it. */
static bool lay_out(struct image_builder *b, struct image_header *header)
{
    size_t name_at = 0, end = sizeof *header + b->field_count * sizeof(struct image_entry);
    if (b->field_count)
        qsort(b->fields, b->field_count, sizeof *b->fields, compare_fields);
    for (size_t i = 0; i < b->field_count; i++) {
        struct built_field *field = &b->fields[i];
        if (!sort_texts(field) || !sort_numbers(field, b->rows))
            return false;
        field->entry.name_at = name_at;
        field->entry.name_bytes = field->name_bytes;
        name_at += field->name_bytes;
    }
    end += (name_at + 7) / 8 * 8;
    for (size_t i = 0; i < b->field_count; i++) {
        struct built_field *field = &b->fields[i];
        struct image_entry *entry = &field->entry;
        struct image_field found;
        entry->at = end;
        entry->texts = field->text_count;
        for (size_t v = 0; v < field->text_count; v++) {
            bool map = has_map(field, v, b->rows);
            entry->text_maps += map;
            entry->text_rows += map ? 0 : text_rows(field, v);
            entry->text_bytes += field->texts[v].bytes + 1;
        }
        /* at least as many rows as the list of all of them would be worth, or bitmaps to join */
        entry->text_present = field->text_count && (entry->text_maps || entry->text_rows *
                                                    IMAGE_LIST_BITS >= b->rows);
        entry->numbers = field->value_count;
        entry->number_rows = field->number_count;
        entry->number_cuts = field->cut_count;
        if (!image_layout(entry, b->rows, PTRDIFF_MAX, NULL, &found, &end))
            return false;
    }
    *header = (struct image_header){ .version = IMAGE_VERSION, .bytes = end, .rows = b->rows,
                                     .fields = b->field_count, .names_bytes = name_at };
    return true;
}

/* ---- writing ---------------------------------------------------------------------------- */

enum { BUFFER_BYTES = 1 << 16 };

void sink_buffer_init(struct sink_buffer *buffer, const struct segment_sink *sink, uint32_t type,
                      struct akin_error *error)
{
    *buffer = (struct sink_buffer){ .sink = sink, .error = error };
    buffer->data = memory_alloc(BUFFER_BYTES, 1);
    if (!buffer->data)
        buffer->status = error_memory(error);
    else if (type)
        buffer->status = sink->begin(sink->context, type, error);
}

static void append(struct sink_buffer *buffer, const void *data, size_t bytes)
{
    if (buffer->status == AKIN_OK && bytes)
        buffer->status =
            buffer->sink->append(buffer->sink->context, data, bytes, buffer->error);
}

void sink_buffer_add(struct sink_buffer *buffer, const void *data, size_t bytes)
{
    if (buffer->status != AKIN_OK || bytes == 0)
        return;
    if (bytes > BUFFER_BYTES - buffer->held) {
        append(buffer, buffer->data, buffer->held);
        buffer->held = 0;
    }
    if (bytes > BUFFER_BYTES) {
        append(buffer, data, bytes);
    } else {
        memcpy(buffer->data + buffer->held, data, bytes);
        buffer->held += bytes;
    }
    buffer->written += bytes;
}

enum akin_status sink_buffer_close(struct sink_buffer *buffer)
{
    append(buffer, buffer->data, buffer->held);
    memory_free(buffer->data);
    return buffer->status;
}

struct emitter {
    struct sink_buffer buffer;
    uint64_t *bitmap;           /* [words], to be written next */
    size_t words;
};

static void emit(struct emitter *e, const void *data, size_t bytes)
{
    sink_buffer_add(&e->buffer, data, bytes);
}

/* Behind each array. */
static void emit_padding(struct emitter *e)
{
    emit(e, &(uint64_t){ 0 }, -e->buffer.written % 8);
}

static void set_rows(struct emitter *e, const uint32_t *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        e->bitmap[rows[i] / 64] |= (uint64_t)1 << rows[i] % 64;
}

/* Writes the bitmap and clears it. */
static void emit_bitmap(struct emitter *e)
{
    emit(e, e->bitmap, e->words * sizeof *e->bitmap);
    memset(e->bitmap, 0, e->words * sizeof *e->bitmap);
}

static void emit_texts(struct emitter *e, const struct built_field *field, size_t rows)
{
    uint64_t at = 0;
    for (size_t v = 0; v <= field->text_count && field->text_count; v++) {
        emit(e, &at, sizeof at);
        at += v < field->text_count ? field->texts[v].bytes + 1 : 0;
    }
    at = 0;
    for (size_t v = 0; v <= field->text_count && field->text_count; v++) {
        emit(e, &at, sizeof at);
        at += v < field->text_count && !has_map(field, v, rows) ? text_rows(field, v) : 0;
    }
    if (field->entry.text_present) {
        set_rows(e, field->rows, field->starts[field->text_count]);
        emit_bitmap(e);
    }
    for (size_t v = 0; v < field->text_count; v++)
        if (has_map(field, v, rows))
            emit(e, &(struct image_map){ (uint32_t)v, (uint32_t)text_rows(field, v) },
                 sizeof(struct image_map));
    for (size_t v = 0; v < field->text_count; v++)
        if (has_map(field, v, rows)) {
            set_rows(e, field->rows + field->starts[v], text_rows(field, v));
            emit_bitmap(e);
        }
    for (size_t v = 0; v < field->text_count; v++)
        if (!has_map(field, v, rows))
            emit(e, field->rows + field->starts[v], text_rows(field, v) * sizeof *field->rows);
    emit_padding(e);
    for (size_t v = 0; v < field->text_count; v++)
        emit(e, field->texts[v].text, field->texts[v].bytes + 1);
    emit_padding(e);
}

static void emit_numbers(struct emitter *e, const struct built_field *field)
{
    emit(e, field->values, field->value_count * sizeof *field->values);
    emit(e, field->lists, (field->value_count + (field->value_count > 0)) * sizeof *field->lists);
    emit(e, field->cuts, field->cut_count * sizeof *field->cuts);
    for (size_t c = 0, i = 0; c < field->cut_count; c++) {
        for (; i < field->lists[field->cuts[c]]; i++)
            e->bitmap[field->numbers[i].row / 64] |= (uint64_t)1 << field->numbers[i].row % 64;
        emit(e, e->bitmap, e->words * sizeof *e->bitmap);
    }
    memset(e->bitmap, 0, e->words * sizeof *e->bitmap);
    for (size_t i = 0; i < field->number_count; i++)
        emit(e, &field->numbers[i].row, sizeof field->numbers[i].row);
    emit_padding(e);
}

static void emit_all(struct emitter *e, const struct image_builder *b,
                     const struct image_header *header)
{
    emit(e, header, sizeof *header);
    for (size_t i = 0; i < b->field_count; i++)
        emit(e, &b->fields[i].entry, sizeof b->fields[i].entry);
    for (size_t i = 0; i < b->field_count; i++)
        emit(e, b->fields[i].name, b->fields[i].name_bytes);
    emit_padding(e);
    for (size_t i = 0; i < b->field_count && e->buffer.status == AKIN_OK; i++) {
        ASSERT(e->buffer.written == b->fields[i].entry.at);
        emit_texts(e, &b->fields[i], b->rows);
        emit_numbers(e, &b->fields[i]);
    }
    ASSERT(e->buffer.status != AKIN_OK || e->buffer.written == header->bytes);
}

static enum akin_status write_all(const struct image_builder *b, const struct image_header *header,
                                  const struct segment_sink *sink, uint32_t type,
                                  struct akin_error *error)
{
    struct emitter e = { .words = b->words };
    e.bitmap = memory_alloc(b->words, sizeof *e.bitmap);
    if (!e.bitmap)
        return error_memory(error);
    sink_buffer_init(&e.buffer, sink, type, error);
    if (e.buffer.status == AKIN_OK)
        emit_all(&e, b, header);
    memory_free(e.bitmap);
    return sink_buffer_close(&e.buffer);
}

enum akin_status image_builder_write(struct image_builder *b, size_t rows,
                                     const struct segment_sink *sink, struct akin_error *error)
{
    struct image_header header;
    b->rows = rows;
    b->words = filter_words(rows);
    if (!lay_out(b, &header))
        return error_memory(error);
    return write_all(b, &header, sink, COLUMNS_BLOCK_FIELDS, error);
}

static enum akin_status append_memory(void *context, const void *data, size_t bytes,
                                      struct akin_error *error)
{
    unsigned char **at = context;
    (void)error;
    memcpy(*at, data, bytes);
    *at += bytes;
    return AKIN_OK;
}

enum akin_status image_builder_image(struct image_builder *b, size_t rows,
                                     struct columns_image *image, struct akin_error *error)
{
    struct image_header header;
    b->rows = rows;
    b->words = filter_words(rows);
    unsigned char *data = lay_out(b, &header) ? memory_alloc_aligned(header.bytes, 1) : NULL;
    if (!data)
        return error_memory(error);
    unsigned char *at = data;
    struct segment_sink sink = { .context = &at, .append = append_memory };
    enum akin_status status = write_all(b, &header, &sink, 0, error);
    if (status == AKIN_OK)
        *image = (struct columns_image){ .data = data, .bytes = header.bytes, .rows = rows };
    else
        memory_free(data);
    return status;
}
