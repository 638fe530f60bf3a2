/* Building a segment of the flat kind: bytes and bounds of every row, then sketches and what they
 * are worth. Chunks of rows are shared out; what a row becomes depends on the row alone. */
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "index/flat_handle.h"

enum {
    CHUNK_ROWS = 4096,          /* a multiple of FLAT_BLOCK_ROWS */
    SAMPLE_ROWS = 4096,         /* that a space of sketches is learned from */
    BORROWED_ROWS_MIN = 256,    /* fewer are scanned in no time */
};
/* A space that was learned from other rows is left when its estimates are that much worse. */
#define ERROR_GROWTH 1.2

struct builder {
    const struct segment_build *build;
    struct flat_header header;
    size_t stride, numbers;             /* of a row: 3, or 4 with L2 */
    float *terms;                       /* [numbers][count] */
    double *lengths;                    /* [CHUNK_ROWS] */
    uint8_t *codes;                     /* [CHUNK_ROWS][stride] */
    float *rows;                        /* [threads][FLAT_BLOCK_ROWS][dim] */
    unsigned char *scratch;             /* [threads][scratch_bytes] of sketches */
    size_t scratch_bytes;
    struct sketch *space;
    unsigned char *sketches;            /* of all rows */
    size_t first;                       /* of the chunk */
};

static void read_row(const struct builder *b, size_t row, float *x)
{
    const struct segment_rows *rows = &b->build->rows;
    struct originals from = { .vectors = rows->vectors, .element = rows->element,
                              .dim = rows->dim, .score = rows->score };
    if (from.element == ELEMENT_I8)
        from.element = ELEMENT_F32;
    originals_read(b->build->backend, &from, row, x);
}

/* codes [stride], and the row as it will be scored to x: what ELEMENT_I8 keeps, or the original. */
static double encode_row(const struct builder *b, size_t row, float *x, uint8_t *codes,
                         float numbers[4])
{
    size_t dim = b->build->rows.dim;
    read_row(b, row, x);
    if (b->build->rows.element == ELEMENT_I8)
        screen_round(x, dim);
    return screen_encode(x, dim, codes, numbers);
}

/* The row as it will be scored, alone; codes and numbers are room. */
static void kept_row(const struct builder *b, size_t row, float *x, uint8_t *codes,
                     float numbers[4])
{
    if (b->build->rows.element == ELEMENT_I8)
        encode_row(b, row, x, codes, numbers);
    else
        read_row(b, row, x);
}

static size_t chunk_rows(const struct builder *b)
{
    size_t rest = b->build->rows.count - b->first;
    return rest < CHUNK_ROWS ? rest : CHUNK_ROWS;
}

static void encode_range(void *context, size_t begin, size_t end, int worker)
{
    struct builder *b = context;
    size_t count = b->build->rows.count;
    float *x = b->rows + (size_t)worker * FLAT_BLOCK_ROWS * b->build->rows.dim, numbers[4];
    for (size_t i = begin; i < end; i++) {
        b->lengths[i] = encode_row(b, b->first + i, x, b->codes + i * b->stride, numbers);
        for (size_t j = 0; j < b->numbers; j++)
            b->terms[j * count + b->first + i] = numbers[j];
    }
}

static void sketch_range(void *context, size_t begin, size_t end, int worker)
{
    struct builder *b = context;
    size_t dim = b->build->rows.dim, bytes = sketch_block_bytes(b->space);
    float *x = b->rows + (size_t)worker * FLAT_BLOCK_ROWS * dim, numbers[4];
    uint8_t *codes = b->codes + (size_t)worker * b->stride;
    const float *rows[FLAT_BLOCK_ROWS];
    for (size_t block = begin; block < end; block++) {
        size_t first = b->first + block * FLAT_BLOCK_ROWS, live = b->build->rows.count - first;
        live = live < FLAT_BLOCK_ROWS ? live : FLAT_BLOCK_ROWS;
        for (size_t i = 0; i < live; i++) {
            rows[i] = x + i * dim;
            kept_row(b, first + i, x + i * dim, codes, numbers);
        }
        sketch_encode(b->space, rows, live, b->sketches + first / FLAT_BLOCK_ROWS * bytes,
                      b->scratch + (size_t)worker * b->scratch_bytes);
    }
}

