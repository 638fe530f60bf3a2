/* Other ways to keep some of many items, as yardsticks for the neighbour cache: what each would
 * have had ready when a stream of requests asked for it. None of them is used by the program. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "akin/neighbors.h"
#include "base/status.h"

struct request_stream {
    const struct akin_cache_event *events;      /* [count], in the order of time */
    size_t count, items;
};

struct cache_policy {
    const char *key, *name;
    /* Hits with room for `slots` items. Except for Belady's nothing later is known. */
    enum akin_status (*replay)(const struct request_stream *stream, size_t slots, uint64_t *hits,
                               struct akin_error *error);
};

enum { CACHE_POLICIES = 6 };
extern const struct cache_policy cache_policies[CACHE_POLICIES];    /* Belady's is the last */
