/* akin bench embed: how fast this machine turns texts into vectors, by precision, threads and batch
 * size, as a share of what it can, and what that costs. Here: the command line and the texts. */
#include <math.h>
#include <string.h>

#include "base/csv.h"
#include "cli/bench_embed.h"
#include "cli/report.h"

static const struct option bench_options[] = {
    {"input", 'i', OPTION_TEXT, "FILE", NULL,
     "texts: .txt, .jsonl or .csv; without it: the catalogue's", 0, 0},
    {"format", 0, OPTION_CHOICE, "txt|jsonl|csv", NULL, "whatever the file is called", 0, 0},
    {"field", 0, OPTION_TEXT, "NAME", "text", "field of JSON lines, column of CSV", 0, 0},
    {"precisions", 0, OPTION_TEXT, "P,P,...", NULL,
     "fp32, bf16, fp16, int8; without it: --precision, or every one that opens here", 0, 0},
    {"threads", 't', OPTION_TEXT, "N,N,...", NULL,
     "a run each, with efficiency; 0: one per CPU; without it: the setting", 0, 0},
    {"batch-sizes", 0, OPTION_TEXT, "N,N,...", "0", "a run each; 0: the size that akin chooses", 0,
     0},
    {"rounds", 0, OPTION_COUNT, "N", "3", "runs take turns; the middle of N counts", 1,
     EMBED_ROUNDS_MAX},
    {"latency", 0, OPTION_COUNT, "N", "100", "texts of about 23 tokens, one at a time; 0: none", 0,
     100000},
    {"cost", 0, OPTION_TEXT, "D,D,...", NULL, "prices of this machine in dollars per hour", 0, 0},
    {"compare", 0, OPTION_TEXT, "FILE", NULL, "report of a GPU to compare with (JSON)", 0, 0},
    {"limit", 0, OPTION_COUNT, "N", "0", "only the first N texts; 0: all", 0, 1e12},
    {"warmup", 0, OPTION_COUNT, "N", "100", "texts embedded before the clock starts", 0, 1e6},
    {"output-dir", 0, OPTION_TEXT, "DIR", "results", "folder of the JSON report", 0, 0},
};

/* ---- lists ------------------------------------------------------------------------------- */

/* Calls `add` with each piece between commas; false, told by the caller, at the first bad one. */
static bool read_list(struct embed_bench *b, const char *list,
                      bool (*add)(struct embed_bench *b, const char *text, size_t bytes))
{
    for (const char *at = list;;) {
        size_t n = strcspn(at, ",");
        if (!add(b, at, n))
            return false;
        if (!at[n])
            return true;
        at += n + 1;
    }
}

static bool add_batch(struct embed_bench *b, const char *text, size_t bytes)
{
    uint64_t value = 0;
    if (b->batch_count == EMBED_LIST_MAX || !parse_uint64(text, bytes, &value) || value > 1000000)
        return false;
    b->batches[b->batch_count++] = (size_t)value;
    return true;
}

static bool add_threads(struct embed_bench *b, const char *text, size_t bytes)
{
    uint64_t value = 0;
    if (b->thread_count == EMBED_LIST_MAX || !parse_uint64(text, bytes, &value) || value > 1024)
        return false;
    b->threads[b->thread_count++] = (int)value;
    return true;
}

static bool add_price(struct embed_bench *b, const char *text, size_t bytes)
{
    double value = 0;
    if (b->price_count == EMBED_PRICES_MAX || !parse_double(text, bytes, &value) ||
        !isfinite(value) || value < 0 || value > 1e9)
        return false;
    b->prices[b->price_count++] = value;
    return true;
}

