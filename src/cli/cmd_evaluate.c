/* akin evaluate: how good recommendations are on choices that were held back. */
#include "base/file.h"
#include "cli/chart.h"
#include "cli/cli.h"
#include "cli/report.h"

#include <math.h>
#include <string.h>

static const struct option evaluate_options[] = {
    {"split", 0, OPTION_TEXT, "FILE", NULL,
     "CSV: userId, movieId, rating, timestamp, split (train, valid, test)", 0, 0},
    {"recs", 0, OPTION_TEXT, "FILE", NULL, "also write every user's ten items, as JSON lines", 0,
     0},
    {"part", 0, OPTION_CHOICE, "test|valid", "test",
     "what is judged; valid is learned from unless it is", 0, 0},
    {"replay", 0, OPTION_FLAG, "", NULL,
     "half of the users teach, the others are replayed event by event", 0, 0},
    {"points", 0, OPTION_COUNT, "N", "25", "events of a user that a replay judges", 1, 1000000},
    {"reranker", 0, OPTION_FLAG, "", NULL, "also train the reranker, and judge it", 0, 0},
    {"context", 0, OPTION_FLAG, "", NULL,
     "a replay in which the situation is told: the reranker with the hour and genres wanted", 0,
     0},
    {"graph", 0, OPTION_FLAG, "", NULL,
     "also train the graph, and judge it on items that nobody chose before", 0, 0},
    {"seed", 0, OPTION_COUNT, "N", "1", "of learning, halves and intervals", 0, 1e9},
    {"chart", 0, OPTION_TEXT, "FILE", NULL, "also draw the table's NDCG@10, as SVG", 0, 0},
};

static bool is_replay(const struct cli *cli)
{
    return options_flag(&cli->options, "replay") || options_flag(&cli->options, "context");
}

static json_t *row_json(const struct akin_evaluation_row *row)
{
    json_t *object = json_object();
    json_object_set_new(object, "name", json_of_text(row->name));
    json_object_set_new(object, "formula", json_of_text(row->formula));
    json_object_set_new(object, "ndcg_at_10", estimate_json(&row->ndcg));
    json_object_set_new(object, "recall_at_10", estimate_json(&row->recall));
    json_object_set_new(object, "hit_rate_at_10", estimate_json(&row->hit_rate));
    json_object_set_new(object, "mrr_at_10", estimate_json(&row->mrr));
    json_object_set_new(object, "ndcg_over_popularity", estimate_json(&row->difference));
    json_object_set_new(object, "ndcg_over_recent_popularity", estimate_json(&row->over_recent));
    json_object_set_new(object, "ndcg_over_last_row", estimate_json(&row->over_last));
    json_object_set_new(object, "coverage", json_of_double(row->coverage));
    json_object_set_new(object, "novelty_bits", json_of_double(row->novelty));
    return object;
}

/* What the person brings: ours over what everybody gets, per cent of NDCG@10. */
enum { PERSONAL_WANTED = 40 };

static double personal_gain(const struct akin_evaluation *e)
{
    const struct akin_evaluation_row *ours = &e->rows[e->row_count - 1];
    return e->rows[0].ndcg.mean > 0 ? 100 * ours->difference.mean / e->rows[0].ndcg.mean : NAN;
}

static json_t *cold_json(const struct akin_cold *cold)
{
    json_t *object = json_object();
    json_object_set_new(object, "items", json_of_count(cold->items));
    json_object_set_new(object, "people", json_of_count(cold->people));
    json_object_set_new(object, "recall_at_50_text", estimate_json(&cold->text));
    json_object_set_new(object, "recall_at_50_mean_text", estimate_json(&cold->mean_text));
    json_object_set_new(object, "recall_at_50_graph", estimate_json(&cold->graph));
    json_object_set_new(object, "graph_over_text", estimate_json(&cold->over_text));
    json_object_set_new(object, "graph_over_mean_text", estimate_json(&cold->over_mean_text));
    json_object_set_new(object, "new_people_text", estimate_json(&cold->few_text));
    json_object_set_new(object, "new_people_graph", estimate_json(&cold->few_graph));
    json_object_set_new(object, "new_people_graph_over_text", estimate_json(&cold->few_over_text));
    json_object_set_new(object, "seconds", json_of_double(cold->seconds));
    return object;
}

