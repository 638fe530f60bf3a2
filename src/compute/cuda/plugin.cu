// What libakin-cuda.so gives: see compute/cuda_plugin.h. The platform knows what cards there are,
// so the emulation of the tests is a plug-in by the same table.
#include "compute/cuda/platform.cuh"

#include "compute/cuda/cuda_devices.h"

extern "C" {

__attribute__((visibility("default"))) const struct cuda_plugin *akin_cuda_plugin(void);

const struct cuda_plugin *akin_cuda_plugin(void)
{
    static const struct cuda_plugin plugin = {
        CUDA_PLUGIN_VERSION, platform_count, platform_describe, platform_held,
        cuda_encoder_ops(), cuda_search_ops(), cuda_bandit_ops(), cuda_user_ops(),
        cuda_personal_ops(), cuda_ivf_ops(), cuda_graph_ops(),
        cuda_train_create, cuda_train_peak_bytes,
#ifdef AKIN_NCCL
        cuda_sum_id, cuda_sum_create, cuda_sum_start, cuda_sum_wait, cuda_sum_destroy,
#else
        nullptr, nullptr, nullptr, nullptr, nullptr,
#endif
    };
    return &plugin;
}

}
