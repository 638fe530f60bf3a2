/* How many personal requests a second the host feeds to a card, on a card that answers at once
 * (fake/idle_card.c): finding people, what they have seen, filters, packing, and handing out the
 * results.
 *
 *   batchbench DATA [--threads N] [--count N]      a catalogue that has vectors and people
 *
 * The best of some turns; everybody asked for is active before. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "akin/akin.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/status.h"

enum { K = 10, TURNS = 200, COUNT = 1000, KINDS = 4 };

static struct akin_error error;
static struct akin_recommender *recommender;
static struct akin_catalog *catalog;
static struct akin_catalog_info info;
static size_t count = COUNT;

static void must(enum akin_status status)
{
    if (status == AKIN_OK)
        return;
    fprintf(stderr, "batchbench: %s\n", error.message);
    exit(1);
}

static void *must_have(void *memory)
{
    if (!memory)
        must(error_memory(&error));
    return memory;
}

static void report(const char *what, uint64_t best, uint64_t allocations)
{
    printf("%-32s %7.0f ns each, %9.0f a second, %.3f allocations each\n", what,
           (double)best / (double)count, (double)count / (double)best * 1e9,
           (double)allocations / (double)count);
    fflush(stdout);
}

/* ---- people ----------------------------------------------------------------------------- */

static const struct {
    const char *name, *filters[3];
    bool seen;
} kinds[KINDS] = {
    { "people", { NULL }, false },
    { "the same, seen films too", { NULL }, true },
    { "one filter", { "year>=1990", "year>=1990", "year>=1990" }, false },
    { "three filters", { "year>=1990", "genre=Comedy", "genre=Drama OR genre=Action" }, false },
};

static void bench_people(struct akin_recommendation *results)
{
    struct akin_request *requests = must_have(memory_alloc(count, sizeof *requests));
    struct akin_answer *answers = must_have(memory_alloc(count, sizeof *answers));
    for (size_t kind = 0; kind < KINDS; kind++) {
        uint64_t best = UINT64_MAX, allocations = 0;
        for (size_t i = 0; i < count; i++) {
            akin_request_default(&requests[i]);
            requests[i].user = akin_catalog_user_id(catalog, i * 7919 % info.users);
            requests[i].filter = kinds[kind].filters[i % 3];
            requests[i].include_seen = kinds[kind].seen;
            requests[i].k = K;
            answers[i] = (struct akin_answer){ .results = results + i * K };
        }
        for (int turn = -1; turn < TURNS; turn++) {
            uint64_t had = memory_allocations(), began = clock_monotonic_ns();
            must(akin_recommend_batch(recommender, requests, count, answers, &error));
            uint64_t took = clock_monotonic_ns() - began;
            allocations = memory_allocations() - had;
            best = turn >= 0 && took < best ? took : best;
        }
        report(kinds[kind].name, best, allocations);
    }
    memory_free(requests);
    memory_free(answers);
}

/* ---- ready vectors ---------------------------------------------------------------------- */

static void bench_vectors(struct akin_recommendation *results)
{
    float *vectors = must_have(memory_alloc(count, info.dimension * sizeof *vectors));
    size_t *found = must_have(memory_alloc(count, sizeof *found));
    uint64_t best = UINT64_MAX, allocations = 0;
    for (size_t i = 0; i < count; i++)
        memcpy(vectors + i * info.dimension, akin_catalog_item_vector(catalog, i % info.items),
               info.dimension * sizeof *vectors);
    for (int turn = -1; turn < TURNS; turn++) {
        uint64_t had = memory_allocations(), began = clock_monotonic_ns();
        must(akin_recommend_vectors(recommender, vectors, count, K, NULL, results, found, &error));
        uint64_t took = clock_monotonic_ns() - began;
        allocations = memory_allocations() - had;
        best = turn >= 0 && took < best ? took : best;
    }
    report("ready vectors", best, allocations);
    memory_free(vectors);
    memory_free(found);
}

/* ---- people who are made active ahead --------------------------------------------------- */

/* What the idle card calls its own time is how long it waited for ratings. */
static void bench_waking(void)
{
    struct akin_wake_report woken = { 0 };
    must(akin_recommender_wake(recommender, info.users, (struct akin_progress){ 0 }, &woken,
                               &error));
    printf("%-32s %7.2f ns a rating, %9.1f million a second, %zu ratings of %zu people\n",
           "ratings of people", woken.card_ms * 1e6 / (double)woken.ratings,
           (double)woken.ratings / woken.card_ms * 1e-3, (size_t)woken.ratings,
           (size_t)woken.users);
}

int main(int argc, char **argv)
{
    struct akin_engine *engine = NULL;
    struct akin_engine_settings settings;
    struct akin_recommender_settings live;
    akin_engine_settings_default(&settings);
    akin_recommender_settings_default(&live);
    settings.device = "cuda";
    settings.cuda_library = AKIN_IDLE_CARD;
    live.store = false;
    bool right = argc > 1 && argc % 2 == 0;
    for (int i = 2; right && i + 1 < argc; i += 2) {
        long number = strtol(argv[i + 1], NULL, 10);
        bool threads = !strcmp(argv[i], "--threads");
        right = (threads || !strcmp(argv[i], "--count")) && number > 0 && number < 1 << 20;
        if (threads)
            settings.threads = (int)number;
        else
            count = (size_t)number;
    }
    if (!right) {
        fprintf(stderr, "usage: batchbench DATA [--threads N] [--count N]\n");
        return 2;
    }
    must(akin_engine_open(&settings, &engine, &error));
    must(akin_catalog_open(argv[1], &catalog, &error));
    akin_catalog_info(catalog, &info);
    must(akin_recommender_open(engine, catalog, NULL, &live, &recommender, &error));
    must(akin_recommender_prepare(recommender, (struct akin_progress){ 0 }, &error));
    if (!info.users || !info.items)
        must(error_set(&error, AKIN_ARGUMENT, "%s: a catalogue with people is needed", argv[1]));
    struct akin_recommendation *results = must_have(memory_alloc(count, K * sizeof *results));
    bench_waking();
    bench_people(results);
    bench_vectors(results);
    memory_free(results);
    akin_recommender_close(&recommender);
    akin_catalog_close(&catalog);
    akin_engine_close(&engine);
    return 0;
}
