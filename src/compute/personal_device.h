/* Seam: a device that answers requests of people and words by parts, over the rows of a search
 * device, which it shares. Of a request
 *
 *   v = m / |m|,  m = share * q/|q| + (1 - share) * p/|p|      q: the query, mapped
 *
 * (one of them alone where there is one), candidates are the `text_offers` rows with the greatest
 * product with v, the `offers` with the greatest sum of what the past's rows weigh, and, where
 * popularity counts, the first `offers` of the popular ones; all of rows that may be found. Their
 * score is
 *
 *   text * (v . row) + taste * sum / (mean of the ten greatest sums) + popularity * popularity
 *
 * A query is mapped to length 1, less the mean, to length 1. Sums over the past have the bits of
 * float32 additions in its order.
 *
 * Or, where there is a model of taste and a request names a mood of it, taste is
 *
 *   (said - floor) / scale
 *
 * of all rows that may be found, said what the model says of the history (struct personal_taste),
 * floor the hundredth greatest, scale the mean of the ten greatest less it; and the weight of
 * text is text + taste * (text of the mood / scale - told_text). */
#pragma once

#include "compute/item_rows.h"
#include "compute/search_device.h"

enum {
    PERSONAL_PAST_MAX = 20,         /* items of a past */
    PERSONAL_ROW_MAX = 200,         /* weights of an item */
    PERSONAL_OFFERS_MAX = 200,      /* candidates of a kind */
    PERSONAL_K_MAX = 50,
    PERSONAL_HISTORY_MAX = 2000,    /* items of a history */
    PERSONAL_SKIP_MAX = (1 << 22) - 1,  /* rows that a request leaves out */
    PERSONAL_MODEL_MAX = 3840,      /* items of a model of taste */
    PERSONAL_MOODS = 2,
    PERSONAL_HEADS = 3, PERSONAL_WIDTH_MAX = 256,   /* of a sequence */
};

/* Over a history, newest first, the sum of weights[age] times the row of the item. */
struct personal_sum {
    const unsigned char *rows;      /* [size][stride]: values [width], then columns [width] of
                                       sixteen bits; NULL: there is no such sum */
    size_t width, stride;           /* width at most PERSONAL_ROW_MAX */
    const float *weights;           /* [PERSONAL_HISTORY_MAX] of ages; 0: that and all behind it are
                                       left out */
    const float *totals;            /* [PERSONAL_HISTORY_MAX + 1] of the first so many weights */
    const float *shares;            /* [size]: what counts is ln(sum / total + floor) - share; NULL:
                                       the sum itself */
    float floor;
};

enum personal_sums { PERSONAL_EASE, PERSONAL_EASE_RECENT, PERSONAL_LOCAL, PERSONAL_NEXT,
                     PERSONAL_BACK, PERSONAL_SUMS };

/* Logits output . u + bias, u = sum over heads of scale * mean over the history of items' vectors
 * with the head's weights; what counts is log softmax - share. */
struct personal_sequence {
    size_t dim, length;             /* 0: there is none; of a history that counts, at most */
    const float *history;           /* [size][dim] */
    const float *output;            /* [dim + 1][size], the last row the bias */
    const float *scale;             /* [PERSONAL_HEADS][dim] */
    const float *weights, *totals;  /* [PERSONAL_HEADS][length], [PERSONAL_HEADS][length + 1] */
    const float *shares;            /* [size] */
};

/* What is said of an item of the model: standing + sum of weights times sums; of the others:
 * standing. */
struct personal_mood {
    const float *standing;          /* [rows]; NULL: there is no such mood */
    const uint32_t *order;          /* rows outside of the model, the greatest standing first */
    float sums[PERSONAL_SUMS];
    float scaled;                   /* of EASE divided by the mean of its 20 greatest values (those
                                       of the history are 0), at least 0.05 */
    float sequence, text;
};