static enum akin_status report(const struct builder *b, size_t done, struct akin_error *error)
{
    const struct akin_progress *p = &b->build->settings.progress;
    if (p->update && !p->update(p->cookie, "index", done, 2 * b->build->rows.count))
        return error_set(error, AKIN_CANCELLED, "cancelled");
    return AKIN_OK;
}

static enum akin_status write_codes(struct builder *b, const struct segment_sink *sink,
                                    struct akin_error *error)
{
    static const unsigned char tail[SCREEN_TAIL];
    TRY(sink->begin(sink->context, FLAT_CODES, error));
    for (b->first = 0; b->first < b->build->rows.count; b->first += CHUNK_ROWS) {
        size_t live = chunk_rows(b);
        thread_pool_run(b->build->pool, live, encode_range, b);
        for (size_t i = 0; i < live; i++)
            b->header.length_max = fmax(b->header.length_max, b->lengths[i]);
        TRY(sink->append(sink->context, b->codes, live * b->stride, error));
        TRY(report(b, b->first + live, error));
    }
    TRY(sink->append(sink->context, tail, sizeof tail, error));
    TRY(sink->begin(sink->context, FLAT_TERMS, error));
    return sink->append(sink->context, b->terms,
                        b->build->rows.count * b->numbers * sizeof(float), error);
}

/* ---- sketches --------------------------------------------------------------------------- */

/* Rows at equal distances. */
static enum akin_status train(struct builder *b, struct akin_error *error)
{
    const struct segment_rows *rows = &b->build->rows;
    size_t count = rows->count < SAMPLE_ROWS ? rows->count : SAMPLE_ROWS;
    enum akin_status status = AKIN_OK;
    float *sample = memory_alloc_aligned(count, rows->dim * sizeof *sample), numbers[4];
    const float **pointers = memory_alloc(count, sizeof *pointers);
    if (!sample || !pointers)
        TRY_DONE(error_memory(error));
    for (size_t i = 0; i < count; i++) {
        pointers[i] = sample + i * rows->dim;
        kept_row(b, i * (rows->count / count), sample + i * rows->dim, b->codes, numbers);
    }
    struct sketch_training training = { .rows = pointers, .count = count, .dim = rows->dim,
                                        .score = rows->score, .block_rows = FLAT_BLOCK_ROWS };
    TRY_DONE(sketch_train(b->build->backend, &training, &b->space, error));
done:
    memory_free(pointers);
    memory_free(sample);
    return status;
}

/* Of all rows, in b->space; and how good they are. */
static enum akin_status sketch_rows(struct builder *b, struct akin_error *error)
{
    size_t count = b->build->rows.count, total;
    size_t blocks = (count + FLAT_BLOCK_ROWS - 1) / FLAT_BLOCK_ROWS;
    size_t threads = (size_t)thread_pool_size(b->build->pool);
    b->scratch_bytes = (sketch_scratch_bytes(b->space) + 63) / 64 * 64;
    b->scratch = memory_alloc_aligned(threads, b->scratch_bytes);
    if (!b->scratch || !size_mul(blocks, sketch_block_bytes(b->space), &total) ||
        !(b->sketches = memory_alloc_aligned(total, 1)))
        return error_memory(error);
    for (b->first = 0; b->first < count; b->first += CHUNK_ROWS) {
        size_t live = (chunk_rows(b) + FLAT_BLOCK_ROWS - 1) / FLAT_BLOCK_ROWS;
        thread_pool_run(b->build->pool, live, sketch_range, b);
        TRY(report(b, count + b->first, error));
    }
    return flat_error(b->build, b->space, b->sketches, &b->header.error, error);
}

static void drop_sketches(struct builder *b)
{
    sketch_destroy(&b->space);
    memory_free(b->sketches);
    memory_free(b->scratch);
    b->sketches = b->scratch = NULL;
    b->header.error = 0;
}

/* In the space of another segment, with what that measured; unless these rows are so different that
 * their estimates are worse. */
