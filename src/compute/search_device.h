/* Seam: a device that has rows resident and finds the nearest of them by inner product. */
#pragma once

#include "compute/backend.h"

enum { SEARCH_DEVICE_K_MAX = 250, SEARCH_DEVICE_DIM_UNIT = 64, SEARCH_DEVICE_DIM_MAX = 1024 };
/* Results of many queries up to which int8 rows may be first: above, the candidates that they leave
 * cost more than they save. */
enum { SEARCH_DEVICE_INT8_K = 64 };

/* The first pass over the rows; later ones are wider, for queries whose answer it cannot prove. The
 * answer has the same bits whichever is first. */
enum search_pass {
    SEARCH_PASS_AUTO,           /* what is fastest for so many queries */
    SEARCH_PASS_INT8, SEARCH_PASS_FP16, SEARCH_PASS_FP32,
    SEARCH_PASSES
};

struct device_query {
    const float *queries;       /* [query_count][dim]; NULL: the rows of these numbers */
    const uint32_t *rows;       /* [query_count]; NULL where queries are given */
    size_t query_count, k;      /* k at most SEARCH_DEVICE_K_MAX */
    /* NULL: all rows for all. Otherwise query q may find the rows whose bit is set in
     * masks[mask_of[q]] [mask_words]; mask_of[q] of UINT32_MAX: all. */
    const uint64_t *masks;      /* [mask_count][mask_words] */
    const uint32_t *mask_of;    /* [query_count]; NULL: the first mask for all */
    size_t mask_count, mask_words;
    /* 0: the masks are sent. Otherwise the caller promises that masks of one number are the same
     * bits: they are not sent if those of the search before had that number too. */
    uint64_t masks_number;
    enum search_pass first;
    /* NULL: answers go to hits and found. Otherwise these may be NULL, and each answer is told
     * here, once, as soon as it has come, in any order, while the device goes on with others. What
     * hits points to is gone when this returns. Those told before an error are right. */
    void (*answer)(void *context, size_t query, const struct hit *hits, size_t found);
    void *context;
};

/* How many queries got their answer from which pass; [SEARCH_PASS_AUTO]: from the float32 scores of
 * the few rows that their mask lets pass. */
struct search_counts {
    size_t proven[SEARCH_PASSES];
};

struct search_device;           /* rows on a device */

/* One call at a time for each device. */
struct search_device_ops {
    /* rows [row_count][dim], copied: in float32 and fp16, and in int8 too where there is memory for
     * that. AKIN_UNSUPPORTED: a dimension that is no multiple of SEARCH_DEVICE_DIM_UNIT or too
     * large, a number beyond the range of fp16; AKIN_MEMORY. */
    enum akin_status (*create)(int ordinal, const float *rows, size_t row_count, size_t dim,
                               struct search_device **device, struct akin_error *error);
    void (*destroy)(struct search_device **device);
    /* The true k best of each query by float32 scores, best first, ties by row: hits [query_count]
     * [k], found [query_count], or query->answer. Bits do not depend on the other queries. *counts
     * may be NULL.
     * AKIN_ARGUMENT: a query is a row that there is not. */
    enum akin_status (*search)(struct search_device *device, const struct device_query *query,
                               struct hit *hits, size_t *found, struct search_counts *counts,
                               struct akin_error *error);
    /* count rows more, [count][dim], behind those that there are. Room grows by half where it has
     * to; the device is as it was when that fails. Errors as create. */
    enum akin_status (*append)(struct search_device *device, const float *rows, size_t count,
                               struct akin_error *error);
    /* rows [count][dim] instead of those of numbers [count], each at most once. AKIN_ARGUMENT: a
     * row that there is not; others as create. The device is as it was when that fails. */
    enum akin_status (*put)(struct search_device *device, const uint32_t *numbers,
                            const float *rows, size_t count, struct akin_error *error);
    /* search, and seconds of the device's own clock, from the first copy to it to the last answer;
     * what otherwise runs beside each other then does not. */
    enum akin_status (*measure)(struct search_device *device, const struct device_query *query,
                                struct hit *hits, size_t *found, double *seconds,
                                struct akin_error *error);
    size_t (*row_count)(const struct search_device *device);
    /* Bytes of the card that are held. */
    size_t (*memory)(const struct search_device *device);
    /* Gives int8 rows back, for good. For who always asks for more results than they are first for
     * (SEARCH_DEVICE_INT8_K): answers are the same. May be NULL. */
    void (*drop_int8)(struct search_device *device);
};
