/* The CUDA device of training, as C sees it. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#include "compute/train_ops.h"

/* `ordinal`: which card. AKIN_NOT_FOUND: there is none of that number, or no driver. */
enum akin_status cuda_train_create(int ordinal, enum train_precision precision,
                                   struct train_device **device, struct akin_error *error);

/* The most bytes that it has held at once. */
size_t cuda_train_peak_bytes(const struct train_device *device);

#ifdef __cplusplus
}
#endif
