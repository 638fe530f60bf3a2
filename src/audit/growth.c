/* The right edge of the tree with what belongs to unfinished tiles. */
#include <string.h>

#include "audit/audit_log.h"

static bool push(struct level *level, const struct tree_hash *hash)
{
    if (!array_reserve((void **)&level->items, &level->capacity, level->count + 1,
                       sizeof *level->items))
        return false;
    level->items[level->count++] = *hash;
    return true;
}

static void grown(void *context, unsigned level, const struct tree_hash *hash)
{
    struct growth *growth = context;
    if (level < TILE_LEVELS && !push(&growth->levels[level], hash))
        growth->failed = true;
}

static enum akin_status take_cursors(struct growth *growth, const unsigned char *entries,
                                     size_t bytes, struct akin_error *error)
{
    for (size_t at = 0; at < bytes;) {
        struct entry entry;
        const unsigned char *begin;
        size_t count;
        if (entry_next(entries, bytes, &at, &entry, &begin, &count))
            return error_set(error, AKIN_FORMAT, "an entry is not what it should be");
        TRY(cursors_take(&growth->cursors, &entry, error));
    }
    return AKIN_OK;
}

enum akin_status growth_add(struct growth *growth, const void *entries, size_t bytes,
                            const struct tree_hash *leaves, size_t count, struct akin_error *error)
{
    bytes_append(&growth->entries, entries, bytes);
    for (size_t i = 0; i < count; i++) {
        growth->failed = growth->failed || !push(&growth->levels[0], &leaves[i]);
        tree_edge_add(&growth->edge, &leaves[i], grown, growth);
    }
    if (growth->failed || growth->entries.failed)
        return error_memory(error);
    return take_cursors(growth, entries, bytes, error);
}

/* The nodes of the edge that lie inside a partial tile: its width in binary, from the left. */
static void load_nodes(struct growth *growth, unsigned level, const struct tree_hash *hashes,
                       size_t width)
{
    size_t first = 0;
    for (unsigned bit = 8; bit-- > 0;) {
        if (!(width >> bit & 1))
            continue;
        tree_of(hashes + first, bit, &growth->edge.nodes[8 * level + bit]);
        first += (size_t)1 << bit;
    }
}

static enum akin_status load_entries(struct growth *growth, const char *folder, uint64_t number,
                                     size_t width, struct akin_error *error)
{
    struct tree_hash leaf;
    TRY(bundle_read(folder, number, width, &growth->entries, error));
    size_t at = 0;
    for (size_t i = 0; i < width; i++) {
        struct entry entry;
        const unsigned char *begin;
        size_t count;
        const char *wrong = entry_next((unsigned char *)growth->entries.data,
                                       growth->entries.count, &at, &entry, &begin, &count);
        if (!wrong)
            tree_leaf(begin, count, &leaf);
        if (wrong || !tree_hash_equal(&leaf, &growth->levels[0].items[i]))
            return error_set(error, AKIN_FORMAT,
                             "%s: record %llu is not what its tile says: 'akin audit verify' tells "
                             "what was changed", folder,
                             (unsigned long long)(number * TILE_WIDTH + i));
    }
    growth->entries.count = at;     /* of a whole bundle only so much */
    return AKIN_OK;
}

enum akin_status growth_load(struct growth *growth, const char *folder, uint64_t size,
                             struct akin_error *error)
{
    struct tree_hash hashes[TILE_WIDTH];
    growth->edge.size = size;
    for (unsigned level = 0; level < TILE_LEVELS; level++) {
        uint64_t number = (size >> 8 * level) / TILE_WIDTH;
        size_t width = tile_width((int)level, number, size);
        growth->levels[level].first = number * TILE_WIDTH;
        if (width == 0)
            continue;
        TRY(tile_read(folder, (int)level, number, width, hashes, error));
        for (size_t i = 0; i < width; i++)
            if (!push(&growth->levels[level], &hashes[i]))
                return error_memory(error);
        growth->levels[level].written = width;
        load_nodes(growth, level, hashes, width);
        if (level == 0)
            TRY(load_entries(growth, folder, number, width, error));
    }
    return AKIN_OK;
}

void growth_deinit(struct growth *growth)
{
    for (size_t i = 0; i < TILE_LEVELS; i++)
        memory_free(growth->levels[i].items);
    bytes_deinit(&growth->entries);
    cursors_deinit(&growth->cursors);
    *growth = (struct growth){0};
}
