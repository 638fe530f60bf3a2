/* The catalogue in memory, shared by the files that load it, answer from it and write beside it. */
#pragma once

#include "base/file.h"
#include "base/hash.h"
#include "base/npy.h"
#include "catalog/catalog.h"
#include "catalog/title_index.h"

/* Strings are in the pool; genres and themes are interned, so that each is stored once. */
struct catalog_entry {
    const char *id, *title, *text;
    const char *const *words;   /* genres, then themes */
    uint16_t genre_count, theme_count;
    int32_t year;
};

struct catalog_user {
    const char *id;
    size_t first, count;        /* of the ratings */
};

struct catalog {
    char folder[PATH_BYTES_MAX];
    bool films;
    double rating_max;          /* 0 until known */
    uint64_t items_fingerprint, ratings_fingerprint;

    struct string_pool pool;
    struct string_map words;
    struct catalog_entry *entries;
    size_t count, capacity;
    struct string_map ids;      /* item id to row */
    struct title_index titles;
    uint32_t *ratings_of;       /* [item] */

    struct akin_rating *ratings;
    size_t rating_count;
    struct catalog_user *users;
    size_t user_count, user_capacity;
    struct string_map user_numbers;
    int64_t first_rating, last_rating;

    struct npy item_vectors, user_vectors;
    bool embedded;
    size_t dim, users_with_vector;
    char model[128], precision[8];
    uint64_t embedded_items, embedded_ratings;  /* fingerprints that the vectors were made from */
};

/* Each loads its files; they are called in this order. */
enum akin_status catalog_load_items(struct catalog *c, struct akin_error *error);
enum akin_status catalog_load_ratings(struct catalog *c, struct akin_error *error);
enum akin_status catalog_load_embeddings(struct catalog *c, struct akin_error *error);

/* A JSON file that is a list of strings; the strings go to the pool. */
enum akin_status catalog_read_strings(struct catalog *c, const char *path, const char ***strings,
                                      size_t *count, struct akin_error *error);
