/* A double-array trie from byte strings to numbers (Aoe 1989; children at base ^ byte, so that a
 * padded array needs no bounds checks). Built once, then read by any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define TRIE_NONE UINT32_MAX
#define TRIE_NO_DUPLICATE SIZE_MAX

enum { TRIE_ROOT = 0 };

struct trie_unit {
    uint32_t base;      /* child by byte b: base ^ b */
    uint32_t parent;    /* TRIE_NONE where the unit is free */
    uint32_t value;     /* TRIE_NONE where no key ends */
};

struct trie {
    struct trie_unit *units;
    size_t count;       /* a multiple of 256 */
};

struct trie_key {
    const char *bytes;
    size_t count;
    uint32_t value;
};

/* Sorts `keys`. Of equal keys the one with the highest value stays, and *duplicate (nullable)
 * receives a value of such a key, else TRIE_NO_DUPLICATE. Empty keys are left out. */
enum akin_status trie_build(struct trie *trie, struct trie_key *keys, size_t count,
                            size_t *duplicate, struct akin_error *error);
void trie_deinit(struct trie *trie);

static inline uint32_t trie_child(const struct trie *trie, uint32_t node, unsigned char byte)
{
    uint32_t child = trie->units[node].base ^ byte;
    return trie->units[child].parent == node ? child : TRIE_NONE;
}

/* Bytes of the longest key below `node` that `text` begins with, and its value; 0 for none. */
static inline size_t trie_longest(const struct trie *trie, uint32_t node, const char *text,
                                  size_t bytes, uint32_t *value)
{
    size_t longest = 0;
    for (size_t i = 0; i < bytes; i++) {
        node = trie_child(trie, node, (unsigned char)text[i]);
        if (node == TRIE_NONE)
            break;
        if (trie->units[node].value != TRIE_NONE) {
            longest = i + 1;
            *value = trie->units[node].value;
        }
    }
    return longest;
}

/* The node that `text` leads to, TRIE_NONE where there is none. */
uint32_t trie_walk(const struct trie *trie, uint32_t node, const char *text, size_t bytes);
/* The value of exactly `text`, or TRIE_NONE. */
uint32_t trie_get(const struct trie *trie, const char *text, size_t bytes);
