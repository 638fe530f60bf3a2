/* akin.db: what was tried on people, with its probability, and what came of it (docs/formats.md).
 *
 * A choice is written down before anybody sees it. Its reward is not written by whoever rates:
 * rewards are found among the events, in the order of their numbers, by whoever looks next, and the
 * number up to which that was done is kept in the same transaction. So none is paid twice or lost,
 * whichever process ends when; and a program that knows nothing of this rates all the same.
 *
 * Tables of their own, made by the first choice; a connection of its own. After a loss of power the
 * last choices may be missing; then nothing is paid for them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct choice_store;
struct live_store;

enum {
    CHOICE_NAME_BYTES = 64,     /* of a segment or an arm, the zero included */
    CHOICES_KEPT = 100000,      /* the newest */
};

/* `live` must outlive it. AKIN_UNSUPPORTED: made by a newer version; AKIN_IO: it cannot be written,
 * and as live_store_open. */
enum akin_status choice_store_open(struct live_store *live, struct choice_store **store,
                                   struct akin_error *error);
void choice_store_close(struct choice_store **store);

/* A transaction, in which all of the following happen; others wait. One thread at a time. */
enum akin_status choice_store_begin(struct choice_store *store, struct akin_error *error);
/* Commits where `status` is AKIN_OK, and otherwise undoes all; returns what is wrong, if anything.
 */
enum akin_status choice_store_end(struct choice_store *store, enum akin_status status,
                                  struct akin_error *error);

/* What is known of an arm in a segment: evidence beyond the prior. */
struct choice_arm {
    char segment[CHOICE_NAME_BYTES], arm[CHOICE_NAME_BYTES];
    double alpha, beta;
    uint64_t choices, rewards;  /* made, and paid */
    double reward;              /* sum of what was paid */
};

/* *known false, and zeros, where there is nothing. AKIN_FORMAT: what is there cannot be. */
enum akin_status choice_store_find(struct choice_store *store, const char *segment,
                                   const char *arm, struct choice_arm *found, bool *known,
                                   struct akin_error *error);
enum akin_status choice_store_put(struct choice_store *store, const struct choice_arm *arm,
                                  struct akin_error *error);
/* All of them by segment and arm. */
enum akin_status choice_store_each(struct choice_store *store,
                                   enum akin_status (*visit)(void *context,
                                                             const struct choice_arm *arm,
                                                             struct akin_error *error),
                                   void *context, struct akin_error *error);

struct choice {
    const char *user, *item, *segment, *arm;
    uint64_t request;
    uint32_t place;             /* in the list, from 1 */
    double arm_share, item_share;   /* the probability of the arm; of the item, whichever the arm */
    int64_t timestamp;
};

/* The number of a request that has none. */
enum akin_status choice_store_request(struct choice_store *store, uint64_t *number,
                                      struct akin_error *error);
/* *added false where this user's request had a choice for this place before: it becomes this one,
 * or stays where it was paid. */
enum akin_status choice_store_add(struct choice_store *store, const struct choice *choice,
                                  bool *added, struct akin_error *error);

/* A choice whose reward is known: what the user rated the item since, or 0 where the choice is from
 * before `expired` or makes room for newer ones. */
struct choice_due {
    char segment[CHOICE_NAME_BYTES], arm[CHOICE_NAME_BYTES];
    double reward;
};

/* The next one, in the order of events and then of choices; it counts as paid. *any false: there
 * are no more, and old choices are removed. */
enum akin_status choice_store_next_due(struct choice_store *store, int64_t expired,
                                       struct choice_due *due, bool *any,
                                       struct akin_error *error);
