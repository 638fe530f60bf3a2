/* Many rounds of bandits in one call, with the choices of bandits_choose bit for bit: on all
 * threads or on a card. What is learned stays with the bandits; the card has a copy, and is told
 * before a call of those that have changed since. */
#pragma once

#include "base/log.h"
#include "compute/bandit_device.h"
#include "recommend/bandit.h"

struct thread_pool;
struct bandit_batch;

/* Both outlive it. */
enum akin_status bandit_batch_create(struct bandits *bandits, struct thread_pool *pool,
                                     struct bandit_batch **batch, struct akin_error *error);
void bandit_batch_destroy(struct bandit_batch **batch);

/* From the next call on, until it fails. `log`: is told then, and the CPU goes on; NULL: the CPU
 * may not, and the call fails. AKIN_UNSUPPORTED, AKIN_MEMORY: not on this card, and nothing is
 * changed. */
enum akin_status bandit_batch_use_card(struct bandit_batch *batch,
                                       const struct bandit_device_ops *ops, int ordinal,
                                       const struct akin_log *log, struct akin_error *error);

/* Bytes on the card (0: there is none), and milliseconds of its clock for the draws of the last
 * call. */
void bandit_batch_card(struct bandit_batch *batch, size_t *bytes, double *elapsed_ms);

/* choices: k of the first round, k of the second, and so on. All rounds are checked before anything
 * is drawn. `there`: on the card, if there is one. Any thread; calls take turns on a card. */
enum akin_status bandit_batch_choose(struct bandit_batch *batch,
                                     const struct akin_bandit_round *rounds, size_t count,
                                     bool there, struct akin_bandit_choice *choices,
                                     struct akin_error *error);
