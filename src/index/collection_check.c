/* Everything that can be checked: of a file (bytes first, then what they mean), and of an open
 * collection's own structures. */
#include <inttypes.h>
#include <string.h>

#include "index/collection_parts.h"

static enum akin_status damaged(const struct collection *c, size_t view, struct akin_error *error,
                                const char *what, size_t row)
{
    return error_set(error, AKIN_FORMAT, "%s: part %zu, row %zu: %s", c->path, view, row, what);
}

static bool texts_right(const struct texts *texts, size_t rows)
{
    if (!texts->offsets)
        return true;
    for (size_t i = 0; i < rows; i++)
        if (texts->offsets[i] > texts->offsets[i + 1])
            return false;
    return texts->offsets[0] == 0 && texts->offsets[rows] == texts->count;
}

static enum akin_status check_keys(const struct collection *c, const struct part *part,
                                   size_t view, struct akin_error *error)
{
    TRY(columns_check(&part->columns, error));
    if (!texts_right(&part->keys, part->rows))
        return damaged(c, view, error, "texts overlap", 0);
    if (!part->key_order != !part->keys.offsets)
        return damaged(c, view, error, "keys and their order belong together", 0);
    for (size_t i = 0; part->key_order && i < part->rows; i++)
        if (part->key_order[i] >= part->rows)
            return damaged(c, view, error, "the order of keys names no row", i);
    for (size_t i = 0; part->key_order && i < part->rows; i++) {
        struct text key = texts_row(&part->keys, part->key_order[i]);
        if (key.count && part_find_key(part, key.bytes, key.count) == SIZE_MAX)
            return damaged(c, view, error, "its key is not found in the order of keys", i);
    }
    return AKIN_OK;
}

/* No id lives twice; ids of a sealed part ascend. */
static enum akin_status check_ids(const struct collection *c, const struct snapshot *s,
                                  struct akin_error *error)
{
    struct number_map seen = { 0 };
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; i < s->count && status == AKIN_OK; i++) {
        const struct view *view = &s->views[i];
        for (size_t row = 0; row < view->rows && status == AKIN_OK; row++) {
            int64_t id = part_id(view->part, row);
            bool added = true;
            if (id < 0)
                status = damaged(c, i, error, "its id is negative", row);
            else if (i < s->sealed && row && id <= part_id(view->part, row - 1))
                status = damaged(c, i, error, "its id does not ascend", row);
            else if (!bits_alive(view->bits, row))
                continue;
            else if (!number_map_put(&seen, (uint64_t)id, i, NULL, &added))
                status = error_memory(error);
            else if (!added)
                status = damaged(c, i, error, "its id lives in another part too", row);
        }
    }
    number_map_deinit(&seen);
    return status;
}

static enum akin_status check_counts(const struct collection *c, const struct snapshot *s,
                                     struct akin_error *error)
{
    size_t live = 0, dead = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct view *view = &s->views[i];
        size_t alive = 0;
        for (size_t row = 0; row < view->rows; row++)
            alive += bits_alive(view->bits, row);
        if (alive != view_live(view) || view->rows > view->part->rows ||
            (i < s->sealed) != view->part->sealed)
            return damaged(c, i, error, "counts contradict each other", view->rows);
        live += alive;
        dead += view->rows - alive;
    }
    if (live != s->live || dead != s->dead)
        return damaged(c, s->count, error, "the sum of all parts is wrong", live);
    return AKIN_OK;
}

/* The writer's maps find exactly what lives. */
static enum akin_status check_maps(const struct collection *c, const struct snapshot *s,
                                   struct akin_error *error)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct view *view = &s->views[i];
        for (size_t row = 0; row < view->rows; row++) {
            struct place place;
            int64_t id = part_id(view->part, row);
            bool alive = bits_alive(view->bits, row), found = collection_find(c, s, id, &place);
            if (alive && (!found || place.view != i || place.row != row))
                return damaged(c, i, error, "its id leads elsewhere", row);
            if (id >= c->next_id && id != INT64_MAX)
                return damaged(c, i, error, "its id counts as free", row);
        }
    }
    return AKIN_OK;
}

enum akin_status collection_validate(const struct collection *c, struct akin_error *error)
{
    mutex_lock(c->writing);
    struct snapshot *s = snapshot_take(c);
    enum akin_status status = check_counts(c, s, error);
    if (status == AKIN_OK)
        status = check_ids(c, s, error);
    if (status == AKIN_OK)
        status = check_maps(c, s, error);
    snapshot_release(s);
    mutex_unlock(c->writing);
    return status;
}

enum akin_status collection_check(const struct collection_host *host, const char *path,
                                  struct akin_error *error)
{
    struct collection *c = NULL;
    enum akin_status status = AKIN_OK;
    TRY(store_check(path, NULL, error));
    TRY(collection_open(host, path, AKIN_INDEX_READ, &c, error));
    TRY_DONE(collection_validate(c, error));
    for (size_t i = 0; i < c->current->sealed; i++) {
        const struct part *part = c->current->views[i].part;
        TRY_DONE(check_keys(c, part, i, error));
        status = segment_check(part->segment, error);
        if (status != AKIN_OK) {
            error_context(error, status, "%s: segment at byte %" PRIu64, path,
                          part->stored->frame);
            goto done;
        }
    }
done:
    collection_close(&c);
    return status;
}
