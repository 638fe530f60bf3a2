/* Hashes: 64 bits for tables and block checksums (XXH3), SHA-256 for identity, and a hash table
 * from byte strings to numbers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

uint64_t hash_bytes(const void *bytes, size_t count);
uint64_t hash_bytes_seed(const void *bytes, size_t count, uint64_t seed);

struct sha256 {
    unsigned char state[128];
};

void sha256_begin(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *bytes, size_t count);
void sha256_end(struct sha256 *sha, char hex[65]);
void sha256_end_bytes(struct sha256 *sha, unsigned char digest[32]);
enum akin_status sha256_file(const char *path, char hex[65], struct akin_error *error);

/* Byte strings (borrowed: they must outlive the map) to uint64 values. Open addressing. */
struct string_map {
    struct string_map_slot *slots;
    size_t count, capacity;
};

/* Sets `key` to `value` unless it is there; *slot_value (nullable) receives the value in the map
 * and *added (nullable) whether it is new. false when memory is out. */
bool string_map_put(struct string_map *map, const char *key, size_t bytes, uint64_t value,
                    uint64_t *slot_value, bool *added);
bool string_map_get(const struct string_map *map, const char *key, size_t bytes, uint64_t *value);
/* Room for `extra` more keys: that many puts and sets cannot fail. */
bool string_map_reserve(struct string_map *map, size_t extra);
bool string_map_set(struct string_map *map, const char *key, size_t bytes, uint64_t value);
void string_map_deinit(struct string_map *map);

/* uint64 keys to uint64 values; same rules. */
struct number_map {
    struct number_map_slot *slots;
    size_t count, capacity;
};

bool number_map_put(struct number_map *map, uint64_t key, uint64_t value, uint64_t *slot_value,
                    bool *added);
bool number_map_reserve(struct number_map *map, size_t extra);
bool number_map_set(struct number_map *map, uint64_t key, uint64_t value);
bool number_map_get(const struct number_map *map, uint64_t key, uint64_t *value);
void number_map_deinit(struct number_map *map);
