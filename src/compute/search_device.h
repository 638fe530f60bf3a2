/* Seam: a device that has rows resident and finds the nearest of them by inner product. */
#pragma once

#include "compute/backend.h"

enum { SEARCH_DEVICE_K_MAX = 250, SEARCH_DEVICE_DIM_UNIT = 64, SEARCH_DEVICE_DIM_MAX = 1024 };

struct device_query {
    const float *queries;       /* [query_count][dim] */
    size_t query_count, k;      /* k at most SEARCH_DEVICE_K_MAX */
    /* NULL: all rows for all. Otherwise query q may find the rows whose bit is set in
     * masks[mask_of[q]] [mask_words]; mask_of[q] of UINT32_MAX: all. */
    const uint64_t *masks;      /* [mask_count][mask_words] */
    const uint32_t *mask_of;    /* [query_count]; NULL: the first mask for all */
    size_t mask_count, mask_words;
};

struct search_device;           /* rows on a device */

struct search_device_ops {
    /* rows [row_count][dim], copied. AKIN_UNSUPPORTED: a dimension that is no multiple of
     * SEARCH_DEVICE_DIM_UNIT or too large, a number beyond the range of fp16; AKIN_MEMORY. */
    enum akin_status (*create)(int ordinal, const float *rows, size_t row_count, size_t dim,
                               struct search_device **device, struct akin_error *error);
    void (*destroy)(struct search_device **device);
    /* The true k best of each query by float32 scores, best first, ties by row: hits [query_count]
     * [k], found [query_count]. Bits do not depend on the other queries. One call at a time.
     * *again (may be NULL): queries for which the narrow pass alone could not prove its answer.
     * AKIN_UNSUPPORTED: more than 58 results, where the card has too little shared memory. */
    enum akin_status (*search)(struct search_device *device, const struct device_query *query,
                               struct hit *hits, size_t *found, size_t *again,
                               struct akin_error *error);
};
