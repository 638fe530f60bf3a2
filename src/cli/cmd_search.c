/* akin search: the nearest vectors of an index file, or the nearest items of a catalogue. */
#include <string.h>

#include "base/limits.h"
#include "base/npy.h"
#include "cli/results.h"
#include "cli/vectors_input.h"

static const struct option search_options[] = {
    {"index", 0, OPTION_TEXT, "X.akx", NULL, "search this index file; without it: the catalogue", 0,
     0},
    {"query", 0, OPTION_TEXT, "TEXT", NULL, "search for this text, embedded with --model", 0, 0},
    {"vectors", 0, OPTION_TEXT, VECTORS_INPUT_VALUE, NULL, VECTORS_INPUT_HELP, 0, 0},
    {"top", 'k', OPTION_COUNT, "K", "10", "how many per query", 1, (double)K_MAX},
    {"output", 'o', OPTION_TEXT, "IDS.npy", NULL, "int64 ids [q, k], and IDS.scores.npy beside it",
     0, 0},
    {"batch", 'b', OPTION_COUNT, "N", "1000", "queries searched together", 1, 1000000},
    {"exact", 0, OPTION_FLAG, "", NULL, "the true neighbours, whatever it takes", 0, 0},
    {"recall", 0, OPTION_NUMBER, "R", NULL, "share of the true neighbours to reach (0.95)", 0, 1},
    {"filter", 0, OPTION_TEXT, "FILTER", NULL, "such as 'year>=1990'", 0, 0},
    {"prompt", 0, OPTION_TEXT, "TEXT", NULL, "put before --query", 0, 0},
};

enum { SHOWN_QUERIES_MAX = 10 };

struct search {
    struct cli *cli;
    struct akin_index *index;
    struct akin_index_info info;
    struct akin_index_query asked;
    struct vectors_input *file;
    float *query;         /* of --query */
    const float *queries; /* [count][dimension] */
    size_t count, k;
    int64_t *ids; /* [count][k] */
    float *scores;
    double *call_us; /* [calls] */
    size_t calls;
    double elapsed_ms;
};

/* ---- queries ----------------------------------------------------------------------------- */

static enum akin_status embed_query(struct search *s, const char *query)
{
    struct cli *cli = s->cli;
    struct akin_text text = {query, strlen(query)};
    struct akin_embed_settings settings;
    struct akin_model_info info;
    struct akin_model *model = NULL;
    enum akin_status status = AKIN_OK;
    akin_embed_settings_default(&settings);
    settings.prompt = options_text(&cli->options, "prompt");
    TRY_DONE(cli_model(cli, NULL, &model));
    akin_model_info(model, &info);
    if (info.dimension != s->info.dimension) {
        status = error_set(&cli->error, AKIN_ARGUMENT,
                           "model %s makes %zu dimensions, the index has %zu", info.name,
                           info.dimension, s->info.dimension);
        goto done;
    }
    s->query = memory_alloc_aligned(info.dimension, sizeof(float));
    if (!s->query) {
        status = error_memory(&cli->error);
        goto done;
    }
    status = akin_model_embed(model, &text, 1, &settings, s->query, NULL, &cli->error);
    s->queries = s->query;
    s->count = 1;
done:
    akin_model_close(&model);
    return status;
}

static enum akin_status open_queries(struct search *s, const char *path)
{
    struct akin_error *error = &s->cli->error;
    TRY(vectors_input_open(path, "test", &s->file, error));
    size_t dimension = vectors_input_dimension(s->file);
    if (dimension != s->info.dimension)
        return error_set(error, AKIN_FORMAT, "%s: vectors of %zu dimensions, the index has %zu",
                         path, dimension, s->info.dimension);
    s->count = vectors_input_rows(s->file);
    return vectors_input_all(s->file, &s->queries, error);
}

/* ---- searching --------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum akin_status search_all(struct search *s, size_t batch)
{
    struct akin_error *error = &s->cli->error;
    size_t cells = 0;
    if (!size_mul(s->count, s->k, &cells))
        return error_set(error, AKIN_LIMIT, "%zu queries with %zu results each are too many",
                         s->count, s->k);
    s->ids = memory_alloc(cells, sizeof *s->ids);
    s->scores = memory_alloc(cells, sizeof *s->scores);
    s->call_us = memory_alloc(s->count / batch + 1, sizeof *s->call_us);
    if (!s->ids || !s->scores || !s->call_us)
        return error_memory(error);
    for (size_t at = 0; at < s->count; at += batch) {
        size_t n = s->count - at < batch ? s->count - at : batch;
        uint64_t begin = akin_clock_ns();
        struct akin_index_query query = s->asked;
        query.vectors = s->queries + at * s->info.dimension;
        query.count = n;
        TRY(akin_index_search(s->index, &query, s->ids + at * s->k, s->scores + at * s->k, error));
        s->call_us[s->calls] = (double)(akin_clock_ns() - begin) / 1e3;
        s->elapsed_ms += s->call_us[s->calls++] / 1e3;
        TRY(check_interrupted(s->cli));
    }
    qsort(s->call_us, s->calls, sizeof *s->call_us, compare_doubles);
    return AKIN_OK;
}

static double percentile_us(const struct search *s, double share)
{
    return s->calls ? s->call_us[(size_t)(share * (double)(s->calls - 1) + 0.5)] : 0;
}

/* ---- results ----------------------------------------------------------------------------- */

