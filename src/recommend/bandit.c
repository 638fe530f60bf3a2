#include "recommend/bandit.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/philox.h"
#include "base/thread.h"
#include "compute/best.h"
#include "compute/cpu/kernels.h"

enum {
    OPEN_MIN = 10,
    LOCKS = 64,
    BANDITS_MAX = 1 << 16,
    ARMS_MAX = 1 << 16,
    ALL_ARMS_MAX = 1 << 26,
    POOLED_EACH = 2,    /* rewards of an arm, on average, and */
    POOLED_FROM = 2     /* times the evidence of the prior, below which nothing is pooled */
};

struct bandits {
    struct akin_bandits_settings settings;
    const struct kernels *kernels;
    float keep, keep_arm;       /* what is left of evidence after a reward */
    uint64_t *rewards;          /* [bandits] so far */
    uint64_t *changes;          /* [bandits] of the posteriors so far, and 1 */
    float *alpha, *beta;        /* [bandits][arms], one block */
    struct mutex *locks[LOCKS]; /* number i guards bandits i, i + 64, ... */
};

void bandits_settings_default(struct akin_bandits_settings *settings)
{
    *settings = (struct akin_bandits_settings){ .bandits = 1000, .arms = 1000, .prior_alpha = 1,
                                                .prior_beta = 1, .half_life = 3000,
                                                .arm_half_life = 200, .sharpness = 8,
                                                .open_rate = 0.5, .pooled_max = 100 };
}

static enum akin_status check_settings(const struct akin_bandits_settings *s,
                                       struct akin_error *error)
{
    const float priors[] = { s->prior_alpha, s->prior_beta };
    if (s->bandits < 1 || s->bandits > BANDITS_MAX)
        return error_set(error, AKIN_ARGUMENT, "bandits: %zu, must be 1 to %d", s->bandits,
                         BANDITS_MAX);
    if (s->arms < 1 || s->arms > ARMS_MAX || s->arms * s->bandits > ALL_ARMS_MAX)
        return error_set(error, AKIN_ARGUMENT, "arms: %zu, must be 1 to %d, and at most %d of all "
                         "bandits together", s->arms, ARMS_MAX, ALL_ARMS_MAX);
    for (int i = 0; i < 2; i++)
        if (!(priors[i] >= BETA_SHAPE_MIN && priors[i] <= 1e6f))
            return error_set(error, AKIN_ARGUMENT, "prior_%s: %g, must be 0.01 to 1000000",
                             i ? "beta" : "alpha", (double)priors[i]);
    const double half_lives[] = { s->half_life, s->arm_half_life };
    for (int i = 0; i < 2; i++)
        if (half_lives[i] != 0 && !(half_lives[i] >= 1 && half_lives[i] <= 1e12))
            return error_set(error, AKIN_ARGUMENT, "%shalf_life: %g, must be 0 (no decay) or 1 to "
                             "1e12 rewards", i ? "arm_" : "", half_lives[i]);
    if (!(s->sharpness >= 0.01f && s->sharpness <= 100))
        return error_set(error, AKIN_ARGUMENT, "sharpness: %g, must be 0.01 to 100",
                         (double)s->sharpness);
    if (!(s->open_rate >= 0 && s->open_rate <= 1e6))
        return error_set(error, AKIN_ARGUMENT, "open_rate: %g, must be 0 to 1e6", s->open_rate);
    if (!(s->pooled_max >= 0 && s->pooled_max <= 1e6f))
        return error_set(error, AKIN_ARGUMENT, "pooled_max: %g, must be 0 to 1e6",
                         (double)s->pooled_max);
    return AKIN_OK;
}

static float keep_of(double half_life)
{
    return half_life > 0 ? (float)exp2(-1 / half_life) : 1;
}

