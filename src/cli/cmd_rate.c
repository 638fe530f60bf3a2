/* akin rate: what people think of items, from now on. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/feedback_input.h"

enum { BATCH_MAX = 100000 };

static const struct option rate_options[] = {
    {"input", 'i', OPTION_TEXT, "FILE", NULL, "ratings of a file; -: standard input", 0, 0},
    {"format", 0, OPTION_CHOICE, "jsonl|csv", NULL, "of FILE; else by its name", 0, 0},
    {"time", 0, OPTION_COUNT, "T", NULL, "when, in Unix seconds; else now", 0, 253402300799.0},
    {"rating-max", 0, OPTION_NUMBER, "R", "1", "ratings of FILE are divided by it", 1e-6, 1e9},
    {"batch", 'b', OPTION_COUNT, "N", "1000", "ratings acknowledged together", 1, BATCH_MAX},
    {"no-sync", 0, OPTION_FLAG, "", NULL, "acknowledge before they are flushed to disk", 0, 0},
};

struct rating_run {
    struct akin_catalog *catalog;
    struct akin_recommender *recommender;
    struct feedback_input *input;
    struct akin_feedback *feedback; /* [batch] */
    size_t batch;
    uint64_t acknowledged;
};

static enum akin_status open_run(struct cli *cli, struct rating_run *run)
{
    struct akin_recommender_settings settings;
    akin_recommender_settings_default(&settings);
    settings.max_active_users = 1000; /* ratings of who is not active are only written down */
    settings.durable = !options_flag(&cli->options, "no-sync");
    TRY(cli_engine(cli));
    TRY(cli_catalog(cli, &run->catalog));
    return akin_recommender_open(cli->engine, run->catalog, NULL, &settings, &run->recommender,
                                 &cli->error);
}

/* ---- one rating -------------------------------------------------------------------------- */

static enum akin_status rate_one(struct cli *cli, struct rating_run *run)
{
    const char *const *words = cli->options.positionals;
    struct akin_item item;
    char *end;
    size_t row;
    double rating = strtod(words[2], &end);
    int64_t when = options_given(&cli->options, "time")
                       ? (int64_t)options_count(&cli->options, "time") : clock_unix_seconds();
    if (end == words[2] || *end)
        return wrong_use(cli, "rating: \"%.40s\" is not a number from 0 to 1", words[2]);
    TRY(open_run(cli, run));
    TRY(akin_catalog_find(run->catalog, words[1], &row, &cli->error));
    akin_catalog_item(run->catalog, row, &item);
    enum akin_status status = akin_recommend_update(run->recommender, words[0], item.id,
                                                    (float)rating, when, &cli->error);
    if (status == AKIN_ARGUMENT)
        cli->wrong_use = true;
    TRY(status);
    if (cli->json) {
        json_t *root = json_object();
        json_object_set_new(root, "acknowledged", json_of_count(1));
        json_object_set_new(root, "user", json_of_text(words[0]));
        json_object_set_new(root, "media_id", json_of_text(item.id));
        json_object_set_new(root, "title", json_of_text(item.title));
        json_object_set_new(root, "rating", json_of_double(rating));
        json_object_set_new(root, "timestamp", json_integer((json_int_t)when));
        return print_json(cli, root);
    }
    printf("acknowledged 1\n");
    print_note(cli, "user %s rated %s %g", words[0], item.title, rating);
    return AKIN_OK;
}

/* ---- a file ------------------------------------------------------------------------------ */

static enum akin_status acknowledge(struct cli *cli, struct rating_run *run, size_t count)
{
    run->acknowledged += count;
    if (cli->json || count == 0)
        return AKIN_OK;
    printf("acknowledged %llu\n", (unsigned long long)run->acknowledged);
    fflush(stdout);
    return check_output(cli);
}