/* "ids.npy" and "ids.scores.npy" */
static enum akin_status write_results(struct search *s, const char *path)
{
    struct akin_error *error = &s->cli->error;
    const size_t shape[2] = {s->count, s->k};
    struct bytes scores = {0};
    size_t length = strlen(path);
    bool ending = length > 4 && strcmp(path + length - 4, ".npy") == 0;
    bytes_append(&scores, path, ending ? length - 4 : length);
    bytes_append_text(&scores, ".scores.npy");
    enum akin_status status = scores.failed ? error_memory(error) : AKIN_OK;
    if (status == AKIN_OK)
        status = npy_write(scores.data, "'<f4'", 2, shape, s->scores,
                           s->count * s->k * sizeof *s->scores, error);
    if (status == AKIN_OK)
        status =
            npy_write(path, "'<i8'", 2, shape, s->ids, s->count * s->k * sizeof *s->ids, error);
    bytes_deinit(&scores);
    return status;
}

static json_t *hits_json(const struct search *s)
{
    json_t *all = json_array();
    for (size_t q = 0; q < s->count; q++) {
        json_t *hits = json_array();
        for (size_t i = q * s->k; i < (q + 1) * s->k && s->ids[i] >= 0; i++)
            json_array_append_new(hits, json_pack("{s:I, s:o}", "id", (json_int_t)s->ids[i],
                                                  "score", json_of_double((double)s->scores[i])));
        json_array_append_new(all, hits);
    }
    return all;
}

static void print_hits(const struct search *s)
{
    static const struct table_column columns[] = {{"query", TABLE_RIGHT, 0},
                                                  {"rank", TABLE_RIGHT, 0},
                                                  {"id", TABLE_RIGHT, 0},
                                                  {"score", TABLE_RIGHT, 0}};
    struct table table;
    table_init(&table, columns, 4);
    for (size_t q = 0; q < s->count && q < SHOWN_QUERIES_MAX; q++) {
        for (size_t i = q * s->k; i < (q + 1) * s->k && s->ids[i] >= 0; i++) {
            table_cell(&table, "%zu", q);
            table_cell(&table, "%zu", i - q * s->k + 1);
            table_cell(&table, "%lld", (long long)s->ids[i]);
            table_cell(&table, "%.6f", (double)s->scores[i]);
        }
    }
    table_print(&table, stdout);
    table_deinit(&table);
    if (s->count > SHOWN_QUERIES_MAX)
        printf("%zu more queries: -o IDS.npy writes all results\n", s->count - SHOWN_QUERIES_MAX);
}

static enum akin_status tell(struct search *s, const char *output, size_t batch)
{
    struct cli *cli = s->cli;
    char count[NUMBER_BYTES];
    if (cli->json) {
        json_t *root = json_object();
        json_object_set_new(root, "queries", json_of_count(s->count));
        json_object_set_new(root, "k", json_of_count(s->k));
        json_object_set_new(root, "batch", json_of_count(batch));
        json_object_set_new(root, "kind", json_of_text(s->info.kind));
        json_object_set_new(root, "metric", json_of_text(akin_metric_name(s->info.metric)));
        json_object_set_new(root, "count", json_of_count(s->info.count));
        json_object_set_new(root, "card_bytes", json_of_count(s->info.card_bytes));
        json_object_set_new(root, "elapsed_ms", json_of_double(s->elapsed_ms));
        json_object_set_new(root, "p50_us",
                            batch == 1 ? json_of_double(percentile_us(s, 0.5)) : json_null());
        json_object_set_new(root, "p99_us",
                            batch == 1 ? json_of_double(percentile_us(s, 0.99)) : json_null());
        json_object_set_new(root, "threads", json_integer(akin_engine_threads(cli->engine)));
        json_object_set_new(root, "kernels", json_of_text(akin_engine_kernels(cli->engine)));
        if (output)
            json_object_set_new(root, "output", json_of_text(output));
        else
            json_object_set_new(root, "results", hits_json(s));
        return print_json(cli, root);
    }
    if (!output)
        print_hits(s);
    printf("%s quer%s in %.3f ms (%s%s, %.0f per second)\n", format_count(count, s->count),
           s->count == 1 ? "y" : "ies", s->elapsed_ms, s->info.kind,
           s->info.card_bytes ? " on a GPU" : "",
           s->elapsed_ms > 0 ? 1000 * (double)s->count / s->elapsed_ms : 0);
    if (batch == 1 && s->count > 1)
        printf("one query: median %.1f us, p99 %.1f us\n", percentile_us(s, 0.5),
               percentile_us(s, 0.99));
    if (output)
        printf("%s\n", output);
    return AKIN_OK;
}

