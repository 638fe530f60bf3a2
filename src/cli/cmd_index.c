/* akin index build, create, info, check, compact. Rows come and go in cmd_index_rows.c. */
#include "cli/cmd_index.h"

#include <string.h>

#include "base/clock.h"

/* ---- what an index is -------------------------------------------------------------------- */

static json_t *index_json(const char *path, const struct akin_index_info *info)
{
    json_t *root = json_object();
    json_object_set_new(root, "index", json_of_text(path));
    json_object_set_new(root, "kind", json_of_text(info->kind));
    json_object_set_new(root, "asked", json_of_text(info->asked));
    json_object_set_new(root, "why", json_of_text(info->why));
    json_object_set_new(root, "metric", json_of_text(akin_metric_name(info->metric)));
    json_object_set_new(root, "storage", json_of_text(akin_storage_name(info->storage)));
    json_object_set_new(root, "version", json_of_count(info->version));
    json_object_set_new(root, "count", json_of_count(info->count));
    json_object_set_new(root, "dead", json_of_count(info->dead));
    json_object_set_new(root, "segments", json_of_count(info->segments));
    json_object_set_new(root, "tail_rows", json_of_count(info->tail_rows));
    json_object_set_new(root, "dimension", json_of_count(info->dimension));
    json_object_set_new(root, "file_bytes", json_of_count(info->file_bytes));
    json_object_set_new(root, "dead_bytes", json_of_count(info->dead_bytes));
    json_object_set_new(root, "memory_bytes", json_of_count(info->memory_bytes));
    return root;
}

static void print_index(const char *path, const struct akin_index_info *info, double seconds)
{
    char count[NUMBER_BYTES], bytes[NUMBER_BYTES], dead[NUMBER_BYTES], tail[NUMBER_BYTES];
    printf("%s: %s, %s, %s, %s vectors of %zu dimensions, %s, format %u", path, info->kind,
           akin_metric_name(info->metric), akin_storage_name(info->storage),
           format_count(count, info->count), info->dimension,
           format_bytes(bytes, info->file_bytes), (unsigned)info->version);
    if (seconds >= 0)
        printf(", built in %.2f s", seconds);
    printf("\n  %zu segment%s, %s in the tail, %s dead", info->segments,
           info->segments == 1 ? "" : "s", format_count(tail, info->tail_rows),
           format_count(dead, info->dead));
    printf("; %s of the file are dead\n  %s\n", format_bytes(bytes, info->dead_bytes), info->why);
}

enum akin_status tell_index(struct cli *cli, const char *path, double seconds)
{
    struct akin_index *index = NULL;
    struct akin_index_info info;
    TRY(cli_engine(cli));
    TRY(akin_index_open(cli->engine, path, AKIN_INDEX_READ, &index, &cli->error));
    akin_index_info(index, &info);
    akin_index_close(&index);
    if (cli->json) {
        json_t *root = index_json(path, &info);
        if (seconds >= 0)
            json_object_set_new(root, "seconds", json_of_double(seconds));
        return print_json(cli, root);
    }
    progress_end(&cli->progress);
    print_index(path, &info, seconds);
    return AKIN_OK;
}

/* ---- build, create ----------------------------------------------------------------------- */

#define KIND_OPTIONS                                                                              \
    {"kind", 0, OPTION_CHOICE, "auto|flat|ivfpq|graph", "auto", "how it is searched", 0, 0},      \
    {"metric", 0, OPTION_TEXT, "METRIC", NULL, "inner-product, cosine or l2", 0, 0},              \
    {"storage", 0, OPTION_CHOICE, "fp32|fp16|int8", "fp32", "what is kept of a number", 0, 0},    \
    {"recall", 0, OPTION_NUMBER, "R", "0.95", "what kind auto plans for", 0.01, 1},               \
    {"nlist", 0, OPTION_COUNT, "N", "0", "cells of ivfpq; 0: chosen by size", 0, 65536},          \
    {"pq-bytes", 0, OPTION_COUNT, "N", "0", "bytes of an ivfpq code; 0: chosen", 0, 4096},        \
    {"pq-bits", 0, OPTION_CHOICE, "4|8", "4", "of each code of ivfpq", 0, 0},                     \
    {"degree", 0, OPTION_COUNT, "N", "0", "neighbours of a node of a graph; 0: chosen", 0, 32},   \
    {"beam", 0, OPTION_COUNT, "N", "0", "width of the search that finds them; 0: chosen", 0,      \
     4096},                                                                                       \
    {"seed", 0, OPTION_COUNT, "N", "1", "of all that is trained", 0, 1e9}

static const struct option build_options[] = {
    ROWS_OPTIONS("row numbers"),
    {"output", 'o', OPTION_TEXT, "X.akx", NULL, "the index file", 0, 0},
    KIND_OPTIONS,
};

static enum akin_status read_settings(struct cli *cli, struct akin_index_settings *settings)
{
    const struct options *o = &cli->options;
    const char *metric = options_text(o, "metric");
    akin_index_settings_default(settings);
    settings->kind = options_text(o, "kind");
    akin_storage_parse(options_text(o, "storage"), &settings->storage);     /* one of the choices */
    settings->recall = (float)options_number(o, "recall");
    settings->nlist = options_count(o, "nlist");
    settings->pq_bytes = options_count(o, "pq-bytes");
    settings->pq_bits = options_text(o, "pq-bits")[0] == '8' ? 8 : 4;
    settings->degree = options_count(o, "degree");
    settings->beam = options_count(o, "beam");
    settings->seed = options_count(o, "seed");
    if (metric && !akin_metric_parse(metric, &settings->metric))
        return wrong_use(cli, "--metric: '%.40s' is not one of %s, %s, %s", metric,
                         akin_metric_name(AKIN_METRIC_INNER_PRODUCT),
                         akin_metric_name(AKIN_METRIC_COSINE), akin_metric_name(AKIN_METRIC_L2));
    return AKIN_OK;
}

