/* Lists that are replaced while they are read. One thread writes, any number read. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "akin/neighbors.h"

struct blocks;

/* Room for the lists of `capacity` of `items` items and for `spare` more that are on their way. */
struct blocks *blocks_create(size_t items, size_t capacity, size_t spare);  /* NULL: no memory */
void blocks_destroy(struct blocks **blocks);

/* Any thread; never waits. */
bool blocks_read(struct blocks *blocks, uint32_t row, struct akin_neighbor *list, size_t *found);

/* The writer's. A list is written to the blank block, [AKIN_NEIGHBORS_MAX], and then published,
 * which replaces; the blank block is the same until then. At most `capacity` rows have a list.
 * `now_ns` is kept with it. */
struct akin_neighbor *blocks_blank(struct blocks *blocks);
void blocks_publish(struct blocks *blocks, uint32_t row, size_t found, uint64_t now_ns);
void blocks_withdraw(struct blocks *blocks, uint32_t row);
bool blocks_has(const struct blocks *blocks, uint32_t row);
size_t blocks_count(const struct blocks *blocks);
size_t blocks_bytes(const struct blocks *blocks);
/* Age of the lists that are there, in seconds. */
void blocks_ages(const struct blocks *blocks, uint64_t now_ns, double *mean, double *max);
