/* What a collection says about itself and about one row. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "index/collection_parts.h"

static bool find_live(const struct snapshot *s, int64_t id, struct place *place)
{
    for (size_t i = s->count; i-- > 0;) {
        const struct view *view = &s->views[i];
        size_t row = SIZE_MAX;
        if (i < s->sealed)
            row = part_find(view->part, id);
        else
            for (size_t r = 0; r < view->rows && row == SIZE_MAX; r++)
                if (view->part->ids[r] == id && bits_alive(view->bits, r))
                    row = r;
        if (row == SIZE_MAX || !bits_alive(view->bits, row))
            continue;
        *place = (struct place){ i, row };
        return true;
    }
    return false;
}

enum akin_status collection_text(const struct collection *c, int64_t id,
                                 enum collection_field field, char *text, size_t bytes,
                                 struct akin_error *error)
{
    struct snapshot *s = snapshot_take(c);
    struct place place;
    enum akin_status status = AKIN_OK;
    if (!find_live(s, id, &place)) {
        status = error_set(error, AKIN_NOT_FOUND, "%s: has no row with id %" PRId64, c->path, id);
    } else {
        struct text found = part_text(s->views[place.view].part, place.row, field);
        if (found.count >= bytes) {
            status = error_set(error, AKIN_LIMIT, "id %" PRId64 ": its text has %zu bytes", id,
                               found.count);
        } else {
            memcpy(text, found.bytes, found.count);
            text[found.count] = 0;
        }
    }
    snapshot_release(s);
    return status;
}

/* What was written when the largest segment of this kind was made; false: nothing. */
static bool read_why(const struct snapshot *s, uint32_t kind, char *why, size_t bytes)
{
    const struct part *largest = NULL;
    for (size_t i = 0; i < s->sealed; i++) {
        const struct part *part = s->views[i].part;
        if (part->stored->kind == kind && (!largest || part->rows > largest->rows))
            largest = part;
    }
    const struct segment_block *block =
        largest ? store_segment_find(largest->stored, COLLECTION_BLOCK_WHY) : NULL;
    if (!block)
        return false;
    size_t count = block->bytes < bytes ? block->bytes : bytes - 1;
    memcpy(why, block->data, count);
    why[count] = 0;
    for (size_t i = 0; i < count; i++)          /* whatever the file holds, it is printed */
        if ((unsigned char)why[i] < ' ' || (unsigned char)why[i] > '~')
            why[i] = '?';
    return true;
}

/* The kind of most sealed rows, and why it was chosen when they were sealed; without any, what a
 * segment of today would be. */
static void describe(const struct collection *c, const struct snapshot *s,
                     struct akin_index_info *info)
{
    size_t rows[SEGMENT_GRAPH + 1] = { 0 };
    char why[sizeof info->why];
    uint32_t most = SEGMENT_PLAIN;
    for (size_t i = 0; i < s->sealed; i++) {
        uint32_t kind = s->views[i].part->stored->kind;
        rows[kind <= SEGMENT_GRAPH ? kind : SEGMENT_PLAIN] += s->views[i].rows;
    }
    for (uint32_t kind = SEGMENT_FLAT; kind <= SEGMENT_GRAPH; kind++)
        if (rows[kind] > rows[most])
            most = kind;
    enum segment_kind now = plan_kind(&c->creation, s->live, c->dim, why, sizeof why);
    bool sealed = rows[most] > 0;
    most = sealed ? most : now;
    snprintf(info->asked, sizeof info->asked, "%s",
             c->creation.kind ? segment_kind_name(c->creation.kind) : "auto");
    /* A plain segment is a flat one that is too old or too small for codes. */
    const char *kind = segment_kind_name(most == SEGMENT_PLAIN ? SEGMENT_FLAT : most);
    snprintf(info->kind, sizeof info->kind, "%s", kind);
    if (sealed && read_why(s, most, info->why, sizeof info->why))
        return;
    if (most == now || most == SEGMENT_PLAIN)
        snprintf(info->why, sizeof info->why, "%s", why);
    else
        snprintf(info->why, sizeof info->why, "%s: chosen when most rows were sealed; now %.200s",
                 kind, why);
}

void collection_info(const struct collection *c, struct akin_index_info *info)
{
    struct snapshot *s = snapshot_take(c);
    struct store_stats stats;
    *info = (struct akin_index_info){
        .metric = c->metric, .storage = (enum akin_storage)c->creation.storage,
        .count = s->live, .dead = s->dead, .segments = s->sealed,
        .dimension = c->dim,
    };
    for (size_t i = s->sealed; i < s->count; i++)
        info->tail_rows += view_live(&s->views[i]);
    for (size_t i = 0; i < s->count; i++) {
        const struct view *view = &s->views[i];
        info->card_bytes += part_card_bytes(view->part);
        info->memory_bytes += part_memory(view->part) + (view->bits ? view->bits->words * 8 : 0);
    }
    describe(c, s, info);
    mutex_lock(c->writing);
    store_stats(c->store, &stats);
    info->version = store_version(c->store);
    mutex_unlock(c->writing);
    info->file_bytes = stats.file_bytes;
    info->dead_bytes = stats.dead_bytes;
    snapshot_release(s);
}
