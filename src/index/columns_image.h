/* The sealed form of columns: one block of bytes that is evaluated where it lies, in a file or in
 * memory. Little-endian, aligned to 8 within, to 64 as a whole:
 *
 *   header, entries of the fields in the order of their names, the names, then the arrays of each
 *   field, in the order of struct image_field below, each padded with zeros to a multiple of 8
 *
 * Texts of a field stand folded, in the order of their bytes and each with a NUL behind; numbers in
 * ascending order. Rows of a value are a list, or a bitmap where that is smaller. So `=` is a
 * binary search and a walk over the rows that match. Numbers have cuts besides: bitmaps of all rows
 * whose number stands before a value, at about 64 places. A range is the difference of two of them,
 * and what lies between the cuts and the bounds: never all rows, whatever the range. */
#pragma once

#include "base/status.h"
#include "index/columns.h"
#include "index/filter_program.h"

enum {
    IMAGE_VERSION = 1,
    IMAGE_CUTS = 64,
    IMAGE_LIST_BITS = 32,       /* of a row in a list: a bitmap is smaller from 1 row in 32 on */
};

struct image_header {
    uint64_t version;
    uint64_t bytes;             /* of the block */
    uint64_t rows;
    uint64_t fields;
    uint64_t names_bytes;
};

struct image_entry {
    uint64_t name_at, name_bytes;       /* in the names */
    uint64_t at;                        /* of the field's arrays, in the block */
    uint64_t texts, text_bytes;
    uint64_t text_rows;                 /* in lists */
    uint64_t text_maps;                 /* texts with a bitmap */
    uint64_t text_present;              /* 1: there is a bitmap of the rows with texts */
    uint64_t numbers, number_rows, number_cuts;
};

struct image_map {
    uint32_t value, rows;       /* number of the text; how many rows have it */
};

/* A field, found in the block. [texts] has no lists for those with bitmaps: they are empty. */
struct image_field {
    const char *name;
    size_t name_bytes;
    size_t texts, text_row_count, text_maps, text_byte_count;
    const uint64_t *text_starts;        /* [texts + 1] in text_bytes */
    const uint64_t *text_lists;         /* [texts + 1] in text_rows */
    const uint64_t *text_present;       /* [words], NULL: make it of the lists */
    const struct image_map *maps;       /* [text_maps] ascending by text */
    const uint64_t *map_bits;           /* [text_maps][words] */
    const uint32_t *text_rows;
    const char *text_bytes;
    size_t numbers, number_row_count, number_cuts;
    const double *values;               /* [numbers] */
    const uint64_t *number_lists;       /* [numbers + 1] in number_rows */
    const uint64_t *cuts;               /* [number_cuts] numbers of values; the last is `numbers` */
    const uint64_t *cut_bits;           /* [number_cuts][words] */
    const uint32_t *number_rows;        /* in the order of their numbers */
};

/* ---- reading (columns_image.c) ---------------------------------------------------------- */

/* Whether the directory describes a block of `bytes` bytes at `data`. */
bool image_open(struct columns_image *image, const void *data, size_t bytes, size_t rows);
size_t image_field_count(const struct columns_image *image);
/* false: there is none, or its entry lies. */
bool image_field(const struct columns_image *image, size_t i, struct image_field *field);
bool image_find(const struct columns_image *image, const char *name, size_t bytes,
                struct image_field *field);
struct filter_source image_source(const struct columns_image *image);
/* Where the arrays of an entry end; false where a size overflows or lies beyond `bytes`. */
bool image_layout(const struct image_entry *entry, size_t rows, size_t bytes, const void *data,
                  struct image_field *field, size_t *end);

/* ---- building (columns_build.c) --------------------------------------------------------- */

struct image_builder;

struct image_builder *image_builder_create(void);
void image_builder_destroy(struct image_builder **builder);
/* One value of a row; rows of one field ascending. The text is folded and not empty, the number not
 * NaN. false: memory is out. */
bool image_builder_text(struct image_builder *builder, size_t row, const char *name,
                        size_t name_bytes, const char *text, size_t text_bytes);
bool image_builder_number(struct image_builder *builder, size_t row, const char *name,
                          size_t name_bytes, double number);
/* Once for a builder: writes the block, or makes the image in memory, where the caller frees it by
 * memory_free((void *)image->data). */
enum akin_status image_builder_write(struct image_builder *builder, size_t rows,
                                     const struct segment_sink *sink, struct akin_error *error);
enum akin_status image_builder_image(struct image_builder *builder, size_t rows,
                                     struct columns_image *image, struct akin_error *error);

/* What is appended to a sink in small pieces, put together to large ones. After a failure `status`
 * says so, and nothing more is appended. */
struct sink_buffer {
    const struct segment_sink *sink;
    unsigned char *data;
    size_t held, written;       /* bytes: not appended yet; taken in all */
    enum akin_status status;
    struct akin_error *error;
};

/* Begins a block of the type; 0: it is begun already. */
void sink_buffer_init(struct sink_buffer *buffer, const struct segment_sink *sink, uint32_t type,
                      struct akin_error *error);
void sink_buffer_add(struct sink_buffer *buffer, const void *data, size_t bytes);
enum akin_status sink_buffer_close(struct sink_buffer *buffer);    /* once, whatever happened */

/* ---- rows as JSON (columns_row.c) ------------------------------------------------------- */

struct row_field {
    size_t name_at, name_bytes; /* folded, in the bytes */
    uint64_t name_hash;
};

/* One value: of a list each text is one. */
struct row_value {
    size_t field;
    bool is_text;
    size_t text_at, text_bytes; /* folded, in the bytes; never empty */
    double number;
};

/* The values of one row, in the order of the JSON text; reused from row to row. */
struct row_values {
    struct row_field *fields;   /* with and without values */
    size_t field_count, field_capacity;
    struct row_value *values;
    size_t count, capacity;
    struct bytes bytes;
};

enum akin_status row_parse(const char *text, size_t bytes, const char *where,
                           struct row_values *values, struct akin_error *error);
void row_values_deinit(struct row_values *values);
