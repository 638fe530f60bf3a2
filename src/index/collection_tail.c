/* The tail of a collection: rows in chunks of memory, found by id and key through two maps, as they
 * were added, or as the file's frames replay them. */
#include <math.h>
#include <string.h>

#include "index/collection_parts.h"

enum {
    CHUNK_BYTES = 4 << 20,
    CHUNK_ROWS_MIN = 64,
    CHUNK_ROWS_MAX = 4096,
};

/* ---- rows -------------------------------------------------------------------------------- */

static double squares(const float *row, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)row[i] * row[i];
    return sum;
}

/* Nearer than this no float32 row can be brought on purpose, so that rows that were brought to
 * length 1 once keep their bits. */
bool is_unit_row(const float *row, size_t dim)
{
    double sum = squares(row, dim);
    return sum == 0 || fabs(sum - 1) < 1e-6;
}

void unit_row(const float *in, size_t dim, float *out)
{
    double sum = squares(in, dim);
    double scale = sum == 0 || fabs(sum - 1) < 1e-6 ? 1 : 1 / sqrt(sum);
    for (size_t i = 0; i < dim; i++)
        out[i] = scale == 1 ? in[i] : (float)(in[i] * scale);
}

enum akin_status check_finite(const float *vectors, size_t count, size_t dim, const char *what,
                              struct akin_error *error)
{
    for (size_t row = 0; row < count; row++) {
        const float *x = vectors + row * dim;
        float sum = 0;
        for (size_t i = 0; i < dim; i++)
            sum += x[i] * 0.0f;         /* 0, or NaN when any is not finite */
        if (sum == 0)
            continue;
        for (size_t i = 0; i < dim; i++)
            if (!isfinite(x[i]))
                return error_set(error, AKIN_ARGUMENT, "%s %zu: column %zu is not finite", what,
                                 row, i);
    }
    return AKIN_OK;
}

/* ---- appending --------------------------------------------------------------------------- */

static size_t chunk_rows(size_t dim)
{
    size_t rows = CHUNK_BYTES / (dim * sizeof(float));
    return rows < CHUNK_ROWS_MIN ? CHUNK_ROWS_MIN : rows > CHUNK_ROWS_MAX ? CHUNK_ROWS_MAX : rows;
}

/* Copies texts [count] to own [rows] from `first` on. */
static enum akin_status keep_texts(struct part *part, struct text **own, const struct text *texts,
                                   size_t first, size_t count, struct akin_error *error)
{
    if (!*own && !texts)
        return AKIN_OK;
    if (!*own)
        *own = memory_alloc(part->rows, sizeof **own);
    if (!*own)
        return error_memory(error);
    for (size_t i = 0; i < count; i++) {
        struct text *to = &(*own)[first + i];
        *to = (struct text){ "", 0 };
        if (!texts || !texts[i].count)
            continue;
        char *copy = string_pool_add(&part->pool, texts[i].bytes, texts[i].count);
        if (!copy)
            return error_memory(error);
        *to = (struct text){ copy, texts[i].count };
    }
    return AKIN_OK;
}

static const char *text_at(const void *context, size_t row, size_t *bytes)
{
    const struct new_rows *rows = context;
    *bytes = rows->metadata ? rows->metadata[row].count : 0;
    return *bytes ? rows->metadata[row].bytes : "";
}

static enum akin_status keep_columns(struct part *part, const struct new_rows *rows, size_t first,
                                     struct akin_error *error)
{
    struct columns_rows added = { .count = rows->count, .context = rows, .text = text_at };
    if (!part->own_columns && !rows->metadata)
        return AKIN_OK;
    if (!part->own_columns)
        TRY(columns_tail_create(&part->own_columns, error));
    columns_tail_cut(part->own_columns, first);     /* of rows that never came to count */
    return columns_tail_add(part->own_columns, &added, error);
}

static void keep_codes(struct part *part, size_t first, size_t count)
{
    double longest = atomic_load(&part->length_max);
    for (size_t row = first; row < first + count; row++) {
        float numbers[4];
        double length = screen_encode(part->own_vectors + row * part->dim, part->dim,
                                      part->own_codes + row * screen_stride(part->dim), numbers);
        longest = fmax(longest, length);
        for (size_t i = 0; i < 4; i++)
            part->own_terms[i * part->rows + row] = numbers[i];
    }
    atomic_store(&part->length_max, longest);
}

