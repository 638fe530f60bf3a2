/* Training on GPUs, for a program: how many there are, opening one, what it is, joining several.
 * The CUDA library is loaded when one is opened; `library`: its path, as of cuda_plugin_load. */
#pragma once

#include "train/trainer.h"

enum { GPU_WHY_BYTES = 512 };

/* GPUs that can be used; 0 and why not. They are counted in a child process, so that this one may
 * still fork: CUDA does not survive that. "" in `why`: there is no driver to ask. */
size_t gpu_count(const char *library, char why[GPU_WHY_BYTES]);

/* Multiply-adds count twice. `name`: as the driver has it. 0: the card is not in the table. */
double gpu_peak_flops(const char *name, enum train_precision precision);

struct gpu_info {
    char name[128];
    size_t memory_total, memory_free;   /* bytes, before anything is trained */
    char cuda[24], blas[24];            /* "13.0", "13.0.2" */
    char driver[80];                    /* "580.65.06"; "" where it does not say */
};

enum akin_status gpu_open(const char *library, size_t ordinal, enum train_precision precision,
                          struct train_device **device, struct gpu_info *info,
                          struct akin_error *error);
/* The most bytes of the card that the device has held. */
size_t gpu_peak_bytes(const char *library, const struct train_device *device);

/* About what a GPU takes beyond a trainer's estimate: 16-bit weights, scratch, the library's. */
size_t gpu_extra_bytes(const struct trainer_settings *settings, const struct trainer_bytes *bytes);

/* Gradients of a device whose memory the host does not see: added up from card to card by NCCL
 * where all ranks have it, else by `inner` in the host's memory: they go there and back. `values`:
 * how many there are. All ranks call it together. */
struct gpu_reducer;
enum akin_status gpu_reducer_create(const char *library, struct train_device *device,
                                    const struct gradient_reducer *inner, size_t values,
                                    struct gpu_reducer **reducer, struct akin_error *error);
void gpu_reducer_destroy(struct gpu_reducer **reducer);
/* "nccl" or "host memory" */
const char *gpu_reducer_link(const struct gpu_reducer *reducer);
const struct gradient_reducer *gpu_reducer_of(struct gpu_reducer *reducer);
