/* See gpu_report.h. */
#include "cli/gpu_report.h"

size_t gpus_usable(const struct akin_gpu_support *s)
{
    size_t usable = 0;
    for (size_t i = 0; i < s->count; i++)
        usable += !*s->gpus[i].why_not;
    return usable;
}

static json_t *gpu_json(const struct akin_gpu *gpu)
{
    json_t *o = json_object();
    char capability[16] = "";
    if (gpu->capability)
        snprintf(capability, sizeof capability, "%d.%d", gpu->capability / 10,
                 gpu->capability % 10);
    json_object_set_new(o, "name", json_of_known(gpu->name));
    json_object_set_new(o, "bus", json_of_known(gpu->bus));
    json_object_set_new(o, "node", gpu->node < 0 ? json_null() : json_integer(gpu->node));
    json_object_set_new(o, "processors", json_integer(gpu->processors));
    json_object_set_new(o, "capability", json_of_known(capability));
    json_object_set_new(o, "memory_bytes", json_of_count(gpu->memory_bytes));
    json_object_set_new(o, "memory_free_bytes", json_of_count(gpu->memory_free_bytes));
    json_object_set_new(o, "why_not", json_of_known(gpu->why_not));
    return o;
}

json_t *gpus_json(const struct akin_gpu_support *s)
{
    json_t *o = json_object(), *gpus = json_array(), *missing = json_array();
    for (size_t i = 0; i < s->count; i++)
        json_array_append_new(gpus, gpu_json(&s->gpus[i]));
    for (size_t i = 0; i < s->lacks_count; i++)
        json_array_append_new(missing, json_pack("{s:o, s:o}", "what",
                                                 json_of_text(s->lacks[i].what), "fix",
                                                 json_of_text(s->lacks[i].fix)));
    json_object_set_new(o, "library", json_of_known(s->library));
    json_object_set_new(o, "driver", json_of_known(s->driver));
    json_object_set_new(o, "driver_cuda", json_of_known(s->driver_cuda));
    json_object_set_new(o, "runtime", json_of_known(s->runtime));
    json_object_set_new(o, "cublaslt", json_of_known(s->cublaslt));
    json_object_set_new(o, "nccl", json_of_known(s->nccl));
    json_object_set_new(o, "nvml", json_boolean(s->nvml));
    json_object_set_new(o, "gpus", gpus);
    json_object_set_new(o, "missing", missing);
    return o;
}

static void version_append(struct bytes *text, const char *name, const char *version)
{
    if (*version)
        bytes_printf(text, "%s%s %s", text->count ? ", " : "", name, version);
}

static void gpu_append(struct bytes *text, const struct akin_gpu *gpu)
{
    char all[NUMBER_BYTES], left[NUMBER_BYTES];
    if (!gpu->capability) {
        bytes_printf(text, "not usable: %s", gpu->why_not);
        return;
    }
    bytes_printf(text, "%s, %s (%s free), capability %d.%d, %d processors, PCI %s", gpu->name,
                 format_bytes(all, gpu->memory_bytes), format_bytes(left, gpu->memory_free_bytes),
                 gpu->capability / 10, gpu->capability % 10, gpu->processors, gpu->bus);
    if (gpu->node >= 0)
        bytes_printf(text, ", NUMA node %d", gpu->node);
    if (*gpu->why_not)
        bytes_printf(text, "; not usable: %s", gpu->why_not);
}

void gpus_rows(struct table *table, const struct akin_gpu_support *s)
{
    struct bytes text = {0};
    version_append(&text, "driver", s->driver);
    version_append(&text, "for CUDA", s->driver_cuda);
    version_append(&text, "runtime", s->runtime);
    version_append(&text, "cuBLASLt", s->cublaslt);
    version_append(&text, "NCCL", s->nccl);
    if (s->nvml)
        bytes_printf(&text, "%sNVML", text.count ? ", " : "");
    table_cell(table, "CUDA");
    table_cell(table, "%s", *s->library ? s->library : "not used");
    if (text.count && !text.failed) {
        table_cell(table, " ");
        table_cell(table, "%s", text.data);
    }
    for (size_t i = 0; i < s->count; i++) {
        bytes_clear(&text);
        gpu_append(&text, &s->gpus[i]);
        table_cell(table, "GPU %zu", i);
        table_cell(table, "%s", text.failed ? "" : text.data);
    }
    for (size_t i = 0; i < s->lacks_count; i++) {
        table_cell(table, " ");
        table_cell(table, "%s (%s)", s->lacks[i].what, s->lacks[i].fix);
    }
    bytes_deinit(&text);
}

json_t *gpu_memory_json(const struct akin_engine *engine)
{
    json_t *o = json_object();
    struct akin_gpu_memory m;
    for (int i = 0; akin_engine_gpu_memory(engine, i, &m); i++) {
        const struct {
            const char *name;
            uint64_t bytes;
        } uses[] = {
            {"encoder", m.encoder}, {"search", m.search},   {"index", m.index},
            {"users", m.users},     {"personal", m.personal}, {"bandits", m.bandits},
            {"graph", m.graph},     {"training", m.training}, {"other", m.other},
            {"total", m.total},
        };
        char name[16];
        json_t *gpu = json_object();
        for (size_t u = 0; u < sizeof uses / sizeof uses[0]; u++)
            if (uses[u].bytes || u + 1 == sizeof uses / sizeof uses[0])
                json_object_set_new(gpu, uses[u].name, json_of_count(uses[u].bytes));
        snprintf(name, sizeof name, "cuda:%d", i);
        json_object_set_new(o, name, gpu);
    }
    return o;
}

json_t *parts_json(const struct akin_engine *engine)
{
    json_t *o = json_object();
    const char *device, *name;
    for (size_t i = 0; (name = akin_engine_part(engine, i, &device)); i++)
        json_object_set_new(o, name, json_of_text(device));
    return o;
}

void parts_row(struct table *table, const struct akin_engine *engine)
{
    struct bytes text = {0};
    const char *device, *name;
    for (size_t i = 0; (name = akin_engine_part(engine, i, &device)); i++)
        bytes_printf(&text, "%s%s %s", i ? ", " : "", name, device);
    table_cell(table, "parts");
    table_cell(table, "%s", text.failed ? "" : text.data);
    bytes_deinit(&text);
}