static enum akin_status run_build(struct cli *cli)
{
    const char *input = NULL, *output = NULL;
    struct akin_index_settings settings;
    struct rows_file file = {0};
    enum akin_status status = AKIN_OK;
    TRY(need_text(cli, "input", &input));
    TRY(need_text(cli, "output", &output));
    TRY(read_settings(cli, &settings));
    settings.progress = progress_begin(&cli->progress, "vectors");
    TRY_DONE(rows_file_open(cli, input, &file));
    TRY_DONE(vectors_input_all(file.vectors, &file.rows.vectors, &cli->error));
    TRY_DONE(cli_engine(cli));
    uint64_t begin = akin_clock_ns();
    TRY_DONE(akin_index_build(cli->engine, output, &file.rows, file.dimension, &settings,
                              &cli->error));
    status = tell_index(cli, output, seconds_since(begin));
done:
    rows_file_close(&file);
    return status;
}

const struct command command_index_build = {
    .name = "index build",
    .arguments = "-i FILE[:SET] -o X.akx [options]",
    .summary = "a matrix of vectors to an index file",
    .details = "X.akx appears whole or not at all, with one sealed segment of the kind asked for.\n"
               "Kind auto picks by size, memory and recall; 'akin index info' says why.\n"
               "With --storage fp16 or int8 vectors are rounded when they come in: answers are\n"
               "those of the rounded ones. int8 is for kind flat, which then keeps nothing else.\n",
    .examples = "  akin index build -i films.npy -o films.akx\n"
                "  akin index build -i films.npy --ids film_ids.npy --metric cosine -o films.akx\n"
                "  akin index build -i sift-128-euclidean.hdf5 --metric l2 -o sift.akx\n"
                "  akin index build -i million.npy --kind graph --recall 0.98 -o million.akx\n"
                "  akin index build -i films.npy --kind flat --storage int8 -o small.akx\n",
    .options = {build_options, sizeof build_options / sizeof build_options[0]},
    .run = run_build,
};

static const struct option create_options[] = {
    {"dimension", 'd', OPTION_COUNT, "N", NULL, "numbers of a vector", 1, 4096},
    KIND_OPTIONS,
};

static enum akin_status run_create(struct cli *cli)
{
    const char *path = cli->options.positionals[0];
    struct akin_index_settings settings;
    if (!options_given(&cli->options, "dimension"))
        return wrong_use(cli, "index create needs --dimension N");
    TRY(read_settings(cli, &settings));
    if (path_exists(path))
        return error_set(&cli->error, AKIN_ARGUMENT,
                         "%s: is there already; remove it, or add to it", path);
    TRY(cli_engine(cli));
    TRY(akin_index_create(cli->engine, path, options_count(&cli->options, "dimension"), &settings,
                          &cli->error));
    return tell_index(cli, path, -1);
}

const struct command command_index_create = {
    .name = "index create",
    .arguments = "X.akx --dimension N [options]",
    .summary = "an empty index file, to add to",
    .details = "Refuses to replace a file.\n",
    .examples = "  akin index create notes.akx --dimension 384\n"
                "  akin index create big.akx -d 768 --kind ivfpq --metric l2\n",
    .options = {create_options, sizeof create_options / sizeof create_options[0]},
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_create,
};

/* ---- info, check, compact ---------------------------------------------------------------- */

static enum akin_status run_info(struct cli *cli)
{
    return tell_index(cli, cli->options.positionals[0], -1);
}

const struct command command_index_info = {
    .name = "index info",
    .arguments = "X.akx [options]",
    .summary = "kind, rows, segments and size of an index file",
    .examples = "  akin index info films.akx\n",
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_info,
};

static enum akin_status run_check(struct cli *cli)
{
    const char *path = cli->options.positionals[0];
    TRY(cli_engine(cli));
    TRY(akin_index_check(cli->engine, path, &cli->error));
    if (cli->json)
        return print_json(cli, json_pack("{s:o, s:b}", "index", json_of_text(path), "ok", 1));
    printf("%s: every checksum is right, and so is what they stand for\n", path);
    return AKIN_OK;
}

const struct command command_index_check = {
    .name = "index check",
    .arguments = "X.akx [options]",
    .summary = "verify every byte and every structure of an index file",
    .details = "Exits 0, or 1 naming the damage.\n",
    .examples = "  akin index check films.akx\n",
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_check,
};

static enum akin_status run_compact(struct cli *cli)
{
    const char *path = cli->options.positionals[0];
    struct akin_index *index = NULL;
    TRY(cli_engine(cli));
    TRY(akin_index_open(cli->engine, path, AKIN_INDEX_WRITE, &index, &cli->error));
    struct akin_progress progress = progress_begin(&cli->progress, "vectors");
    enum akin_status status = akin_index_compact(index, &progress, &cli->error);
    akin_index_close(&index);
    return status == AKIN_OK ? tell_index(cli, path, -1) : status;
}

const struct command command_index_compact = {
    .name = "index compact",
    .arguments = "X.akx [options]",
    .summary = "one segment without dead rows, in a file without dead bytes",
    .details = "The file is written anew beside the old one, and takes its place when it is\n"
               "whole.\n",
    .examples = "  akin index compact films.akx\n",
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_compact,
};
