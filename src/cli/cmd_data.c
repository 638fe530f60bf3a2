/* akin data import movielens, import jsonl, embed, info. */
#include "cli/cli.h"
#include "cli/report.h"

#include "base/clock.h"

/* ---- what an import did ------------------------------------------------------------------ */

static json_t *skipped_json(const struct akin_import_report *r)
{
    json_t *skipped = json_object();
    json_object_set_new(skipped, "empty_lines", json_of_count(r->skipped.empty_lines));
    json_object_set_new(skipped, "malformed_rows", json_of_count(r->skipped.malformed_rows));
    json_object_set_new(skipped, "duplicate_items", json_of_count(r->skipped.duplicate_items));
    json_object_set_new(skipped, "duplicate_ratings", json_of_count(r->skipped.duplicate_ratings));
    json_object_set_new(skipped, "ratings_of_unknown_items",
                        json_of_count(r->skipped.ratings_of_unknown_items));
    json_object_set_new(skipped, "tags_of_unknown_items",
                        json_of_count(r->skipped.tags_of_unknown_items));
    json_object_set_new(skipped, "ids_out_of_range", json_of_count(r->skipped.ids_out_of_range));
    json_object_set_new(skipped, "invalid_ratings", json_of_count(r->skipped.invalid_ratings));
    json_object_set_new(skipped, "latin1_files", json_of_count(r->skipped.latin1_files));
    return skipped;
}

static json_t *import_json(struct cli *cli, const struct akin_import_report *r, bool films)
{
    json_t *root = json_object();
    json_object_set_new(root, "data", json_of_text(cli_setting(cli, "data")));
    json_object_set_new(root, films ? "films" : "items", json_of_count(r->items));
    json_object_set_new(root, "ratings", json_of_count(r->ratings));
    json_object_set_new(root, "users", json_of_count(r->users));
    json_object_set_new(root, "tags", json_of_count(r->tags));
    json_object_set_new(root, films ? "films_with_genome" : "items_with_genome",
                        json_of_count(r->items_with_genome));
    json_object_set_new(root, films ? "films_with_year" : "items_with_year",
                        json_of_count(r->items_with_year));
    json_object_set_new(root, films ? "films_with_genres" : "items_with_genres",
                        json_of_count(r->items_with_genres));
    json_object_set_new(root, films ? "films_with_themes" : "items_with_themes",
                        json_of_count(r->items_with_themes));
    json_object_set_new(root, "first_rating",
                        r->ratings ? json_of_time(r->first_rating) : json_null());
    json_object_set_new(root, "last_rating",
                        r->ratings ? json_of_time(r->last_rating) : json_null());
    json_object_set_new(root, "skipped", skipped_json(r));
    json_object_set_new(root, "first_problem", json_of_known(r->first_problem));
    return root;
}

static void share_line(const char *label, uint64_t part, uint64_t whole)
{
    char count[NUMBER_BYTES];
    report_line(label, "%s (%.1f %%)", format_count(count, part),
                whole ? 100.0 * (double)part / (double)whole : 0);
}

static void dates_line(int64_t first, int64_t last)
{
    char from[64], to[64];
    clock_iso(first, from, sizeof from);
    clock_iso(last, to, sizeof to);
    report_line("dates", "%.10s to %.10s", from, to);
}

