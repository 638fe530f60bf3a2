/* akin embed: texts in, a .npy matrix out, window by window, so that neither need fit in memory. */
#include <string.h>

#include "base/npy.h"
#include "cli/cli.h"
#include "cli/report.h"
#include "cli/texts.h"

static const struct option embed_options[] = {
    {"input", 'i', OPTION_TEXT, "FILE", NULL, "texts: .txt, .jsonl or .csv; - is standard input", 0,
     0},
    {"output", 'o', OPTION_TEXT, "OUT.npy", NULL, "float32 matrix [texts, dimension], same order",
     0, 0},
    {"format", 0, OPTION_CHOICE, "txt|jsonl|csv", NULL, "whatever the file is called", 0, 0},
    {"field", 0, OPTION_TEXT, "NAME", "text", "field of JSON lines, column of CSV", 0, 0},
    {"batch", 'b', OPTION_COUNT, "N", "0",
     "texts computed together; 0: chosen; never changes a result", 0, 1000000},
    {"normalize", 0, OPTION_FLAG, "", NULL, "bring vectors to length 1, whatever the model says", 0,
     0},
    {"no-normalize", 0, OPTION_FLAG, "", NULL, "leave vectors as they come out", 0, 0},
    {"prompt", 0, OPTION_TEXT, "TEXT", NULL, "put before every text, such as 'query: '", 0, 0},
    {"prompt-name", 0, OPTION_TEXT, "NAME", NULL, "a prompt that the model brings", 0, 0},
    {"no-dedup", 0, OPTION_FLAG, "", NULL, "compute equal texts again", 0, 0},
};

struct embed {
    struct cli *cli;
    struct akin_model *model;
    struct akin_model_info info;
    struct akin_embed_settings settings;
    struct akin_embed_report report;
    struct text_source *source;
    struct text_window window;
    struct file_writer *writer;
    float *vectors;     /* [WINDOW_TEXTS_MAX][dimension] */
    size_t total, done; /* texts, of all and in finished windows */
};

/* ---- settings ---------------------------------------------------------------------------- */

static enum akin_status find_prompt(struct cli *cli, const struct akin_model *model,
                                    const char *wanted, const char **prompt)
{
    struct bytes names = {0};
    const char *name = NULL, *text = NULL;
    for (size_t i = 0; akin_model_prompt(model, i, &name, &text); i++) {
        if (strcmp(name, wanted) == 0) {
            *prompt = text;
            bytes_deinit(&names);
            return AKIN_OK;
        }
        bytes_printf(&names, "%s%s", i ? ", " : "", name);
    }
    wrong_use(cli, "the model has no prompt '%.80s'; it has: %.400s", wanted,
              names.count && !names.failed ? names.data : "none");
    bytes_deinit(&names);
    return AKIN_ARGUMENT;
}

static enum akin_status embed_settings(struct embed *e)
{
    struct cli *cli = e->cli;
    const struct options *o = &cli->options;
    bool yes = options_flag(o, "normalize"), no = options_flag(o, "no-normalize");
    akin_embed_settings_default(&e->settings);
    if (yes && no)
        return wrong_use(cli, "--normalize and --no-normalize contradict each other");
    if (options_given(o, "prompt") && options_given(o, "prompt-name"))
        return wrong_use(cli, "give --prompt or --prompt-name, not both");
    e->settings.batch_texts = options_count(o, "batch");
    e->settings.normalize = yes  ? AKIN_NORMALIZE_YES
                            : no ? AKIN_NORMALIZE_NO
                                 : AKIN_NORMALIZE_AS_MODEL;
    e->settings.deduplicate = !options_flag(o, "no-dedup");
    e->settings.prompt = options_text(o, "prompt");
    return AKIN_OK;
}

/* ---- work -------------------------------------------------------------------------------- */

/* The library counts within a window; people want to see the whole. */
static bool update(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    struct embed *e = cookie;
    (void)total;
    return progress_update(&e->cli->progress, stage, e->done + done, e->total);
}

