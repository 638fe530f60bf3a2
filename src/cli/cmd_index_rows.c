/* akin index add, update, delete. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "cli/cmd_index.h"

/* ---- files of rows ----------------------------------------------------------------------- */

static enum akin_status open_ids(struct cli *cli, const char *path, struct npy *ids, bool *open)
{
    TRY(npy_open(path, ids, &cli->error));
    *open = true;
    if (ids->type != NPY_INT64 || ids->dims != 1)
        return error_set(&cli->error, AKIN_FORMAT,
                         "%s: expected int64 [rows], found %s with %zu dimensions", path,
                         ids->descr, ids->dims);
    return AKIN_OK;
}

/* A line each. */
static enum akin_status read_lines(struct cli *cli, const char *path, struct text_lines *lines)
{
    struct line_reader *reader = NULL;
    enum akin_status status = AKIN_OK;
    TRY(line_reader_open(path, &reader, &cli->error));
    for (;;) {
        const char *line;
        size_t bytes;
        TRY_DONE(line_reader_next(reader, &line, &bytes, &cli->error));
        if (!line)
            break;
        if (memchr(line, 0, bytes)) {
            status = error_set(&cli->error, AKIN_FORMAT, "%s:%llu: has a zero byte", path,
                               (unsigned long long)line_reader_number(reader));
            goto done;
        }
        char *copy = string_pool_add(&lines->pool, line, bytes);
        if (!copy || !array_reserve((void **)&lines->items, &lines->capacity, lines->count + 1,
                                    sizeof *lines->items)) {
            status = error_memory(&cli->error);
            goto done;
        }
        lines->items[lines->count++] = copy;
    }
done:
    line_reader_close(&reader);
    return status;
}

static enum akin_status read_texts(struct cli *cli, const char *option, size_t rows,
                                   struct text_lines *lines, const char *const **texts)
{
    const char *path = options_text(&cli->options, option);
    if (!path)
        return AKIN_OK;
    TRY(read_lines(cli, path, lines));
    if (lines->count != rows)
        return error_set(&cli->error, AKIN_FORMAT, "%s: %zu lines for %zu vectors", path,
                         lines->count, rows);
    *texts = lines->items;
    return AKIN_OK;
}

static void lines_deinit(struct text_lines *lines)
{
    memory_free(lines->items);
    string_pool_deinit(&lines->pool);
}

enum akin_status rows_file_open(struct cli *cli, const char *vectors, struct rows_file *file)
{
    const char *ids = options_text(&cli->options, "ids");
    struct akin_index_rows *rows = &file->rows;
    if (ids && options_given(&cli->options, "keys"))
        return wrong_use(cli, "--ids and --keys: rows are named by one of them");
    TRY(vectors_input_open(vectors, "train", &file->vectors, &cli->error));
    rows->count = vectors_input_rows(file->vectors);
    file->dimension = vectors_input_dimension(file->vectors);
    TRY(read_texts(cli, "keys", rows->count, &file->keys, &rows->keys));
    TRY(read_texts(cli, "metadata", rows->count, &file->metadata, &rows->metadata));
    if (!ids)
        return AKIN_OK;
    TRY(open_ids(cli, ids, &file->ids, &file->ids_open));
    if (file->ids.shape[0] != rows->count)
        return error_set(&cli->error, AKIN_FORMAT, "%s: %zu ids for %zu vectors", ids,
                         file->ids.shape[0], rows->count);
    rows->ids = file->ids.data;
    return AKIN_OK;
}

void rows_file_close(struct rows_file *file)
{
    vectors_input_close(&file->vectors);
    if (file->ids_open)
        npy_close(&file->ids);
    lines_deinit(&file->keys);
    lines_deinit(&file->metadata);
}

/* ---- add, update ------------------------------------------------------------------------- */

static const struct option add_options[] = {
    ROWS_OPTIONS("the next free ones"),
    {"sync-every", 0, OPTION_COUNT, "N", "10000", "rows made durable together", 1, 1e9},
};

