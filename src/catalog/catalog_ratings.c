/* ratings.npy into per-user spans that name item rows, and user vectors' order over them. */
#include <stdio.h>
#include <string.h>

#include "base/csv.h"
#include "base/json.h"
#include "catalog/catalog_internal.h"
#include "catalog/import.h"

/* Published item number to row: "ml_<number>" ids of films; other catalogues use row numbers. */
static enum akin_status map_items(const struct catalog *c, struct number_map *rows,
                                  struct akin_error *error)
{
    for (size_t row = 0; c->films && row < c->count; row++) {
        const char *id = c->entries[row].id;
        uint64_t number;
        if (strncmp(id, "ml_", 3) || !parse_uint64(id + 3, strlen(id) - 3, &number))
            continue;
        if (!number_map_put(rows, number, row, NULL, NULL))
            return error_memory(error);
    }
    return AKIN_OK;
}

static bool row_of(const struct catalog *c, const struct number_map *rows, uint32_t item,
                   uint32_t *row)
{
    uint64_t found = item;
    if (c->films ? !number_map_get(rows, item, &found) : item >= c->count)
        return false;
    *row = (uint32_t)found;
    return true;
}

/* A user whose ratings begin at `first`. */
static enum akin_status add_user(struct catalog *c, uint32_t number, const char **names,
                                 size_t name_count, size_t first, struct akin_error *error)
{
    char digits[16];
    const char *id;
    bool added;
    if (names && number >= name_count)
        return error_set(error, AKIN_FORMAT, "%.500s/ratings.npy: row %zu: user %u is not in "
                         "user_names.json", c->folder, first, number);
    if (names) {
        id = names[number];
    } else {
        int length = snprintf(digits, sizeof digits, "%u", number);
        id = string_pool_add(&c->pool, digits, (size_t)length);
    }
    if (!id || !array_reserve((void **)&c->users, &c->user_capacity, c->user_count + 1,
                              sizeof *c->users) ||
        !string_map_put(&c->user_numbers, id, strlen(id), c->user_count, NULL, &added))
        return error_memory(error);
    if (!added)
        return error_set(error, AKIN_FORMAT, "%.500s/ratings.npy: row %zu: the ratings of user "
                         "\"%.100s\" do not stand together", c->folder, first, id);
    c->users[c->user_count++] = (struct catalog_user){ .id = id, .first = first };
    return AKIN_OK;
}

static enum akin_status take_ratings(struct catalog *c, const struct rating_record *records,
                                     const char **names, size_t name_count,
                                     struct akin_error *error)
{
    enum { BLOCK = 1 << 16 };
    struct number_map rows = { 0 };
    enum akin_status status = map_items(c, &rows, error);
    double largest = 0;
    for (size_t i = 0; status == AKIN_OK && i < c->rating_count; i++) {
        struct rating_record record = records[i];
        struct akin_rating *rating = &c->ratings[i];
        if (i % BLOCK == 0) {
            size_t count = c->rating_count - i < BLOCK ? c->rating_count - i : BLOCK;
            c->ratings_fingerprint = import_fingerprint(c->ratings_fingerprint, records + i,
                                                        count * sizeof *records);
        }
        *rating = (struct akin_rating){ .rating = record.rating, .timestamp = record.timestamp };
        if (!row_of(c, &rows, record.item, &rating->row)) {
            status = error_set(error, AKIN_FORMAT,
                               "%.500s/ratings.npy: row %zu: there is no item %u; "
                               "import the data again",
                               c->folder, i, record.item);
            break;
        }
        if (i == 0 || records[i - 1].user != record.user)
            status = add_user(c, record.user, names, name_count, i, error);
        if (status == AKIN_OK)
            c->users[c->user_count - 1].count++;
        c->ratings_of[rating->row]++;
        largest = record.rating > largest ? record.rating : largest;
        c->first_rating =
            i == 0 || record.timestamp < c->first_rating ? record.timestamp : c->first_rating;
        c->last_rating =
            i == 0 || record.timestamp > c->last_rating ? record.timestamp : c->last_rating;
    }
    number_map_deinit(&rows);
    if (!(c->rating_max > 0))
        c->rating_max = largest > 0 ? largest : 1;
    return status;
}

enum akin_status catalog_load_ratings(struct catalog *c, struct akin_error *error)
{
    char path[PATH_BYTES_MAX], names_path[PATH_BYTES_MAX];
    const char **names = NULL;
    size_t name_count = 0;
    struct npy npy;
    TRY(path_join(path, sizeof path, c->folder, "ratings.npy", error));
    TRY(path_join(names_path, sizeof names_path, c->folder, "user_names.json", error));
    if (!path_exists(path)) {
        c->rating_max = c->rating_max > 0 ? c->rating_max : 1;
        return AKIN_OK;
    }
    if (!c->films && path_exists(names_path))
        TRY(catalog_read_strings(c, names_path, &names, &name_count, error));
    TRY(npy_open(path, &npy, error));
    enum akin_status status = AKIN_OK;
    if (strcmp(npy.descr, CATALOG_RATINGS_DESCR) || npy.dims != 1)
        TRY_DONE(error_set(error, AKIN_FORMAT,
                           "%s: expected one dimension of type %s, found %zu of %s", path,
                           CATALOG_RATINGS_DESCR, npy.dims, npy.descr));
    c->rating_count = npy.shape[0];
    c->ratings = memory_resize(NULL, c->rating_count + 1, sizeof *c->ratings);
    if (!c->ratings)
        TRY_DONE(error_memory(error));
    status = take_ratings(c, npy.data, names, name_count, error);
done:
    npy_close(&npy);
    return status;
}