static enum akin_status fill_chunk(const struct collection *c, struct part *part,
                                   const struct new_rows *rows, size_t first,
                                   struct akin_error *error)
{
    size_t dim = part->dim;
    float *out = part->own_vectors + first * dim;
    if (!rows->unit)
        memcpy(out, rows->vectors, rows->count * dim * sizeof *out);
    for (size_t i = 0; rows->unit && i < rows->count; i++)
        unit_row(rows->vectors + i * dim, dim, out + i * dim);
    for (size_t i = 0; rows->keep && i < rows->count; i++)
        round_row(c, out + i * dim);
    keep_codes(part, first, rows->count);
    memcpy(part->own_ids + first, rows->ids, rows->count * sizeof *rows->ids);
    TRY(keep_texts(part, &part->own_keys, rows->keys, first, rows->count, error));
    return keep_columns(part, rows, first, error);
}

/* A snapshot's readers may be looking for texts while the array of them appears, so a chunk that
 * began without keys or metadata is not appended to by rows that have some. */
static bool fits(const struct collection *c, const struct new_rows *rows)
{
    const struct part *open = c->open;
    return open && rows->count <= open->rows - c->open_rows &&
           (!rows->keys || open->own_keys) && (!rows->metadata || open->own_columns);
}

enum akin_status tail_append(struct collection *c, struct snapshot *next,
                             const struct new_rows *rows, struct part **out, size_t *first,
                             struct akin_error *error)
{
    if (!number_map_reserve(&c->tail_ids, rows->count) ||
        (rows->keys && !string_map_reserve(&c->tail_keys, rows->count)))
        return error_memory(error);
    if (fits(c, rows)) {
        struct view *view = &next->views[next->count - 1];
        ASSERT(view->part == c->open && view->rows == c->open_rows);
        TRY(fill_chunk(c, c->open, rows, c->open_rows, error));
        *out = c->open;
        *first = view->rows;
        view->rows += rows->count;
        return AKIN_OK;
    }
    size_t capacity = chunk_rows(c->dim);
    struct part *part = part_chunk(rows->count > capacity ? rows->count : capacity, c->dim);
    if (!part)
        return error_memory(error);
    part->number = c->next_part;
    enum akin_status status = fill_chunk(c, part, rows, 0, error);
    if (status != AKIN_OK) {
        part_release(part);
        return status;
    }
    c->next_part++;
    next->views[next->count++] = (struct view){ .part = part, .rows = rows->count };
    *out = part;
    *first = 0;
    return AKIN_OK;
}

static void register_row(struct collection *c, const struct part *part, size_t row,
                         struct number_map *ids, struct string_map *keys)
{
    uint64_t code = place_code(part, row);
    struct text key = part_text(part, row, COLLECTION_KEY);
    bool kept = number_map_set(ids, (uint64_t)part->ids[row], code);
    if (key.count)
        kept = string_map_set(keys, key.bytes, key.count, code) && kept;
    ASSERT(kept);                       /* there was room */
    take_id(c, part->ids[row]);
}

void tail_register(struct collection *c, struct part *part, size_t first, size_t count)
{
    for (size_t row = first; row < first + count; row++)
        register_row(c, part, row, &c->tail_ids, &c->tail_keys);
    c->open = part;
    c->open_rows = first + count;
}

size_t tail_rows(const struct snapshot *s)
{
    size_t rows = 0;
    for (size_t i = s->sealed; i < s->count; i++)
        rows += s->views[i].rows;
    return rows;
}

enum akin_status tail_index(struct collection *c, const struct snapshot *next,
                            struct number_map *ids, struct string_map *keys,
                            struct akin_error *error)
{
    size_t rows = tail_rows(next);
    if (!number_map_reserve(ids, rows) || !string_map_reserve(keys, rows))
        return error_memory(error);
    for (size_t i = next->sealed; i < next->count; i++)
        for (size_t row = 0; row < next->views[i].rows; row++)
            register_row(c, next->views[i].part, row, ids, keys);
    return AKIN_OK;
}

