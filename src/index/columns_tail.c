/* Rows in memory that are still being added. Full chunks of them have the sealed form; of the chunk
 * that is being filled each row is tested by itself, with the same meaning. A reader looks at rows
 * below the count that it was told of, and at the sealed form of a chunk only where that count
 * covers all of it; so nothing that a reader sees is ever written again. */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/limits.h"
#include "index/columns_image.h"

enum {
    CHUNK_ROWS = 1024,          /* a multiple of 64: bitmaps of chunks join at words */
    CHUNKS_MAX = COLUMNS_TAIL_ROWS_MAX / CHUNK_ROWS,
};

/* A number where text is NULL. */
struct tail_value {
    uint64_t name_hash;
    const char *name, *text;
    uint32_t name_bytes, text_bytes;
    double number;
};

struct tail_row {
    const char *json;
    size_t json_bytes;
    const struct tail_value *values;
    size_t value_count;
};

struct tail_chunk {
    struct columns_image image;         /* data NULL: not all rows are there */
    struct string_pool pool;
    struct tail_row rows[CHUNK_ROWS];
};

struct columns_tail {
    size_t rows;
    struct row_values parsed;
    struct tail_chunk *chunks[CHUNKS_MAX];  /* NULL behind the last */
};

/* ---- adding ----------------------------------------------------------------------------- */

enum akin_status columns_tail_create(struct columns_tail **tail, struct akin_error *error)
{
    struct columns_tail *created = memory_alloc(1, sizeof *created);
    if (!created)
        return error_memory(error);
    *tail = created;
    return AKIN_OK;
}

static void drop_image(struct tail_chunk *chunk)
{
    memory_free((void *)chunk->image.data);
    chunk->image = (struct columns_image){ 0 };
}

void columns_tail_cut(struct columns_tail *tail, size_t rows)
{
    ASSERT(rows <= tail->rows);
    tail->rows = rows;
    for (size_t c = rows / CHUNK_ROWS; c < CHUNKS_MAX && tail->chunks[c]; c++) {
        drop_image(tail->chunks[c]);
        if (c * CHUNK_ROWS < rows)
            continue;
        string_pool_deinit(&tail->chunks[c]->pool);
        memory_free(tail->chunks[c]);
        tail->chunks[c] = NULL;
    }
}

void columns_tail_destroy(struct columns_tail **tail)
{
    if (!*tail)
        return;
    columns_tail_cut(*tail, 0);
    row_values_deinit(&(*tail)->parsed);
    memory_free(*tail);
    *tail = NULL;
}

/* What was parsed into memory that stays. */
static bool keep_row(struct tail_chunk *chunk, struct tail_row *row,
                     const struct row_values *parsed, const char *text, size_t bytes)
{
    char *kept = string_pool_add(&chunk->pool, parsed->bytes.data ? parsed->bytes.data : "",
                                 parsed->bytes.count);
    struct tail_value *values =
        string_pool_alloc(&chunk->pool, parsed->count * sizeof *values);
    row->json = string_pool_add(&chunk->pool, text, bytes);
    if (!kept || !values || !row->json)
        return false;
    for (size_t i = 0; i < parsed->count; i++) {
        const struct row_value *value = &parsed->values[i];
        const struct row_field *field = &parsed->fields[value->field];
        values[i] = (struct tail_value){
            .name_hash = field->name_hash, .name = kept + field->name_at,
            .name_bytes = (uint32_t)field->name_bytes,
            .text = value->is_text ? kept + value->text_at : NULL,
            .text_bytes = (uint32_t)value->text_bytes, .number = value->number,
        };
    }
    row->json_bytes = bytes;
    row->values = values;
    row->value_count = parsed->count;
    return true;
}

static enum akin_status add_row(struct columns_tail *tail, const struct columns_rows *rows,
                                size_t i, struct akin_error *error)
{
    char where[32];
    size_t bytes, row = tail->rows + i;
    const char *text = rows->text(rows->context, i, &bytes);
    snprintf(where, sizeof where, "row %zu", i);
    TRY(row_parse(text, bytes, where, &tail->parsed, error));
    struct tail_chunk **chunk = &tail->chunks[row / CHUNK_ROWS];
    if (!*chunk)
        *chunk = memory_alloc(1, sizeof **chunk);
    if (!*chunk ||
        !keep_row(*chunk, &(*chunk)->rows[row % CHUNK_ROWS], &tail->parsed, text, bytes))
        return error_memory(error);
    return AKIN_OK;
}

/* Gives a chunk whose last row is there its sealed form. */
static enum akin_status seal_chunk(struct tail_chunk *chunk, struct akin_error *error)
{
    struct image_builder *builder = image_builder_create();
    bool fine = builder;
    for (size_t r = 0; r < CHUNK_ROWS && fine; r++) {
        const struct tail_row *row = &chunk->rows[r];
        for (size_t i = 0; i < row->value_count && fine; i++) {
            const struct tail_value *v = &row->values[i];
            fine = v->text ? image_builder_text(builder, r, v->name, v->name_bytes, v->text,
                                                v->text_bytes)
                           : image_builder_number(builder, r, v->name, v->name_bytes, v->number);
        }
    }
    enum akin_status status = fine
                                  ? image_builder_image(builder, CHUNK_ROWS, &chunk->image, error)
                                  : error_memory(error);
    image_builder_destroy(&builder);
    return status;
}

