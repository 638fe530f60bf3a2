/* See gpu.h. Peaks are dense tensor-core figures of NVIDIA's data sheets (H100, H200, A100, L40S,
 * L4), of fp32 those without tensor cores, for the power limit that the card is sold with. */
#include "train/gpu.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "compute/cuda_plugin.h"
#include "compute/nvml.h"

/* ---- counting --------------------------------------------------------------------------- */

struct answer {
    size_t count;
    char why[GPU_WHY_BYTES];
};

static void count_here(const char *library, struct answer *answer)
{
    const struct cuda_plugin *plugin;
    struct akin_error error = {0};
    if (cuda_plugin_load(library, &plugin, &error) != AKIN_OK) {
        snprintf(answer->why, sizeof answer->why, "%.500s", error.message);
        return;
    }
    int count = plugin->device_count();
    answer->count = count > 0 ? (size_t)count : 0;
    if (count <= 0)
        snprintf(answer->why, sizeof answer->why, "CUDA finds no GPU that it can use");
}

size_t gpu_count(const char *library, char why[GPU_WHY_BYTES])
{
    why[0] = '\0';
    bool told = library && *library;
    if (!told && !path_exists("/dev/nvidiactl") && !path_exists("/dev/nvidia0") &&
        !path_exists("/dev/dxg"))
        return 0;
    struct answer *answer = memory_share(sizeof *answer);
    pid_t child = answer ? fork() : -1;
    if (child == 0) {
        count_here(library, answer);
        _exit(0);
    }
    int status = 0;
    size_t count = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        snprintf(why, GPU_WHY_BYTES, "the process that looks for GPUs failed");
    } else {
        count = answer->count;
        snprintf(why, GPU_WHY_BYTES, "%s", answer->why);
    }
    memory_unshare(answer, sizeof *answer);
    return count;
}

/* ---- one -------------------------------------------------------------------------------- */

double gpu_peak_flops(const char *name, enum train_precision precision)
{
    static const struct {
        const char *name;       /* the first that is part of the card's */
        double narrow, fp32;    /* TFLOP/s */
    } cards[] = {
        {"H100 PCIe", 756.5, 51.2}, {"H100 NVL", 835.5, 60}, {"H100", 989.4, 66.9},
        {"H200 NVL", 835.5, 60},    {"H200", 989.4, 66.9},   {"A100", 312, 19.5},
        {"L40S", 362, 91.6},        {"L4", 121, 30.3},
    };
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
        const char *at = strstr(name, cards[i].name);
        char after = at ? at[strlen(cards[i].name)] : 'x';
        if (at && (after == '\0' || after == ' ' || after == '-'))
            return 1e12 * (precision == TRAIN_FP32 ? cards[i].fp32 : cards[i].narrow);
    }
    return 0;
}

static enum akin_status describe(const struct cuda_plugin *plugin, int ordinal,
                                 struct gpu_info *info, struct akin_error *error)
{
    struct cuda_description d;
    TRY(plugin->device_describe(ordinal, &d, error));
    *info = (struct gpu_info){.memory_total = d.memory_total, .memory_free = d.memory_free};
    snprintf(info->name, sizeof info->name, "%s", d.name);
    snprintf(info->cuda, sizeof info->cuda, "%d.%d", d.runtime / 1000, d.runtime % 1000 / 10);
    snprintf(info->blas, sizeof info->blas, "%zu.%zu.%zu", d.blas / 10000, d.blas / 100 % 100,
             d.blas % 100);
    struct nvml *nvml = nvml_open(NULL);
    if (nvml)
        snprintf(info->driver, sizeof info->driver, "%s", nvml_driver(nvml));
    nvml_close(&nvml);
    if (d.capability >= 80)
        return AKIN_OK;
    return error_set(error, AKIN_UNSUPPORTED,
                     "%s is of compute capability %d.%d; training needs 8.0 or more: use "
                     "--device cpu", d.name, d.capability / 10, d.capability % 10);
}

enum akin_status gpu_open(const char *library, size_t ordinal, enum train_precision precision,
                          struct train_device **device, struct gpu_info *info,
                          struct akin_error *error)
{
    const struct cuda_plugin *plugin;
    TRY(cuda_plugin_load(library, &plugin, error));
    size_t count = (size_t)plugin->device_count();
    if (ordinal >= count)
        return error_set(error, AKIN_NOT_FOUND,
                         "process %zu of this machine has no GPU of its own: there are %zu",
                         ordinal, count);
    TRY(describe(plugin, (int)ordinal, info, error));
    return plugin->train_create((int)ordinal, precision, device, error);
}

size_t gpu_peak_bytes(const char *library, const struct train_device *device)
{
    const struct cuda_plugin *plugin;
    bool loaded = cuda_plugin_load(library, &plugin, NULL) == AKIN_OK;
    return loaded ? plugin->train_peak_bytes(device) : 0;
}

size_t gpu_extra_bytes(const struct trainer_settings *s, const struct trainer_bytes *bytes)
{
    static const double library = 128 << 20;    /* and 24 MiB of logits, or 128 rows of them */
    double samples = (double)(s->slice && s->slice < s->batch ? s->slice : s->batch);
    double rows = samples * (double)s->shape.seq_len, d = (double)s->shape.d_model;
    double attention = 8 * d, wide = 2 * d + (double)s->shape.feed_forward;
    double narrow = s->precision == TRAIN_FP32 ? 4 : 2;
    double scratch = rows * narrow * (attention > wide ? attention : wide);
    double logits = 128 * narrow * (double)s->shape.vocab;
    double copies = s->precision == TRAIN_FP32 ? 0 : (double)bytes->parameters / 2;
    return (size_t)(library + scratch + logits + copies);
}