static enum akin_status tell_json(struct cli *cli, const struct akin_evaluation *e)
{
    json_t *root = json_object(), *rows = json_array();
    const struct akin_evaluation_row *ours = &e->rows[e->row_count - 1];
    report_common(cli, root);
    json_object_set_new(root, "split", json_of_text(options_text(&cli->options, "split")));
    json_object_set_new(root, "protocol",
                        json_string(is_replay(cli) ? "replay"
                                                                          : "held-out"));
    json_object_set_new(root, "part", json_of_text(options_text(&cli->options, "part")));
    json_object_set_new(root, "context", json_string(e->later ? "return" : "next"));
    json_object_set_new(root, "users", json_of_count(e->users));
    json_object_set_new(root, "items", json_of_count(e->items));
    json_object_set_new(root, "learned_users", json_of_count(e->learned_users));
    json_object_set_new(root, "learned_events", json_of_count(e->learned_events));
    json_object_set_new(root, "learned_items", json_of_count(e->learned_items));
    json_object_set_new(root, "judged", json_of_count(e->judged));
    json_object_set_new(root, "learn_seconds", json_of_double(e->learn_seconds));
    json_object_set_new(root, "judge_seconds", json_of_double(e->judge_seconds));
    json_object_set_new(root, "ndcg_at_10", json_of_double(ours->ndcg.mean));
    json_object_set_new(root, "recall_at_10", json_of_double(ours->recall.mean));
    json_object_set_new(root, "hit_rate_at_10", json_of_double(ours->hit_rate.mean));
    json_object_set_new(root, "mrr_at_10", json_of_double(ours->mrr.mean));
    json_object_set_new(root, "coverage", json_of_double(ours->coverage));
    json_object_set_new(root, "novelty_bits", json_of_double(ours->novelty));
    for (size_t r = 0; r < e->row_count; r++)
        json_array_append_new(rows, row_json(&e->rows[r]));
    json_object_set_new(root, "rows", rows);
    json_object_set_new(root, "personalised_gain_percent", json_of_double(personal_gain(e)));
    json_object_set_new(root, "personalised_gain_wanted_percent",
                        json_of_count(PERSONAL_WANTED));
    json_object_set_new(root, "weights", weights_found_json(&e->weights));
    if (e->cold.people)
        json_object_set_new(root, "new_items", cold_json(&e->cold));
    if (e->reranker.epochs)
        json_object_set_new(root, "reranker", training_json(&e->reranker));
    return print_json(cli, root);
}

static void tell_personal(const struct akin_evaluation *e)
{
    const struct akin_evaluation_row *ours = &e->rows[e->row_count - 1];
    double gain = personal_gain(e), recent = e->rows[1].ndcg.mean;
    if (isfinite(gain))
        report_line("personalised", "%+.0f %% over popularity (wanted: %+d %%, %s), %+.4f, 95 %% "
                    "%+.4f to %+.4f", gain, PERSONAL_WANTED,
                    gain >= PERSONAL_WANTED ? "met" : "missed", ours->difference.mean,
                    ours->difference.low, ours->difference.high);
    if (recent > 0)
        report_line("", "%+.0f %% over recent popularity, %+.4f, 95 %% %+.4f to %+.4f",
                    100 * ours->over_recent.mean / recent, ours->over_recent.mean,
                    ours->over_recent.low, ours->over_recent.high);
}