static bool add_precision(struct embed_bench *b, const char *text, size_t bytes)
{
    char name[16];
    enum akin_precision precision;
    if (bytes >= sizeof name || b->precision_count == EMBED_PRECISIONS)
        return false;
    memcpy(name, text, bytes);
    name[bytes] = '\0';
    if (!akin_precision_parse(name, &precision) || precision == AKIN_PRECISION_AUTO)
        return false;
    for (size_t i = 0; i < b->precision_count; i++)
        if (b->precisions[i] == precision)
            return false;
    b->precisions[b->precision_count++] = precision;
    return true;
}

/* The precision that somebody asked for; NULL where nobody did. */
static const char *chosen_precision(const struct cli *cli)
{
    struct akin_setting setting;
    for (size_t i = 0; akin_settings_at(cli->settings, i, &setting); i++)
        if (!strcmp(setting.key, "precision") && strcmp(setting.origin, "default") &&
            strcmp(setting.value, "auto"))
            return setting.value;
    return NULL;
}

static enum akin_status read_lists(struct embed_bench *b)
{
    struct cli *cli = b->cli;
    const char *batches = options_text(&cli->options, "batch-sizes");
    const char *threads = options_text(&cli->options, "threads");
    const char *precisions = options_text(&cli->options, "precisions");
    const char *prices = options_text(&cli->options, "cost");
    const char *setting = chosen_precision(cli);
    if (!precisions)
        precisions = setting ? setting : "fp32,bf16,int8";
    if (!read_list(b, batches, add_batch))
        return wrong_use(cli, "--batch-sizes: '%.80s' is not a list of at most %d numbers up to "
                         "1000000", batches, EMBED_LIST_MAX);
    if (threads && !read_list(b, threads, add_threads))
        return wrong_use(cli, "--threads: '%.80s' is not a list of at most %d numbers up to 1024",
                         threads, EMBED_LIST_MAX);
    if (!threads)
        b->threads[b->thread_count++] = -1;
    if (!read_list(b, precisions, add_precision))
        return wrong_use(cli, "--precisions: '%.80s' is not a list of fp32, bf16, fp16, int8, each "
                         "once", precisions);
    if (prices && !read_list(b, prices, add_price))
        return wrong_use(cli, "--cost: '%.80s' is not a list of at most %d prices in dollars per "
                         "hour", prices, EMBED_PRICES_MAX);
    b->rounds = options_count(&cli->options, "rounds");
    b->warmup = options_count(&cli->options, "warmup");
    b->latency_texts = options_count(&cli->options, "latency");
    return AKIN_OK;
}

/* ---- another device's report ------------------------------------------------------------- */

static enum akin_status read_other(struct embed_bench *b, const char *path)
{
    struct embed_other *other = &b->other;
    struct akin_error *error = &b->cli->error;
    const char *device = NULL, *gpu = NULL, *model = "", *precision = "";
    json_t *root = NULL;
    enum akin_status status = AKIN_OK;
    TRY(json_read(path, 64u << 20, &root, error));
    TRY_DONE(json_get_number(root, "texts_per_second", path, &other->texts_per_second, error));
    TRY_DONE(json_get_string(root, "device", path, &device, error));
    TRY_DONE(json_opt_string(root, "gpu_name", path, &gpu, error));
    TRY_DONE(json_opt_string(root, "model", path, &model, error));
    TRY_DONE(json_opt_string(root, "precision", path, &precision, error));
    if (!(other->texts_per_second > 0)) {
        status = error_set(error, AKIN_FORMAT, "%s: texts_per_second: expected more than 0", path);
        goto done;
    }
    snprintf(other->device, sizeof other->device, "%s", gpu ? gpu : device);
    snprintf(other->model, sizeof other->model, "%s", model);
    snprintf(other->precision, sizeof other->precision, "%s", precision);
    other->known = true;
done:
    json_decref(root);
    return status;
}

/* ---- texts ------------------------------------------------------------------------------- */

