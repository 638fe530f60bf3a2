/* What is learned from: for each person the items, oldest first, and all events in order of time.
 * Ratings do not count: whoever rated an item chose it. */
#pragma once

#include "base/memory.h"
#include "base/status.h"

struct histories {
    size_t user_count, item_count, event_count;
    size_t *offsets;            /* [users + 1] into items */
    uint32_t *items;            /* [events] of user 0, of user 1, ..., each oldest first */
    int64_t *times;             /* [events] of items, likewise */
    uint32_t *sequence;         /* [events] the items of all events in order of time */
};

struct history_event {
    uint32_t user, item;
    int64_t timestamp;
};

/* From events in any order of users; those of one user are taken in the order given, and the
 * sequence is sorted by time, equal times in the order given. */
enum akin_status histories_create(const struct history_event *events, size_t count,
                                  size_t user_count, size_t item_count,
                                  struct histories *histories, struct akin_error *error);
void histories_deinit(struct histories *histories);

static inline const uint32_t *histories_of(const struct histories *h, size_t user, size_t *count)
{
    *count = h->offsets[user + 1] - h->offsets[user];
    return h->items + h->offsets[user];
}
