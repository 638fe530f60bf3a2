/* akin model list, pull, info, check, quantize. */
#include <string.h>

#include "base/file.h"
#include "cli/cli.h"
#include "cli/verdict.h"

/* ---- kept weights ------------------------------------------------------------------------ */

static const enum akin_precision kept_precisions[] = {AKIN_PRECISION_INT8, AKIN_PRECISION_BF16};

enum { KEPT_PRECISIONS = sizeof kept_precisions / sizeof kept_precisions[0] };

static bool find_kept(const char *path, size_t i, struct akin_quantized *kept)
{
    return akin_model_quantized(path, kept_precisions[i], kept, NULL) == AKIN_OK && kept->exists;
}

/* "int8", "int8 (stale) bf16"; "" where there are none. */
static void kept_text(const char *path, char *text, size_t bytes)
{
    struct akin_quantized *kept = memory_alloc(1, sizeof *kept);
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; kept && i < KEPT_PRECISIONS; i++)
        if (find_kept(path, i, kept) && used < bytes)
            used += (size_t)snprintf(text + used, bytes - used, "%s%s%s", used ? " " : "",
                                     akin_precision_name(kept->precision),
                                     kept->usable ? "" : " (not usable)");
    memory_free(kept);
}

static json_t *kept_json(const char *path)
{
    struct akin_quantized *kept = memory_alloc(1, sizeof *kept);
    json_t *list = json_array();
    for (size_t i = 0; kept && i < KEPT_PRECISIONS; i++)
        if (find_kept(path, i, kept))
            json_array_append_new(
                list, json_pack("{s:s, s:b, s:o, s:o, s:o}", "precision",
                                akin_precision_name(kept->precision), "usable", (int)kept->usable,
                                "bytes", json_of_count(kept->bytes), "path",
                                json_of_text(kept->path), "reason", json_of_known(kept->reason)));
    memory_free(kept);
    return list;
}

static void kept_print(const char *path)
{
    struct akin_quantized *kept = memory_alloc(1, sizeof *kept);
    char size[NUMBER_BYTES];
    for (size_t i = 0; kept && i < KEPT_PRECISIONS; i++) {
        if (!find_kept(path, i, kept))
            continue;
        if (kept->usable)
            printf("  %s weights kept in %s (%s)\n", akin_precision_name(kept->precision),
                   path_last(kept->path), format_bytes(size, kept->bytes));
        else
            printf("  %s weights not usable: %s\n", akin_precision_name(kept->precision),
                   kept->reason);
    }
    memory_free(kept);
}

/* ---- list -------------------------------------------------------------------------------- */

struct listing {
    struct cli *cli;
    json_t *array;
    struct table table;
    size_t count;
};

static void see_model(void *cookie, const char *name, const char *path)
{
    struct listing *listing = cookie;
    char kept[64];
    bool chosen = strcmp(name, cli_setting(listing->cli, "model")) == 0;
    listing->count++;
    if (listing->array) {
        json_array_append_new(listing->array,
                              json_pack("{s:o, s:o, s:b, s:o}", "name", json_of_text(name), "path",
                                        json_of_text(path), "default", (int)chosen, "quantized",
                                        kept_json(path)));
        return;
    }
    table_cell(&listing->table, "%s", chosen ? "*" : "");
    table_cell(&listing->table, "%s", name);
    table_cell(&listing->table, "%s", path);
    kept_text(path, kept, sizeof kept);
    table_cell(&listing->table, "%s", kept);
}

static enum akin_status run_list(struct cli *cli)
{
    static const struct table_column columns[] = {
        {"", TABLE_LEFT, 0}, {"name", TABLE_LEFT, 0}, {"path", TABLE_LEFT, 0},
        {"quantized", TABLE_LEFT, 0}};
    struct listing listing = {.cli = cli, .array = cli->json ? json_array() : NULL};
    table_init(&listing.table, columns, 4);
    enum akin_status status =
        akin_model_list(cli_setting(cli, "home"), &listing, see_model, &cli->error);
    if (status == AKIN_OK && cli->json)
        status = print_json(cli, json_incref(listing.array));
    else if (status == AKIN_OK && listing.count)
        table_print(&listing.table, stdout);
    else if (status == AKIN_OK)
        print_note(cli, "no models under %s/models yet; akin model pull all-MiniLM-L6-v2 gets one",
                   cli_setting(cli, "home"));
    json_decref(listing.array);
    table_deinit(&listing.table);
    return status;
}

const struct command command_model_list = {
    .name = "model list",
    .arguments = "[options]",
    .summary = "the models under HOME/models",
    .examples = "  akin model list\n",
    .run = run_list,
};

/* ---- pull -------------------------------------------------------------------------------- */

static const struct option pull_options[] = {
    {"hub", 0, OPTION_TEXT, "URL", NULL, "base URL with the Hugging Face layout", 0, 0},
    {"revision", 0, OPTION_TEXT, "NAME", NULL, "branch, tag or commit (main)", 0, 0},
    {"retries", 0, OPTION_COUNT, "N", "5", "attempts per file after the first, resuming", 0, 100},
};

