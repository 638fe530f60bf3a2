/* The embedding report: what was measured, for people and as JSON. What follows from it by
 * arithmetic is in bench_embed_outlook.c. */
#include <math.h>

#include "cli/bench_embed.h"
#include "cli/bench_estimate.h"
#include "cli/report.h"

/* ---- choosing ---------------------------------------------------------------------------- */

double embed_rate(const struct embed_run *run)
{
    return run->median_seconds > 0 ? (double)run->report.texts / run->median_seconds : 0;
}

struct embed_choice embed_fastest(const struct embed_bench *b, enum akin_precision precision)
{
    struct embed_choice best = {0};
    for (size_t i = 0; i < b->model_count; i++) {
        const struct embed_model *m = &b->models[i];
        if (precision != AKIN_PRECISION_AUTO && m->precision != precision)
            continue;
        for (size_t r = 0; r < b->batch_count; r++)
            if (!best.run || m->runs[r].median_seconds < best.run->median_seconds)
                best = (struct embed_choice){m, &m->runs[r]};
    }
    return best;
}

double embed_efficiency(const struct embed_bench *b, const struct embed_model *model, size_t run)
{
    const struct embed_model *base = model;
    int threads = akin_engine_threads(model->engine), least = threads, most = threads;
    for (size_t i = 0; i < b->model_count; i++) {
        int other = akin_engine_threads(b->models[i].engine);
        if (b->models[i].precision != model->precision)
            continue;
        most = other > most ? other : most;
        if (other < least) {
            least = other;
            base = &b->models[i];
        }
    }
    if (least == most)
        return NAN;
    return scaling_efficiency(embed_rate(&model->runs[run]), threads, embed_rate(&base->runs[run]),
                              least);
}

static double gflops_of(const struct embed_bench *b, const struct embed_run *run)
{
    return run->median_seconds > 0 ? b->flops / run->median_seconds / 1e9 : NAN;
}

static double share_of(const struct embed_bench *b, const struct embed_model *m,
                       const struct embed_run *run)
{
    return m->peak_gflops > 0 ? gflops_of(b, run) / m->peak_gflops : NAN;
}

/* ---- JSON -------------------------------------------------------------------------------- */

static json_t *run_json(const struct embed_bench *b, const struct embed_model *m, size_t r)
{
    const struct embed_run *run = &m->runs[r];
    json_t *row = json_object(), *costs = json_array();
    const double numbers = (double)run->report.texts;
    json_object_set_new(row, "precision", json_of_text(akin_precision_name(m->precision)));
    json_object_set_new(row, "kernels", json_of_text(akin_engine_kernels(m->engine)));
    json_object_set_new(row, "threads", json_integer(akin_engine_threads(m->engine)));
    json_object_set_new(row, "batch_size", json_of_count(run->batch));
    json_object_set_new(row, "seconds", json_of_double(run->median_seconds));
    json_t *seconds = json_array();
    for (size_t i = 0; i < b->rounds; i++) /* sorted */
        json_array_append_new(seconds, json_of_double(run->seconds[i]));
    json_object_set_new(row, "seconds_of_rounds", seconds);
    json_object_set_new(row, "texts_per_second", json_of_double(embed_rate(run)));
    json_object_set_new(row, "ms_per_text", json_of_double(1000 * run->median_seconds / numbers));
    json_object_set_new(row, "gflops", json_of_double(gflops_of(b, run)));
    json_object_set_new(row, "peak_gflops",
                        json_of_double(m->peak_gflops > 0 ? m->peak_gflops : NAN));
    json_object_set_new(row, "share_of_peak", json_of_double(share_of(b, m, run)));
    json_object_set_new(row, "scaling_efficiency", json_of_double(embed_efficiency(b, m, r)));
    json_object_set_new(row, "latency_p50_ms", json_of_double(m->p50_ms));
    json_object_set_new(row, "latency_p99_ms", json_of_double(m->p99_ms));
    json_object_set_new(row, "memory_mb",
                        json_of_double(m->rss_bytes ? (double)m->rss_bytes / 1e6 : NAN));
    json_object_set_new(row, "cosine_mean", json_of_double(run->cosine_mean));
    json_object_set_new(row, "cosine_min", json_of_double(run->cosine_min));
    for (size_t p = 0; p < b->price_count; p++)
        json_array_append_new(
            costs, json_pack("{s:f,s:o}", "dollars_per_hour", b->prices[p], "dollars",
                             json_of_double(texts_cost(embed_rate(run), 1e6, b->prices[p]))));
    json_object_set_new(row, "cost_per_million_texts", costs);
    return row;
}

