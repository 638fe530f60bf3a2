/* catalog.json and the items file. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "catalog/catalog_internal.h"
#include "catalog/import.h"

static enum akin_status join(const struct catalog *c, const char *name, char *path,
                             struct akin_error *error)
{
    return path_join(path, PATH_BYTES_MAX, c->folder, name, error);
}

/* Which items file, and the scale of the ratings. A folder without catalog.json is read as well. */
static enum akin_status read_description(struct catalog *c, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    const char *items = NULL;
    json_t *root;
    TRY(join(c, "catalog.json", path, error));
    if (!path_exists(path)) {
        TRY(join(c, "movies.jsonl", path, error));
        c->films = path_exists(path);
        c->rating_max = c->films ? 5 : 0;
        return AKIN_OK;
    }
    TRY(json_read(path, JSON_FILE_BYTES_MAX, &root, error));
    enum akin_status status = json_get_string(root, "items_file", path, &items, error);
    if (status == AKIN_OK)
        status = json_opt_number(root, "rating_max", path, &c->rating_max, error);
    if (status == AKIN_OK && strcmp(items, "movies.jsonl") && strcmp(items, "items.jsonl"))
        status = error_set(error, AKIN_FORMAT,
                           "%s: items_file: expected movies.jsonl or items.jsonl", path);
    c->films = status == AKIN_OK && !strcmp(items, "movies.jsonl");
    json_decref(root);
    return status;
}

/* ---- items ------------------------------------------------------------------------------ */

static const char *intern(struct catalog *c, const char *word)
{
    uint64_t known;
    size_t length = strlen(word);
    if (string_map_get(&c->words, word, length, &known))
        return (const char *)(uintptr_t)known;
    const char *copy = string_pool_add(&c->pool, word, length);
    return copy && string_map_put(&c->words, copy, length, (uintptr_t)copy, NULL, NULL) ? copy
                                                                                        : NULL;
}

/* An array of strings; absent or null is an empty one. */
static enum akin_status check_words(const json_t *object, const char *key, const char *where,
                                    const json_t **array, size_t *count, struct akin_error *error)
{
    const json_t *value = json_object_get(object, key);
    *array = value;
    *count = json_array_size(value);
    if (!value || json_is_null(value))
        return AKIN_OK;
    if (!json_is_array(value))
        return error_set(error, AKIN_FORMAT, "%s: %s: expected an array of strings, found %s",
                         where, key, json_type_name(value));
    for (size_t i = 0; i < *count; i++)
        if (!json_is_string(json_array_get(value, i)))
            return error_set(error, AKIN_FORMAT,
                             "%s: %s: expected an array of strings, found %s in it", where, key,
                             json_type_name(json_array_get(value, i)));
    if (*count > UINT16_MAX)
        return error_set(error, AKIN_LIMIT, "%s: %s: more than %d of them", where, key, UINT16_MAX);
    return AKIN_OK;
}

static enum akin_status set_words(struct catalog *c, struct catalog_entry *entry,
                                  const json_t *genres, const json_t *themes,
                                  struct akin_error *error)
{
    size_t count = (size_t)entry->genre_count + entry->theme_count;
    const char **words = string_pool_alloc(&c->pool, (count + 1) * sizeof *words);
    if (!words)
        return error_memory(error);
    for (size_t i = 0; i < count; i++) {
        const json_t *word = i < entry->genre_count
                                 ? json_array_get(genres, i)
                                 : json_array_get(themes, i - entry->genre_count);
        words[i] = intern(c, json_string_value(word));
        if (!words[i])
            return error_memory(error);
    }
    entry->words = words;
    return AKIN_OK;
}

