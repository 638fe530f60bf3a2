/* Keys over time: a record of kind key names the old key, the new one, and carries the old one's
 * signature of the change. */
#pragma once

#include "audit/entry.h"
#include "audit/note.h"

struct rotation {
    struct public_key old, new;
};

/* The record at `index` of the log. */
void rotation_append(struct bytes *out, const struct signer *old, const struct public_key *new,
                     uint64_t index);
/* NULL: right, signature included. */
const char *rotation_read(const struct entry *entry, uint64_t index, struct rotation *rotation);

/* The keys of a log, in order: key i signs tree heads of from[i] records and more. */
struct key_chain {
    struct chain_key {
        struct public_key key;
        uint64_t from;
    } *items;
    size_t count, capacity;
};

/* NULL: it continues the chain. */
const char *key_chain_add(struct key_chain *chain, const struct rotation *rotation,
                          uint64_t index);
/* Of tree heads over `size` records; NULL for an empty chain. */
const struct public_key *key_chain_at(const struct key_chain *chain, uint64_t size);
void key_chain_deinit(struct key_chain *chain);
