/* What the tests of training share: devices, folders of reference runs, trainers, gradients. */
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/file.h"
#include "base/json.h"
#include "base/npy.h"
#include "base/thread.h"
#include "model/safetensors.h"
#include "train/trainer.h"
#ifdef AKIN_CUDA_EMULATED
#include "compute/cuda/cuda_devices.h"
#else
#include "compute/cuda_plugin.h"
#endif

static inline void must(enum akin_status status, const struct akin_error *error)
{
    if (status != AKIN_OK)
        fail_msg("%s", error->message);
}

/* ---- devices ---------------------------------------------------------------------------- */

/* RIG_CUDA: in the build that emulates it, and where AKIN_TEST_CUDA is set: the first card. */
enum rig_device { RIG_REFERENCE, RIG_CPU, RIG_DEVICES, RIG_CUDA = RIG_DEVICES };

static inline enum akin_status rig_cuda(enum train_precision precision,
                                        struct train_device **device, struct akin_error *error)
{
#ifdef AKIN_CUDA_EMULATED
    return cuda_train_create(0, precision, device, error);
#else
    const struct cuda_plugin *plugin;
    if (!getenv("AKIN_TEST_CUDA"))
        return AKIN_UNSUPPORTED;
    must(cuda_plugin_load(NULL, &plugin, error), error);
    return plugin->train_create(0, precision, device, error);
#endif
}

/* NULL: this build or machine has none. The pool goes with the process. */
static inline struct train_device *rig_device(enum rig_device which, int threads,
                                              enum train_precision precision,
                                              struct thread_pool **pool)
{
    struct train_device *device = NULL;
    struct akin_error error = {0};
    enum akin_status status = AKIN_UNSUPPORTED;
    *pool = NULL;
    if (which == RIG_REFERENCE && precision == TRAIN_FP32)
        status = reference_train_create(&device, &error);
    if (which == RIG_CPU) {
        *pool = thread_pool_create(threads);
        status = cpu_train_create(cpu_detect(), *pool, precision, &device, &error);
    }
    if (which == RIG_CUDA)
        status = rig_cuda(precision, &device, &error);
    if (status == AKIN_UNSUPPORTED) {
        thread_pool_destroy(pool);
        return NULL;
    }
    must(status, &error);
    return device;
}

static inline void rig_release(struct train_device **device, struct thread_pool **pool)
{
    if (*device)
        (*device)->ops->destroy(device);
    thread_pool_destroy(pool);
}

/* ---- reference runs --------------------------------------------------------------------- */

struct truth {
    char folder[PATH_BYTES_MAX];
    struct transformer_shape shape;
    size_t batch, steps;
    struct npy source, target;
    json_t *expected;
};

static inline const char *truth_path(const struct truth *truth, const char *name)
{
    static char path[PATH_BYTES_MAX];
    must(path_join(path, sizeof path, truth->folder, name, NULL), &(struct akin_error){0});
    return path;
}

static inline size_t truth_size(const json_t *config, const char *key)
{
    int64_t value = 0;
    struct akin_error error = {0};
    must(json_get_integer(config, key, "config.json", &value, &error), &error);
    return (size_t)value;
}

static inline void truth_open(const char *folder, struct truth *truth)
{
    struct akin_error error = {0};
    json_t *config;
    *truth = (struct truth){0};
    snprintf(truth->folder, sizeof truth->folder, "%s", folder);
    must(json_read(truth_path(truth, "config.json"), 1 << 20, &config, &error), &error);
    truth->shape = (struct transformer_shape){
        .d_model = truth_size(config, "d_model"), .nhead = truth_size(config, "nhead"),
        .encoder_layers = truth_size(config, "enc"), .decoder_layers = truth_size(config, "dec"),
        .feed_forward = truth_size(config, "ffn"), .vocab = truth_size(config, "vocab"),
        .seq_len = truth_size(config, "seq_len"),
    };
    truth->batch = truth_size(config, "batch");
    json_decref(config);
    must(json_read(truth_path(truth, "expected.json"), 1 << 20, &truth->expected, &error), &error);
    must(npy_open(truth_path(truth, "batch_src.npy"), &truth->source, &error), &error);
    must(npy_open(truth_path(truth, "batch_tgt.npy"), &truth->target, &error), &error);
    assert_int_equal(truth->source.type, NPY_INT32);
    assert_int_equal(truth->source.dims, 3);
    assert_int_equal(truth->source.shape[1], truth->batch);
    truth->steps = truth->source.shape[0];
}

static inline void truth_close(struct truth *truth)
{
    npy_close(&truth->source);
    npy_close(&truth->target);
    json_decref(truth->expected);
}

static inline const int32_t *truth_batch(const struct truth *truth, const struct npy *tokens,
                                         size_t step)
{
    return (const int32_t *)tokens->data + step * truth->batch * truth->shape.seq_len;
}

/* ---- trainers --------------------------------------------------------------------------- */

static inline struct trainer_settings rig_settings(const struct transformer_shape *shape,
                                                   size_t batch)
{
    return (struct trainer_settings){
        .shape = *shape, .batch = batch, .precision = TRAIN_FP32, .seed = 5,
        .update = {.optimizer = TRAIN_ADAMW, .rate = 1e-4f, .decay = 0.01f, .beta1 = 0.9f,
                   .beta2 = 0.999f, .epsilon = 1e-8f},
    };
}

static inline struct trainer *rig_trainer(struct train_device *device,
                                          const struct trainer_settings *settings)
{
    struct trainer *trainer = NULL;
    struct akin_error error = {0};
    must(trainer_create(device, settings, &trainer, &error), &error);
    return trainer;
}

static inline double rig_step(struct trainer *trainer, const struct truth *truth, size_t step)
{
    struct step_result result;
    struct akin_error error = {0};
    must(trainer_step(trainer, truth_batch(truth, &truth->source, step),
                      truth_batch(truth, &truth->target, step), &result, &error), &error);
    return result.loss;
}

/* A name for a file of this process; it is removed by whoever writes there. */
static inline const char *rig_file(const char *name)
{
    static char path[PATH_BYTES_MAX];
    const char *root = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/akin-train-%ld-%s", root && root[0] ? root : "/tmp",
             (long)getpid(), name);
    return path;
}

/* The gradients of the last step, or the weights, as a file that is already gone. */
static inline struct safetensors *rig_fetch(struct trainer *trainer, bool gradients)
{
    struct safetensors *file = NULL;
    struct akin_error error = {0};
    const char *path = rig_file("fetched");
    must(gradients ? trainer_save_gradients(trainer, path, &error)
                   : trainer_save(trainer, path, &error), &error);
    must(safetensors_open(path, &file, &error), &error);
    must(path_remove(path, &error), &error);
    return file;
}

static inline float rig_number(const struct safetensors_tensor *tensor, size_t i)
{
    float value;
    memcpy(&value, tensor->data + i * sizeof value, sizeof value);
    return value;
}
