/* SPDX-License-Identifier: Apache-2.0
 * Bandits: which of several things to try next, learned from rewards. */
#ifndef AKIN_BANDITS_H
#define AKIN_BANDITS_H

#include "akin/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Many Thompson bandits of the same number of arms, their posteriors in one block of 8 bytes an
 * arm. A draw is a function of seed, bandit, round and arm, and has the same bits on every
 * processor. */
struct akin_bandits;

struct akin_bandits_settings {
    size_t bandits;            /* 1,000; 1 to 65,536 */
    size_t arms;               /* 1,000; 1 to 65,536, and at most 2^26 arms in all */
    uint64_t seed;
    float prior_alpha;         /* 1: what is believed before the first reward, */
    float prior_beta;          /* 1; 0.01 to 1e6 each */
    double half_life; /* 3000. 0: evidence counts for ever; otherwise that of an arm counts half
                         after as many rewards of its bandit, at least 1 */
    double arm_half_life;      /* 200: the same by rewards of the arm itself */
    float sharpness; /* 8. 1: as the model says; above, a reward counts as so many, and less
                        is tried that does not look best; 0.01 to 100 */
    double open_rate;          /* 0.5. 0: all arms are tried from the start; otherwise the first
                                  max(10, open_rate * sqrt(1 + rewards of its bandit)) of an order
                                  by lot, so that many arms are not all learned of before any is
                                  used; at most 1e6 */
    float pooled_max; /* 100. 0: each arm starts from the prior above; otherwise, once all are open
                         and where their means lie close together, from the mean of them, with the
                         weight of as many rewards as that allows, at most this; to 1e6 */
};

AKIN_API void akin_bandits_settings_default(struct akin_bandits_settings *settings);

/* AKIN_ARGUMENT names the field; AKIN_MEMORY. The engine must outlive them. */
AKIN_API enum akin_status akin_bandits_create(struct akin_engine *engine,
                                              const struct akin_bandits_settings *settings,
                                              struct akin_bandits **bandits,
                                              struct akin_error *error);
AKIN_API void akin_bandits_destroy(struct akin_bandits **bandits);

enum { AKIN_BANDIT_CHOICES_MAX = 1024, AKIN_BANDIT_REPLICAS_MAX = 1023 };

struct akin_bandit_round {
    size_t bandit;
    uint64_t round;            /* its number; the same one gives the same draws of a posterior */
    size_t k;                  /* arms to choose, 1 to as many as there are, at most 1,024 */
    size_t replicas;           /* draws more from which propensities are estimated, 0 to 1,023 */
};

struct akin_bandit_choice {
    size_t arm;
    float draw;                /* 0 to 1 */
    float propensity;          /* the share of the 1 + replicas draws, this one among them, in which
                                  the arm is one of the k best: never 0, standard error at most
                                  0.5 / sqrt(1 + replicas); NaN without replicas */
};

/* The k arms with the greatest draws, greatest first, into choices [k]. Any thread. AKIN_ARGUMENT:
 * a field is out of range. */
AKIN_API enum akin_status akin_bandits_choose(struct akin_bandits *bandits,
                                              const struct akin_bandit_round *round,
                                              struct akin_bandit_choice *choices,
                                              struct akin_error *error);

/* The same for many rounds in one call, with the same choices bit for bit: k of the first round
 * into choices, then k of the second, and so on. On all threads, or, where the engine has a card
 * and there is much to draw, there; with "auto" the CPU does it where the card fails. All rounds
 * are checked before anything is drawn. Any thread. */
AKIN_API enum akin_status akin_bandits_choose_batch(struct akin_bandits *bandits,
                                                    const struct akin_bandit_round *rounds,
                                                    size_t count,
                                                    struct akin_bandit_choice *choices,
                                                    struct akin_error *error);

/* What batches use: 0 bytes where no card was used yet. */
struct akin_bandits_card {
    size_t bytes;              /* of the card that are held */
    double elapsed_ms; /* for the draws of the last batch there, by the card's clock, without
                          copies */
};
AKIN_API void akin_bandits_card(struct akin_bandits *bandits, struct akin_bandits_card *card);

/* What an arm gave, 0 to 1: alpha grows by it and beta by the rest. Any thread. AKIN_ARGUMENT: no
 * such arm, or a reward that is not 0 to 1; nothing is changed. */
AKIN_API enum akin_status akin_bandits_reward(struct akin_bandits *bandits, size_t bandit,
                                              size_t arm, float reward, struct akin_error *error);

/* How often each arm would be chosen: the share of 1 + round->replicas draws in which it is the
 * best of those that are allowed [arms] (NULL: all), to shares [arms]. Arms that are not open have
 * 0, and all have where none is allowed; round->k is not looked at. A caller who draws an arm from
 * these shares knows its propensity exactly. Any thread. */
AKIN_API enum akin_status akin_bandits_shares(struct akin_bandits *bandits,
                                              const struct akin_bandit_round *round,
                                              const bool *allowed, float *shares,
                                              struct akin_error *error);

/* What a bandit has learned, to look at and to keep: restored, it goes on as it would have. */
struct akin_bandit_posterior {
    float alpha, beta;         /* of the mean reward, alpha / (alpha + beta) on average */
};

/* posterior [arms]; *rewards: that the bandit had so far. Any thread. AKIN_ARGUMENT: no such
 * bandit; restored: a number that is not 0.01 to 1e7, and nothing is changed. */
AKIN_API enum akin_status akin_bandits_posterior(struct akin_bandits *bandits, size_t bandit,
                                                 struct akin_bandit_posterior *posterior,
                                                 uint64_t *rewards, struct akin_error *error);
AKIN_API enum akin_status akin_bandits_restore(struct akin_bandits *bandits, size_t bandit,
                                               const struct akin_bandit_posterior *posterior,
                                               uint64_t rewards, struct akin_error *error);

#ifdef __cplusplus
}
#endif
#endif
