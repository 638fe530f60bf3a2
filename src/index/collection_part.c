/* Parts of a collection, which of their rows live, and snapshots of both. */
#include <string.h>

#include "index/collection_parts.h"

/* ---- texts ------------------------------------------------------------------------------- */

/* Offsets are looked at when they are used: reading all of them would make opening slow. */
struct text texts_row(const struct texts *texts, size_t row)
{
    struct text text = { "", 0 };
    if (!texts->offsets)
        return text;
    uint64_t begin = texts->offsets[row], end = texts->offsets[row + 1];
    if (begin <= end && end <= texts->count)
        text = (struct text){ texts->bytes + begin, end - begin };
    return text;
}

enum akin_status texts_parse(const struct segment_block *block, size_t rows, struct texts *texts,
                             struct akin_error *error)
{
    *texts = (struct texts){ 0 };
    if (!block)
        return AKIN_OK;
    uint64_t head = ((uint64_t)rows + 1) * sizeof(uint64_t);
    if (block->bytes < head)
        return error_set(error, AKIN_FORMAT, "a block of texts is too short for %zu rows", rows);
    texts->offsets = block->data;
    texts->bytes = (const char *)block->data + head;
    texts->count = block->bytes - head;
    return AKIN_OK;
}

/* ---- parts ------------------------------------------------------------------------------- */

struct part *part_chunk(size_t rows, size_t dim)
{
    struct part *part = memory_alloc(1, sizeof *part);
    if (!part)
        return NULL;
    atomic_init(&part->refs, 1);
    part->rows = rows;
    part->dim = dim;
    part->own_vectors = memory_alloc_aligned(rows, dim * sizeof(float));
    part->own_ids = memory_alloc(rows, sizeof *part->own_ids);
    part->own_codes = memory_alloc_aligned(rows + SCREEN_TAIL / 16, screen_stride(dim));
    part->own_terms = memory_alloc_aligned(rows, 4 * sizeof(float));
    atomic_init(&part->length_max, 0);
    part->vectors = part->own_vectors;
    part->ids = part->own_ids;
    if (part->own_vectors && part->own_ids && part->own_codes && part->own_terms &&
        columns_open(&part->columns, &(struct segment_blocks){ 0 }, rows, NULL) == AKIN_OK)
        return part;
    part_release(part);
    return NULL;
}

struct screen_rows part_screen(const struct part *part, size_t rows, enum score score)
{
    const float *terms = part->own_terms;
    size_t n = part->rows;
    return (struct screen_rows){
        .codes = part->own_codes, .count = rows, .dim = part->dim,
        .stride = screen_stride(part->dim), .score = score,
        .length_max = atomic_load(&part->length_max),
        .terms = { terms, terms + n, terms + 2 * n, score == SCORE_L2 ? terms + 3 * n : NULL },
    };
}

static enum akin_status find_blocks(const struct collection *c, struct part *part,
                                    struct akin_error *error)
{
    const struct store_segment *stored = part->stored;
    const struct segment_block *vectors = store_segment_find(stored, STORE_BLOCK_VECTORS);
    const struct segment_block *ids = store_segment_find(stored, STORE_BLOCK_IDS);
    const struct segment_block *order = store_segment_find(stored, COLLECTION_BLOCK_KEY_ORDER);
    size_t bytes;
    part->element = collection_element(c);
    if (part->element == ELEMENT_I8 && stored->kind != SEGMENT_FLAT)
        return error_set(error, AKIN_FORMAT, "its bytes are not of kind flat");
    bool whole = part->element == ELEMENT_I8
        ? !vectors
        : vectors && size_mul(part->rows, c->dim * element_bytes(part->element), &bytes) &&
              vectors->bytes == bytes;
    if (!whole || (ids && ids->bytes != part->rows * sizeof(int64_t)) ||
        (order && order->bytes != part->rows * sizeof(uint32_t)))
        return error_set(error, AKIN_FORMAT, "its blocks are not those of %zu rows", part->rows);
    part->vectors = vectors ? vectors->data : NULL;
    part->ids = ids ? ids->data : NULL;
    part->key_order = order ? order->data : NULL;
    TRY(texts_parse(store_segment_find(stored, COLLECTION_BLOCK_KEYS), part->rows, &part->keys,
                    error));
    return columns_open(&part->columns, &stored->blocks, part->rows, error);
}

enum akin_status part_open(const struct collection *c, uint64_t frame, struct part **out,
                           struct akin_error *error)
{
    struct part *part = memory_alloc(1, sizeof *part);
    if (!part)
        return error_memory(error);
    atomic_init(&part->refs, 1);
    part->sealed = true;
    part->dim = c->dim;
    enum akin_status status = AKIN_OK;
    TRY_DONE(store_segment_open(c->store, frame, &part->stored, error));
    part->rows = part->stored->rows;
    TRY_DONE(find_blocks(c, part, error));
    struct segment_rows rows = {
        .vectors = part->vectors, .element = part->element, .count = part->rows, .dim = c->dim,
        .score = collection_score(c),
    };
    if (part->vectors) {
        rows.file = part->stored->file;
        rows.offset = store_segment_offset(part->stored, store_segment_find(part->stored,
                                                                            STORE_BLOCK_VECTORS));
    }
    TRY_DONE(segment_open(part->stored->kind, c->host.backend, c->host.pool, &rows,
                          &part->stored->blocks, &part->segment, error));
    if (!part_card_create(c, part))
        TRY_DONE(error_memory(error));
    *out = part;
    part = NULL;
done:
    if (part)
        part_release(part);
    if (status != AKIN_OK)
        error_context(error, status, "%s: segment at byte %llu", store_path(c->store),
                      (unsigned long long)frame);
    return status;
}

