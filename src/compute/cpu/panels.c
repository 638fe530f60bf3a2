/* Where packed weights lie. Those of one backend share blocks in huge pages: a pass over a text
 * reads every panel once, megabytes of them, and small pages then cost a walk through the page
 * tables each. Small panels are on their own, where a checker of memory sees their ends, and so are
 * those that are about to be copied to the nodes of a machine (replica.c).
 *
 * A block counts who uses it, the backend among them while it takes from it, and the last one frees
 * it: models are closed in any order, and on any thread. */
#include <stdatomic.h>

#include "base/thread.h"
#include "compute/cpu/backend_cpu.h"

/* From OWN_BELOW on, panels share; from BLOCK_BYTES on, memory comes in huge pages. */
enum { OWN_BELOW = 128 << 10, BLOCK_BYTES = 8 << 20 };

struct panel_block {
    struct arena arena;
    atomic_size_t users;
};

static void leave(struct panel_block *block)
{
    if (block && atomic_fetch_sub(&block->users, 1) == 1) {
        arena_deinit(&block->arena);
        memory_free(block);
    }
}

/* For the backend; NULL: no memory. */
static struct panel_block *block_create(size_t bytes)
{
    struct panel_block *block = memory_alloc(1, sizeof *block);
    if (block && !arena_init(&block->arena, bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES)) {
        memory_free(block);
        return NULL;
    }
    if (block)
        atomic_init(&block->users, 1);
    return block;
}

/* From the backend's block, or from a new one in its place. Only the holder of the lock makes users
 * more, so a block without one but the backend stays so and is begun anew. */
static void *take(struct cpu_backend *backend, size_t bytes)
{
    struct panel_block *block = backend->panels;
    if (block && atomic_load(&block->users) == 1)
        arena_reset(&block->arena);
    void *panels = block ? arena_alloc(&block->arena, bytes, 1) : NULL;
    if (panels)
        return panels;
    block = block_create(bytes);
    if (!block)
        return NULL;
    leave(backend->panels);
    backend->panels = block;
    return arena_alloc(&block->arena, bytes, 1);
}

void *panels_take(struct cpu_backend *backend, size_t count, size_t bytes,
                  struct panel_block **block)
{
    size_t total;
    *block = NULL;
    if (!size_mul(count, bytes, &total) || !size_add(total, 63, &total))
        return NULL;
    total &= ~(size_t)63;
    if (total < OWN_BELOW || backend->nodes > 1)
        return memory_alloc_aligned(total, 1);
    mutex_lock(backend->panels_lock);
    void *panels = take(backend, total);
    if (panels) {
        *block = backend->panels;
        atomic_fetch_add(&backend->panels->users, 1);
    }
    mutex_unlock(backend->panels_lock);
    return panels;
}

void panels_give(struct panel_block *block, void *panels)
{
    if (block)
        leave(block);
    else
        memory_free(panels);
}

void panels_close(struct cpu_backend *backend)
{
    leave(backend->panels);
    mutex_destroy(&backend->panels_lock);
}
