/* akin index export: the rows of an index, as files that `akin index build` takes. */
#include <string.h>

#include "base/limits.h"
#include "base/npy.h"
#include "cli/cmd_index.h"

enum { BLOCK_BYTES = 8 << 20 };     /* of vectors that are read at once */

struct export {
    struct cli *cli;
    struct akin_index *index;
    struct akin_index_info info;
    struct file_writer *vectors, *ids, *keys, *metadata;
    float *block;               /* [block_rows][dimension] */
    int64_t *block_ids;         /* [block_rows] */
    char *text;                 /* [METADATA_BYTES_MAX + 1] */
    size_t block_rows;
};

static enum akin_status open_npy(struct export *e, const char *path, const char *descr,
                                 size_t columns, struct file_writer **writer)
{
    const size_t shape[2] = {e->info.count, columns};
    TRY(file_writer_open(path, writer, &e->cli->error));
    return npy_write_header(*writer, descr, columns ? 2 : 1, shape, &e->cli->error);
}

/* "films.npy": "films.ids.npy" */
static enum akin_status ids_path(struct cli *cli, const char *path, struct bytes *out)
{
    const char *given = options_text(&cli->options, "ids");
    size_t length = strlen(path);
    bool ending = length > 4 && strcmp(path + length - 4, ".npy") == 0;
    if (given) {
        bytes_append_text(out, given);
    } else {
        bytes_append(out, path, ending ? length - 4 : length);
        bytes_append_text(out, ".ids.npy");
    }
    return out->failed ? error_memory(&cli->error) : AKIN_OK;
}

static enum akin_status open_all(struct export *e, const char *path)
{
    struct cli *cli = e->cli;
    const char *keys = options_text(&cli->options, "keys");
    const char *metadata = options_text(&cli->options, "metadata");
    struct bytes ids = {0};
    enum akin_status status = ids_path(cli, path, &ids);
    if (status == AKIN_OK)
        status = open_npy(e, path, "'<f4'", e->info.dimension, &e->vectors);
    if (status == AKIN_OK)
        status = open_npy(e, ids.data, "'<i8'", 0, &e->ids);
    bytes_deinit(&ids);
    TRY(status);
    if (keys)
        TRY(file_writer_open(keys, &e->keys, &cli->error));
    if (metadata)
        TRY(file_writer_open(metadata, &e->metadata, &cli->error));
    e->block_rows = BLOCK_BYTES / (e->info.dimension * sizeof(float));
    e->block = memory_alloc_aligned(e->block_rows, e->info.dimension * sizeof(float));
    e->block_ids = memory_alloc(e->block_rows, sizeof *e->block_ids);
    e->text = memory_alloc(METADATA_BYTES_MAX + 1, 1);
    return e->block && e->block_ids && e->text ? AKIN_OK : error_memory(&cli->error);
}

/* What stands in e->text as one line. A key keeps its bytes, so it may not have two lines; between
 * the values of JSON any blank is as good as a new line. */
static enum akin_status write_line(struct export *e, struct file_writer *writer, int64_t id)
{
    size_t bytes = strlen(e->text);
    for (size_t i = 0; i < bytes; i++) {
        if (e->text[i] != '\n' && e->text[i] != '\r')
            continue;
        if (writer == e->keys)
            return error_set(&e->cli->error, AKIN_FORMAT,
                             "id %lld: its key has two lines; export without --keys",
                             (long long)id);
        e->text[i] = ' ';
    }
    e->text[bytes] = '\n';
    return file_writer_write(writer, e->text, bytes + 1, &e->cli->error);
}

static enum akin_status write_texts(struct export *e, size_t count)
{
    struct akin_error *error = &e->cli->error;
    for (size_t i = 0; i < count; i++) {
        int64_t id = e->block_ids[i];
        if (e->keys) {
            TRY(akin_index_key(e->index, id, e->text, METADATA_BYTES_MAX, error));
            TRY(write_line(e, e->keys, id));
        }
        if (e->metadata) {
            TRY(akin_index_metadata(e->index, id, e->text, METADATA_BYTES_MAX + 1, error));
            TRY(write_line(e, e->metadata, id));
        }
    }
    return AKIN_OK;
}