/* A filter that can be read and that few people mean is worth a line. */
static enum akin_status hint_at_filter(struct search *s)
{
    char hint[256] = "";
    if (!s->asked.filter)
        return AKIN_OK;
    TRY(akin_index_filter_hint(s->index, s->asked.filter, hint, sizeof hint, &s->cli->error));
    if (hint[0])
        print_note(s->cli, "filter: %s", hint);
    return AKIN_OK;
}

/* ---- the command ------------------------------------------------------------------------- */

static enum akin_status search_index(struct cli *cli, const char *path, const char *query,
                                     const char *vectors)
{
    struct search s = {.cli = cli, .k = options_count(&cli->options, "top")};
    const char *output = options_text(&cli->options, "output");
    size_t batch = options_count(&cli->options, "batch");
    enum akin_status status = AKIN_OK;
    TRY_DONE(cli_engine(cli));
    TRY_DONE(akin_index_open(cli->engine, path, AKIN_INDEX_READ, &s.index, &cli->error));
    s.asked = (struct akin_index_query){
        .k = s.k, .filter = options_text(&cli->options, "filter"),
        .exact = options_flag(&cli->options, "exact"),
    };
    if (options_given(&cli->options, "recall"))
        s.asked.recall = (float)options_number(&cli->options, "recall");
    akin_index_info(s.index, &s.info);
    TRY_DONE(hint_at_filter(&s));
    if (vectors)
        TRY_DONE(open_queries(&s, vectors));
    else
        TRY_DONE(embed_query(&s, query));
    TRY_DONE(search_all(&s, batch));
    akin_index_info(s.index, &s.info);
    if (output)
        TRY_DONE(write_results(&s, output));
    TRY_DONE(tell(&s, output, batch));
done:
    memory_free(s.ids);
    memory_free(s.scores);
    memory_free(s.call_us);
    memory_free(s.query);
    vectors_input_close(&s.file);
    akin_index_close(&s.index);
    return status;
}

static enum akin_status run_search(struct cli *cli)
{
    const struct options *o = &cli->options;
    const char *index = options_text(o, "index"), *filter = options_text(o, "filter");
    const char *query = options_text(o, "query"), *vectors = options_text(o, "vectors");
    if (!query == !vectors)
        return wrong_use(cli, "search needs either --query TEXT or --vectors Q.npy");
    if (index)
        return search_index(cli, index, query, vectors);
    if (vectors || options_text(o, "output") || options_text(o, "prompt"))
        return wrong_use(cli, "--vectors, --output and --prompt need --index X.akx");
    struct akin_request request;
    akin_request_default(&request);
    request.query = query;
    request.filter = filter;
    request.k = options_count(o, "top");
    return results_for_request(cli, &request, false, false);
}

const struct command command_search = {
    .name = "search",
    .arguments = "[--index X.akx] (--query TEXT | --vectors FILE[:SET]) [options]",
    .summary = "the nearest vectors of an index, or items of the catalogue",
    .details = "elapsed_ms is the search alone; p50_us and p99_us are given for --batch 1.\n"
               "Where fewer than K exist, ids are -1. --vectors takes what index build takes; of\n"
               "an .hdf5 file the set 'test', unless another is named. With --device auto or cuda\n"
               "the first search copies the index to the GPU, which is in elapsed_ms; for a few\n"
               "queries --device cpu is sooner done.\n",
    .examples = "  akin search --index films.akx --query 'time travel' --model all-minilm-l6-v2\n"
                "  akin search --index films.akx --vectors queries.npy -k 10 -o ids.npy --json\n"
                "  akin search --index sift.akx --vectors sift-128-euclidean.hdf5 -o ids.npy\n"
                "  akin search --index films.akx --vectors many.npy -o ids.npy --device cuda\n"
                "  akin search --data films --query 'time travel' --filter 'year>=1990'\n",
    .options = {search_options, sizeof search_options / sizeof search_options[0]},
    .run = run_search,
};
