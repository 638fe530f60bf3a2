/* See context.h. */
#include "recommend/context.h"

#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "catalog/catalog.h"

static enum akin_status wrong(struct akin_error *error, const char *field, const char *expected,
                              const json_t *found)
{
    if (json_is_number(found))
        return error_set(error, AKIN_ARGUMENT, "context: %s: expected %s, found %g", field,
                         expected, json_number_value(found));
    return error_set(error, AKIN_ARGUMENT, "context: %s: expected %s, found %s", field, expected,
                     json_type_name(found));
}

static enum akin_status read_share(const json_t *value, const char *field, float *out,
                                   struct akin_error *error)
{
    double number = json_is_number(value) ? json_number_value(value) : -1;
    if (!(number >= 0 && number <= 1))
        return wrong(error, field, "a number from 0 to 1", value);
    *out = (float)number;
    return AKIN_OK;
}

static enum akin_status read_shares(const json_t *array, const char *name, float *out,
                                    size_t count, struct akin_error *error)
{
    char field[64];
    if (!json_is_array(array))
        return error_set(error, AKIN_ARGUMENT, "context: %s: expected %zu numbers, found %s", name,
                         count, json_type_name(array));
    if (json_array_size(array) != count)
        return error_set(error, AKIN_ARGUMENT, "context: %s: expected %zu numbers, found %zu",
                         name, count, json_array_size(array));
    for (size_t i = 0; i < count; i++) {
        snprintf(field, sizeof field, "%s[%zu]", name, i);
        TRY(read_share(json_array_get(array, i), field, &out[i], error));
    }
    return AKIN_OK;
}

static enum akin_status read_genres(json_t *object, struct context *c, struct akin_error *error)
{
    static const char *const three[] = { "Action", "Drama", "Comedy" };
    const char *name;
    json_t *value;
    if (json_is_array(object)) {
        c->genre_count = 3;
        for (size_t i = 0; i < 3; i++)
            snprintf(c->genres[i], sizeof c->genres[i], "%s", three[i]);
        return read_shares(object, "genre_prefs", c->wanted, 3, error);
    }
    if (!json_is_object(object))
        return wrong(error, "genre_prefs", "an object of genres or three numbers", object);
    c->named = true;
    json_object_foreach(object, name, value) {
        char field[32 + CONTEXT_GENRE_BYTES];
        if (c->genre_count == CONTEXT_GENRES_MAX || *name == 0 ||
            strlen(name) >= CONTEXT_GENRE_BYTES)
            return error_set(error, AKIN_ARGUMENT, "context: genre_prefs: at most %d genres of 1 "
                             "to %d bytes", CONTEXT_GENRES_MAX, CONTEXT_GENRE_BYTES - 1);
        snprintf(field, sizeof field, "genre_prefs: %s", name);
        snprintf(c->genres[c->genre_count], CONTEXT_GENRE_BYTES, "%s", name);
        TRY(read_share(value, field, &c->wanted[c->genre_count], error));
        c->genre_count++;
    }
    return AKIN_OK;
}

static enum akin_status read_field(const char *name, json_t *value, struct context *c,
                                   struct akin_error *error)
{
    if (!strcmp(name, "time_of_day")) {
        c->has_time = true;
        return read_shares(value, name, c->time_of_day, 3, error);
    }
    if (!strcmp(name, "social_signal")) {
        c->has_social = true;
        return read_shares(value, name, c->social_signal, 2, error);
    }
    if (!strcmp(name, "genre_prefs")) {
        c->has_genres = true;
        return read_genres(value, c, error);
    }
    return error_set(error, AKIN_ARGUMENT, "context: %.60s: there is no such field; there are "
                     "time_of_day, genre_prefs and social_signal", name);
}

static enum akin_status parse(const char *text, struct context *c, struct akin_error *error)
{
    const char *name;
    json_t *root, *value;
    struct akin_error why = { 0 };
    enum akin_status status = AKIN_OK;
    if (json_parse(text, strlen(text), "context", &root, &why) != AKIN_OK)
        return error_set(error, AKIN_ARGUMENT, "%s", why.message);
    if (!json_is_object(root))
        status = error_set(error, AKIN_ARGUMENT, "context: expected an object, found %s",
                           json_type_name(root));
    else
        json_object_foreach(root, name, value)
            if (status == AKIN_OK)
                status = read_field(name, value, c, error);
    json_decref(root);
    return status;
}

enum akin_status context_parse(const char *text, struct context *context,
                               struct akin_error *error)
{
    struct context c = { 0 };
    if (text)
        TRY(parse(text, &c, error));
    *context = c;
    return AKIN_OK;
}

static bool has_genre(const struct akin_item *item, const char *genre)
{
    bool has = false;
    for (size_t g = 0; g < item->genre_count; g++)
        has |= !strcasecmp(item->genres[g], genre);
    return has;
}

/* "Action, Drama, ...": of the first items, each once, as many as fit. */
static void list_genres(const struct catalog *catalog, char *text, size_t bytes)
{
    enum { LISTED_MAX = 32, LOOKED_AT = 4096 };
    const char *listed[LISTED_MAX];
    size_t count = 0, at = 0, items = catalog_item_count(catalog);
    *text = 0;
    for (size_t row = 0; row < items && row < LOOKED_AT; row++) {
        struct akin_item item;
        catalog_item(catalog, row, &item);
        for (size_t g = 0; g < item.genre_count && count < LISTED_MAX; g++) {
            bool known = false;
            for (size_t i = 0; i < count; i++)
                known |= !strcasecmp(listed[i], item.genres[g]);
            if (known || at + strlen(item.genres[g]) + 3 > bytes)
                continue;
            at += (size_t)snprintf(text + at, bytes - at, "%s%s", at ? ", " : "", item.genres[g]);
            listed[count++] = item.genres[g];
        }
    }
}

enum akin_status context_check(const struct context *c, const struct catalog *catalog,
                               struct akin_error *error)
{
    size_t items = catalog_item_count(catalog);
    for (size_t i = 0; c->named && i < c->genre_count; i++) {
        bool found = c->wanted[i] == 0;
        for (size_t row = 0; row < items && !found; row++) {
            struct akin_item item;
            catalog_item(catalog, row, &item);
            found = has_genre(&item, c->genres[i]);
        }
        char there[256];
        if (found)
            continue;
        list_genres(catalog, there, sizeof there);
        return error_set(error, AKIN_ARGUMENT, "context: genre_prefs: %s: no item is of this "
                         "genre; there are %s", c->genres[i], *there ? there : "none at all");
    }
    return AKIN_OK;
}

float context_match(const struct context *c, const struct akin_item *item)
{
    float sum = 0;
    for (size_t g = 0; g < item->genre_count; g++)
        for (size_t i = 0; i < c->genre_count; i++)
            if (!strcasecmp(c->genres[i], item->genres[g]))
                sum += c->wanted[i];
    float mean = item->genre_count ? sum / (float)item->genre_count : 0;
    return mean < 1 ? mean : 1;     /* a genre may be named twice, in two spellings */
}
