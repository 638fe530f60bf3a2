/* The Merkle tree of RFC 6962; the checks of proofs are those of RFC 9162, 2.1.3.2 and 2.1.4.2. */
#include "audit/tree.h"

#include <string.h>

#include "base/hash.h"

bool tree_hash_equal(const struct tree_hash *a, const struct tree_hash *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

void tree_leaf(const void *entry, size_t bytes, struct tree_hash *out)
{
    struct sha256 sha;
    sha256_begin(&sha);
    sha256_add(&sha, "\0", 1);
    sha256_add(&sha, entry, bytes);
    sha256_end_bytes(&sha, out->bytes);
}

void tree_node(const struct tree_hash *left, const struct tree_hash *right, struct tree_hash *out)
{
    unsigned char both[1 + 2 * TREE_HASH_BYTES];
    struct sha256 sha;
    both[0] = 1;
    memcpy(both + 1, left, TREE_HASH_BYTES);
    memcpy(both + 1 + TREE_HASH_BYTES, right, TREE_HASH_BYTES);
    sha256_begin(&sha);
    sha256_add(&sha, both, sizeof both);
    sha256_end_bytes(&sha, out->bytes);
}

void tree_edge_add(struct tree_edge *edge, const struct tree_hash *leaf,
                   void (*grown)(void *context, unsigned level, const struct tree_hash *hash),
                   void *context)
{
    struct tree_hash hash = *leaf;
    unsigned height = 0;
    for (; edge->size >> height & 1; height++) {
        tree_node(&edge->nodes[height], &hash, &hash);
        if (grown && (height + 1) % 8 == 0)
            grown(context, (height + 1) / 8, &hash);
    }
    edge->nodes[height] = hash;
    edge->size++;
}

void tree_edge_root(const struct tree_edge *edge, struct tree_hash *root)
{
    struct tree_hash hash;
    bool begun = false;
    struct sha256 sha;
    sha256_begin(&sha);
    sha256_end_bytes(&sha, hash.bytes);     /* of the empty tree */
    for (unsigned height = 0; height < TREE_HEIGHT_MAX; height++) {
        if (!(edge->size >> height & 1))
            continue;
        if (begun)
            tree_node(&edge->nodes[height], &hash, &hash);
        else
            hash = edge->nodes[height];
        begun = true;
    }
    *root = hash;
}

void tree_of(const struct tree_hash *hashes, unsigned height, struct tree_hash *out)
{
    struct tree_edge edge = {0};
    for (size_t i = 0; i < (size_t)1 << height; i++)
        tree_edge_add(&edge, &hashes[i], NULL, NULL);
    *out = edge.nodes[height];
}

/* ---- making proofs ----------------------------------------------------------------------- */

/* The largest power of two below `count`, as a height; count >= 2. */
static unsigned split_height(uint64_t count)
{
    return 63 - (unsigned)__builtin_clzll(count - 1);
}

/* MTH(D[begin:end]) where begin is a multiple of every perfect subtree inside. */
static enum akin_status range_hash(const struct tree_source *source, uint64_t begin, uint64_t end,
                                   struct tree_hash *out, struct akin_error *error)
{
    struct tree_hash parts[TREE_HEIGHT_MAX];
    size_t count = 0;
    while (begin < end) {
        unsigned height = 63 - (unsigned)__builtin_clzll(end - begin);
        TRY(source->node(source->context, height, begin >> height, &parts[count++], error));
        begin += (uint64_t)1 << height;
    }
    *out = parts[--count];
    while (count)
        tree_node(&parts[--count], out, out);
    return AKIN_OK;
}

static void reverse(struct tree_proof *proof)
{
    for (size_t i = 0; i < proof->count / 2; i++) {
        struct tree_hash kept = proof->hashes[i];
        proof->hashes[i] = proof->hashes[proof->count - 1 - i];
        proof->hashes[proof->count - 1 - i] = kept;
    }
}

enum akin_status tree_prove(const struct tree_source *source, uint64_t index, uint64_t size,
                            struct tree_proof *proof, struct akin_error *error)
{
    uint64_t begin = 0, end = size;
    proof->count = 0;
    while (end - begin > 1) {
        uint64_t middle = begin + ((uint64_t)1 << split_height(end - begin));
        struct tree_hash *out = &proof->hashes[proof->count++];
        if (index < middle) {
            TRY(range_hash(source, middle, end, out, error));
            end = middle;
        } else {
            TRY(range_hash(source, begin, middle, out, error));
            begin = middle;
        }
    }
    reverse(proof);
    return AKIN_OK;
}

enum akin_status tree_prove_growth(const struct tree_source *source, uint64_t from, uint64_t size,
                                   struct tree_proof *proof, struct akin_error *error)
{
    uint64_t begin = 0, end = size;
    bool whole = true;      /* the earlier tree's root is known to who checks */
    proof->count = 0;
    if (from == 0 || from == size)
        return AKIN_OK;
    while (from != end) {
        uint64_t middle = begin + ((uint64_t)1 << split_height(end - begin));
        struct tree_hash *out = &proof->hashes[proof->count++];
        if (from <= middle) {
            TRY(range_hash(source, middle, end, out, error));
            end = middle;
        } else {
            TRY(range_hash(source, begin, middle, out, error));
            begin = middle;
            whole = false;
        }
    }
    if (!whole)
        TRY(range_hash(source, begin, end, &proof->hashes[proof->count++], error));
    reverse(proof);
    return AKIN_OK;
}

/* ---- checking proofs --------------------------------------------------------------------- */

bool tree_check(const struct tree_hash *leaf, uint64_t index, uint64_t size,
                const struct tree_hash *root, const struct tree_proof *proof)
{
    if (index >= size)
        return false;
    uint64_t at = index, last = size - 1;
    struct tree_hash hash = *leaf;
    for (size_t i = 0; i < proof->count; i++) {
        if (last == 0)
            return false;
        if (at & 1 || at == last) {
            tree_node(&proof->hashes[i], &hash, &hash);
            while (!(at & 1) && at) {
                at >>= 1;
                last >>= 1;
            }
        } else {
            tree_node(&hash, &proof->hashes[i], &hash);
        }
        at >>= 1;
        last >>= 1;
    }
    return last == 0 && tree_hash_equal(&hash, root);
}

bool tree_check_growth(uint64_t from, const struct tree_hash *from_root, uint64_t size,
                       const struct tree_hash *root, const struct tree_proof *proof)
{
    if (from > size)
        return false;
    if (from == size)
        return proof->count == 0 && tree_hash_equal(from_root, root);
    if (from == 0) {
        struct tree_hash empty;
        tree_edge_root(&(struct tree_edge){0}, &empty);
        return proof->count == 0 && tree_hash_equal(from_root, &empty);
    }
    bool power = (from & (from - 1)) == 0;
    if (!power && proof->count == 0)
        return false;
    struct tree_hash old = power ? *from_root : proof->hashes[0], new = old;
    uint64_t at = from - 1, last = size - 1;
    for (; at & 1; at >>= 1)
        last >>= 1;
    for (size_t i = !power; i < proof->count; i++) {
        const struct tree_hash *hash = &proof->hashes[i];
        if (last == 0)
            return false;
        if (at & 1 || at == last) {
            tree_node(hash, &old, &old);
            tree_node(hash, &new, &new);
            while (!(at & 1) && at) {
                at >>= 1;
                last >>= 1;
            }
        } else {
            tree_node(&new, hash, &new);
        }
        at >>= 1;
        last >>= 1;
    }
    return last == 0 && tree_hash_equal(&old, from_root) && tree_hash_equal(&new, root);
}
