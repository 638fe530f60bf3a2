/* Opening a segment of the flat kind, checking it, and the scratch of its searches. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/limits.h"
#include "index/flat_handle.h"

/* ---- scratch ---------------------------------------------------------------------------- */

void flat_scratch_free(struct flat_scratch *scratch)
{
    if (!scratch)
        return;
    memory_free(scratch->one.keys);
    for (size_t i = 0; i < FLAT_GROUPS; i++)
        flat_group_free(scratch->groups[i]);
    memory_free(scratch->spare);
    memory_free(scratch->digits);
    memory_free(scratch->widened);
    memory_free(scratch->prepared);
    memory_free(scratch);
}

static struct flat_scratch *scratch_create(const struct flat *flat)
{
    struct flat_scratch *s = memory_alloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->digits = memory_alloc_aligned(flat->screen.stride, 1);
    s->widened = memory_alloc_aligned(SCREEN_TILE_MAX, flat->screen.dim * sizeof(float));
    size_t prepared = flat->space ? sketch_query_bytes(flat->space) : 64;
    s->prepared = memory_alloc_aligned(prepared, 1);
    if (s->digits && s->widened && s->prepared)
        return s;
    flat_scratch_free(s);
    return NULL;
}

struct flat_scratch *flat_scratch_take(const struct flat *flat)
{
    struct flat *f = (struct flat *)flat;       /* idle is what the lock guards */
    mutex_lock(f->lock);
    struct flat_scratch *s = f->idle;
    if (s)
        f->idle = s->next;
    mutex_unlock(f->lock);
    return s ? s : scratch_create(flat);
}

void flat_scratch_give(const struct flat *flat, struct flat_scratch *scratch)
{
    struct flat *f = (struct flat *)flat;
    mutex_lock(f->lock);
    scratch->next = f->idle;
    f->idle = scratch;
    mutex_unlock(f->lock);
}

/* ---- opening ---------------------------------------------------------------------------- */

static const struct segment_block *find_block(const struct segment_blocks *blocks, uint32_t type)
{
    for (size_t i = 0; i < blocks->count; i++)
        if (blocks->blocks[i].type == type)
            return &blocks->blocks[i];
    return NULL;
}

static enum akin_status contradiction(struct akin_error *error, const char *what)
{
    return error_set(error, AKIN_FORMAT,
                     "flat segment: %s: the file is damaged, build the index again", what);
}

static enum akin_status read_header(struct flat *f, const struct segment_rows *rows,
                                    const struct segment_blocks *blocks, struct akin_error *error)
{
    const struct segment_block *block = find_block(blocks, FLAT_HEADER);
    if (!block || block->bytes != sizeof *f->header || (uintptr_t)block->data % 64)
        return contradiction(error, "no header");
    const struct flat_header *h = f->header = block->data;
    if (h->version < 1 || h->version > FLAT_VERSION)
        return error_set(error, AKIN_UNSUPPORTED, "flat segment: version %" PRIu32
                         "; this program reads 1 to %d", h->version, FLAT_VERSION);
    if (h->count != rows->count || h->dim != rows->dim || h->element != (uint32_t)rows->element ||
        h->score != (uint32_t)rows->score || h->dim < 1 || h->dim > FLAT_DIMENSION_MAX ||
        h->count > UINT32_MAX || !(h->length_max >= 0) || h->measured > UINT32_MAX ||
        !(h->error >= 0 && h->error <= DBL_MAX))
        return contradiction(error, "the header is of other rows");
    return AKIN_OK;
}

static enum akin_status read_codes(struct flat *f, const struct segment_blocks *blocks,
                                   struct akin_error *error)
{
    const struct segment_block *terms = find_block(blocks, FLAT_TERMS);
    const struct segment_block *codes = find_block(blocks, FLAT_CODES);
    const struct flat_header *h = f->header;
    bool l2 = h->score == SCORE_L2;
    size_t count = h->count, stride = screen_stride(h->dim), bytes;
    if (!terms || terms->bytes != count * (l2 ? 4 : 3) * sizeof(float) ||
        (uintptr_t)terms->data % sizeof(float))
        return contradiction(error, "the numbers of the rows are not as many as these");
    if (!codes || !size_mul(count, stride, &bytes) || codes->bytes != bytes + SCREEN_TAIL)
        return contradiction(error, "the bytes of the rows are not as many as these");
    const float *numbers = terms->data;
    f->screen = (struct screen_rows){
        .codes = codes->data, .count = count, .dim = h->dim, .stride = stride,
        .score = (enum score)h->score, .length_max = h->length_max,
        .terms = { numbers, numbers + count, numbers + 2 * count, l2 ? numbers + 3 * count : NULL },
    };
    return AKIN_OK;
}

