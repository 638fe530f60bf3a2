/* See bandit_worlds.h. */
#include "cli/bandit_worlds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/philox.h"
#include "base/rng.h"
#include "base/status.h"

enum { GENRES_MAX = 256 };

const char *const world_names[WORLD_DRIFTS] = { "fixed", "walk", "turnover", "jumps" };

/* ---- simulated arms ---------------------------------------------------------------------- */

static float reflected(float x)
{
    x = fabsf(x);
    return x > 1 ? 2 - x : x;
}

static bool redraws(enum world_drift drift, size_t epoch, size_t epochs, struct rng *rng)
{
    if (drift == WORLD_TURNOVER)
        return rng_below(rng, 100) == 0;
    return drift == WORLD_JUMPS && epoch * 5 / epochs != (epoch - 1) * 5 / epochs;
}

enum akin_status world_create(enum world_drift drift, size_t arms, size_t rounds, uint64_t seed,
                              struct world *world, struct akin_error *error)
{
    size_t epochs = (rounds + WORLD_EPOCH - 1) / WORLD_EPOCH;
    struct rng rng;
    rng_seed(&rng, seed);
    *world = (struct world){ .arms = arms, .rounds = rounds, .seed = seed };
    world->means = memory_alloc(epochs, arms * sizeof *world->means);
    world->best = memory_alloc(epochs, sizeof *world->best);
    if (!world->means || !world->best) {
        world_free(world);
        return error_memory(error);
    }
    for (size_t e = 0; e < epochs; e++)
        for (size_t i = 0; i < arms; i++) {
            float *mean = world->means + e * arms + i;
            if (e == 0 || redraws(drift, e, epochs, &rng))
                *mean = rng_float(&rng);
            else if (drift == WORLD_WALK)
                *mean = reflected(mean[-(ptrdiff_t)arms] + 0.03f * rng_normal(&rng));
            else
                *mean = mean[-(ptrdiff_t)arms];
            world->best[e] = fmaxf(world->best[e], *mean);
        }
    return AKIN_OK;
}

void world_free(struct world *world)
{
    memory_free(world->means);
    memory_free(world->best);
    *world = (struct world){ 0 };
}

float world_reward(const struct world *world, size_t round, size_t arm)
{
    const uint32_t counter[4] = { (uint32_t)round, (uint32_t)arm, 0, 0x77 };
    const uint32_t key[2] = { (uint32_t)world->seed, (uint32_t)(world->seed >> 32) };
    uint32_t words[4];
    philox_4x32(counter, key, words);
    float mean = world->means[round / WORLD_EPOCH * world->arms + arm];
    return (float)(words[0] >> 8) * 0x1p-24f < mean;
}

/* ---- logged ratings ---------------------------------------------------------------------- */

struct genre {
    const char *name;
    size_t ratings;
};

