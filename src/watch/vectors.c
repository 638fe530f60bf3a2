#include "watch/vectors.h"

#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

struct vector_cache {
    size_t max, dimension, next, count, capacity;
    uint64_t *hashes;           /* [max] */
    float *rows;                /* [capacity][dimension] */
    struct number_map places;   /* hash -> row; stale where hashes[row] is another */
};

struct vector_cache *vector_cache_create(size_t max, size_t dimension)
{
    struct vector_cache *c = memory_alloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->max = max;
    c->dimension = dimension;
    c->hashes = memory_alloc(max, sizeof *c->hashes);
    if (!c->hashes)
        vector_cache_destroy(&c);
    return c;
}

void vector_cache_destroy(struct vector_cache **cache)
{
    struct vector_cache *c = *cache;
    if (!c)
        return;
    number_map_deinit(&c->places);
    memory_free(c->hashes);
    memory_free(c->rows);
    memory_free(c);
    *cache = NULL;
}

const float *vector_cache_get(const struct vector_cache *c, uint64_t text_hash)
{
    uint64_t row;
    if (!number_map_get(&c->places, text_hash, &row) || c->hashes[row] != text_hash)
        return NULL;
    return c->rows + row * c->dimension;
}

bool vector_cache_put(struct vector_cache *c, uint64_t text_hash, const float *vector)
{
    size_t row = c->count < c->max ? c->count : c->next;
    if (vector_cache_get(c, text_hash))
        return true;
    if (c->places.count > 4 * c->max) { /* mostly stale: begins again */
        number_map_deinit(&c->places);
        c->count = c->next = row = 0;
    }
    if (!array_reserve((void **)&c->rows, &c->capacity, row + 1, c->dimension * sizeof *c->rows)
        || !number_map_set(&c->places, text_hash, row))
        return false;
    memcpy(c->rows + row * c->dimension, vector, c->dimension * sizeof *vector);
    c->hashes[row] = text_hash;
    if (c->count < c->max)
        c->count++;
    else
        c->next = (c->next + 1) % c->max;
    return true;
}