static enum akin_status read_sketches(struct flat *f, const struct segment_blocks *blocks,
                                      struct akin_error *error)
{
    const struct segment_block *space = find_block(blocks, FLAT_SPACE);
    const struct segment_block *sketches = find_block(blocks, FLAT_SKETCHES);
    if (!space && !sketches)
        return AKIN_OK;
    if (!space || !sketches || (uintptr_t)sketches->data % 64)
        return contradiction(error, "half of the sketches are missing");
    TRY(sketch_open(f->backend, space->data, space->bytes, &f->space, error));
    size_t blocks_of_rows = (f->screen.count + FLAT_BLOCK_ROWS - 1) / FLAT_BLOCK_ROWS, bytes;
    if (sketch_dim(f->space) != f->screen.dim ||
        sketch_block_rows(f->space) != FLAT_BLOCK_ROWS ||
        !size_mul(blocks_of_rows, sketch_block_bytes(f->space), &bytes) || sketches->bytes != bytes)
        return contradiction(error, "the sketches are of other rows");
    if (f->header->version > 1 && !f->header->measured)
        return contradiction(error, "nobody measured its sketches");
    f->space_hash = hash_bytes(space->data, space->bytes);
    f->sketches = sketches->data;
    return AKIN_OK;
}

enum akin_status flat_open(struct backend *backend, struct thread_pool *pool,
                           const struct segment_rows *rows, const struct segment_blocks *blocks,
                           struct flat **flat, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    struct flat *f = memory_alloc(1, sizeof *f);
    if (!f)
        return error_memory(error);
    f->backend = backend;
    f->pool = pool;
    f->lock = mutex_create();
    if (!f->lock)
        TRY_DONE(error_memory(error));
    TRY_DONE(read_header(f, rows, blocks, error));
    TRY_DONE(read_codes(f, blocks, error));
    TRY_DONE(read_sketches(f, blocks, error));
    f->originals = (struct originals){ .vectors = rows->vectors, .element = rows->element,
                                       .dim = rows->dim, .score = rows->score };
    f->originals.codes = &f->screen;
    *flat = f;
    f = NULL;
done:
    flat_close(&f);
    return status;
}

void flat_close(struct flat **flat)
{
    struct flat *f = *flat;
    if (!f)
        return;
    while (f->idle) {
        struct flat_scratch *next = f->idle->next;
        flat_scratch_free(f->idle);
        f->idle = next;
    }
    sketch_destroy(&f->space);
    if (f->lock)
        mutex_destroy(&f->lock);
    memory_free(f);
    *flat = NULL;
}

size_t flat_measured(const struct flat *flat)
{
    return flat->space ? flat->header->measured : 0;
}

void flat_row(const struct flat *flat, size_t row, float *out)
{
    originals_read(flat->backend, &flat->originals, row, out);
}

/* ---- checking --------------------------------------------------------------------------- */

/* Whether the row is where its bytes and its radius say. */
static bool row_holds(const struct flat *flat, size_t row, const float *x)
{
    const struct screen_rows *s = &flat->screen;
    const struct row_terms *t = &s->terms;
    float numbers[4] = { t->scale[row] };
    if (!(t->scale[row] >= 0 && isfinite(t->scale[row])))
        return false;
    double length = screen_measure(x, s->dim, s->codes + row * s->stride, numbers);
    return numbers[1] <= t->radius[row] && numbers[2] <= t->norm[row] &&
           (!t->bias || t->bias[row] == numbers[3]) && length <= s->length_max;
}

static enum akin_status check_rows(const struct flat *flat, float *x, unsigned char *block,
                                   void *scratch, struct akin_error *error)
{
    size_t dim = flat->screen.dim, bytes = flat->space ? sketch_block_bytes(flat->space) : 0;
    const float *rows[FLAT_BLOCK_ROWS];
    for (size_t first = 0; first < flat->screen.count; first += FLAT_BLOCK_ROWS) {
        size_t live = flat->screen.count - first;
        live = live < FLAT_BLOCK_ROWS ? live : FLAT_BLOCK_ROWS;
        for (size_t i = 0; i < live; i++) {
            rows[i] = x + i * dim;
            flat_row(flat, first + i, x + i * dim);
            if (!row_holds(flat, first + i, rows[i]))
                return error_set(error, AKIN_FORMAT, "flat segment: row %zu is not what its bytes "
                                 "say: build the index again", first + i);
        }
        if (!flat->space)
            continue;
        sketch_encode(flat->space, rows, live, block, scratch);
        if (memcmp(block, flat->sketches + first / FLAT_BLOCK_ROWS * bytes, bytes))
            return error_set(error, AKIN_FORMAT, "flat segment: the sketches of rows %zu to %zu "
                             "are not theirs: build the index again", first, first + live - 1);
    }
    return AKIN_OK;
}

enum akin_status flat_check(const struct flat *flat, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    float *x = memory_alloc_aligned(FLAT_BLOCK_ROWS * flat->screen.dim, sizeof *x);
    unsigned char *block =
        memory_alloc_aligned(flat->space ? sketch_block_bytes(flat->space) : 1, 1);
    void *scratch = memory_alloc_aligned(flat->space ? sketch_scratch_bytes(flat->space) : 1, 1);
    if (!x || !block || !scratch)
        status = error_memory(error);
    else
        status = check_rows(flat, x, block, scratch, error);
    memory_free(x);
    memory_free(block);
    memory_free(scratch);
    return status;
}
