/* Draws of bandits on a device against those of the CPU's kernels: the same bits, for shapes of
 * every size and what is none, some or all arms, one or many of the best, and posteriors that were
 * replaced.
 *
 *   bandit_devicecheck [cuda [--bench]]     --bench: also the rates of 1,000 bandits of 1,000 arms
 *
 * Exit status: 0 fine, 1 failed, 2 wrong use, 77 there is no card. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "compute/best.h"
#include "compute/cpu/kernels.h"
#include "device_check.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#include "compute/cpu/beta_scalar.h"

#include "compute/cpu/beta_attempt.h"

#include "compute/cpu/beta_top.h"

enum { BANDITS = 5, DRAWS = 12 };

static struct rng rng;
static struct kernels kernels;
static const struct bandit_device_ops *ops;

static void expect(bool ok, const char *what, size_t arms, size_t k, size_t draw)
{
    checks++;
    if (ok)
        return;
    if (failures++ < 20)
        printf("FAILED %s: %zu arms, k %zu, draw %zu\n", what, arms, k, draw);
}

static float shape(size_t i)
{
    static const float odd[] = { 0, -1, NAN, INFINITY, -INFINITY, 1e-30f, 1e30f, 0.01f, 1e7f };
    if (i % 11 == 0)
        return odd[rng_below(&rng, sizeof odd / sizeof *odd)];
    return i % 7 == 0 ? 1 : expf(16.1f * rng_float(&rng) - 4.6f);
}

/* What the CPU finds. */
static void truth(const float *alpha, const float *beta, size_t arms, uint64_t seed,
                  const struct device_draw *d, size_t k, struct hit *hits)
{
    float *drawn = must_have(memory_alloc(arms, sizeof *drawn));
    struct beta_key key = { .seed = { (uint32_t)seed, (uint32_t)(seed >> 32) },
                            .round = { (uint32_t)d->round, (uint32_t)(d->round >> 32) },
                            .stream = d->bandit, .replica = d->replica };
    struct best best = { .hits = hits, .capacity = k };
    kernels.draw_beta_f32(drawn, alpha + d->bandit * arms, beta + d->bandit * arms, d->open, &key);
    for (size_t i = 0; i < d->open; i++)
        best_offer(&best, (struct hit){ .score = drawn[i], .row = (uint32_t)i });
    best_drain(&best, hits);
    memory_free(drawn);
}

static void check_choices(struct bandit_device *device, const float *alpha, const float *beta,
                          size_t arms, size_t k)
{
    struct device_draw draws[DRAWS];
    struct hit *hits = must_have(memory_alloc(DRAWS * k, sizeof *hits));
    struct hit *right = must_have(memory_alloc(k, sizeof *right));
    uint64_t seed = rng_next(&rng);
    for (size_t i = 0; i < DRAWS; i++)
        draws[i] = (struct device_draw){
            .round = rng_next(&rng), .bandit = (uint32_t)rng_below(&rng, BANDITS),
            .open = (uint32_t)(i % 2 ? arms : k + rng_below(&rng, arms - k + 1)),
            .replica = i % 3 ? 0 : 1023 };
    must(ops->choose(device, seed, draws, DRAWS, k, hits, &error));
    for (size_t i = 0; i < DRAWS; i++) {
        truth(alpha, beta, arms, seed, &draws[i], k, right);
        expect(!memcmp(hits + i * k, right, k * sizeof *right), "other arms or bits", arms, k, i);
    }
    memory_free(hits);
    memory_free(right);
}

/* Where one is looked for among all arms a block ends early: the more so, the more is known. */
static void check_known(size_t arms, float evidence)
{
    struct bandit_device *device = NULL;
    size_t all = BANDITS * arms;
    float *alpha = must_have(memory_alloc(2 * all, sizeof *alpha)), *beta = alpha + all;
    for (size_t i = 0; i < all; i++) {
        float mean = rng_float(&rng);
        alpha[i] = 1 + evidence * mean;
        beta[i] = 1 + evidence * (1 - mean);
    }
    must(ops->create(0, alpha, beta, BANDITS, arms, &device, &error));
    check_choices(device, alpha, beta, arms, 1);
    must(ops->put(device, 1, 3, alpha, beta, &error));
    memmove(alpha + arms, alpha, 3 * arms * sizeof *alpha);
    memmove(beta + arms, beta, 3 * arms * sizeof *beta);
    check_choices(device, alpha, beta, arms, 1);
    ops->destroy(&device);
    memory_free(alpha);
}