static enum akin_status add_item(struct catalog *c, const json_t *object, const char *where,
                                 struct akin_error *error)
{
    const char *id, *title, *text;
    const json_t *genres, *themes;
    size_t genre_count, theme_count;
    int64_t year = 0;
    bool added;
    struct catalog_entry entry = { 0 };
    TRY(json_get_string(object, "media_id", where, &id, error));
    TRY(json_get_string(object, "title", where, &title, error));
    TRY(json_get_string(object, "text", where, &text, error));
    TRY(json_opt_integer(object, "year", where, &year, error));
    TRY(check_words(object, "genres", where, &genres, &genre_count, error));
    TRY(check_words(object, "themes", where, &themes, &theme_count, error));
    if (year < 0 || year > 9999)
        return error_set(error, AKIN_FORMAT, "%s: year: %lld is not a year", where,
                         (long long)year);
    if (c->count == UINT32_MAX)
        return error_set(error, AKIN_LIMIT, "%s: more than %u items", where, UINT32_MAX);
    entry.id = string_pool_add(&c->pool, id, strlen(id));
    entry.title = string_pool_add(&c->pool, title, strlen(title));
    entry.text = string_pool_add(&c->pool, text, strlen(text));
    entry.year = (int32_t)year;
    entry.genre_count = (uint16_t)genre_count;
    entry.theme_count = (uint16_t)theme_count;
    if (!entry.id || !entry.title || !entry.text ||
        !array_reserve((void **)&c->entries, &c->capacity, c->count + 1, sizeof *c->entries) ||
        !string_map_put(&c->ids, entry.id, strlen(entry.id), c->count, NULL, &added))
        return error_memory(error);
    if (!added)
        return error_set(error, AKIN_FORMAT, "%s: media_id: \"%.100s\" is there already", where,
                         id);
    TRY(set_words(c, &entry, genres, themes, error));
    TRY(title_index_add(&c->titles, (uint32_t)c->count, entry.title, entry.year, error));
    c->entries[c->count++] = entry;
    return AKIN_OK;
}

static enum akin_status read_items(struct catalog *c, const char *path, struct line_reader *reader,
                                   struct akin_error *error)
{
    const char *line;
    size_t bytes;
    char where[PATH_BYTES_MAX + 24];
    for (;;) {
        json_t *root;
        TRY(line_reader_next(reader, &line, &bytes, error));
        if (!line)
            break;
        c->items_fingerprint = import_fingerprint(c->items_fingerprint, line, bytes);
        if (bytes == 0)
            continue;
        snprintf(where, sizeof where, "%s:%llu", path,
                 (unsigned long long)line_reader_number(reader));
        TRY(json_parse(line, bytes, where, &root, error));
        enum akin_status status = add_item(c, root, where, error);
        json_decref(root);
        if (status != AKIN_OK)
            return status;
    }
    if (c->count == 0)
        return error_set(error, AKIN_FORMAT, "%s: there is no item in it; import the data again",
                         path);
    return AKIN_OK;
}

enum akin_status catalog_load_items(struct catalog *c, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct line_reader *reader = NULL;
    TRY(read_description(c, error));
    TRY(join(c, c->films ? "movies.jsonl" : "items.jsonl", path, error));
    if (!path_exists(path))
        return error_set(error, AKIN_NOT_FOUND, "%.500s: no catalogue here; make one with "
                         "\"akin data import\"", c->folder);
    TRY(line_reader_open(path, &reader, error));
    enum akin_status status = read_items(c, path, reader, error);
    line_reader_close(&reader);
    TRY(status);
    title_index_sort(&c->titles);
    c->ratings_of = memory_alloc(c->count, sizeof *c->ratings_of);
    return c->ratings_of ? AKIN_OK : error_memory(error);
}

enum akin_status catalog_read_strings(struct catalog *c, const char *path, const char ***strings,
                                      size_t *count, struct akin_error *error)
{
    json_t *root;
    enum akin_status status = AKIN_OK;
    *strings = NULL;
    *count = 0;
    TRY(json_read(path, JSON_FILE_BYTES_MAX, &root, error));
    if (!json_is_array(root)) {
        status = error_set(error, AKIN_FORMAT, "%s: expected a list of strings, found %s", path,
                           json_type_name(root));
        goto done;
    }
    *count = json_array_size(root);
    *strings = string_pool_alloc(&c->pool, (*count + 1) * sizeof **strings);
    if (!*strings)
        TRY_DONE(error_memory(error));
    for (size_t i = 0; i < *count; i++) {
        const json_t *value = json_array_get(root, i);
        if (!json_is_string(value))
            TRY_DONE(error_set(error, AKIN_FORMAT, "%s: entry %zu: expected a string, found %s",
                               path, i + 1, json_type_name(value)));
        (*strings)[i] =
            string_pool_add(&c->pool, json_string_value(value), json_string_length(value));
        if (!(*strings)[i])
            TRY_DONE(error_memory(error));
    }
done:
    json_decref(root);
    return status;
}
