/* akin bench embed: how fast this machine turns texts into vectors, by batch size, after a warm-up
 * and with equal texts computed again. */
#include <stdlib.h>
#include <string.h>

#include "base/csv.h"
#include "cli/cli.h"
#include "cli/report.h"
#include "cli/texts.h"

static const struct option bench_options[] = {
    {"input", 'i', OPTION_TEXT, "FILE", NULL,
     "texts: .txt, .jsonl or .csv; without it: the catalogue's", 0, 0},
    {"format", 0, OPTION_CHOICE, "txt|jsonl|csv", NULL, "whatever the file is called", 0, 0},
    {"field", 0, OPTION_TEXT, "NAME", "text", "field of JSON lines, column of CSV", 0, 0},
    {"batch-sizes", 0, OPTION_TEXT, "N,N,...", "0", "a run each; 0: the size that akin chooses", 0,
     0},
    {"limit", 0, OPTION_COUNT, "N", "0", "only the first N texts; 0: all", 0, 1e12},
    {"warmup", 0, OPTION_COUNT, "N", "100", "texts embedded before the clock starts", 0, 1e6},
    {"output-dir", 0, OPTION_TEXT, "DIR", "results", "folder of the JSON report", 0, 0},
};

enum { RUNS_MAX = 16 };

static const uint64_t rss_every_ns = 20000000u;

struct run {
    size_t batch;
    struct akin_embed_report report;
    uint64_t rss_bytes; /* largest seen during the run */
};

struct bench {
    struct cli *cli;
    struct akin_model *model;
    struct akin_model_info info;
    double open_seconds;
    struct text_window texts;
    float *vectors; /* [count][dimension] */
    struct run runs[RUNS_MAX];
    size_t run_count, current;
    uint64_t rss_seen_ns;
};

/* ---- inputs ------------------------------------------------------------------------------ */

static enum akin_status parse_batches(struct bench *b)
{
    const char *list = options_text(&b->cli->options, "batch-sizes");
    for (const char *at = list;;) {
        size_t n = strcspn(at, ",");
        uint64_t value = 0;
        if (!parse_uint64(at, n, &value) || value > 1000000)
            return wrong_use(b->cli,
                             "--batch-sizes: '%.80s' is not a list of numbers up to 1000000", list);
        if (b->run_count == RUNS_MAX)
            return wrong_use(b->cli, "--batch-sizes: at most %d", RUNS_MAX);
        b->runs[b->run_count++].batch = (size_t)value;
        if (!at[n])
            return AKIN_OK;
        at += n + 1;
    }
}

static enum akin_status read_file(struct bench *b, const char *path, size_t limit)
{
    struct cli *cli = b->cli;
    const struct text_source_settings settings = {.path = path,
                                                  .format = options_text(&cli->options, "format"),
                                                  .field = options_text(&cli->options, "field")};
    struct text_source *source = NULL;
    enum akin_status status = AKIN_OK;
    TRY(text_source_open(&settings, &source, &cli->error));
    while (b->texts.count < limit) {
        struct akin_text text;
        bool more = false;
        TRY_DONE(text_source_next(source, &text, &more, &cli->error));
        if (!more)
            break;
        TRY_DONE(text_window_add(&b->texts, text.bytes, text.count, &cli->error));
    }
    if (b->texts.count == 0)
        status =
            error_set(&cli->error, AKIN_NOT_FOUND, "%s: no texts in it", text_source_name(source));
done:
    text_source_close(&source);
    return status;
}

static enum akin_status read_catalog(struct bench *b, size_t limit)
{
    struct akin_catalog *catalog = NULL;
    struct akin_catalog_info info;
    enum akin_status status = AKIN_OK;
    status = cli_catalog(b->cli, &catalog);
    if (status != AKIN_OK)
        return error_context(&b->cli->error, status, "no -i FILE given, and no catalogue to read");
    akin_catalog_info(catalog, &info);
    for (size_t row = 0; row < info.items && row < limit; row++) {
        struct akin_item item;
        akin_catalog_item(catalog, row, &item);
        TRY_DONE(text_window_add(&b->texts, item.text, strlen(item.text), &b->cli->error));
    }
    if (b->texts.count == 0)
        status = error_set(&b->cli->error, AKIN_NOT_FOUND, "%s: no items in it",
                           cli_setting(b->cli, "data"));
done:
    akin_catalog_close(&catalog);
    return status;
}

static enum akin_status prepare(struct bench *b)
{
    struct cli *cli = b->cli;
    const char *input = options_text(&cli->options, "input");
    size_t limit = options_count(&cli->options, "limit");
    TRY(parse_batches(b));
    limit = limit ? limit : SIZE_MAX;
    if (input)
        TRY(read_file(b, input, limit));
    else
        TRY(read_catalog(b, limit));
    text_window_seal(&b->texts);
    uint64_t begin = akin_clock_ns();
    TRY(cli_model(cli, NULL, &b->model));
    b->open_seconds = (double)(akin_clock_ns() - begin) / 1e9;
    akin_model_info(b->model, &b->info);
    size_t row_bytes = b->info.dimension * sizeof(float);
    b->vectors = memory_alloc_aligned(b->texts.count, row_bytes);
    return b->vectors ? AKIN_OK : error_memory(&cli->error);
}

/* ---- measuring --------------------------------------------------------------------------- */

