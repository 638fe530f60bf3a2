/* A small model of what comes next: a softmax over all items of the inner product of an item's
 * output vector with what the history adds up to, which is remembered at three speeds:
 *     u = sum_h s_h * x_h,    x_h = sum_a 0.5^(a / h) A[item_a] / sum_a 0.5^(a / h)
 *     logit_j = O_j . u + b_j
 * a the age of an event counted in events (0 the newest), h the half-life of a head, s_h [dim] a
 * scale, * elementwise. Trained by cross-entropy of the next item over items not yet seen. What
 * it remembers is of one size, however long the history is. */
#pragma once

#include "akin/engine.h"
#include "base/memory.h"
#include "base/status.h"

struct kernels;
struct thread_pool;

enum { SEQUENCE_HEADS = 3, SEQUENCE_LIST_MAX = 600, SEQUENCE_DIM_MAX = 256 };

struct sequence_model {
    size_t items, dim, panel_count, nr;
    float *history;     /* [items][dim] A */
    float *output;      /* [panel_count][dim + 1][nr] O turned, and behind it b: as the matrix
                           kernel wants it */
    float scale[SEQUENCE_HEADS][SEQUENCE_DIM_MAX];
};

/* Lists of items, oldest first, each item at most once: list u is items[offsets[u] ..
 * offsets[u + 1]). */
struct item_lists {
    size_t count, item_count;
    const size_t *offsets;
    const uint32_t *items;
};

struct sequence_settings {
    size_t dim, epochs, batch, positions_max;   /* of a list and an epoch */
    float rate, dropout, decay;
    uint64_t seed;
    struct akin_progress progress;
};

void sequence_settings_default(struct sequence_settings *settings);

/* counts [items]: how often each was chosen. The result depends on lists, counts and settings, not
 * on the threads. AKIN_CANCELLED: progress asked for it. */
enum akin_status sequence_train(const struct kernels *kernels, struct thread_pool *pool,
                                const struct item_lists *lists, const double *counts,
                                const struct sequence_settings *settings,
                                struct sequence_model *model, struct akin_error *error);

/* An untrained one, zeros; for the trainer and for readers of files. */
enum akin_status sequence_model_init(const struct kernels *kernels, size_t items, size_t dim,
                                     struct sequence_model *model, struct akin_error *error);
void sequence_model_deinit(struct sequence_model *model);

/* logits [panel_count * nr], those behind `items` of no meaning; `history` holds at least one item,
 * oldest first. */
void sequence_logits(const struct sequence_model *model, const struct kernels *kernels,
                     const uint32_t *history, size_t count, float *logits);

/* 0.5^(age / half-life of the head), which is 1, 5 and 30 events. */
float sequence_weight(size_t head, size_t age);

/* Where O[item][d] is in output; d = dim is the bias. */
static inline float *sequence_output(const struct sequence_model *m, size_t item, size_t d)
{
    return m->output + (item / m->nr * (m->dim + 1) + d) * m->nr + item % m->nr;
}