static enum akin_status write_rows(struct export *e)
{
    struct akin_error *error = &e->cli->error;
    size_t done = 0, count;
    for (int64_t from = 0;; from = e->block_ids[count - 1] + 1) {
        TRY(check_interrupted(e->cli));
        TRY(akin_index_read(e->index, from, e->block_rows, e->block_ids, e->block, &count, error));
        if (count == 0)
            break;
        TRY(file_writer_write(e->vectors, e->block, count * e->info.dimension * sizeof(float),
                              error));
        TRY(file_writer_write(e->ids, e->block_ids, count * sizeof *e->block_ids, error));
        TRY(write_texts(e, count));
        done += count;
        if (e->block_ids[count - 1] == INT64_MAX)
            break;
    }
    if (done != e->info.count)
        return error_set(error, AKIN_FORMAT, "%zu rows of %zu were found; run akin index check",
                         done, e->info.count);
    return AKIN_OK;
}

/* The vectors appear last: where they are, all is. */
static enum akin_status commit_all(struct export *e)
{
    struct file_writer **writers[] = {&e->keys, &e->metadata, &e->ids, &e->vectors};
    for (size_t i = 0; i < sizeof writers / sizeof writers[0]; i++)
        if (*writers[i])
            TRY(file_writer_commit(writers[i], &e->cli->error));
    return AKIN_OK;
}

static enum akin_status tell_export(struct export *e, const char *path, const char *out)
{
    struct cli *cli = e->cli;
    if (cli->json)
        return print_json(cli, json_pack("{s:o, s:o, s:o, s:o}", "index", json_of_text(path),
                                         "output", json_of_text(out), "count",
                                         json_of_count(e->info.count), "dimension",
                                         json_of_count(e->info.dimension)));
    printf("%s: %zu vectors of %zu dimensions\n", out, e->info.count, e->info.dimension);
    return AKIN_OK;
}

static enum akin_status run_export(struct cli *cli)
{
    const char *path = cli->options.positionals[0], *out = cli->options.positionals[1];
    struct export e = {.cli = cli};
    enum akin_status status = AKIN_OK;
    if (!strcmp(out, "-"))
        return wrong_use(cli, "index export writes several files: name one, not -");
    TRY_DONE(cli_engine(cli));
    TRY_DONE(akin_index_open(cli->engine, path, AKIN_INDEX_READ, &e.index, &cli->error));
    akin_index_info(e.index, &e.info);
    TRY_DONE(open_all(&e, out));
    TRY_DONE(write_rows(&e));
    TRY_DONE(commit_all(&e));
    status = tell_export(&e, path, out);
done:
    file_writer_abort(&e.keys);
    file_writer_abort(&e.metadata);
    file_writer_abort(&e.ids);
    file_writer_abort(&e.vectors);
    memory_free(e.block);
    memory_free(e.block_ids);
    memory_free(e.text);
    akin_index_close(&e.index);
    return status;
}

static const struct option export_options[] = {
    {"ids", 0, OPTION_TEXT, "I.npy", NULL, "int64 ids [rows]; without: V.ids.npy", 0, 0},
    {"keys", 0, OPTION_TEXT, "FILE", NULL, "also keys, a line for each row", 0, 0},
    {"metadata", 0, OPTION_TEXT, "FILE", NULL, "also metadata, a line for each row", 0, 0},
};

const struct command command_index_export = {
    .name = "index export",
    .arguments = "X.akx V.npy [options]",
    .summary = "the vectors and ids of an index as files that index build takes",
    .details = "float32 [rows, dimension], in order of ids, as the index keeps them: of unit\n"
               "length with the cosine metric, rounded where it was built with fp16 or int8.\n"
               "Each file appears whole or not at all, V.npy last.\n",
    .examples = "  akin index export films.akx films.npy\n"
                "  akin index export notes.akx notes.npy --keys keys.txt --metadata notes.jsonl\n",
    .options = {export_options, sizeof export_options / sizeof export_options[0]},
    .positionals_min = 2,
    .positionals_max = 2,
    .run = run_export,
};