static enum akin_status borrow_space(struct builder *b, struct akin_error *error)
{
    const struct flat *like = b->build->settings.like;
    size_t bytes;
    if (!like || !like->space || like->header->dim != b->header.dim ||
        like->header->score != b->header.score || b->build->rows.count < BORROWED_ROWS_MIN)
        return AKIN_OK;
    const void *blob = sketch_blob(like->space, &bytes);
    TRY(sketch_open(b->build->backend, blob, bytes, &b->space, error));
    TRY(sketch_rows(b, error));
    if (!(b->header.error <= ERROR_GROWTH * like->header->error)) {
        drop_sketches(b);
        return AKIN_OK;
    }
    b->header.error = like->header->error;
    b->header.measured = like->header->measured;
    memcpy(b->header.candidates, like->header->candidates, sizeof b->header.candidates);
    return AKIN_OK;
}

static enum akin_status write_sketches(struct builder *b, const struct segment_sink *sink,
                                       struct akin_error *error)
{
    size_t count = b->build->rows.count, bytes;
    size_t blocks = (count + FLAT_BLOCK_ROWS - 1) / FLAT_BLOCK_ROWS;
    TRY(borrow_space(b, error));
    if (!b->space && count < FLAT_SKETCHED_ROWS)
        return AKIN_OK;
    if (!b->space) {
        TRY(train(b, error));
        TRY(sketch_rows(b, error));
        TRY(flat_calibrate(b->build, b->space, b->sketches, &b->header, error));
        b->header.measured = count;
    }
    size_t total = blocks * sketch_block_bytes(b->space);
    const void *blob = sketch_blob(b->space, &bytes);
    TRY(sink->begin(sink->context, FLAT_SPACE, error));
    TRY(sink->append(sink->context, blob, bytes, error));
    TRY(sink->begin(sink->context, FLAT_SKETCHES, error));
    return sink->append(sink->context, b->sketches, total, error);
}

/* ---- all of it -------------------------------------------------------------------------- */

static enum akin_status check_build(const struct segment_rows *rows, struct akin_error *error)
{
    if (rows->dim < 1 || rows->dim > FLAT_DIMENSION_MAX)
        return error_set(error, AKIN_LIMIT, "vectors of dimension %zu; it must be in 1..%d",
                         rows->dim, FLAT_DIMENSION_MAX);
    if (rows->count > UINT32_MAX)
        return error_set(error, AKIN_LIMIT, "%zu rows; a segment takes at most 2^32 - 1",
                         rows->count);
    return AKIN_OK;
}

static bool make_room(struct builder *b)
{
    const struct segment_rows *rows = &b->build->rows;
    size_t threads = (size_t)thread_pool_size(b->build->pool), floats;
    b->stride = screen_stride(rows->dim);
    b->numbers = rows->score == SCORE_L2 ? 4 : 3;
    if (size_mul(rows->count, b->numbers, &floats))
        b->terms = memory_alloc_aligned(floats + 1, sizeof *b->terms);
    b->lengths = memory_alloc(CHUNK_ROWS, sizeof *b->lengths);
    b->codes = memory_alloc_aligned(CHUNK_ROWS, b->stride);
    b->rows = memory_alloc_aligned(threads * FLAT_BLOCK_ROWS, rows->dim * sizeof *b->rows);
    return b->terms && b->lengths && b->codes && b->rows && threads <= CHUNK_ROWS;
}

enum akin_status flat_build(const struct segment_build *build, const struct segment_sink *sink,
                            struct akin_error *error)
{
    const struct segment_rows *rows = &build->rows;
    struct builder b = { .build = build };
    enum akin_status status = AKIN_OK;
    TRY(check_build(rows, error));
    b.header = (struct flat_header){
        .version = FLAT_VERSION, .element = (uint32_t)rows->element, .count = rows->count,
        .dim = (uint32_t)rows->dim, .score = (uint32_t)rows->score,
    };
    if (!make_room(&b))
        TRY_DONE(error_memory(error));
    TRY_DONE(write_codes(&b, sink, error));
    TRY_DONE(write_sketches(&b, sink, error));
    TRY_DONE(report(&b, 2 * rows->count, error));
    TRY_DONE(sink->begin(sink->context, FLAT_HEADER, error));
    TRY_DONE(sink->append(sink->context, &b.header, sizeof b.header, error));
done:
    sketch_destroy(&b.space);
    memory_free(b.sketches);
    memory_free(b.scratch);
    memory_free(b.rows);
    memory_free(b.codes);
    memory_free(b.lengths);
    memory_free(b.terms);
    return status;
}
