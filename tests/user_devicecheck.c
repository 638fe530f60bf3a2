/* Updates of users' vectors on a device against the same ones made one after the other here: the
 * same bits, for users with one rating and with many, in one call and in several.
 *
 *   user_devicecheck [cuda [--bench]]   --bench: also the rate over 100,000 users, 62,423 items
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
#include "compute/cpu/kernels.h"
#include "device_check.h"

static struct rng rng;
static struct kernels kernels;
static const struct user_device_ops *ops;

static void expect(bool ok, const char *what, size_t dim, size_t count, size_t at)
{
    checks++;
    if (ok)
        return;
    if (failures++ < 20)
        printf("FAILED %s: dim %zu, %zu ratings, %zu\n", what, dim, count, at);
}

static float *normals(size_t count)
{
    float *numbers = must_have(memory_alloc(count, sizeof *numbers));
    for (size_t i = 0; i < count; i++)
        numbers[i] = rng_normal(&rng);
    return numbers;
}

/* Half of the ratings are the last user's: a long run beside short ones, and users without any. */
static struct device_rating *draw_ratings(size_t users, size_t items, size_t count)
{
    struct device_rating *ratings = must_have(memory_alloc(count, sizeof *ratings));
    for (size_t i = 0; i < count; i++) {
        size_t user = i % 2 ? users - 1 : rng_below(&rng, users);
        float rate = i % 9 ? rng_float(&rng) : 0;
        ratings[i] = (struct device_rating){ (uint32_t)user, (uint32_t)rng_below(&rng, items),
                                             i % 23 ? 1 - rate : -1,
                                             rate * (rng_float(&rng) * 5 - 1) };
    }
    return ratings;
}

static void move(float *users, const float *items, size_t dim,
                 const struct device_rating *ratings, size_t count)
{
    for (size_t r = 0; r < count; r++) {
        float *user = users + ratings[r].user * dim;
        if (ratings[r].keep < 0)
            memset(user, 0, dim * sizeof *user);
        kernels.blend_f32(user, ratings[r].keep < 0 ? 0 : ratings[r].keep,
                          items + ratings[r].item * dim, ratings[r].gain, dim);
    }
}

static void check_size(size_t dim, size_t users, size_t count)
{
    enum { ITEMS = 50 };
    struct user_device *device = NULL;
    struct device_rating *ratings = draw_ratings(users, ITEMS, count);
    float *items = normals(ITEMS * dim), *right = normals(users * dim);
    float *found = must_have(memory_alloc(users * dim, sizeof *found));
    must(ops->create(0, items, ITEMS, dim, users, &device, &error));
    must(ops->read(device, 0, users, found, &error));
    for (size_t i = 0; i < users * dim; i++)
        expect(found[i] == 0, "not 0 at first", dim, 0, i);
    must(ops->write(device, 0, users, right, &error));
    must(ops->apply(device, ratings, count / 3, &error));
    must(ops->apply(device, ratings + count / 3, count - count / 3, &error));
    must(ops->read(device, 0, users, found, &error));
    move(right, items, dim, ratings, count);
    for (size_t u = 0; u < users; u++)
        expect(!memcmp(found + u * dim, right + u * dim, dim * sizeof *right), "other bits of user",
               dim, count, u);
    expect(ops->memory(device) > users * dim * 4, "memory", dim, count, ops->memory(device));
    ops->destroy(&device);
    memory_free(ratings);
    memory_free(items);
    memory_free(right);
    memory_free(found);
}

