/* akin embed: texts in, a .npy matrix out, window by window, so that neither need fit in memory.
 * While a window is computed the next one is read and the one before is written. */
#include <string.h>

#include "base/npy.h"
#include "base/thread.h"
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

/* Work beside the caller's; in his thread where there is no other. */
struct aside {
    enum akin_status (*work)(void *context, struct akin_error *error);
    void *context;
    struct thread *thread;
    enum akin_status status;
    struct akin_error error;
};

/* A window of texts and their vectors. */
struct slot {
    struct text_window window;
    float *vectors;     /* [WINDOW_TEXTS_MAX][dimension] */
};

struct embed {
    struct cli *cli;
    struct akin_model *model;
    struct akin_model_info info;
    struct akin_embed_settings settings;
    struct akin_embed_report report;
    struct text_source *source;
    struct file_writer *writer;
    struct slot slots[2];
    struct slot *read_to;
    const float *written;       /* [written_count][dimension] */
    size_t written_count;
    size_t total, read, done; /* texts, of all, and in windows that are read and finished */
};

static void aside_run(void *context)
{
    struct aside *a = context;
    a->status = a->work(a->context, &a->error);
}

static void aside_start(struct aside *a, enum akin_status (*work)(void *, struct akin_error *),
                        void *context)
{
    *a = (struct aside){.work = work, .context = context};
    a->thread = thread_start(aside_run, a, false);
    if (!a->thread)
        aside_run(a);
}

/* Waits for it; again, it says the same. */
static enum akin_status aside_finish(struct aside *a, struct akin_error *error)
{
    thread_join(&a->thread);
    if (a->status != AKIN_OK)
        *error = a->error;
    return a->status;
}

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

static enum akin_status read_window(void *context, struct akin_error *error)
{
    struct embed *e = context;
    struct text_window *window = &e->read_to->window;
    size_t left = e->total - e->read;
    TRY(text_window_fill(window, e->source, left < WINDOW_TEXTS_MAX ? left : WINDOW_TEXTS_MAX,
                         error));
    if (window->count == 0 && left > 0)
        return error_set(error, AKIN_IO, "%s: became shorter while it was read",
                         text_source_name(e->source));
    e->read += window->count;
    return AKIN_OK;
}

static enum akin_status write_vectors(void *context, struct akin_error *error)
{
    struct embed *e = context;
    return file_writer_write(e->writer, e->written,
                             e->written_count * e->info.dimension * sizeof(float), error);
}

static enum akin_status embed_window(struct embed *e, struct slot *slot)
{
    struct akin_embed_report part = {0};
    TRY(akin_model_embed(e->model, slot->window.texts, slot->window.count, &e->settings,
                         slot->vectors, &part, &e->cli->error));
    embed_report_add(&e->report, &part);
    e->done += slot->window.count;
    return AKIN_OK;
}

static enum akin_status embed_windows(struct embed *e)
{
    struct akin_error *error = &e->cli->error, later = {0};
    const size_t shape[2] = {e->total, e->info.dimension};
    struct aside reading = {0}, writing = {0};
    enum akin_status status = npy_write_header(e->writer, "'<f4'", 2, shape, error);
    e->read_to = &e->slots[0];
    if (status == AKIN_OK)
        status = read_window(e, error);
    for (int i = 0; status == AKIN_OK && e->done < e->total; i = !i) {
        struct slot *slot = &e->slots[i];
        e->read_to = &e->slots[!i];     /* whose vectors may still be written */
        if (e->read < e->total)
            aside_start(&reading, read_window, e);
        TRY_DONE(embed_window(e, slot));
        TRY_DONE(aside_finish(&writing, error));
        TRY_DONE(aside_finish(&reading, error));
        e->written = slot->vectors;
        e->written_count = slot->window.count;
        aside_start(&writing, write_vectors, e);
    }
done:
    if (status != AKIN_OK)              /* the first error is told */
        error = &later;
    if (aside_finish(&reading, error) != AKIN_OK && status == AKIN_OK)
        status = reading.status;
    if (aside_finish(&writing, error) != AKIN_OK && status == AKIN_OK)
        status = writing.status;
    TRY(status);
    TRY(check_interrupted(e->cli));
    return file_writer_commit(&e->writer, &e->cli->error);
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
    for (int i = 0; i < 2 && e->total > (size_t)i * WINDOW_TEXTS_MAX; i++) {
        rows = e->total < WINDOW_TEXTS_MAX ? e->total : WINDOW_TEXTS_MAX;
        e->slots[i].vectors = memory_alloc_aligned(rows, e->info.dimension * sizeof(float));
        if (!e->slots[i].vectors)
            return error_memory(&cli->error);
    }
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
    for (int i = 0; i < 2; i++) {
        text_window_deinit(&e.slots[i].window);
        memory_free(e.slots[i].vectors);
    }
    text_source_close(&e.source);
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
