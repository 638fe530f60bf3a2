/* Counting, composing, and writing a catalogue. */
#include "catalog/import.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/npy.h"
#include "catalog/title.h"

enum { STEPS_PER_UPDATE = 4096 };

void import_problem(struct import *import, uint64_t *counter, const char *file, uint64_t line,
                    const char *format, ...)
{
    ++*counter;
    char *text = import->report.first_problem;
    size_t bytes = sizeof import->report.first_problem;
    if (text[0])
        return;
    int used = snprintf(text, bytes, "%.200s:%llu: ", path_last(file), (unsigned long long)line);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, bytes - (size_t)used, format, arguments);
    va_end(arguments);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
}

enum akin_status import_step(struct import *import, const char *stage, uint64_t done,
                             uint64_t total, struct akin_error *error)
{
    if (import->steps++ % STEPS_PER_UPDATE == 0 && import->progress.update &&
        !import->progress.update(import->progress.cookie, stage, done, total))
        return error_set(error, AKIN_CANCELLED, "the import was stopped; nothing was changed");
    return AKIN_OK;
}

/* ---- items ------------------------------------------------------------------------------ */

static void append_list(struct bytes *out, const char *name, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bytes_append_text(out, i ? ", " : name);
        bytes_append_text(out, words[i]);
    }
    if (count)
        bytes_append(out, ".", 1);
}

void import_compose_text(struct bytes *out, const struct import_item *item)
{
    bytes_append_text(out, item->title);
    if (item->year && !title_year(item->title, strlen(item->title)))
        bytes_printf(out, " (%d)", item->year);
    bytes_append(out, ".", 1);
    append_list(out, " Genres: ", item->genres, item->genre_count);
    append_list(out, " Themes: ", item->themes, item->theme_count);
}

static void append_field(struct bytes *out, const char *name, const char *value)
{
    bytes_append_text(out, name);
    json_append_string(out, value, strlen(value));
}

static void append_array(struct bytes *out, const char *name, const char *const *words,
                         size_t count)
{
    bytes_append_text(out, name);
    for (size_t i = 0; i < count; i++)
        append_field(out, i ? ", " : "", words[i]);
    bytes_append(out, "]", 1);
}

void import_append_item(struct bytes *out, const struct import_item *item, const char *text)
{
    append_field(out, "{\"media_id\": ", item->id);
    append_field(out, ", \"title\": ", item->title);
    if (item->year)
        bytes_printf(out, ", \"year\": %d", item->year);
    else
        bytes_append_text(out, ", \"year\": null");
    append_array(out, ", \"genres\": [", item->genres, item->genre_count);
    append_array(out, ", \"themes\": [", item->themes, item->theme_count);
    if (text)
        append_field(out, ", \"text\": ", text);
    bytes_append_text(out, "}\n");
}

uint64_t import_fingerprint(uint64_t so_far, const void *bytes, size_t count)
{
    return hash_bytes_seed(bytes, count, so_far);
}

/* ---- output ----------------------------------------------------------------------------- */

static enum akin_status open_writer(struct import_output *output, const char *name,
                                    struct file_writer **writer, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(path_join(path, sizeof path, output->folder, name, error));
    return file_writer_open(path, writer, error);
}

enum akin_status import_output_open(struct import_output *output, const char *folder, bool films,
                                    struct akin_error *error)
{
    *output = (struct import_output){ .films = films, .rating_max = 1 };
    if (strlen(folder) >= sizeof output->folder)
        return error_set(error, AKIN_LIMIT, "%.200s...: the path is too long", folder);
    snprintf(output->folder, sizeof output->folder, "%s", folder);
    TRY(path_make_folders(folder, error));
    TRY(open_writer(output, films ? "movies.jsonl" : "items.jsonl", &output->items, error));
    TRY(open_writer(output, "ratings.npy", &output->ratings, error));
    TRY(open_writer(output, "catalog.json", &output->description, error));
    return films ? AKIN_OK : open_writer(output, "user_names.json", &output->names, error);
}

enum akin_status import_output_item(struct import_output *output, struct import *import,
                                    const struct import_item *item, struct akin_error *error)
{
    bytes_clear(&output->line);
    bytes_clear(&output->text);
    if (item->text)
        bytes_append_text(&output->text, item->text);
    else
        import_compose_text(&output->text, item);
    if (output->text.failed)
        return error_memory(error);
    import_append_item(&output->line, item, output->text.data);
    if (output->line.failed)
        return error_memory(error);
    import->report.items++;
    import->report.items_with_year += item->year != 0;
    import->report.items_with_genres += item->genre_count != 0;
    import->report.items_with_themes += item->theme_count != 0;
    output->items_fingerprint = import_fingerprint(output->items_fingerprint, output->line.data,
                                                   output->line.count - 1);
    return file_writer_write(output->items, output->line.data, output->line.count, error);
}

