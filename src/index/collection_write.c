/* Adding, replacing, deleting, making durable. All is prepared first (rows copied, the next
 * snapshot made), then written to the file, then put in place, which cannot fail. */
#include <inttypes.h>
#include <string.h>

#include "base/limits.h"
#include "index/collection_parts.h"

enum { TAIL_BACKLOG = 16 }; /* times what is sealed at once: then adding waits for it */

/* ---- a batch ----------------------------------------------------------------------------- */

struct batch {
    struct collection *c;
    const struct akin_index_rows *rows;
    bool update;
    int64_t *ids;                       /* [count] as the rows get them */
    struct text *keys, *metadata;       /* [count] or NULL */
    struct place *replaced;             /* [replaced_count] */
    size_t replaced_count;
};

static enum akin_status take_texts(const char *const *from, size_t count, bool keys,
                                   struct text **out, struct akin_error *error)
{
    if (!from)
        return AKIN_OK;
    struct text *texts = memory_alloc(count, sizeof *texts);
    if (!texts)
        return error_memory(error);
    *out = texts;
    for (size_t i = 0; i < count; i++) {
        texts[i] = (struct text){ from[i] ? from[i] : "", from[i] ? strlen(from[i]) : 0 };
        if (keys && (!texts[i].count || texts[i].count > INDEX_KEY_BYTES_MAX))
            return error_set(error, texts[i].count ? AKIN_LIMIT : AKIN_ARGUMENT,
                             "row %zu: a key has 1 to %d bytes", i, INDEX_KEY_BYTES_MAX);
    }
    return AKIN_OK;
}

/* Ids as given, of the rows that they replace, or the next free ones. */
static enum akin_status give_ids(struct batch *b, struct akin_error *error)
{
    const struct collection *c = b->c;
    int64_t next = c->next_id;
    for (size_t i = 0; i < b->rows->count; i++) {
        struct place place;
        if (b->rows->ids && b->rows->ids[i] < 0)
            return error_set(error, AKIN_ARGUMENT,
                             "row %zu: its id is %" PRId64 ": ids must not be negative", i,
                             b->rows->ids[i]);
        bool there = b->rows->ids ? collection_find(c, c->current, b->rows->ids[i], &place)
                     : b->rows->keys
                         ? collection_find_key(c, c->current, b->rows->keys[i], &place)
                         : false;
        if (b->rows->ids)
            b->ids[i] = b->rows->ids[i];
        else if (there)
            b->ids[i] = part_id(c->current->views[place.view].part, place.row);
        else if (next == INT64_MAX)
            return error_set(error, AKIN_LIMIT, "row %zu: there is no free id behind the largest",
                             i);
        else
            b->ids[i] = next++;
        if (there && !b->update)
            return b->rows->ids ? error_set(error, AKIN_ARGUMENT,
                                            "row %zu: id %" PRId64 " is there already; update "
                                            "replaces it", i, b->ids[i])
                                : error_set(error, AKIN_ARGUMENT,
                                            "row %zu: key \"%.80s\" is there already; update "
                                            "replaces it", i, b->rows->keys[i]);
        if (there)
            b->replaced[b->replaced_count++] = place;
    }
    return AKIN_OK;
}

static enum akin_status check_repeats(const struct batch *b, struct akin_error *error)
{
    struct number_map seen = { 0 };
    struct string_map seen_keys = { 0 };
    enum akin_status status = AKIN_OK;
    uint64_t before = 0;
    bool added = true, kept = true;
    for (size_t i = 0; i < b->rows->count && status == AKIN_OK; i++) {
        if (b->keys)
            kept = string_map_put(&seen_keys, b->keys[i].bytes, b->keys[i].count, i, &before,
                                  &added);
        else
            kept = number_map_put(&seen, (uint64_t)b->ids[i], i, &before, &added);
        if (!kept)
            status = error_memory(error);
        else if (!added)
            status = error_set(error, AKIN_ARGUMENT, "rows %" PRIu64 " and %zu have the same %s",
                               before, i, b->keys ? "key" : "id");
    }
    number_map_deinit(&seen);
    string_map_deinit(&seen_keys);
    return status;
}

