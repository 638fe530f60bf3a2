/* What akin bench embed measures, and the two halves that share it: measuring and reporting. */
#pragma once

#include "base/file.h"
#include "cli/cli.h"
#include "cli/texts.h"

enum {
    EMBED_LIST_MAX = 16, /* thread counts, batch sizes */
    EMBED_PRECISIONS = 4,
    EMBED_PRICES_MAX = 4,
    EMBED_ROUNDS_MAX = 101,
    EMBED_MODELS_MAX = EMBED_LIST_MAX * EMBED_PRECISIONS,
};

/* An embedding of all texts: one batch size, once a round. */
struct embed_run {
    size_t batch; /* 0: chosen */
    double seconds[EMBED_ROUNDS_MAX];
    double median_seconds;
    struct akin_embed_report report; /* of the last round, with the median of the seconds */
    double cosine_mean, cosine_min;  /* to fp32, over the sample; NaN: not measured */
};

/* A model open at one precision on an engine of so many threads. */
struct embed_model {
    enum akin_precision precision;
    struct akin_engine *engine; /* borrowed */
    struct akin_model *model;
    double open_seconds;
    double peak_gflops;   /* best of the rounds; 0: unknown */
    uint64_t rss_bytes;   /* of a process that does nothing else; 0: unknown */
    double *latencies_ms; /* [latency texts * rounds] */
    size_t latency_count;
    double p50_ms, p99_ms; /* NaN: not measured */
    struct embed_run runs[EMBED_LIST_MAX];
};

/* A precision that does not open here, and why. */
struct embed_missing {
    enum akin_precision precision;
    struct akin_error why;
};

/* What another device did, from its report. */
struct embed_other {
    bool known;
    char device[64], model[128], precision[16], cpu[128];
    double texts_per_second;
};

struct embed_bench {
    struct cli *cli;
    /* asked for */
    enum akin_precision precisions[EMBED_PRECISIONS];
    size_t precision_count;
    int threads[EMBED_LIST_MAX]; /* -1: what the settings say */
    size_t thread_count;
    size_t batches[EMBED_LIST_MAX];
    size_t batch_count;
    double prices[EMBED_PRICES_MAX]; /* dollars per hour */
    size_t price_count;
    size_t rounds, warmup, latency_texts;
    struct embed_other other;
    struct text_window texts;
    char path[PATH_BYTES_MAX]; /* of the model */
    /* found */
    struct akin_engine *engines[EMBED_LIST_MAX];
    struct embed_model models[EMBED_MODELS_MAX];
    size_t model_count;
    struct embed_missing missing[EMBED_PRECISIONS];
    size_t missing_count;
    struct akin_model_info info;
    double tokens, flops;  /* of all texts */
    size_t *latency_order; /* [latency_texts] texts of about 23 tokens */
    double latency_tokens; /* their mean */
    float *vectors;        /* [texts.count][dimension] */
    size_t sample_count;   /* texts compared with fp32, spread over all */
    float *reference;      /* [sample_count][dimension] at fp32 */
};

/* bench_embed_measure.c: opens the models and fills them in. */
enum akin_status embed_bench_measure(struct embed_bench *bench);
void embed_bench_deinit(struct embed_bench *bench);

/* bench_embed_report.c and bench_embed_outlook.c */
void embed_bench_print(const struct embed_bench *bench);
json_t *embed_bench_json(const struct embed_bench *bench);
void embed_outlook_print(const struct embed_bench *bench);
void embed_outlook_json(const struct embed_bench *bench, json_t *report);

/* The fastest run: of `model`, or of all models that compute at `precision` (AUTO: any). */
struct embed_choice {
    const struct embed_model *model;
    const struct embed_run *run; /* NULL: there is none */
};
struct embed_choice embed_fastest(const struct embed_bench *bench, enum akin_precision precision);
/* texts/s of a run. */
double embed_rate(const struct embed_run *run);
/* Of the run of the same precision and batch size with the fewest threads; NaN where all runs of
 * the precision have the same thread count. */
double embed_efficiency(const struct embed_bench *bench, const struct embed_model *model,
                        size_t run);
