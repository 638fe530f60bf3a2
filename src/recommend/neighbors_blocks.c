/* A reader enters the current epoch, looks up which block its item points to, copies, and leaves. A
 * block that no item points to any more may still be read by who entered before: it goes into the
 * present epoch's bin, the epoch changes, and when the count of its readers is zero the bin is
 * free. As in McKenney's sleepable RCU (OLS 2006), but a reader enters again when the epoch changed
 * under it, so one change of epoch is enough. */
#include "recommend/neighbors_blocks.h"

#include <stdatomic.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"

enum { NO_BLOCK = UINT32_MAX };

struct block {
    size_t found;
    struct akin_neighbor list[AKIN_NEIGHBORS_MAX];
};

struct blocks {
    _Atomic uint32_t *of_row;   /* [items]: the block of a row, or NO_BLOCK */
    struct block *blocks;
    _Atomic uint64_t *made_ns;  /* [block_count]: when its list was computed; 0: not published */
    size_t items, block_count;
    atomic_size_t published;
    uint32_t *unused, *leaving; /* stacks of blocks: nobody sees them; seen by old readers */
    size_t unused_count, leaving_count;
    atomic_uint epoch;
    atomic_size_t readers[2];   /* by epoch, odd and even */
};

struct blocks *blocks_create(size_t items, size_t capacity, size_t spare)
{
    size_t count;
    struct blocks *b = memory_alloc(1, sizeof *b);
    if (!b)
        return NULL;
    if (size_add(capacity, spare, &count) && count < NO_BLOCK) {
        b->of_row = memory_alloc(items, sizeof *b->of_row);
        b->blocks = memory_alloc_aligned(count, sizeof *b->blocks);
        b->made_ns = memory_alloc(count, sizeof *b->made_ns);
        b->unused = memory_alloc(count, sizeof *b->unused);
        b->leaving = memory_alloc(count, sizeof *b->leaving);
    }
    if (!b->of_row || !b->blocks || !b->made_ns || !b->unused || !b->leaving) {
        blocks_destroy(&b);
        return NULL;
    }
    b->items = items;
    b->block_count = count;
    for (size_t i = 0; i < items; i++)
        atomic_store_explicit(&b->of_row[i], NO_BLOCK, memory_order_relaxed);
    for (size_t i = 0; i < count; i++)
        b->unused[b->unused_count++] = (uint32_t)(count - 1 - i);
    return b;
}

void blocks_destroy(struct blocks **blocks)
{
    struct blocks *b = *blocks;
    if (!b)
        return;
    memory_free(b->of_row);
    memory_free(b->blocks);
    memory_free(b->made_ns);
    memory_free(b->unused);
    memory_free(b->leaving);
    memory_free(b);
    *blocks = NULL;
}

/* ---- readers ---------------------------------------------------------------------------- */

static unsigned enter(struct blocks *b)
{
    for (;;) {
        unsigned epoch = atomic_load(&b->epoch);
        atomic_fetch_add(&b->readers[epoch & 1], 1);
        if (atomic_load(&b->epoch) == epoch)
            return epoch;
        atomic_fetch_sub(&b->readers[epoch & 1], 1);
    }
}

bool blocks_read(struct blocks *b, uint32_t row, struct akin_neighbor *list, size_t *found)
{
    if (row >= b->items)
        return false;
    unsigned epoch = enter(b);
    uint32_t place = atomic_load(&b->of_row[row]);
    if (place != NO_BLOCK) {
        const struct block *block = &b->blocks[place];
        *found = block->found;
        memcpy(list, block->list, block->found * sizeof *list);
    }
    atomic_fetch_sub(&b->readers[epoch & 1], 1);
    return place != NO_BLOCK;
}

/* ---- the writer ------------------------------------------------------------------------- */

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Waits for readers, each of whom is in the midst of copying one list. */
static void reclaim(struct blocks *b)
{
    unsigned before = atomic_fetch_add(&b->epoch, 1);
    while (atomic_load(&b->readers[before & 1]) > 0)
        pause_cpu();
    while (b->leaving_count)
        b->unused[b->unused_count++] = b->leaving[--b->leaving_count];
}

static void retire(struct blocks *b, uint32_t place)
{
    if (place == NO_BLOCK)
        return;
    atomic_store_explicit(&b->made_ns[place], 0, memory_order_relaxed);
    b->leaving[b->leaving_count++] = place;
    atomic_fetch_sub(&b->published, 1);
}

struct akin_neighbor *blocks_blank(struct blocks *b)
{
    if (b->unused_count == 0)
        reclaim(b);
    ASSERT(b->unused_count > 0);
    return b->blocks[b->unused[b->unused_count - 1]].list;
}

void blocks_publish(struct blocks *b, uint32_t row, size_t found, uint64_t now_ns)
{
    ASSERT(row < b->items && found <= AKIN_NEIGHBORS_MAX && b->unused_count > 0);
    uint32_t place = b->unused[--b->unused_count];
    b->blocks[place].found = found;
    atomic_store_explicit(&b->made_ns[place], now_ns ? now_ns : 1, memory_order_relaxed);
    atomic_fetch_add(&b->published, 1);
    retire(b, atomic_exchange(&b->of_row[row], place));
}

void blocks_withdraw(struct blocks *b, uint32_t row)
{
    ASSERT(row < b->items);
    retire(b, atomic_exchange(&b->of_row[row], NO_BLOCK));
}

bool blocks_has(const struct blocks *b, uint32_t row)
{
    return row < b->items && atomic_load(&b->of_row[row]) != NO_BLOCK;
}

/* ---- for reports ------------------------------------------------------------------------ */

size_t blocks_count(const struct blocks *b)
{
    return atomic_load(&b->published);
}

size_t blocks_bytes(const struct blocks *b)
{
    return b->items * sizeof *b->of_row +
           b->block_count * (sizeof *b->blocks + sizeof *b->made_ns + 2 * sizeof *b->unused);
}

void blocks_ages(const struct blocks *b, uint64_t now_ns, double *mean, double *max)
{
    size_t count = 0;
    double sum = 0, most = 0;
    for (size_t i = 0; i < b->block_count; i++) {
        uint64_t made = atomic_load_explicit(&b->made_ns[i], memory_order_relaxed);
        if (!made)
            continue;
        double age = made < now_ns ? (double)(now_ns - made) * 1e-9 : 0;
        sum += age;
        most = age > most ? age : most;
        count++;
    }
    *mean = count ? sum / (double)count : 0;
    *max = most;
}