enum akin_status import_output_ratings(struct import_output *output, struct import *import,
                                       const struct rating_table *ratings, struct akin_error *error)
{
    enum { BLOCK = 1 << 16 };
    struct akin_import_report *report = &import->report;
    report->ratings = ratings->count;
    report->users = ratings->users;
    TRY(npy_write_header(output->ratings, CATALOG_RATINGS_DESCR, 1, &ratings->count, error));
    for (size_t begin = 0; begin < ratings->count; begin += BLOCK) {
        size_t count = ratings->count - begin < BLOCK ? ratings->count - begin : BLOCK;
        const struct rating_record *block = ratings->records + begin;
        for (size_t i = 0; i < count; i++) {
            int64_t timestamp = block[i].timestamp;
            if (begin + i == 0 || timestamp < report->first_rating)
                report->first_rating = timestamp;
            if (begin + i == 0 || timestamp > report->last_rating)
                report->last_rating = timestamp;
        }
        output->ratings_fingerprint =
            import_fingerprint(output->ratings_fingerprint, block, count * sizeof *block);
        TRY(file_writer_write(output->ratings, block, count * sizeof *block, error));
    }
    return AKIN_OK;
}

/* Whether the embeddings in the folder were made from what this import writes. */
static bool embeddings_belong(const struct import_output *output)
{
    char path[PATH_BYTES_MAX], expected[2][17];
    json_t *root = NULL;
    if (path_join(path, sizeof path, output->folder, CATALOG_EMBEDDINGS "/model.json", NULL) ||
        json_read(path, JSON_FILE_BYTES_MAX, &root, NULL))
        return false;
    const char *items = json_string_value(json_object_get(root, "items_fingerprint"));
    const char *ratings = json_string_value(json_object_get(root, "ratings_fingerprint"));
    snprintf(expected[0], 17, "%016llx", (unsigned long long)output->items_fingerprint);
    snprintf(expected[1], 17, "%016llx", (unsigned long long)output->ratings_fingerprint);
    bool belong = items && ratings && !strcmp(items, expected[0]) && !strcmp(ratings, expected[1]);
    json_decref(root);
    return belong;
}

static enum akin_status remove_named(const struct import_output *output, const char *name,
                                     struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(path_join(path, sizeof path, output->folder, name, error));
    return path_remove_tree(path, error);
}

static enum akin_status write_description(struct import_output *output, const struct import *import,
                                          struct akin_error *error)
{
    const struct akin_import_report *r = &import->report;
    char rating_max[32];
    snprintf(rating_max, sizeof rating_max, "%.17g", output->rating_max);
    for (char *c = rating_max; (c = strchr(c, ',')); )  /* whatever the program's locale is */
        *c = '.';
    bytes_clear(&output->line);
    bytes_printf(&output->line,
                 "{\"format\": 1, \"items_file\": \"%s\", \"rating_max\": %s,\n"
                 " \"items\": %llu, \"ratings\": %llu, \"users\": %llu, \"tags\": %llu, "
                 "\"items_with_genome\": %llu,\n"
                 " \"items_fingerprint\": \"%016llx\", \"ratings_fingerprint\": \"%016llx\"}\n",
                 output->films ? "movies.jsonl" : "items.jsonl", rating_max,
                 (unsigned long long)r->items, (unsigned long long)r->ratings,
                 (unsigned long long)r->users, (unsigned long long)r->tags,
                 (unsigned long long)r->items_with_genome,
                 (unsigned long long)output->items_fingerprint,
                 (unsigned long long)output->ratings_fingerprint);
    if (output->line.failed)
        return error_memory(error);
    return file_writer_write(output->description, output->line.data, output->line.count, error);
}

/* A full disk shows here, before anything has been replaced. */
static enum akin_status flush_all(struct import_output *output, struct akin_error *error)
{
    struct file_writer *writers[] = { output->items, output->ratings, output->description,
                                      output->names };
    for (size_t i = 0; i < sizeof writers / sizeof *writers; i++)
        if (writers[i])
            TRY(file_writer_patch(writers[i], 0, "", 0, error));
    return AKIN_OK;
}

enum akin_status import_output_commit(struct import_output *output, const struct import *import,
                                      struct akin_error *error)
{
    bool keep = embeddings_belong(output);
    TRY(write_description(output, import, error));
    TRY(flush_all(output, error));
    TRY(file_writer_commit(&output->ratings, error));
    if (output->names)
        TRY(file_writer_commit(&output->names, error));
    TRY(file_writer_commit(&output->items, error));
    TRY(file_writer_commit(&output->description, error));
    TRY(remove_named(output, output->films ? "items.jsonl" : "movies.jsonl", error));
    if (output->films)
        TRY(remove_named(output, "user_names.json", error));
    return keep ? AKIN_OK : remove_named(output, CATALOG_EMBEDDINGS, error);
}

void import_output_abort(struct import_output *output)
{
    file_writer_abort(&output->items);
    file_writer_abort(&output->ratings);
    file_writer_abort(&output->names);
    file_writer_abort(&output->description);
    bytes_deinit(&output->line);
    bytes_deinit(&output->text);
}