enum akin_status columns_tail_add(struct columns_tail *tail, const struct columns_rows *rows,
                                  struct akin_error *error)
{
    if (rows->count > COLUMNS_TAIL_ROWS_MAX - tail->rows)
        return error_set(error, AKIN_LIMIT, "more than %zu rows in memory: seal them",
                         COLUMNS_TAIL_ROWS_MAX);
    enum akin_status status = AKIN_OK;
    size_t end = tail->rows + rows->count;
    for (size_t i = 0; i < rows->count && status == AKIN_OK; i++)
        status = add_row(tail, rows, i, error);
    for (size_t c = tail->rows / CHUNK_ROWS; c < end / CHUNK_ROWS && status == AKIN_OK; c++)
        status = seal_chunk(tail->chunks[c], error);
    if (status == AKIN_OK)
        tail->rows = end;
    else
        columns_tail_cut(tail, tail->rows);
    return status;
}

size_t columns_tail_rows(const struct columns_tail *tail)
{
    return tail->rows;
}

uint64_t columns_tail_bytes(const struct columns_tail *tail)
{
    uint64_t bytes = sizeof *tail;
    for (size_t c = 0; c < CHUNKS_MAX && tail->chunks[c]; c++)
        bytes += sizeof **tail->chunks + tail->chunks[c]->pool.bytes + tail->chunks[c]->image.bytes;
    return bytes;
}

/* ---- reading ---------------------------------------------------------------------------- */

static bool is_of(const struct tail_value *value, const char *name, size_t bytes, uint64_t hash)
{
    return value->name_hash == hash && value->name_bytes == bytes &&
           !memcmp(value->name, name, bytes);
}

/* A text is compared as text and a number as number. */
static bool passes(const struct tail_value *value, const struct filter_node *node,
                   const struct filter_value *values)
{
    if (node->op == FILTER_RANGE)
        return !value->text && values[0].number <= value->number &&
               value->number <= values[1].number;
    if (node->op == FILTER_CONTAINS)
        return value->text &&
               memmem(value->text, value->text_bytes, values->text, values->text_bytes);
    for (size_t i = 0; i < node->value_count; i++)
        if (value->text ? value->text_bytes == values[i].text_bytes &&
                              !memcmp(value->text, values[i].text, value->text_bytes)
                        : value->number == values[i].number)
            return true;
    return false;
}

static void test_rows(const void *context, const struct filter_node *node,
                      const struct filter_value *values, uint64_t *bits, uint64_t *scratch)
{
    const struct tail_row *rows = ((const struct filter_source *)context)->context;
    size_t count = ((const struct filter_source *)context)->rows;
    (void)scratch;
    memset(bits, 0, filter_words(count) * sizeof *bits);
    for (size_t r = 0; r < count; r++) {
        bool any = false, present = false;
        for (size_t i = 0; i < rows[r].value_count && !any; i++) {
            const struct tail_value *value = &rows[r].values[i];
            if (!is_of(value, node->name, node->name_bytes, node->name_hash))
                continue;
            present = true;
            any = passes(value, node, values);
        }
        bits[r / 64] |= (uint64_t)(node->negated ? present && !any : any) << r % 64;
    }
}

enum akin_status columns_tail_evaluate(const struct columns_tail *tail, size_t rows,
                                       const struct filter *filter, uint64_t *bits,
                                       size_t *passing, struct akin_error *error)
{
    size_t all = 0;
    for (size_t begin = 0; begin < rows; begin += CHUNK_ROWS) {
        const struct tail_chunk *chunk = tail->chunks[begin / CHUNK_ROWS];
        struct filter_source some = { .context = chunk->rows, .rows = rows - begin };
        struct filter_source source =
            rows - begin < CHUNK_ROWS
                ? (struct filter_source){ .context = &some, .rows = some.rows, .test = test_rows }
                : image_source(&chunk->image);
        size_t ones;
        TRY(filter_evaluate(filter, &source, bits + begin / 64, &ones, error));
        all += ones;
    }
    if (passing)
        *passing = all;
    return AKIN_OK;
}

const char *columns_tail_text(const struct columns_tail *tail, size_t row, size_t *bytes)
{
    const struct tail_row *found = &tail->chunks[row / CHUNK_ROWS]->rows[row % CHUNK_ROWS];
    *bytes = found->json_bytes;
    return found->json;
}

bool columns_tail_has_field(const struct columns_tail *tail, size_t rows, const char *name)
{
    size_t bytes = strlen(name);
    uint64_t hash = hash_bytes(name, bytes);
    for (size_t row = 0; row < rows; row++) {
        const struct tail_chunk *chunk = tail->chunks[row / CHUNK_ROWS];
        struct image_field field;
        if (row % CHUNK_ROWS == 0 && rows - row >= CHUNK_ROWS) {
            if (image_find(&chunk->image, name, bytes, &field))
                return true;
            row += CHUNK_ROWS - 1;
            continue;
        }
        const struct tail_row *found = &chunk->rows[row % CHUNK_ROWS];
        for (size_t i = 0; i < found->value_count; i++)
            if (is_of(&found->values[i], name, bytes, hash))
                return true;
    }
    return false;
}

void columns_tail_fields(const struct columns_tail *tail, size_t rows,
                         void (*see)(void *context, const struct columns_field_info *field),
                         void *context)
{
    for (size_t row = 0; row < rows; row++) {
        const struct tail_chunk *chunk = tail->chunks[row / CHUNK_ROWS];
        if (row % CHUNK_ROWS == 0 && rows - row >= CHUNK_ROWS) {
            struct columns columns = { .image = chunk->image };
            for (size_t i = 0; i < columns_field_count(&columns); i++) {
                struct columns_field_info field = columns_field(&columns, i);
                see(context, &field);
            }
            row += CHUNK_ROWS - 1;
            continue;
        }
        const struct tail_row *found = &chunk->rows[row % CHUNK_ROWS];
        for (size_t i = 0; i < found->value_count; i++) {
            const struct tail_value *value = &found->values[i];
            struct columns_field_info field = { value->name, value->name_bytes, value->text != NULL,
                                                value->text == NULL };
            see(context, &field);
        }
    }
}
