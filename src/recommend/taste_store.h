/* A learned taste on disk, DATA/taste/ (docs/formats.md): plain .npy files and model.json, put
 * together beside their place and renamed. */
#pragma once

#include "recommend/taste.h"

struct catalog;

/* `taste` has been cut (taste_cut) and has all parts. Replaces what is there. */
enum akin_status taste_write(const struct taste *taste, const char *data,
                             const struct catalog *catalog, struct akin_error *error);

/* AKIN_NOT_FOUND: nothing has been learned; AKIN_FORMAT: damaged, or learned from another
 * catalogue. To be asked at request time with taste_say and taste_blend: O(history x row) and a
 * pass over the items of the model. */
enum akin_status taste_open(const struct kernels *kernels, const char *data,
                            const struct catalog *catalog, struct taste **taste,
                            struct akin_error *error);