json_t *embed_bench_json(const struct embed_bench *b)
{
    const struct embed_choice best = embed_fastest(b, AKIN_PRECISION_AUTO);
    const double texts = (double)b->texts.count;
    struct akin_model_info info;
    json_t *root = json_object(), *runs = json_array(), *missing = json_array();
    akin_model_info(best.model->model, &info);
    embed_report_json(b->cli, &info, &best.run->report, root);
    if (best.model->rss_bytes)
        json_object_set_new(root, "peak_rss_mb",
                            json_of_double((double)best.model->rss_bytes / 1e6));
    json_object_set_new(root, "batch_size", json_of_count(best.run->batch));
    json_object_set_new(root, "model_open_seconds", json_of_double(best.model->open_seconds));
    json_object_set_new(root, "rounds", json_of_count(b->rounds));
    json_object_set_new(root, "tokens_per_text", json_of_double(b->tokens / texts));
    json_object_set_new(root, "flops_per_text", json_of_double(b->flops / texts));
    json_object_set_new(root, "latency_texts", json_of_count(b->latency_texts));
    json_object_set_new(root, "latency_tokens",
                        json_of_double(b->latency_texts ? b->latency_tokens : NAN));
    json_object_set_new(root, "cosine_texts", json_of_count(b->sample_count));
    for (size_t i = 0; i < b->model_count; i++)
        for (size_t r = 0; r < b->batch_count; r++)
            json_array_append_new(runs, run_json(b, &b->models[i], r));
    json_object_set_new(root, "runs", runs);
    for (size_t i = 0; i < b->missing_count; i++)
        json_array_append_new(
            missing,
            json_pack("{s:s,s:o}", "precision", akin_precision_name(b->missing[i].precision),
                      "reason", json_of_text(b->missing[i].why.message)));
    json_object_set_new(root, "unavailable", missing);
    json_t *placements = json_array();
    for (size_t t = 0; t < b->thread_count; t++)
        json_array_append_new(placements, placement_json(b->engines[t]));
    json_object_set_new(root, "placement", placements);
    embed_outlook_json(b, root);
    report_common(b->cli, root);
    return root;
}

/* ---- text -------------------------------------------------------------------------------- */

static void cell_share(struct table *table, double share)
{
    if (isfinite(share))
        table_cell(table, "%.1f %%", 100 * share);
    else
        table_cell(table, "-");
}

static void cell_positive(struct table *table, const char *format, double value)
{
    if (isfinite(value) && value > 0)
        table_cell(table, format, value);
    else
        table_cell(table, "-");
}

static void cell_setup(struct table *table, const struct embed_model *m)
{
    table_cell(table, "  %s", akin_precision_name(m->precision));
    table_cell(table, "%s", akin_engine_kernels(m->engine));
    table_cell(table, "%d", akin_engine_threads(m->engine));
}