/* A batch with a rating that is refused: those before it are taken, and then it is the end. */
static enum akin_status rate_before(struct cli *cli, struct rating_run *run, size_t refused,
                                    struct akin_error *refusal)
{
    const char *reason = strchr(refusal->message, ':'); /* behind "feedback 3" */
    TRY(akin_recommend_update_batch(run->recommender, run->feedback, refused, NULL, &cli->error));
    TRY(acknowledge(cli, run, refused));
    return error_set(&cli->error, refusal->status, "%.400s:%llu%s",
                     feedback_input_name(run->input),
                     (unsigned long long)feedback_input_line(run->input, refused),
                     reason ? reason : "");
}

static enum akin_status rate_batches(struct cli *cli, struct rating_run *run)
{
    struct akin_error refusal;
    size_t count, refused;
    for (;;) {
        TRY(check_interrupted(cli));
        TRY(feedback_input_next(run->input, run->feedback, run->batch, &count, &cli->error));
        if (count == 0)
            return AKIN_OK;
        enum akin_status status = akin_recommend_update_batch(run->recommender, run->feedback,
                                                              count, &refused, &refusal);
        if (status != AKIN_OK && refused < count)
            return rate_before(cli, run, refused, &refusal);
        if (status != AKIN_OK)
            cli->error = refusal;
        TRY(status);
        TRY(acknowledge(cli, run, count));
    }
}

static enum akin_status rate_file(struct cli *cli, struct rating_run *run, const char *path)
{
    const struct options *o = &cli->options;
    TRY(open_run(cli, run));
    run->batch = options_count(o, "batch");
    run->feedback = memory_alloc(run->batch, sizeof *run->feedback);
    if (!run->feedback)
        return error_memory(&cli->error);
    TRY(feedback_input_open(path, options_text(o, "format"), options_number(o, "rating-max"),
                            clock_unix_seconds(), &run->input, &cli->error));
    uint64_t began = clock_monotonic_ns();
    TRY(rate_batches(cli, run));
    double seconds = seconds_since(began);
    if (!cli->json)
        return AKIN_OK;
    json_t *root = json_object();
    json_object_set_new(root, "acknowledged", json_of_count(run->acknowledged));
    json_object_set_new(root, "seconds", json_of_double(seconds));
    json_object_set_new(root, "per_second",
                        json_of_double(seconds > 0 ? (double)run->acknowledged / seconds : 0));
    return print_json(cli, root);
}

static enum akin_status run_rate(struct cli *cli)
{
    struct rating_run run = {0};
    const char *path = options_text(&cli->options, "input");
    size_t words = cli->options.positional_count;
    if (path ? words != 0 : words != 3)
        return wrong_use(cli, path ? "rate takes a file or USER ITEM RATING, not both"
                                   : "rate needs USER ITEM RATING, or -i FILE");
    enum akin_status status = path ? rate_file(cli, &run, path) : rate_one(cli, &run);
    feedback_input_close(&run.input);
    memory_free(run.feedback);
    akin_recommender_close(&run.recommender);
    akin_catalog_close(&run.catalog);
    return status;
}

const struct command command_rate = {
    .name = "rate",
    .arguments = "(USER ITEM RATING | -i FILE) [options]",
    .summary = "a person's rating of an item, from 0 to 1; the next recommendation knows it",
    .details =
        "ITEM is an id or a title as you would type it; in a file it is an id. Ratings are kept "
        "in\n"
        "akin.db of the catalogue, and acknowledged once they are flushed to disk. A line of FILE\n"
        "has user, item, rating, and perhaps timestamp. A line that is wrong ends the command; "
        "what\n"
        "was acknowledged before it stays.\n",
    .examples = "  akin rate 42 'toy story' 1\n"
                "  akin rate 42 ml_356 0.2 --time 1700000000\n"
                "  akin rate -i feedback.jsonl\n"
                "  akin rate -i ratings.csv --rating-max 5 --batch 10000\n",
    .options = {rate_options, sizeof rate_options / sizeof rate_options[0]},
    .positionals_max = 3,
    .run = run_rate,
};
