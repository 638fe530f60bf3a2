/* akin index build, info, check. */
#include "base/npy.h"
#include "cli/cli.h"

/* ---- build ------------------------------------------------------------------------------- */

static const struct option build_options[] = {
    {"input", 'i', OPTION_TEXT, "V.npy", NULL, "float32 matrix [vectors, dimension]", 0, 0},
    {"output", 'o', OPTION_TEXT, "X.akx", NULL, "the index file", 0, 0},
    {"ids", 0, OPTION_TEXT, "I.npy", NULL, "int64 ids [vectors]; without them: row numbers", 0, 0},
    {"kind", 0, OPTION_CHOICE, "auto|flat", "auto", "auto or flat (exact)", 0, 0},
    {"metric", 0, OPTION_TEXT, "METRIC", NULL, "inner-product, cosine or l2", 0, 0},
};

static json_t *index_json(const char *path, const struct akin_index_info *info)
{
    json_t *root = json_object();
    json_object_set_new(root, "index", json_of_text(path));
    json_object_set_new(root, "kind", json_of_text(info->kind));
    json_object_set_new(root, "metric", json_of_text(akin_metric_name(info->metric)));
    json_object_set_new(root, "version", json_of_count(info->version));
    json_object_set_new(root, "count", json_of_count(info->count));
    json_object_set_new(root, "dimension", json_of_count(info->dimension));
    json_object_set_new(root, "file_bytes", json_of_count(info->file_bytes));
    return root;
}

static enum akin_status tell_index(struct cli *cli, const char *path, double seconds)
{
    struct akin_index *index = NULL;
    struct akin_index_info info;
    char count[NUMBER_BYTES], bytes[NUMBER_BYTES];
    enum akin_status status = AKIN_OK;
    TRY(cli_engine(cli));
    TRY(akin_index_open(cli->engine, path, &index, &cli->error));
    akin_index_info(index, &info);
    akin_index_close(&index);
    if (cli->json) {
        json_t *root = index_json(path, &info);
        if (seconds >= 0)
            json_object_set_new(root, "seconds", json_of_double(seconds));
        return print_json(cli, root);
    }
    progress_end(&cli->progress);
    printf("%s: %s, %s, %s vectors of %zu dimensions, %s, format %u", path, info.kind,
           akin_metric_name(info.metric), format_count(count, info.count), info.dimension,
           format_bytes(bytes, info.file_bytes), (unsigned)info.version);
    if (seconds >= 0)
        printf(", built in %.2f s", seconds);
    putchar('\n');
    return status;
}

static enum akin_status check_ids(struct cli *cli, const char *path, const struct npy *ids,
                                  size_t rows)
{
    if (ids->type != NPY_INT64 || ids->dims != 1)
        return error_set(&cli->error, AKIN_FORMAT,
                         "%s: expected int64 [rows], found %s with %zu dimensions", path,
                         ids->descr, ids->dims);
    if (ids->shape[0] != rows)
        return error_set(&cli->error, AKIN_FORMAT, "%s: %zu ids for %zu vectors", path,
                         ids->shape[0], rows);
    return AKIN_OK;
}

static enum akin_status run_build(struct cli *cli)
{
    const char *input = NULL, *output = NULL, *ids_path = options_text(&cli->options, "ids");
    const char *metric = options_text(&cli->options, "metric");
    struct akin_index_settings settings;
    struct npy vectors = {0}, ids = {0};
    bool vectors_open = false, ids_open = false;
    enum akin_status status = AKIN_OK;
    TRY(need_text(cli, "input", &input));
    TRY(need_text(cli, "output", &output));
    akin_index_settings_default(&settings);
    settings.kind = options_text(&cli->options, "kind");
    if (metric && !akin_metric_parse(metric, &settings.metric))
        return wrong_use(cli, "--metric: '%.40s' is not one of %s, %s, %s", metric,
                         akin_metric_name(AKIN_METRIC_INNER_PRODUCT),
                         akin_metric_name(AKIN_METRIC_COSINE), akin_metric_name(AKIN_METRIC_L2));
    settings.progress = progress_begin(&cli->progress, "vectors");
    TRY_DONE(npy_open_matrix(input, &vectors, &cli->error));
    vectors_open = true;
    if (ids_path) {
        TRY_DONE(npy_open(ids_path, &ids, &cli->error));
        ids_open = true;
        TRY_DONE(check_ids(cli, ids_path, &ids, vectors.shape[0]));
    }
    TRY_DONE(cli_engine(cli));
    uint64_t begin = akin_clock_ns();
    TRY_DONE(akin_index_build(cli->engine, output, vectors.data, ids_open ? ids.data : NULL,
                              vectors.shape[0], vectors.shape[1], &settings, &cli->error));
    status = tell_index(cli, output, (double)(akin_clock_ns() - begin) / 1e9);
done:
    if (vectors_open)
        npy_close(&vectors);
    if (ids_open)
        npy_close(&ids);
    return status;
}

const struct command command_index_build = {
    .name = "index build",
    .arguments = "-i V.npy -o X.akx [options]",
    .summary = "a matrix of vectors to an index file",
    .details = "X.akx appears whole or not at all.\n",
    .examples = "  akin index build -i films.npy -o films.akx\n"
                "  akin index build -i films.npy --ids film_ids.npy --metric cosine -o films.akx\n",
    .options = {build_options, sizeof build_options / sizeof build_options[0]},
    .run = run_build,
};

/* ---- info, check ------------------------------------------------------------------------- */

static enum akin_status run_info(struct cli *cli)
{
    return tell_index(cli, cli->options.positionals[0], -1);
}

const struct command command_index_info = {
    .name = "index info",
    .arguments = "X.akx [options]",
    .summary = "kind, metric, size and format of an index file",
    .examples = "  akin index info films.akx\n",
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_info,
};

static enum akin_status run_check(struct cli *cli)
{
    const char *path = cli->options.positionals[0];
    TRY(akin_index_check(path, &cli->error));
    if (cli->json)
        return print_json(cli, json_pack("{s:o, s:b}", "index", json_of_text(path), "ok", 1));
    printf("%s: every checksum is right\n", path);
    return AKIN_OK;
}

const struct command command_index_check = {
    .name = "index check",
    .arguments = "X.akx [options]",
    .summary = "verify every checksum of an index file",
    .details = "Exits 0, or 1 naming the damage.\n",
    .examples = "  akin index check films.akx\n",
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_check,
};