static enum akin_status read_file(struct embed_bench *b, const char *path, size_t limit)
{
    struct cli *cli = b->cli;
    const struct text_source_settings settings = {.path = path,
                                                  .format = options_text(&cli->options, "format"),
                                                  .field = options_text(&cli->options, "field")};
    struct text_source *source = NULL;
    enum akin_status status = AKIN_OK;
    TRY(text_source_open(&settings, &source, &cli->error));
    while (b->texts.count < limit) {
        struct akin_text text;
        bool more = false;
        TRY_DONE(text_source_next(source, &text, &more, &cli->error));
        if (!more)
            break;
        TRY_DONE(text_window_add(&b->texts, text.bytes, text.count, &cli->error));
    }
    if (b->texts.count == 0)
        status =
            error_set(&cli->error, AKIN_NOT_FOUND, "%s: no texts in it", text_source_name(source));
done:
    text_source_close(&source);
    return status;
}

static enum akin_status read_catalog(struct embed_bench *b, size_t limit)
{
    struct akin_catalog *catalog = NULL;
    struct akin_catalog_info info;
    enum akin_status status = AKIN_OK;
    status = cli_catalog(b->cli, &catalog);
    if (status != AKIN_OK)
        return error_context(&b->cli->error, status, "no -i FILE given, and no catalogue to read");
    akin_catalog_info(catalog, &info);
    for (size_t row = 0; row < info.items && row < limit; row++) {
        struct akin_item item;
        akin_catalog_item(catalog, row, &item);
        TRY_DONE(text_window_add(&b->texts, item.text, strlen(item.text), &b->cli->error));
    }
    if (b->texts.count == 0)
        status = error_set(&b->cli->error, AKIN_NOT_FOUND, "%s: no items in it",
                           cli_setting(b->cli, "data"));
done:
    akin_catalog_close(&catalog);
    return status;
}

/* ---- the command ------------------------------------------------------------------------- */

static enum akin_status run_bench(struct cli *cli)
{
    enum akin_status status = AKIN_OK;
    const char *input = options_text(&cli->options, "input");
    const char *compare = options_text(&cli->options, "compare");
    size_t limit = options_count(&cli->options, "limit");
    struct embed_bench *b = memory_alloc(1, sizeof *b);
    if (!b)
        return error_memory(&cli->error);
    b->cli = cli;
    TRY_DONE(read_lists(b));
    if (compare)
        TRY_DONE(read_other(b, compare));
    TRY_DONE(input ? read_file(b, input, limit ? limit : SIZE_MAX)
                   : read_catalog(b, limit ? limit : SIZE_MAX));
    text_window_seal(&b->texts);
    TRY_DONE(embed_bench_measure(b));
    cli->engine = embed_fastest(b, AKIN_PRECISION_AUTO).model->engine; /* lent to the report */
    if (!cli->json)
        embed_bench_print(b);
    status = report_write(cli, "embed", embed_bench_json(b));
    cli->engine = NULL;
done:
    embed_bench_deinit(b);
    memory_free(b);
    return status;
}

const struct command command_bench_embed = {
    .name = "bench embed",
    .arguments = "[-i FILE] [options]",
    .summary = "the embedding report: speed, share of the machine's peak, quality and cost",
    .details = "Equal texts are computed again, so that the speed is that of texts that differ.\n"
               "Operations per text are those of the matrix products, for t tokens:\n"
               "  layers * (2 t (4 hidden^2 + 2 hidden intermediate) + 4 t^2 hidden)\n"
               "and the peak is what loops that touch no memory reach on the same threads.\n",
    .examples = "  akin bench embed --data films --threads 1,2 --cost 0.10,3.67\n"
                "  akin bench embed --data films --precisions fp32,int8 --batch-sizes 128,512\n"
                "  akin bench embed -i texts.jsonl --compare results/embed_cuda.json\n"
                "  akin bench embed -i texts.jsonl --limit 5000 --rounds 1 --json\n",
    .options = {bench_options, sizeof bench_options / sizeof bench_options[0]},
    .run = run_bench,
};
