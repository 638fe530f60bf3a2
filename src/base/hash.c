/* Hashes and hash tables. XXH3 from libxxhash, SHA-256 from libsodium. */
#include "base/hash.h"

#include <sodium.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"

uint64_t hash_bytes(const void *bytes, size_t count)
{
    return XXH3_64bits(bytes, count);
}

uint64_t hash_bytes_seed(const void *bytes, size_t count, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, count, seed);
}

_Static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(struct sha256), "room for the state");

static crypto_hash_sha256_state *state_of(struct sha256 *sha)
{
    return (crypto_hash_sha256_state *)(void *)sha->state;
}

void sha256_begin(struct sha256 *sha)
{
    crypto_hash_sha256_init(state_of(sha));
}

void sha256_add(struct sha256 *sha, const void *bytes, size_t count)
{
    crypto_hash_sha256_update(state_of(sha), bytes, count);
}

void sha256_end_bytes(struct sha256 *sha, unsigned char digest[32])
{
    crypto_hash_sha256_final(state_of(sha), digest);
}

void sha256_end(struct sha256 *sha, char hex[65])
{
    unsigned char digest[32];
    sha256_end_bytes(sha, digest);
    sodium_bin2hex(hex, 65, digest, sizeof digest);
}

enum akin_status sha256_file(const char *path, char hex[65], struct akin_error *error)
{
    struct file_map map;
    TRY(file_map_open(path, &map, error));
    struct sha256 sha;
    sha256_begin(&sha);
    sha256_add(&sha, map.data, map.bytes);
    sha256_end(&sha, hex);
    file_map_close(&map);
    return AKIN_OK;
}

/* ---- byte strings to numbers ------------------------------------------------------------ */

/* The capacity, a power of two, of a map that is to take `extra` more; at most two thirds full. */
static bool capacity_for(size_t count, size_t extra, size_t *capacity)
{
    size_t wanted, size = *capacity ? *capacity : 64;
    if (!size_add(count, extra, &wanted) || !size_add(wanted, wanted / 2, &wanted))
        return false;
    while (size <= wanted)
        if (!size_mul(size, 2, &size))
            return false;
    *capacity = size;
    return true;
}

struct string_map_slot {
    const char *key;        /* NULL: free */
    size_t bytes;
    uint64_t hash, value;
};

static struct string_map_slot *string_slot(const struct string_map *map, uint64_t hash,
                                           const char *key, size_t bytes)
{
    size_t mask = map->capacity - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct string_map_slot *slot = &map->slots[i];
        if (!slot->key ||
            (slot->hash == hash && slot->bytes == bytes && !memcmp(slot->key, key, bytes)))
            return slot;
    }
}

bool string_map_reserve(struct string_map *map, size_t extra)
{
    size_t capacity = map->capacity;
    if (!capacity_for(map->count, extra, &capacity))
        return false;
    if (capacity == map->capacity)
        return true;
    struct string_map grown = {.capacity = capacity, .count = map->count};
    grown.slots = memory_alloc(grown.capacity, sizeof *grown.slots);
    if (!grown.slots)
        return false;
    for (size_t i = 0; i < map->capacity; i++)
        if (map->slots[i].key)
            *string_slot(&grown, map->slots[i].hash, map->slots[i].key, map->slots[i].bytes) =
                map->slots[i];
    memory_free(map->slots);
    *map = grown;
    return true;
}

bool string_map_put(struct string_map *map, const char *key, size_t bytes, uint64_t value,
                    uint64_t *slot_value, bool *added)
{
    if (!string_map_reserve(map, 1))
        return false;
    uint64_t hash = hash_bytes(key, bytes);
    struct string_map_slot *slot = string_slot(map, hash, key, bytes);
    bool fresh = !slot->key;
    if (fresh) {
        *slot = (struct string_map_slot){.key = key, .bytes = bytes, .hash = hash, .value = value};
        map->count++;
    }
    if (slot_value)
        *slot_value = slot->value;
    if (added)
        *added = fresh;
    return true;
}

bool string_map_set(struct string_map *map, const char *key, size_t bytes, uint64_t value)
{
    bool added;
    if (!string_map_put(map, key, bytes, value, NULL, &added))
        return false;
    if (!added)
        string_slot(map, hash_bytes(key, bytes), key, bytes)->value = value;
    return true;
}

bool string_map_get(const struct string_map *map, const char *key, size_t bytes, uint64_t *value)
{
    if (!map->capacity)
        return false;
    struct string_map_slot *slot = string_slot(map, hash_bytes(key, bytes), key, bytes);
    if (!slot->key)
        return false;
    *value = slot->value;
    return true;
}

void string_map_deinit(struct string_map *map)
{
    memory_free(map->slots);
    *map = (struct string_map){ 0 };
}

/* ---- numbers to numbers ----------------------------------------------------------------- */

struct number_map_slot {
    uint64_t key, value;
    bool used;
};

static struct number_map_slot *number_slot(const struct number_map *map, uint64_t key)
{
    size_t mask = map->capacity - 1;
    for (size_t i = XXH3_64bits(&key, sizeof key) & mask;; i = (i + 1) & mask)
        if (!map->slots[i].used || map->slots[i].key == key)
            return &map->slots[i];
}

bool number_map_reserve(struct number_map *map, size_t extra)
{
    size_t capacity = map->capacity;
    if (!capacity_for(map->count, extra, &capacity))
        return false;
    if (capacity == map->capacity)
        return true;
    struct number_map grown = {.capacity = capacity, .count = map->count};
    grown.slots = memory_alloc(grown.capacity, sizeof *grown.slots);
    if (!grown.slots)
        return false;
    for (size_t i = 0; i < map->capacity; i++)
        if (map->slots[i].used)
            *number_slot(&grown, map->slots[i].key) = map->slots[i];
    memory_free(map->slots);
    *map = grown;
    return true;
}

bool number_map_put(struct number_map *map, uint64_t key, uint64_t value, uint64_t *slot_value,
                    bool *added)
{
    if (!number_map_reserve(map, 1))
        return false;
    struct number_map_slot *slot = number_slot(map, key);
    bool fresh = !slot->used;
    if (fresh) {
        *slot = (struct number_map_slot){ .key = key, .value = value, .used = true };
        map->count++;
    }
    if (slot_value)
        *slot_value = slot->value;
    if (added)
        *added = fresh;
    return true;
}

bool number_map_set(struct number_map *map, uint64_t key, uint64_t value)
{
    bool added;
    if (!number_map_put(map, key, value, NULL, &added))
        return false;
    if (!added)
        number_slot(map, key)->value = value;
    return true;
}

bool number_map_get(const struct number_map *map, uint64_t key, uint64_t *value)
{
    if (!map->capacity)
        return false;
    struct number_map_slot *slot = number_slot(map, key);
    if (!slot->used)
        return false;
    *value = slot->value;
    return true;
}

void number_map_deinit(struct number_map *map)
{
    memory_free(map->slots);
    *map = (struct number_map){ 0 };
}
