/* See bandit_policies.h. */
#include "cli/bandit_policies.h"

#include <math.h>

#include "base/memory.h"
#include "base/status.h"

struct player {
    enum player_kind kind;
    double epsilon;
    size_t arms;
    uint64_t rounds;            /* played so far */
    struct rng rng;
    struct akin_bandits *bandits;
    double *sums;               /* [arms] of rewards, */
    double *counts;             /* and their number */
};

enum akin_status player_create(struct akin_engine *engine, enum player_kind kind, double epsilon,
                               size_t arms, uint64_t seed, struct player **player,
                               struct akin_error *error)
{
    struct player *p = memory_alloc(1, sizeof *p);
    enum akin_status status = AKIN_OK;
    if (!p)
        return error_memory(error);
    *p = (struct player){ .kind = kind, .epsilon = epsilon, .arms = arms };
    rng_seed(&p->rng, seed);
    if (kind == PLAYER_THOMPSON || kind == PLAYER_PLAIN) {
        struct akin_bandits_settings settings;
        akin_bandits_settings_default(&settings);
        settings.bandits = 1;
        settings.arms = arms;
        settings.seed = seed;
        if (kind == PLAYER_PLAIN)
            settings.half_life = settings.arm_half_life = settings.open_rate = 0;
        if (kind == PLAYER_PLAIN)
            settings.sharpness = 1;
        if (kind == PLAYER_PLAIN)
            settings.pooled_max = 0;
        TRY_DONE(akin_bandits_create(engine, &settings, &p->bandits, error));
    }
    p->sums = memory_alloc(arms, sizeof *p->sums);
    p->counts = memory_alloc(arms, sizeof *p->counts);
    if (!p->sums || !p->counts)
        TRY_DONE(error_memory(error));
    *player = p;
    return AKIN_OK;
done:
    player_destroy(&p);
    return status;
}

void player_destroy(struct player **player)
{
    if (!*player)
        return;
    akin_bandits_destroy(&(*player)->bandits);
    memory_free((*player)->sums);
    memory_free((*player)->counts);
    memory_free(*player);
    *player = NULL;
}

/* Equal ones by lot: the i-th of them takes the place with probability 1 / i. */
static size_t greatest_mean(struct player *p)
{
    double best = -1;
    size_t at = 0, equal = 0;
    for (size_t i = 0; i < p->arms; i++) {
        double mean = p->counts[i] > 0 ? p->sums[i] / p->counts[i] : 0;
        if (mean < best)
            continue;
        equal = mean > best ? 1 : equal + 1;
        if (rng_below(&p->rng, equal) == 0)
            at = i;
        best = mean;
    }
    return at;
}

static size_t greatest_bound(const struct player *p)
{
    double best = -1, width = 2 * log((double)p->rounds);
    size_t at = 0;
    for (size_t i = 0; i < p->arms; i++) {
        if (p->counts[i] == 0)
            return i;
        double bound = p->sums[i] / p->counts[i] + sqrt(width / p->counts[i]);
        if (bound > best) {
            best = bound;
            at = i;
        }
    }
    return at;
}

enum akin_status player_choose(struct player *p, size_t *arm, struct akin_error *error)
{
    struct akin_bandit_choice choice;
    struct akin_bandit_round round = { .round = p->rounds, .k = 1 };
    switch (p->kind) {
    case PLAYER_THOMPSON:
    case PLAYER_PLAIN:
        TRY(akin_bandits_choose(p->bandits, &round, &choice, error));
        *arm = choice.arm;
        break;
    case PLAYER_EPSILON:
        *arm = (double)rng_float(&p->rng) < p->epsilon ? rng_below(&p->rng, p->arms)
                                                         : greatest_mean(p);
        break;
    case PLAYER_UCB1:
        *arm = greatest_bound(p);
        break;
    }
    p->rounds++;
    return AKIN_OK;
}

enum akin_status player_reward(struct player *p, size_t arm, float reward,
                               struct akin_error *error)
{
    if (p->bandits)
        return akin_bandits_reward(p->bandits, 0, arm, reward, error);
    p->sums[arm] += (double)reward;
    p->counts[arm]++;
    return AKIN_OK;
}