/* ---- several ---------------------------------------------------------------------------- */

/* Through the host, or, with `sum`, from card to card. */
struct gpu_reducer {
    const struct cuda_plugin *plugin;
    struct cuda_sum *sum;
    struct gradient_reducer outer;
    const struct gradient_reducer *inner;
    struct train_device *device;
    float *host;                /* [values] */
    float *gradients;           /* of the device, since the first start */
    size_t least, end;          /* what was started of them */
    enum akin_status status;
    struct akin_error error;
};

static void reduce_start(void *context, float *gradients, size_t offset, size_t count)
{
    struct gpu_reducer *r = context;
    const struct train_ops *ops = r->device->ops;
    if (r->sum) {
        r->plugin->sum_start(r->sum, gradients + offset, count);
        return;
    }
    ops->download(r->device, r->host + offset, gradients + offset, count * sizeof(float));
    if (r->status == AKIN_OK)
        r->status = ops->finish(r->device, &r->error);
    r->gradients = gradients;
    r->least = offset < r->least ? offset : r->least;
    r->end = offset + count > r->end ? offset + count : r->end;
    r->inner->start(r->inner->context, r->host, offset, count);
}

static enum akin_status reduce_wait(void *context, struct akin_error *error)
{
    struct gpu_reducer *r = context;
    if (r->sum) {
        r->plugin->sum_wait(r->sum);
        return AKIN_OK;
    }
    TRY(r->inner->wait(r->inner->context, error));
    if (r->status != AKIN_OK) {
        if (error)
            *error = r->error;
        return r->status;
    }
    if (r->end > r->least)
        r->device->ops->upload(r->device, r->gradients + r->least, r->host + r->least,
                               (r->end - r->least) * sizeof(float));
    r->least = SIZE_MAX;
    r->end = 0;
    return r->device->ops->finish(r->device, error);    /* the host's numbers are free again */
}

static enum akin_status reduce_sum(void *context, double *value, struct akin_error *error)
{
    struct gpu_reducer *r = context;
    return r->inner->sum(r->inner->context, value, error);
}

/* All ranks learn the id that the first one made: four bytes a sum, exact in a double. */
static enum akin_status share_id(const struct gradient_reducer *inner,
                                 unsigned char id[CUDA_SUM_ID_BYTES], struct akin_error *error)
{
    for (size_t i = 0; i < CUDA_SUM_ID_BYTES; i += 4) {
        uint32_t word = 0;
        if (inner->rank == 0)
            memcpy(&word, id + i, sizeof word);
        double value = word;
        TRY(inner->sum(inner->context, &value, error));
        word = (uint32_t)value;
        memcpy(id + i, &word, sizeof word);
    }
    return AKIN_OK;
}

/* From card to card where all ranks can; all take the same way. */
static enum akin_status join_cards(struct gpu_reducer *r, const char *library,
                                   struct akin_error *error)
{
    const char *name = r->device->ops->name;
    unsigned char id[CUDA_SUM_ID_BYTES] = {0};
    double able = name && !strcmp(name, "cuda")
                  && cuda_plugin_load(library, &r->plugin, NULL) == AKIN_OK
                  && r->plugin->sum_id && r->plugin->sum_id(id, NULL) == AKIN_OK;
    if (!name)
        return AKIN_OK;
    TRY(r->inner->sum(r->inner->context, &able, error));
    if (able < (double)r->inner->world)
        return AKIN_OK;
    TRY(share_id(r->inner, id, error));
    return r->plugin->sum_create(r->device, id, r->inner->rank, r->inner->world, &r->sum, error);
}

enum akin_status gpu_reducer_create(const char *library, struct train_device *device,
                                    const struct gradient_reducer *inner, size_t values,
                                    struct gpu_reducer **reducer, struct akin_error *error)
{
    struct gpu_reducer *r = memory_alloc(1, sizeof *r);
    if (!r)
        return error_memory(error);
    *r = (struct gpu_reducer){.inner = inner, .device = device, .least = SIZE_MAX};
    r->outer = (struct gradient_reducer){.context = r, .start = reduce_start, .wait = reduce_wait,
                                         .sum = reduce_sum, .rank = inner->rank,
                                         .world = inner->world};
    enum akin_status status = join_cards(r, library, error);
    if (status == AKIN_OK && !r->sum) {
        r->host = memory_alloc_aligned(values, sizeof *r->host);
        status = r->host ? AKIN_OK : error_memory(error);
    }
    if (status == AKIN_OK)
        *reducer = r;
    else
        gpu_reducer_destroy(&r);
    return status;
}

void gpu_reducer_destroy(struct gpu_reducer **reducer)
{
    if (*reducer && (*reducer)->sum)
        (*reducer)->plugin->sum_destroy(&(*reducer)->sum);
    if (*reducer)
        memory_free((*reducer)->host);
    memory_free(*reducer);
    *reducer = NULL;
}

const char *gpu_reducer_link(const struct gpu_reducer *reducer)
{
    return reducer->sum ? "nccl" : "host memory";
}

const struct gradient_reducer *gpu_reducer_of(struct gpu_reducer *reducer)
{
    return &reducer->outer;
}