enum akin_status bandits_create(const struct kernels *kernels,
                                const struct akin_bandits_settings *settings,
                                struct bandits **bandits, struct akin_error *error)
{
    TRY(check_settings(settings, error));
    size_t all = settings->bandits * settings->arms;
    struct bandits *b = memory_alloc(1, sizeof *b);
    if (!b)
        return error_memory(error);
    *b = (struct bandits){ .settings = *settings, .kernels = kernels,
                           .keep = keep_of(settings->half_life),
                           .keep_arm = keep_of(settings->arm_half_life) };
    b->rewards = memory_alloc(settings->bandits, sizeof *b->rewards);
    b->changes = memory_alloc(settings->bandits, sizeof *b->changes);
    b->alpha = memory_alloc_aligned(all, 2 * sizeof *b->alpha);
    bool whole = b->alpha && b->rewards && b->changes;
    for (int i = 0; i < LOCKS; i++)
        whole &= (b->locks[i] = mutex_create()) != NULL;
    if (!whole) {
        bandits_destroy(&b);
        return error_memory(error);
    }
    b->beta = b->alpha + all;
    for (size_t i = 0; i < settings->bandits; i++)
        b->changes[i] = 1;
    for (size_t i = 0; i < all; i++) {
        b->alpha[i] = settings->prior_alpha;
        b->beta[i] = settings->prior_beta;
    }
    *bandits = b;
    return AKIN_OK;
}

void bandits_destroy(struct bandits **bandits)
{
    if (!*bandits)
        return;
    for (int i = 0; i < LOCKS; i++)
        if ((*bandits)->locks[i])
            mutex_destroy(&(*bandits)->locks[i]);
    memory_free((*bandits)->alpha);
    memory_free((*bandits)->rewards);
    memory_free((*bandits)->changes);
    memory_free(*bandits);
    *bandits = NULL;
}

static enum akin_status check_bandit(const struct bandits *b, size_t bandit,
                                     struct akin_error *error)
{
    if (bandit >= b->settings.bandits)
        return error_set(error, AKIN_ARGUMENT, "bandit %zu: there are %zu", bandit,
                         b->settings.bandits);
    return AKIN_OK;
}

static struct mutex *lock_of(const struct bandits *b, size_t bandit)
{
    return b->locks[bandit % LOCKS];
}

/* An order by lot: place p is of arm (step * p + start) mod arms, step without a common divisor. */
struct order {
    uint64_t step, start, arms;
};

static struct order order_of(const struct bandits *b, size_t bandit)
{
    const uint32_t counter[4] = { (uint32_t)bandit, 0, 0, UINT32_MAX };
    const uint32_t key[2] = { (uint32_t)b->settings.seed, (uint32_t)(b->settings.seed >> 32) };
    uint32_t words[4];
    uint64_t arms = b->settings.arms;
    philox_4x32(counter, key, words);
    struct order order = { words[0] % arms, words[1] % arms, arms };
    for (;; order.step = (order.step + 1) % arms) {
        uint64_t x = order.step, y = arms;
        while (y) {
            uint64_t rest = x % y;
            x = y;
            y = rest;
        }
        if (x == 1)     /* of 1 arm: 0 and 1 have 1 in common */
            return order;
    }
}

static size_t arm_at(const struct order *order, size_t place)
{
    return (order->step * place + order->start) % order->arms;
}

static size_t place_of(const struct order *order, size_t arm)
{
    size_t place = 0;
    for (uint64_t at = order->start; at != arm; place++)
        at = (at + order->step) % order->arms;
    return place;
}

/* Under the bandit's lock. */
static size_t open_arms(const struct bandits *b, size_t bandit, size_t k)
{
    size_t arms = b->settings.arms;
    double open = b->settings.open_rate * sqrt(1 + (double)b->rewards[bandit]);
    open = fmax(fmax(open, OPEN_MIN), (double)k);
    return b->settings.open_rate == 0 || open >= (double)arms ? arms : (size_t)open;
}

/* ---- what arms have in common ------------------------------------------------------------ */

/* Rewards of one arm so far, without sharpness. */
struct tried {
    double won, rewards;
};

