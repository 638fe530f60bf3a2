/* The neighbour cache: what it would have had ready at each moment of the catalogue's own past, by
 * size and beside other policies; and how long a look-up takes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "cli/bench_personalize.h"

/* ---- the stream -------------------------------------------------------------------------- */

struct dated {
    struct akin_cache_event event;
    size_t place;
};

static int older_first(const void *a, const void *b)
{
    const struct dated *x = a, *y = b;
    if (x->event.timestamp != y->event.timestamp)
        return x->event.timestamp < y->event.timestamp ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* Every rating of the catalogue in the order of time, as if somebody had asked for its item;
 * ratings divided by `most`. Free with memory_free. */
static enum akin_status make_stream(const struct personal_bench *b,
                                    struct akin_cache_event **events, size_t *count)
{
    enum akin_status status = AKIN_OK;
    struct dated *dated = memory_alloc(b->info.ratings, sizeof *dated);
    struct akin_cache_event *made = memory_alloc(b->info.ratings, sizeof *made);
    size_t made_count = 0;
    double most = 0;
    if (!dated || !made)
        TRY_DONE(error_memory(&b->cli->error));
    for (size_t user = 0; user < b->info.users; user++) {
        size_t n = 0;
        const struct akin_rating *ratings = akin_catalog_user_ratings(b->catalog, user, &n);
        for (size_t i = 0; i < n && made_count < b->info.ratings; i++, made_count++) {
            dated[made_count] = (struct dated){
                {ratings[i].timestamp, (double)ratings[i].rating, ratings[i].row}, made_count};
            most = (double)ratings[i].rating > most ? (double)ratings[i].rating : most;
        }
    }
    qsort(dated, made_count, sizeof *dated, older_first);
    for (size_t i = 0; i < made_count; i++) {
        made[i] = dated[i].event;
        made[i].rating = most > 0 ? made[i].rating / most : NAN;
    }
    *events = made;
    *count = made_count;
done:
    memory_free(dated);
    if (status != AKIN_OK)
        memory_free(made);
    return status;
}

/* Items that the stream names, numbered in the order in which they come: the catalogue may have
 * many that nobody ever asked for, and a size is a share of what is asked for. */
static enum akin_status renumber(struct akin_cache_event *events, size_t count, size_t items,
                                 size_t *distinct, struct akin_error *error)
{
    uint32_t *numbers = memory_alloc(items, sizeof *numbers);
    *distinct = 0;
    if (!numbers)
        return error_memory(error);
    for (size_t i = 0; i < count; i++) {
        uint32_t *number = &numbers[events[i].row];
        if (*number == 0)
            *number = (uint32_t)++*distinct;
        events[i].row = *number - 1;
    }
    memory_free(numbers);
    return AKIN_OK;
}

static enum akin_status replay_all(struct personal_bench *b, const struct request_stream *stream)
{
    static const double shares[PERSONAL_SIZES] = {0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1};
    struct cache_rates *rates = &b->rates;
    rates->requests = stream->count;
    for (size_t size = 0; size < PERSONAL_SIZES; size++) {
        struct akin_neighbors_settings settings;
        uint64_t hits;
        size_t slots = (size_t)(shares[size] * (double)stream->items);
        rates->slots[size] = slots = slots ? slots : 1;
        akin_neighbors_settings_default(&settings);
        settings.capacity = slots;
        TRY(akin_cache_replay(stream->events, stream->count, stream->items, &settings, &hits,
                              &b->cli->error));
        rates->rates[0][size] = (double)hits / (double)stream->count;
        for (size_t p = 0; p < CACHE_POLICIES; p++) {
            TRY(cache_policies[p].replay(stream, slots, &hits, &b->cli->error));
            rates->rates[p + 1][size] = (double)hits / (double)stream->count;
            TRY(check_interrupted(b->cli));
        }
    }
    return AKIN_OK;
}

enum akin_status personal_replay(struct personal_bench *b)
{
    struct akin_cache_event *events = NULL;
    struct request_stream stream = {0};
    if (!b->info.ratings)
        return AKIN_OK;
    TRY(make_stream(b, &events, &stream.count));
    enum akin_status status =
        renumber(events, stream.count, b->info.items, &stream.items, &b->cli->error);
    stream.events = events;
    if (status == AKIN_OK && stream.count)
        status = replay_all(b, &stream);
    memory_free(events);
    return status;
}

/* ---- look-ups ---------------------------------------------------------------------------- */

enum { LOOKUPS = 20000, MISSES = 50 };

/* Times look-ups of drawn items that are there; leaves *times sorted. */
static size_t time_lookups(const struct personal_bench *b, struct akin_neighbors *neighbors,
                           uint64_t seed, double *times)
{
    struct akin_neighbor list[AKIN_NEIGHBORS_MAX];
    struct rng rng;
    size_t hits = 0, found;
    rng_seed(&rng, seed);
    for (size_t i = 0; i < LOOKUPS; i++) {
        size_t row = rng_below(&rng, b->info.items);
        uint64_t began = akin_clock_ns();
        if (akin_neighbors_lookup(neighbors, row, list, &found))
            times[hits++] = ms_since(began);
    }
    return hits;
}

/* Requests for an item alone, of those whose list is there where a cache is given; *mean_ms. */
static enum akin_status time_answers(struct personal_bench *b, struct akin_neighbors *neighbors,
                                     size_t wanted, double *times, double *mean_ms)
{
    struct akin_recommendation results[PERSONAL_K];
    struct akin_neighbor list[AKIN_NEIGHBORS_MAX];
    struct akin_request request;
    size_t found, count = 0;
    akin_request_default(&request);
    request.k = PERSONAL_K;
    for (size_t i = 0; i < b->info.items && count < wanted; i++) {
        size_t row = i * 7919 % b->info.items;
        struct akin_item item;
        if (neighbors && !akin_neighbors_lookup(neighbors, row, list, &found))
            continue;
        akin_catalog_item(b->catalog, row, &item);
        request.similar = item.id;
        uint64_t began = akin_clock_ns();
        TRY(akin_recommend(b->recommender, &request, results, &found, NULL, &b->cli->error));
        times[count++] = ms_since(began);
    }
    *mean_ms = stage_times_of(times, count).mean;
    return AKIN_OK;
}

enum akin_status personal_neighbors(struct personal_bench *b, size_t capacity)
{
    struct akin_neighbors_settings settings;
    struct akin_neighbors *neighbors = NULL;
    struct cache_times *cache = &b->cache;
    enum akin_status status = AKIN_OK;
    akin_neighbors_settings_default(&settings);
    settings.capacity = cache->capacity =
        capacity && capacity < b->info.items ? capacity : b->info.items;
    double *times = memory_alloc(LOOKUPS, sizeof *times);
    if (!times)
        return error_memory(&b->cli->error);
    TRY_DONE(time_answers(b, NULL, MISSES, times, &cache->miss_ms));
    uint64_t began = akin_clock_ns();
    TRY_DONE(akin_neighbors_open(b->recommender, &settings, &neighbors, &b->cli->error));
    TRY_DONE(akin_neighbors_wait(neighbors, &b->cli->error));
    cache->rebuild_s = seconds_since(began);
    struct stage_times hits = stage_times_of(times, time_lookups(b, neighbors, 1, times));
    cache->hit_ms = hits.mean;
    cache->hit_p99_ms = hits.p99;
    TRY_DONE(time_answers(b, neighbors, LOOKUPS, times, &cache->answer_ms));
    akin_neighbors_refresh(neighbors);
    cache->refreshing_hit_ms =
        stage_times_of(times, time_lookups(b, neighbors, 2, times)).mean;
    akin_neighbors_count(neighbors, &cache->counts);
done:
    akin_neighbors_close(&neighbors);
    memory_free(times);
    return status;
}
