/* Ratings as ratings.npy has them, collected in any order and brought into that file's order. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

/* One row of ratings.npy. */
struct __attribute__((packed)) rating_record {
    uint32_t user, item;
    float rating;
    int64_t timestamp;
};

struct rating_table {
    struct rating_record *records;
    size_t count, capacity;
    size_t users;           /* set by rating_table_sort */
    bool unordered;         /* the users did not come in ascending order */
};

bool rating_table_add(struct rating_table *table,
                      struct rating_record record); /* false: no memory */
void rating_table_deinit(struct rating_table *table);

/* Sorts by user, time, order of arrival. Of several ratings by one user of one item the latest
 * stays; *duplicates is how many went. Takes twice the memory only if users came unordered. */
enum akin_status rating_table_sort(struct rating_table *table, uint64_t *duplicates,
                                   struct akin_error *error);
