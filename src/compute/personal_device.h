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

#include <stdbool.h>

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
#define PERSONAL_NONE UINT32_MAX

/* A request as it goes to the card. Its vectors and lists lie in the same room. */
struct personal_request {
    uint32_t query, person;         /* which vectors, of any length, the query as a model makes it;
                                       PERSONAL_NONE: there is none */
    float share;                    /* of the query beside a person */
    float text, taste, popularity;  /* weights */
    uint32_t mask;                  /* which of the batch's; PERSONAL_NONE: all rows may be found */
    uint32_t skip_first, skip_count;        /* in the lists: rows that are not found, some twice */
    uint32_t mood;                  /* PERSONAL_NO_MOOD: the past is asked, not the model */
    uint32_t history_first, history_count;  /* in the lists: places of the model, oldest first */
    float told_text;
    uint32_t past_count;
    uint32_t past[PERSONAL_PAST_MAX];       /* newest first, each */
    float past_weights[PERSONAL_PAST_MAX];  /* with what it counts for */
};

struct personal_result {
    uint32_t row;
    float score, similarity;        /* the product with v, or 0 */
    float text, taste, popularity;  /* what each adds to the score */
};

struct personal_memory {
    void *memory;
    size_t bytes;
};

/* Memory of the host that the card reads and writes by itself, so that nothing is copied on the
 * way: who asks writes requests there, with as many threads as there are, and finds the answers.
 * All zeros at first. */
struct personal_room {
    struct personal_request *requests;
    float *vectors;                 /* [][dim] */
    uint32_t *lists;
    const struct personal_result *results;  /* [count][k] of the last answer */
    const struct hit *hits;         /* [count][k] of the last nearest */
    const uint32_t *found;          /* [count] of either */
    struct personal_memory sent, received;  /* the device's */
};

struct personal_sizes {
    size_t requests, vectors, lists;        /* lists: numbers in all of them */
    size_t answers;                 /* requests or vectors times k */
};

enum { PERSONAL_TOGETHER = 1024 };  /* requests or vectors of a call, at most */

struct personal_batch {
    size_t count, k;                /* 1 to PERSONAL_TOGETHER, 1 to PERSONAL_K_MAX */
    size_t lists;                   /* numbers that are used of the room's */
    size_t text_offers, offers;     /* k to PERSONAL_OFFERS_MAX */
    const uint64_t *masks;          /* [mask_count][words] */
    size_t mask_count;
};

/* found of a request that points nowhere: its query or its person is zero or not finite, or they
 * cancel out. */
#define PERSONAL_NOWHERE UINT32_MAX

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
    /* Lays a room out for so much, which loses what was in it; false: it has not the memory. Any
     * thread, beside calls as well. */
    bool (*lay_out)(const struct personal_device *device, const struct personal_sizes *sizes,
                    struct personal_room *room);
    /* The same with the memory for it; after an error there is none. */
    enum akin_status (*reserve)(struct personal_device *device, const struct personal_sizes *sizes,
                                struct personal_room *room, struct akin_error *error);
    void (*release)(struct personal_device *device, struct personal_room *room);
    /* What is asked of the card holds: of request `number` of the room, in a batch with so many
     * masks. Any thread, beside calls as well. AKIN_ARGUMENT: a row, a place, a mask or a past that
     * there is not; AKIN_UNSUPPORTED: more than PERSONAL_SKIP_MAX left out. */
    enum akin_status (*check)(const struct personal_device *device,
                              const struct personal_room *room, size_t number, size_t mask_count,
                              struct akin_error *error);
    /* The k best of the first `count` requests of the room, which check found right, best first,
     * ties by row, to its results and found. Bits do not
     * depend on the other requests. One call at a time, of these and of reserve and release. */
    enum akin_status (*answer)(struct personal_device *device, const struct personal_batch *batch,
                               struct personal_room *room, struct akin_error *error);
    /* The k (at most SEARCH_DEVICE_K_MAX) nearest of the first `count` vectors of the room, each
     * mapped, to its hits and found. `mask` [words] (NULL: all rows) is of all. AKIN_UNSUPPORTED as
     * search_device. */
    enum akin_status (*nearest)(struct personal_device *device, size_t count, size_t k,
                                const uint64_t *mask, struct personal_room *room,
                                struct akin_error *error);
    /* From now on each call leaves there the seconds that it took by the device's own clock, copies
     * included; NULL: no longer. */
    void (*measure)(struct personal_device *device, double *seconds);
};
