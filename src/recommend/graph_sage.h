/* Vectors of items and people from their texts and from who chose what: a mean aggregator over the
 * graph of people and items, two hops from an item to the items of its people, after Hamilton, Ying
 * and Leskovec, "Inductive representation learning on large graphs" (NIPS 2017):
 *
 *     h_p = near(mean of t_j over items j that person p chose)
 *     h_i = item(t_i + mean of h_p over people p who chose i)
 *     h_u = user(mean of t_j over items j that the person u chose)
 *     near, item, user: x -> norm(x + down(relu(up(x))))
 *
 * t the text vectors (centred, length 1). Means are over samples of neighbours; an item that nobody
 * chose has its text alone, and half of the training is done that way. So both come of a few
 * products for whoever is new. Trained with the parts of compute/train_ops.h on links: a softmax of
 * h_u . h_i over the items of a batch, less the log of how often each is drawn; AdamW. */
#pragma once

#include "akin/engine.h"
#include "base/memory.h"
#include "base/status.h"
#include "recommend/histories.h"

struct kernels;
struct thread_pool;

enum graph_tower { GRAPH_NEAR, GRAPH_ITEM, GRAPH_USER, GRAPH_TOWERS };

enum { GRAPH_DIM_MAX = 1024, GRAPH_PEOPLE = 5, GRAPH_ITEMS = 20 };  /* neighbours of a sample */

/* Of a tower, behind each other in one block: up [dim][dim], its bias, down, its bias, the gain and
 * the offset of the norm. */
struct graph_sage {
    size_t dim;
    float *values;              /* [GRAPH_TOWERS][graph_tower_values(dim)] */
    const float **rows;         /* [GRAPH_TOWERS][2][dim] of up and down */
};

static inline size_t graph_tower_values(size_t dim)
{
    return 2 * dim * dim + 4 * dim;
}

struct graph_settings {
    size_t epochs, pairs, batch;        /* links of an epoch and of a step */
    float rate, decay, dropout, alone;  /* alone: share of items without people */
    uint64_t seed;
    struct akin_progress progress;
};
void graph_settings_default(struct graph_settings *settings);

struct graph_lesson {
    unsigned cpu_flags;
    const struct kernels *kernels;
    struct thread_pool *pool;
    const struct histories *histories;
    const float *const *texts;          /* [items][dim] */
    size_t dim;                         /* a multiple of 16 */
};

/* The same bits for the same lesson and kernels, whatever the threads. AKIN_ARGUMENT: nothing to
 * learn from, or dim is none that fits; AKIN_CANCELLED; AKIN_NUMERIC. */
enum akin_status graph_sage_train(const struct graph_lesson *lesson,
                                  const struct graph_settings *settings, struct graph_sage *graph,
                                  struct akin_error *error);
void graph_sage_deinit(struct graph_sage *graph);

/* x [dim], the mean of the texts of a past for a user, becomes the vector; scratch [2 dim].
 * Allocates nothing. */
void graph_sage_tower(const struct graph_sage *graph, const struct kernels *kernels,
                      enum graph_tower tower, float *x, float *scratch);
/* The same to rows x [count][dim], with the same bits; scratch [2 count dim]. The weights are read
 * once for all of them. */
void graph_sage_towers(const struct graph_sage *graph, const struct kernels *kernels,
                       enum graph_tower tower, float *x, size_t count, float *scratch);
/* For readers of files: zeros, and rows. */
enum akin_status graph_sage_init(size_t dim, struct graph_sage *graph, struct akin_error *error);
