/* Makes people active ahead of their first request: what the catalogue has of them is folded for
 * many at once, on all threads or on a card.
 *
 * The truth of a user is the store and the slot (users.h), on the host: ratings come one by one by
 * name, and must be on disk before they are acknowledged. A card is for what comes in bulk and by
 * number. It folds, gives the vectors back and is let go of. */
#pragma once

#include "akin/engine.h"
#include "base/log.h"
#include "compute/user_device.h"
#include "recommend/users.h"

struct thread_pool;

struct users_card {
    const struct user_device_ops *ops;      /* NULL: on the CPU */
    int ordinal;
    const struct akin_log *log;     /* is told where the CPU did instead; NULL: it may not */
};

struct users_warming {
    size_t users_max;           /* those of the catalogue who rated last, as many as can be active;
                                   who is active already stays as is */
    struct users_card card;
    struct thread_pool *pool;
    struct akin_progress progress;
};

struct users_warmed {
    uint64_t users, ratings;    /* folded; each rating moves two vectors */
    bool on_card;
    double card_ms;             /* of the card's clock for the folding, without copies */
    uint64_t card_bytes;        /* that it held meanwhile */
};

/* The same state, bit for bit, as by first requests. AKIN_CANCELLED: some are active. A card's
 * error, where the CPU may not do instead. */
enum akin_status users_warm(struct users *users, const struct users_warming *warming,
                            struct users_warmed *warmed, struct akin_error *error);