struct adding {
    struct cli *cli;
    struct akin_index *index;
    struct rows_file file;
    bool update;
};

/* What is printed was made durable: it is flushed at once, for whoever acts on it. */
static enum akin_status synced(struct adding *a)
{
    size_t rows = 0;
    TRY(akin_index_sync(a->index, &rows, &a->cli->error));
    printf("synced %zu\n", rows);
    fflush(stdout);
    return check_output(a->cli);
}

static enum akin_status add_all(struct adding *a)
{
    struct cli *cli = a->cli;
    const struct akin_index_rows *all = &a->file.rows;
    size_t step = options_count(&cli->options, "sync-every");
    for (size_t at = 0, count; at < all->count; at += count) {
        count = all->count - at < step ? all->count - at : step;
        struct akin_index_rows rows = {
            .ids = all->ids ? all->ids + at : NULL,
            .keys = all->keys ? all->keys + at : NULL,
            .metadata = all->metadata ? all->metadata + at : NULL, .count = count,
        };
        TRY(check_interrupted(cli));
        TRY(vectors_input_next(a->file.vectors, count, &rows.vectors, &count, &cli->error));
        enum akin_status status = a->update ? akin_index_update(a->index, &rows, &cli->error)
                                            : akin_index_add(a->index, &rows, &cli->error);
        if (status != AKIN_OK)
            return error_context(&cli->error, status, "rows %zu to %zu", at, at + count - 1);
        TRY(synced(a));
    }
    return AKIN_OK;
}

static enum akin_status run_adding(struct cli *cli, bool update)
{
    const char *path = cli->options.positionals[0], *input = NULL;
    struct adding a = {.cli = cli, .update = update};
    struct akin_index_info info;
    enum akin_status status = AKIN_OK;
    TRY(need_text(cli, "input", &input));
    if (update && !options_given(&cli->options, "ids") && !options_given(&cli->options, "keys"))
        return wrong_use(cli, "index update needs --ids I.npy or --keys FILE");
    TRY_DONE(rows_file_open(cli, input, &a.file));
    TRY_DONE(cli_engine(cli));
    TRY_DONE(akin_index_open(cli->engine, path, AKIN_INDEX_WRITE, &a.index, &cli->error));
    akin_index_info(a.index, &info);
    if (info.dimension != a.file.dimension)
        TRY_DONE(error_set(&cli->error, AKIN_FORMAT,
                           "%s: vectors of %zu dimensions, the index has %zu", input,
                           a.file.dimension, info.dimension));
    status = add_all(&a);
done:
    akin_index_close(&a.index);
    rows_file_close(&a.file);
    return status;
}

static enum akin_status run_add(struct cli *cli)
{
    return run_adding(cli, false);
}

const struct command command_index_add = {
    .name = "index add",
    .arguments = "X.akx -i FILE[:SET] [options]",
    .summary = "new rows to an index file",
    .details = "Prints 'synced COUNT' when N more rows are durable, COUNT being all that the\n"
               "index then has. Rows whose id or key is there already are refused; 'index\n"
               "update' replaces them.\n",
    .examples = "  akin index add films.akx -i more.npy\n"
                "  akin index add sift.akx -i more.fvecs\n"
                "  akin index add notes.akx -i new.npy --keys paths.txt --sync-every 100\n",
    .options = {add_options, sizeof add_options / sizeof add_options[0]},
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_add,
};

static enum akin_status run_update(struct cli *cli)
{
    return run_adding(cli, true);
}

const struct command command_index_update = {
    .name = "index update",
    .arguments = "X.akx -i FILE[:SET] (--ids I.npy | --keys FILE) [options]",
    .summary = "rows to an index file, replacing those of the same name",
    .details = "Prints 'synced COUNT' as index add does.\n",
    .examples = "  akin index update films.akx -i changed.npy --ids changed_ids.npy\n",
    .options = {add_options, sizeof add_options / sizeof add_options[0]},
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_update,
};

