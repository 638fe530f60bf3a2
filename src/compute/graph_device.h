/* Seam: a device that has the texts of items, who chose what, and two towers resident, and makes
 * vectors of items by two hops (recommend/graph_sage.h says what they are good for):
 *
 *     h_p = near(mean of t_j over the items j of person p's list)
 *     h_i = item(t_i + mean of h_p over the people p of item i's list)
 *     near, item: x -> norm(x + down(relu(up(x)))), LayerNorm with epsilon 1e-5
 *
 * The mean of an empty list is zeros. Which neighbours are in the lists is for the caller to say.
 *
 * Factors are fp16, sums float32: cosine to the same in float32 at least 0.99999. A vector has the
 * same bits alone and in any list, on the same card. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { GRAPH_DEVICE_DIM_MAX = 1024 };

/* members[offsets[i]] and on, up to offsets[i + 1], are the list of i; offsets [count + 1]. */
struct device_lists {
    size_t count;
    const uint32_t *offsets, *members;
};

/* Of a tower: up [dim][dim], its bias, down, its bias, the gain and the offset of the norm; [dim]
 * each where nothing is said. */
enum { DEVICE_TOWER_NEAR, DEVICE_TOWER_ITEM, DEVICE_TOWERS };

struct device_graph {
    size_t dim;
    const float *const *texts;          /* [items.count][dim] */
    struct device_lists people;         /* members are items */
    struct device_lists items;          /* members are people */
    const float *towers[DEVICE_TOWERS]; /* [2 * dim * dim + 4 * dim] behind each other */
};

struct graph_device;

struct graph_device_ops {
    /* All is copied. AKIN_UNSUPPORTED: a dimension that there is no kernel for (64, 128, 192, 256,
     * 384, 512, 768 and 1024 have one), no items, more than 2^31 - 1 nodes or members, a number
     * that is none of fp16; AKIN_ARGUMENT: lists whose offsets fall, or with a member that there is
     * not; AKIN_MEMORY. */
    enum akin_status (*create)(int ordinal, const struct device_graph *graph,
                               struct graph_device **device, struct akin_error *error);
    void (*destroy)(struct graph_device **device);
    /* Vectors of `list` [count], in its order, to vectors [count][dim] on the host; NULL: they are
     * made and stay there. A list of NULL: of all items (count is then not looked at), and the
     * people are made anew before; otherwise those that were made last are used, and made by the
     * first call. AKIN_ARGUMENT: an item that there is not. One call at a time. */
    enum akin_status (*forward)(struct graph_device *device, const uint32_t *list, size_t count,
                                float *vectors, struct akin_error *error);
    /* Of the last call that had no error, by the card's clock, without the copies. */
    double (*elapsed_ms)(const struct graph_device *device);
    /* Bytes of the card that it holds. */
    size_t (*memory)(const struct graph_device *device);
};