static float top_of(float alpha, float beta)
{
    float a = beta_shape(alpha), b = beta_shape(beta);
    struct beta_form form = beta_envelope(a, b);
    return beta_top(&form, a, b);
}

/* No draw is above what is said to be the most of one, nor is that far above them. */
static void check_tops(void)
{
    enum { SHAPES = 300, TRIES = 4000 };
    float *drawn = must_have(memory_alloc(3 * TRIES, sizeof *drawn));
    float *alpha = drawn + TRIES, *beta = alpha + TRIES;
    for (size_t s = 0; s < SHAPES; s++) {
        float a = shape(s), b = shape(s + 5), top = top_of(a, b), most = 0;
        struct beta_key key = { .seed = { (uint32_t)s, 3 } };
        for (size_t i = 0; i < TRIES; i++) {
            alpha[i] = a;
            beta[i] = b;
        }
        kernels.draw_beta_f32(drawn, alpha, beta, TRIES, &key);
        for (size_t i = 0; i < TRIES; i++)
            most = fmaxf(most, drawn[i]);
        expect(most <= top && top <= 1, "a draw above its bound", s, 0, 0);
    }
    expect(top_of(800, 800) < 0.65f && top_of(1e6f, 3e6f) < 0.253f && top_of(3e6f, 1e6f) < 0.753f,
           "bounds that say nothing", 0, 0, 0);
    memory_free(drawn);
}

static void check_size(size_t arms, size_t k)
{
    struct bandit_device *device = NULL;
    size_t all = BANDITS * arms;
    float *alpha = must_have(memory_alloc(2 * all, sizeof *alpha)), *beta = alpha + all;
    for (size_t i = 0; i < 2 * all; i++)
        alpha[i] = shape(i);
    must(ops->create(0, alpha, beta, BANDITS, arms, &device, &error));
    check_choices(device, alpha, beta, arms, k);
    for (size_t i = 0; i < arms; i++) {         /* all alike, so that neighbours tie at 0 or 1 */
        alpha[2 * arms + i] = i % 2 ? 1e7f : 0.01f;
        beta[2 * arms + i] = i % 2 ? 0.01f : 1e7f;
    }
    must(ops->put(device, 2, 1, alpha + 2 * arms, beta + 2 * arms, &error));
    check_choices(device, alpha, beta, arms, k);
    ops->destroy(&device);
    memory_free(alpha);
}

static void check_refused(void)
{
    const float ones[8] = { 1, 1, 1, 1, 1, 1, 1, 1 };
    static const size_t sizes[][2] = {
        { 0, 1 }, { 1, 0 }, { 65537, 1 }, { 1, BANDIT_DEVICE_ARMS_MAX + 1 } };
    static const struct device_draw bad[] = {
        { .bandit = 2, .open = 4 }, { .open = 5 }, { .open = 1 }, { .open = 0 },
        { .open = 4, .replica = 1024 } };
    struct bandit_device *device = NULL;
    struct device_draw fine = { .open = 4 };
    struct hit hits[8];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        expect(ops->create(0, ones, ones, sizes[i][0], sizes[i][1], &device, &error) ==
               AKIN_UNSUPPORTED && !device, "a size it has no kernel for", sizes[i][1], 0, i);
    must(ops->create(0, ones, ones, 2, 4, &device, &error));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect(ops->choose(device, 1, &bad[i], 1, 2, hits, &error) == AKIN_ARGUMENT,
               "a draw that cannot be", 4, 2, i);
    expect(ops->choose(device, 1, &fine, 1, 0, hits, &error) == AKIN_ARGUMENT, "k of 0", 4, 0, 0);
    expect(ops->put(device, 1, 2, ones, ones, &error) == AKIN_ARGUMENT, "no such bandit", 4, 0, 0);
    expect(ops->put(device, 3, 0, ones, ones, &error) == AKIN_ARGUMENT, "no such bandit", 4, 0, 1);
    must(ops->put(device, 2, 0, ones, ones, &error));
    expect(ops->memory(device) > 2 * 4 * 40, "memory", 4, 0, ops->memory(device));
    must(ops->choose(device, 1, &fine, 0, 1, hits, &error));
    must(ops->choose(device, 1, &fine, 1, 4, hits, &error));
    ops->destroy(&device);
    ops->destroy(&device);
}

