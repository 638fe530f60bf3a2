/* What exploring costs and gains in requests, on ratings replayed in the order of time:
 *
 *   explorebench DATA SPLIT.csv [SEEDS]   rows of "userId,movieId,rating,timestamp,split"
 *
 * DATA is a catalogue of the rows `train` and `valid` (items ml_<movieId>); its akin.db is removed.
 * Each row `test`: ten items are asked for, for that user at that moment; NDCG@10 is
 * 1 / log2(1 + rank) of the item that was rated then, 0 where it is not among them; then the rating
 * is taken. Without exploring, and exploring with SEEDS seeds. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "akin/akin.h"

enum { K = 10, EVENTS_MAX = 200000, ARMS_MAX = 2000, TENTHS = 10 };

struct event {
    char user[24], item[24];
    float rating;
    int64_t timestamp;
};

static struct event events[EVENTS_MAX];
static size_t event_count;
static struct akin_engine *engine;
static struct akin_catalog *catalog;

static void must(enum akin_status status, const struct akin_error *error)
{
    if (status == AKIN_OK)
        return;
    fprintf(stderr, "explorebench: %s\n", error->message);
    exit(1);
}

static void read_events(const char *path)
{
    char line[256], user[16], item[16], split[16];
    FILE *file = fopen(path, "r");
    if (!file)
        exit((perror(path), 1));
    while (fgets(line, sizeof line, file) && event_count < EVENTS_MAX) {
        struct event *e = &events[event_count];
        long long when;
        if (sscanf(line, "%15[^,],%15[^,],%f,%lld,%15[^,\n]", user, item, &e->rating, &when,
                   split) != 5 || strcmp(split, "test") != 0)
            continue;
        snprintf(e->user, sizeof e->user, "%s", user);
        snprintf(e->item, sizeof e->item, "ml_%s", item);
        e->rating /= 5;
        e->timestamp = when;
        event_count++;
    }
    fclose(file);
}

/* The order of the file breaks ties. */
static int by_time(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    if (x->timestamp != y->timestamp)
        return x->timestamp < y->timestamp ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* What the places that a bandit gave away brought, and what stood there otherwise. */
struct run {
    double ndcg, ms, tenths[TENTHS];
    float gains[EVENTS_MAX];
    size_t hits_explored, hits_base, explored;
};

static void open_fresh(const char *data, uint64_t seed, struct akin_recommender **recommender)
{
    static const char *const files[] = { "", "-wal", "-shm" };
    struct akin_error error = { 0 };
    struct akin_recommender_settings settings;
    for (int i = 0; i < 3; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/akin.db%s", data, files[i]);
        remove(path);
    }
    akin_recommender_settings_default(&settings);
    settings.durable = false;
    settings.explore_seed = seed;
    must(akin_recommender_open(engine, catalog, NULL, &settings, recommender, &error), &error);
    must(akin_recommender_prepare(*recommender, (struct akin_progress){ 0 }, &error), &error);
}

static void replay(const char *data, bool explore, uint64_t seed, struct run *run)
{
    *run = (struct run){ 0 };
    struct akin_error error = { 0 };
    struct akin_recommender *recommender;
    open_fresh(data, seed, &recommender);
    for (size_t at = 0; at < event_count; at++) {
        const struct event *e = &events[at];
        struct akin_recommendation list[K];
        struct akin_recommend_timing timing;
        struct akin_request request;
        size_t row, found;
        double gain = 0;
        must(akin_catalog_find_id(catalog, e->item, &row, &error), &error);
        akin_request_default(&request);
        request.user = e->user;
        request.k = K;
        request.now = e->timestamp;
        request.explore = explore;
        must(akin_recommend(recommender, &request, list, &found, &timing, &error), &error);
        run->ms += timing.total_ms / (double)event_count;
        for (size_t i = 0; i < found; i++) {
            run->explored += list[i].arm != NULL;
            if (list[i].row != row)
                continue;
            gain = 1 / log2((double)i + 2);
            run->hits_explored += list[i].arm != NULL;
            run->hits_base += list[i].arm == NULL;
        }
        run->ndcg += gain / (double)event_count;
        run->gains[at] = (float)gain;
        run->tenths[at * TENTHS / event_count] += gain * TENTHS / (double)event_count;
        must(akin_recommend_update(recommender, e->user, e->item, e->rating, e->timestamp, &error),
             &error);
    }
    if (explore) {
        static struct akin_arm arms[ARMS_MAX];
        size_t count;
        must(akin_recommender_arms(recommender, arms, ARMS_MAX, &count, &error), &error);
        for (size_t i = 0; i < count && i < ARMS_MAX; i++)
            if (!strcmp(arms[i].segment, "all"))
                printf("  %-8s choices %6llu rewards %6llu mean %.4f\n", arms[i].name,
                       (unsigned long long)arms[i].choices, (unsigned long long)arms[i].rewards,
                       arms[i].reward / (double)(arms[i].rewards ? arms[i].rewards : 1));
    }
    akin_recommender_close(&recommender);
}

/* Beside `plain`, event by event. */
static void tell(const char *name, const struct run *run, const struct run *plain)
{
    double mean = 0, squares = 0, n = (double)event_count;
    for (size_t at = 0; at < event_count; at++) {
        double more = (double)(run->gains[at] - plain->gains[at]);
        mean += more / n;
        squares += more * more / n;
    }
    printf("%-18s NDCG@10 %.4f, more than without %.4f +- %.4f; by tenths of the events", name,
           run->ndcg, mean, 1.96 * sqrt((squares - mean * mean) / n));
    for (int i = 0; i < TENTHS; i++)
        printf(" %.4f", run->tenths[i]);
    printf("; places explored %zu, hits there %zu, elsewhere %zu; %.2f ms each\n",
           run->explored, run->hits_explored, run->hits_base, run->ms);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct akin_error error = { 0 };
    struct akin_engine_settings settings;
    if (argc < 3) {
        fprintf(stderr, "usage: explorebench DATA SPLIT.csv [SEEDS]\n");
        return 2;
    }
    akin_engine_settings_default(&settings);
    must(akin_engine_open(&settings, &engine, &error), &error);
    must(akin_catalog_open(argv[1], &catalog, &error), &error);
    read_events(argv[2]);
    qsort(events, event_count, sizeof *events, by_time);
    printf("%zu events\n", event_count);
    static struct run plain, run;
    replay(argv[1], false, 1, &plain);
    tell("without exploring", &plain, &plain);
    long seeds = argc > 3 ? strtol(argv[3], NULL, 10) : 3;
    for (long seed = 1; seed <= seeds; seed++) {
        replay(argv[1], true, (uint64_t)seed, &run);
        tell("exploring", &run, &plain);
    }
    akin_catalog_close(&catalog);
    akin_engine_close(&engine);
    return 0;
}
