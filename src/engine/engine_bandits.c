/* include/akin/bandits.h over src/recommend/bandit.h. */
#include "akin/bandits.h"

#include "base/memory.h"
#include "compute/cpu/kernels.h"
#include "engine/engine.h"
#include "recommend/bandit.h"

struct akin_bandits {
    struct bandits *bandits;
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
    enum akin_status status =
        bandits_create(cpu_kernels(engine->backend), settings, &handle->bandits, error);
    if (status == AKIN_OK)
        *bandits = handle;
    else
        memory_free(handle);
    return status;
}

void akin_bandits_destroy(struct akin_bandits **bandits)
{
    if (!*bandits)
        return;
    bandits_destroy(&(*bandits)->bandits);
    memory_free(*bandits);
    *bandits = NULL;
}

enum akin_status akin_bandits_choose(struct akin_bandits *bandits,
                                     const struct akin_bandit_round *round,
                                     struct akin_bandit_choice *choices, struct akin_error *error)
{
    return bandits_choose(bandits->bandits, round, choices, error);
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
