/* See bench_embed.h. Configurations are run in turn for several rounds, so that whatever else the
 * machine does meanwhile falls on all of them, and the middle round counts. */
#include "cli/bench_embed.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "cli/bench_estimate.h"

enum { SAMPLE_TEXTS = 1000, MEMORY_TEXTS = 512, LATENCY_TOKENS = 23 };

/* ---- memory ------------------------------------------------------------------------------ */

static bool keep_going(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    (void)cookie;
    (void)stage;
    (void)done;
    (void)total;
    return !signals_interrupted();
}

/* In the child: the largest resident size after embedding a few texts; 0 when that fails, which
 * the parent will meet and tell when it does the same. */
static uint64_t memory_in_child(const struct embed_bench *b, enum akin_precision precision,
                                int threads)
{
    struct akin_engine *engine = NULL;
    struct akin_model *model = NULL;
    struct akin_model_info info;
    struct akin_embed_settings settings;
    size_t count = b->texts.count < MEMORY_TEXTS ? b->texts.count : MEMORY_TEXTS;
    b->cli->quiet = true;
    if (cli_engine_open(b->cli, threads, &engine) != AKIN_OK ||
        akin_model_open(engine, b->path, precision, &model, NULL) != AKIN_OK)
        return 0;
    akin_model_info(model, &info);
    akin_embed_settings_default(&settings);
    settings.deduplicate = false;
    settings.progress.update = keep_going;
    float *vectors = memory_alloc_aligned(count, info.dimension * sizeof *vectors);
    if (!vectors || akin_model_embed(model, b->texts.texts, count, &settings, vectors, NULL,
                                     NULL) != AKIN_OK)
        return 0;
    return akin_peak_rss_bytes();
}

/* A process of its own for each model: in this one they all lie side by side. Only before this
 * process has threads. */
static uint64_t measure_memory(const struct embed_bench *b, enum akin_precision precision,
                               int threads)
{
    int pipes[2];
    uint64_t rss = 0;
    if (pipe(pipes) != 0)
        return 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        rss = memory_in_child(b, precision, threads);
        _exit(write(pipes[1], &rss, sizeof rss) == sizeof rss ? 0 : 1);
    }
    close(pipes[1]);
    if (child > 0) {
        if (read(pipes[0], &rss, sizeof rss) != sizeof rss)
            rss = 0;
        if (signals_interrupted())
            kill(child, SIGTERM);
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            kill(child, SIGTERM);
    }
    close(pipes[0]);
    return rss;
}

/* ---- opening ----------------------------------------------------------------------------- */

static bool is_missing(const struct embed_bench *b, enum akin_precision precision)
{
    for (size_t i = 0; i < b->missing_count; i++)
        if (b->missing[i].precision == precision)
            return true;
    return false;
}

static enum akin_status open_model(struct embed_bench *b, enum akin_precision precision,
                                   struct akin_engine *engine, uint64_t rss_bytes)
{
    struct akin_error *error = &b->cli->error;
    struct embed_model *m = &b->models[b->model_count];
    uint64_t begin = akin_clock_ns();
    enum akin_status status = akin_model_open(engine, b->path, precision, &m->model, error);
    if (status == AKIN_UNSUPPORTED) {
        struct embed_missing *missing = &b->missing[b->missing_count++];
        missing->precision = precision;
        missing->why = *error;
        return AKIN_OK;
    }
    if (status != AKIN_OK)
        return status;
    b->model_count++;
    m->open_seconds = seconds_since(begin);
    m->precision = precision;
    m->engine = engine;
    m->rss_bytes = rss_bytes;
    m->p50_ms = m->p99_ms = NAN;
    m->latencies_ms = memory_alloc(b->latency_texts * b->rounds, sizeof *m->latencies_ms);
    for (size_t i = 0; i < b->batch_count; i++)
        m->runs[i].batch = b->batches[i];
    return m->latencies_ms ? AKIN_OK : error_memory(error);
}