/* ---- the file ---------------------------------------------------------------------------- */

/* Offsets and bytes, in memory of their own: one behind the other. */
static enum akin_status pack_texts(const struct text *texts, size_t count, unsigned char **out,
                                   size_t *head_bytes, size_t *all_bytes, struct akin_error *error)
{
    size_t head, bytes = 0;
    bool fits = size_mul(count + 1, sizeof(uint64_t), &head);
    for (size_t i = 0; i < count; i++)
        fits = fits && size_add(bytes, texts[i].count, &bytes);
    unsigned char *data = fits && size_add(head, bytes, &bytes) ? memory_alloc(1, bytes) : NULL;
    if (!data)
        return error_memory(error);
    uint64_t *offsets = (uint64_t *)(void *)data, at = 0;
    for (size_t i = 0; i < count; i++) {
        offsets[i] = at;
        memcpy(data + head + at, texts[i].bytes, texts[i].count);
        at += texts[i].count;
    }
    offsets[count] = at;
    *out = data;
    *head_bytes = head;
    *all_bytes = bytes;
    return AKIN_OK;
}

static enum akin_status append(struct batch *b, const struct part *part, size_t first,
                               struct akin_error *error)
{
    struct segment_block extra[3];
    size_t count = b->rows->count, used = 0, head, bytes;
    unsigned char *keys = NULL, *metadata = NULL;
    enum akin_status status = AKIN_OK;
    if (b->keys) {
        TRY_DONE(pack_texts(b->keys, count, &keys, &head, &bytes, error));
        extra[used++] = (struct segment_block){ COLLECTION_BLOCK_KEYS, keys, bytes };
    }
    if (b->metadata) {
        TRY_DONE(pack_texts(b->metadata, count, &metadata, &head, &bytes, error));
        extra[used++] = (struct segment_block){ COLUMNS_BLOCK_STARTS, metadata, head };
        extra[used++] =
            (struct segment_block){ COLUMNS_BLOCK_JSON, metadata + head, bytes - head };
    }
    struct store_rows rows = {
        .ids = part->own_ids + first, .vectors = part->own_vectors + first * part->dim,
        .count = count, .extra = extra, .extra_count = used,
    };
    status = store_append_rows(b->c->store, &rows, NULL, error);
done:
    memory_free(keys);
    memory_free(metadata);
    return status;
}

/* ---- adding ------------------------------------------------------------------------------ */

static enum akin_status apply(struct batch *b, struct akin_error *error)
{
    struct collection *c = b->c;
    struct snapshot *next = NULL;
    struct part *part;
    size_t first;
    enum akin_status status = AKIN_OK;
    TRY_DONE(give_ids(b, error));
    TRY_DONE(check_repeats(b, error));
    TRY_DONE(edit_begin(c, &next, error));
    for (size_t i = 0; i < b->replaced_count; i++)
        TRY_DONE(edit_kill(c, next, b->replaced[i], error));
    struct new_rows rows = {
        .vectors = b->rows->vectors, .unit = c->metric == AKIN_METRIC_COSINE, .keep = true,
        .ids = b->ids,
        .keys = b->keys, .metadata = b->metadata, .count = b->rows->count,
    };
    bool sealed = false;
    if (batch_seals(c, rows.count))
        TRY_DONE(batch_seal(c, next, &rows, &sealed, error));
    if (sealed) {
        condition_wake(c->changed);     /* there may be something to merge */
        goto done;
    }
    TRY_DONE(tail_append(c, next, &rows, &part, &first, error));
    edit_count(next);
    TRY_DONE(append(b, part, first, error));
    snapshot_put(c, next);
    next = NULL;
    tail_register(c, part, first, b->rows->count);
    if (seal_wanted(c))
        condition_wake(c->changed);
done:
    snapshot_release(next);
    return status;
}

static enum akin_status writable(const struct collection *c, struct akin_error *error)
{
    if (c->writable)
        return AKIN_OK;
    return error_set(error, AKIN_ARGUMENT, "%s: is open for reading only", c->path);
}

