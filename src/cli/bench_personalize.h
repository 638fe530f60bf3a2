/* What akin bench personalize measured: requests stage by stage, batches, ratings, the neighbour
 * cache, and a catalogue of made-up people. NAN: not measured. */
#pragma once

#include "cli/bench.h"
#include "cli/cache_policies.h"

enum {
    PERSONAL_K = 10, PERSONAL_BATCHES = 3, PERSONAL_SIZES = 8, PERSONAL_TARGETS_MAX = 20,
    CACHE_LINES = CACHE_POLICIES + 1,       /* ours first */
    PLACE_16 = 4,                           /* the size of 16 % */
};

/* Milliseconds of the single queries, warm. */
struct stage_times {
    double mean, median, p95, p99;
};

enum stage { STAGE_ENCODE, STAGE_FUSE, STAGE_FILTER, STAGE_SEARCH, STAGE_TOTAL, STAGES };

/* Milliseconds of whole batches: of ready vectors, and of requests of people by parts. */
struct personal_batch {
    size_t size;
    double cold_ms, warm_ms;
    double people_ms;           /* NAN: nobody is known */
};

/* Hit rates, 0 to 1, of ours and of the yardsticks, by size. */
struct cache_rates {
    size_t requests, slots[PERSONAL_SIZES];
    double rates[CACHE_LINES][PERSONAL_SIZES];
};

struct cache_times {
    size_t capacity;
    double rebuild_s, hit_ms, hit_p99_ms, miss_ms, refreshing_hit_ms;
    double answer_ms;           /* mean of a whole request for an item, from its list */
    struct akin_neighbors_counts counts;
};

struct made_up {
    size_t ratings, users, items;
    double make_s, import_s, vectors_s;
    double updates_per_s, durable_per_s, durable_single_per_s, syncs_per_s;
};

/* People made active at once. */
struct personal_wake {
    uint64_t users, ratings;    /* 0: nobody was */
    bool on_card;
    double cpu_s, card_s, card_alone_s;         /* the best; alone: by the card's clock */
    uint64_t card_bytes;
};

struct personal_bench {
    struct cli *cli;
    struct akin_catalog *catalog;
    struct akin_catalog_info info;
    struct akin_model *model;           /* NULL: queries are vectors already */
    struct akin_recommender *recommender;
    size_t queries;
    double open_ms, prepare_ms, cold_ms;
    struct stage_times stages[STAGES];
    struct stage_times without_encoding;
    struct stage_times first_visits;    /* without encoding, of people who were not active */
    struct stage_times graph, fresh;    /* of people alone: graph_ms and new_ms of
                                           struct akin_recommend_timing */
    size_t visitors;
    struct stage_times situation;       /* the reranker for a context; NAN: none was trained */
    size_t situation_candidates;        /* of a request, the mean */
    struct personal_batch batches[PERSONAL_BATCHES];
    struct cache_rates rates;
    struct cache_times cache;
    struct made_up made;
    struct personal_wake wake;
    struct akin_recommender_memory memory;
    uint64_t rss_bytes, peak_rss_bytes;
};

/* bench_personalize_measure.c */
enum akin_status personal_latency(struct personal_bench *bench);
enum akin_status personal_throughput(struct personal_bench *bench);
/* bench_personalize_cache.c */
enum akin_status personal_replay(struct personal_bench *bench);
enum akin_status personal_neighbors(struct personal_bench *bench, size_t capacity);
/* bench_personalize_made.c: in a folder of its own inside `scratch`, removed at the end. */
enum akin_status personal_made_up(struct personal_bench *bench, const char *scratch,
                                  size_t ratings);

/* bench_personalize_card.c: of a catalogue with many ratings. */
enum akin_status personal_wake(struct personal_bench *bench, const struct akin_catalog *catalog);
void personal_wake_print(const struct personal_bench *bench);
json_t *personal_wake_json(const struct personal_bench *bench);

/* bench_personalize_report.c */
size_t personal_targets(const struct personal_bench *bench, struct bench_target *targets);
enum akin_status personal_report(struct personal_bench *bench, const char *folder);

/* Sorts `times` [count]. */
struct stage_times stage_times_of(double *times, size_t count);
