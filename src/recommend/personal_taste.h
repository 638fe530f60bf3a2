/* A learned taste as a device says it (compute/personal_device.h), made of a speaker. */
#pragma once

#include "compute/personal_device.h"
#include "recommend/speaker.h"

/* What it points to is the speaker's, or `made`. */
struct personal_model {
    struct personal_taste taste;
    float *made;
};

/* A mood that weighs what the device does not have, the reranker, is not there. AKIN_UNSUPPORTED:
 * none is, or the model's rows are not cut. */
enum akin_status personal_model_make(const struct speaker *speaker, struct personal_model *model,
                                     struct akin_error *error);
void personal_model_deinit(struct personal_model *model);
