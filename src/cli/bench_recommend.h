/* What akin bench recommend measured, and the judgement of it. */
#pragma once

#include "cli/bench.h"

enum { K = 10, USERS = 5, BATCHES = 3, RECOMMEND_TARGETS_MAX = 16 };

struct measured {
    double ms; /* median */
    struct akin_recommendation results[K];
    size_t found;
};

struct user_result {
    size_t user;
    struct measured measured;
};

struct batch_result {
    size_t size;
    double ms; /* of the whole batch, median */
};

struct recommend_bench {
    struct cli *cli;
    struct akin_catalog *catalog;
    struct akin_catalog_info info;
    struct akin_recommender *recommender;
    int repeats;
    size_t row; /* the item asked about */
    struct akin_item item;
    char genre[256], filter[300]; /* filter "": the item has no genre */
    struct measured similar, filtered;
    size_t filter_passes;
    struct user_result users[USERS];
    size_t user_count;
    struct batch_result batches[BATCHES];
    size_t batch_bytes; /* of queries and results of the largest batch */
    struct akin_machine machine;
    struct akin_recommender_memory memory;
    uint64_t rss_bytes, peak_rss_bytes;
};

double batch_qps(const struct batch_result *batch);

/* Fills targets[RECOMMEND_TARGETS_MAX] and returns how many there are. */
size_t recommend_targets(const struct recommend_bench *bench, struct bench_target *targets);
