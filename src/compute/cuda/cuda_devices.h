/* What struct cuda_plugin is made of, as C sees it; the headers of compute/ say what each does. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#include "compute/cuda_plugin.h"

const struct encoder_device_ops *cuda_encoder_ops(void);
const struct search_device_ops *cuda_search_ops(void);
const struct bandit_device_ops *cuda_bandit_ops(void);
const struct user_device_ops *cuda_user_ops(void);
const struct personal_device_ops *cuda_personal_ops(void);
const struct ivf_device_ops *cuda_ivf_ops(void);
const struct graph_device_ops *cuda_graph_ops(void);

/* Training. `ordinal`: which card. AKIN_NOT_FOUND: there is none of that number, or no driver. */
enum akin_status cuda_train_create(int ordinal, enum train_precision precision,
                                   struct train_device **device, struct akin_error *error);

/* The most bytes that it has held at once. */
size_t cuda_train_peak_bytes(const struct train_device *device);

/* As struct cuda_plugin has them (sum_nccl.cu). */
enum akin_status cuda_sum_id(unsigned char id[CUDA_SUM_ID_BYTES], struct akin_error *error);
enum akin_status cuda_sum_create(struct train_device *device,
                                 const unsigned char id[CUDA_SUM_ID_BYTES], size_t rank,
                                 size_t world, struct cuda_sum **sum, struct akin_error *error);
void cuda_sum_start(struct cuda_sum *sum, float *values, size_t count);
void cuda_sum_wait(struct cuda_sum *sum);
/* Waits for the sums that were asked for; an error of theirs is the device's. */
void cuda_sum_watch(struct cuda_sum *sum);
void cuda_sum_destroy(struct cuda_sum **sum);

#ifdef __cplusplus
}
#endif
