/* A split file: who chose what, when, and which part of it may be learned from. It is a CSV file
 * with a header line; the columns userId, movieId, rating, timestamp and split (train, valid or
 * test) may stand in any order, others are passed over. The order of the rows breaks ties in time.
 */
#pragma once

#include "base/hash.h"
#include "base/memory.h"
#include "base/status.h"

enum split_part { SPLIT_TRAIN, SPLIT_VALID, SPLIT_TEST, SPLIT_PARTS };

struct split_event {
    uint32_t user, item;        /* numbers by first appearance, in train, then valid, then test: so
                                   those of one part do not depend on the later ones */
    int64_t timestamp;          /* Unix seconds */
    enum split_part part;
};

struct split {
    struct split_event *events;
    size_t event_count, event_capacity;
    const char **users, **items;    /* names as the file has them */
    size_t user_count, user_capacity, item_count, item_capacity;
    struct string_map user_numbers, item_numbers;
    struct string_pool names;
};

/* AKIN_FORMAT: a column is missing, a field does not parse (file, line and field are named), no
 * event at all. */
enum akin_status split_read(const char *path, struct split *split, struct akin_error *error);
void split_deinit(struct split *split);
