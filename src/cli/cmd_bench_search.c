/* akin bench search: how fast vectors are found, and how many of the true ones, by kind of index,
 * recall target, threads, batch and size; and what the index costs to build and to keep. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/csv.h"
#include "base/file.h"
#include "base/limits.h"
#include "cli/bench_search.h"
#include "cli/report.h"

static const struct option bench_options[] = {
    {"index", 0, OPTION_TEXT, "X.akx", NULL, "measure this index; needs --queries", 0, 0},
    {"vectors", 'i', OPTION_TEXT, VECTORS_INPUT_VALUE, NULL,
     "build indexes of these; without it: of made ones", 0, 0},
    {"queries", 0, OPTION_TEXT, VECTORS_INPUT_VALUE, NULL, "without it: made from the vectors", 0,
     0},
    {"kinds", 0, OPTION_TEXT, "K,K,...", "auto,flat,ivfpq,graph", "of index to build", 0, 0},
    {"recalls", 0, OPTION_TEXT, "R,R,...", "0.9,0.95,0.99", "targets, beside exact search", 0, 0},
    {"sizes", 0, OPTION_TEXT, "N,N,...", NULL,
     "rows, such as 1k,10k,100k,1m; without it: all vectors, or 10k made ones", 0, 0},
    {"threads", 't', OPTION_TEXT, "N,N,...", NULL, "a run each; without it: the setting", 0, 0},
    {"batches", 0, OPTION_TEXT, "N,N,...", "1,10,100,1000", "queries searched together", 0, 0},
    {"top", 'k', OPTION_COUNT, "K", "10", "neighbours of each query", 1, 1000},
    {"limit", 0, OPTION_COUNT, "N", "1000", "queries, at most", 1, 1000000},
    {"seconds", 0, OPTION_NUMBER, "S", "0.3", "for each figure", 0.001, 600},
    {"output-dir", 0, OPTION_TEXT, "DIR", "results", "folder of the report and of indexes", 0, 0},
};

enum { WARMUPS = 3, CALLS_MIN = 3, CALLS_MAX = 200000, KIND_BYTES = 16 };

/* ---- lists ------------------------------------------------------------------------------- */

/* A number with k or m behind it, such as "100k", in [min, max]. */
static bool read_number(const char *text, size_t bytes, double min, double max, double *value)
{
    double unit = 1;
    if (bytes > 1 && (text[bytes - 1] == 'k' || text[bytes - 1] == 'm'))
        unit = text[--bytes] == 'k' ? 1e3 : 1e6;
    if (!parse_double(text, bytes, value) || !isfinite(*value))
        return false;
    *value *= unit;
    return *value >= min && *value <= max;
}

/* Numbers between commas; whole ones unless `fractions`. */
static enum akin_status read_list(struct cli *cli, const char *option, double min, double max,
                                  bool fractions, double *values, size_t *count)
{
    const char *at = options_text(&cli->options, option);
    for (*count = 0; at; (*count)++) {
        size_t n = strcspn(at, ",");
        double value = 0;
        if (*count == SEARCH_LIST_MAX || !read_number(at, n, min, max, &value) ||
            (!fractions && value != floor(value)))
            return wrong_use(cli, "--%s: '%.60s': expected at most %d numbers from %g to %g",
                             option, at, SEARCH_LIST_MAX, min, max);
        values[*count] = value;
        at = at[n] ? at + n + 1 : NULL;
    }
    return AKIN_OK;
}

static enum akin_status read_kinds(struct search_bench *b)
{
    char *at = b->kind_text;
    snprintf(b->kind_text, sizeof b->kind_text, "%s", options_text(&b->cli->options, "kinds"));
    for (bool more = true; more;) {
        size_t n = strcspn(at, ",");
        more = at[n] == ',';
        at[n] = 0;
        if (n == 0 || n >= KIND_BYTES || b->kind_count == SEARCH_LIST_MAX)
            return wrong_use(b->cli, "--kinds: '%.40s' is no kind of index", at);
        b->kinds[b->kind_count++] = at;
        at += n + 1;
    }
    return AKIN_OK;
}

