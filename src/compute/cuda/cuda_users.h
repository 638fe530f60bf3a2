/* Users' vectors on CUDA; compute/user_device.h says what is done to them. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#include "compute/user_device.h"

const struct user_device_ops *cuda_user_ops(void);

#ifdef __cplusplus
}
#endif