static void print_speed(const struct embed_bench *b)
{
    static const struct table_column columns[] = {
        {"  precision", TABLE_LEFT, 0}, {"kernels", TABLE_LEFT, 0},  {"threads", TABLE_RIGHT, 0},
        {"batch", TABLE_RIGHT, 0},      {"texts/s", TABLE_RIGHT, 0}, {"ms/text", TABLE_RIGHT, 0},
        {"GFLOP/s", TABLE_RIGHT, 0},    {"peak", TABLE_RIGHT, 0},    {"of peak", TABLE_RIGHT, 0},
        {"scaling", TABLE_RIGHT, 0}};
    struct table table;
    char text[NUMBER_BYTES];
    printf("\nSpeed: middle of %zu round%s; the peak is this machine's at that moment\n", b->rounds,
           b->rounds == 1 ? "" : "s");
    table_init(&table, columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < b->model_count; i++) {
        const struct embed_model *m = &b->models[i];
        for (size_t r = 0; r < b->batch_count; r++) {
            const struct embed_run *run = &m->runs[r];
            cell_setup(&table, m);
            if (run->batch)
                table_cell(&table, "%zu", run->batch);
            else
                table_cell(&table, "chosen");
            table_cell(&table, "%s", format_count(text, (uint64_t)(embed_rate(run) + 0.5)));
            table_cell(&table, "%.3f", 1000 * run->median_seconds / (double)run->report.texts);
            cell_positive(&table, "%.1f", gflops_of(b, run));
            cell_positive(&table, "%.1f", m->peak_gflops);
            cell_share(&table, share_of(b, m, run));
            cell_share(&table, embed_efficiency(b, m, r));
        }
    }
    table_print(&table, stdout);
    table_deinit(&table);
    for (size_t t = 0; t < b->thread_count; t++) {
        int threads = akin_engine_threads(b->engines[t]), cores = placement_cores(b->engines[t]);
        if (threads > cores)
            printf("  %d threads share %d core%s: their scaling is not that of more cores\n",
                   threads, cores, cores == 1 ? "" : "s");
    }
}

static double least_cosine(const struct embed_bench *b, const struct embed_model *m, bool mean)
{
    double least = INFINITY;
    for (size_t r = 0; r < b->batch_count; r++) {
        double cosine = mean ? m->runs[r].cosine_mean : m->runs[r].cosine_min;
        least = isnan(cosine) || cosine < least ? cosine : least;
    }
    return least;
}

static void print_quality(const struct embed_bench *b)
{
    static const struct table_column columns[] = {
        {"  precision", TABLE_LEFT, 0},    {"kernels", TABLE_LEFT, 0},
        {"threads", TABLE_RIGHT, 0},       {"memory", TABLE_RIGHT, 0},
        {"one text, p50", TABLE_RIGHT, 0}, {"p99", TABLE_RIGHT, 0},
        {"cosine, mean", TABLE_RIGHT, 0},  {"least", TABLE_RIGHT, 0}};
    struct table table;
    char text[NUMBER_BYTES];
    printf("\nMemory is the peak of a process with this model alone; cosine to fp32 over %zu "
           "texts", b->sample_count);
    if (b->latency_texts)
        printf(";\none text at a time: %zu texts of %.0f tokens in each round", b->latency_texts,
               b->latency_tokens);
    printf("\n");
    table_init(&table, columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < b->model_count; i++) {
        const struct embed_model *m = &b->models[i];
        cell_setup(&table, m);
        table_cell(&table, "%s", m->rss_bytes ? format_bytes(text, m->rss_bytes) : "-");
        cell_positive(&table, "%.3f ms", m->p50_ms);
        cell_positive(&table, "%.3f ms", m->p99_ms);
        cell_positive(&table, "%.6f", least_cosine(b, m, true));
        cell_positive(&table, "%.6f", least_cosine(b, m, false));
    }
    table_print(&table, stdout);
    table_deinit(&table);
}

void embed_bench_print(const struct embed_bench *b)
{
    const struct embed_choice best = embed_fastest(b, AKIN_PRECISION_AUTO);
    const double texts = (double)b->texts.count;
    struct akin_model_info info;
    char text[PLACEMENT_BYTES];
    akin_model_info(best.model->model, &info);
    report_machine(b->cli);
    for (size_t t = 0; t < b->thread_count; t++)
        printf("Threads: %s\n", placement_text(b->engines[t], text, sizeof text));
    printf("Embedding report: %s, opened in %.2f s; the fastest run:\n", info.name,
           best.model->open_seconds);
    embed_report_print(&info, &best.run->report, best.model->rss_bytes);
    report_line("work per text", "%.1f tokens, %.4g GFLOP", b->tokens / texts,
                b->flops / texts / 1e9);
    for (size_t i = 0; i < b->missing_count; i++)
        printf("  %s: not available here: %s\n", akin_precision_name(b->missing[i].precision),
               b->missing[i].why.message);
    print_speed(b);
    print_quality(b);
    embed_outlook_print(b);
}
