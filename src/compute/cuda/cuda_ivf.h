/* Inverted files on CUDA; compute/ivf_device.h says what they are. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#include "compute/ivf_device.h"

const struct ivf_device_ops *cuda_ivf_ops(void);

#ifdef __cplusplus
}
#endif
