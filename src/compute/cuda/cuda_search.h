/* Search on CUDA; compute/search_device.h says what it does. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#include "compute/search_device.h"

const struct search_device_ops *cuda_search_ops(void);

#ifdef __cplusplus
}
#endif
