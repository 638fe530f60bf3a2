/* Rounds in batches: the choices of one by one, bit for bit, on threads and on a card that is made
 * of the CPU's draws; the card is told of what has changed and of nothing else; what follows where
 * it fails; rounds that cannot be. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "compute/best.h"
#include "compute/cpu/kernels.h"
#include "recommend/bandit_batch.h"
#include "backends_rig.h"

enum { BANDITS = 7, ARMS = 40, ROUNDS = 60, CHOICES = ARMS };

static struct bandits *bandits;
static struct bandit_batch *batch;
static struct rng rng;

/* ---- a card ----------------------------------------------------------------------------- */

struct bandit_device {
    float alpha[BANDITS][ARMS], beta[BANDITS][ARMS];
};

static size_t told, calls, open_devices;
static bool fails;

static enum akin_status fake_put(struct bandit_device *device, size_t bandit, size_t count,
                                 const float *alpha, const float *beta, struct akin_error *error)
{
    (void)error;
    assert_true(bandit + count <= BANDITS);
    memcpy(device->alpha[bandit], alpha, count * ARMS * sizeof *alpha);
    memcpy(device->beta[bandit], beta, count * ARMS * sizeof *beta);
    told += count;
    return AKIN_OK;
}

static enum akin_status fake_create(int ordinal, const float *alpha, const float *beta,
                                    size_t count, size_t arms, struct bandit_device **device,
                                    struct akin_error *error)
{
    (void)alpha;
    (void)beta;
    if (ordinal == 9)
        return error_set(error, AKIN_MEMORY, "no room on the card");
    assert_int_equal(count, BANDITS);
    assert_int_equal(arms, ARMS);
    *device = memory_alloc(1, sizeof **device);
    open_devices++;
    return AKIN_OK;
}

static void fake_destroy(struct bandit_device **device)
{
    memory_free(*device);
    *device = NULL;
    open_devices--;
}

static enum akin_status fake_choose(struct bandit_device *device, uint64_t seed,
                                    const struct device_draw *draws, size_t count, size_t k,
                                    struct hit *hits, struct akin_error *error)
{
    const struct kernels *kernels = cpu_kernels(backends[0]);
    calls++;
    if (fails)
        return error_set(error, AKIN_IO, "the card fell off");
    for (size_t i = 0; i < count; i++) {
        const struct device_draw *d = &draws[i];
        struct beta_key key = { .seed = { (uint32_t)seed, (uint32_t)(seed >> 32) },
                                .round = { (uint32_t)d->round, (uint32_t)(d->round >> 32) },
                                .stream = d->bandit, .replica = d->replica };
        struct best best = { .hits = hits + i * k, .capacity = k };
        float drawn[ARMS];
        assert_true(d->open >= k && d->open <= ARMS);
        kernels->draw_beta_f32(drawn, device->alpha[d->bandit], device->beta[d->bandit], d->open,
                               &key);
        for (uint32_t a = 0; a < d->open; a++)
            best_offer(&best, (struct hit){ .score = drawn[a], .row = a });
        best_drain(&best, hits + i * k);
    }
    return AKIN_OK;
}

static double fake_elapsed(const struct bandit_device *device)
{
    (void)device;
    return 0.25;
}

static size_t fake_memory(const struct bandit_device *device)
{
    return sizeof *device;
}

static const struct bandit_device_ops ops = { fake_create, fake_destroy, fake_put, fake_choose,
                                              fake_elapsed, fake_memory };

/* ---- rounds ----------------------------------------------------------------------------- */

