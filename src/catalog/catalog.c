/* Opening, closing, and the answers. */
#include "catalog/catalog.h"

#include <stdio.h>
#include <string.h>

#include "catalog/catalog_internal.h"

enum akin_status catalog_open(const char *folder, enum catalog_parts parts,
                              struct catalog **catalog, struct akin_error *error)
{
    if (strlen(folder) >= PATH_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "%.200s...: the path is too long", folder);
    struct catalog *c = memory_alloc(1, sizeof *c);
    if (!c)
        return error_memory(error);
    snprintf(c->folder, sizeof c->folder, "%s", folder);
    enum akin_status status = catalog_load_items(c, error);
    if (status == AKIN_OK)
        status = catalog_load_ratings(c, error);
    if (status == AKIN_OK && parts == CATALOG_ALL)
        status = catalog_load_embeddings(c, error);
    if (status != AKIN_OK) {
        catalog_close(&c);
        return status;
    }
    string_map_deinit(&c->words);   /* only loading needs it */
    *catalog = c;
    return AKIN_OK;
}

void catalog_close(struct catalog **catalog)
{
    struct catalog *c = *catalog;
    if (!c)
        return;
    npy_close(&c->item_vectors);
    npy_close(&c->user_vectors);
    string_map_deinit(&c->words);
    string_map_deinit(&c->ids);
    string_map_deinit(&c->user_numbers);
    title_index_deinit(&c->titles);
    memory_free(c->entries);
    memory_free(c->ratings_of);
    memory_free(c->ratings);
    memory_free(c->users);
    string_pool_deinit(&c->pool);
    memory_free(c);
    *catalog = NULL;
}

void catalog_info(const struct catalog *c, struct akin_catalog_info *info)
{
    *info = (struct akin_catalog_info){
        .items = c->count, .users = c->user_count, .ratings = c->rating_count, .dimension = c->dim,
        .users_with_vector = c->users_with_vector, .first_rating = c->first_rating,
        .last_rating = c->last_rating, .films = c->films,
    };
    snprintf(info->model, sizeof info->model, "%s", c->model);
    snprintf(info->precision, sizeof info->precision, "%s", c->precision);
    for (size_t row = 0; row < c->count; row++) {
        const struct catalog_entry *entry = &c->entries[row];
        info->items_with_genres += entry->genre_count != 0;
        info->items_with_themes += entry->theme_count != 0;
        if (entry->year == 0)
            continue;
        info->items_with_year++;
        if (info->year_min == 0 || entry->year < info->year_min)
            info->year_min = entry->year;
        if (entry->year > info->year_max)
            info->year_max = entry->year;
    }
}

/* ---- items ------------------------------------------------------------------------------ */

void catalog_item(const struct catalog *c, size_t row, struct akin_item *item)
{
    ASSERT(row < c->count);
    const struct catalog_entry *entry = &c->entries[row];
    *item = (struct akin_item){
        .id = entry->id, .title = entry->title, .year = entry->year, .genres = entry->words,
        .genre_count = entry->genre_count, .themes = entry->words + entry->genre_count,
        .theme_count = entry->theme_count, .text = entry->text,
    };
}

void catalog_texts(const struct catalog *c, struct akin_text *texts)
{
    for (size_t row = 0; row < c->count; row++)
        texts[row] = (struct akin_text){ c->entries[row].text, strlen(c->entries[row].text) };
}

size_t catalog_item_count(const struct catalog *c)
{
    return c->count;
}

size_t catalog_item_ratings(const struct catalog *c, size_t row)
{
    ASSERT(row < c->count);
    return c->ratings_of[row];
}

double catalog_rating_max(const struct catalog *c)
{
    return c->rating_max;
}

const char *catalog_folder(const struct catalog *c)
{
    return c->folder;
}

void catalog_fingerprints(const struct catalog *c, uint64_t *items, uint64_t *ratings)
{
    *items = c->items_fingerprint;
    *ratings = c->ratings_fingerprint;
}

enum akin_status catalog_find_id(const struct catalog *c, const char *id, size_t *row,
                                 struct akin_error *error)
{
    uint64_t found;
    if (!string_map_get(&c->ids, id, strlen(id), &found))
        return error_set(error, AKIN_NOT_FOUND, "no item has the id \"%.200s\"", id);
    *row = (size_t)found;
    return AKIN_OK;
}

