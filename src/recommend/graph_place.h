/* Vectors of all items by both hops (graph_sage.h), on the CPU or a card.
 *
 * A mean is over neighbours at even distances in their order, as many as one of training is over:
 * GRAPH_PEOPLE of who chose an item, GRAPH_ITEMS of what a person chose; all where there are no
 * more. Nothing is drawn. People that no item's mean needs are left out. */
#pragma once

#include "base/log.h"
#include "compute/graph_device.h"
#include "recommend/graph_sage.h"

/* Where it is computed. */
struct graph_card {
    const struct graph_device_ops *ops;     /* NULL: on the CPU */
    int ordinal;
    const struct akin_log *log;     /* is told where the CPU did instead; NULL: it may not */
};

/* Who is whose neighbour: items are members of people's lists, people of items'. */
struct graph_lists {
    struct device_lists people, items;
    uint32_t *person_offsets, *person_items, *item_offsets, *item_people;
};

/* AKIN_LIMIT: more than 2^31 - 1 choices. */
enum akin_status graph_lists_make(const struct histories *histories, struct graph_lists *lists,
                                  struct akin_error *error);
void graph_lists_free(struct graph_lists *lists);

struct graph_placing {
    const struct kernels *kernels;
    struct thread_pool *pool;
    const struct graph_sage *sage;
    const struct histories *histories;
    const float *const *texts;      /* [items][dim] */
    struct graph_card card;
    struct akin_progress progress;
};

/* vectors [items][stride], the first dim numbers of each. On the CPU the same bits whatever the
 * threads; on a card cosine to those at least 0.99999. AKIN_CANCELLED; a card's error, where the
 * CPU may not do instead. */
enum akin_status graph_place(const struct graph_placing *placing, float *vectors, size_t stride,
                             struct akin_error *error);
