/* The block of active users: slots of one size, cut into shards that are locked one by one. A shard
 * has its own map from names to slots and its own order of use, so that nothing is shared between
 * them. Every function is called with the shard locked. */
#pragma once

#include "base/limits.h"
#include "base/memory.h"
#include "base/thread.h"
#include "recommend/users.h"

enum { SLOT_NONE = UINT32_MAX, SEEN_ROWS = 15 };

struct user_slot {
    uint64_t hash;              /* of the name */
    uint64_t number;            /* of the last event in it; 0: none */
    uint64_t count, live;       /* as in user_profile */
    uint32_t unsaved;           /* events since the stored state */
    uint32_t newer, older;      /* order of use; free slots are linked by `older` */
    uint32_t seen;              /* first of its chunks of rows, newest first */
    uint32_t seen_count;
    char name[USER_NAME_BYTES_MAX + 1];
    struct akin_rating recent[USER_RECENT];     /* number i is at i % USER_RECENT */
    _Alignas(64) float vectors[];               /* fast [dim], slow [dim] */
};

/* Rows that a user rated: a list of chunks, each a cache line. */
struct seen_chunk {
    uint32_t next;
    uint32_t rows[SEEN_ROWS];
};

struct shard {
    struct mutex *lock;
    unsigned char *slots;       /* [capacity + 1][slot_bytes]: one is always free, to load into */
    size_t slot_bytes, dim, capacity, count;
    uint32_t newest, oldest, free;
    uint64_t *map;              /* [map_capacity] upper half: of the hash; lower: slot + 1, or 0 */
    size_t map_capacity;
    struct seen_chunk *chunks;
    size_t chunk_count, chunk_capacity;
    uint32_t free_chunk;
    uint64_t hits, loads, evictions;
};

size_t shard_slot_bytes(size_t dim);
/* `slots` is memory for capacity + 1 slots. false: no memory. */
bool shard_init(struct shard *shard, unsigned char *slots, size_t dim, size_t capacity);
void shard_deinit(struct shard *shard);

struct user_slot *shard_slot(const struct shard *shard, uint32_t slot);
/* SLOT_NONE where the name has none; does not count as use. */
uint32_t shard_find(const struct shard *shard, uint64_t hash, const char *name);
void shard_use(struct shard *shard, uint32_t slot);

/* An empty slot for a name that has none; it is not found before shard_keep. */
uint32_t shard_take(struct shard *shard, uint64_t hash, const char *name);
/* Makes it the newest. The caller has made room: count < capacity. */
void shard_keep(struct shard *shard, uint32_t slot);
/* Gives a slot back that was not kept, or, with shard_forget, one that was. */
void shard_return(struct shard *shard, uint32_t slot);
void shard_forget(struct shard *shard, uint32_t slot);

/* Adds a row unless it is there. false: no memory. */
bool shard_see(struct shard *shard, struct user_slot *slot, uint32_t row);
/* seen_count rows (uint32_t, anywhere) in the order in which they came. */
void shard_seen(const struct shard *shard, const struct user_slot *slot, void *rows);
void shard_unsee(struct shard *shard, struct user_slot *slot);     /* all of them */
