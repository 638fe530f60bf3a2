/* Values of all parameters, on the host: drawn, read and written. */
#pragma once

#include <stdint.h>

#include "train/parameters.h"

/* values [table->values] as torch.nn draws them: each number depends on the seed and its place
 * only. Dropout of steps from 1 on shares no random number with it. */
void weights_draw(const struct parameter_table *table, uint64_t seed, float *values);

/* Every tensor of the table and no other, F32, in its shape, all numbers finite: else AKIN_FORMAT
 * names file, tensor and what is wrong, and values are in no certain state. */
enum akin_status weights_read(const struct parameter_table *table, const char *path, float *values,
                              struct akin_error *error);
/* Safetensors with `factor` times each value. */
enum akin_status weights_write(const struct parameter_table *table, const char *path,
                               const float *values, float factor, struct akin_error *error);
