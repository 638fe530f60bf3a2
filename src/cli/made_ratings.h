/* Ratings that nobody gave, of the shape of MovieLens 25M, as the files that it is published in:
 * the same seed and sizes give the same bytes. For benchmarks of import and of user vectors. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "akin/engine.h"
#include "base/status.h"

struct made_sizes {
    size_t items, users;
    size_t ratings;     /* at least; a little more, because every user has some */
};

/* The sizes of MovieLens 25M, scaled to so many ratings. */
struct made_sizes made_sizes_for(size_t ratings);

/* Writes FOLDER/movies.csv and ratings.csv; the folder is made where it is not there. Users rate 20
 * items or more, with a long tail; items are drawn by Zipf's law; rows are sorted by user and item,
 * as published. */
enum akin_status made_ratings_write(const char *folder, const struct made_sizes *sizes,
                                    uint64_t seed, struct akin_progress progress,
                                    struct akin_error *error);
