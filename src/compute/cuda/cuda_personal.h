/* Personal requests on CUDA; compute/personal_device.h says what they are. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#include "compute/personal_device.h"

const struct personal_device_ops *cuda_personal_ops(void);

#ifdef __cplusplus
}
#endif
