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
    for (size_t i = 0; i < count; i++)
        ratings[i] = (struct device_rating){
            (uint32_t)(i % 2 ? users - 1 : rng_below(&rng, users)),
            (uint32_t)rng_below(&rng, items), i % 9 ? rng_float(&rng) * 6 - 1 : 0 };
    return ratings;
}

/* By the formula, with the CPU's arithmetic. */
static void move(float *users, size_t *counts, const struct device_people *people,
                 const struct device_rating *ratings, size_t count)
{
    const float rates[2] = { people->fast, people->slow };
    size_t dim = people->dim;
    for (size_t r = 0; r < count; r++) {
        float first = 1 / (float)++counts[ratings[r].user];
        for (size_t which = 0; which < 2; which++) {
            float share = first > rates[which] ? first : rates[which];
            kernels.blend_f32(users + (2 * ratings[r].user + which) * dim, 1 - share,
                              people->items + ratings[r].item * dim,
                              share * (float)((double)ratings[r].rating / people->rating_max),
                              dim);
        }
    }
}

static enum akin_status apply(struct user_device *device, const struct device_rating *ratings,
                              size_t count)
{
    memcpy(ops->room(device), ratings, count * sizeof *ratings);
    return ops->apply(device, count, &error);
}

static void expect_users(struct user_device *device, const struct device_people *people,
                         const float *right, const char *what)
{
    size_t one = 2 * people->dim, users = people->user_count;
    float *found = must_have(memory_alloc(users * one, sizeof *found));
    must(ops->read(device, 0, users, found, &error));
    for (size_t u = 0; u < users; u++)
        expect(!memcmp(found + u * one, right + u * one, one * sizeof *right), what, people->dim,
               users, u);
    memory_free(found);
}

static void check_size(size_t dim, size_t users, size_t count)
{
    enum { ITEMS = 50 };
    struct user_device *device = NULL;
    struct device_rating *ratings = draw_ratings(users, ITEMS, count);
    float *items = normals(ITEMS * dim);
    float *right = must_have(memory_alloc(users * 2 * dim, sizeof *right));
    size_t *counts = must_have(memory_alloc(users, sizeof *counts));
    const struct device_people people = { .items = items, .item_count = ITEMS, .dim = dim,
                                          .user_count = users, .fast = 0.3f, .slow = 0.05f,
                                          .rating_max = 5 };
    must(ops->create(0, &people, &device, &error));
    for (int again = 0; again < 2; again++) {
        expect_users(device, &people, right, "not 0 at first");
        must(apply(device, ratings, count / 3));
        must(apply(device, ratings + count / 3, count - count / 3));
        move(right, counts, &people, ratings, count);
        expect_users(device, &people, right, "other bits of user");
        ops->clear(device);
        memset(right, 0, users * 2 * dim * sizeof *right);
        memset(counts, 0, users * sizeof *counts);
    }
    expect(ops->memory(device) > users * 2 * dim * 4, "memory", dim, count, ops->memory(device));
    ops->destroy(&device);
    memory_free(ratings);
    memory_free(items);
    memory_free(right);
    memory_free(counts);
}

static void check_refused(void)
{
    float items[2 * 128] = { 1 }, before[3 * 256], after[3 * 256];
    static const size_t dims[] = { 0, 64, 200, 1152 };
    static const struct device_rating bad[] = {
        { 3, 0, 1 }, { 0, 2, 1 }, { 0, 0, NAN }, { UINT32_MAX, 0, 1 }, { 0, UINT32_MAX, 1 },
        { 0, 0, INFINITY }, { 0, 0, -INFINITY } };
    struct user_device *device = NULL;
    struct device_rating three[3] = { { 1, 0, 1 }, { 2, 1, 0.5f } };
    struct device_people people = { .items = items, .item_count = 1, .user_count = 1,
                                    .fast = 0.5f, .slow = 0.1f, .rating_max = 1 };
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        people.dim = dims[i];
        expect(ops->create(0, &people, &device, &error) == AKIN_UNSUPPORTED && !device,
               "a dimension it has no kernels for", dims[i], 0, 0);
    }
    people.dim = 128;
    people.item_count = 0;
    expect(ops->create(0, &people, &device, &error) == AKIN_UNSUPPORTED, "no items", 128, 0, 0);
    people.item_count = 2;
    people.user_count = 0;
    expect(ops->create(0, &people, &device, &error) == AKIN_UNSUPPORTED, "no users", 128, 0, 0);
    people.user_count = 3;
    must(ops->create(0, &people, &device, &error));
    must(apply(device, three, 1));
    must(ops->read(device, 0, 3, before, &error));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        three[2] = bad[i];
        expect(apply(device, three, 3) == AKIN_ARGUMENT && strstr(error.message, "rating 2:"),
               "a rating that cannot be", 128, 3, i);
    }
    expect(ops->read(device, 1, 3, after, &error) == AKIN_ARGUMENT, "beyond the users", 128, 0, 0);
    expect(ops->read(device, SIZE_MAX, 2, after, &error) == AKIN_ARGUMENT, "beyond the users", 128,
           0, 1);
    must(apply(device, three, 0));
    must(ops->read(device, 0, 3, after, &error));
    expect(!memcmp(before, after, sizeof before), "what was refused changed something", 128, 0, 0);
    must(apply(device, three, 2));
    ops->destroy(&device);
    ops->destroy(&device);
}

/* ---- rates ------------------------------------------------------------------------------ */

/* From the room that they were written to, checking and sorting included, with calls one after the
 * other; the best of the turns. Each rating moves two vectors. */
static void bench(void)
{
    enum { USERS = 100000, ITEMS = 62423, DIM = 384, TURNS = 9 };
    static const size_t counts[] = { 10000, 100000, USER_DEVICE_TOGETHER };
    struct user_device *device = NULL;
    float *items = normals((size_t)ITEMS * DIM);
    const struct device_people people = { .items = items, .item_count = ITEMS, .dim = DIM,
                                          .user_count = USERS, .fast = 0.1f, .slow = 0.01f,
                                          .rating_max = 5 };
    must(ops->create(0, &people, &device, &error));
    struct device_rating *room = ops->room(device);
    for (size_t i = 0; i < USER_DEVICE_TOGETHER; i++)
        room[i] = (struct device_rating){ (uint32_t)rng_below(&rng, USERS),
                                          (uint32_t)rng_below(&rng, ITEMS), 5 * rng_float(&rng) };
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        double least = INFINITY, card = INFINITY;
        for (int turn = -2; turn < TURNS; turn++) {
            uint64_t began = clock_monotonic_ns();
            must(ops->apply(device, counts[c], &error));
            double took = (double)(clock_monotonic_ns() - began) * 1e-6;
            least = turn >= 0 ? fmin(least, took) : least;
            card = turn >= 0 ? fmin(card, ops->elapsed_ms(device)) : card;
        }
        printf("100,000 users, %zu ratings in a call: %.3f ms of the card, %.1f million ratings/s; "
               "%.3f ms by the clock, %.1f million/s\n", counts[c], card,
               (double)counts[c] / card * 1e-3, least, (double)counts[c] / least * 1e-3);
    }
    printf("resident: %.1f MB\n", (double)ops->memory(device) * 1e-6);
    ops->destroy(&device);
    memory_free(items);
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