/* For the tail to be sealed: it is too long, or the batch is about to be sealed with it. */
static bool must_wait(const struct collection *c, size_t rows)
{
    bool is_long = tail_rows(c->current) > TAIL_BACKLOG * c->seal_rows;
    return (batch_seals(c, rows) && c->sealer.busy) ||
           (is_long && c->sealer.thread && !c->failed_tail);
}

enum akin_status collection_add(struct collection *c, const struct akin_index_rows *rows,
                                bool update, struct akin_error *error)
{
    TRY(writable(c, error));
    if (rows->ids && rows->keys)
        return error_set(error, AKIN_ARGUMENT, "rows are named by ids or by keys, not by both");
    if (rows->count == 0)
        return AKIN_OK;
    if (rows->count > UINT32_MAX)
        return error_set(error, AKIN_LIMIT, "%zu rows: at most %" PRIu32 " at once", rows->count,
                         UINT32_MAX);
    struct batch b = { .c = c, .rows = rows, .update = update };
    enum akin_status status = AKIN_OK;
    TRY(check_finite(rows->vectors, rows->count, c->dim, "row", error));
    TRY(check_range(c, rows->vectors, rows->count, error));
    TRY_DONE(take_texts(rows->keys, rows->count, true, &b.keys, error));
    TRY_DONE(take_texts(rows->metadata, rows->count, false, &b.metadata, error));
    b.ids = memory_alloc(rows->count, sizeof *b.ids);
    b.replaced = memory_alloc(rows->count, sizeof *b.replaced);
    if (!b.ids || !b.replaced)
        TRY_DONE(error_memory(error));
    mutex_lock(c->writing);
    while (must_wait(c, rows->count))
        condition_wait(c->changed, c->writing);
    status = apply(&b, error);
    mutex_unlock(c->writing);
done:
    memory_free(b.ids);
    memory_free(b.replaced);
    memory_free(b.keys);
    memory_free(b.metadata);
    return status;
}

/* ---- deleting ---------------------------------------------------------------------------- */

/* Takes row by row out of `next` and lists their ids. What was given twice is found once. */
static enum akin_status kill_all(struct collection *c, struct snapshot *next, const int64_t *ids,
                                 const char *const *keys, size_t count, int64_t *gone,
                                 size_t *gone_count, struct akin_error *error)
{
    for (size_t i = 0; i < count; i++) {
        struct place place;
        bool found = keys ? keys[i] && collection_find_key(c, next, keys[i], &place)
                          : collection_find(c, next, ids[i], &place);
        if (!found)
            continue;
        gone[(*gone_count)++] = part_id(next->views[place.view].part, place.row);
        TRY(edit_kill(c, next, place, error));
    }
    return AKIN_OK;
}

enum akin_status collection_delete(struct collection *c, const int64_t *ids,
                                   const char *const *keys, size_t count, size_t *deleted,
                                   struct akin_error *error)
{
    TRY(writable(c, error));
    struct snapshot *next = NULL;
    size_t gone_count = 0;
    enum akin_status status = AKIN_OK;
    int64_t *gone = memory_alloc(count, sizeof *gone);
    if (!gone)
        return error_memory(error);
    mutex_lock(c->writing);
    TRY_DONE(edit_begin(c, &next, error));
    TRY_DONE(kill_all(c, next, ids, keys, count, gone, &gone_count, error));
    if (gone_count) {
        TRY_DONE(store_append_delete(c->store, gone, gone_count, NULL, error));
        edit_count(next);
        snapshot_put(c, next);
        next = NULL;
        if (seal_wanted(c))
            condition_wake(c->changed);
    }
    if (deleted)
        *deleted = gone_count;
done:
    mutex_unlock(c->writing);
    snapshot_release(next);
    memory_free(gone);
    return status;
}

enum akin_status collection_sync(struct collection *c, size_t *rows, struct akin_error *error)
{
    TRY(writable(c, error));
    mutex_lock(c->writing);
    enum akin_status status = store_sync(c->store, NULL, error);
    if (status == AKIN_OK && rows)
        *rows = c->current->live;
    mutex_unlock(c->writing);
    return status;
}
