/* The only home of malloc. */
#include "base/memory.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/status.h"

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20, ARENA_HUGE_FROM = 4 * HUGE_PAGE };

/* So much of a last huge page may be more than was asked for; a checker of memory is to see where
 * blocks end. */
#ifdef __SANITIZE_ADDRESS__
enum { HUGE_SPARE = 0 };
#else
enum { HUGE_SPARE = HUGE_PAGE / 2 };
#endif

/* A counter for tests, not state that anything depends on. */
static atomic_uint_fast64_t allocations;

uint64_t memory_allocations(void)
{
    return atomic_load_explicit(&allocations, memory_order_relaxed);
}

static void count_allocation(void)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
}

bool size_mul(size_t a, size_t b, size_t *out)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

bool size_add(size_t a, size_t b, size_t *out)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}

void *memory_alloc(size_t count, size_t bytes)
{
    size_t total;
    if (!size_mul(count, bytes, &total) || total > PTRDIFF_MAX)
        return NULL;
    count_allocation();
    return calloc(1, total ? total : 1);
}

/* In huge pages from `huge_from` bytes on. */
static void *alloc_aligned(size_t count, size_t bytes, size_t huge_from)
{
    size_t total;
    if (!size_mul(count, bytes, &total) || total > PTRDIFF_MAX - HUGE_PAGE)
        return NULL;
    count_allocation();
    void *block = NULL;
    bool large = total >= huge_from;
    /* Large arrays are often read here and there, and then half the time goes into page tables. A
     * wish: without huge pages everything works. The last page is small where it would be less
     * than half full. */
    size_t huge = large ? (total + HUGE_SPARE) / HUGE_PAGE * HUGE_PAGE : 0;
    total = total > huge ? total : huge;
    if (posix_memalign(&block, large ? HUGE_PAGE : ALIGNMENT, total ? total : 1))
        return NULL;
    if (large)
        (void)madvise(block, huge, MADV_HUGEPAGE);
    return block;
}

void *memory_alloc_aligned(size_t count, size_t bytes)
{
    return alloc_aligned(count, bytes, HUGE_PAGE);
}

void *memory_resize(void *block, size_t count, size_t bytes)
{
    size_t total;
    if (!size_mul(count, bytes, &total) || total > PTRDIFF_MAX)
        return NULL;
    count_allocation();
    return realloc(block, total ? total : 1);
}

void memory_free(void *block)
{
    free(block);
}

char *memory_copy_bytes(const char *bytes, size_t count)
{
    size_t total;
    char *copy = size_add(count, 1, &total) ? memory_alloc(total, 1) : NULL;
    if (copy && count)
        memcpy(copy, bytes, count);
    return copy;
}

void *memory_share(size_t bytes)
{
    void *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return block == MAP_FAILED ? NULL : block;
}

void memory_unshare(void *block, size_t bytes)
{
    if (block)
        munmap(block, bytes);
}

char *memory_copy_string(const char *text)
{
    return memory_copy_bytes(text, strlen(text));
}

bool array_reserve(void **items, size_t *capacity, size_t needed, size_t item_bytes)
{
    if (needed <= *capacity)
        return true;
    size_t grown = *capacity + *capacity / 2;
    if (grown < needed || grown < *capacity)
        grown = needed < 8 ? 8 : needed;
    void *moved = memory_resize(*items, grown, item_bytes);
    if (!moved)
        return false;
    *items = moved;
    *capacity = grown;
    return true;
}

/* ---- arena ------------------------------------------------------------------------------ */

/* Of a small arena most is often never touched, and huge pages would take it all the same. */
bool arena_init(struct arena *arena, size_t capacity)
{
    *arena = (struct arena){ .block = alloc_aligned(capacity, 1, ARENA_HUGE_FROM),
                             .capacity = capacity };
    return arena->block != NULL;
}

void arena_deinit(struct arena *arena)
{
    memory_free(arena->block);
    *arena = (struct arena){ 0 };
}

void *arena_alloc(struct arena *arena, size_t count, size_t bytes)
{
    size_t total;
    if (!size_mul(count, bytes, &total) || !size_add(total, ALIGNMENT - 1, &total))
        return NULL;
    total &= ~(size_t)(ALIGNMENT - 1);
    if (total > arena->capacity - arena->used)
        return NULL;
    void *block = arena->block + arena->used;
    arena->used += total;
    if (arena->used > arena->peak)
        arena->peak = arena->used;
    return block;
}

void arena_reset(struct arena *arena)
{
    arena->used = 0;
}

/* ---- string pool ------------------------------------------------------------------------ */

struct string_block {
    struct string_block *next;
    size_t used, capacity;
    char data[];
};

enum { STRING_BLOCK_BYTES = 64 << 10 };

static char *pool_take(struct string_pool *pool, size_t bytes, size_t alignment)
{
    struct string_block *block = pool->blocks;
    size_t at = block ? (block->used + alignment - 1) & ~(alignment - 1) : 0;
    if (!block || at > block->capacity || bytes > block->capacity - at) {
        size_t capacity = bytes > STRING_BLOCK_BYTES ? bytes : STRING_BLOCK_BYTES, total;
        if (!size_add(capacity, sizeof *block, &total))
            return NULL;
        block = memory_alloc(1, total);
        if (!block)
            return NULL;
        block->capacity = capacity;
        block->next = pool->blocks;
        pool->blocks = block;
        pool->bytes += total;
        at = 0;
    }
    block->used = at + bytes;
    return block->data + at;
}

char *string_pool_add(struct string_pool *pool, const char *bytes, size_t count)
{
    size_t total;
    char *copy = size_add(count, 1, &total) ? pool_take(pool, total, 1) : NULL;
    if (!copy)
        return NULL;
    if (count)
        memcpy(copy, bytes, count);
    copy[count] = 0;
    return copy;
}

void *string_pool_alloc(struct string_pool *pool, size_t bytes)
{
    return pool_take(pool, bytes, 8);
}

void string_pool_deinit(struct string_pool *pool)
{
    for (struct string_block *block = pool->blocks, *next; block; block = next) {
        next = block->next;
        memory_free(block);
    }
    *pool = (struct string_pool){ 0 };
}

/* ---- bytes ------------------------------------------------------------------------------ */

static bool bytes_reserve(struct bytes *b, size_t more)
{
    size_t needed;
    if (b->failed || !size_add(b->count, more, &needed) || !size_add(needed, 1, &needed) ||
        !array_reserve((void **)&b->data, &b->capacity, needed, 1))
        b->failed = true;
    return !b->failed;
}

void bytes_append(struct bytes *b, const void *data, size_t count)
{
    if (!bytes_reserve(b, count))
        return;
    if (count)
        memcpy(b->data + b->count, data, count);
    b->count += count;
    b->data[b->count] = 0;
}

void bytes_append_text(struct bytes *b, const char *text)
{
    bytes_append(b, text, strlen(text));
}

void bytes_printf(struct bytes *b, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    ASSERT(length >= 0);
    if (!bytes_reserve(b, (size_t)length))
        return;
    va_start(arguments, format);
    vsnprintf(b->data + b->count, (size_t)length + 1, format, arguments);
    va_end(arguments);
    b->count += (size_t)length;
}

void bytes_clear(struct bytes *b)
{
    b->count = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = 0;
}

void bytes_deinit(struct bytes *b)
{
    memory_free(b->data);
    *b = (struct bytes){ 0 };
}