static enum akin_status open_models(struct embed_bench *b)
{
    uint64_t rss[EMBED_LIST_MAX][EMBED_PRECISIONS];
    TRY(cli_model_path(b->cli, NULL, b->path, sizeof b->path));
    for (size_t t = 0; t < b->thread_count; t++)
        for (size_t p = 0; p < b->precision_count; p++) {
            rss[t][p] = measure_memory(b, b->precisions[p], b->threads[t]);
            TRY(check_interrupted(b->cli));
        }
    for (size_t t = 0; t < b->thread_count; t++)
        TRY(cli_engine_open(b->cli, b->threads[t], &b->engines[t]));
    for (size_t p = 0; p < b->precision_count; p++)
        for (size_t t = 0; t < b->thread_count && !is_missing(b, b->precisions[p]); t++)
            TRY(open_model(b, b->precisions[p], b->engines[t], rss[t][p]));
    if (b->model_count == 0)
        return b->cli->error.status; /* the message is of the last that did not open */
    akin_model_info(b->models[0].model, &b->info);
    b->vectors = memory_alloc_aligned(b->texts.count, b->info.dimension * sizeof *b->vectors);
    return b->vectors ? AKIN_OK : error_memory(&b->cli->error);
}

/* ---- texts ------------------------------------------------------------------------------- */

struct text_length {
    size_t text, distance, tokens;
};

static int compare_lengths(const void *a, const void *b)
{
    const struct text_length *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return x->text < y->text ? -1 : x->text > y->text;
}

/* The texts whose length is nearest to what a sentence has; again from the first where there are
 * fewer than asked for. */
static enum akin_status choose_latency_texts(struct embed_bench *b, struct text_length *lengths)
{
    b->latency_order = memory_alloc(b->latency_texts, sizeof *b->latency_order);
    if (!b->latency_order)
        return error_memory(&b->cli->error);
    qsort(lengths, b->texts.count, sizeof *lengths, compare_lengths);
    for (size_t i = 0; i < b->latency_texts; i++) {
        const struct text_length *length = &lengths[i % b->texts.count];
        b->latency_order[i] = length->text;
        b->latency_tokens += (double)length->tokens / (double)b->latency_texts;
    }
    return AKIN_OK;
}

static enum akin_status count_tokens(struct embed_bench *b)
{
    struct akin_error *error = &b->cli->error;
    struct text_length *lengths = memory_alloc(b->texts.count, sizeof *lengths);
    int32_t *ids = memory_alloc(b->info.tokens_max, sizeof *ids);
    double tokens = 0, squares = 0;
    enum akin_status status = lengths && ids ? AKIN_OK : error_memory(error);
    for (size_t i = 0; status == AKIN_OK && i < b->texts.count; i++) {
        size_t count = 0;
        status = akin_model_tokenize(b->models[0].model, b->texts.texts[i], ids, NULL,
                                     b->info.tokens_max, &count, error);
        lengths[i] = (struct text_length){
            .text = i,
            .tokens = count,
            .distance = count > LATENCY_TOKENS ? count - LATENCY_TOKENS : LATENCY_TOKENS - count};
        tokens += (double)count;
        squares += (double)count * (double)count;
        if (status == AKIN_OK && i % 1024 == 0)
            status = check_interrupted(b->cli);
    }
    b->tokens = tokens;
    b->flops = encoder_flops(&b->info, tokens, squares);
    if (status == AKIN_OK && b->latency_texts)
        status = choose_latency_texts(b, lengths);
    memory_free(lengths);
    memory_free(ids);
    return status;
}

/* ---- quality ----------------------------------------------------------------------------- */

static size_t sample_row(const struct embed_bench *b, size_t i)
{
    return i * b->texts.count / b->sample_count;
}

/* The sample's vectors at fp32, by a model opened for that alone where fp32 was not asked for. */
static enum akin_status make_reference(struct embed_bench *b)
{
    struct akin_error *error = &b->cli->error;
    struct akin_model *fp32 = NULL;
    struct akin_embed_settings settings;
    b->sample_count = b->texts.count < SAMPLE_TEXTS ? b->texts.count : SAMPLE_TEXTS;
    struct akin_text *texts = memory_alloc(b->sample_count, sizeof *texts);
    b->reference =
        memory_alloc_aligned(b->sample_count, b->info.dimension * sizeof *b->reference);
    enum akin_status status = texts && b->reference ? AKIN_OK : error_memory(error);
    for (size_t i = 0; status == AKIN_OK && i < b->sample_count; i++)
        texts[i] = b->texts.texts[sample_row(b, i)];
    struct akin_model *model = NULL;
    for (size_t i = 0; i < b->model_count && !model; i++)
        if (b->models[i].precision == AKIN_PRECISION_FP32)
            model = b->models[i].model;
    if (status == AKIN_OK && !model) {
        status = akin_model_open(b->engines[0], b->path, AKIN_PRECISION_FP32, &fp32, error);
        model = fp32;
    }
    akin_embed_settings_default(&settings);
    settings.progress = progress_begin(&b->cli->progress, "texts");
    if (status == AKIN_OK)
        status = akin_model_embed(model, texts, b->sample_count, &settings, b->reference, NULL,
                                  error);
    akin_model_close(&fp32);
    memory_free(texts);
    return status;
}

