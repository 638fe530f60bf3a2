/* Metadata of the rows of an index, and filters over it. What a row's JSON object says is kept
 * twice: as its text, for output, and as columns from which a filter (filter.h, compiled once for a
 * query without a list of fields) makes a bitmap of a segment or of the tail. Both mean the same:
 * how rows are cut into segments and tail never changes which of them pass. docs/filters.md has the
 * rules; this file knows nothing of ids, deletions and vectors. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "index/filter.h"
#include "index/segment.h"

/* STARTS and JSON hold the texts of rows, in a segment and in whatever else stores rows in that
 * form; FIELDS is the sealed form of the columns, in segments only. */
enum columns_block {
    COLUMNS_BLOCK_FIELDS = 4,   /* columns_image.h */
    COLUMNS_BLOCK_STARTS = 5,   /* uint64 [rows + 1]: where the texts begin; the first 0 */
    COLUMNS_BLOCK_JSON = 6,     /* the texts, one behind the other */
};

/* ---- texts of rows ---------------------------------------------------------------------- */

/* Where rows come from: the JSON text of a row, valid until the next call; 0 bytes where it has no
 * metadata. */
struct columns_rows {
    size_t count;
    const void *context;
    const char *(*text)(const void *context, size_t row, size_t *bytes);
};

/* Whether a text is metadata: an object whose values are texts, numbers, booleans, null or lists of
 * texts, within the limits METADATA_* of base/limits.h. Errors begin with `where`
 * ("films.jsonl:7") and name the field: AKIN_FORMAT, AKIN_LIMIT. Any thread. */
enum akin_status columns_row_check(const char *text, size_t bytes, const char *where,
                                   struct akin_error *error);

/* Texts as they lie in their two blocks. */
struct columns_texts {
    const uint64_t *starts;     /* NULL: no row has metadata */
    const char *json;
    size_t rows, json_bytes;
};

/* Finds the two blocks; checks sizes only. Without them every row has no metadata. */
enum akin_status columns_texts_open(struct columns_texts *texts,
                                    const struct segment_blocks *blocks, size_t rows,
                                    struct akin_error *error);
/* 0 bytes where there is none, or where the blocks are damaged. Any thread. */
const char *columns_texts_get(const struct columns_texts *texts, size_t row, size_t *bytes);

/* ---- a segment -------------------------------------------------------------------------- */

/* Writes the three blocks. Errors name the row ("row 7: genres: ..."). The same rows give the same
 * bytes. */
enum akin_status columns_build(const struct columns_rows *rows, const struct segment_sink *sink,
                               struct akin_error *error);

/* What is open points into the blocks and owns nothing. */
struct columns {
    struct columns_texts texts;
    struct columns_image {
        const unsigned char *data;      /* NULL: no row has metadata */
        size_t bytes, rows;
    } image;
};

/* Takes microseconds: reads the directory of the fields, and nothing else. Afterwards no call reads
 * or writes outside, whatever the blocks hold. Segments without the blocks have no metadata.
 * AKIN_FORMAT names the block. */
enum akin_status columns_open(struct columns *columns, const struct segment_blocks *blocks,
                              size_t rows, struct akin_error *error);
/* Reads everything: that texts are metadata, and of the columns all that evaluation relies on:
 * order, bounds, and that bitmaps and lists agree. Whether a row's columns say what its text says
 * is for the checksums of the file. */
enum akin_status columns_check(const struct columns *columns, struct akin_error *error);

/* As filter_table_evaluate. Any thread. */
enum akin_status columns_evaluate(const struct columns *columns, const struct filter *filter,
                                  uint64_t *bits, size_t *passing, struct akin_error *error);
/* The JSON text of a row, as columns_texts_get. */
#define columns_text(columns, row, bytes) columns_texts_get(&(columns)->texts, row, bytes)

/* Fields in the order of their folded names. */
struct columns_field_info {
    const char *name;           /* folded; not ended by a NUL */
    size_t name_bytes;
    uint64_t texts, numbers;    /* distinct ones */
};
size_t columns_field_count(const struct columns *columns);
struct columns_field_info columns_field(const struct columns *columns, size_t i);
/* Whether any row has the field of a filter (filter_name): tells a mistyped one. */
bool columns_has_field(const struct columns *columns, const char *name);

/* ---- the tail --------------------------------------------------------------------------- */

/* Rows in memory: one writer appends, any number of readers evaluate the rows that they were told
 * of. Telling them (a lock, an atomic with release and acquire) is the caller's task. Rows are
 * never moved; all of them live until the tail is destroyed. At most COLUMNS_TAIL_ROWS_MAX. */
struct columns_tail;

enum akin_status columns_tail_create(struct columns_tail **tail, struct akin_error *error);
void columns_tail_destroy(struct columns_tail **tail);
/* Adds all of the rows or, with an error that names one, none. The texts are copied. */
enum akin_status columns_tail_add(struct columns_tail *tail, const struct columns_rows *rows,
                                  struct akin_error *error);
/* Takes back the last rows, of which no reader has been told: `rows` stay. */
void columns_tail_cut(struct columns_tail *tail, size_t rows);
size_t columns_tail_rows(const struct columns_tail *tail);      /* the writer's */
uint64_t columns_tail_bytes(const struct columns_tail *tail);   /* the writer's: memory held */

/* Of the first `rows` rows. Any thread. */
enum akin_status columns_tail_evaluate(const struct columns_tail *tail, size_t rows,
                                       const struct filter *filter, uint64_t *bits,
                                       size_t *passing, struct akin_error *error);
/* Shows the fields of the first `rows` rows, some of them several times. Any thread. */
void columns_tail_fields(const struct columns_tail *tail, size_t rows,
                         void (*see)(void *context, const struct columns_field_info *field),
                         void *context);
const char *columns_tail_text(const struct columns_tail *tail, size_t row, size_t *bytes);
bool columns_tail_has_field(const struct columns_tail *tail, size_t rows, const char *name);