/* ---- rates ------------------------------------------------------------------------------ */

enum { ROUNDED = 1000, ARMS = 1000, ROUNDS = 60, TURNS = 15 };

/* The share of arms that a block that ends early draws, counted here: a lower bound, for it draws
 * whole turns of 128. */
static double drawn_share(const float *alpha, const float *beta, size_t bandits)
{
    size_t reached = 0;
    for (size_t b = 0; b < bandits; b++) {
        struct device_draw d = { .bandit = (uint32_t)b, .open = ARMS };
        struct hit best;
        truth(alpha, beta, ARMS, 7, &d, 1, &best);
        for (size_t i = b * ARMS; i < (b + 1) * ARMS; i++)
            reached += top_of(alpha[i], beta[i]) >= best.score;
    }
    return (double)reached / (double)(bandits * ARMS);
}

static void bench_posteriors(const char *what, const float *alpha, const float *beta)
{
    static const size_t rounds[] = { 1, ROUNDS };
    struct bandit_device *device = NULL;
    struct device_draw *draws = must_have(memory_alloc(ROUNDS * ROUNDED, sizeof *draws));
    struct hit *hits = must_have(memory_alloc(ROUNDS * ROUNDED, sizeof *hits));
    for (size_t i = 0; i < ROUNDS * ROUNDED; i++)
        draws[i] = (struct device_draw){ .round = i / ROUNDED, .bandit = (uint32_t)(i % ROUNDED),
                                         .open = ARMS };
    must(ops->create(0, alpha, beta, ROUNDED, ARMS, &device, &error));
    for (size_t r = 0; r < 2; r++) {
        double least = INFINITY, card = INFINITY;
        for (int turn = -3; turn < TURNS; turn++) {
            uint64_t began = clock_monotonic_ns();
            must(ops->choose(device, 7, draws, rounds[r] * ROUNDED, 1, hits, &error));
            double took = (double)(clock_monotonic_ns() - began) * 1e-6;
            least = turn >= 0 ? fmin(least, took) : least;
            card = turn >= 0 ? fmin(card, ops->elapsed_ms(device)) : card;
        }
        printf("1,000 bandits of 1,000 arms, %s, %zu rounds in a call: %.4f ms of the card, %.4f ms"
               " by the clock, a round\n", what, rounds[r], card / (double)rounds[r],
               least / (double)rounds[r]);
    }
    printf("%s: %.0f %% of the arms can be the best; %.1f MB resident\n", what,
           100 * drawn_share(alpha, beta, 20), (double)ops->memory(device) * 1e-6);
    ops->destroy(&device);
    memory_free(draws);
    memory_free(hits);
}

/* From host memory to host memory: a round of all bandits, and many rounds in one call; the best of
 * the turns. Of posteriors that nothing is known of, some of, and much. */
static void bench(void)
{
    static const char *const names[] = { "priors", "shapes of 1 to 21", "100 rewards an arm" };
    float *alpha = must_have(memory_alloc(2 * ROUNDED * ARMS, sizeof *alpha));
    float *beta = alpha + ROUNDED * ARMS;
    for (int kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i < ROUNDED * ARMS; i++) {
            float mean = rng_float(&rng);
            alpha[i] = kind == 0 ? 1 : kind == 1 ? 1 + 20 * mean : 1 + 100 * mean;
            beta[i] = kind == 0 ? 1 : kind == 1 ? 1 + 20 * rng_float(&rng) : 1 + 100 * (1 - mean);
        }
        bench_posteriors(names[kind], alpha, beta);
    }
    memory_free(alpha);
}

static void check(const struct cuda_plugin *plugin, bool rates)
{
    ops = plugin->bandit;
    rng_seed(&rng, 29);
    kernels_select(&kernels, cpu_detect());
    check_refused();
    check_size(1, 1);
    check_size(31, 31);
    check_size(300, 1);
    check_size(1000, 10);
    check_size(BANDIT_DEVICE_ARMS_MAX, 3);
    check_tops();
    check_known(700, 3);
    check_known(1000, 300);
    check_known(129, 1e5f);
    if (rates)
        bench();
}

int main(int argc, char **argv)
{
    return device_check_main(argc, argv, "bandit_devicecheck [cuda [--bench]]", check);
}