static enum akin_status read_options(struct search_bench *b)
{
    struct cli *cli = b->cli;
    double values[SEARCH_LIST_MAX];
    b->k = options_count(&cli->options, "top");
    b->seconds = options_number(&cli->options, "seconds");
    TRY(read_kinds(b));
    TRY(read_list(cli, "recalls", 0.01, 1, true, b->targets, &b->target_count));
    TRY(read_list(cli, "sizes", 1, 1e9, false, values, &b->size_count));
    for (size_t i = 0; i < b->size_count; i++)
        b->sizes[i] = (size_t)values[i];
    TRY(read_list(cli, "batches", 1, 1e6, false, values, &b->batch_count));
    for (size_t i = 0; i < b->batch_count; i++)
        b->batches[i] = (size_t)values[i];
    TRY(read_list(cli, "threads", 0, THREADS_MAX, false, values, &b->thread_count));
    for (size_t i = 0; i < b->thread_count; i++)
        b->threads[i] = (int)values[i];
    if (!b->thread_count)
        b->threads[b->thread_count++] = -1;
    return AKIN_OK;
}

/* ---- one index --------------------------------------------------------------------------- */

struct measured_index {
    struct search_bench *bench;
    struct akin_index *index;
    struct akin_index_info info;
    int64_t *ids;      /* [queries][k] */
    float *scores;     /* [queries][k] */
    const float *true_scores; /* [queries][k], best first */
    double *call_us;   /* [CALLS_MAX] */
};

static enum akin_status ask(struct measured_index *m, double target, size_t at, size_t count)
{
    struct search_bench *b = m->bench;
    const struct akin_index_query query = {.vectors = b->data.queries + at * b->data.dimension,
                                           .count = count,
                                           .k = b->k,
                                           .recall = (float)target,
                                           .exact = target == 0};
    return akin_index_search(m->index, &query, m->ids + at * b->k, m->scores + at * b->k,
                             &b->cli->error);
}

