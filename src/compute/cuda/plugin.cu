// What libakin-cuda.so gives: see compute/cuda_plugin.h.
#include <cublasLt.h>
#include <cstdio>
#include <cuda_runtime.h>

#include "compute/cuda/cuda_bandit.h"
#include "compute/cuda/cuda_graph.h"
#include "compute/cuda/encode_device.h"
#include "compute/cuda/cuda_search.h"
#include "compute/cuda/cuda_users.h"
#include "compute/cuda/train_device.h"

extern "C" {

__attribute__((visibility("default"))) const struct cuda_plugin *akin_cuda_plugin(void);

static int device_count(void)
{
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

static enum akin_status device_describe(int ordinal, struct cuda_description *d,
                                        struct akin_error *error)
{
    cudaDeviceProp properties;
    *d = {};
    cudaError_t code = cudaSetDevice(ordinal);
    if (code == cudaSuccess)
        code = cudaGetDeviceProperties(&properties, ordinal);
    if (code == cudaSuccess)
        code = cudaMemGetInfo(&d->memory_free, &d->memory_total);
    if (code == cudaSuccess)
        code = cudaDriverGetVersion(&d->driver);
    if (code == cudaSuccess)
        code = cudaRuntimeGetVersion(&d->runtime);
    if (code != cudaSuccess)
        return error_set(error, AKIN_NOT_FOUND, "CUDA device %d: %s", ordinal,
                         cudaGetErrorString(code));
    snprintf(d->name, sizeof d->name, "%s", properties.name);
    d->processors = properties.multiProcessorCount;
    d->capability = 10 * properties.major + properties.minor;
    d->blas = cublasLtGetVersion();
    return AKIN_OK;
}

const struct cuda_plugin *akin_cuda_plugin(void)
{
    static const struct cuda_plugin plugin = {
        CUDA_PLUGIN_VERSION, device_count, device_describe, cuda_encoder_ops(), cuda_search_ops(),
        cuda_bandit_ops(), cuda_user_ops(), cuda_graph_ops(), cuda_train_create, cuda_train_peak_bytes,
#ifdef AKIN_NCCL
        cuda_sum_id, cuda_sum_create, cuda_sum_start, cuda_sum_wait, cuda_sum_destroy,
#else
        nullptr, nullptr, nullptr, nullptr, nullptr,
#endif
    };
    return &plugin;
}

}