static int set_up(void **state)
{
    struct akin_bandits_settings settings;
    (void)state;
    bandits_settings_default(&settings);
    settings.bandits = BANDITS;
    settings.arms = ARMS;
    settings.open_rate = 3;
    settings.seed = 0x100000007;
    rng_seed(&rng, 5);
    if (backends_open())
        return -1;
    return bandits_create(cpu_kernels(backends[0]), &settings, &bandits, NULL) ||
           bandit_batch_create(bandits, pools[THREADS_TRIED - 1], &batch, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    bandit_batch_destroy(&batch);
    bandits_destroy(&bandits);
    backends_close();
    return 0;
}

/* Bandit 0 learns most, so that all of its arms are open and have something in common. */
static void learn(size_t rewards)
{
    for (size_t i = 0; i < rewards; i++)
        assert_int_equal(bandits_reward(bandits, i % 3 ? 0 : rng_below(&rng, BANDITS - 1),
                                        rng_below(&rng, ARMS), rng_below(&rng, 2) ? 1 : 0.5f,
                                        NULL), AKIN_OK);
}

static size_t make_rounds(struct akin_bandit_round *rounds)
{
    static const size_t ks[] = { 1, 1, 1, 3, ARMS };
    size_t all = 0;
    for (size_t i = 0; i < ROUNDS; i++) {
        rounds[i] = (struct akin_bandit_round){
            .bandit = rng_below(&rng, BANDITS), .round = rng_next(&rng),
            .k = ks[rng_below(&rng, sizeof ks / sizeof *ks)],
            .replicas = rng_below(&rng, 3) ? 0 : 5 };
        all += rounds[i].k;
    }
    return all;
}

static void expect_same(bool there)
{
    static struct akin_bandit_round rounds[ROUNDS];
    static struct akin_bandit_choice found[ROUNDS * CHOICES], right[CHOICES];
    struct akin_error error;
    size_t place = 0, all = make_rounds(rounds);
    memset(found, 0, sizeof found);
    assert_int_equal(bandit_batch_choose(batch, rounds, ROUNDS, there, found, &error), AKIN_OK);
    for (size_t i = 0; i < ROUNDS; i++) {
        assert_int_equal(bandits_choose(bandits, &rounds[i], right, NULL), AKIN_OK);
        for (size_t c = 0; c < rounds[i].k; c++, place++) {
            assert_int_equal(found[place].arm, right[c].arm);
            assert_memory_equal(&found[place].draw, &right[c].draw, sizeof(float));
            assert_true(found[place].propensity == right[c].propensity ||
                        (isnan(found[place].propensity) && isnan(right[c].propensity)));
        }
    }
    assert_int_equal(place, all);
}

static void as_one_by_one(void **state)
{
    (void)state;
    expect_same(false);
    learn(2000);
    expect_same(true);          /* there is none yet */
}

static void on_a_card(void **state)
{
    (void)state;
    struct akin_bandit_round round = { .bandit = 2, .k = 1 };
    struct akin_bandit_choice choice;
    size_t bytes;
    double ms;
    struct akin_error error;
    assert_int_equal(bandit_batch_use_card(batch, &ops, 9, NULL, &error), AKIN_MEMORY);
    bandit_batch_card(batch, &bytes, &ms);
    assert_int_equal(bytes, 0);
    assert_int_equal(bandit_batch_use_card(batch, &ops, 0, NULL, &error), AKIN_OK);
    for (size_t i = 0; i < 8; i++) {
        expect_same(true);
        learn(i * 20);
    }
    assert_true(calls > 8);
    expect_same(false);
    assert_int_equal(bandit_batch_choose(batch, &round, 1, true, &choice, &error), AKIN_OK);
    told = 0;
    assert_int_equal(bandits_reward(bandits, 3, 1, 1, NULL), AKIN_OK);      /* not asked for */
    assert_int_equal(bandit_batch_choose(batch, &round, 1, true, &choice, &error), AKIN_OK);
    assert_int_equal(told, 0);
    assert_int_equal(bandits_reward(bandits, 2, 1, 1, NULL), AKIN_OK);
    assert_int_equal(bandit_batch_choose(batch, &round, 1, true, &choice, &error), AKIN_OK);
    assert_int_equal(told, 1);
    bandit_batch_card(batch, &bytes, &ms);
    assert_int_equal(bytes, sizeof(struct bandit_device));
    assert_true(ms > 0.2);
}

static void heard(void *cookie, enum akin_log_level level, const char *line)
{
    assert_int_equal(level, AKIN_LOG_WARNING);
    snprintf(cookie, 200, "%s", line);
}

static void where_it_fails(void **state)
{
    (void)state;
    struct akin_bandit_round round = { .bandit = 2, .k = 1 };
    struct akin_bandit_choice choice;
    struct akin_error error;
    char line[200] = "";
    struct akin_log log = { .cookie = line, .write = heard };
    fails = true;
    assert_int_equal(bandit_batch_choose(batch, &round, 1, true, &choice, &error), AKIN_IO);
    assert_non_null(strstr(error.message, "fell off"));
    fails = false;
    told = 0;
    assert_int_equal(bandit_batch_choose(batch, &round, 1, true, &choice, &error), AKIN_OK);
    assert_int_equal(told, 1);  /* again, for nobody knows what it has */
    assert_int_equal(bandit_batch_use_card(batch, &ops, 0, &log, &error), AKIN_OK);
    expect_same(true);
    assert_string_equal(line, "");
    fails = true;
    expect_same(true);
    assert_non_null(strstr(line, "fell off"));
    assert_int_equal(open_devices, 0);
    calls = 0;
    expect_same(true);
    assert_int_equal(calls, 0);
    fails = false;
}

static void refused(void **state)
{
    (void)state;
    static const struct akin_bandit_round bad[] = {
        { .bandit = BANDITS, .k = 1 }, { .k = 0 }, { .k = ARMS + 1 },
        { .k = 1, .replicas = AKIN_BANDIT_REPLICAS_MAX + 1 } };
    struct akin_bandit_round rounds[2] = { { .k = 1 } };
    struct akin_bandit_choice choices[2] = { { .arm = 77 } };
    struct akin_error error;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rounds[1] = bad[i];
        assert_int_equal(bandit_batch_choose(batch, rounds, 2, true, choices, &error),
                         AKIN_ARGUMENT);
        assert_non_null(strstr(error.message, "round 1"));
        assert_int_equal(choices[0].arm, 77);
    }
    assert_int_equal(bandit_batch_choose(batch, rounds, 0, true, choices, &error), AKIN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_one_by_one),
        cmocka_unit_test(on_a_card),
        cmocka_unit_test(where_it_fails),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
