/* Reads JSON lines {"text": ...} (or plain text lines with --raw) and prints {"ids": [...]} for
 * each, with
 * --offsets also {"offsets": [[begin, end], ...]}: `akin tokenize` without the rest of akin.
 *
 *     tokenize_driver TOKENIZER.json FILE TOKENS_MAX [--offsets | --raw | --time] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "text/tokenizer.h"

struct driver {
    struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    uint32_t *ids;
    struct token_offset *offsets;
    size_t tokens_max, tokens;
    bool prints;
};

static enum akin_status encode(struct driver *d, const char *text, size_t bytes,
                               struct akin_error *error)
{
    size_t count;
    TRY(tokenizer_encode(d->tokenizer, text, bytes, d->scratch, d->ids, d->offsets, d->tokens_max,
                         &count, error));
    d->tokens += count;
    if (!d->prints)
        return AKIN_OK;
    fputs("{\"ids\":[", stdout);
    for (size_t i = 0; i < count; i++)
        printf("%s%u", i ? "," : "", d->ids[i]);
    if (d->offsets) {
        fputs("],\"offsets\":[", stdout);
        for (size_t i = 0; i < count; i++)
            printf("%s[%u,%u]", i ? "," : "", d->offsets[i].begin, d->offsets[i].end);
    }
    puts("]}");
    return AKIN_OK;
}

static enum akin_status run(struct driver *d, const char *path, bool raw, struct akin_error *error)
{
    struct line_reader *reader = NULL;
    const char *line;
    size_t bytes;
    TRY(line_reader_open(path, &reader, error));
    enum akin_status status = line_reader_next(reader, &line, &bytes, error);
    while (status == AKIN_OK && line) {
        json_t *object = NULL;
        if (!raw)
            status = json_parse(line, bytes, path, &object, error);
        const json_t *text = json_object_get(object, "text");
        if (status == AKIN_OK)
            status = raw ? encode(d, line, bytes, error)
                         : encode(d, json_string_value(text), json_string_length(text), error);
        json_decref(object);
        if (status == AKIN_OK)
            status = line_reader_next(reader, &line, &bytes, error);
    }
    line_reader_close(&reader);
    return status;
}

int main(int count, char **arguments)
{
    if (count < 4) {
        fprintf(stderr, "usage: %s TOKENIZER.json FILE TOKENS_MAX [--offsets | --raw | --time]\n",
                arguments[0]);
        return 2;
    }
    const char *option = count > 4 ? arguments[4] : "";
    struct akin_error error = { 0 };
    struct driver d = {.tokens_max = strtoul(arguments[3], NULL, 10),
                       .prints = strcmp(option, "--time") != 0};
    d.ids = memory_alloc(d.tokens_max, sizeof *d.ids);
    if (strcmp(option, "--offsets") == 0)
        d.offsets = memory_alloc(d.tokens_max, sizeof *d.offsets);
    enum akin_status status = tokenizer_open(arguments[1], &d.tokenizer, &error);
    if (status == AKIN_OK)
        status = tokenizer_scratch_create(&d.scratch, &error);
    uint64_t begin = clock_monotonic_ns();
    bool raw = strcmp(option, "--raw") == 0 || strcmp(option, "--time") == 0;
    if (status == AKIN_OK)
        status = run(&d, arguments[2], raw, &error);
    if (!d.prints)
        printf("%zu tokens in %.3f ms\n", d.tokens, (double)(clock_monotonic_ns() - begin) / 1e6);
    if (status != AKIN_OK)
        fprintf(stderr, "%s\n", error.message);
    tokenizer_scratch_destroy(&d.scratch);
    tokenizer_close(&d.tokenizer);
    memory_free(d.ids);
    memory_free(d.offsets);
    return status == AKIN_OK ? 0 : 1;
}
