/* Seam: a device that has the posteriors of bandits resident and draws of them (Thompson sampling).
 * Draws are those of draw_beta_f32 (compute/cpu/kernels.h) bit for bit, whatever is drawn
 * together. */
#pragma once

#include "compute/backend.h"

/* What a block of a card has shared memory for. */
enum { BANDIT_DEVICE_ARMS_MAX = 16384 };

/* One choice: arms [0, open) of a bandit are drawn. */
struct device_draw {
    uint64_t round;
    uint32_t bandit, open, replica;
};

struct bandit_device;

struct bandit_device_ops {
    /* alpha, beta [bandits][arms], copied. AKIN_UNSUPPORTED: no bandits or more than 65,536, no
     * arms or more than BANDIT_DEVICE_ARMS_MAX; AKIN_MEMORY. */
    enum akin_status (*create)(int ordinal, const float *alpha, const float *beta, size_t bandits,
                               size_t arms, struct bandit_device **device,
                               struct akin_error *error);
    void (*destroy)(struct bandit_device **device);
    /* alpha, beta [count][arms] become those of bandits from `bandit` on. AKIN_ARGUMENT: there are
     * not as many. */
    enum akin_status (*put)(struct bandit_device *device, size_t bandit, size_t count,
                            const float *alpha, const float *beta, struct akin_error *error);
    /* hits [count][k]: the arms with the greatest draws, best first, ties by arm. AKIN_ARGUMENT: a
     * draw names a bandit, an arm or a replica that cannot be, or k is not from 1 to its open
     * arms. One call at a time. */
    enum akin_status (*choose)(struct bandit_device *device, uint64_t seed,
                               const struct device_draw *draws, size_t count, size_t k,
                               struct hit *hits, struct akin_error *error);
    /* Of the last choose that had no error, by the card's clock, without the copies. */
    double (*elapsed_ms)(const struct bandit_device *device);
    /* Bytes of the card that it holds. */
    size_t (*memory)(const struct bandit_device *device);
};
