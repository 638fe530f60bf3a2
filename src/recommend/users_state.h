/* The fold of ratings, and the state of a user as bytes. */
#pragma once

#include "recommend/users_block.h"

/* What a fold depends on beside the ratings. */
struct user_fold {
    const struct kernels *kernels;
    const float *vectors;       /* [items][dim] */
    size_t dim, items;
    float fast, slow;           /* rates */
};

/* By how much rating number `count`, counted from 1, moves a vector. */
static inline float user_fold_share(float rate, uint64_t count)
{
    float first = 1 / (float)count;
    return first > rate ? first : rate;
}

/* One rating (0 to 1), the user's number `count`, counted from 1. fast, slow [dim]. */
void user_fold_step(const struct user_fold *fold, float *fast, float *slow, uint64_t count,
                    const struct akin_rating *rating);
/* The same to a slot. */
void user_slot_step(const struct user_fold *fold, struct user_slot *slot,
                    const struct akin_rating *rating);
/* The last ratings, oldest first; returns how many. */
size_t user_slot_recent(const struct user_slot *slot, struct akin_rating *recent);

/* Appends the state to `out` (docs/formats.md). */
void user_state_encode(const struct user_fold *fold, const struct shard *shard,
                       const struct user_slot *slot, struct bytes *out);
/* Into an empty slot; false, and it stays empty: not a state of these items, or damaged. */
bool user_state_decode(const struct user_fold *fold, struct shard *shard, struct user_slot *slot,
                       const void *bytes, size_t count);
/* Of all that a state depends on beside the user's events. */
uint64_t user_state_fingerprint(const struct user_fold *fold, const struct catalog *catalog);