static struct tried tried_at(const struct akin_bandits_settings *s, const float *alpha,
                             const float *beta, size_t i)
{
    double won = (double)(alpha[i] - s->prior_alpha) / (double)s->sharpness;
    return (struct tried){ won, won + (double)(beta[i] - s->prior_beta) / (double)s->sharpness };
}

/* How many rewards the prior of an arm is worth, by how far the means of the arms lie apart; 0: so
 * far that nothing is known of one from the others. *mean: of the arms. */
static double pooled_strength(const struct akin_bandits_settings *s, const float *alpha,
                              const float *beta, size_t arms, double *mean)
{
    double won = 0, total = 0, squares = 0, apart = 0, weights = 0, arms_tried = 0;
    for (size_t i = 0; i < arms; i++) {
        struct tried t = tried_at(s, alpha, beta, i);
        won += t.won;
        total += t.rewards;
        squares += t.rewards * t.rewards;
        arms_tried += t.rewards > 0;
    }
    double least = (double)s->prior_alpha + (double)s->prior_beta, first = won / total;
    double within = first * (1 - first);
    if (!(arms_tried > 1 && total > POOLED_EACH * arms_tried && within > 0))
        return 0;
    for (size_t i = 0; i < arms; i++) {
        struct tried t = tried_at(s, alpha, beta, i);
        double off = t.won - t.rewards * first;
        apart += t.rewards > 0 ? off * off / t.rewards : 0;
    }
    double between = (apart - (arms_tried - 1) * within) / (total - squares / total);
    double strength = fmin((double)s->pooled_max, within / fmax(between, 1e-9) - 1);
    if (!(strength > POOLED_FROM * least))
        return 0;
    for (size_t i = 0; i < arms; i++) {
        struct tried t = tried_at(s, alpha, beta, i);
        double weight = t.rewards / (t.rewards + strength);
        weights += weight;
        *mean += t.rewards > 0 ? weight * t.won / t.rewards : 0;
    }
    *mean /= weights;
    return strength;
}

/* The prior in copies [open] becomes what the arms have in common. Only where all are open: those
 * that were tried first are the better ones by now, and say too much of those that were not. */
static void pool(const struct akin_bandits_settings *s, float *alpha, float *beta, size_t open)
{
    double mean = 0;
    bool all = s->pooled_max > 0 && open == s->arms;
    double strength = all ? pooled_strength(s, alpha, beta, open, &mean) : 0;
    if (!(strength > 0))
        return;
    strength *= (double)s->sharpness;
    for (size_t i = 0; i < open; i++) {
        alpha[i] += (float)(strength * mean) - s->prior_alpha;
        beta[i] += (float)(strength * (1 - mean)) - s->prior_beta;
        alpha[i] = fminf(fmaxf(alpha[i], BETA_SHAPE_MIN), BETA_SHAPE_MAX);
        beta[i] = fminf(fmaxf(beta[i], BETA_SHAPE_MIN), BETA_SHAPE_MAX);
    }
}

/* ---- choosing --------------------------------------------------------------------------- */

/* What a round works on. */
struct draws {
    float *alpha, *beta, *drawn;    /* [open], by place */
    struct hit *hits, *others;      /* [k] */
    size_t open;
};

static void best_of(const float *drawn, size_t arms, struct hit *hits, size_t k)
{
    struct best best = { .hits = hits, .capacity = k };
    for (size_t i = 0; i < arms; i++)
        if (best.count < k || drawn[i] > hits[0].score)
            best_offer(&best, (struct hit){ .score = drawn[i], .row = (uint32_t)i });
    best_drain(&best, hits);
}

static struct beta_key key_of(const struct bandits *b, const struct akin_bandit_round *round)
{
    return (struct beta_key){
        .seed = { (uint32_t)b->settings.seed, (uint32_t)(b->settings.seed >> 32) },
        .round = { (uint32_t)round->round, (uint32_t)(round->round >> 32) },
        .stream = (uint32_t)round->bandit,
    };
}