static void check_refused(void)
{
    float items[2 * 128] = { 1 }, before[3 * 128], after[3 * 128];
    static const size_t dims[] = { 0, 64, 200, 1152 };
    static const struct device_rating bad[] = {
        { 3, 0, 0, 1 }, { 0, 2, 0, 1 }, { 0, 0, 0, NAN }, { UINT32_MAX, 0, 0, 1 },
        { 0, 0, 0, INFINITY }, { 0, 0, 1.5f, 1 }, { 0, 0, -0.5f, 1 }, { 0, 0, NAN, 1 } };
    struct user_device *device = NULL;
    struct device_rating two[2] = { { 1, 0, 0.5f, 1 } };
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        expect(ops->create(0, items, 1, dims[i], 1, &device, &error) == AKIN_UNSUPPORTED && !device,
               "a dimension it has no kernels for", dims[i], 0, 0);
    expect(ops->create(0, items, 0, 128, 1, &device, &error) == AKIN_UNSUPPORTED, "no items", 128,
           0, 0);
    expect(ops->create(0, items, 1, 128, 0, &device, &error) == AKIN_UNSUPPORTED, "no users", 128,
           0, 0);
    must(ops->create(0, items, 2, 128, 3, &device, &error));
    must(ops->apply(device, two, 1, &error));
    must(ops->read(device, 0, 3, before, &error));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        two[1] = bad[i];
        expect(ops->apply(device, two, 2, &error) == AKIN_ARGUMENT, "a rating that cannot be",
               128, 2, i);
    }
    expect(ops->read(device, 1, 3, after, &error) == AKIN_ARGUMENT, "beyond the users", 128, 0, 0);
    expect(ops->write(device, SIZE_MAX, 2, after, &error) == AKIN_ARGUMENT, "beyond the users", 128,
           0, 1);
    must(ops->apply(device, two, 0, &error));
    must(ops->read(device, 0, 3, after, &error));
    expect(!memcmp(before, after, sizeof before), "what was refused changed something", 128, 0, 0);
    ops->destroy(&device);
    ops->destroy(&device);
}

/* ---- rates ------------------------------------------------------------------------------ */

/* From host memory, sorting and checking included; the best of the turns. */
static void bench(void)
{
    enum { USERS = 100000, ITEMS = 62423, DIM = 384, MOST = 4000000, TURNS = 9 };
    static const size_t counts[] = { 10000, 100000, 1000000, MOST };
    struct user_device *device = NULL;
    float *items = normals((size_t)ITEMS * DIM);
    struct device_rating *ratings = must_have(memory_alloc(MOST, sizeof *ratings));
    for (size_t i = 0; i < MOST; i++)
        ratings[i] = (struct device_rating){ (uint32_t)rng_below(&rng, USERS),
                                             (uint32_t)rng_below(&rng, ITEMS), 0.9f,
                                             0.1f * rng_float(&rng) };
    must(ops->create(0, items, ITEMS, DIM, USERS, &device, &error));
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        double least = INFINITY, card = INFINITY;
        for (int turn = -2; turn < TURNS; turn++) {
            uint64_t began = clock_monotonic_ns();
            must(ops->apply(device, ratings, counts[c], &error));
            double took = (double)(clock_monotonic_ns() - began) * 1e-6;
            least = turn >= 0 ? fmin(least, took) : least;
            card = turn >= 0 ? fmin(card, ops->elapsed_ms(device)) : card;
        }
        printf("100,000 users, %zu ratings in a call: %.3f ms of the card, %.1f million updates/s; "
               "%.3f ms by the clock, %.1f million/s\n", counts[c], card,
               (double)counts[c] / card * 1e-3, least, (double)counts[c] / least * 1e-3);
    }
    printf("resident: %.1f MB\n", (double)ops->memory(device) * 1e-6);
    ops->destroy(&device);
    memory_free(items);
    memory_free(ratings);
}

static void check(const struct cuda_plugin *plugin, bool rates)
{
    ops = plugin->users;
    rng_seed(&rng, 31);
    kernels_select(&kernels, cpu_detect());
    check_refused();
    check_size(128, 1, 1);
    check_size(128, 40, 97);
    check_size(384, 40, 300);
    check_size(640, 7, 20);
    check_size(1024, 20, 50);
    if (rates)
        bench();
}

int main(int argc, char **argv)
{
    return device_check_main(argc, argv, "user_devicecheck [cuda [--bench]]", check);
}
