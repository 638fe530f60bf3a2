/* One encoder-decoder Transformer that learns, on one device: parameters, step, optimiser. What it
 * computes is what torch.nn.Transformer with a shared embedding, learned positions and an output
 * projection computes (docs/training.md). One thread at a time. */
#pragma once

#include "compute/train_ops.h"
#include "train/parameters.h"

/* Adds up gradients of all ranks. `start` is called on the last slice of a batch as soon as
 * gradients [offset, offset + count) are final, from the top layer down; `wait` returns when all
 * of them are summed. Neither allocates. */
struct gradient_reducer {
    void *context;
    void (*start)(void *context, float *gradients, size_t offset, size_t count);
    enum akin_status (*wait)(void *context, struct akin_error *error);
    /* The sum of `value` over all ranks. */
    enum akin_status (*sum)(void *context, double *value, struct akin_error *error);
    size_t rank, world;
};

struct trainer_settings {
    struct transformer_shape shape;
    size_t batch;               /* samples of this rank in a step */
    size_t slice;               /* samples that pass at once; 0: what suits the device. No bit
                                   depends on it */
    bool recompute;             /* keeps the inputs of layers only and runs them again backwards */
    enum train_precision precision;
    float dropout;
    uint64_t seed;              /* of the initial weights and dropout */
    struct train_update update; /* step and gradient_factor are the trainer's */
    const struct gradient_reducer *reducer;     /* NULL: alone */
};

struct trainer;

struct step_result {
    double loss;                /* mean cross-entropy of the tokens, of all ranks, before update */
    double scale;               /* the loss scale that was used; 1 but for FP16 */
    bool skipped;               /* FP16: gradients overflowed, nothing was learned, scale halved */
};

/* Bytes of the device that a trainer would take, in parts; no device is touched. */
struct trainer_bytes {
    size_t parameters, gradients, moments, activations, scratch, total;
};

enum akin_status trainer_estimate(const struct train_device *device,
                                  const struct trainer_settings *settings,
                                  struct trainer_bytes *bytes, struct akin_error *error);

/* The device must outlive it. Weights are drawn from settings->seed as PyTorch's defaults are
 * distributed. AKIN_ARGUMENT names the setting; AKIN_MEMORY the bytes. */
enum akin_status trainer_create(struct train_device *device,
                                const struct trainer_settings *settings, struct trainer **trainer,
                                struct akin_error *error);
void trainer_destroy(struct trainer **trainer);

/* Safetensors with PyTorch's names, F32. Loading needs every tensor in its shape. */
enum akin_status trainer_load(struct trainer *trainer, const char *path, struct akin_error *error);
enum akin_status trainer_save(struct trainer *trainer, const char *path, struct akin_error *error);
/* The gradients of the last step, unscaled. */
enum akin_status trainer_save_gradients(struct trainer *trainer, const char *path,
                                        struct akin_error *error);

/* One step on source and target [batch][seq_len], host memory, tokens below vocab (checked:
 * AKIN_ARGUMENT names sample and position). The source is read whole, the decoder reads
 * target[0..n-2] and learns target[1..n-1]. AKIN_NUMERIC: the loss is not finite. */
enum akin_status trainer_step(struct trainer *trainer, const int32_t *source,
                              const int32_t *target, struct step_result *result,
                              struct akin_error *error);

const struct parameter_table *trainer_parameters(const struct trainer *trainer);