static void choose(const struct bandits *b, const struct akin_bandit_round *round,
                   const struct draws *d, struct akin_bandit_choice *choices)
{
    size_t open = d->open, k = round->k;
    struct order order = order_of(b, round->bandit);
    struct beta_key key = key_of(b, round);
    b->kernels->draw_beta_f32(d->drawn, d->alpha, d->beta, open, &key);
    best_of(d->drawn, open, d->hits, k);
    for (size_t i = 0; i < k; i++)
        choices[i] = (struct akin_bandit_choice){
            arm_at(&order, d->hits[i].row), d->hits[i].score, round->replicas ? 1 : NAN };
    for (size_t r = 1; r <= round->replicas; r++) {
        key.replica = (uint32_t)r;
        b->kernels->draw_beta_f32(d->drawn, d->alpha, d->beta, open, &key);
        best_of(d->drawn, open, d->others, k);
        struct hit last = d->others[k - 1];
        for (size_t i = 0; i < k; i++) {
            uint32_t place = d->hits[i].row;
            choices[i].propensity += !hit_better(last, (struct hit){ .score = d->drawn[place],
                                                                     .row = place });
        }
    }
    for (size_t i = 0; i < k; i++)
        choices[i].propensity /= (float)(round->replicas + 1);
}

enum akin_status bandits_check(const struct bandits *b, const struct akin_bandit_round *round,
                               struct akin_error *error)
{
    size_t arms = b->settings.arms;
    TRY(check_bandit(b, round->bandit, error));
    if (round->k < 1 || round->k > arms || round->k > AKIN_BANDIT_CHOICES_MAX)
        return error_set(error, AKIN_ARGUMENT, "k: %zu, must be 1 to %zu", round->k,
                         arms < AKIN_BANDIT_CHOICES_MAX ? arms : AKIN_BANDIT_CHOICES_MAX);
    if (round->replicas > AKIN_BANDIT_REPLICAS_MAX)
        return error_set(error, AKIN_ARGUMENT, "replicas: %zu, must be 0 to %d", round->replicas,
                         AKIN_BANDIT_REPLICAS_MAX);
    return AKIN_OK;
}

static void free_draws(struct draws *d)
{
    memory_free(d->alpha);
    memory_free(d->hits);
}

/* Memory of a round, with copies of the posteriors of its open arms. */
static enum akin_status take_draws(const struct bandits *b, const struct akin_bandit_round *round,
                                   struct draws *d, struct akin_error *error)
{
    size_t arms = b->settings.arms;
    float *block = memory_alloc_aligned(3 * arms, sizeof *block);
    struct hit *hits = memory_alloc(2 * round->k, sizeof *hits);
    *d = (struct draws){ .alpha = block, .hits = hits };
    if (!block || !hits) {
        free_draws(d);
        return error_memory(error);
    }
    d->beta = block + arms;
    d->drawn = block + 2 * arms;
    d->others = hits + round->k;
    mutex_lock(lock_of(b, round->bandit));
    d->open = open_arms(b, round->bandit, round->k);
    memcpy(d->alpha, b->alpha + round->bandit * arms, d->open * sizeof *d->alpha);
    memcpy(d->beta, b->beta + round->bandit * arms, d->open * sizeof *d->beta);
    mutex_unlock(lock_of(b, round->bandit));
    pool(&b->settings, d->alpha, d->beta, d->open);
    return AKIN_OK;
}

enum akin_status bandits_choose(struct bandits *b, const struct akin_bandit_round *round,
                                struct akin_bandit_choice *choices, struct akin_error *error)
{
    struct draws draws;
    TRY(bandits_check(b, round, error));
    TRY(take_draws(b, round, &draws, error));
    choose(b, round, &draws, choices);
    free_draws(&draws);
    return AKIN_OK;
}

/* ---- for batches ------------------------------------------------------------------------- */

