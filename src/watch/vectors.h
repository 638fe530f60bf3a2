/* Vectors by the content of the text that they are of, bounded: a text that comes again, even after
 * its template was forgotten, is not embedded again. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vector_cache;

struct vector_cache *vector_cache_create(size_t max, size_t dimension); /* NULL: no memory */
void vector_cache_destroy(struct vector_cache **cache);
/* [dimension], valid until the next put; NULL: not there. */
const float *vector_cache_get(const struct vector_cache *cache, uint64_t text_hash);
/* What came first makes room. false: no memory. */
bool vector_cache_put(struct vector_cache *cache, uint64_t text_hash, const float *vector);
