/* What `akin bench bandits` plays with: simulated worlds drift as they say, and the other policies
 * are those of their papers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/bandit_policies.h"
#include "cli/bandit_worlds.h"

enum { ARMS = 50, ROUNDS = 5000, EPOCHS = ROUNDS / WORLD_EPOCH };

static void test_worlds(void **state)
{
    (void)state;
    for (int drift = 0; drift < WORLD_DRIFTS; drift++) {
        struct world world, same;
        size_t moved = 0, far = 0;
        double rewards = 0, expected = 0;
        assert_int_equal(world_create((enum world_drift)drift, ARMS, ROUNDS, 3, &world, NULL), 0);
        assert_int_equal(world_create((enum world_drift)drift, ARMS, ROUNDS, 3, &same, NULL), 0);
        assert_memory_equal(world.means, same.means, sizeof(float) * EPOCHS * ARMS);
        for (size_t i = 0; i < EPOCHS * ARMS; i++) {
            float mean = world.means[i];
            assert_true(mean >= 0 && mean <= 1 && mean <= world.best[i / ARMS]);
            moved += i >= ARMS && mean != world.means[i - ARMS];
            far += i >= ARMS && fabsf(mean - world.means[i - ARMS]) > 0.2f;
        }
        size_t steps = (EPOCHS - 1) * ARMS;
        assert_true(drift != WORLD_FIXED || moved == 0);
        assert_true(drift != WORLD_WALK || (moved == steps && far == 0));
        assert_true(drift != WORLD_TURNOVER || (moved > 10 && moved < 45));
        assert_true(drift != WORLD_JUMPS || moved == 4 * ARMS);
        for (size_t t = 0; t < ROUNDS; t++) {
            float reward = world_reward(&world, t, t % ARMS);
            assert_true(reward == 0 || reward == 1);
            assert_true(reward == world_reward(&same, t, t % ARMS));
            rewards += (double)reward;
            expected += (double)world.means[t / WORLD_EPOCH * ARMS + t % ARMS];
        }
        assert_true(fabs(rewards - expected) < 4 * sqrt(ROUNDS / 4.0));
        world_free(&world);
        world_free(&same);
    }
}

/* Rewards by hand: arm 2 always gives, the others never. */
static size_t plays_of_two(enum player_kind kind, double epsilon, size_t rounds, size_t *untried)
{
    struct player *player = NULL;
    size_t plays[ARMS] = { 0 };
    assert_int_equal(player_create(NULL, kind, epsilon, ARMS, 9, &player, NULL), AKIN_OK);
    for (size_t t = 0; t < rounds; t++) {
        size_t arm;
        assert_int_equal(player_choose(player, &arm, NULL), AKIN_OK);
        assert_true(arm < ARMS);
        plays[arm]++;
        assert_int_equal(player_reward(player, arm, arm == 2, NULL), AKIN_OK);
    }
    player_destroy(&player);
    assert_null(player);
    *untried = 0;
    for (size_t i = 0; i < ARMS; i++)
        *untried += plays[i] == 0;
    return plays[2];
}

static void test_policies(void **state)
{
    (void)state;
    size_t untried;
    assert_int_equal(plays_of_two(PLAYER_UCB1, 0, ARMS, &untried), 1);
    assert_int_equal(untried, 0);
    assert_true(plays_of_two(PLAYER_UCB1, 0, 5000, &untried) > 1000);
    assert_true(plays_of_two(PLAYER_EPSILON, 0, 5000, &untried) > 4000);
    size_t best = plays_of_two(PLAYER_EPSILON, 0.2, 5000, &untried);
    assert_true(best > 3600 && best < 4200);
    assert_int_equal(untried, 0);
    best = plays_of_two(PLAYER_EPSILON, 1, 5000, &untried);
    assert_true(best > 60 && best < 150);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worlds),
        cmocka_unit_test(test_policies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
