/* Runs of a live watch that are fed through a named pipe, for `akin bench watch`. */
#pragma once

#include "cli/bench.h"

struct watch_bench {
    struct cli *cli;
    struct akin_model *model;
    char folder[4096];          /* of everything that is made, and removed at the end */
    char **lines;               /* [line_count] of real events, without their ends */
    size_t line_count;
    struct string_pool texts;
    double seconds;
    uint64_t keep_seconds;      /* of the soak; 0: for ever */
};

/* What is fed, and what the watch keeps. */
struct watch_feed {
    double rate;                /* events a second; 0: as fast as they are taken */
    double seconds;             /* that are fed; 0: until `events` are */
    uint64_t events;
    bool distinct;              /* every event of a kind of its own, so that it is embedded */
    const char *store, *audit;  /* names in the folder; NULL: none */
    uint64_t keep_seconds;      /* of the store; 0: for ever */
    /* Called while the watch runs, by a thread of its own, until it returns; may be NULL. */
    void (*beside)(void *context, const bool *over);
    void *context;
};

struct watch_run {
    struct akin_watch_live_report report;
    double cpu_us;              /* of all threads, an event; those that write and search included */
    uint64_t rss_early, rss_late;   /* after a fifth of the time, and at the end */
};

enum akin_status watch_bench_run(struct watch_bench *bench, const struct watch_feed *feed,
                                 struct watch_run *run);
