/* The text space: item vectors less the mean of the catalogue, brought to length 1. Vectors of
 * sentence models sit in a narrow cone, where everything is like everything (random pairs of
 * MiniLM: cosine 0.43); without their mean they spread out. Vectors of queries are mapped the same
 * way.
 *
 * What was written in the same year has words in common too (the year, for films), and makes
 * neighbours that nobody asks for. So two items are compared in a second form of the space, in
 * which the mean of each year is also taken off. It needs no second copy: with x an item less the
 * mean, t = x / |x| as kept here, m the mean of its year and a the query's own vector in that form,
 *
 *   a . (x - m) / |x - m| = (|x| (a . t) - a . m) / |x - m|
 *
 * Both means are shrunk by SPACE_PRIOR pseudo-items of zeros, so that small catalogues and rare
 * years keep their differences. An item whose vector is zero stays zero and matches nothing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct backend;
struct catalog;

enum { SPACE_PRIOR = 20 };

struct space {
    size_t items, dim;
    float *vectors;             /* [items][dim], aligned to 64, each of length 1 or 0 */
    float *mean;                /* [dim] */
    size_t blank_count;         /* items whose vector is zero */
    uint64_t *blank;            /* a bit for each of them */
    size_t years;               /* classes of items of one year; 0: those without one */
    float *year_means;          /* [years][dim] */
    uint16_t *year_of;          /* [items] */
    float *stretch, *inverse;   /* [items] |x| / |x - m| and 1 / |x - m|; 0 for a blank one */
};

/* The catalogue must have vectors. The same bits for any number of threads and on every instruction
 * set. */
enum akin_status space_create(const struct backend *backend, const struct catalog *catalog,
                              struct space **space, struct akin_error *error);
void space_destroy(struct space **space);
uint64_t space_bytes(const struct space *space);

/* The vector of a query, whatever its length, to out [dim]; false: it is zero or not finite, or
 * nothing is left of it. */
bool space_map(const struct space *space, const struct backend *backend, const float *vector,
               float *out);

/* The same of an item in the form without years; false for a blank one. */
bool space_item(const struct space *space, const struct backend *backend, size_t row, float *out);
/* a . m of each year to terms [years]. */
void space_year_terms(const struct space *space, const struct backend *backend, const float *a,
                      float *terms);

/* The product with t, in the form without years. */
static inline float space_without_year(const struct space *space, const float *terms, size_t row,
                                       float product)
{
    return space->stretch[row] * product - space->inverse[row] * terms[space->year_of[row]];
}