/* Progress for people, and the moments at which the size of the process is looked at. */
static bool update(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    struct bench *b = cookie;
    uint64_t now = akin_clock_ns();
    if (now - b->rss_seen_ns >= rss_every_ns) {
        uint64_t rss = akin_rss_bytes();
        b->rss_seen_ns = now;
        if (rss > b->runs[b->current].rss_bytes)
            b->runs[b->current].rss_bytes = rss;
    }
    return progress_update(&b->cli->progress, stage, done, total);
}

static enum akin_status measure(struct bench *b)
{
    struct cli *cli = b->cli;
    struct akin_embed_settings settings;
    size_t warmup = options_count(&cli->options, "warmup");
    akin_embed_settings_default(&settings);
    settings.deduplicate = false;
    if (warmup > b->texts.count)
        warmup = b->texts.count;
    if (warmup)
        TRY(akin_model_embed(b->model, b->texts.texts, warmup, &settings, b->vectors, NULL,
                             &cli->error));
    for (b->current = 0; b->current < b->run_count; b->current++) {
        struct run *run = &b->runs[b->current];
        progress_begin(&cli->progress, "texts");
        settings.progress = (struct akin_progress){.cookie = b, .update = update};
        settings.batch_texts = run->batch;
        b->rss_seen_ns = 0;
        TRY(akin_model_embed(b->model, b->texts.texts, b->texts.count, &settings, b->vectors,
                             &run->report, &cli->error));
    }
    progress_end(&cli->progress);
    return AKIN_OK;
}

static const struct run *fastest(const struct bench *b)
{
    const struct run *best = &b->runs[0];
    for (size_t i = 1; i < b->run_count; i++)
        if (b->runs[i].report.seconds < best->report.seconds)
            best = &b->runs[i];
    return best;
}

/* ---- the report -------------------------------------------------------------------------- */

static double throughput(const struct run *run)
{
    return run->report.seconds > 0 ? (double)run->report.texts / run->report.seconds : 0;
}

static json_t *bench_json(const struct bench *b)
{
    json_t *root = json_object(), *sizes = json_array();
    embed_report_json(b->cli, &b->info, &fastest(b)->report, root);
    json_object_set_new(root, "batch_size", json_of_count(fastest(b)->batch));
    json_object_set_new(root, "model_open_seconds", json_of_double(b->open_seconds));
    for (size_t i = 0; i < b->run_count; i++) {
        const struct run *run = &b->runs[i];
        json_t *row = json_object();
        json_object_set_new(row, "batch_size", json_of_count(run->batch));
        json_object_set_new(row, "seconds", json_of_double(run->report.seconds));
        json_object_set_new(row, "texts_per_second", json_of_double(throughput(run)));
        json_object_set_new(row, "ms_per_text",
                            json_of_double(1000 * run->report.seconds / (double)run->report.texts));
        json_object_set_new(row, "memory_mb", json_of_double((double)run->rss_bytes / 1e6));
        json_array_append_new(sizes, row);
    }
    json_object_set_new(root, "batch_sizes", sizes);
    report_common(b->cli, root);
    return root;
}

static void bench_print(const struct bench *b)
{
    static const struct table_column columns[] = {{"  batch", TABLE_RIGHT, 0},
                                                  {"texts/s", TABLE_RIGHT, 0},
                                                  {"ms/text", TABLE_RIGHT, 0},
                                                  {"time", TABLE_RIGHT, 0},
                                                  {"memory", TABLE_RIGHT, 0}};
    struct table table;
    char text[NUMBER_BYTES];
    report_machine(b->cli);
    printf("Embedding report: %s, opened in %.2f s\n", b->info.name, b->open_seconds);
    embed_report_print(&b->info, &fastest(b)->report);
    if (b->run_count > 1)
        printf("\nBy batch size; memory is the largest resident size seen during the run\n");
    table_init(&table, columns, 5);
    for (size_t i = 0; i < b->run_count; i++) {
        const struct run *run = &b->runs[i];
        if (run->batch)
            table_cell(&table, "%zu", run->batch);
        else
            table_cell(&table, "chosen");
        table_cell(&table, "%s", format_count(text, (uint64_t)(throughput(run) + 0.5)));
        table_cell(&table, "%.3f", 1000 * run->report.seconds / (double)run->report.texts);
        table_cell(&table, "%.2f s", run->report.seconds);
        table_cell(&table, "%s", format_bytes(text, run->rss_bytes));
    }
    if (b->run_count > 1)
        table_print(&table, stdout);
    table_deinit(&table);
}

static enum akin_status run_bench(struct cli *cli)
{
    enum akin_status status = AKIN_OK;
    struct bench *b = memory_alloc(1, sizeof *b);
    if (!b)
        return error_memory(&cli->error);
    b->cli = cli;
    TRY_DONE(prepare(b));
    TRY_DONE(measure(b));
    if (!cli->json)
        bench_print(b);
    status = report_write(cli, "embed", bench_json(b));
done:
    text_window_deinit(&b->texts);
    memory_free(b->vectors);
    akin_model_close(&b->model);
    memory_free(b);
    return status;
}

const struct command command_bench_embed = {
    .name = "bench embed",
    .arguments = "[-i FILE] [options]",
    .summary = "the embedding report: speed, memory and quality by batch size",
    .details = "Equal texts are computed again, so that the speed is that of texts that differ.\n",
    .examples = "  akin bench embed --data films --batch-sizes 128,256,512,1024,2048\n"
                "  akin bench embed -i texts.jsonl --limit 5000 --json\n",
    .options = {bench_options, sizeof bench_options / sizeof bench_options[0]},
    .run = run_bench,
};
