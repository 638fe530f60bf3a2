/* What CUDA found here and what is missing, for who asks; see akin_engine_gpus. */
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "compute/cuda_plugin.h"
#include "compute/nvml.h"
#include "engine/engine.h"

__attribute__((format(printf, 3, 4))) static void
lack(struct akin_gpu_support *s, const char *fix, const char *what, ...)
{
    va_list args;
    if (s->lacks_count == AKIN_GPU_LACKS_MAX)
        return;
    va_start(args, what);
    vsnprintf(s->lacks[s->lacks_count].what, sizeof s->lacks[0].what, what, args);
    va_end(args);
    snprintf(s->lacks[s->lacks_count++].fix, sizeof s->lacks[0].fix, "%s", fix);
}

/* 13010 is 13.1. */
static void cuda_version(char *text, size_t bytes, int version)
{
    text[0] = '\0';
    if (version > 0)
        snprintf(text, bytes, "%d.%d", version / 1000, version % 1000 / 10);
}

static void describe_one(const struct cuda_plugin *plugin, int ordinal, const struct numa *numa,
                         struct akin_gpu_support *s)
{
    struct cuda_description d = { 0 };
    struct akin_error error = { 0 };
    struct akin_gpu *gpu = &s->gpus[s->count++];
    bool fine = engine_gpu_check(plugin, ordinal, &d, &error) == AKIN_OK;
    *gpu = (struct akin_gpu){ .node = -1, .processors = d.processors, .capability = d.capability,
                              .memory_bytes = d.memory_total, .memory_free_bytes = d.memory_free };
    snprintf(gpu->name, sizeof gpu->name, "%s", d.name);
    snprintf(gpu->bus, sizeof gpu->bus, "%s", d.bus);
    if (!fine) {
        snprintf(gpu->why_not, sizeof gpu->why_not, "%.255s", error.message);
        lack(s, "use another GPU (--device cuda:N), or --device cpu", "%.380s", error.message);
    }
    if (numa && *d.bus)
        gpu->node = numa_node_of_device(numa, d.bus);
    if (*s->runtime || d.runtime == 0)
        return;
    cuda_version(s->driver_cuda, sizeof s->driver_cuda, d.driver);
    cuda_version(s->runtime, sizeof s->runtime, d.runtime);
    snprintf(s->cublaslt, sizeof s->cublaslt, "%zu.%zu.%zu", d.blas / 10000 % 1000,
             d.blas / 100 % 100, d.blas % 100);
}

static void describe_all(const struct cuda_plugin *plugin, struct akin_gpu_support *s)
{
    struct numa *numa = NULL;
    struct cuda_description d;
    struct akin_error error = { 0 };
    int count = plugin->device_count();
    if (count <= 0) {
        bool asked = plugin->device_describe(0, &d, &error) == AKIN_OK;
        lack(s, "see nvidia-smi; a container needs --gpus all",
             "CUDA finds no GPU that it can use%s%.300s", asked ? "" : ": ", error.message);
        return;
    }
    if (numa_open(NULL, true, &numa, NULL) != AKIN_OK)
        numa = NULL;
    for (int i = 0; i < count && i < AKIN_GPUS_MAX; i++)
        describe_one(plugin, i, numa, s);
    numa_close(&numa);
}

static void ask_libraries(const struct cuda_plugin *plugin, struct akin_gpu_support *s)
{
    struct nvml *nvml = nvml_open(NULL);
    s->nvml = nvml != NULL;
    if (nvml)
        snprintf(s->driver, sizeof s->driver, "%s", nvml_driver(nvml));
    else
        lack(s, "install the driver's libnvidia-ml.so.1 (a container: NVIDIA_DRIVER_CAPABILITIES="
             "compute,utility)", "NVML is not there: training tells no load, power or clocks");
    nvml_close(&nvml);
    int nccl = cuda_nccl_version();
    if (nccl > 0)
        snprintf(s->nccl, sizeof s->nccl, "%d.%d.%d", nccl / 10000, nccl / 100 % 100, nccl % 100);
    else
        lack(s, "install libnccl2", "NCCL is not there: gradients of several GPUs go through the "
             "host");
    if (nccl > 0 && !plugin->sum_id)
        lack(s, "build libakin-cuda.so where nccl.h is", "libakin-cuda.so was built without NCCL: "
             "gradients of several GPUs go through the host");
}

void akin_engine_gpus(const struct akin_engine *engine, struct akin_gpu_support *support)
{
    const struct cuda_plugin *plugin;
    struct akin_error error = { 0 };
    *support = (struct akin_gpu_support){ .count = 0 };
    if (engine_plugin_load(engine, &plugin, &error) != AKIN_OK) {
        lack(support, strstr(error.message, "no NVIDIA driver")
                          ? "install NVIDIA's driver, or go on with the CPU"
                          : "install the CUDA part of akin and what it needs, or go on with the "
                            "CPU",
             "%.380s", error.message);
        return;
    }
    cuda_plugin_where(plugin, support->library, sizeof support->library);
    describe_all(plugin, support);
    ask_libraries(plugin, support);
}
