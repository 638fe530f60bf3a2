/* An ensemble of Thompson bandits with the same number of arms each: what akin/bandits.h promises,
 * over kernels instead of an engine.
 *
 * Thompson sampling (W. R. Thompson, Biometrika 25, 1933): each arm has a Beta posterior, a round
 * draws from all of a bandit's and takes the best. Drift as in discounted Thompson sampling (Raj
 * and Kalyani, arXiv 1707.09727): with a half-life, every reward first takes the evidence of all of
 * that bandit's arms towards the prior, or, with a half-life of arms, that of the arm alone.
 * Sharpness is the reshaping of posteriors of O. Chapelle and L. Li, "An empirical evaluation of
 * Thompson sampling", NeurIPS 2011. Of many arms as many are open as the square root of the rounds:
 * with k arms and n rounds, k > sqrt(n), learning of all of them costs more than the best of
 * sqrt(n) arms lacks (M. Bayati, N. Hamidi, R. Johari and K. Khosravi, "Unreasonable effectiveness
 * of greedy algorithms in multi-armed bandit with many arms", NeurIPS 2020). Arms lie in an order
 * by lot of each bandit, open ones in front. Where the means of the arms lie close
 * together, their common prior is learned from them: its strength from the spread of the means less
 * what chance makes of it (R. DerSimonian and N. Laird, Controlled Clinical Trials 7, 1986). The
 * posteriors are one block, alpha of all and beta of all. */
#pragma once

#include "akin/bandits.h"
#include "base/status.h"

struct kernels;
struct bandits;

void bandits_settings_default(struct akin_bandits_settings *settings);
enum akin_status bandits_create(const struct kernels *kernels,
                                const struct akin_bandits_settings *settings,
                                struct bandits **bandits, struct akin_error *error);
void bandits_destroy(struct bandits **bandits);

enum akin_status bandits_choose(struct bandits *bandits, const struct akin_bandit_round *round,
                                struct akin_bandit_choice *choices, struct akin_error *error);
enum akin_status bandits_reward(struct bandits *bandits, size_t bandit, size_t arm, float reward,
                                struct akin_error *error);
enum akin_status bandits_shares(struct bandits *bandits, const struct akin_bandit_round *round,
                                const bool *allowed, float *shares, struct akin_error *error);
enum akin_status bandits_posterior(struct bandits *bandits, size_t bandit,
                                   struct akin_bandit_posterior *posterior, uint64_t *rewards,
                                   struct akin_error *error);
enum akin_status bandits_restore(struct bandits *bandits, size_t bandit,
                                 const struct akin_bandit_posterior *posterior, uint64_t rewards,
                                 struct akin_error *error);

/* ---- for batches (bandit_batch.h) ------------------------------------------------------- */

void bandits_size(const struct bandits *bandits, size_t *count, size_t *arms);
uint64_t bandits_seed(const struct bandits *bandits);
/* As bandits_choose does. */
enum akin_status bandits_check(const struct bandits *bandits,
                               const struct akin_bandit_round *round, struct akin_error *error);
/* The arm at a place of the order by lot; draws are numbered by place. */
size_t bandits_arm_at(const struct bandits *bandits, size_t bandit, size_t place);
/* Where the bandit has changed since *known (0 at first): alpha, beta [arms] by place, with what
 * arms have in common where all are open to a round with k of 1, and how many are. */
bool bandits_copy(const struct bandits *bandits, size_t bandit, uint64_t *known, float *alpha,
                  float *beta, size_t *open);
