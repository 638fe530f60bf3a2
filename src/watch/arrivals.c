#include "watch/arrivals.h"

#include <string.h>

enum { SLOT_BYTES_KEPT = 16 << 10 };    /* a slot that had a longer event gives its memory back */

bool arrivals_init(struct arrivals *queue, size_t max, size_t bytes_max)
{
    *queue = (struct arrivals){ .slots = memory_alloc(max, sizeof *queue->slots), .max = max,
                                   .bytes_max = bytes_max };
    return queue->slots;
}

void arrivals_deinit(struct arrivals *queue)
{
    for (size_t i = 0; queue->slots && i < queue->max; i++)
        bytes_deinit(&queue->slots[i].copy);
    memory_free(queue->slots);
    *queue = (struct arrivals){0};
}

struct arrival *arrivals_slot(struct arrivals *queue)
{
    if (queue->count == queue->max || queue->bytes >= queue->bytes_max)
        return NULL;
    return &queue->slots[(queue->first + queue->count) % queue->max];
}

struct arrival *arrivals_at(struct arrivals *queue, size_t i)
{
    return &queue->slots[(queue->first + i) % queue->max];
}

void arrivals_push(struct arrivals *queue)
{
    queue->bytes += arrivals_at(queue, queue->count++)->copy.count;
}

void arrivals_pop(struct arrivals *queue, size_t count)
{
    for (; count; count--) {
        struct arrival *slot = &queue->slots[queue->first];
        queue->bytes -= slot->copy.count;
        if (slot->copy.capacity > SLOT_BYTES_KEPT)
            bytes_deinit(&slot->copy);
        queue->first = (queue->first + 1) % queue->max;
        queue->count--;
    }
}

static size_t put(struct bytes *copy, const char *text, size_t bytes)
{
    size_t at = copy->count;
    bytes_append(copy, bytes ? text : "", bytes);
    bytes_append(copy, "", 1);
    return at;
}

bool arrival_fill(struct arrival *slot, const struct event *from)
{
    const char *const plain[] = {from->time, from->source, from->level, from->id, from->cursor};
    struct event *e = &slot->event;
    const char **const views[] = {&e->time, &e->source, &e->level, &e->id, &e->cursor};
    size_t at[5];
    bytes_clear(&slot->copy);
    slot->copy.failed = false;
    size_t text = put(&slot->copy, from->text, from->text ? from->text_bytes : 0);
    size_t session = put(&slot->copy, from->session, from->session ? from->session_bytes : 0);
    for (int i = 0; i < 5; i++)
        at[i] = put(&slot->copy, plain[i], plain[i] ? strlen(plain[i]) : 0);
    if (slot->copy.failed)
        return false;
    *e = (struct event){ .seq = from->seq, .text = slot->copy.data + text,
                         .session = slot->copy.data + session };
    e->text_bytes = from->text ? from->text_bytes : 0;
    e->session_bytes = from->session ? from->session_bytes : 0;
    for (int i = 0; i < 5; i++)
        *views[i] = slot->copy.data + at[i];
    return true;
}