struct personal_taste {
    size_t size;                    /* 0: there is none */
    const uint32_t *items;          /* [size] rows */
    const uint32_t *places;         /* [rows] in items, or UINT32_MAX */
    struct personal_sum sums[PERSONAL_SUMS];
    struct personal_sequence sequence;
    struct personal_mood moods[PERSONAL_MOODS];
};

/* What stays on the device; all but the mean may be missing. */
struct personal_items {
    const float *mean;              /* [dim] */
    const uint64_t *texted;         /* [words] rows that text may offer; NULL: all */
    struct item_rows similar;       /* starts NULL: nothing is known of pasts */
    const float *popularity;        /* [rows]; NULL: none */
    const uint32_t *by_popularity;  /* [popular_count] those that it may offer, the best first */
    size_t popular_count;
    const struct personal_taste *taste;     /* NULL: none */
};

#define PERSONAL_NO_MOOD UINT32_MAX

struct personal_request {
    const float *query, *person;    /* [dim] of any length, `query` as a model makes it; or NULL */
    float share;                    /* of the query beside a person */
    const uint32_t *past;           /* [past_count] newest first, each */
    const float *past_weights;      /* with what it counts for */
    size_t past_count;
    uint32_t mood;                  /* PERSONAL_NO_MOOD: the past is asked, not the model */
    const uint32_t *history;        /* [history_count] places of the model, oldest first */
    size_t history_count;
    float told_text;
    const uint32_t *skip;           /* [skip_count] rows that are not found, some twice */
    size_t skip_count;
    uint32_t mask;                  /* which of the batch's masks; UINT32_MAX: all rows */
    float text, taste, popularity;  /* weights */
};

struct personal_batch {
    const struct personal_request *requests;
    size_t count, k;                /* 1 to PERSONAL_K_MAX */
    size_t text_offers, offers;     /* k to PERSONAL_OFFERS_MAX */
    const uint64_t *masks;          /* [mask_count][words] */
    size_t mask_count;
};

struct personal_result {
    uint32_t row;
    float score, similarity;        /* the product with v, or 0 */
    float text, taste, popularity;  /* what each adds to the score */
};

/* found[q] of a request that points nowhere: its query or its person is zero or not finite, or they
 * cancel out. */
#define PERSONAL_NOWHERE SIZE_MAX

struct personal_device;

struct personal_device_ops {
    /* `rows` is on the same card and outlives it. Rows that are put instead of others count from
     * the next call on; once there are more rows, calls fail with AKIN_ARGUMENT, and it has to be
     * made anew. Nobody changes the rows during a call.
     * AKIN_UNSUPPORTED: a row of more than PERSONAL_ROW_MAX weights, a model of more than
     * PERSONAL_MODEL_MAX items, a card without the shared memory; AKIN_ARGUMENT: a row of which a
     * weight is twice, or that there is not; AKIN_MEMORY. */
    enum akin_status (*create)(int ordinal, const struct search_device *rows,
                               const struct personal_items *items, struct personal_device **device,
                               struct akin_error *error);
    void (*destroy)(struct personal_device **device);
    /* The k best, best first, ties by row: results [count][k], found [count]. Bits do not depend on
     * the other requests. One call at a time. AKIN_ARGUMENT: a row or a mask that there is not, or
     * more rows than there were; AKIN_UNSUPPORTED: more than PERSONAL_SKIP_MAX left out. */
    enum akin_status (*answer)(struct personal_device *device, const struct personal_batch *batch,
                               struct personal_result *results, size_t *found,
                               struct akin_error *error);
    /* The k (at most SEARCH_DEVICE_K_MAX) nearest of queries [count][dim], each mapped: hits
     * [count][k]. `mask` [words] (NULL: all rows) is of all. AKIN_UNSUPPORTED as search_device. */
    enum akin_status (*nearest)(struct personal_device *device, const float *queries, size_t count,
                                size_t k, const uint64_t *mask, struct hit *hits, size_t *found,
                                struct akin_error *error);
    /* From now on each call leaves there the seconds that it took by the device's own clock, copies
     * included; NULL: no longer. */
    void (*measure)(struct personal_device *device, double *seconds);
};
