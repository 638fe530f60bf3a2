/* Counted by their leading bits, so that no comparison decides a jump; only the numbers that share
 * the bits of the last one kept are compared. */
#include "index/greatest.h"

#include <stdbool.h>

enum { FEW = 96, BITS = 10, BUCKETS = 1 << BITS };

static void swap_keys(uint64_t *a, uint64_t *b)
{
    uint64_t was = *a;
    *a = *b;
    *b = was;
}

/* Hoare's, for few. */
static void quickselect(uint64_t *x, size_t count, size_t keep)
{
    size_t low = 0, high = count - 1, wanted = keep - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (x[middle] > x[low])
            swap_keys(&x[middle], &x[low]);
        if (x[high] > x[low])
            swap_keys(&x[high], &x[low]);
        if (x[high] > x[middle])
            swap_keys(&x[high], &x[middle]);
        uint64_t pivot = x[middle];
        size_t i = low, j = high;
        for (;;) {
            while (x[i] > pivot)
                i++;
            while (x[j] < pivot)
                j--;
            if (i >= j)
                break;
            swap_keys(&x[i++], &x[j--]);
        }
        if (wanted <= j)
            high = j;
        else
            low = j + 1;
    }
}

/* Moves what is at least `floor` to the front; returns how many. */
static size_t compact(uint64_t *x, size_t count, uint64_t floor)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t own = x[i], was = x[kept];
        bool in = own >= floor;
        x[i] = in ? was : own;
        x[kept] = in ? own : was;
        kept += in;
    }
    return kept;
}

void keep_greatest(uint64_t *x, size_t count, size_t keep)
{
    uint32_t counts[BUCKETS] = { 0 };
    uint64_t least = x[0], most = x[0];
    if (count <= FEW) {
        quickselect(x, count, keep);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    uint64_t range = most - least;
    int bits = range ? 64 - __builtin_clzll(range) : 0, shift = bits > BITS ? bits - BITS : 0;
    for (size_t i = 0; i < count; i++)
        counts[(x[i] - least) >> shift]++;
    size_t bucket = BUCKETS, above = 0;
    while (above + counts[bucket - 1] < keep)
        above += counts[--bucket];
    uint64_t low = least + ((uint64_t)(bucket - 1) << shift);
    count = compact(x, count, low);
    if (above)
        compact(x, count, low + ((uint64_t)1 << shift));
    quickselect(x + above, count - above, keep - above);
}