static void tell_cold(const struct akin_cold *cold)
{
    report_line("new items", "%zu held back, %zu people asked, recall@50 among them: graph %.4f "
                "(%.4f to %.4f), text %.4f, mean of texts %.4f; %.2f s", cold->items, cold->people,
                cold->graph.mean, cold->graph.low, cold->graph.high, cold->text.mean,
                cold->mean_text.mean, cold->seconds);
    report_line("", "graph over text %+.4f, 95 %% %+.4f to %+.4f; over mean of texts %+.4f, 95 %% "
                "%+.4f to %+.4f", cold->over_text.mean, cold->over_text.low, cold->over_text.high,
                cold->over_mean_text.mean, cold->over_mean_text.low, cold->over_mean_text.high);
    report_line("", "by three choices: graph %.4f, text %.4f, %+.4f, 95 %% %+.4f to %+.4f",
                cold->few_graph.mean, cold->few_text.mean, cold->few_over_text.mean,
                cold->few_over_text.low, cold->few_over_text.high);
}

/* What was trained, over what is shipped, pair by pair. */
static void tell_trained(const struct akin_evaluation *e)
{
    double shipped = e->rows[e->row_count - 1].ndcg.mean;
    bool first = true;
    for (size_t r = 0; r + 1 < e->row_count && shipped > 0; r++) {
        const struct akin_evaluation_row *row = &e->rows[r];
        if (strncmp(row->name, "+ reranker", 10) && strncmp(row->name, "+ context", 9) &&
            strncmp(row->name, "context:", 8))
            continue;
        report_line(first ? "over blended" : "", "%s: %+.1f %%, %+.4f, 95 %% %+.4f to %+.4f",
                    row->name, 100 * row->over_last.mean / shipped, row->over_last.mean,
                    row->over_last.low, row->over_last.high);
        first = false;
    }
}

static void tell_table(struct cli *cli, const struct akin_evaluation *e)
{
    static const struct table_column columns[] = {
        {"ranking", TABLE_LEFT, 0}, {"NDCG@10", TABLE_RIGHT, 0}, {"95 %", TABLE_LEFT, 0},
        {"recall", TABLE_RIGHT, 0}, {"HR", TABLE_RIGHT, 0},      {"MRR", TABLE_RIGHT, 0},
        {"coverage", TABLE_RIGHT, 0}, {"novelty", TABLE_RIGHT, 0}, {"score", TABLE_LEFT, 0},
    };
    struct table table;
    char users[NUMBER_BYTES], events[NUMBER_BYTES], judged[NUMBER_BYTES];
    printf("%s\n", options_text(&cli->options, "split"));
    report_line("learned from", "%s events of %s users, in %.2f s",
                format_count(events, e->learned_events), format_count(users, e->learned_users),
                e->learn_seconds);
    report_line("judged", "%s %s, in %.2f s", format_count(judged, e->judged),
                is_replay(cli) ? "events" : "users", e->judge_seconds);
    report_line("people", "%s",
                e->later ? "come back: all that is judged lies behind all that was learned"
                         : "go on: the next choice of a session");
    if (!e->text)
        report_line("left out", "the rows of text: the catalogue has no vectors");
    table_init(&table, columns, sizeof columns / sizeof columns[0]);
    for (size_t r = 0; r < e->row_count; r++) {
        const struct akin_evaluation_row *row = &e->rows[r];
        table_cell(&table, "%s", row->name);
        table_cell(&table, "%.4f", row->ndcg.mean);
        table_cell(&table, "%.4f to %.4f", row->ndcg.low, row->ndcg.high);
        table_cell(&table, "%.4f", row->recall.mean);
        table_cell(&table, "%.4f", row->hit_rate.mean);
        table_cell(&table, "%.4f", row->mrr.mean);
        table_cell(&table, "%.3f", row->coverage);
        table_cell(&table, "%.2f", row->novelty);
        table_cell(&table, "%s", row->formula);
    }
    table_print(&table, stdout);
    table_deinit(&table);
    weights_found_print("weights", &e->weights);
    if (e->reranker.epochs)
        training_print(&e->reranker);
    if (e->cold.people)
        tell_cold(&e->cold);
    tell_personal(e);
    tell_trained(e);
}

