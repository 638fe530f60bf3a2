/* Policies that `akin bench bandits` compares, each with one bandit of its own. */
#pragma once

#include "akin/bandits.h"
#include "base/rng.h"

enum player_kind {
    PLAYER_THOMPSON, /* akin_bandits as they are by default */
    PLAYER_PLAIN,    /* akin_bandits without decay, sharpness, an order and pooling: the textbook */
    PLAYER_EPSILON,  /* the greatest mean of rewards so far, or with probability epsilon any arm; an
                        arm without rewards has mean 0, equal ones by lot (R. S. Sutton  and A. G.
                        Barto, "Reinforcement learning", 2nd edition, 2.4) */
    PLAYER_UCB1,     /* every arm once, then the greatest mean + sqrt(2 ln t / n) (P. Auer, N.
                        Cesa-Bianchi and P. Fischer, Machine Learning 47, 2002) */
};

struct player;

enum akin_status player_create(struct akin_engine *engine, enum player_kind kind, double epsilon,
                               size_t arms, uint64_t seed, struct player **player,
                               struct akin_error *error);
void player_destroy(struct player **player);
enum akin_status player_choose(struct player *player, size_t *arm, struct akin_error *error);
/* Of the arm chosen last. */
enum akin_status player_reward(struct player *player, size_t arm, float reward,
                               struct akin_error *error);
