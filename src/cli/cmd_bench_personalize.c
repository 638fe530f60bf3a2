/* akin bench personalize: what a personal request costs, stage by stage, and what stands around it:
 * the neighbour cache, ratings that come in, memory, import. */
#include "base/clock.h"
#include "cli/bench_personalize.h"

static const struct option bench_options[] = {
    {"queries", 0, OPTION_COUNT, "N", "1000", "single requests", 1, 1000000},
    {"lists", 0, OPTION_COUNT, "N", "10000", "lists of the neighbour cache; 0: all items", 0, 1e9},
    {"ratings", 0, OPTION_COUNT, "N", "25000000",
     "made-up ratings for import, user vectors and updates; 0: leave these out", 0, 1e8},
    {"without-model", 0, OPTION_FLAG, "", NULL, "people only: no query is encoded", 0, 0},
    {"output-dir", 0, OPTION_TEXT, "DIR", "results",
     "folder of the report and pictures, and for a while of what is made up", 0, 0},
};

static enum akin_status prepare(struct personal_bench *b)
{
    struct cli *cli = b->cli;
    TRY(cli_engine(cli));
    if (!options_flag(&cli->options, "without-model"))
        TRY(cli_model(cli, NULL, &b->model));
    uint64_t began = akin_clock_ns();
    TRY(cli_catalog(cli, &b->catalog));
    akin_catalog_info(b->catalog, &b->info);
    if (b->info.items == 0)
        return error_set(&cli->error, AKIN_NOT_FOUND, "%s: no items in it",
                         cli_setting(cli, "data"));
    struct akin_recommender_settings settings;
    akin_recommender_settings_default(&settings);
    settings.store = false;     /* the catalogue is only read */
    TRY(akin_recommender_open(cli->engine, b->catalog, b->model, &settings, &b->recommender,
                              &cli->error));
    b->open_ms = ms_since(began);
    began = akin_clock_ns();
    TRY(akin_recommender_prepare(b->recommender, (struct akin_progress){ 0 }, &cli->error));
    b->prepare_ms = ms_since(began);
    return AKIN_OK;
}

static enum akin_status measure(struct personal_bench *b, const char *folder)
{
    const struct options *options = &b->cli->options;
    size_t ratings = options_count(options, "ratings");
    print_note(b->cli, "requests");
    TRY(personal_latency(b));
    TRY(personal_throughput(b));
    print_note(b->cli, "neighbour cache");
    TRY(personal_neighbors(b, options_count(options, "lists")));
    akin_recommender_memory(b->recommender, &b->memory);
    b->rss_bytes = akin_rss_bytes();
    b->peak_rss_bytes = akin_peak_rss_bytes();
    TRY(personal_replay(b));
    if (!ratings)
        return AKIN_OK;
    print_note(b->cli, "made-up people");
    return personal_made_up(b, folder, ratings);
}

static enum akin_status run_bench(struct cli *cli)
{
    const char *folder = options_text(&cli->options, "output-dir");
    enum akin_status status = AKIN_OK;
    struct personal_bench *b = memory_alloc(1, sizeof *b);
    if (!b)
        return error_memory(&cli->error);
    b->cli = cli;
    b->queries = options_count(&cli->options, "queries");
    TRY_DONE(prepare(b));
    TRY_DONE(measure(b, folder));
    status = personal_report(b, folder);
done:
    akin_recommender_close(&b->recommender);
    akin_catalog_close(&b->catalog);
    akin_model_close(&b->model);
    memory_free(b);
    return status;
}

const struct command command_bench_personalize = {
    .name = "bench personalize",
    .arguments = "[options]",
    .summary = "personal requests stage by stage, the neighbour cache, ratings that come in",
    .details =
        "Hit rates are of the catalogue's own ratings in the order of time, each taken for a\n"
        "request for its item, beside other policies and Belady's bound. The made-up ratings have\n"
        "the shape of MovieLens 25M; 25 million of them need 1.5 GB of disk for a minute. A\n"
        "missed target is reported, not an error.\n",
    .examples = "  akin bench personalize --data films --output-dir results\n"
                "  akin bench personalize --data films --ratings 0 --without-model\n",
    .options = {bench_options, sizeof bench_options / sizeof bench_options[0]},
    .run = run_bench,
};