static enum akin_status draw(struct cli *cli, const char *path, const struct akin_evaluation *e)
{
    struct chart_bar bars[AKIN_EVALUATION_ROWS_MAX];
    char note[256];
    snprintf(note, sizeof note, "%s, %zu %s, 95 %% intervals over them",
             path_last(options_text(&cli->options, "split")), e->judged,
             is_replay(cli) ? "events replayed" : "users");
    struct chart chart = {.title = "NDCG@10, whole catalogue ranked", .note = note,
                          .x_label = "NDCG@10", .digits = 4};
    for (size_t r = 0; r < e->row_count; r++)
        bars[r] = (struct chart_bar){e->rows[r].name, e->rows[r].ndcg.mean, e->rows[r].ndcg.low,
                                     e->rows[r].ndcg.high, r + 1 == e->row_count};
    return chart_bars(path, &chart, bars, e->row_count, &cli->error);
}

/* The catalogue is only needed for the rows of text: --data says so, or it happens to be there. */
static enum akin_status open_catalog(struct cli *cli, struct akin_catalog **catalog)
{
    struct akin_error why;
    const char *data = cli_setting(cli, "data");
    if (!data || akin_catalog_open(data, catalog, &why) == AKIN_OK)
        return AKIN_OK;
    if (options_given(&cli->options, "data")) {
        cli->error = why;
        return why.status;
    }
    print_note(cli, "no rows of text: %s", why.message);
    return AKIN_OK;
}

static enum akin_status run_evaluate(struct cli *cli)
{
    const struct options *o = &cli->options;
    struct akin_evaluate_settings settings;
    struct akin_evaluation evaluation;
    struct akin_catalog *catalog = NULL;
    enum akin_status status = AKIN_OK;
    akin_evaluate_settings_default(&settings);
    TRY(need_text(cli, "split", &settings.split));
    settings.recs = options_text(o, "recs");
    settings.valid = options_text(o, "part")[0] == 'v';
    settings.context = options_flag(o, "context");
    settings.replay = options_flag(o, "replay") || settings.context;
    settings.reranker = options_flag(o, "reranker") || settings.context;
    settings.graph = options_flag(o, "graph");
    settings.replay_points = options_count(o, "points");
    settings.seed = options_count(o, "seed");
    if (settings.replay && settings.recs)
        return wrong_use(cli, "--recs lists one history of each user, which a --replay has not");
    TRY(cli_engine(cli));
    TRY_DONE(open_catalog(cli, &catalog));
    settings.progress = progress_begin(&cli->progress, NULL);
    TRY_DONE(akin_evaluate(cli->engine, catalog, &settings, &evaluation, &cli->error));
    progress_end(&cli->progress);
    if (options_text(o, "chart"))
        TRY_DONE(draw(cli, options_text(o, "chart"), &evaluation));
    if (cli->json)
        status = tell_json(cli, &evaluation);
    else
        tell_table(cli, &evaluation);
done:
    akin_catalog_close(&catalog);
    return status;
}

const struct command command_evaluate = {
    .name = "evaluate",
    .arguments = "--split FILE [options]",
    .summary = "how good recommendations are, on choices that were held back",
    .details = "Learns from the rows train and valid of the split, never from test, ranks every "
               "item of the\nfile that the user has not seen there, and judges the first ten: "
               "docs/evaluation.md. --data\nbrings the texts' vectors for the rows of the table "
               "that use them.\n",
    .examples =
        "  akin evaluate --data films --split ml-100k__llo.csv --recs recs.jsonl\n"
        "  akin evaluate --data films --split ml-100k__llo.csv --context\n"
        "  akin evaluate --split ml-100k__llo.csv --replay --chart replay.svg --json\n",
    .options = {evaluate_options, sizeof evaluate_options / sizeof evaluate_options[0]},
    .run = run_evaluate,
};
