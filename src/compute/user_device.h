/* Seam: a device that has people and items resident, and moves people by what they rate, one rating
 * after the other, both vectors of each:
 *
 *   u <- (1 - a) u + a * rating * item,   a = max(rate, 1 / t),   t = ratings of u so far
 *
 * This is the fold of users (recommend/users.h), bit for bit. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum {
    USER_DEVICE_DIM_UNIT = 128, USER_DEVICE_DIM_MAX = 1024,
    USER_DEVICE_TOGETHER = 1 << 20,     /* ratings of a call, at most */
};

struct device_rating {
    uint32_t user, item;
    float rating;               /* of rating_max */
};

struct device_people {
    const float *items;         /* [item_count][dim], copied */
    size_t item_count, dim, user_count;
    float fast, slow;           /* rates, 0 to 1 */
    double rating_max;          /* what a rating is divided by */
};

struct user_device;

struct user_device_ops {
    /* Nobody has rated yet. AKIN_UNSUPPORTED: a dimension that is no multiple of
     * USER_DEVICE_DIM_UNIT or too large, no users or items, or too many; AKIN_MEMORY. */
    enum akin_status (*create)(int ordinal, const struct device_people *people,
                               struct user_device **device, struct akin_error *error);
    void (*destroy)(struct user_device **device);
    /* Where ratings are written, [USER_DEVICE_TOGETHER]: memory of the host that the card reads by
     * itself. Not during a call. */
    struct device_rating *(*room)(struct user_device *device);
    /* The first `count` there, those of a user in their order: the same bits however they are cut
     * into calls, both products and their sum rounded (blend_f32 of compute/cpu/kernels.h).
     * AKIN_ARGUMENT, and nothing is changed: a user or an item that there is not, a rating that is
     * not finite. */
    enum akin_status (*apply)(struct user_device *device, size_t count, struct akin_error *error);
    /* vectors [count][2][dim] of users from `first`, fast and slow; zeros of who has not rated.
     * AKIN_ARGUMENT. */
    enum akin_status (*read)(struct user_device *device, size_t first, size_t count,
                             float *vectors, struct akin_error *error);
    /* Nobody has rated, again. */
    void (*clear)(struct user_device *device);
    /* Of the last apply that had no error, by the card's clock, without the copies. */
    double (*elapsed_ms)(const struct user_device *device);
    /* Bytes of the card that it holds. */
    size_t (*memory)(const struct user_device *device);
};
