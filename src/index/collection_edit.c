/* What a writer does to the snapshot to come: finds rows by id or key, and takes them out. */
#include <string.h>

#include "index/collection_parts.h"

static bool find_chunk(const struct snapshot *s, uint64_t code, struct place *place)
{
    uint64_t number = code >> 32;
    size_t row = code & UINT32_MAX;
    for (size_t i = s->count; i-- > s->sealed;) {
        const struct view *view = &s->views[i];
        if (view->part->number != number)
            continue;
        *place = (struct place){ i, row };
        return row < view->rows && bits_alive(view->bits, row);
    }
    return false;
}

/* The newest row of an id is the only one that can live, and maps know the newest. */
bool collection_find(const struct collection *c, const struct snapshot *s, int64_t id,
                     struct place *place)
{
    uint64_t code;
    if (number_map_get(&c->tail_ids, (uint64_t)id, &code) && find_chunk(s, code, place) &&
        s->views[place->view].part->ids[place->row] == id)
        return true;
    for (size_t i = s->sealed; i-- > 0;) {
        size_t row = part_find(s->views[i].part, id);
        if (row == SIZE_MAX || !bits_alive(s->views[i].bits, row))
            continue;
        *place = (struct place){ i, row };
        return true;
    }
    return false;
}

bool collection_find_key(const struct collection *c, const struct snapshot *s, const char *key,
                         struct place *place)
{
    uint64_t code;
    size_t bytes = strlen(key);
    if (string_map_get(&c->tail_keys, key, bytes, &code) && find_chunk(s, code, place)) {
        struct text own = part_text(s->views[place->view].part, place->row, COLLECTION_KEY);
        if (own.count == bytes && !memcmp(own.bytes, key, bytes))
            return true;
    }
    for (size_t i = s->sealed; i-- > 0;) {
        size_t row = part_find_key(s->views[i].part, key, bytes);
        if (row == SIZE_MAX || !bits_alive(s->views[i].bits, row))
            continue;
        *place = (struct place){ i, row };
        return true;
    }
    return false;
}

enum akin_status edit_begin(const struct collection *c, struct snapshot **next,
                            struct akin_error *error)
{
    const struct snapshot *now = c->current;    /* only the writer changes it */
    struct snapshot *s = snapshot_create(now->count + 1);
    if (!s)
        return error_memory(error);
    s->count = now->count;
    s->sealed = now->sealed;
    for (size_t i = 0; i < now->count; i++)
        view_copy(&s->views[i], &now->views[i]);
    *next = s;
    return AKIN_OK;
}

enum akin_status edit_kill(const struct collection *c, struct snapshot *next, struct place place,
                           struct akin_error *error)
{
    struct view *view = &next->views[place.view];
    const struct snapshot *now = c->current;
    bool shared = now && place.view < now->count && now->views[place.view].bits == view->bits;
    if (!view->bits || shared) {
        struct bits *own = view->bits ? bits_copy(view->bits) : bits_create(view->part->rows);
        if (!own)
            return error_memory(error);
        bits_release(view->bits);
        view->bits = own;
    }
    ASSERT(bits_alive(view->bits, place.row));
    view->bits->alive[place.row / 64] &= ~((uint64_t)1 << place.row % 64);
    view->bits->dead++;
    return AKIN_OK;
}

void edit_count(struct snapshot *next)
{
    next->live = next->dead = 0;
    for (size_t i = 0; i < next->count; i++) {
        size_t live = view_live(&next->views[i]);
        next->live += live;
        next->dead += next->views[i].rows - live;
    }
}
