/* One part of a Transformer with made-up tensors, run forwards and backwards on a training device.
 * Equal sizes and seeds make equal tensors, so that the results of two devices can be compared. */
#pragma once

#include "compute/train_ops.h"

enum trial_part {
    TRIAL_SELF_ATTENTION,
    TRIAL_CAUSAL_ATTENTION,
    TRIAL_CROSS_ATTENTION,
    TRIAL_FEED_FORWARD,
    TRIAL_SMOOTH_FEED_FORWARD,  /* no hidden number comes near to 0, where relu has its kink */
    TRIAL_NORM,
    TRIAL_EMBED,
    TRIAL_CROSS_ENTROPY,
    TRIAL_PARTS
};

struct trial_sizes {
    size_t samples, queries, keys, heads, dim, inner, vocab;
};

/* An input of the part, of the host. The gradients of parameters and of `memory` begin with what is
 * in `gradient`; that of x is written. */
struct trial_tensor {
    const char *name;
    size_t count;
    size_t per_sample;          /* 0: a parameter */
    float *value, *gradient;
};

enum { TRIAL_TENSORS_MAX = 12 };

struct trial {
    enum trial_part part;
    struct trial_sizes sizes;
    struct trial_tensor tensors[TRIAL_TENSORS_MAX];
    size_t count;
    size_t rows;                /* of x */
    int32_t *ids;               /* [rows]: tokens of embed, labels of cross_entropy */
    float *y, *y_gradient;      /* [rows][dim]; cross_entropy has none */
    double loss;                /* of cross_entropy; begins with what is in it */
};

const char *trial_part_name(enum trial_part part);

/* Prints and exits where memory is out. */
void trial_create(enum trial_part part, const struct trial_sizes *sizes, uint64_t seed,
                  struct trial *trial);
void trial_destroy(struct trial *trial);

/* Reads values, y_gradient and what gradients begin with; writes y, loss and gradients. `slice`
 * samples a call (0: all at once); `backward` false: y and loss only. */
enum akin_status trial_run(struct train_device *device, const struct train_pass *pass, size_t slice,
                           bool backward, struct trial *trial, struct akin_error *error);