/* What scores as well as the k-th true neighbour is as good as it. */
static double recall_of(const struct measured_index *m)
{
    size_t k = m->bench->k, found = 0, wanted = 0;
    for (size_t q = 0; q < m->bench->data.query_count; q++) {
        const float *best = m->true_scores + q * k, *scores = m->scores + q * k;
        size_t have = k;
        while (have > 0 && best[have - 1] == -INFINITY)
            have--;
        wanted += have;
        for (size_t i = 0; i < have; i++)
            found += m->ids[q * k + i] >= 0 &&
                     scores[i] >= best[have - 1] - 1e-6f * (1 + fabsf(best[have - 1]));
    }
    return wanted ? (double)found / (double)wanted : 1;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum akin_status time_batch(struct measured_index *m, size_t batch, struct search_run *run,
                                   double *qps)
{
    struct search_bench *b = m->bench;
    size_t queries = b->data.query_count, at = 0, calls = 0;
    double total_us = 0;
    *qps = NAN;
    if (batch > queries)
        return AKIN_OK;
    for (int i = -WARMUPS; calls < CALLS_MAX; i++) {
        if (at + batch > queries)
            at = 0;
        uint64_t begin = akin_clock_ns();
        TRY(ask(m, run->target, at, batch));
        double us = (double)(akin_clock_ns() - begin) / 1e3;
        at += batch;
        if (i >= 0) {
            m->call_us[calls++] = us;
            total_us += us;
        }
        TRY(check_interrupted(b->cli));
        if (calls >= CALLS_MIN && total_us >= b->seconds * 1e6)
            break;
    }
    *qps = (double)(calls * batch) / total_us * 1e6;
    if (batch == 1) {
        qsort(m->call_us, calls, sizeof *m->call_us, compare_doubles);
        run->p50_us = m->call_us[calls / 2];
        run->p99_us = m->call_us[(size_t)(0.99 * (double)(calls - 1) + 0.5)];
    }
    return AKIN_OK;
}

/* The median of a few batches by the card's own clock, in microseconds; NaN where it has none. */
static enum akin_status time_card(struct measured_index *m, size_t batch, double target,
                                  double *card_us)
{
    struct search_bench *b = m->bench;
    enum { TURNS = 9 };
    double seconds[TURNS];
    const struct akin_index_query query = {.vectors = b->data.queries, .count = batch, .k = b->k,
                                           .recall = (float)target, .exact = target == 0};
    *card_us = NAN;
    for (size_t i = 0; i < TURNS && batch <= b->data.query_count; i++) {
        TRY(akin_index_card_seconds(m->index, &query, &seconds[i], &b->cli->error));
        if (isnan(seconds[i]))
            return AKIN_OK;
        TRY(check_interrupted(b->cli));
    }
    if (batch > b->data.query_count)
        return AKIN_OK;
    qsort(seconds, TURNS, sizeof *seconds, compare_doubles);
    *card_us = seconds[TURNS / 2] * 1e6;
    return AKIN_OK;
}

/* Exact search and each target, on the open index. */
static enum akin_status measure_targets(struct measured_index *m, const struct search_run *common)
{
    struct search_bench *b = m->bench;
    for (size_t t = 0; t <= b->target_count; t++) {
        if (b->run_count == SEARCH_RUNS_MAX)
            return error_set(&b->cli->error, AKIN_LIMIT, "more than %d runs", SEARCH_RUNS_MAX);
        struct search_run *run = &b->runs[b->run_count];
        *run = *common;
        run->target = t == 0 ? 0 : b->targets[t - 1];
        run->p50_us = run->p99_us = NAN;
        TRY(ask(m, run->target, 0, b->data.query_count));
        run->recall = recall_of(m);
        for (size_t i = 0; i < b->batch_count; i++) {
            TRY(time_batch(m, b->batches[i], run, &run->qps[i]));
            TRY(time_card(m, b->batches[i], run->target, &run->card_us[i]));
        }
        b->run_count++;
    }
    return AKIN_OK;
}

/* Where the engine searches: "cpu", "cuda:0". */
static const char *search_device(const struct akin_engine *engine)
{
    const char *device = "cpu", *name;
    for (size_t i = 0; (name = akin_engine_part(engine, i, &device)); i++)
        if (!strcmp(name, "search"))
            return device;
    return "cpu";
}

/* What the index is, opened by `engine`, and how it does; `true_scores` where not known yet. */
static enum akin_status measure_engine(struct measured_index *m, struct akin_engine *engine,
                                       const char *path, const char *kind, double build_s,
                                       float *true_scores, bool *known)
{
    struct search_bench *b = m->bench;
    struct search_run run = {.build_s = build_s};
    size_t before = b->run_count;
    uint64_t begin = akin_clock_ns();
    TRY(akin_index_open(engine, path, AKIN_INDEX_READ, &m->index, &b->cli->error));
    run.open_ms = ms_since(begin);
    akin_index_info(m->index, &m->info);
    if (m->info.dimension != b->data.dimension)
        return error_set(&b->cli->error, AKIN_ARGUMENT,
                         "%s: vectors of %zu dimensions, the queries have %zu", path,
                         m->info.dimension, b->data.dimension);
    if (!*known) {
        TRY(ask(m, 0, 0, b->data.query_count));
        memcpy(true_scores, m->scores, b->data.query_count * b->k * sizeof *m->scores);
        *known = true;
    }
    run.rows = m->info.count;
    run.threads = akin_engine_threads(engine);
    snprintf(run.device, sizeof run.device, "%s", search_device(engine));
    snprintf(run.kind, sizeof run.kind, "%s", kind ? kind : m->info.asked);
    snprintf(run.chosen, sizeof run.chosen, "%s", m->info.kind);
    run.file_bytes = m->info.file_bytes;
    TRY(measure_targets(m, &run));
    akin_index_info(m->index, &m->info); /* what searching has made is counted */
    for (size_t r = before; r < b->run_count; r++) {
        b->runs[r].memory_bytes = m->info.memory_bytes;
        b->runs[r].card_bytes = m->info.card_bytes;
    }
    akin_index_close(&m->index);
    return AKIN_OK;
}

/* Opens the file with each number of threads, on the CPU and then on the GPU where there is one. */
static enum akin_status measure_index(struct search_bench *b, const char *path, const char *kind,
                                      double build_s, float *true_scores, bool *known)
{
    struct measured_index m = {.bench = b, .true_scores = true_scores};
    struct akin_engine *engine = NULL;
    size_t cells = b->data.query_count * b->k;
    enum akin_status status = AKIN_OK;
    m.ids = memory_alloc(cells, sizeof *m.ids);
    m.scores = memory_alloc(cells, sizeof *m.scores);
    m.call_us = memory_alloc(CALLS_MAX, sizeof *m.call_us);
    if (!m.ids || !m.scores || !m.call_us) {
        status = error_memory(&b->cli->error);
        goto done;
    }
    for (size_t i = 0; i < b->thread_count; i++) {
        TRY_DONE(cli_engine_open_cpu(b->cli, b->threads[i], &engine));
        TRY_DONE(measure_engine(&m, engine, path, kind, build_s, true_scores, known));
        akin_engine_close(&engine);
        TRY_DONE(cli_engine_open(b->cli, b->threads[i], &engine));
        if (strcmp(search_device(engine), "cpu"))
            TRY_DONE(measure_engine(&m, engine, path, kind, build_s, true_scores, known));
        akin_engine_close(&engine);
    }
done:
    akin_index_close(&m.index);
    akin_engine_close(&engine);
    memory_free(m.ids);
    memory_free(m.scores);
    memory_free(m.call_us);
    return status;
}

/* ---- all of them ------------------------------------------------------------------------- */

/* Builds one kind and measures it. A kind that this library does not build is noted once. */
static enum akin_status measure_kind(struct search_bench *b, const char *path, const char *kind,
                                     const float *vectors, size_t rows, float *true_scores,
                                     bool *known)
{
    struct cli *cli = b->cli;
    struct akin_index_settings settings;
    const struct akin_index_rows all = {.vectors = vectors, .count = rows};
    char unit[64];
    akin_index_settings_default(&settings);
    settings.kind = kind;
    snprintf(unit, sizeof unit, "rows, %s", kind);
    settings.progress = progress_begin(&cli->progress, unit);
    uint64_t begin = akin_clock_ns();
    enum akin_status status = akin_index_build(cli->engine, path, &all, b->data.dimension,
                                               &settings, &cli->error);
    double seconds = seconds_since(begin);
    progress_end(&cli->progress);
    if (status == AKIN_UNSUPPORTED) {
        json_t *row = json_object();
        json_object_set_new(row, "kind", json_of_text(kind));
        json_object_set_new(row, "rows", json_of_count(rows));
        json_object_set_new(row, "reason", json_of_text(cli->error.message));
        json_array_append_new(b->unavailable, row);
        return AKIN_OK;
    }
    if (status == AKIN_OK)
        status = measure_index(b, path, kind, seconds, true_scores, known);
    path_remove(path, NULL);
    return status;
}

static enum akin_status measure_sizes(struct search_bench *b, float *true_scores)
{
    struct cli *cli = b->cli;
    const char *folder = options_text(&cli->options, "output-dir");
    char path[PATH_BYTES_MAX], name[64];
    snprintf(name, sizeof name, "bench_search_%ld.akx", (long)getpid());
    TRY(path_make_folders(folder, &cli->error));
    TRY(path_join(path, sizeof path, folder, name, &cli->error));
    if (!b->size_count)
        b->sizes[b->size_count++] = b->data.given_rows ? b->data.given_rows : 10000;
    for (size_t i = 0; i < b->size_count; i++) {
        const float *vectors;
        bool known = false;
        TRY(search_data_rows(&b->data, b->sizes[i], &vectors, &cli->error));
        for (size_t j = 0; j < b->kind_count; j++)
            TRY(measure_kind(b, path, b->kinds[j], vectors, b->sizes[i], true_scores, &known));
    }
    return AKIN_OK;
}

static enum akin_status measure_all(struct search_bench *b, const char *index)
{
    struct cli *cli = b->cli;
    size_t cells;
    bool known = false;
    if (!size_mul(b->data.query_count, b->k, &cells))
        return error_set(&cli->error, AKIN_LIMIT, "too many queries");
    float *true_scores = memory_alloc(cells, sizeof *true_scores);
    if (!true_scores)
        return error_memory(&cli->error);
    enum akin_status status = index ? measure_index(b, index, NULL, NAN, true_scores, &known)
                                    : measure_sizes(b, true_scores);
    if (status == AKIN_OK && index)
        b->sizes[b->size_count++] = b->runs[0].rows;
    memory_free(true_scores);
    return status;
}

static enum akin_status run_bench(struct cli *cli)
{
    const struct options *o = &cli->options;
    const char *index = options_text(o, "index"), *queries = options_text(o, "queries");
    enum akin_status status = AKIN_OK;
    if (index && (options_text(o, "vectors") || options_text(o, "sizes")))
        return wrong_use(cli, "--index is measured as it is: leave out --vectors and --sizes");
    if (index && !queries)
        return wrong_use(cli, "--index needs --queries FILE");
    struct search_bench *b = memory_alloc(1, sizeof *b);
    if (!b)
        return error_memory(&cli->error);
    b->cli = cli;
    b->runs = memory_alloc(SEARCH_RUNS_MAX, sizeof *b->runs);
    b->unavailable = json_array();
    if (!b->runs || !b->unavailable) {
        status = error_memory(&cli->error);
        goto done;
    }
    TRY_DONE(read_options(b));
    TRY_DONE(search_data_open(&b->data, options_text(o, "vectors"), queries,
                              options_count(o, "limit"), &cli->error));
    TRY_DONE(cli_engine(cli));
    print_note(cli, "measuring, this takes a moment");
    TRY_DONE(measure_all(b, index));
    if (!cli->json)
        search_report_print(b);
    status = report_write(cli, "search", search_report_json(b));
done:
    search_data_close(&b->data);
    json_decref(b->unavailable);
    memory_free(b->runs);
    memory_free(b);
    return status;
}

const struct command command_bench_search = {
    .name = "bench search",
    .arguments = "[--index X.akx | -i FILE] [--queries FILE] [options]",
    .summary = "speed and recall of vector search, by kind, size and batch",
    .details =
        "Recall is measured against exact search of the same index, with ties counted. A kind "
        "that\n"
        "cannot be built is named, not an error. Beyond the vectors given, rows and queries are\n"
        "made from them with noise, by a fixed seed; the report says so. p50 and p99 are those of\n"
        "single queries. memory is what the index holds beside its mapped file; on a GPU, there.\n"
        "With a GPU (--device) everything is measured on the CPU and then there, from host memory\n"
        "to host memory; what a GPU leaves to the CPU, such as exact search of ivfpq, counts "
        "too.\n",
    .examples =
        "  akin bench search -i films.npy --queries queries.npy --threads 1,2\n"
        "  akin bench search -i glove.hdf5 --queries glove.hdf5 --kinds graph --recalls 0.95\n"
        "  akin bench search --sizes 1k,10k,100k,1m --threads 1 --batches 1\n"
        "  akin bench search --index films.akx --queries queries.npy\n"
        "  akin bench search --sizes 1m --kinds flat,ivfpq --device cuda\n",
    .options = {bench_options, sizeof bench_options / sizeof bench_options[0]},
    .run = run_bench,
};
