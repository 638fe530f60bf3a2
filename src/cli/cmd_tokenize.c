/* akin tokenize: the token ids of each text, a line of JSON each. */
#include "cli/cli.h"
#include "cli/texts.h"

static const struct option tokenize_options[] = {
    {"input", 'i', OPTION_TEXT, "FILE", "-", "texts: .txt, .jsonl or .csv; - is standard input", 0,
     0},
    {"format", 0, OPTION_CHOICE, "txt|jsonl|csv", NULL, "whatever the file is called", 0, 0},
    {"field", 0, OPTION_TEXT, "NAME", "text", "field of JSON lines, column of CSV", 0, 0},
    {"offsets", 0, OPTION_FLAG, "", NULL, "also where in the text each token is, in bytes", 0, 0},
};

static void print_tokens(struct bytes *line, const int32_t *ids, const uint32_t (*offsets)[2],
                         size_t count)
{
    bytes_clear(line);
    bytes_append_text(line, "{\"ids\":[");
    for (size_t i = 0; i < count; i++)
        bytes_printf(line, "%s%d", i ? "," : "", (int)ids[i]);
    bytes_append_text(line, "]");
    if (offsets) {
        bytes_append_text(line, ",\"offsets\":[");
        for (size_t i = 0; i < count; i++)
            bytes_printf(line, "%s[%u,%u]", i ? "," : "", (unsigned)offsets[i][0],
                         (unsigned)offsets[i][1]);
        bytes_append_text(line, "]");
    }
    bytes_append_text(line, "}\n");
}

static enum akin_status tokenize_all(struct cli *cli, struct akin_model *model,
                                     struct text_source *source, int32_t *ids,
                                     uint32_t (*offsets)[2], size_t ids_max)
{
    struct bytes line = {0};
    enum akin_status status = AKIN_OK;
    for (;;) {
        struct akin_text text;
        bool more = false;
        size_t count = 0;
        TRY_DONE(text_source_next(source, &text, &more, &cli->error));
        if (!more)
            break;
        TRY_DONE(akin_model_tokenize(model, text, ids, offsets, ids_max, &count, &cli->error));
        print_tokens(&line, ids, (const uint32_t(*)[2])offsets, count < ids_max ? count : ids_max);
        if (line.failed) {
            status = error_memory(&cli->error);
            goto done;
        }
        if (fwrite(line.data, 1, line.count, stdout) != line.count)
            TRY_DONE(check_output(cli));
    }
    if (text_source_blank_lines(source))
        print_note(cli, "%llu blank lines are no texts",
                   (unsigned long long)text_source_blank_lines(source));
done:
    bytes_deinit(&line);
    return status;
}

static enum akin_status run_tokenize(struct cli *cli)
{
    struct text_source_settings settings = {.path = options_text(&cli->options, "input"),
                                            .format = options_text(&cli->options, "format"),
                                            .field = options_text(&cli->options, "field")};
    struct akin_model *model = NULL;
    struct akin_model_info info;
    struct text_source *source = NULL;
    int32_t *ids = NULL;
    uint32_t(*offsets)[2] = NULL;
    enum akin_status status = AKIN_OK;
    signals_end_at_once(true); /* nothing here could be left half done */
    TRY_DONE(cli_model(cli, NULL, &model));
    TRY_DONE(text_source_open(&settings, &source, &cli->error));
    akin_model_info(model, &info);
    ids = memory_alloc(info.tokens_max, sizeof *ids);
    offsets = options_flag(&cli->options, "offsets")
                  ? memory_alloc(info.tokens_max, sizeof *offsets)
                  : NULL;
    if (!ids || (!offsets && options_flag(&cli->options, "offsets"))) {
        status = error_memory(&cli->error);
        goto done;
    }
    status = tokenize_all(cli, model, source, ids, offsets, info.tokens_max);
done:
    memory_free(ids);
    memory_free(offsets);
    text_source_close(&source);
    akin_model_close(&model);
    return status;
}

const struct command command_tokenize = {
    .name = "tokenize",
    .arguments = "[-i FILE] [options]",
    .summary = "token ids of texts, as JSON lines",
    .examples = "  akin tokenize --model all-minilm-l6-v2 -i texts.jsonl\n"
                "  echo 'Hello, world!' | akin tokenize --offsets\n",
    .options = {tokenize_options, sizeof tokenize_options / sizeof tokenize_options[0]},
    .run = run_tokenize,
};