void bandits_size(const struct bandits *b, size_t *bandits, size_t *arms)
{
    *bandits = b->settings.bandits;
    *arms = b->settings.arms;
}

uint64_t bandits_seed(const struct bandits *b)
{
    return b->settings.seed;
}

size_t bandits_arm_at(const struct bandits *b, size_t bandit, size_t place)
{
    struct order order = order_of(b, bandit);
    return arm_at(&order, place);
}

bool bandits_copy(const struct bandits *b, size_t bandit, uint64_t *known, float *alpha,
                  float *beta, size_t *open)
{
    size_t arms = b->settings.arms;
    mutex_lock(lock_of(b, bandit));
    bool changed = b->changes[bandit] != *known;
    *known = b->changes[bandit];
    if (changed) {
        *open = open_arms(b, bandit, 1);
        memcpy(alpha, b->alpha + bandit * arms, arms * sizeof *alpha);
        memcpy(beta, b->beta + bandit * arms, arms * sizeof *beta);
    }
    mutex_unlock(lock_of(b, bandit));
    if (changed)
        pool(&b->settings, alpha, beta, *open);
    return changed;
}

/* ---- shares ----------------------------------------------------------------------------- */

enum { SHARE_BLOCK = 640 };     /* draws of one call of the kernel */

/* Which of the open arms that are allowed has the greatest draw, ties by place; SIZE_MAX: none. */
static size_t best_allowed(const struct order *order, const float *drawn, size_t open,
                           const bool *allowed)
{
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < open; i++)
        if ((!allowed || allowed[arm_at(order, i)]) && (best == SIZE_MAX || drawn[i] > drawn[best]))
            best = i;
    return best == SIZE_MAX ? best : arm_at(order, best);
}

/* Few arms are drawn many times over in one call, as if they were as many more: five would leave
 * most lanes of the kernel idle. */
static size_t copies_of(const struct draws *d, const struct akin_bandit_round *round)
{
    size_t copies = d->open < SHARE_BLOCK ? SHARE_BLOCK / d->open : 1;
    return copies < round->replicas + 1 ? copies : round->replicas + 1;
}

/* block [3][copies][open] */
static void share(const struct bandits *b, const struct akin_bandit_round *round,
                  const struct draws *d, size_t copies, float *block, const bool *allowed,
                  float *shares)
{
    struct order order = order_of(b, round->bandit);
    struct beta_key key = key_of(b, round);
    size_t open = d->open, total = round->replicas + 1;
    float *alpha = block, *beta = alpha + copies * open, *drawn = beta + copies * open;
    for (size_t i = 0; i < b->settings.arms; i++)
        shares[i] = 0;
    for (size_t c = 0; c < copies; c++) {
        memcpy(alpha + c * open, d->alpha, open * sizeof *alpha);
        memcpy(beta + c * open, d->beta, open * sizeof *beta);
    }
    for (size_t done = 0; done < total; done += copies) {
        size_t live = total - done < copies ? total - done : copies;
        key.replica = (uint32_t)(done / copies);
        b->kernels->draw_beta_f32(drawn, alpha, beta, live * open, &key);
        for (size_t c = 0; c < live; c++) {
            size_t best = best_allowed(&order, drawn + c * open, open, allowed);
            if (best != SIZE_MAX)
                shares[best] += 1;
        }
    }
    for (size_t i = 0; i < b->settings.arms; i++)
        shares[i] /= (float)total;
}

enum akin_status bandits_shares(struct bandits *b, const struct akin_bandit_round *round,
                                const bool *allowed, float *shares, struct akin_error *error)
{
    struct draws draws;
    struct akin_bandit_round first = *round;
    first.k = 1;
    TRY(bandits_check(b, &first, error));
    TRY(take_draws(b, &first, &draws, error));
    size_t copies = copies_of(&draws, &first);
    float *block = memory_alloc_aligned(3 * copies * draws.open, sizeof *block);
    if (block)
        share(b, &first, &draws, copies, block, allowed, shares);
    free_draws(&draws);
    memory_free(block);
    return block ? AKIN_OK : error_memory(error);
}