/* Bytes of `text` that fit in `max` without cutting a character. */
static int whole_bytes(const char *text, size_t max)
{
    size_t length = strlen(text);
    if (length <= max)
        return (int)length;
    while (max && ((unsigned char)text[max] & 0xc0) == 0x80)
        max--;
    return (int)max;
}

static enum akin_status not_found(const struct catalog *c, const char *title,
                                  struct akin_error *error)
{
    uint32_t rows[TITLE_NEAREST];
    char near[800] = "";
    size_t used = 0, count = title_index_nearest(&c->titles, c->ratings_of, title, rows);
    for (size_t i = 0; i < count; i++) {
        const char *name = c->entries[rows[i]].title;
        used += (size_t)snprintf(near + used, sizeof near - used, "%s\"%.*s\"",
                                 i ? ", " : "; nearest: ", whole_bytes(name, 120), name);
    }
    return error_set(error, AKIN_NOT_FOUND, "no item is called \"%.*s\"%s", whole_bytes(title, 120),
                     title, near);
}

enum akin_status catalog_find(const struct catalog *c, const char *title, size_t *row,
                              struct akin_error *error)
{
    uint32_t found;
    enum akin_status status;
    if (title[strspn(title, " \t\r\n")] == 0)
        return error_set(error, AKIN_ARGUMENT, "the title is empty");
    if (catalog_find_id(c, title, row, NULL) == AKIN_OK)
        return AKIN_OK;
    if (title_index_find(&c->titles, c->ratings_of, title, &found, error, &status)) {
        *row = found;
        return AKIN_OK;
    }
    return status == AKIN_OK ? not_found(c, title, error) : status;
}

/* ---- users ------------------------------------------------------------------------------ */

enum akin_status catalog_find_user(const struct catalog *c, const char *id, size_t *user,
                                   struct akin_error *error)
{
    uint64_t found;
    if (!string_map_get(&c->user_numbers, id, strlen(id), &found))
        return error_set(error, AKIN_NOT_FOUND, "there is no user \"%.200s\" among the %zu of the "
                         "catalogue", id, c->user_count);
    *user = (size_t)found;
    return AKIN_OK;
}

const char *catalog_user_id(const struct catalog *c, size_t user)
{
    ASSERT(user < c->user_count);
    return c->users[user].id;
}

const struct akin_rating *catalog_user_ratings(const struct catalog *c, size_t user, size_t *count)
{
    ASSERT(user < c->user_count);
    *count = c->users[user].count;
    return c->ratings + c->users[user].first;
}

/* ---- vectors ---------------------------------------------------------------------------- */

const float *catalog_item_vectors(const struct catalog *c)
{
    return c->embedded ? c->item_vectors.data : NULL;
}

const float *catalog_item_vector(const struct catalog *c, size_t row)
{
    ASSERT(row < c->count);
    return c->embedded ? (const float *)c->item_vectors.data + row * c->dim : NULL;
}

const float *catalog_user_vector(const struct catalog *c, size_t user)
{
    ASSERT(user < c->user_count);
    return user < c->users_with_vector ? (const float *)c->user_vectors.data + user * c->dim : NULL;
}

bool catalog_embeddings_current(const struct catalog *c, const char *model, const char *precision)
{
    bool made_alike = !strcmp(c->model, model) &&
                      (!*c->precision || !strcmp(c->precision, precision));
    return c->embedded && made_alike && c->embedded_items == c->items_fingerprint &&
           c->embedded_ratings == c->ratings_fingerprint && c->user_vectors.data;
}

void catalog_memory(const struct catalog *c, struct catalog_memory *memory)
{
    *memory = (struct catalog_memory){
        .item_vectors = c->item_vectors.data_bytes,
        .user_vectors = c->user_vectors.data_bytes,
        .metadata =
            c->pool.bytes + c->capacity * sizeof *c->entries + title_index_bytes(&c->titles) +
            (c->ids.capacity + c->user_numbers.capacity) * 32 + c->user_capacity * sizeof *c->users,
        .ratings = c->rating_count * sizeof *c->ratings + c->count * sizeof *c->ratings_of,
    };
}
