/* The kinds that are nearest to a query, for certain, without comparing all of them as they are:
 * their vectors as bytes with proven bounds (compute/screen.h) say which ones have to be. It only
 * grows, behind the kinds. Not locked: the store's affair. */
#pragma once

#include "compute/best.h"
#include "compute/screen.h"
#include "watch/event_kinds.h"

/* Fewer are as soon compared as they are. */
enum { KIND_INDEX_MIN = 16384 };

struct kind_index;

struct kind_index *kind_index_create(struct backend *backend);  /* NULL: no memory */
void kind_index_destroy(struct kind_index **index);
size_t kind_index_count(const struct kind_index *index);
/* Takes over the kinds before `end`. false: no memory. */
bool kind_index_take(struct kind_index *index, const struct event_kinds *kinds, size_t end);

/* One search: begin, then all rows in pieces, by the index or as they are, then finish; end in any
 * case. Between these the index may grow. */
struct kind_search {
    size_t wanted;
    float *query;               /* [dimension], of length 1 */
    int8_t *digits;
    struct screen_query prepared;
    struct best lower;          /* of what is known for certain, the best so far */
    float threshold;
    struct hit *candidates;     /* with what the bytes say */
    size_t count, capacity;
};

/* The `wanted` nearest, at least 1. false: no memory, or a query that bounds do not hold for. */
bool kind_search_begin(struct kind_search *search, const struct kind_index *index,
                       const float *query, size_t wanted);
bool kind_search_range(struct kind_search *search, const struct kind_index *index, size_t begin,
                       size_t end);
/* The same for kinds that are not in the index. */
bool kind_search_plain(struct kind_search *search, const struct event_kinds *kinds,
                       const struct kernels *kernels, const float *query, size_t begin,
                       size_t end);
/* Leaves in candidates [count] all kinds that are as near as the last of those wanted, with scores
 * as event_kinds_score has them, in any order. false: no memory. */
bool kind_search_finish(struct kind_search *search, const struct event_kinds *kinds,
                        const struct kernels *kernels, const float *query);
void kind_search_end(struct kind_search *search);
