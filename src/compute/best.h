/* The k best of what is offered: score down, row up, NaN last. The order is total, so the result
 * does not depend on the order of the offers. */
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "compute/backend.h"

struct best {
    struct hit *hits;       /* [capacity], a heap with the worst at the root */
    size_t count, capacity;
};

static inline bool hit_better(struct hit a, struct hit b)
{
    bool a_nan = isnan(a.score), b_nan = isnan(b.score);
    if (a_nan != b_nan)
        return b_nan;
    if (!a_nan && a.score != b.score)
        return a.score > b.score;
    return a.row < b.row;
}

static inline void best_sift_down(struct hit *hits, size_t count, size_t at, struct hit hit)
{
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && hit_better(hits[child], hits[child + 1]))
            child++;
        if (!hit_better(hit, hits[child]))
            break;
        hits[at] = hits[child];
    }
    hits[at] = hit;
}

/* capacity >= 1. */
static inline void best_offer(struct best *best, struct hit hit)
{
    if (best->count == best->capacity) {
        if (hit_better(hit, best->hits[0]))
            best_sift_down(best->hits, best->count, 0, hit);
        return;
    }
    size_t at = best->count++;
    for (; at && hit_better(best->hits[(at - 1) / 2], hit); at = (at - 1) / 2)
        best->hits[at] = best->hits[(at - 1) / 2];
    best->hits[at] = hit;
}

/* Empties the heap into hits [count], best first; `hits` may be the heap's own. */
static inline void best_drain(struct best *best, struct hit *hits)
{
    while (best->count) {
        struct hit worst = best->hits[0];
        best->count--;
        if (best->count)
            best_sift_down(best->hits, best->count, 0, best->hits[best->count]);
        hits[best->count] = worst;
    }
}

/* Best first, in place. */
static inline void best_sort(struct hit *hits, size_t count)
{
    struct best heap = { .hits = hits, .count = count, .capacity = count };
    for (size_t i = count / 2; i-- > 0; )
        best_sift_down(hits, count, i, hits[i]);
    best_drain(&heap, hits);
}

/* A number whose order is that of hits, the best one's the greatest. */
static inline uint64_t hit_key(struct hit hit)
{
    uint32_t bits;
    float score = hit.score + 0.0f;     /* -0 is 0 */
    memcpy(&bits, &score, sizeof bits);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (uint64_t)(isnan(score) ? 0 : bits) << 32 | (UINT32_MAX - hit.row);
}

/* Puts the `count` best of hits [total] in front, in any order: quickselect without branches on
 * scores, for lists of which more than a few are wanted. The pivot is the middle one of three. */
static inline void best_select(struct hit *hits, size_t total, size_t count)
{
    size_t low = 0, high = total;       /* the border lies in [low, high) */
    while (high - low > 1 && count > low && count < high) {
        size_t middle = low + (high - low) / 2, last = high - 1, store = low;
        uint64_t a = hit_key(hits[low]), b = hit_key(hits[middle]), c = hit_key(hits[last]);
        size_t at = a > b ? (b > c ? middle : a > c ? last : low)
                          : (a > c ? low : b > c ? last : middle);
        struct hit pivot = hits[at];
        uint64_t key = hit_key(pivot);
        hits[at] = hits[last];
        for (size_t i = low; i < last; i++) {
            struct hit hit = hits[i];
            hits[i] = hits[store];
            hits[store] = hit;
            store += hit_key(hit) > key;
        }
        hits[last] = hits[store];
        hits[store] = pivot;
        low = store < count ? store + 1 : low;
        high = store < count ? high : store;
    }
}
