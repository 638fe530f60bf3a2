/* The reranker: attention of eight heads from the newest item of a past, and of whatever is wanted
 * beside, over the past in its order, and every candidate's vector against what comes of it. One
 * causal layer with learned positions, so SASRec (Kang and McAuley 2018), with the situation
 * (situation.h) added to who asks, not to the past:
 *
 *     m_t = W[item_t] + P[t];  x_t = m_t + C[wanted after t]
 *     y = norm(x_t + out(attention(q(x_t), k(m), v(m))));  u = norm(y + down(relu(up(y))))
 *     logit_j = W_j . u_t + D_j . wanted after t + b_j
 *
 * What a situation is worth to an item is ln p(item | past, wanted) - ln p(item | past).
 *
 * D starts at an item's genres, W as the text vectors (centred, length 1), and learns what the
 * events add: an item that nobody chose keeps its text. Trained with the parts of
 * compute/train_ops.h: softmax over all items of what came next, AdamW. */
#pragma once

#include "akin/evaluate.h"
#include "base/memory.h"
#include "base/status.h"
#include "compute/train_ops.h"
#include "recommend/sequence.h"
#include "recommend/situation.h"

enum {
    RERANKER_HEADS = 8,
    RERANKER_LENGTH = 50,       /* events of a past that count, the newest */
    RERANKER_DIM = 384,         /* where there are no texts */
    RERANKER_DIM_MAX = 1024,
};

/* Where the parameters lie in one block of float32, each from a multiple of 16 on. */
enum reranker_tensor {
    RERANKER_ITEMS,             /* [items + 1][dim] W; the last is a past event that is left out */
    RERANKER_WANTED,            /* [wanted + 1][dim] C; the first is for nothing that is wanted */
    RERANKER_POSITIONS,         /* [LENGTH][dim] P */
    RERANKER_BIAS,              /* [items] b */
    RERANKER_MATCH,             /* [items][wanted] D */
    RERANKER_IN, RERANKER_IN_BIAS,      /* [3 dim][dim], [3 dim]: q, k, v */
    RERANKER_OUT, RERANKER_OUT_BIAS,
    RERANKER_GAIN1, RERANKER_OFFSET1,
    RERANKER_UP, RERANKER_UP_BIAS, RERANKER_DOWN, RERANKER_DOWN_BIAS,
    RERANKER_GAIN2, RERANKER_OFFSET2,
    RERANKER_TENSORS
};

struct reranker_layout {
    size_t items, dim, wanted;
    struct reranker_place {
        size_t offset, rows, cols;      /* cols 0: a vector */
    } at[RERANKER_TENSORS];
    size_t values;
};

struct reranker {
    struct reranker_layout layout;
    float *values;              /* [layout.values] */
    struct situation_term *names;       /* [wanted + 1] of the rows of C; the first is empty */
    /* made of them by reranker_derive: the three projections of W, C and P (with the biases), so
     * that a request adds rows instead of multiplying */
    float *item_parts, *position_parts;     /* [rows][3 dim] */
    float *wanted_parts;        /* [rows][dim]: q alone */
    const float **rows;         /* of OUT, UP, DOWN [3][dim] and then of W [items] */
};

const char *reranker_tensor_name(enum reranker_tensor tensor);

/* AKIN_ARGUMENT: dim is none of the multiples of the heads up to RERANKER_DIM_MAX. */
enum akin_status reranker_lay_out(size_t items, size_t dim, size_t wanted,
                                  struct reranker_layout *layout, struct akin_error *error);
/* Zeros. */
enum akin_status reranker_init(const struct reranker_layout *layout, struct reranker *reranker,
                               struct akin_error *error);
void reranker_deinit(struct reranker *reranker);
static inline float *reranker_at(const struct reranker *r, enum reranker_tensor tensor)
{
    return r->values + r->layout.at[tensor].offset;
}
/* After the values have changed. `pool` NULL: the caller alone. */
enum akin_status reranker_derive(const struct kernels *kernels, struct thread_pool *pool,
                                 struct reranker *reranker, struct akin_error *error);

struct reranker_scratch {
    float *block;               /* all below in one */
    float *parts;               /* [LENGTH][3 dim] */
    float *state, *wide, *sum;  /* [2][dim] of two that ask, or of one */
    float *query;               /* likewise */
    float *weights;             /* [LENGTH] */
};
enum akin_status reranker_scratch_init(const struct reranker *reranker,
                                       struct reranker_scratch *scratch, struct akin_error *error);
void reranker_scratch_deinit(struct reranker_scratch *scratch);

/* scratch->state = u of a past of at least one item, oldest first. Wanted are weights [wanted] of
 * the rows 1 to wanted of C; NULL or zeros: nothing. Allocates nothing. */
void reranker_encode(const struct reranker *reranker, const struct kernels *kernels,
                     const uint32_t *history, size_t count, const float *wanted,
                     struct reranker_scratch *scratch);
/* Logits [count] of items where nothing is wanted, and with what is: one past, read once. */
void reranker_situate(const struct reranker *reranker, const struct kernels *kernels,
                      const uint32_t *history, size_t count, const float *wanted,
                      const uint32_t *items, size_t item_count, struct reranker_scratch *scratch,
                      float *plain, float *situated);
/* logits [count] of items, by the state and what is wanted (or NULL); `items` NULL: of all. */
void reranker_logits(const struct reranker *reranker, const struct kernels *kernels,
                     const float *state, const float *wanted, const uint32_t *items, size_t count,
                     float *logits);

/* ---- training ---------------------------------------------------------------------------- */

struct reranker_settings {
    size_t epochs;              /* at most */
    size_t fixed;               /* not 0: so many, without looking at a validation slice */
    size_t batch;               /* windows of a step */
    float rate, decay, dropout;
    float left_out;             /* share of the past that is hidden, anew in every step */
    float wanted_share;         /* of events of whose next one the situation is told */
    enum train_precision precision;
    uint64_t seed;
    struct akin_progress progress;
};
void reranker_settings_default(struct reranker_settings *settings);

struct reranker_lesson {
    unsigned cpu_flags;
    const struct kernels *kernels;
    struct thread_pool *pool;
    const struct item_lists *lists;
    const int64_t *times;       /* of the events of the lists; NULL: no situation is learned */
    const double *counts;       /* [items] */
    const float *const *texts;  /* [items] rows [dim], length 1 or zeros; NULL: drawn */
    size_t dim;
    const struct situations *situations;    /* of the items; NULL: likewise */
};

/* Derived. The last event of every list is the validation slice. The same bits for the same lists,
 * texts, settings and kernels, whatever the threads. AKIN_CANCELLED, AKIN_NUMERIC. */
enum akin_status reranker_train(const struct reranker_lesson *lesson,
                                const struct reranker_settings *settings,
                                struct reranker *reranker, struct akin_training *curve,
                                struct akin_error *error);
