/* include/akin/bandits.h over src/recommend/bandit.h. */
#include "akin/bandits.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/thread.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"
#include "compute/cuda_plugin.h"
#include "engine/engine.h"
#include "recommend/bandit_batch.h"

/* Draws of a batch from which on it is worth a card's while: by count, some ten times what a call
 * of it takes beside the draws. */
enum { CARD_DRAWS = 100000 };

struct akin_bandits {
    struct bandits *bandits;
    struct bandit_batch *batch;
    const struct akin_engine *engine;
    size_t arms;
    struct mutex *lock;         /* guards `asked` */
    bool asked;                 /* for a card */
};

void akin_bandits_settings_default(struct akin_bandits_settings *settings)
{
    bandits_settings_default(settings);
}

enum akin_status akin_bandits_create(struct akin_engine *engine,
                                     const struct akin_bandits_settings *settings,
                                     struct akin_bandits **bandits, struct akin_error *error)
{
    struct akin_bandits *handle = memory_alloc(1, sizeof *handle);
    if (!handle)
        return error_memory(error);
    handle->engine = engine;
    handle->arms = settings->arms;
    handle->lock = mutex_create();
    enum akin_status status =
        handle->lock ? bandits_create(cpu_kernels(engine->backend), settings, &handle->bandits,
                                      error)
                     : error_memory(error);
    if (status == AKIN_OK)
        status = bandit_batch_create(handle->bandits, engine->pool, &handle->batch, error);
    if (status == AKIN_OK)
        *bandits = handle;
    else
        akin_bandits_destroy(&handle);
    return status;
}

void akin_bandits_destroy(struct akin_bandits **bandits)
{
    if (!*bandits)
        return;
    bandit_batch_destroy(&(*bandits)->batch);
    bandits_destroy(&(*bandits)->bandits);
    mutex_destroy(&(*bandits)->lock);
    memory_free(*bandits);
    *bandits = NULL;
}

enum akin_status akin_bandits_choose(struct akin_bandits *bandits,
                                     const struct akin_bandit_round *round,
                                     struct akin_bandit_choice *choices, struct akin_error *error)
{
    return bandits_choose(bandits->bandits, round, choices, error);
}

/* A card for batches, looked for by the first that is large. */
static enum akin_status take_card(struct akin_bandits *b, struct akin_error *error)
{
    const struct akin_engine *engine = b->engine;
    const struct cuda_plugin *plugin = NULL;
    struct akin_error reason = { 0 };
    bool required = engine_cards_required(engine);
    int ordinal = 0;
    TRY(engine_card_of(engine, CARD_BANDITS, &plugin, &ordinal, error));
    enum akin_status status = AKIN_OK;
    if (plugin)
        status = bandit_batch_use_card(b->batch, plugin->bandit, ordinal,
                                       required ? NULL : &engine->log, &reason);
    if (status == AKIN_OK)
        return AKIN_OK;
    if (required)
        return error_set(error, status, "%s", reason.message);
    log_write(&engine->log, AKIN_LOG_WARNING, "drawing on the CPU: %s", reason.message);
    return AKIN_OK;
}

enum akin_status akin_bandits_choose_batch(struct akin_bandits *bandits,
                                           const struct akin_bandit_round *rounds, size_t count,
                                           struct akin_bandit_choice *choices,
                                           struct akin_error *error)
{
    size_t draws = 0;
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; i < count && draws < CARD_DRAWS; i++)
        draws += bandits->arms * (rounds[i].replicas < CARD_DRAWS ? rounds[i].replicas + 1 : 1);
    mutex_lock(bandits->lock);
    if (!bandits->asked && draws >= CARD_DRAWS)
        status = take_card(bandits, error);
    bandits->asked |= draws >= CARD_DRAWS && status == AKIN_OK;
    mutex_unlock(bandits->lock);
    return status == AKIN_OK
               ? bandit_batch_choose(bandits->batch, rounds, count, draws >= CARD_DRAWS, choices,
                                     error)
               : status;
}

void akin_bandits_card(struct akin_bandits *bandits, struct akin_bandits_card *card)
{
    bandit_batch_card(bandits->batch, &card->bytes, &card->elapsed_ms);
}

enum akin_status akin_bandits_reward(struct akin_bandits *bandits, size_t bandit, size_t arm,
                                     float reward, struct akin_error *error)
{
    return bandits_reward(bandits->bandits, bandit, arm, reward, error);
}

enum akin_status akin_bandits_shares(struct akin_bandits *bandits,
                                     const struct akin_bandit_round *round, const bool *allowed,
                                     float *shares, struct akin_error *error)
{
    return bandits_shares(bandits->bandits, round, allowed, shares, error);
}

enum akin_status akin_bandits_posterior(struct akin_bandits *bandits, size_t bandit,
                                        struct akin_bandit_posterior *posterior,
                                        uint64_t *rewards, struct akin_error *error)
{
    return bandits_posterior(bandits->bandits, bandit, posterior, rewards, error);
}

enum akin_status akin_bandits_restore(struct akin_bandits *bandits, size_t bandit,
                                      const struct akin_bandit_posterior *posterior,
                                      uint64_t rewards, struct akin_error *error)
{
    return bandits_restore(bandits->bandits, bandit, posterior, rewards, error);
}
