/* Bandits: they find the best arm and follow it when it changes, propensities are those of the
 * draws, what is wrong is refused without a trace, and many threads at once lose nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "compute/cpu/kernels.h"
#include "recommend/bandit.h"

/* The textbook's. */
static struct akin_bandits_settings plain(size_t bandits, size_t arms)
{
    return (struct akin_bandits_settings){ .bandits = bandits, .arms = arms, .prior_alpha = 1,
                                           .prior_beta = 1, .sharpness = 1 };
}

static struct bandits *make(const struct kernels *kernels,
                            const struct akin_bandits_settings *settings)
{
    struct bandits *bandits = NULL;
    struct akin_error error = { 0 };
    if (bandits_create(kernels, settings, &bandits, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return bandits;
}

static size_t chosen(struct bandits *bandits, size_t bandit, uint64_t round)
{
    struct akin_bandit_choice choice;
    struct akin_bandit_round asked = { .bandit = bandit, .round = round, .k = 1 };
    assert_int_equal(bandits_choose(bandits, &asked, &choice, NULL), AKIN_OK);
    assert_true(choice.draw >= 0 && choice.draw <= 1 && isnan(choice.propensity));
    return choice.arm;
}

/* Plays with arm `best` of mean 0.7, the others 0.3; returns how often the best was chosen. */
static size_t play(struct bandits *bandits, size_t best, uint64_t first, size_t rounds)
{
    struct rng rng;
    size_t hits = 0;
    rng_seed(&rng, first + 1);
    for (uint64_t t = first; t < first + rounds; t++) {
        size_t arm = chosen(bandits, 0, t);
        float reward = rng_float(&rng) < (arm == best ? 0.7f : 0.3f);
        hits += arm == best;
        assert_int_equal(bandits_reward(bandits, 0, arm, reward, NULL), AKIN_OK);
    }
    return hits;
}

static void test_learns_and_follows(void **state)
{
    (void)state;
    struct kernels kernels;
    struct akin_bandits_settings settings = plain(2, 10);
    kernels_select(&kernels, cpu_detect());
    size_t still = 0;
    for (int decay = 0; decay < 3; decay++) {
        settings.half_life = decay == 1 ? 300 : 0;
        settings.arm_half_life = decay == 2 ? 100 : 0;
        struct bandits *bandits = make(&kernels, &settings);
        assert_true(play(bandits, 3, 0, 2000) > 1500);
        size_t followed = play(bandits, 7, 2000, 3000);
        assert_true(decay == 0 || followed > still + 100);
        still = decay ? still : followed;
        bandits_destroy(&bandits);
    }
}

/* Far fewer than all of many arms are tried, and in another order by each bandit. */
static void test_opens_slowly(void **state)
{
    (void)state;
    struct kernels kernels;
    struct akin_bandits_settings settings = plain(2, 1000);
    enum { ARMS = 1000, ROUNDS = 399 };
    bool tried[2][ARMS] = { { false } };
    size_t counts[2] = { 0 }, both = 0;
    kernels_select(&kernels, cpu_detect());
    settings.open_rate = 1;
    struct bandits *bandits = make(&kernels, &settings);
    for (uint64_t t = 0; t < ROUNDS; t++)
        for (size_t which = 0; which < 2; which++) {
            size_t arm = chosen(bandits, which, t);
            counts[which] += !tried[which][arm];
            tried[which][arm] = true;
            assert_int_equal(bandits_reward(bandits, which, arm, 0, NULL), AKIN_OK);
        }
    for (size_t i = 0; i < ARMS; i++)
        both += tried[0][i] && tried[1][i];
    assert_true(counts[0] >= 15 && counts[0] <= 20 && counts[1] >= 15 && counts[1] <= 20);
    assert_true(both < 6);
    bandits_destroy(&bandits);
}

/* Each arm's propensity is near the share of rounds in which it is chosen; those of all add to k.
 */
static void test_propensities(void **state)
{
    (void)state;
    struct kernels kernels;
    struct akin_bandits_settings settings = plain(1, 5);
    enum { ARMS = 5, K = 2, ROUNDS = 2000 };
    struct akin_bandit_choice choices[ARMS], again[ARMS];
    double shares[ARMS] = { 0 }, mean = 0, inverse = 0;
    kernels_select(&kernels, cpu_detect());
    struct bandits *bandits = make(&kernels, &settings);
    for (size_t i = 0; i < 3 * ARMS; i++)
        assert_int_equal(bandits_reward(bandits, 0, i % ARMS, (float)(i % ARMS) / ARMS, NULL),
                         AKIN_OK);
    struct akin_bandit_round all = { .k = ARMS, .replicas = 7 };
    assert_int_equal(bandits_choose(bandits, &all, choices, NULL), AKIN_OK);
    for (size_t i = 0; i < ARMS; i++)
        assert_true(choices[i].propensity == 1);
    for (uint64_t t = 0; t < ROUNDS; t++) {
        struct akin_bandit_round round = { .round = t, .k = K, .replicas = 99 };
        assert_int_equal(bandits_choose(bandits, &round, choices, NULL), AKIN_OK);
        assert_int_equal(bandits_choose(bandits, &round, again, NULL), AKIN_OK);
        assert_memory_equal(choices, again, sizeof *choices * K);
        assert_true(choices[0].draw >= choices[1].draw);
        for (size_t i = 0; i < K; i++) {
            assert_true(choices[i].propensity >= 0.01f && choices[i].propensity <= 1);
            shares[choices[i].arm] += 1.0 / ROUNDS;
            inverse += 1 / (double)choices[i].propensity / ROUNDS;
        }
    }
    for (uint64_t t = 0; t < 200; t++) {
        struct akin_bandit_round round = { .round = t, .k = K, .replicas = 999 };
        assert_int_equal(bandits_choose(bandits, &round, choices, NULL), AKIN_OK);
        for (size_t i = 0; i < K; i++)
            mean += fabs((double)choices[i].propensity - shares[choices[i].arm]) / (200 * K);
    }
    assert_true(mean < 0.02);
    assert_true(fabs(inverse - ARMS) < 0.5);    /* inverse propensities count every arm once */
    bandits_destroy(&bandits);
}

/* Shares are those of the draws; an arm that is not allowed has none. */
static void test_shares(void **state)
{
    (void)state;
    struct kernels kernels;
    enum { ARMS = 4, ROUNDS = 400 };
    struct akin_bandits_settings settings = plain(1, ARMS);
    struct akin_bandit_round round = { .round = 8, .k = 99, .replicas = 1023 };
    const bool some[ARMS] = { true, false, true, false }, none[ARMS] = { false };
    float shares[ARMS], again[ARMS], few[ARMS], sum = 0, chosen_of[ARMS] = { 0 };
    kernels_select(&kernels, cpu_detect());
    struct bandits *bandits = make(&kernels, &settings);
    for (size_t i = 0; i < 2 * ARMS; i++)
        assert_int_equal(bandits_reward(bandits, 0, i % ARMS, (float)(i % ARMS) / ARMS, NULL),
                         AKIN_OK);
    assert_int_equal(bandits_shares(bandits, &round, NULL, shares, NULL), AKIN_OK);
    assert_int_equal(bandits_shares(bandits, &round, NULL, again, NULL), AKIN_OK);
    assert_memory_equal(shares, again, sizeof shares);
    for (uint64_t t = 0; t < ROUNDS; t++)
        chosen_of[chosen(bandits, 0, t)] += 1.0f / ROUNDS;
    for (size_t i = 0; i < ARMS; i++) {
        sum += shares[i];
        assert_true(fabsf(shares[i] - chosen_of[i]) < 0.1f);
    }
    assert_true(fabsf(sum - 1) < 1e-5f && shares[3] > shares[0]);
    assert_int_equal(bandits_shares(bandits, &round, some, few, NULL), AKIN_OK);
    assert_true(few[1] == 0 && few[3] == 0 && fabsf(few[0] + few[2] - 1) < 1e-6f);
    assert_int_equal(bandits_shares(bandits, &round, none, few, NULL), AKIN_OK);
    assert_true(few[0] == 0 && few[2] == 0);
    round.bandit = 1;
    assert_int_equal(bandits_shares(bandits, &round, NULL, few, NULL), AKIN_ARGUMENT);
    round = (struct akin_bandit_round){ .replicas = 1024 };
    assert_int_equal(bandits_shares(bandits, &round, NULL, few, NULL), AKIN_ARGUMENT);
    bandits_destroy(&bandits);
}

/* Two arms, (2, 1) and (1, 2): the first is the better one with probability 5/6. Many draws at once
 * must be as independent as they are one by one. */
static void test_shares_of_few(void **state)
{
    (void)state;
    struct kernels kernels;
    enum { ROUNDS = 400, DRAWS = 700 };     /* more than one block of them */
    const struct akin_bandit_posterior posterior[2] = { { 2, 1 }, { 1, 2 } };
    struct akin_bandits_settings settings = plain(1, 2);
    double mean = 0, squares = 0, p = 5.0 / 6;
    kernels_select(&kernels, cpu_detect());
    struct bandits *bandits = make(&kernels, &settings);
    assert_int_equal(bandits_restore(bandits, 0, posterior, 0, NULL), AKIN_OK);
    for (uint64_t t = 0; t < ROUNDS; t++) {
        struct akin_bandit_round round = { .round = t, .replicas = DRAWS - 1 };
        float shares[2];
        assert_int_equal(bandits_shares(bandits, &round, NULL, shares, NULL), AKIN_OK);
        mean += (double)shares[0] / ROUNDS;
        squares += ((double)shares[0] - p) * ((double)shares[0] - p) / ROUNDS;
    }
    assert_true(fabs(mean - p) < 0.003);
    assert_true(fabs(squares / (p * (1 - p) / DRAWS) - 1) < 0.3);
    bandits_destroy(&bandits);
}

/* What was taken out and put into another goes on as it would have, bit by bit. */
static void test_kept(void **state)
{
    (void)state;
    struct kernels kernels;
    enum { ARMS = 10 };
    struct akin_bandits_settings settings;
    struct akin_bandit_posterior kept[ARMS], bad[ARMS];
    uint64_t rewards, same;
    kernels_select(&kernels, cpu_detect());
    bandits_settings_default(&settings);
    settings.bandits = 2;
    settings.arms = ARMS;
    struct bandits *one = make(&kernels, &settings), *two = make(&kernels, &settings);
    (void)play(one, 3, 0, 500);
    assert_int_equal(bandits_posterior(one, 0, kept, &rewards, NULL), AKIN_OK);
    assert_int_equal(rewards, 500);
    assert_true(kept[3].alpha > kept[3].beta);
    const float wrong[] = { NAN, -1, 0, INFINITY, 2e7f };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct akin_error error = { 0 };
        memcpy(bad, kept, sizeof kept);
        *(i % 2 ? &bad[7].alpha : &bad[7].beta) = wrong[i];
        assert_int_equal(bandits_restore(two, 0, bad, rewards, &error), AKIN_ARGUMENT);
        assert_non_null(strstr(error.message, "arm 7"));
    }
    assert_int_equal(bandits_restore(two, 2, kept, rewards, NULL), AKIN_ARGUMENT);
    assert_int_equal(bandits_posterior(two, 2, bad, &same, NULL), AKIN_ARGUMENT);
    assert_int_equal(bandits_posterior(two, 0, bad, &same, NULL), AKIN_OK);
    assert_true(same == 0 && bad[7].alpha == 1 && bad[7].beta == 1);
    assert_int_equal(bandits_restore(two, 0, kept, rewards, NULL), AKIN_OK);
    assert_int_equal(play(one, 7, 500, 500), play(two, 7, 500, 500));
    bandits_posterior(one, 0, kept, &rewards, NULL);
    bandits_posterior(two, 0, bad, &same, NULL);
    assert_memory_equal(kept, bad, sizeof kept);
    bandits_destroy(&one);
    bandits_destroy(&two);
}

/* Where arms are alike, one of which little is known is believed to be like the others; where they
 * are not, or not all are open, nothing changes. */
static void test_pooled(void **state)
{
    (void)state;
    struct kernels kernels;
    enum { ARMS = 12 };
    float shares[2][ARMS];
    kernels_select(&kernels, cpu_detect());
    for (int kind = 0; kind < 3; kind++) {
        for (int pooled = 0; pooled < 2; pooled++) {
            struct akin_bandits_settings settings = plain(1, ARMS);
            struct akin_bandit_posterior posterior[ARMS];
            struct akin_bandit_round round = { .replicas = 1023 };
            settings.pooled_max = pooled ? 100 : 0;
            settings.open_rate = kind == 2 ? 0.1 : 0;
            struct bandits *bandits = make(&kernels, &settings);
            for (size_t i = 0; i < ARMS; i++) {
                float mean = kind == 1 ? (float)i / ARMS : 0.25f;
                posterior[i] = (struct akin_bandit_posterior){ 1 + 200 * mean,
                                                               1 + 200 * (1 - mean) };
            }
            posterior[0] = (struct akin_bandit_posterior){ 1, 2 };
            assert_int_equal(bandits_restore(bandits, 0, posterior, 5, NULL), AKIN_OK);
            assert_int_equal(bandits_shares(bandits, &round, NULL, shares[pooled], NULL), AKIN_OK);
            bandits_destroy(&bandits);
        }
        if (kind == 0)
            assert_true(shares[0][0] > 0.4f && shares[1][0] < 0.3f);
        else
            assert_memory_equal(shares[0], shares[1], sizeof shares[0]);
    }
}

static void refused(const struct akin_bandits_settings *settings, const char *word)
{
    struct kernels kernels;
    struct bandits *bandits = NULL;
    struct akin_error error = { 0 };
    kernels_select(&kernels, 0);
    assert_int_equal(bandits_create(&kernels, settings, &bandits, &error), AKIN_ARGUMENT);
    assert_null(bandits);
    assert_non_null(strstr(error.message, word));
}

#define REFUSED(field, value)                                                        \
    do {                                                                             \
        struct akin_bandits_settings settings;                                       \
        bandits_settings_default(&settings);                                         \
        settings.field = (value);                                                    \
        refused(&settings, #field);                                                  \
    } while (0)

static void test_bad_settings(void **state)
{
    (void)state;
    REFUSED(bandits, 0);
    REFUSED(bandits, SIZE_MAX);
    REFUSED(arms, 0);
    REFUSED(arms, SIZE_MAX);
    REFUSED(arms, 65537);
    REFUSED(prior_alpha, 0);
    REFUSED(prior_alpha, NAN);
    REFUSED(prior_beta, -1);
    REFUSED(prior_beta, INFINITY);
    REFUSED(half_life, -1);
    REFUSED(half_life, 0.5);
    REFUSED(arm_half_life, (double)NAN);
    REFUSED(sharpness, 0);
    REFUSED(sharpness, NAN);
    REFUSED(open_rate, -1);
    REFUSED(open_rate, (double)INFINITY);
    REFUSED(pooled_max, -1);
    REFUSED(pooled_max, NAN);
}

static void test_bad_calls(void **state)
{
    (void)state;
    struct kernels kernels;
    struct akin_bandits_settings settings;
    struct akin_bandit_choice before[3], after[3];
    struct akin_bandit_round round = { .round = 5, .k = 3, .replicas = 9 };
    const struct akin_bandit_round bad[] = {
        { .bandit = 2, .k = 1 }, { .bandit = SIZE_MAX, .k = 1 }, { .k = 0 }, { .k = 4 },
        { .k = SIZE_MAX }, { .k = 1, .replicas = 1024 },
    };
    kernels_select(&kernels, cpu_detect());
    bandits_settings_default(&settings);
    settings.bandits = 2;
    settings.arms = 3;
    struct bandits *bandits = make(&kernels, &settings);
    assert_int_equal(bandits_choose(bandits, &round, before, NULL), AKIN_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(bandits_choose(bandits, &bad[i], after, NULL), AKIN_ARGUMENT);
    assert_int_equal(bandits_reward(bandits, 0, 0, NAN, NULL), AKIN_ARGUMENT);
    assert_int_equal(bandits_reward(bandits, 0, 0, -0.1f, NULL), AKIN_ARGUMENT);
    assert_int_equal(bandits_reward(bandits, 0, 0, 1.1f, NULL), AKIN_ARGUMENT);
    assert_int_equal(bandits_reward(bandits, 0, 3, 1, NULL), AKIN_ARGUMENT);
    assert_int_equal(bandits_reward(bandits, 2, 0, 1, NULL), AKIN_ARGUMENT);
    assert_int_equal(bandits_choose(bandits, &round, after, NULL), AKIN_OK);
    assert_memory_equal(before, after, sizeof before);
    bandits_destroy(&bandits);
    bandits_destroy(&bandits);
}

struct crowd {
    struct bandits *bandits;
};

enum { CROWD = 4000 };

static void use(void *context, size_t begin, size_t end, int worker)
{
    struct crowd *crowd = context;
    (void)worker;
    for (size_t i = begin; i < end; i++) {
        struct akin_bandit_choice choice;
        struct akin_bandit_round round = { .round = i, .k = 1, .bandit = i % 2 };
        (void)bandits_choose(crowd->bandits, &round, &choice, NULL);
        (void)bandits_reward(crowd->bandits, 0, 1, 1, NULL);
    }
}

static void test_threads(void **state)
{
    (void)state;
    struct kernels kernels;
    struct akin_bandits_settings settings;
    kernels_select(&kernels, cpu_detect());
    bandits_settings_default(&settings);
    settings.bandits = 2;
    settings.arms = 2;
    struct bandits *one = make(&kernels, &settings), *many = make(&kernels, &settings);
    struct crowd crowd = { many };
    struct thread_pool *pool = thread_pool_create(4);
    assert_non_null(pool);
    thread_pool_run(pool, CROWD, use, &crowd);
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(bandits_reward(one, 0, 1, 1, NULL), AKIN_OK);
    struct akin_bandit_round round = { .round = 3, .k = 2 };
    struct akin_bandit_choice a[2], b[2];
    assert_int_equal(bandits_choose(one, &round, a, NULL), AKIN_OK);
    assert_int_equal(bandits_choose(many, &round, b, NULL), AKIN_OK);
    for (int i = 0; i < 2; i++)
        assert_true(a[i].arm == b[i].arm && a[i].draw == b[i].draw);
    thread_pool_destroy(&pool);
    bandits_destroy(&one);
    bandits_destroy(&many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns_and_follows), cmocka_unit_test(test_opens_slowly),
        cmocka_unit_test(test_propensities),       cmocka_unit_test(test_shares),
        cmocka_unit_test(test_shares_of_few),
        cmocka_unit_test(test_kept),               cmocka_unit_test(test_pooled),
        cmocka_unit_test(test_bad_settings),
        cmocka_unit_test(test_bad_calls),          cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
