/* See users_block.h. The map is open addressing without tombstones: what follows a removed entry
 * moves up, so that lookups stay short however many users come and go. */
#include "recommend/users_block.h"

#include <string.h>

static size_t round_up(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

size_t shard_slot_bytes(size_t dim)
{
    return round_up(sizeof(struct user_slot) + 2 * dim * sizeof(float));
}

bool shard_init(struct shard *s, unsigned char *slots, size_t dim, size_t capacity)
{
    *s = (struct shard){ .slots = slots, .dim = dim, .capacity = capacity, .newest = SLOT_NONE,
                         .oldest = SLOT_NONE, .free = SLOT_NONE, .free_chunk = SLOT_NONE,
                         .slot_bytes = shard_slot_bytes(dim), .map_capacity = 4 };
    while (s->map_capacity < 2 * capacity)
        s->map_capacity *= 2;
    s->lock = mutex_create();
    s->map = memory_alloc(s->map_capacity, sizeof *s->map);
    return s->lock && s->map && array_reserve((void **)&s->chunks, &s->chunk_capacity,
                                              capacity / 4 + 16, sizeof *s->chunks);
}

void shard_deinit(struct shard *s)
{
    mutex_destroy(&s->lock);
    memory_free(s->map);
    memory_free(s->chunks);
}

struct user_slot *shard_slot(const struct shard *s, uint32_t slot)
{
    return (struct user_slot *)(s->slots + slot * s->slot_bytes);
}

/* ---- names ------------------------------------------------------------------------------ */

static size_t map_home(const struct shard *s, uint64_t entry)
{
    return (size_t)(entry >> 32) & (s->map_capacity - 1);
}

static size_t map_find(const struct shard *s, uint64_t hash, const char *name)
{
    for (size_t i = map_home(s, hash);; i = (i + 1) & (s->map_capacity - 1)) {
        uint64_t entry = s->map[i];
        if (!entry)
            return i;
        if (entry >> 32 == hash >> 32 &&
            !strcmp(shard_slot(s, (uint32_t)entry - 1)->name, name))
            return i;
    }
}

uint32_t shard_find(const struct shard *s, uint64_t hash, const char *name)
{
    return (uint32_t)s->map[map_find(s, hash, name)] - 1;   /* 0 - 1 is SLOT_NONE */
}

static void map_remove(struct shard *s, size_t hole)
{
    size_t mask = s->map_capacity - 1;
    for (size_t i = (hole + 1) & mask; s->map[i]; i = (i + 1) & mask)
        if (((i - map_home(s, s->map[i])) & mask) >= ((i - hole) & mask)) {
            s->map[hole] = s->map[i];
            hole = i;
        }
    s->map[hole] = 0;
}

/* ---- order of use ----------------------------------------------------------------------- */

static void unlink_slot(struct shard *s, const struct user_slot *u)
{
    if (u->newer == SLOT_NONE)
        s->newest = u->older;
    else
        shard_slot(s, u->newer)->older = u->older;
    if (u->older == SLOT_NONE)
        s->oldest = u->newer;
    else
        shard_slot(s, u->older)->newer = u->newer;
}

static void link_newest(struct shard *s, uint32_t slot)
{
    struct user_slot *u = shard_slot(s, slot);
    u->newer = SLOT_NONE;
    u->older = s->newest;
    if (s->newest == SLOT_NONE)
        s->oldest = slot;
    else
        shard_slot(s, s->newest)->newer = slot;
    s->newest = slot;
}

void shard_use(struct shard *s, uint32_t slot)
{
    if (s->newest == slot)
        return;
    unlink_slot(s, shard_slot(s, slot));
    link_newest(s, slot);
}

/* ---- slots ------------------------------------------------------------------------------ */

uint32_t shard_take(struct shard *s, uint64_t hash, const char *name)
{
    uint32_t slot = s->free;
    if (slot != SLOT_NONE)
        s->free = shard_slot(s, slot)->older;
    else
        slot = (uint32_t)s->count;      /* none was given back yet: they are used in order */
    struct user_slot *u = shard_slot(s, slot);
    memset(u, 0, s->slot_bytes);
    u->hash = hash;
    u->seen = SLOT_NONE;
    memcpy(u->name, name, strlen(name) + 1);
    return slot;
}

void shard_keep(struct shard *s, uint32_t slot)
{
    struct user_slot *u = shard_slot(s, slot);
    size_t i = map_find(s, u->hash, u->name);
    ASSERT(s->count < s->capacity && !s->map[i]);
    s->map[i] = (u->hash & ~(uint64_t)UINT32_MAX) | (slot + 1);
    link_newest(s, slot);
    s->count++;
}

void shard_unsee(struct shard *s, struct user_slot *u)
{
    u->seen_count = 0;
    while (u->seen != SLOT_NONE) {
        uint32_t chunk = u->seen;
        u->seen = s->chunks[chunk].next;
        s->chunks[chunk].next = s->free_chunk;
        s->free_chunk = chunk;
    }
}

void shard_return(struct shard *s, uint32_t slot)
{
    struct user_slot *u = shard_slot(s, slot);
    shard_unsee(s, u);
    u->older = s->free;
    s->free = slot;
}

void shard_forget(struct shard *s, uint32_t slot)
{
    struct user_slot *u = shard_slot(s, slot);
    map_remove(s, map_find(s, u->hash, u->name));
    unlink_slot(s, u);
    s->count--;
    shard_return(s, slot);
}

/* ---- rows that were rated --------------------------------------------------------------- */

static uint32_t take_chunk(struct shard *s)
{
    uint32_t chunk = s->free_chunk;
    if (chunk != SLOT_NONE) {
        s->free_chunk = s->chunks[chunk].next;
        return chunk;
    }
    if (s->chunk_count >= SLOT_NONE ||
        !array_reserve((void **)&s->chunks, &s->chunk_capacity, s->chunk_count + 1,
                       sizeof *s->chunks))
        return SLOT_NONE;
    return (uint32_t)s->chunk_count++;
}

/* Rows in the first chunk of a list: it is the one that is filled. */
static size_t first_chunk_rows(const struct user_slot *u)
{
    return u->seen_count ? (u->seen_count - 1) % SEEN_ROWS + 1 : 0;
}

bool shard_see(struct shard *s, struct user_slot *u, uint32_t row)
{
    size_t rows = first_chunk_rows(u);
    for (uint32_t c = u->seen; c != SLOT_NONE; c = s->chunks[c].next, rows = SEEN_ROWS)
        for (size_t i = 0; i < rows; i++)
            if (s->chunks[c].rows[i] == row)
                return true;
    if (u->seen_count % SEEN_ROWS == 0) {
        uint32_t chunk = take_chunk(s);
        if (chunk == SLOT_NONE)
            return false;
        s->chunks[chunk].next = u->seen;
        u->seen = chunk;
    }
    s->chunks[u->seen].rows[u->seen_count++ % SEEN_ROWS] = row;
    return true;
}

void shard_seen(const struct shard *s, const struct user_slot *u, void *rows)
{
    size_t end = u->seen_count, count = first_chunk_rows(u);
    for (uint32_t c = u->seen; c != SLOT_NONE; c = s->chunks[c].next, count = SEEN_ROWS) {
        end -= count;
        memcpy((char *)rows + end * sizeof(uint32_t), s->chunks[c].rows, count * sizeof(uint32_t));
    }
}
