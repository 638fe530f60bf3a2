/* The parts of `akin bench search`: what is searched, what was measured, how it is told. */
#pragma once

#include "cli/cli.h"
#include "cli/vectors_input.h"

enum {
    SEARCH_LIST_MAX = 16, /* kinds, recall targets, threads, batches, sizes */
    SEARCH_RUNS_MAX = 4096,
};

/* ---- vectors ----------------------------------------------------------------------------- */

/* Vectors of one size. Rows beyond those given are made from them, and so are queries where none
 * are given: a row, and noise of a stated length, scaled back to the row's length. */
struct search_data {
    struct vectors_input *rows_input, *queries_input;
    const float *given;         /* [given_rows][dimension] */
    const float *queries;       /* [query_count][dimension] */
    float *own_rows, *own_queries;
    size_t given_rows, dimension, query_count, own_count;
    bool rows_made, queries_made; /* at least some of them */
};

#define SEARCH_ROW_NOISE   0.35
#define SEARCH_QUERY_NOISE 0.7

/* `rows` NULL: vectors around 1,024 random ones, of dimension 384. `queries` NULL:
 * `query_count` made ones; else at most so many of the file's. */
enum akin_status search_data_open(struct search_data *data, const char *rows, const char *queries,
                                  size_t query_count, struct akin_error *error);
/* *out: `rows` vectors, valid until the next call or close; the same ones each time. */
enum akin_status search_data_rows(struct search_data *data, size_t rows, const float **out,
                                  struct akin_error *error);
void search_data_close(struct search_data *data);

/* ---- what was measured ------------------------------------------------------------------- */

struct search_run {
    size_t rows;
    char kind[16], chosen[16]; /* asked for; what that became */
    char device[32];           /* "cpu", "cuda:0" */
    double target;             /* recall asked for; 0: exact */
    int threads;
    double recall;
    double p50_us, p99_us;     /* of single queries; NaN where batch 1 was not asked for */
    double qps[SEARCH_LIST_MAX]; /* by batch; NaN where there are fewer queries */
    double card_us[SEARCH_LIST_MAX]; /* of a batch by the card's own clock; NaN: not known */
    double build_s, open_ms;   /* of the index; build NaN where it was built before */
    uint64_t file_bytes, memory_bytes, card_bytes;
};

struct search_bench {
    struct cli *cli;
    struct search_data data;
    const char *kinds[SEARCH_LIST_MAX];
    char kind_text[256];
    double targets[SEARCH_LIST_MAX], seconds;
    size_t sizes[SEARCH_LIST_MAX], batches[SEARCH_LIST_MAX];
    int threads[SEARCH_LIST_MAX];
    size_t kind_count, target_count, size_count, batch_count, thread_count, k;
    struct search_run *runs;
    size_t run_count;
    json_t *unavailable; /* [{kind, reason}] */
};

json_t *search_report_json(const struct search_bench *bench);
void search_report_print(const struct search_bench *bench);
