/* All memory comes from here: checked sizes, arenas, growable byte strings. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* false when the result does not fit in size_t; *out is then untouched. */
bool size_mul(size_t a, size_t b, size_t *out);
bool size_add(size_t a, size_t b, size_t *out);

/* `count` items of `bytes` each, zeroed; NULL when memory is out or the product overflows.
 * A count of 0 gives a valid pointer. */
void *memory_alloc(size_t count, size_t bytes);
/* The same, uninitialised and aligned to 64 bytes; from 2 MB on, in huge pages where there are. */
void *memory_alloc_aligned(size_t count, size_t bytes);
/* Resizes; new items are not initialised; NULL leaves the old block as it was. Not for aligned
 * ones. */
void *memory_resize(void *block, size_t count, size_t bytes);
void memory_free(void *block);      /* for all three; NULL is fine */
/* Zeroed pages that children forked later share with this process; NULL when refused. */
void *memory_share(size_t bytes);
void memory_unshare(void *block, size_t bytes);     /* NULL is fine */
char *memory_copy_string(const char *text);
char *memory_copy_bytes(const char *bytes, size_t count);  /* NUL added behind */

/* Makes room for `needed` items in a growable array: array_reserve((void **)&x, &capacity, n,
 * sizeof *x). Grows by half; false when memory is out (nothing changes then). */
bool array_reserve(void **items, size_t *capacity, size_t needed, size_t item_bytes);

/* Allocations so far in this process: tests prove with it that a hot path makes none. */
uint64_t memory_allocations(void);

/* An arena: one block, handed out from the front, reset as a whole. Alignment is 64 bytes. */
struct arena {
    unsigned char *block;
    size_t capacity, used, peak;
};

bool arena_init(struct arena *arena, size_t capacity);
void arena_deinit(struct arena *arena);
void *arena_alloc(struct arena *arena, size_t count, size_t bytes);   /* NULL when it is full */
void arena_reset(struct arena *arena);

/* A pool of strings that live and die together; blocks grow as needed, pointers stay valid. */
struct string_pool {
    struct string_block *blocks;
    size_t bytes;               /* held, for reports */
};

char *string_pool_add(struct string_pool *pool, const char *bytes,
                      size_t count);                             /* NUL added; NULL: no memory */
void *string_pool_alloc(struct string_pool *pool, size_t bytes); /* aligned to 8, not initialised */
void string_pool_deinit(struct string_pool *pool);

/* A growable byte string, always followed by a NUL. After a failed append `failed` is set, later
 * appends do nothing, and one check at the end is enough. */
struct bytes {
    char *data;
    size_t count, capacity;
    bool failed;
};

void bytes_append(struct bytes *b, const void *data, size_t count);
void bytes_append_text(struct bytes *b, const char *text);
void bytes_printf(struct bytes *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void bytes_clear(struct bytes *b);      /* keeps the capacity */
void bytes_deinit(struct bytes *b);
