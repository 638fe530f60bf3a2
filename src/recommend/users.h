/* People, live. A user is two vectors that move with each rating, the last ratings, and what was
 * rated since the import:
 *
 *   u <- (1 - a_t) u + a_t * rating * item,   a_t = max(a, 1 / t),   t = ratings so far
 *
 * once with a fast and once with a slow rate a. A user of the catalogue starts with its ratings, in
 * time order, folded the same way. So the state is a function of the catalogue and of the user's
 * events in their order, and has the same bits wherever it is made.
 *
 * Active users have a slot in one block; whoever was asked for or updated longest ago makes room.
 * With a store (catalog/live_store.h) every event is kept there before it is acknowledged; who
 * comes back is folded anew, from the state that was stored or from the beginning. An update of a
 * user who is not active is only written down. Without a store who left starts from the catalogue
 * again. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "akin/recommend.h"
#include "base/status.h"

struct catalog;
struct kernels;
struct users;

enum { USER_RECENT = 64 };

/* One person, copied out. */
struct user_profile {
    size_t dim;
    float *fast, *slow;         /* [dim]; zero before the first rating */
    struct akin_rating recent[USER_RECENT];     /* newest last; ratings 0 to 1 */
    size_t recent_count;
    uint64_t count;             /* ratings in all */
    uint64_t live;              /* of these since the import */
    uint32_t *seen;             /* rows rated since the import, each once */
    size_t seen_count, seen_capacity;
};

bool user_profile_init(struct user_profile *profile, size_t dim);   /* false: no memory */
void user_profile_deinit(struct user_profile *profile);

struct users_settings {
    const struct catalog *catalog;      /* outlives the users, as do vectors and kernels */
    const float *vectors;               /* [items][dim], in the space that users live in; */
    enum akin_status (*find_vectors)(void *context, const float **vectors,
                                     struct akin_error *error);
    void *vectors_context;              /* NULL: asked for once, by the first fold */
    size_t dim;
    const struct kernels *kernels;
    const char *store_path;             /* NULL: no store */
    int busy_ms;                        /* how long to wait for other processes; 0: the default */
    struct akin_recommender_settings live;
};

void users_settings_default(struct akin_recommender_settings *settings);

/* A store that is not there yet is made by the first update. */
enum akin_status users_open(const struct users_settings *settings, struct users **users,
                            struct akin_error *error);
/* Stores the states of active users whose past is long. */
void users_close(struct users **users);

/* As akin_recommend_update and akin_recommend_update_batch. Any thread. */
enum akin_status users_update(struct users *users, const struct akin_feedback *feedback,
                              struct akin_error *error);
enum akin_status users_update_batch(struct users *users, const struct akin_feedback *feedback,
                                    size_t count, size_t *refused, struct akin_error *error);

/* Copies a user into `profile`, which was made for this dimension; an unknown one is empty. All
 * acknowledged updates of this process are in it; those of other processes come within some
 * milliseconds. Any thread. */
enum akin_status users_read(struct users *users, const char *user, struct user_profile *profile,
                            struct akin_error *error);

/* The same fold for ratings in hand [count], which are divided by rating_max; `seen` stays empty.
 */
enum akin_status users_fold(struct users *users, const struct akin_rating *ratings, size_t count,
                            double rating_max, struct user_profile *profile,
                            struct akin_error *error);

/* The store they are kept in, for what else is kept there; made where there is none if `make`.
 * NULL: there is none. AKIN_ARGUMENT: they live without one. */
struct live_store;
enum akin_status users_store(struct users *users, bool make, struct live_store **store,
                             struct akin_error *error);

/* The rates of its settings. */
void users_rates(const struct users *users, float *fast, float *slow);

/* Stores the states of all active users that have changed. */
enum akin_status users_checkpoint(struct users *users, struct akin_error *error);

/* ---- for users_warm.c ------------------------------------------------------------------- */

struct user_fold;
struct users_view {
    const struct catalog *catalog;
    const struct user_fold *fold;       /* users_state.h; with its vectors */
    double rating_max;          /* that ratings of the catalogue are divided by */
    size_t user_count;
};

/* AKIN_MEMORY, or why there are no vectors. */
enum akin_status users_view(struct users *users, struct users_view *view,
                            struct akin_error *error);
/* Whether a user of the catalogue, by number, has a slot. */
bool users_active(struct users *users, size_t user);
/* Gives such a user one where there is room without taking it from others. vectors [2][dim], fast
 * and slow: what the catalogue's ratings fold to, or NULL. Any thread. */
enum akin_status users_wake(struct users *users, size_t user, const float *vectors, bool *woken,
                            struct akin_error *error);

struct users_counts {
    uint64_t active, capacity;
    uint64_t block_bytes;       /* for all places */
    uint64_t used_bytes;        /* by who is active, with what finds them */
    uint64_t hits, loads, evictions;    /* of users_read and users_update */
};
void users_count(const struct users *users, struct users_counts *counts);