static enum akin_status embed_windows(struct embed *e)
{
    struct akin_error *error = &e->cli->error;
    const size_t shape[2] = {e->total, e->info.dimension};
    TRY(npy_write_header(e->writer, "'<f4'", 2, shape, error));
    while (e->done < e->total) {
        struct akin_embed_report part = {0};
        size_t left = e->total - e->done;
        TRY(text_window_fill(&e->window, e->source,
                             left < WINDOW_TEXTS_MAX ? left : WINDOW_TEXTS_MAX, error));
        if (e->window.count == 0)
            return error_set(error, AKIN_IO, "%s: became shorter while it was read",
                             text_source_name(e->source));
        TRY(akin_model_embed(e->model, e->window.texts, e->window.count, &e->settings, e->vectors,
                             &part, error));
        TRY(file_writer_write(e->writer, e->vectors,
                              e->window.count * e->info.dimension * sizeof(float), error));
        embed_report_add(&e->report, &part);
        e->done += e->window.count;
    }
    TRY(check_interrupted(e->cli));
    return file_writer_commit(&e->writer, error);
}

static enum akin_status prepare(struct embed *e, const char *input, const char *output)
{
    struct cli *cli = e->cli;
    const struct text_source_settings source = {.path = input,
                                                .format = options_text(&cli->options, "format"),
                                                .field = options_text(&cli->options, "field"),
                                                .rereadable = true};
    const char *prompt_name = options_text(&cli->options, "prompt-name");
    size_t rows = 0;
    TRY(embed_settings(e));
    TRY(text_source_open(&source, &e->source, &cli->error));
    TRY(text_source_measure(e->source, &e->total, &cli->error));
    TRY(cli_model(cli, NULL, &e->model));
    akin_model_info(e->model, &e->info);
    if (prompt_name)
        TRY(find_prompt(cli, e->model, prompt_name, &e->settings.prompt));
    rows = e->total < WINDOW_TEXTS_MAX ? e->total : WINDOW_TEXTS_MAX;
    e->vectors = memory_alloc_aligned(rows, e->info.dimension * sizeof(float));
    if (!e->vectors)
        return error_memory(&cli->error);
    e->settings.progress = progress_begin(&cli->progress, "texts");
    e->settings.progress.cookie = e;
    e->settings.progress.update = update;
    return file_writer_open(output, &e->writer, &cli->error);
}

static enum akin_status tell(struct embed *e, const char *output)
{
    struct cli *cli = e->cli;
    uint64_t blank = text_source_blank_lines(e->source);
    if (cli->json) {
        json_t *root = json_object();
        embed_report_json(cli, &e->info, &e->report, root);
        json_object_set_new(root, "blank_lines", json_of_count(blank));
        json_object_set_new(root, "output", json_of_text(output));
        return print_json(cli, root);
    }
    progress_end(&cli->progress);
    printf("%s\n", output);
    embed_report_print(&e->info, &e->report, akin_peak_rss_bytes());
    if (blank)
        report_line("blank lines", "%llu, no texts", (unsigned long long)blank);
    return AKIN_OK;
}

static enum akin_status run_embed(struct cli *cli)
{
    struct embed e = {.cli = cli};
    const char *input = NULL, *output = NULL;
    enum akin_status status = AKIN_OK;
    TRY(need_text(cli, "input", &input));
    TRY(need_text(cli, "output", &output));
    if (strcmp(output, "-") == 0)
        return wrong_use(cli, "--output must be a file: the report goes to standard output");
    TRY_DONE(prepare(&e, input, output));
    TRY_DONE(embed_windows(&e));
    TRY_DONE(tell(&e, output));
done:
    file_writer_abort(&e.writer);
    text_window_deinit(&e.window);
    text_source_close(&e.source);
    memory_free(e.vectors);
    akin_model_close(&e.model);
    return status;
}

const struct command command_embed = {
    .name = "embed",
    .arguments = "-i FILE -o OUT.npy [options]",
    .summary = "texts to vectors: a float32 .npy matrix",
    .details = "A line of a .txt is a text, an empty line too; of .jsonl and .csv it is --field. "
               "The vectors\n"
               "of a text are the same bits whatever stands beside it, the batch and the threads.\n"
               "OUT.npy appears whole or not at all.\n",
    .examples =
        "  akin embed -i films.jsonl -o films.npy\n"
        "  akin embed -i reviews.csv --field review -o reviews.npy --json\n"
        "  akin embed --model multilingual-e5-small --prompt 'query: ' -i queries.txt -o q.npy\n",
    .options = {embed_options, sizeof embed_options / sizeof embed_options[0]},
    .run = run_embed,
};
