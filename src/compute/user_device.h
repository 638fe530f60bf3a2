/* Seam: a device that has users' vectors and items' resident, and moves users by what they rate:
 * u becomes (1 - rate) u + rate * rating * item, one rating after the other. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { USER_DEVICE_DIM_UNIT = 128, USER_DEVICE_DIM_MAX = 1024 };

struct device_rating {
    uint32_t user, item;
    float rating;
};

struct user_device;

struct user_device_ops {
    /* items [item_count][dim], copied; users begin at 0. AKIN_UNSUPPORTED: a dimension that is no
     * multiple of USER_DEVICE_DIM_UNIT or too large, no users or items, or too many;
     * AKIN_MEMORY. */
    enum akin_status (*create)(int ordinal, const float *items, size_t item_count, size_t dim,
                               size_t user_count, struct user_device **device,
                               struct akin_error *error);
    void (*destroy)(struct user_device **device);
    /* ratings [count], those of a user in their order: the same bits however they are cut into
     * calls, fmaf(rate * rating, item, (1 - rate) * u). AKIN_ARGUMENT, and nothing is changed: a
     * user or an item that there is not, a rating that is not finite, a rate beyond 0 to 1. */
    enum akin_status (*apply)(struct user_device *device, float rate,
                              const struct device_rating *ratings, size_t count,
                              struct akin_error *error);
    /* vectors [count][dim] of users from `first`, from the device or to it. AKIN_ARGUMENT. */
    enum akin_status (*read)(struct user_device *device, size_t first, size_t count,
                             float *vectors, struct akin_error *error);
    enum akin_status (*write)(struct user_device *device, size_t first, size_t count,
                              const float *vectors, struct akin_error *error);
};
