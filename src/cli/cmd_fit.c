/* akin fit: taste, learned from the catalogue's ratings. */
#include "cli/cli.h"
#include "cli/report.h"

static const struct option fit_options[] = {
    {"items", 0, OPTION_COUNT, "N", "3072", "the most chosen items, which the model is of", 1,
     20000},
    {"row", 0, OPTION_COUNT, "N", "200", "weights kept of each item", 1, 20000},
    {"seed", 0, OPTION_COUNT, "N", "1", "of the sequence model, reranker and graph", 0, 1e9},
    {"reranker", 0, OPTION_FLAG, "", NULL, "also train the reranker: attention over the past", 0,
     0},
    {"graph", 0, OPTION_FLAG, "", NULL,
     "also learn the graph, which ranks items that nobody chose yet", 0, 0},
    {"curve", 0, OPTION_TEXT, "FILE", NULL, "also draw the losses of its training, as SVG", 0, 0},
};

/* The model that embedded the catalogue, where it is at hand: the weight of a query is looked for
 * by it. Without it all else is learned the same. */
static enum akin_status open_model(struct cli *cli, struct akin_model **model)
{
    struct akin_catalog *catalog;
    struct akin_catalog_info info;
    if (options_given(&cli->options, "model"))
        return cli_model(cli, NULL, model);
    if (cli_catalog(cli, &catalog) != AKIN_OK)      /* akin_fit says what is wrong with it */
        return AKIN_OK;
    akin_catalog_info(catalog, &info);
    if (*info.model && cli_model(cli, info.model, model) != AKIN_OK)
        print_note(cli, "the weight of a query is not looked for: %s", cli->error.message);
    akin_catalog_close(&catalog);
    return AKIN_OK;
}

static enum akin_status learn(struct cli *cli, struct akin_fit_report *report)
{
    struct akin_fit_settings settings;
    struct akin_model *model = NULL;
    akin_fit_settings_default(&settings);
    settings.items_max = options_count(&cli->options, "items");
    settings.row_max = options_count(&cli->options, "row");
    settings.seed = options_count(&cli->options, "seed");
    settings.reranker = options_flag(&cli->options, "reranker");
    settings.graph = options_flag(&cli->options, "graph");
    if (options_text(&cli->options, "curve") && !settings.reranker)
        return wrong_use(cli, "--curve draws the training of --reranker, which is not given");
    TRY(cli_engine(cli));
    TRY(open_model(cli, &model));
    settings.progress = progress_begin(&cli->progress, NULL);
    enum akin_status status = akin_fit(cli->engine, cli_setting(cli, "data"), model, &settings,
                                       report, &cli->error);
    akin_model_close(&model);
    return status;
}

static enum akin_status run_fit(struct cli *cli)
{
    struct akin_fit_report report = {0};
    char a[NUMBER_BYTES], b[NUMBER_BYTES];
    TRY(learn(cli, &report));
    if (options_text(&cli->options, "curve") && report.reranker.epochs)
        TRY(training_draw(options_text(&cli->options, "curve"), &report.reranker, &cli->error));
    if (cli->json) {
        json_t *root = json_object();
        json_object_set_new(root, "data", json_of_text(cli_setting(cli, "data")));
        json_object_set_new(root, "items", json_of_count(report.items));
        json_object_set_new(root, "users", json_of_count(report.users));
        json_object_set_new(root, "events", json_of_count(report.events));
        json_object_set_new(root, "live_events", json_of_count(report.live_events));
        json_object_set_new(root, "learned_items", json_of_count(report.learned_items));
        json_object_set_new(root, "goes_on", weights_found_json(&report.goes_on));
        json_object_set_new(root, "comes_back", weights_found_json(&report.comes_back));
        json_object_set_new(root, "query_weight", weights_found_json(&report.query));
        if (report.reranker.epochs)
            json_object_set_new(root, "reranker", training_json(&report.reranker));
        if (report.graph_seconds > 0) {
            json_object_set_new(root, "new_items", json_of_count(report.new_items));
            json_object_set_new(root, "graph_seconds", json_of_double(report.graph_seconds));
        }
        json_object_set_new(root, "seconds", json_of_double(report.seconds));
        json_object_set_new(root, "memory_bytes", json_of_count(report.bytes));
        return print_json(cli, root);
    }
    progress_end(&cli->progress);
    printf("%s/taste\n", cli_setting(cli, "data"));
    report_line("learned from", "%s events of %s users", format_count(a, report.events),
                format_count(b, report.users));
    if (report.live_events)
        report_line("live", "%s of them rated since the import",
                    format_count(a, report.live_events));
    report_line("items", "%s of %s, those chosen most", format_count(a, report.learned_items),
                format_count(b, report.items));
    weights_found_print("who goes on", &report.goes_on);
    weights_found_print("comes back", &report.comes_back);
    if (report.query.points)
        weights_found_print("query weight", &report.query);
    else
        report_line("query weight", "%s, the default: without the model it is not looked for",
                    report.query.formula);
    if (options_flag(&cli->options, "reranker"))
        training_print(&report.reranker);
    if (report.graph_seconds > 0)
        report_line("graph", "%s items that nobody chose are placed, in %.2f s",
                    format_count(a, report.new_items), report.graph_seconds);
    report_line("time", "%.2f s", report.seconds);
    report_line("memory", "%s once opened", format_bytes(a, report.bytes));
    return AKIN_OK;
}

const struct command command_fit = {
    .name = "fit",
    .arguments = "[options]",
    .summary = "taste, learned from all ratings",
    .details =
        "Learns from the catalogue's ratings and from those of akin rate. Writes the folder taste "
        "beside\nthe catalogue's files: which items go together, what comes next, what is "
        "popular now.\nWith --reranker also a model that attends to the past in its "
        "order; it is used where choices that\nare held back are foretold better with it beyond "
        "doubt, and for what\nakin recommend --context tells.\nWith --graph also vectors of people "
        "and items from who chose what, and of items that nobody\nchose from their texts, genres "
        "and years: those are ranked by it among each other.\ndocs/evaluation.md says how good it "
        "is.\n",
    .examples = "  akin fit --data films\n"
                "  akin fit --data films --reranker --curve losses.svg\n"
                "  akin fit --data films --graph\n",
    .options = {fit_options, sizeof fit_options / sizeof fit_options[0]},
    .run = run_fit,
};
