/* The catalogue without a model: imports, the folder on disk, look-ups. The engine wraps it and
 * brings the embedding. Structs are the public ones of akin/catalog.h; functions mirror it.
 * The folder's files are described in docs/formats.md. */
#pragma once

#include "akin/catalog.h"

/* ---- imports ---------------------------------------------------------------------------- */

/* Both write the whole catalogue or leave the existing one as it was, and remove embeddings that
 * no longer belong to the items and ratings. `report` may be NULL. */
enum akin_status catalog_import_movielens(const char *folder, const char *data,
                                          struct akin_progress progress,
                                          struct akin_import_report *report,
                                          struct akin_error *error);
/* `interactions` and `fields` may be NULL. */
enum akin_status catalog_import_jsonl(const char *items, const char *interactions,
                                      const struct akin_jsonl_fields *fields, const char *data,
                                      struct akin_progress progress,
                                      struct akin_import_report *report, struct akin_error *error);

/* ---- reading ---------------------------------------------------------------------------- */

struct catalog;

enum catalog_parts {
    CATALOG_ALL,
    CATALOG_WITHOUT_EMBEDDINGS,     /* before they are made, or to make them anew */
};

enum akin_status catalog_open(const char *folder, enum catalog_parts parts,
                              struct catalog **catalog, struct akin_error *error);
void catalog_close(struct catalog **catalog);

void catalog_info(const struct catalog *catalog, struct akin_catalog_info *info);
void catalog_item(const struct catalog *catalog, size_t row, struct akin_item *item);
/* What is embedded, in file order; texts [items]. Views of the catalogue. */
void catalog_texts(const struct catalog *catalog, struct akin_text *texts);
size_t catalog_item_count(const struct catalog *catalog);
/* How many ratings an item has. */
size_t catalog_item_ratings(const struct catalog *catalog, size_t row);
/* A rating divided by this is on the 0-1 scale. */
double catalog_rating_max(const struct catalog *catalog);
/* Where it lies, as catalog_open was told. */
const char *catalog_folder(const struct catalog *catalog);
/* What the lines of the items file and the blocks of ratings.npy hash to. */
void catalog_fingerprints(const struct catalog *catalog, uint64_t *items, uint64_t *ratings);

enum akin_status catalog_find(const struct catalog *catalog, const char *title, size_t *row,
                              struct akin_error *error);
enum akin_status catalog_find_id(const struct catalog *catalog, const char *id, size_t *row,
                                 struct akin_error *error);

/* Users with a vector are numbered first, in the order of user_ids.json; users that have ratings
 * but no vector follow, in the order of ratings.npy, up to akin_catalog_info.users. */
enum akin_status catalog_find_user(const struct catalog *catalog, const char *id, size_t *user,
                                   struct akin_error *error);
const char *catalog_user_id(const struct catalog *catalog, size_t user);
const struct akin_rating *catalog_user_ratings(const struct catalog *catalog, size_t user,
                                               size_t *count);

/* ---- embeddings ------------------------------------------------------------------------- */

const float *catalog_item_vectors(const struct catalog *catalog);  /* [items][dimension] or NULL */
const float *catalog_item_vector(const struct catalog *catalog, size_t row);    /* or NULL */
const float *catalog_user_vector(const struct catalog *catalog, size_t user);   /* or NULL */
/* Whether the vectors were made by `model` at `precision` from these very items and ratings; those
 * of an unknown precision count as made at any. */
bool catalog_embeddings_current(const struct catalog *catalog, const char *model,
                                const char *precision);

/* Writes embeddings/media from vectors [items][dim] and removes the user vectors made from older
 * ones. `model` and `precision` are what catalog_info then shows. */
enum akin_status catalog_write_item_vectors(const struct catalog *catalog, const char *model,
                                            const char *precision, const float *vectors,
                                            size_t dim, struct akin_error *error);
/* Writes embeddings/users: u = sum_i w_i v_i / sum_i w_i over the user's ratings, oldest first,
 * w_i = rating / rating_max, v_i the item's row of `vectors` [items][dim]. Sums are doubles; the
 * result is float32 and not normalised. A user whose weights are all 0 has no vector. */
enum akin_status catalog_write_user_vectors(const struct catalog *catalog, const float *vectors,
                                            size_t dim, struct akin_progress progress,
                                            size_t *users, size_t *users_without_items,
                                            struct akin_error *error);

/* Bytes held or mapped, by component. */
struct catalog_memory {
    uint64_t item_vectors, user_vectors, metadata, ratings;
};
void catalog_memory(const struct catalog *catalog, struct catalog_memory *memory);
