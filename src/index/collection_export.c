/* Reading rows back, in order of their ids, whatever parts they lie in. */
#include <stdlib.h>

#include "index/collection_parts.h"

/* The first row of a sealed part whose id is `from` or larger. */
static size_t first_row(const struct part *part, int64_t from)
{
    size_t low = 0, high = part->rows;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (part_id(part, middle) < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Of each part the first `count` rows that qualify, or of a chunk all: the least ids of all are
 * among them. */
static size_t collect(const struct snapshot *s, int64_t from, size_t count, struct origin *origins)
{
    size_t taken = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct view *view = &s->views[i];
        bool sealed = i < s->sealed;
        size_t limit = sealed ? taken + count : SIZE_MAX;
        for (size_t row = sealed ? first_row(view->part, from) : 0;
             row < view->rows && taken < limit; row++) {
            int64_t id = part_id(view->part, row);
            if (id >= from && bits_alive(view->bits, row))
                origins[taken++] = (struct origin){ id, (uint32_t)i, (uint32_t)row };
        }
    }
    return taken;
}

static size_t room_for(const struct snapshot *s, size_t count)
{
    size_t room = 0;
    for (size_t i = 0; i < s->count; i++)
        room += i < s->sealed && count < s->views[i].rows ? count : s->views[i].rows;
    return room;
}

enum akin_status collection_read(const struct collection *c, int64_t from, size_t count,
                                 int64_t *ids, float *vectors, size_t *found,
                                 struct akin_error *error)
{
    struct snapshot *s = snapshot_take(c);
    struct origin *origins = memory_alloc(room_for(s, count) + 1, sizeof *origins);
    if (origins) {
        size_t taken = collect(s, from, count, origins);
        qsort(origins, taken, sizeof *origins, origin_order);
        *found = taken < count ? taken : count;
        for (size_t i = 0; i < *found; i++) {
            const struct origin *o = &origins[i];
            if (ids)
                ids[i] = o->id;
            if (vectors)
                part_row(c, s->views[o->source].part, o->row, vectors + i * c->dim);
        }
    }
    snapshot_release(s);
    memory_free(origins);
    return origins ? AKIN_OK : error_memory(error);
}
