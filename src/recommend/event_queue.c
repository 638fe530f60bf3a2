/* A cell is free for put n when its turn is n, and holds the event of put n when it is n + 1. */
#include "recommend/event_queue.h"

#include <stdatomic.h>

#include "base/memory.h"
#include "base/status.h"

struct cell {
    atomic_size_t turn;
    struct akin_cache_event event;
};

struct event_queue {
    struct cell *cells;
    size_t capacity;
    atomic_size_t puts, takes;
};

struct event_queue *event_queue_create(size_t capacity)
{
    ASSERT(capacity && (capacity & (capacity - 1)) == 0);
    struct event_queue *queue = memory_alloc(1, sizeof *queue);
    if (!queue)
        return NULL;
    queue->cells = memory_alloc(capacity, sizeof *queue->cells);
    if (!queue->cells) {
        memory_free(queue);
        return NULL;
    }
    queue->capacity = capacity;
    for (size_t i = 0; i < capacity; i++)
        atomic_store_explicit(&queue->cells[i].turn, i, memory_order_relaxed);
    return queue;
}

void event_queue_destroy(struct event_queue **queue)
{
    if (!*queue)
        return;
    memory_free((*queue)->cells);
    memory_free(*queue);
    *queue = NULL;
}

bool event_queue_put(struct event_queue *queue, struct akin_cache_event event)
{
    size_t at = atomic_load_explicit(&queue->puts, memory_order_relaxed);
    for (;;) {
        struct cell *cell = &queue->cells[at & (queue->capacity - 1)];
        size_t turn = atomic_load_explicit(&cell->turn, memory_order_acquire);
        if (turn == at) {
            if (!atomic_compare_exchange_weak(&queue->puts, &at, at + 1))
                continue;
            cell->event = event;
            atomic_store_explicit(&cell->turn, at + 1, memory_order_release);
            return true;
        }
        if (turn < at)          /* the cell still holds the event of the last round */
            return false;
        at = atomic_load_explicit(&queue->puts, memory_order_relaxed);
    }
}

bool event_queue_take(struct event_queue *queue, struct akin_cache_event *event)
{
    size_t at = atomic_load_explicit(&queue->takes, memory_order_relaxed);
    struct cell *cell = &queue->cells[at & (queue->capacity - 1)];
    if (atomic_load_explicit(&cell->turn, memory_order_acquire) != at + 1)
        return false;
    *event = cell->event;
    atomic_store_explicit(&cell->turn, at + queue->capacity, memory_order_release);
    atomic_store(&queue->takes, at + 1);
    return true;
}

size_t event_queue_puts(const struct event_queue *queue)
{
    return atomic_load(&queue->puts);
}

size_t event_queue_takes(const struct event_queue *queue)
{
    return atomic_load(&queue->takes);
}
