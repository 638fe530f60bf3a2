/* A sealed segment on a card (compute/ivf_device.h, compute/search_device.h), beside the one on the
 * CPU, whose answers it gives:
 *   ivfpq             the same hits, bit for bit
 *   flat, plain       the true neighbours: exact, whatever recall is asked for
 *   graph             the true neighbours too. To read all rows is faster than to walk where they
 *                     take up to SEGMENT_CARD_GRAPH_BYTES; larger ones stay on the CPU with "auto"
 * All with the float32 scores of the CPU. What a card does not know (L2 but in ivfpq, dimensions
 * above 1,024, exact answers of ivfpq, few rows that pass a filter, many results) the CPU answers.
 */
#pragma once

#include "akin/engine.h"
#include "compute/ivf_device.h"
#include "compute/search_device.h"
#include "index/segment.h"

/* Who computes. */
struct index_card {
    const struct search_device_ops *search;     /* NULL: there is no card */
    const struct ivf_device_ops *ivf;
    int ordinal;
    bool required;              /* the CPU will not do instead */
    const struct akin_log *log;
};

/* With "auto" fewer rows are not worth a copy, and a graph of more bytes in fp16 is walked. */
enum { SEGMENT_CARD_ROWS_MIN = 4096, SEGMENT_CARD_GRAPH_BYTES = 1 << 30 };

struct segment_card;

/* Whether it is worth it where nobody insists. */
bool segment_card_wanted(const struct segment *segment);
/* Copies the segment, which must outlive it. AKIN_UNSUPPORTED: not this one; AKIN_MEMORY. */
enum akin_status segment_card_create(const struct segment *segment, const struct index_card *card,
                                     struct segment_card **made, struct akin_error *error);
void segment_card_destroy(struct segment_card **card);
size_t segment_card_bytes(const struct segment_card *card);
/* One call at a time. `number` is 0, or that of query->allowed and no other bits of this segment.
 * *answered false: the CPU has to. */
enum akin_status segment_card_search(struct segment_card *card, const struct segment_query *query,
                                     uint64_t number, const struct segment_hits *hits,
                                     bool *answered, struct akin_error *error);
/* The same, and its seconds by the card's own clock; NaN: not known, and then *answered is false.
 */
enum akin_status segment_card_measure(struct segment_card *card, const struct segment_query *query,
                                      uint64_t number, const struct segment_hits *hits,
                                      double *seconds, bool *answered, struct akin_error *error);