static enum akin_status run_pull(struct cli *cli)
{
    struct akin_pull_settings settings;
    char path[PATH_BYTES_MAX];
    const char *hub = options_text(&cli->options, "hub");
    const char *revision = options_text(&cli->options, "revision");
    akin_pull_settings_default(&settings);
    if (hub) {
        if (akin_settings_set(cli->settings, "hub", hub, "--hub", &cli->error) != AKIN_OK) {
            cli->wrong_use = true;
            return AKIN_ARGUMENT;
        }
    }
    if (*cli_setting(cli, "hub"))
        settings.hub = cli_setting(cli, "hub");
    if (revision)
        settings.revision = revision;
    settings.home = cli_setting(cli, "home");
    settings.retries = (int)options_count(&cli->options, "retries");
    settings.progress = progress_begin(&cli->progress, "bytes");
    TRY(akin_model_pull(cli->options.positionals[0], &settings, path, sizeof path, &cli->error));
    if (cli->json)
        return print_json(cli,
                          json_pack("{s:o, s:o}", "name", json_of_text(cli->options.positionals[0]),
                                    "path", json_of_text(path)));
    progress_end(&cli->progress);
    printf("%s\n", path);
    return AKIN_OK;
}

const struct command command_model_pull = {
    .name = "model pull",
    .arguments = "NAME [options]",
    .summary = "download a model into HOME/models",
    .details = "NAME is owner/model, or a bare name, which means sentence-transformers/NAME. What "
               "broke off\n"
               "is resumed; a model that is complete is not downloaded again.\n",
    .examples = "  akin model pull all-MiniLM-L6-v2\n"
                "  akin model pull intfloat/multilingual-e5-small --hub https://hub.example\n",
    .options = {pull_options, sizeof pull_options / sizeof pull_options[0]},
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_pull,
};

/* ---- info -------------------------------------------------------------------------------- */

static json_t *info_json(const struct akin_model *model, const char *path)
{
    struct akin_model_info info;
    const char *name = NULL, *text = NULL;
    json_t *root = json_object(), *prompts = json_object();
    akin_model_info(model, &info);
    for (size_t i = 0; akin_model_prompt(model, i, &name, &text); i++)
        json_object_set_new(prompts, name, json_of_text(text));
    json_object_set_new(root, "name", json_of_text(info.name));
    json_object_set_new(root, "path", json_of_text(path));
    json_object_set_new(root, "architecture", json_of_text(info.architecture));
    json_object_set_new(root, "tokenizer", json_of_text(info.tokenizer));
    json_object_set_new(root, "pooling", json_of_text(info.pooling));
    json_object_set_new(root, "weights", json_of_text(info.weights));
    json_object_set_new(root, "precision", json_of_text(akin_precision_name(info.precision)));
    json_object_set_new(root, "layers", json_of_count(info.layers));
    json_object_set_new(root, "hidden", json_of_count(info.hidden));
    json_object_set_new(root, "heads", json_of_count(info.heads));
    json_object_set_new(root, "intermediate", json_of_count(info.intermediate));
    json_object_set_new(root, "vocabulary", json_of_count(info.vocabulary));
    json_object_set_new(root, "positions", json_of_count(info.positions));
    json_object_set_new(root, "tokens_max", json_of_count(info.tokens_max));
    json_object_set_new(root, "dimension", json_of_count(info.dimension));
    json_object_set_new(root, "parameters", json_of_count(info.parameters));
    json_object_set_new(root, "file_bytes", json_of_count(info.file_bytes));
    json_object_set_new(root, "normalized", json_boolean(info.normalized));
    json_object_set_new(root, "quantized", kept_json(path));
    json_object_set_new(root, "from_quantized", json_boolean(info.from_quantized));
    json_object_set_new(root, "prompts", prompts);
    return root;
}

static void info_print(const struct akin_model *model, const char *path)
{
    struct akin_model_info info;
    char a[NUMBER_BYTES], b[NUMBER_BYTES];
    const char *name = NULL, *text = NULL;
    akin_model_info(model, &info);
    printf("%s\n  %s\n", info.name, path);
    printf("  %s, %zu layers, %zu heads, hidden %zu, intermediate %zu\n", info.architecture,
           info.layers, info.heads, info.hidden, info.intermediate);
    printf("  %s tokenizer, vocabulary %s, at most %zu tokens of %zu positions\n", info.tokenizer,
           format_count(a, info.vocabulary), info.tokens_max, info.positions);
    printf("  %s pooling, %zu dimensions, %s\n", info.pooling, info.dimension,
           info.normalized ? "normalised" : "not normalised");
    printf("  %s parameters stored as %s (%s), computed in %s\n", format_count(a, info.parameters),
           info.weights, format_bytes(b, info.file_bytes), akin_precision_name(info.precision));
    kept_print(path);
    for (size_t i = 0; akin_model_prompt(model, i, &name, &text); i++)
        printf("  prompt %s: \"%s\"\n", name, text);
}

