/* Which of all items are kept when not all fit: those most in demand. A request for one that is not
 * kept admits it if its key (popularity_key) is at least the smallest one kept, which then goes;
 * otherwise it is passed by, so that what is asked for once does not displace what is asked for
 * always. Compared with other policies on real streams: `akin bench personalize`. A request costs
 * O(log capacity). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "akin/neighbors.h"
#include "base/status.h"
#include "recommend/popularity.h"

struct policy;

enum { POLICY_NONE = UINT32_MAX };

enum policy_answer { POLICY_HIT, POLICY_ADMITTED, POLICY_BYPASSED };

struct policy *policy_create(size_t items, size_t capacity);    /* NULL: no memory */
void policy_destroy(struct policy **policy);

/* `key` is that of the item with this request counted. *evicted: who made room, or POLICY_NONE. */
enum policy_answer policy_request(struct policy *policy, uint32_t row, double key,
                                  uint32_t *evicted);
/* The key of an item has changed; nothing happens to one that is not kept. */
void policy_update(struct policy *policy, uint32_t row, double key);
bool policy_contains(const struct policy *policy, uint32_t row);
size_t policy_count(const struct policy *policy);
/* Rows kept, most in demand first, equal ones by row, into rows [policy_count]. */
enum akin_status policy_rows(const struct policy *policy, uint32_t *rows, struct akin_error *error);
size_t policy_bytes(const struct policy *policy);

/* As akin_cache_replay. */
enum akin_status policy_replay(const struct akin_cache_event *events, size_t count, size_t items,
                               const struct akin_neighbors_settings *settings, uint64_t *hits,
                               struct akin_error *error);
