/* akin bench compare: training runs side by side. */
#include <math.h>
#include <string.h>

#include "base/csv.h"
#include "cli/bench_compare.h"
#include "cli/cli.h"

static const struct option compare_options[] = {
    {"cost", 0, OPTION_TEXT, "PRICE ...", NULL,
     "dollars for one device for an hour: one for all, or one for each report, in order", 0, 0},
    {"force", 0, OPTION_FLAG, "", NULL, "compare runs of different configurations", 0, 0},
    {"csv", 0, OPTION_FLAG, "", NULL, "results as CSV", 0, 0},
    {"html", 0, OPTION_TEXT, "OUT", NULL, "also write a page with charts", 0, 0},
};

/* "3.00" or "3.00,5.50" */
static enum akin_status read_prices(struct cli *cli, const char *text, double *prices,
                                    size_t *count)
{
    for (const char *at = text; at;) {
        size_t n = strcspn(at, ",");
        double price = 0;
        if (!parse_double(at, n, &price) || !isfinite(price) || price < 0)
            return wrong_use(cli, "--cost: '%.40s' is not a price", at);
        if (*count == COMPARE_RUNS_MAX)
            return wrong_use(cli, "--cost: more than %d prices", COMPARE_RUNS_MAX);
        prices[(*count)++] = price;
        at = at[n] ? at + n + 1 : NULL;
    }
    return AKIN_OK;
}

/* "--cost 3.00 5.50" leaves 5.50 among the arguments: there it is a price unless it is a file. */
static bool is_price(const char *argument)
{
    double price;
    return parse_double(argument, strlen(argument), &price) && !path_exists(argument);
}

static enum akin_status add_all(struct cli *cli, struct comparison *c)
{
    const struct options *o = &cli->options;
    const char *cost = options_text(o, "cost");
    double prices[COMPARE_RUNS_MAX];
    size_t price_count = 0;
    if (cost)
        TRY(read_prices(cli, cost, prices, &price_count));
    for (size_t i = 0; i < o->positional_count; i++)
        if (cost && is_price(o->positionals[i]))
            TRY(read_prices(cli, o->positionals[i], prices, &price_count));
        else
            TRY(comparison_add(c, o->positionals[i], &cli->error));
    if (c->count == 0)
        TRY(comparison_add(c, "results", &cli->error));
    enum akin_status status = comparison_price(c, prices, price_count, &cli->error);
    cli->wrong_use = status == AKIN_ARGUMENT;
    return status;
}

static enum akin_status write_page(struct cli *cli, const struct comparison *c, const char *path)
{
    struct bytes page = {0};
    enum akin_status status = comparison_html(c, &page, &cli->error);
    if (status == AKIN_OK)
        status = file_write(path, page.data, page.count, &cli->error);
    bytes_deinit(&page);
    if (status == AKIN_OK)
        print_note(cli, "page: %s", path);
    return status;
}

static enum akin_status show(struct cli *cli, const struct comparison *c)
{
    struct bytes text = {0};
    if (cli->json)
        return print_json(cli, comparison_json(c));
    if (options_flag(&cli->options, "csv")) {
        comparison_csv(c, &text);
        if (!text.failed)
            fwrite(text.data, 1, text.count, stdout);
        bool failed = text.failed;
        bytes_deinit(&text);
        return failed ? error_memory(&cli->error) : check_output(cli);
    }
    comparison_print(c, stdout);
    return check_output(cli);
}

static enum akin_status run_compare(struct cli *cli)
{
    const char *html = options_text(&cli->options, "html");
    enum akin_status status = AKIN_OK;
    if (cli->json && options_flag(&cli->options, "csv"))
        return wrong_use(cli, "--json and --csv exclude each other");
    struct comparison *c = memory_alloc(1, sizeof *c);
    if (!c)
        return error_memory(&cli->error);
    TRY_DONE(add_all(cli, c));
    TRY_DONE(comparison_finish(c, options_flag(&cli->options, "force"), &cli->error));
    if (html)
        TRY_DONE(write_page(cli, c, html));
    status = show(cli, c);
done:
    comparison_deinit(c);
    memory_free(c);
    return status;
}

const struct command command_bench_compare = {
    .name = "bench compare",
    .arguments = "[FOLDER | REPORT.json ...] [--cost PRICE ...] [--html OUT]",
    .summary = "training runs side by side, with what they cost",
    .details =
        "Reads reports of akin bench train, and of the PyTorch script that has the same keys. A\n"
        "folder stands for its bench_*.json; without arguments it is results/. Scaling is against\n"
        "the fastest run on one device of the same name. An epoch is all samples once at the\n"
        "speed measured. * marks the best of a column, - what a report does not say. Runs that\n"
        "did different work are refused, with the field that differs.\n",
    .examples =
        "  akin bench compare results/\n"
        "  akin bench compare results/ --cost 3.00 5.50 8.00\n"
        "  akin bench compare results/bench_H100_8gpu.json results/bench_H200_8gpu.json \\\n"
        "      --cost 3.00 5.50 --html compare.html\n",
    .options = {compare_options, sizeof compare_options / sizeof compare_options[0]},
    .positionals_max = POSITIONALS_MAX,
    .run = run_compare,
};