/* ---- delete ------------------------------------------------------------------------------ */

static const struct option delete_options[] = {
    {"ids", 0, OPTION_TEXT, "I.npy", NULL, "int64 ids [rows]", 0, 0},
    {"id", 0, OPTION_TEXT, "ID", NULL, "one id", 0, 0},
    {"keys", 0, OPTION_TEXT, "FILE", NULL, "keys, one on a line", 0, 0},
    {"key", 0, OPTION_TEXT, "KEY", NULL, "one key", 0, 0},
};

static enum akin_status parse_id(struct cli *cli, const char *text, int64_t *id)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < 0)
        return wrong_use(cli, "--id: '%.40s' is not a whole number of 0 or more", text);
    *id = value;
    return AKIN_OK;
}

static enum akin_status delete_named(struct cli *cli, struct akin_index *index, size_t *asked,
                                     size_t *deleted)
{
    const struct options *o = &cli->options;
    const char *ids_path = options_text(o, "ids"), *keys_path = options_text(o, "keys");
    const char *one_id = options_text(o, "id"), *one_key = options_text(o, "key");
    struct npy ids = {0};
    struct text_lines keys = {0};
    bool open = false;
    int64_t id = 0;
    enum akin_status status = AKIN_OK;
    *asked = 1;
    if (one_id) {
        TRY_DONE(parse_id(cli, one_id, &id));
        status = akin_index_delete(index, &id, 1, deleted, &cli->error);
    } else if (one_key) {
        status = akin_index_delete_keys(index, &one_key, 1, deleted, &cli->error);
    } else if (ids_path) {
        TRY_DONE(open_ids(cli, ids_path, &ids, &open));
        *asked = ids.shape[0];
        status = akin_index_delete(index, ids.data, *asked, deleted, &cli->error);
    } else {
        TRY_DONE(read_lines(cli, keys_path, &keys));
        *asked = keys.count;
        status = akin_index_delete_keys(index, keys.items, *asked, deleted, &cli->error);
    }
done:
    if (open)
        npy_close(&ids);
    lines_deinit(&keys);
    return status;
}

static enum akin_status run_delete(struct cli *cli)
{
    const char *path = cli->options.positionals[0];
    const struct options *o = &cli->options;
    struct akin_index *index = NULL;
    size_t asked = 0, deleted = 0, rows = 0;
    enum akin_status status = AKIN_OK;
    int given = options_given(o, "ids") + options_given(o, "id") + options_given(o, "keys") +
                options_given(o, "key");
    if (given != 1)
        return wrong_use(cli, "index delete needs one of --ids, --id, --keys, --key");
    TRY(cli_engine(cli));
    TRY(akin_index_open(cli->engine, path, AKIN_INDEX_WRITE, &index, &cli->error));
    TRY_DONE(delete_named(cli, index, &asked, &deleted));
    TRY_DONE(akin_index_sync(index, &rows, &cli->error));
    if (cli->json)
        status = print_json(cli, json_pack("{s:o, s:o, s:o, s:o}", "index", json_of_text(path),
                                           "deleted", json_of_count(deleted), "missing",
                                           json_of_count(asked - deleted), "count",
                                           json_of_count(rows)));
    else
        printf("deleted %zu of %zu; %zu are left\n", deleted, asked, rows);
done:
    akin_index_close(&index);
    return status;
}

const struct command command_index_delete = {
    .name = "index delete",
    .arguments = "X.akx (--ids I.npy | --id ID | --keys FILE | --key KEY)",
    .summary = "rows out of an index file, durably",
    .details = "Names that are not there are counted, and no failure.\n",
    .examples = "  akin index delete films.akx --id 42\n"
                "  akin index delete notes.akx --keys gone.txt\n",
    .options = {delete_options, sizeof delete_options / sizeof delete_options[0]},
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_delete,
};