static int most_rated_first(const void *a, const void *b)
{
    const struct genre *x = a, *y = b;
    if (x->ratings != y->ratings)
        return x->ratings > y->ratings ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int oldest_first(const void *a, const void *b)
{
    const struct replay_event *x = a, *y = b;
    if (x->timestamp != y->timestamp)
        return x->timestamp < y->timestamp ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static void count_genres(const struct akin_item *item, struct genre *genres, size_t *count)
{
    for (size_t g = 0; g < item->genre_count; g++) {
        size_t at = 0;
        while (at < *count && strcmp(genres[at].name, item->genres[g]) != 0)
            at++;
        if (at == GENRES_MAX || item->genres[g][0] == '(')  /* "(no genres listed)" */
            continue;
        if (at == *count)
            genres[(*count)++] = (struct genre){ item->genres[g], 0 };
        genres[at].ratings++;
    }
}

/* Calls `visit` for every rating, people in the catalogue's order. */
struct visitor {
    const struct akin_catalog *catalog;
    struct replay_log *log;
    struct genre genres[GENRES_MAX];
    size_t genre_count, arm_counts[REPLAY_ARMS];
    double greatest, liked;     /* of all ratings; the least that is a reward */
    size_t users;
    struct rng rng;
};

static void visit(struct visitor *v, void (*rating)(struct visitor *v, const struct akin_item *item,
                                                    const struct akin_rating *rating))
{
    for (size_t user = 0; user < v->users; user++) {
        size_t count = 0;
        const struct akin_rating *ratings = akin_catalog_user_ratings(v->catalog, user, &count);
        for (size_t i = 0; i < count; i++) {
            struct akin_item item;
            akin_catalog_item(v->catalog, ratings[i].row, &item);
            rating(v, &item, &ratings[i]);
        }
    }
}

static void visit_genres(struct visitor *v, const struct akin_item *item,
                         const struct akin_rating *rating)
{
    v->greatest = fmax(v->greatest, (double)rating->rating);
    count_genres(item, v->genres, &v->genre_count);
}

static void visit_event(struct visitor *v, const struct akin_item *item,
                        const struct akin_rating *rating)
{
    uint8_t arms[REPLAY_ARMS];
    size_t count = 0;
    for (size_t a = 0; a < v->log->arms; a++)
        for (size_t g = 0; g < item->genre_count; g++)
            if (strcmp(item->genres[g], v->log->names[a]) == 0) {
                arms[count++] = (uint8_t)a;
                break;
            }
    if (count == 0)
        return;
    uint8_t arm = arms[rng_below(&v->rng, count)];
    v->log->events[v->log->count] = (struct replay_event){
        rating->timestamp, (uint32_t)v->log->count, arm, (double)rating->rating >= v->liked };
    v->log->count++;
    v->arm_counts[arm]++;
}

/* As many of each arm, but for chance. */
static void make_uniform(struct visitor *v)
{
    struct replay_log *log = v->log;
    size_t kept = 0, least = SIZE_MAX, counts[REPLAY_ARMS] = { 0 };
    for (size_t a = 0; a < log->arms; a++)
        least = v->arm_counts[a] < least ? v->arm_counts[a] : least;
    for (size_t i = 0; i < log->count; i++) {
        struct replay_event event = log->events[i];
        if (rng_below(&v->rng, v->arm_counts[event.arm]) >= least)
            continue;
        log->events[kept++] = event;
        log->means[event.arm] += event.reward;
        counts[event.arm]++;
    }
    log->count = kept;
    for (size_t a = 0; a < log->arms; a++)
        log->means[a] /= counts[a] ? (double)counts[a] : 1;
    qsort(log->events, log->count, sizeof *log->events, oldest_first);
}

enum akin_status replay_log_create(const struct akin_catalog *catalog, uint64_t seed,
                                   struct replay_log *log, struct akin_error *error)
{
    struct akin_catalog_info info;
    akin_catalog_info(catalog, &info);
    *log = (struct replay_log){ 0 };
    struct visitor *v = memory_alloc(1, sizeof *v);
    if (!v)
        return error_memory(error);
    *v = (struct visitor){ .catalog = catalog, .log = log,
                           .users = info.users_with_vector };
    rng_seed(&v->rng, seed);
    visit(v, visit_genres);
    v->liked = 0.8 * v->greatest;
    qsort(v->genres, v->genre_count, sizeof *v->genres, most_rated_first);
    log->arms = v->genre_count < REPLAY_ARMS ? v->genre_count : REPLAY_ARMS;
    for (size_t a = 0; a < log->arms; a++)
        log->names[a] = v->genres[a].name;
    enum akin_status status = AKIN_OK;
    if (log->arms < 2)
        status = error_set(error, AKIN_NOT_FOUND, "the catalogue has ratings of %zu genres: a "
                           "replay needs two or more", log->arms);
    else if (!(log->events = memory_alloc(info.ratings, sizeof *log->events)))
        status = error_memory(error);
    if (status == AKIN_OK) {
        visit(v, visit_event);
        make_uniform(v);
    }
    memory_free(v);
    return status;
}

void replay_log_free(struct replay_log *log)
{
    memory_free(log->events);
    *log = (struct replay_log){ 0 };
}
