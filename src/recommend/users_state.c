/* See users_state.h. A state is the header below, the last ratings, both vectors, the rows seen,
 * and XXH3 of all these. */
#include "recommend/users_state.h"

#include <string.h>

#include "base/hash.h"
#include "catalog/catalog.h"
#include "compute/cpu/kernels.h"

enum { STATE_LAYOUT = 1 };

struct state_header {
    uint32_t layout, dim;
    uint64_t number, count, live;
    uint32_t recent_count, seen_count;
};

_Static_assert(sizeof(struct state_header) == 40, "written as it lies in memory");
_Static_assert(sizeof(struct akin_rating) == 16, "written as it lies in memory");

/* ---- the fold --------------------------------------------------------------------------- */

static void move(const struct user_fold *fold, float *u, float rate, uint64_t count,
                 const struct akin_rating *rating)
{
    float share = user_fold_share(rate, count);
    fold->kernels->blend_f32(u, 1 - share, fold->vectors + rating->row * fold->dim,
                             share * rating->rating, fold->dim);
}

void user_fold_step(const struct user_fold *fold, float *fast, float *slow, uint64_t count,
                    const struct akin_rating *rating)
{
    move(fold, fast, fold->fast, count, rating);
    move(fold, slow, fold->slow, count, rating);
}

void user_slot_step(const struct user_fold *fold, struct user_slot *u,
                    const struct akin_rating *rating)
{
    u->recent[u->count++ % USER_RECENT] = *rating;
    user_fold_step(fold, u->vectors, u->vectors + fold->dim, u->count, rating);
}

size_t user_slot_recent(const struct user_slot *u, struct akin_rating *recent)
{
    size_t count = u->count < USER_RECENT ? (size_t)u->count : USER_RECENT;
    size_t from = (u->count - count) % USER_RECENT;
    size_t first = count < USER_RECENT - from ? count : USER_RECENT - from;
    memcpy(recent, u->recent + from, first * sizeof *recent);
    memcpy(recent + first, u->recent, (count - first) * sizeof *recent);
    return count;
}

/* ---- bytes ------------------------------------------------------------------------------ */

void user_state_encode(const struct user_fold *fold, const struct shard *shard,
                       const struct user_slot *u, struct bytes *out)
{
    struct akin_rating recent[USER_RECENT];
    size_t start = out->count, recent_count = user_slot_recent(u, recent);
    struct state_header header = {
        .layout = STATE_LAYOUT, .dim = (uint32_t)fold->dim, .number = u->number,
        .count = u->count, .live = u->live, .recent_count = (uint32_t)recent_count,
        .seen_count = u->seen_count,
    };
    bytes_append(out, &header, sizeof header);
    bytes_append(out, recent, recent_count * sizeof *recent);
    bytes_append(out, u->vectors, 2 * fold->dim * sizeof *u->vectors);
    static const uint32_t none;
    size_t rows = out->count;
    for (size_t i = 0; i < u->seen_count; i++)
        bytes_append(out, &none, sizeof none);
    if (out->failed)
        return;
    shard_seen(shard, u, out->data + rows);
    uint64_t checksum = hash_bytes(out->data + start, out->count - start);
    bytes_append(out, &checksum, sizeof checksum);
}

bool user_state_decode(const struct user_fold *fold, struct shard *shard, struct user_slot *u,
                       const void *bytes, size_t count)
{
    const unsigned char *at = bytes;
    struct state_header header;
    struct akin_rating recent;
    uint64_t checksum;
    uint32_t row;
    size_t vector_bytes = 2 * fold->dim * sizeof *u->vectors;
    if (count < sizeof header + sizeof checksum)
        return false;
    memcpy(&header, at, sizeof header);
    memcpy(&checksum, at + count - sizeof checksum, sizeof checksum);
    if (header.layout != STATE_LAYOUT || header.dim != fold->dim ||
        header.recent_count > USER_RECENT || header.recent_count > header.count ||
        header.seen_count > fold->items ||
        count != sizeof header + header.recent_count * sizeof recent + vector_bytes +
                     header.seen_count * sizeof row + sizeof checksum ||
        checksum != hash_bytes(at, count - sizeof checksum))
        return false;
    const unsigned char *ratings = at + sizeof header;
    const unsigned char *vectors = ratings + header.recent_count * sizeof recent;
    const unsigned char *rows = vectors + vector_bytes;
    for (size_t i = 0; i < header.recent_count; i++) {
        memcpy(&recent, ratings + i * sizeof recent, sizeof recent);
        if (recent.row >= fold->items)
            return false;
    }
    for (size_t i = 0; i < header.seen_count; i++) {
        memcpy(&row, rows + i * sizeof row, sizeof row);
        if (row >= fold->items || !shard_see(shard, u, row)) {
            shard_unsee(shard, u);
            return false;
        }
    }
    for (size_t i = 0; i < header.recent_count; i++)
        memcpy(&u->recent[(header.count - header.recent_count + i) % USER_RECENT],
               ratings + i * sizeof recent, sizeof recent);
    memcpy(u->vectors, vectors, vector_bytes);
    u->number = header.number;
    u->count = header.count;
    u->live = header.live;
    return true;
}

uint64_t user_state_fingerprint(const struct user_fold *fold, const struct catalog *catalog)
{
    struct {
        uint64_t layout, dim, items, items_hash, ratings_hash, vectors_hash;
        double rating_max;
        float fast, slow;
    } all = { .layout = STATE_LAYOUT, .dim = fold->dim, .items = fold->items,
              .rating_max = catalog_rating_max(catalog), .fast = fold->fast, .slow = fold->slow };
    catalog_fingerprints(catalog, &all.items_hash, &all.ratings_hash);
    all.vectors_hash =
        hash_bytes(fold->vectors, fold->items * fold->dim * sizeof *fold->vectors);
    return hash_bytes(&all, sizeof all);
}
