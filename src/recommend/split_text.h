/* Texts of what is judged, in the space of the catalogue, and what they say of a history. */
#pragma once

#include "recommend/blend.h"
#include "recommend/situation.h"
#include "recommend/split.h"

struct backend;
struct catalog;
struct space;

struct split_text {
    struct space *space;            /* NULL: there are no vectors */
    uint32_t *places;               /* [items] rows of the catalogue, or UINT32_MAX */
    const float **rows;             /* [items] in the space; zeros for what it does not have */
    float *nothing;                 /* [dim] zeros */
    size_t dim, items;
    struct situations situations;   /* of the items */
};

/* Of a split's items, found as ml_<id> or by the id as it is; `split` NULL: of the catalogue's.
 * Without a catalogue (NULL) or its vectors there is no space, and that is fine. */
enum akin_status split_text_create(const struct backend *backend, const struct catalog *catalog,
                                   const struct split *split, struct split_text *text,
                                   struct akin_error *error);
void split_text_deinit(struct split_text *text);
/* person [2][dim]: the fast and the slow vector that a history adds up to, each rating a 1. */
void split_text_read(const struct split_text *text, const struct kernels *kernels,
                     const uint32_t *history, size_t count, float *person);
/* scores [items]: cosines; `last` is the newest item of the history; vector [dim] is scratch. */
void split_text_say(const struct split_text *text, const struct kernels *kernels,
                    enum blend_text kind, uint32_t last, const float *person, float *vector,
                    float *scores);
