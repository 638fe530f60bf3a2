/* The CUDA encoder; compute/encoder_device.h says what it does. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#include "compute/encoder_device.h"

const struct encoder_device_ops *cuda_encoder_ops(void);

#ifdef __cplusplus
}
#endif
