/* Weights from items to items, row by row. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct item_weight {
    uint32_t row;
    float weight;
};

/* Row i is entries[starts[i]] up to entries[starts[i + 1]]; weights of 0 or less are none. */
struct item_rows {
    size_t items;
    const uint64_t *starts;     /* [items + 1] */
    const struct item_weight *entries;
};