static void import_print(struct cli *cli, const struct akin_import_report *r, bool films)
{
    const struct {
        const char *what;
        uint64_t count;
    } skipped[] = {
        {"empty lines", r->skipped.empty_lines},
        {"malformed rows", r->skipped.malformed_rows},
        {"duplicate items", r->skipped.duplicate_items},
        {"ratings given again", r->skipped.duplicate_ratings},
        {"ratings of unknown items", r->skipped.ratings_of_unknown_items},
        {"tags of unknown items", r->skipped.tags_of_unknown_items},
        {"ids out of range", r->skipped.ids_out_of_range},
        {"invalid ratings", r->skipped.invalid_ratings},
    };
    char count[NUMBER_BYTES];
    printf("%s\n", cli_setting(cli, "data"));
    report_line(films ? "films" : "items", "%s", format_count(count, r->items));
    share_line("  with year", r->items_with_year, r->items);
    share_line("  with genres", r->items_with_genres, r->items);
    share_line("  with themes", r->items_with_themes, r->items);
    share_line("  with genome tags", r->items_with_genome, r->items);
    report_line("ratings", "%s", format_count(count, r->ratings));
    report_line("users", "%s", format_count(count, r->users));
    report_line("tags", "%s", format_count(count, r->tags));
    if (r->ratings)
        dates_line(r->first_rating, r->last_rating);
    for (size_t i = 0; i < sizeof skipped / sizeof skipped[0]; i++)
        if (skipped[i].count)
            report_line("left out", "%s (%s)", format_count(count, skipped[i].count),
                        skipped[i].what);
    if (r->skipped.latin1_files)
        report_line("read as Latin-1", "%s files", format_count(count, r->skipped.latin1_files));
    if (*r->first_problem)
        report_line("first problem", "%s", r->first_problem);
}

static enum akin_status tell_import(struct cli *cli, const struct akin_import_report *report,
                                    bool films)
{
    if (cli->json)
        return print_json(cli, import_json(cli, report, films));
    progress_end(&cli->progress);
    import_print(cli, report, films);
    return AKIN_OK;
}

/* ---- import movielens -------------------------------------------------------------------- */

static enum akin_status run_movielens(struct cli *cli)
{
    struct akin_import_report report = {0};
    TRY(akin_catalog_import_movielens(cli->options.positionals[0], cli_setting(cli, "data"),
                                      progress_begin(&cli->progress, NULL), &report, &cli->error));
    return tell_import(cli, &report, true);
}

const struct command command_data_import_movielens = {
    .name = "data import movielens",
    .arguments = "DIR [options]",
    .summary = "a MovieLens folder to a catalogue",
    .details = "DIR holds MovieLens 25M, 20M, latest, 10M, 1M or 100K as published, or RecBole's "
               ".item and\n"
               ".inter files. The catalogue goes to --data.\n",
    .examples = "  akin data import movielens ml-latest-small --data films\n",
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_movielens,
};

/* ---- import jsonl ------------------------------------------------------------------------ */

static const struct option jsonl_options[] = {
    {"interactions", 0, OPTION_TEXT, "FILE", NULL, "who liked what: user, item, rating, timestamp",
     0, 0},
    {"id", 0, OPTION_TEXT, "FIELD", "id", "field of the id", 0, 0},
    {"title", 0, OPTION_TEXT, "FIELD", "title", "field of the title", 0, 0},
    {"text", 0, OPTION_TEXT, "FIELD", "text", "field of the text; composed where absent", 0, 0},
    {"year", 0, OPTION_TEXT, "FIELD", "year", "field of the year", 0, 0},
    {"genres", 0, OPTION_TEXT, "FIELD", "genres",
     "field of the genres: a list, or words split by |", 0, 0},
    {"tags", 0, OPTION_TEXT, "FIELD", "tags", "field of the themes", 0, 0},
    {"user", 0, OPTION_TEXT, "FIELD", "user", "interactions: field of the user", 0, 0},
    {"item", 0, OPTION_TEXT, "FIELD", "item", "interactions: field of the item's id", 0, 0},
    {"rating", 0, OPTION_TEXT, "FIELD", "rating", "interactions: field of the rating; absent: 1", 0,
     0},
    {"timestamp", 0, OPTION_TEXT, "FIELD", "timestamp", "interactions: Unix seconds; absent: 0", 0,
     0},
    {"rating-max", 0, OPTION_NUMBER, "X", "0", "the best rating; 0: the largest one seen", 0, 1e9},
};

