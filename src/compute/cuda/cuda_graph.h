/* Two hops over people and items on CUDA; compute/graph_device.h says which. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#include "compute/graph_device.h"

const struct graph_device_ops *cuda_graph_ops(void);

#ifdef __cplusplus
}
#endif