struct text part_text(const struct part *part, size_t row, enum collection_field field)
{
    struct text text = { "", 0 };
    if (field == COLLECTION_KEY && part->sealed)
        return texts_row(&part->keys, row);
    if (field == COLLECTION_KEY)
        return part->own_keys && part->own_keys[row].bytes ? part->own_keys[row] : text;
    if (part->borrowed)
        return part->borrowed[row];
    if (part->own_columns)
        text.bytes = columns_tail_text(part->own_columns, row, &text.count);
    else if (part->sealed)
        text.bytes = columns_text(&part->columns, row, &text.count);
    return text;
}

size_t part_find(const struct part *part, int64_t id)
{
    if (!part->ids)
        return id >= 0 && (uint64_t)id < part->rows ? (size_t)id : SIZE_MAX;
    size_t low = 0, high = part->rows;
    if (!high || id < part->ids[0] || id > part->ids[high - 1])
        return SIZE_MAX;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (part->ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < part->rows && part->ids[low] == id ? low : SIZE_MAX;
}

/* Bytes compared, then lengths; rows without a key stand last. */
static int compare_key(struct text a, const char *key, size_t bytes)
{
    if (a.count == 0)
        return bytes == 0 ? 0 : 1;
    size_t common = a.count < bytes ? a.count : bytes;
    int order = memcmp(a.bytes, key, common);
    return order ? order : a.count < bytes ? -1 : a.count > bytes;
}

size_t part_find_key(const struct part *part, const char *key, size_t bytes)
{
    size_t low = 0, high = part->key_order ? part->rows : 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2, row = part->key_order[middle];
        if (row >= part->rows)
            return SIZE_MAX;            /* damage, which a check will name */
        int order = compare_key(texts_row(&part->keys, row), key, bytes);
        if (order == 0)
            return row;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return SIZE_MAX;
}

void part_release(struct part *part)
{
    if (atomic_fetch_sub(&part->refs, 1) != 1)
        return;
    part_card_destroy(part);
    segment_close(&part->segment);
    store_segment_close(&part->stored);
    memory_free(part->own_vectors);
    memory_free(part->own_ids);
    memory_free(part->own_codes);
    memory_free(part->own_terms);
    memory_free(part->own_keys);
    columns_tail_destroy(&part->own_columns);
    string_pool_deinit(&part->pool);
    memory_free(part);
}

size_t part_memory(const struct part *part)
{
    if (part->sealed)
        return sizeof *part;
    size_t row = part->dim * sizeof(float) + sizeof(int64_t);
    row += screen_stride(part->dim) + 4 * sizeof(float);
    row += (part->own_keys ? sizeof(struct text) : 0);
    return part->rows * row + part->pool.bytes +
           (part->own_columns ? columns_tail_bytes(part->own_columns) : 0);
}

/* ---- bits -------------------------------------------------------------------------------- */

struct bits *bits_create(size_t rows)
{
    size_t words = (rows + 63) / 64;
    struct bits *bits = memory_alloc(1, sizeof *bits + words * sizeof(uint64_t));
    if (!bits)
        return NULL;
    atomic_init(&bits->refs, 1);
    bits->number = 1;
    bits->words = words;
    memset(bits->alive, 0xff, words * sizeof(uint64_t));
    if (rows % 64)
        bits->alive[words - 1] = ((uint64_t)1 << rows % 64) - 1;
    return bits;
}

struct bits *bits_copy(const struct bits *bits)
{
    struct bits *copy = bits_create(bits->words * 64);
    if (!copy)
        return NULL;
    copy->dead = bits->dead;
    copy->number = bits->number + 1;
    memcpy(copy->alive, bits->alive, bits->words * sizeof(uint64_t));
    return copy;
}

void bits_release(struct bits *bits)
{
    if (bits && atomic_fetch_sub(&bits->refs, 1) == 1)
        memory_free(bits);
}

/* ---- snapshots --------------------------------------------------------------------------- */

struct snapshot *snapshot_create(size_t views)
{
    struct snapshot *s = memory_alloc(1, sizeof *s + views * sizeof(struct view));
    if (s)
        atomic_init(&s->refs, 1);
    return s;
}

struct snapshot *snapshot_take(const struct collection *c)
{
    mutex_lock(c->gate);
    struct snapshot *s = c->current;
    atomic_fetch_add(&s->refs, 1);
    mutex_unlock(c->gate);
    return s;
}

void view_copy(struct view *to, const struct view *from)
{
    *to = *from;
    atomic_fetch_add(&to->part->refs, 1);
    if (to->bits)
        atomic_fetch_add(&to->bits->refs, 1);
}

void view_release(struct view *view)
{
    part_release(view->part);
    bits_release(view->bits);
}

void snapshot_release(struct snapshot *snapshot)
{
    if (!snapshot || atomic_fetch_sub(&snapshot->refs, 1) != 1)
        return;
    for (size_t i = 0; i < snapshot->count; i++)
        view_release(&snapshot->views[i]);
    memory_free(snapshot);
}

void snapshot_put(struct collection *c, struct snapshot *next)
{
    mutex_lock(c->gate);
    struct snapshot *old = c->current;
    c->current = next;
    mutex_unlock(c->gate);
    snapshot_release(old);
}
