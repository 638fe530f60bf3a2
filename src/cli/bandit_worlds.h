/* What the policies of `akin bench bandits` play against: simulated arms, and logged ratings. */
#pragma once

#include <stdbool.h>

#include "akin/catalog.h"

/* Means of arms, uniform on 0 to 1 at first; every WORLD_EPOCH rounds they may change:
 *   fixed      never
 *   walk       each takes a normal step of 0.03, reflected at 0 and 1
 *   turnover   each, with probability 1/100, is drawn anew: items go and new ones come
 *   jumps      all are drawn anew, four times in all, after each fifth of the rounds */
enum world_drift { WORLD_FIXED, WORLD_WALK, WORLD_TURNOVER, WORLD_JUMPS, WORLD_DRIFTS };
enum { WORLD_EPOCH = 100 };

extern const char *const world_names[WORLD_DRIFTS];

struct world {
    size_t arms, rounds;
    uint64_t seed;
    float *means;               /* [epochs][arms] */
    float *best;                /* [epochs] the greatest of them */
};

enum akin_status world_create(enum world_drift drift, size_t arms, size_t rounds, uint64_t seed,
                              struct world *world, struct akin_error *error);
void world_free(struct world *world);
/* 0 or 1: what an arm gives in a round, the same whoever asks. */
float world_reward(const struct world *world, size_t round, size_t arm);

/* Ratings as a log of a policy that showed arms uniformly. Arms are the ten genres that most
 * ratings are of. A rating, in the order of time, is of one of its item's genres among these, by
 * lot; and it is kept with the probability (ratings of the rarest arm) / (ratings of this arm), so
 * that all arms are as likely at every step, whatever came before. The reward is 1 for 0.8 of the
 * greatest rating or more (4 stars of 5), else 0. */
enum { REPLAY_ARMS = 10 };

struct replay_log {
    const char *names[REPLAY_ARMS];
    size_t arms, count;
    struct replay_event {
        int64_t timestamp;
        uint32_t order;
        uint8_t arm, reward;
    } *events;                  /* [count] */
    double means[REPLAY_ARMS];  /* of the rewards in the log */
};

/* The catalogue must be embedded: ratings are those of people with a vector. AKIN_NOT_FOUND: fewer
 * than two genres, or no ratings. */
enum akin_status replay_log_create(const struct akin_catalog *catalog, uint64_t seed,
                                   struct replay_log *log, struct akin_error *error);
void replay_log_free(struct replay_log *log);
