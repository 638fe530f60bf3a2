// What libakin-cuda.so gives: see compute/cuda_plugin.h.
#include <cuda_runtime.h>

#include "compute/cuda/train_device.h"

extern "C" {

#include "compute/cuda_plugin.h"

__attribute__((visibility("default"))) const struct cuda_plugin *akin_cuda_plugin(void);

static int device_count(void)
{
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

const struct cuda_plugin *akin_cuda_plugin(void)
{
    static const struct cuda_plugin plugin = {CUDA_PLUGIN_VERSION, device_count,
                                              cuda_train_create};
    return &plugin;
}

}