/* ---- what was learned ------------------------------------------------------------------- */

enum akin_status bandits_posterior(struct bandits *b, size_t bandit,
                                   struct akin_bandit_posterior *posterior, uint64_t *rewards,
                                   struct akin_error *error)
{
    size_t arms = b->settings.arms;
    TRY(check_bandit(b, bandit, error));
    struct order order = order_of(b, bandit);
    mutex_lock(lock_of(b, bandit));
    for (size_t place = 0; place < arms; place++)
        posterior[arm_at(&order, place)] = (struct akin_bandit_posterior){
            b->alpha[bandit * arms + place], b->beta[bandit * arms + place] };
    *rewards = b->rewards[bandit];
    mutex_unlock(lock_of(b, bandit));
    return AKIN_OK;
}

enum akin_status bandits_restore(struct bandits *b, size_t bandit,
                                 const struct akin_bandit_posterior *posterior, uint64_t rewards,
                                 struct akin_error *error)
{
    size_t arms = b->settings.arms;
    TRY(check_bandit(b, bandit, error));
    for (size_t i = 0; i < 2 * arms; i++) {
        float shape = i % 2 ? posterior[i / 2].beta : posterior[i / 2].alpha;
        if (!(shape >= BETA_SHAPE_MIN && shape <= BETA_SHAPE_MAX))
            return error_set(error, AKIN_ARGUMENT, "arm %zu: %s is %g, must be %g to %g", i / 2,
                             i % 2 ? "beta" : "alpha", (double)shape, (double)BETA_SHAPE_MIN,
                             (double)BETA_SHAPE_MAX);
    }
    struct order order = order_of(b, bandit);
    mutex_lock(lock_of(b, bandit));
    for (size_t place = 0; place < arms; place++) {
        b->alpha[bandit * arms + place] = posterior[arm_at(&order, place)].alpha;
        b->beta[bandit * arms + place] = posterior[arm_at(&order, place)].beta;
    }
    b->rewards[bandit] = rewards;
    b->changes[bandit]++;
    mutex_unlock(lock_of(b, bandit));
    return AKIN_OK;
}

/* ---- learning --------------------------------------------------------------------------- */

enum akin_status bandits_reward(struct bandits *b, size_t bandit, size_t arm, float reward,
                                struct akin_error *error)
{
    const struct akin_bandits_settings *s = &b->settings;
    TRY(check_bandit(b, bandit, error));
    if (arm >= s->arms)
        return error_set(error, AKIN_ARGUMENT, "arm %zu: there are %zu", arm, s->arms);
    if (!(reward >= 0 && reward <= 1))
        return error_set(error, AKIN_ARGUMENT, "reward: %g, must be 0 to 1", (double)reward);
    struct order order = order_of(b, bandit);
    size_t place = place_of(&order, arm);
    float *alpha = b->alpha + bandit * s->arms, *beta = b->beta + bandit * s->arms;
    mutex_lock(lock_of(b, bandit));
    for (size_t i = 0; i < s->arms && b->keep < 1; i++) {
        alpha[i] = s->prior_alpha + b->keep * (alpha[i] - s->prior_alpha);
        beta[i] = s->prior_beta + b->keep * (beta[i] - s->prior_beta);
    }
    alpha += place;
    beta += place;
    *alpha = s->prior_alpha + b->keep_arm * (*alpha - s->prior_alpha) +
             s->sharpness * reward;
    *beta = s->prior_beta + b->keep_arm * (*beta - s->prior_beta) +
            s->sharpness * (1 - reward);
    *alpha = fminf(*alpha, BETA_SHAPE_MAX);
    *beta = fminf(*beta, BETA_SHAPE_MAX);
    b->rewards[bandit]++;
    b->changes[bandit]++;
    mutex_unlock(lock_of(b, bandit));
    return AKIN_OK;
}
