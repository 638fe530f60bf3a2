/* See identity.h. */
#include "model/identity.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"

enum { SAMPLE_BLOCKS = 64, SAMPLE_BLOCK_BYTES = 1024, STRIDE_BYTES = 16 << 20 };

static uint64_t hash_sample(const struct file_map *map)
{
    if (map->bytes <= (size_t)SAMPLE_BLOCKS * SAMPLE_BLOCK_BYTES)
        return hash_bytes(map->data, map->bytes);
    uint64_t hash = 0;
    size_t step = (map->bytes - SAMPLE_BLOCK_BYTES) / (SAMPLE_BLOCKS - 1);
    for (size_t i = 0; i < SAMPLE_BLOCKS; i++)
        hash = hash_bytes_seed(map->data + i * step, SAMPLE_BLOCK_BYTES, hash);
    return hash;
}

/* In strides, so that the file never fills the memory of this process. */
static uint64_t hash_all(const struct file_map *map)
{
    uint64_t hash = 0;
    for (size_t at = 0; at < map->bytes; at += STRIDE_BYTES) {
        size_t left = map->bytes - at;
        hash = hash_bytes_seed(map->data + at, left < STRIDE_BYTES ? left : STRIDE_BYTES, hash);
        file_map_release(map);
    }
    return hash;
}

enum akin_status weights_identify(const char *path, bool digest, struct weights_identity *identity,
                                  struct akin_error *error)
{
    struct weights_identity found = { 0 };
    struct file_map map;
    TRY(path_modified_ns(path, &found.modified_ns, error));
    TRY(file_map_open(path, &map, error));
    found.bytes = map.bytes;
    found.sample = hash_sample(&map);
    if (digest)
        found.digest = hash_all(&map);
    file_map_close(&map);
    *identity = found;
    return AKIN_OK;
}

enum akin_status weights_match(const struct weights_identity *known, const char *path,
                               bool thorough, bool *match, struct akin_error *error)
{
    struct weights_identity found;
    TRY(weights_identify(path, thorough, &found, error));
    *match = found.bytes == known->bytes && found.sample == known->sample;
    if (*match && !thorough && found.modified_ns != known->modified_ns) {
        thorough = true;
        TRY(weights_identify(path, true, &found, error));
    }
    if (*match && thorough)
        *match = found.digest == known->digest;
    return AKIN_OK;
}

void hex64_text(uint64_t value, char text[17])
{
    snprintf(text, 17, "%016llx", (unsigned long long)value);
}

bool hex64_parse(const char *text, uint64_t *value)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t result = 0;
    if (strlen(text) != 16)
        return false;
    for (size_t i = 0; i < 16; i++) {
        const char *digit = strchr(digits, text[i]);
        if (!digit)
            return false;
        result = result << 4 | (uint64_t)(digit - digits);
    }
    *value = result;
    return true;
}
