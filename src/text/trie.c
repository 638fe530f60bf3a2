#include "text/trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Free units form a list in order of their index. Blocks older than the last OPEN_BLOCKS are given
 * up: their holes are not worth the search, and building stays linear. */
enum { BLOCK = 256, OPEN_BLOCKS = 16 };

struct pending_node {
    uint32_t node;
    size_t low, high, depth;    /* keys [low, high) share their first `depth` bytes */
};

struct builder {
    struct trie_unit *units;
    uint32_t *next, *previous;      /* free list; the head is unit 0's place, never free */
    size_t count, units_capacity, next_capacity, previous_capacity;
    struct pending_node *queue;
    size_t queued, queue_capacity;
};

static int compare_keys(const void *a, const void *b)
{
    const struct trie_key *x = a, *y = b;
    size_t common = x->count < y->count ? x->count : y->count;
    int order = common ? memcmp(x->bytes, y->bytes, common) : 0;
    if (order != 0)
        return order;
    if (x->count != y->count)
        return x->count < y->count ? -1 : 1;
    return x->value < y->value ? -1 : x->value > y->value;
}

static void unlink_free(struct builder *b, uint32_t unit)
{
    b->next[b->previous[unit]] = b->next[unit];
    b->previous[b->next[unit]] = b->previous[unit];
}

static bool add_block(struct builder *b)
{
    size_t count = b->count + BLOCK;
    if (count >= TRIE_NONE ||
        !array_reserve((void **)&b->units, &b->units_capacity, count, sizeof *b->units) ||
        !array_reserve((void **)&b->next, &b->next_capacity, count, sizeof *b->next) ||
        !array_reserve((void **)&b->previous, &b->previous_capacity, count, sizeof *b->previous))
        return false;
    if (b->count == 0)
        b->next[0] = b->previous[0] = 0;
    for (size_t i = b->count; i < count; i++) {
        b->units[i] = (struct trie_unit){ .base = 0, .parent = TRIE_NONE, .value = TRIE_NONE };
        if (i == 0)
            continue;
        b->previous[i] = b->previous[0];
        b->next[i] = 0;
        b->next[b->previous[0]] = (uint32_t)i;
        b->previous[0] = (uint32_t)i;
    }
    b->count = count;
    size_t oldest = count / BLOCK > OPEN_BLOCKS ? count - (size_t)OPEN_BLOCKS * BLOCK : 0;
    while (b->next[0] != 0 && b->next[0] < oldest)
        unlink_free(b, b->next[0]);
    return true;
}

static bool fits(const struct builder *b, uint32_t base, const unsigned char *labels, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t unit = base ^ labels[i];
        if (unit == 0 || b->units[unit].parent != TRIE_NONE)
            return false;
    }
    return true;
}

static bool find_base(struct builder *b, const unsigned char *labels, size_t count, uint32_t *base)
{
    for (uint32_t unit = b->next[0]; unit != 0; unit = b->next[unit]) {
        *base = unit ^ labels[0];
        if (fits(b, *base, labels, count))
            return true;
    }
    *base = (uint32_t)b->count;     /* a new block is free but for unit 0 of the very first */
    return add_block(b);
}

static bool place_children(struct builder *b, const struct trie_key *keys, struct pending_node at)
{
    unsigned char labels[256];
    size_t begins[257], count = 0;
    if (keys[at.low].count == at.depth) {
        size_t last = at.low;
        while (last + 1 < at.high && keys[last + 1].count == at.depth)
            last++;
        b->units[at.node].value = keys[last].value;
        at.low = last + 1;
    }
    for (size_t i = at.low; i < at.high; i++) {
        unsigned char label = (unsigned char)keys[i].bytes[at.depth];
        if (count == 0 || labels[count - 1] != label) {
            labels[count] = label;
            begins[count++] = i;
        }
    }
    begins[count] = at.high;
    if (count == 0)
        return true;
    uint32_t base;
    if (!find_base(b, labels, count, &base) ||
        !array_reserve((void **)&b->queue, &b->queue_capacity, b->queued + count, sizeof *b->queue))
        return false;
    b->units[at.node].base = base;
    for (size_t i = 0; i < count; i++) {
        uint32_t child = base ^ labels[i];
        unlink_free(b, child);
        b->units[child].parent = at.node;
        b->queue[b->queued++] =
            (struct pending_node){child, begins[i], begins[i + 1], at.depth + 1};
    }
    return true;
}

/* Breadth first: the upper levels, which every look-up passes, lie together. The queue keeps all
 * nodes; it is freed with the builder. */
static bool build(struct builder *b, const struct trie_key *keys, size_t count)
{
    if (!add_block(b) ||
        !array_reserve((void **)&b->queue, &b->queue_capacity, 1, sizeof *b->queue))
        return false;
    if (count > 0)
        b->queue[b->queued++] = (struct pending_node){ TRIE_ROOT, 0, count, 0 };
    for (size_t i = 0; i < b->queued; i++) {
        if (!place_children(b, keys, b->queue[i]))
            return false;
    }
    return true;
}

enum akin_status trie_build(struct trie *trie, struct trie_key *keys, size_t count,
                            size_t *duplicate, struct akin_error *error)
{
    struct builder builder = { 0 };
    size_t kept = 0;
    if (duplicate)
        *duplicate = TRIE_NO_DUPLICATE;
    for (size_t i = 0; i < count; i++) {
        if (keys[i].count > 0)
            keys[kept++] = keys[i];
    }
    if (kept > 0)
        qsort(keys, kept, sizeof *keys, compare_keys);
    for (size_t i = 1; i < kept && duplicate; i++) {
        if (keys[i].count == keys[i - 1].count &&
            memcmp(keys[i].bytes, keys[i - 1].bytes, keys[i].count) == 0)
            *duplicate = keys[i].value;
    }
    bool built = build(&builder, keys, kept);
    memory_free(builder.next);
    memory_free(builder.previous);
    memory_free(builder.queue);
    if (!built) {
        memory_free(builder.units);
        return error_memory(error);
    }
    trie->units = builder.units;
    trie->count = builder.count;
    return AKIN_OK;
}

void trie_deinit(struct trie *trie)
{
    memory_free(trie->units);
    *trie = (struct trie){ 0 };
}

uint32_t trie_walk(const struct trie *trie, uint32_t node, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes && node != TRIE_NONE; i++)
        node = trie_child(trie, node, (unsigned char)text[i]);
    return node;
}

uint32_t trie_get(const struct trie *trie, const char *text, size_t bytes)
{
    uint32_t node = trie_walk(trie, TRIE_ROOT, text, bytes);
    return node == TRIE_NONE || node == TRIE_ROOT ? TRIE_NONE : trie->units[node].value;
}
