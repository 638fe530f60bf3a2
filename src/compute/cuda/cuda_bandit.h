/* Thompson sampling on CUDA; compute/bandit_device.h says what it does. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#include "compute/bandit_device.h"

const struct bandit_device_ops *cuda_bandit_ops(void);

#ifdef __cplusplus
}
#endif
