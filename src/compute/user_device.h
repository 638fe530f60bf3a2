/* Seam: a device that has vectors of users and of items resident, and moves users by what they
 * rate: u becomes keep * u + gain * item, one rating after the other. With keep = 1 - a and gain =
 * a * rating this is the fold of users (recommend/users.h), bit for bit; who has two vectors has
 * two users here. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { USER_DEVICE_DIM_UNIT = 128, USER_DEVICE_DIM_MAX = 1024 };

struct device_rating {
    uint32_t user, item;
    float keep, gain;           /* keep: 0 to 1; -1: u counts as zeros, whatever it was */
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
     * calls, both products and their sum rounded (blend_f32 of compute/cpu/kernels.h).
     * AKIN_ARGUMENT, and nothing is changed: a user or an item that there is not, a keep that is
     * none, a gain that is not finite. */
    enum akin_status (*apply)(struct user_device *device, const struct device_rating *ratings,
                              size_t count, struct akin_error *error);
    /* vectors [count][dim] of users from `first`, from the device or to it. AKIN_ARGUMENT. */
    enum akin_status (*read)(struct user_device *device, size_t first, size_t count,
                             float *vectors, struct akin_error *error);
    enum akin_status (*write)(struct user_device *device, size_t first, size_t count,
                              const float *vectors, struct akin_error *error);
    /* Of the last apply that had no error, by the card's clock, without the copies. */
    double (*elapsed_ms)(const struct user_device *device);
    /* Bytes of the card that it holds. */
    size_t (*memory)(const struct user_device *device);
};
