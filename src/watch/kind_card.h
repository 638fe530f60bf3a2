/* The kinds that are nearest to a query, found by a card that has all their vectors; what it says
 * is scored again as the CPU does it, so that answers are the same. Not locked: the store's affair.
 */
#pragma once

#include "compute/search_device.h"
#include "watch/event_kinds.h"

/* Fewer are as soon compared on the CPU. */
enum { KIND_CARD_MIN = 65536 };

struct kind_card {
    const struct search_device_ops *ops;    /* NULL: there is no card */
    int ordinal;
    struct search_device *device;           /* NULL: nothing is on it yet */
    size_t count;                           /* kinds that are */
    float *rows;                            /* scratch */
};

/* Takes over some of the kinds that are not on the card. *done: all are now. AKIN_MEMORY, AKIN_IO,
 * AKIN_UNSUPPORTED: the card has no use. */
enum akin_status kind_card_take(struct kind_card *card, const struct event_kinds *kinds,
                                const struct kernels *kernels, bool *done,
                                struct akin_error *error);
/* The nearest kinds that it knows, at most SEARCH_DEVICE_K_MAX, to hits, in any order, with scores
 * as event_kinds_score has them: none that is left out is as near as any of them. AKIN_ARGUMENT: a
 * query without a direction. */
enum akin_status kind_card_search(struct kind_card *card, const struct event_kinds *kinds,
                                  const struct kernels *kernels, const float *query,
                                  struct hit *hits, size_t *count, struct akin_error *error);
void kind_card_close(struct kind_card *card);   /* there is none any more */