static enum akin_status run_jsonl(struct cli *cli)
{
    const struct options *o = &cli->options;
    const struct akin_jsonl_fields fields = {
        .id = options_text(o, "id"),
        .title = options_text(o, "title"),
        .text = options_text(o, "text"),
        .year = options_text(o, "year"),
        .genres = options_text(o, "genres"),
        .themes = options_text(o, "tags"),
        .user = options_text(o, "user"),
        .item = options_text(o, "item"),
        .rating = options_text(o, "rating"),
        .timestamp = options_text(o, "timestamp"),
        .rating_max = options_number(o, "rating-max"),
    };
    struct akin_import_report report = {0};
    TRY(akin_catalog_import_jsonl(o->positionals[0], options_text(o, "interactions"), &fields,
                                  cli_setting(cli, "data"), progress_begin(&cli->progress, NULL),
                                  &report, &cli->error));
    return tell_import(cli, &report, false);
}

const struct command command_data_import_jsonl = {
    .name = "data import jsonl",
    .arguments = "ITEMS [--interactions FILE] [options]",
    .summary = "anybody's items (articles, products, songs) to a catalogue",
    .details = "ITEMS and FILE are JSON lines. An item needs an id; the text that is embedded is "
               "its text\n"
               "field, or is composed of title, year, genres and tags.\n",
    .examples =
        "  akin data import jsonl products.jsonl --title name --genres category --data shop\n"
        "  akin data import jsonl songs.jsonl --interactions plays.jsonl --user listener\n",
    .options = {jsonl_options, sizeof jsonl_options / sizeof jsonl_options[0]},
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_jsonl,
};

/* ---- embed ------------------------------------------------------------------------------- */

static const struct option embed_options[] = {
    {"batch", 'b', OPTION_COUNT, "N", "0", "texts computed together; 0: chosen", 0, 1000000},
    {"prompt", 0, OPTION_TEXT, "TEXT", NULL, "put before every text, such as 'passage: '", 0, 0},
    {"no-dedup", 0, OPTION_FLAG, "", NULL, "compute equal texts again", 0, 0},
};

static enum akin_status tell_embed(struct cli *cli, const struct akin_model_info *info,
                                   const struct akin_catalog_embed_report *report)
{
    char a[NUMBER_BYTES], b[NUMBER_BYTES];
    if (cli->json) {
        json_t *root = json_object();
        json_object_set_new(root, "data", json_of_text(cli_setting(cli, "data")));
        embed_report_json(cli, info, &report->items, root);
        json_object_set_new(root, "users", json_of_count(report->users));
        json_object_set_new(root, "users_without_items",
                            json_of_count(report->users_without_items));
        json_object_set_new(root, "users_seconds", json_of_double(report->users_seconds));
        json_object_set_new(root, "vectors_bytes", json_of_count(report->vectors_bytes));
        return print_json(cli, root);
    }
    progress_end(&cli->progress);
    printf("%s, embedded with %s\n", cli_setting(cli, "data"), info->name);
    embed_report_print(info, &report->items, akin_peak_rss_bytes());
    report_line("users", "%s vectors in %.2f s, %s users without items",
                format_count(a, report->users), report->users_seconds,
                format_count(b, report->users_without_items));
    report_line("on disk", "%s", format_bytes(a, report->vectors_bytes));
    return AKIN_OK;
}

static enum akin_status run_embed(struct cli *cli)
{
    struct akin_embed_settings settings;
    struct akin_catalog_embed_report report = {0};
    struct akin_model_info info;
    struct akin_model *model = NULL;
    enum akin_status status = AKIN_OK;
    akin_embed_settings_default(&settings);
    settings.batch_texts = options_count(&cli->options, "batch");
    settings.prompt = options_text(&cli->options, "prompt");
    settings.deduplicate = !options_flag(&cli->options, "no-dedup");
    settings.progress = progress_begin(&cli->progress, "texts");
    TRY_DONE(cli_model(cli, NULL, &model));
    akin_model_info(model, &info);
    TRY_DONE(akin_catalog_embed(model, cli_setting(cli, "data"), &settings, &report, &cli->error));
    status = tell_embed(cli, &info, &report);
done:
    akin_model_close(&model);
    return status;
}