static void compare_vectors(const struct embed_bench *b, struct embed_run *run)
{
    size_t dimension = b->info.dimension;
    double sum = 0, least = INFINITY;
    for (size_t i = 0; i < b->sample_count; i++) {
        double cosine = cosine_of(b->reference + i * dimension,
                                  b->vectors + sample_row(b, i) * dimension, dimension);
        sum += cosine;
        least = isnan(cosine) || cosine < least ? cosine : least;
    }
    run->cosine_mean = sum / (double)b->sample_count;
    run->cosine_min = isnan(sum) ? NAN : least;
}

/* ---- speed ------------------------------------------------------------------------------- */

static enum akin_status measure_latency(struct embed_bench *b, struct embed_model *m)
{
    struct akin_embed_settings settings;
    akin_embed_settings_default(&settings);
    for (size_t i = 0; i < b->latency_texts; i++) {
        uint64_t begin = akin_clock_ns();
        TRY(akin_model_embed(m->model, &b->texts.texts[b->latency_order[i]], 1, &settings,
                             b->vectors, NULL, &b->cli->error));
        m->latencies_ms[m->latency_count++] = ms_since(begin);
        TRY(check_interrupted(b->cli));
    }
    return AKIN_OK;
}

static enum akin_status measure_round(struct embed_bench *b, struct embed_model *m, size_t round)
{
    double peak = akin_engine_peak_gflops(m->engine, m->precision);
    if (peak > m->peak_gflops)
        m->peak_gflops = peak;
    TRY(measure_latency(b, m));
    for (size_t i = 0; i < b->batch_count; i++) {
        struct embed_run *run = &m->runs[i];
        struct akin_embed_settings with_batch;
        akin_embed_settings_default(&with_batch);
        with_batch.deduplicate = false;
        with_batch.batch_texts = run->batch;
        with_batch.progress = progress_begin(&b->cli->progress, "texts");
        TRY(akin_model_embed(m->model, b->texts.texts, b->texts.count, &with_batch, b->vectors,
                             &run->report, &b->cli->error));
        run->seconds[round] = run->report.seconds;
        if (round + 1 == b->rounds)
            compare_vectors(b, run);
    }
    return AKIN_OK;
}

static enum akin_status measure_rounds(struct embed_bench *b)
{
    struct akin_embed_settings settings;
    size_t warmup = b->warmup < b->texts.count ? b->warmup : b->texts.count;
    akin_embed_settings_default(&settings);
    settings.deduplicate = false;
    settings.progress = progress_begin(&b->cli->progress, "texts");
    for (size_t i = 0; warmup && i < b->model_count; i++)
        TRY(akin_model_embed(b->models[i].model, b->texts.texts, warmup, &settings, b->vectors,
                             NULL, &b->cli->error));
    for (size_t round = 0; round < b->rounds; round++)
        for (size_t i = 0; i < b->model_count; i++)
            TRY(measure_round(b, &b->models[i], round));
    progress_end(&b->cli->progress);
    return AKIN_OK;
}

enum akin_status embed_bench_measure(struct embed_bench *b)
{
    TRY(open_models(b));
    TRY(count_tokens(b));
    TRY(make_reference(b));
    TRY(measure_rounds(b));
    for (size_t i = 0; i < b->model_count; i++) {
        struct embed_model *m = &b->models[i];
        m->p50_ms = percentile_of(m->latencies_ms, m->latency_count, 50);
        m->p99_ms = percentile_of(m->latencies_ms, m->latency_count, 99);
        for (size_t r = 0; r < b->batch_count; r++) {
            struct embed_run *run = &m->runs[r];
            run->median_seconds = median_of(run->seconds, b->rounds);
            run->report.seconds = run->median_seconds;
        }
    }
    return AKIN_OK;
}

void embed_bench_deinit(struct embed_bench *b)
{
    for (size_t i = 0; i < b->model_count; i++) {
        akin_model_close(&b->models[i].model);
        memory_free(b->models[i].latencies_ms);
    }
    for (size_t t = 0; t < b->thread_count; t++)
        akin_engine_close(&b->engines[t]);
    text_window_deinit(&b->texts);
    memory_free(b->latency_order);
    memory_free(b->vectors);
    memory_free(b->reference);
}