/* ---- replay ------------------------------------------------------------------------------ */

static const struct segment_block *find_block(const struct segment_blocks *blocks, uint32_t type)
{
    for (size_t i = 0; i < blocks->count; i++)
        if (blocks->blocks[i].type == type)
            return &blocks->blocks[i];
    return NULL;
}

static enum akin_status read_keys(const struct store_operation *o, struct text **out,
                                  struct akin_error *error)
{
    const struct segment_block *block = find_block(&o->blocks, COLLECTION_BLOCK_KEYS);
    struct texts texts;
    if (!block)
        return AKIN_OK;
    TRY(texts_parse(block, o->count, &texts, error));
    struct text *list = memory_alloc(o->count, sizeof *list);
    if (!list)
        return error_memory(error);
    for (size_t i = 0; i < o->count; i++)
        list[i] = texts_row(&texts, i);
    *out = list;
    return AKIN_OK;
}

static enum akin_status read_metadata(const struct store_operation *o, struct text **out,
                                      struct akin_error *error)
{
    struct columns_texts texts;
    TRY(columns_texts_open(&texts, &o->blocks, o->count, error));
    if (!texts.starts)
        return AKIN_OK;
    struct text *list = memory_alloc(o->count, sizeof *list);
    if (!list)
        return error_memory(error);
    for (size_t i = 0; i < o->count; i++)
        list[i].bytes = columns_texts_get(&texts, i, &list[i].count);
    *out = list;
    return AKIN_OK;
}

static enum akin_status kill_id(struct collection *c, struct snapshot *next, int64_t id,
                                struct akin_error *error)
{
    struct place place;
    return collection_find(c, next, id, &place) ? edit_kill(c, next, place, error) : AKIN_OK;
}

/* `next` may move: it needs room for another chunk. */
static enum akin_status replay(struct collection *c, struct snapshot **next,
                               const struct store_operation *o, struct akin_error *error)
{
    for (size_t i = 0; i < o->count; i++)
        TRY(kill_id(c, *next, o->ids[i], error));
    if (o->is_delete)
        return AKIN_OK;
    struct snapshot *grown =
        memory_resize(*next, 1, sizeof **next + ((*next)->count + 1) * sizeof(struct view));
    if (!grown)
        return error_memory(error);
    *next = grown;
    struct text *keys = NULL, *metadata = NULL;
    struct part *part;
    size_t first;
    enum akin_status status = AKIN_OK;
    TRY_DONE(read_keys(o, &keys, error));
    TRY_DONE(read_metadata(o, &metadata, error));
    struct new_rows rows = { .vectors = o->vectors, .ids = o->ids, .keys = keys,
                             .metadata = metadata, .count = o->count };
    TRY_DONE(tail_append(c, grown, &rows, &part, &first, error));
    tail_register(c, part, first, o->count);
done:
    memory_free(keys);
    memory_free(metadata);
    return status;
}

/* An id twice in one frame cannot have been written; the second row would count. */
static bool ids_repeat(struct number_map *seen, const struct store_operation *o)
{
    bool added = true;
    for (size_t i = 0; i < o->count && added; i++)
        if (!number_map_put(seen, (uint64_t)o->ids[i], i, NULL, &added))
            return false;               /* no memory to look */
    return !added;
}

enum akin_status tail_replay(struct collection *c, struct snapshot **next,
                             struct akin_error *error)
{
    struct store_tail *tail = NULL;
    TRY(store_tail_open(c->store, &tail, error));
    enum akin_status status = AKIN_OK;
    for (;;) {
        struct store_operation o;
        bool more;
        TRY_DONE(store_tail_next(tail, &o, &more, error));
        if (!more)
            break;
        struct number_map seen = { 0 };
        bool twice = !o.is_delete && ids_repeat(&seen, &o);
        number_map_deinit(&seen);
        if (twice)
            TRY_DONE(error_set(error, AKIN_FORMAT, "%s: operation %llu adds an id twice", c->path,
                               (unsigned long long)o.first));
        TRY_DONE(replay(c, next, &o, error));
    }
done:
    store_tail_close(&tail);
    return status;
}
