/* The Merkle tree of RFC 6962: hashes, the right edge of a tree that grows, proofs. Knows nothing
 * of files. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum {
    TREE_HASH_BYTES = 32,
    TREE_HEIGHT_MAX = 64,
    TREE_PROOF_MAX = 2 * TREE_HEIGHT_MAX,   /* hashes of one proof */
};

struct tree_hash {
    unsigned char bytes[TREE_HASH_BYTES];
};

bool tree_hash_equal(const struct tree_hash *a, const struct tree_hash *b);
void tree_leaf(const void *entry, size_t bytes, struct tree_hash *out);
void tree_node(const struct tree_hash *left, const struct tree_hash *right, struct tree_hash *out);
/* Of 2^height hashes side by side. */
void tree_of(const struct tree_hash *hashes, unsigned height, struct tree_hash *out);

/* What has to be known of a tree of `size` leaves to go on: the hash of the perfect subtree of each
 * height whose bit is set in size, from the left the highest. */
struct tree_edge {
    uint64_t size;
    struct tree_hash nodes[TREE_HEIGHT_MAX];
};

/* Adds a leaf. grown(context, level, hash) (may be NULL) hears of every perfect subtree of height
 * 8 * level, level >= 1, that it completes. */
void tree_edge_add(struct tree_edge *edge, const struct tree_hash *leaf,
                   void (*grown)(void *context, unsigned level, const struct tree_hash *hash),
                   void *context);
void tree_edge_root(const struct tree_edge *edge, struct tree_hash *root);

/* ---- proofs ------------------------------------------------------------------------------ */

/* Where the hash of the perfect subtree over leaves [index << height, (index + 1) << height) is. */
struct tree_source {
    void *context;
    enum akin_status (*node)(void *context, unsigned height, uint64_t index,
                             struct tree_hash *out, struct akin_error *error);
};

struct tree_proof {
    struct tree_hash hashes[TREE_PROOF_MAX];
    size_t count;
};

/* RFC 6962, 2.1.1: leaf `index` of the tree of `size` leaves, index < size. */
enum akin_status tree_prove(const struct tree_source *source, uint64_t index, uint64_t size,
                            struct tree_proof *proof, struct akin_error *error);
/* 2.1.2: the tree of `size` leaves continues that of `from`, from <= size. */
enum akin_status tree_prove_growth(const struct tree_source *source, uint64_t from, uint64_t size,
                                   struct tree_proof *proof, struct akin_error *error);

bool tree_check(const struct tree_hash *leaf, uint64_t index, uint64_t size,
                const struct tree_hash *root, const struct tree_proof *proof);
bool tree_check_growth(uint64_t from, const struct tree_hash *from_root, uint64_t size,
                       const struct tree_hash *root, const struct tree_proof *proof);