static enum akin_status run_info(struct cli *cli)
{
    char path[PATH_BYTES_MAX];
    struct akin_model *model = NULL;
    const char *name = cli->options.positional_count ? cli->options.positionals[0] : NULL;
    enum akin_status status = AKIN_OK;
    TRY(cli_model_path(cli, name, path, sizeof path));
    TRY(cli_model(cli, name, &model));
    if (cli->json)
        status = print_json(cli, info_json(model, path));
    else
        info_print(model, path);
    akin_model_close(&model);
    return status;
}

const struct command command_model_info = {
    .name = "model info",
    .arguments = "[MODEL] [options]",
    .summary = "architecture, sizes, tokenizer and prompts of a model",
    .examples = "  akin model info all-minilm-l6-v2\n",
    .positionals_max = 1,
    .run = run_info,
};

/* ---- check ------------------------------------------------------------------------------- */

static enum akin_status run_check(struct cli *cli)
{
    char path[PATH_BYTES_MAX];
    const char *name = cli->options.positional_count ? cli->options.positionals[0] : NULL;
    TRY(cli_engine(cli));
    TRY(cli_model_path(cli, name, path, sizeof path));
    TRY(akin_model_check(cli->engine, path, progress_begin(&cli->progress, NULL), &cli->error));
    struct akin_verdict *verdict = memory_alloc(1, sizeof *verdict);
    if (!verdict)
        return error_memory(&cli->error);
    enum akin_status status =
        akin_model_verdict(cli->engine, path, AKIN_VERDICT_ANEW, verdict, &cli->error);
    if (status == AKIN_OK && cli->json) {
        status = print_json(cli, json_pack("{s:o, s:b, s:o}", "path", json_of_text(path), "ok", 1,
                                           "verdict", verdict_json(verdict)));
    } else if (status == AKIN_OK) {
        progress_end(&cli->progress);
        printf("%s: checksums, shapes, finiteness and self-test are fine\n", path);
        verdict_print(verdict);
    }
    memory_free(verdict);
    return status;
}

const struct command command_model_check = {
    .name = "model check",
    .arguments = "[MODEL] [options]",
    .summary = "checksums, shapes, finiteness and a self-test of a model",
    .details = "Then measures its precisions anew (about 2 s), shows them, and keeps them for "
               "--precision auto.\n",
    .examples = "  akin model check all-minilm-l6-v2\n",
    .positionals_max = 1,
    .run = run_check,
};

/* ---- quantize ---------------------------------------------------------------------------- */

static const struct option quantize_options[] = {
    {"output", 'o', OPTION_TEXT, "FILE", NULL, "instead of beside the model", 0, 0},
};

static enum akin_status run_quantize(struct cli *cli)
{
    char path[PATH_BYTES_MAX], written[PATH_BYTES_MAX], size[NUMBER_BYTES];
    const char *name = cli->options.positional_count ? cli->options.positionals[0] : NULL;
    enum akin_precision precision = AKIN_PRECISION_INT8;
    struct akin_setting setting;
    for (size_t i = 0; akin_settings_at(cli->settings, i, &setting); i++)
        if (!strcmp(setting.key, "precision") && strcmp(setting.origin, "default"))
            akin_precision_parse(setting.value, &precision);
    if (precision != AKIN_PRECISION_INT8 && precision != AKIN_PRECISION_BF16)
        return wrong_use(cli, "--precision %s: int8 and bf16 can be kept beside a model",
                         akin_precision_name(precision));
    TRY(cli_engine(cli));
    TRY(cli_model_path(cli, name, path, sizeof path));
    TRY(akin_model_quantize(cli->engine, path, precision, options_text(&cli->options, "output"),
                            written, sizeof written, &cli->error));
    uint64_t bytes = 0;
    struct file_map map;
    TRY(file_map_open(written, &map, &cli->error));
    bytes = map.bytes;
    file_map_close(&map);
    if (cli->json)
        return print_json(cli, json_pack("{s:o, s:s, s:o}", "path", json_of_text(written),
                                         "precision", akin_precision_name(precision), "bytes",
                                         json_of_count(bytes)));
    printf("%s\n  %s weights, %s\n", written, akin_precision_name(precision),
           format_bytes(size, bytes));
    return AKIN_OK;
}

const struct command command_model_quantize = {
    .name = "model quantize",
    .arguments = "[MODEL] [--precision int8|bf16] [-o FILE]",
    .summary = "keep a model's int8 or bf16 weights beside it, so that it opens faster",
    .details = "Writes akin-int8.safetensors (or akin-bf16) into the model's folder, where opening "
               "it at that\nprecision finds it. Vectors stay the same, bit for bit; a file that no "
               "longer fits is not used.\n",
    .examples = "  akin model quantize\n"
                "  akin model quantize all-minilm-l6-v2 --precision bf16\n",
    .options = {quantize_options, sizeof quantize_options / sizeof quantize_options[0]},
    .positionals_max = 1,
    .run = run_quantize,
};