const struct command command_data_embed = {
    .name = "data embed",
    .arguments = "[options]",
    .summary = "vectors of the catalogue's items and users",
    .examples = "  akin data embed --data films --model all-minilm-l6-v2\n",
    .options = {embed_options, sizeof embed_options / sizeof embed_options[0]},
    .run = run_embed,
};

/* ---- info -------------------------------------------------------------------------------- */

static json_t *info_json(struct cli *cli, const struct akin_catalog_info *info)
{
    json_t *root = json_object();
    json_object_set_new(root, "data", json_of_text(cli_setting(cli, "data")));
    json_object_set_new(root, "kind", json_string(info->films ? "films" : "items"));
    json_object_set_new(root, "items", json_of_count(info->items));
    json_object_set_new(root, "users", json_of_count(info->users));
    json_object_set_new(root, "ratings", json_of_count(info->ratings));
    json_object_set_new(root, "items_with_year", json_of_count(info->items_with_year));
    json_object_set_new(root, "items_with_genres", json_of_count(info->items_with_genres));
    json_object_set_new(root, "items_with_themes", json_of_count(info->items_with_themes));
    json_object_set_new(root, "year_min", json_integer(info->year_min));
    json_object_set_new(root, "year_max", json_integer(info->year_max));
    json_object_set_new(root, "first_rating",
                        info->ratings ? json_of_time(info->first_rating) : json_null());
    json_object_set_new(root, "last_rating",
                        info->ratings ? json_of_time(info->last_rating) : json_null());
    json_object_set_new(root, "embedded", json_boolean(info->dimension > 0));
    json_object_set_new(root, "dimension", json_of_count(info->dimension));
    json_object_set_new(root, "users_with_vector", json_of_count(info->users_with_vector));
    json_object_set_new(root, "model", json_of_known(info->model));
    json_object_set_new(root, "precision", json_of_known(info->precision));
    return root;
}

static void info_print(struct cli *cli, const struct akin_catalog_info *info)
{
    char count[NUMBER_BYTES];
    printf("%s\n", cli_setting(cli, "data"));
    report_line(info->films ? "films" : "items", "%s", format_count(count, info->items));
    share_line("  with year", info->items_with_year, info->items);
    share_line("  with genres", info->items_with_genres, info->items);
    share_line("  with themes", info->items_with_themes, info->items);
    if (info->items_with_year)
        report_line("years", "%d to %d", info->year_min, info->year_max);
    report_line("users", "%s", format_count(count, info->users));
    report_line("ratings", "%s", format_count(count, info->ratings));
    if (info->ratings)
        dates_line(info->first_rating, info->last_rating);
    if (info->dimension) {
        report_line("vectors", "%zu dimensions, by %s%s%s", info->dimension,
                    *info->model ? info->model : "an unknown model",
                    *info->precision ? " in " : "", info->precision);
        report_line("users with vector", "%s", format_count(count, info->users_with_vector));
    } else {
        report_line("vectors", "none yet: akin data embed");
    }
}

static enum akin_status run_info(struct cli *cli)
{
    struct akin_catalog *catalog = NULL;
    struct akin_catalog_info info;
    enum akin_status status = AKIN_OK;
    TRY(cli_catalog(cli, &catalog));
    akin_catalog_info(catalog, &info);
    if (cli->json)
        status = print_json(cli, info_json(cli, &info));
    else
        info_print(cli, &info);
    akin_catalog_close(&catalog);
    return status;
}

const struct command command_data_info = {
    .name = "data info",
    .arguments = "[options]",
    .summary = "what a catalogue holds",
    .examples = "  akin data info --data films\n",
    .run = run_info,
};
