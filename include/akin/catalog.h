/* SPDX-License-Identifier: Apache-2.0
 * The catalogue: items (films, articles, songs) and the people who rated them, as a folder of
 * plain files that numpy and any JSON reader can open (docs/formats.md). */
#ifndef AKIN_CATALOG_H
#define AKIN_CATALOG_H

#include "akin/model.h"

#ifdef __cplusplus
extern "C" {
#endif

struct akin_catalog;

/* What an import read and what it left out. Nothing is dropped without being counted here. */
struct akin_import_report {
    uint64_t items, ratings, users, tags;
    uint64_t items_with_genome, items_with_year, items_with_genres, items_with_themes;
    int64_t first_rating, last_rating;     /* Unix seconds; 0 where there is no rating */
    struct {
        uint64_t empty_lines;
        uint64_t malformed_rows;           /* too few fields, or a field that does not parse */
        uint64_t duplicate_items;          /* an id seen before: the first one stays */
        uint64_t duplicate_ratings;        /* same user and item: the later one stays */
        uint64_t ratings_of_unknown_items;
        uint64_t tags_of_unknown_items;
        uint64_t ids_out_of_range;         /* numeric ids above 32 bits in MovieLens files */
        uint64_t invalid_ratings;          /* NaN, infinite, or outside the scale */
        uint64_t latin1_files;             /* read as Latin-1 because they are not UTF-8 */
    } skipped;
    char first_problem[512];               /* "file:line: reason" of the first row skipped, or "" */
};

/* Reads MovieLens 25M/20M/latest/latest-small (quoted CSV), 1M/10M (`::`), 100K (u.data/u.item
 * `|`-separated, or RecBole's .item/.inter) from `folder`, whichever is there, and writes the
 * catalogue to `data`. Errors: AKIN_NOT_FOUND, AKIN_FORMAT (file, line, reason), AKIN_IO,
 * AKIN_CANCELLED. */
AKIN_API enum akin_status akin_catalog_import_movielens(const char *folder, const char *data,
                                                        struct akin_progress progress,
                                                        struct akin_import_report *report,
                                                        struct akin_error *error);

/* Field names of anybody's JSON lines. NULL: the default name given beside each. */
struct akin_jsonl_fields {
    const char *id;            /* "id" (string or integer) */
    const char *title;         /* "title" */
    const char *text;          /* "text"; where absent, composed from title, year, genres, themes */
    const char *year;          /* "year" */
    const char *genres;        /* "genres": array of strings or one string separated by | */
    const char *themes;        /* "tags" */
    const char *user;          /* "user" */
    const char *item;          /* "item" */
    const char *rating;        /* "rating": number, or absent = 1 */
    const char *timestamp;     /* "timestamp": Unix seconds, or absent = 0 */
    double rating_max;         /* ratings are divided by it for 0-1; 0: the largest one seen */
};

AKIN_API enum akin_status akin_catalog_import_jsonl(const char *items, const char *interactions,
                                                    const struct akin_jsonl_fields *fields,
                                                    const char *data, struct akin_progress progress,
                                                    struct akin_import_report *report,
                                                    struct akin_error *error);

struct akin_catalog_embed_report {
    struct akin_embed_report items;
    size_t users;              /* user vectors written */
    size_t users_without_items;
    double users_seconds;
    uint64_t vectors_bytes;
    bool current;              /* nothing was computed: this model's vectors of these items and
                                  ratings were there already */
};

/* Embeds every item's text with `model` and derives the user vectors:
 *   u = sum_i w_i v_i / sum_i w_i,  w_i = the rating on the 0-1 scale, v_i = the item's vector
 * (not normalised), over the items the user rated. Writes embeddings/, item vectors first, each
 * file whole or not at all. Does nothing when the vectors there are of a model of this name and of
 * these very items and ratings; remove the folder embeddings/ to have them made anew. */
AKIN_API enum akin_status akin_catalog_embed(struct akin_model *model, const char *data,
                                             const struct akin_embed_settings *settings,
                                             struct akin_catalog_embed_report *report,
                                             struct akin_error *error);

/* The second half of that alone: user vectors from the item vectors that are there, such as some of
 * one's own making in the files of docs/formats.md. The engine's threads share the work, and
 * their number changes no bit. Fills users, users_without_items, users_seconds and vectors_bytes of
 * `report` (may be NULL). AKIN_NOT_FOUND: there are no item vectors. */
AKIN_API enum akin_status akin_catalog_embed_users(struct akin_engine *engine, const char *data,
                                                   struct akin_progress progress,
                                                   struct akin_catalog_embed_report *report,
                                                   struct akin_error *error);

/* Opens a catalogue for reading. Works without embeddings; what needs them then says so. */
AKIN_API enum akin_status akin_catalog_open(const char *data, struct akin_catalog **catalog,
                                            struct akin_error *error);
AKIN_API void akin_catalog_close(struct akin_catalog **catalog);

struct akin_catalog_info {
    size_t items, users, ratings, dimension;  /* dimension 0: not embedded yet */
    size_t users_with_vector;
    size_t items_with_year, items_with_genres, items_with_themes;
    int year_min, year_max;
    int64_t first_rating, last_rating;
    bool films;                               /* movies.jsonl rather than items.jsonl */
    char model[128];                          /* that made the vectors, or "" */
    char precision[8];                        /* that it computed in, or "" where not known */
};

AKIN_API void akin_catalog_info(const struct akin_catalog *catalog, struct akin_catalog_info *info);

/* One item. Strings live as long as the catalogue. year 0: unknown. */
struct akin_item {
    const char *id;            /* "ml_1" */
    const char *title;         /* "Toy Story (1995)" */
    int year;
    const char *const *genres;
    size_t genre_count;
    const char *const *themes;
    size_t theme_count;
    const char *text;          /* what is embedded */
};

/* Row numbers go from 0 to items-1, in the order of the files. */
AKIN_API void akin_catalog_item(const struct akin_catalog *catalog, size_t row,
                                struct akin_item *item);
/* The item's vector [dimension], or NULL before `akin_catalog_embed`. */
AKIN_API const float *akin_catalog_item_vector(const struct akin_catalog *catalog, size_t row);

/* Finds an item as people type it: case, accents, articles ("Godfather, The"), punctuation and a
 * missing year do not matter; a year decides between items of one name, otherwise the one with
 * most ratings wins. Returns AKIN_NOT_FOUND with up to five nearest titles in the message. */
AKIN_API enum akin_status akin_catalog_find(const struct akin_catalog *catalog, const char *title,
                                            size_t *row, struct akin_error *error);

/* The row of an item id; AKIN_NOT_FOUND otherwise. */
AKIN_API enum akin_status akin_catalog_find_id(const struct akin_catalog *catalog, const char *id,
                                               size_t *row, struct akin_error *error);

/* Users with a vector are numbered 0 to users_with_vector-1, in the order of user_ids.json. */
AKIN_API enum akin_status akin_catalog_find_user(const struct akin_catalog *catalog, const char *id,
                                                 size_t *user, struct akin_error *error);
AKIN_API const char *akin_catalog_user_id(const struct akin_catalog *catalog, size_t user);
AKIN_API const float *akin_catalog_user_vector(const struct akin_catalog *catalog, size_t user);

struct akin_rating {
    uint32_t row;              /* of the item */
    float rating;              /* as published, such as 0.5 to 5 */
    int64_t timestamp;         /* Unix seconds */
};

/* The ratings of a user, oldest first; valid as long as the catalogue. */
AKIN_API const struct akin_rating *akin_catalog_user_ratings(const struct akin_catalog *catalog,
                                                             size_t user, size_t *count);

#ifdef __cplusplus
}
#endif
#endif
