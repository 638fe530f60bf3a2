/* include/akin/catalog.h over src/catalog, and what needs a model too: embedding a catalogue. */
#include "akin/catalog.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/status.h"
#include "catalog/catalog.h"
#include "engine/engine.h"
#include "model/model.h"

enum akin_status akin_catalog_import_movielens(const char *folder, const char *data,
                                               struct akin_progress progress,
                                               struct akin_import_report *report,
                                               struct akin_error *error)
{
    return catalog_import_movielens(folder, data, progress, report, error);
}

enum akin_status akin_catalog_import_jsonl(const char *items, const char *interactions,
                                           const struct akin_jsonl_fields *fields, const char *data,
                                           struct akin_progress progress,
                                           struct akin_import_report *report,
                                           struct akin_error *error)
{
    return catalog_import_jsonl(items, interactions, fields, data, progress, report, error);
}

/* ---- embedding -------------------------------------------------------------------------- */

static enum akin_status embed_items(struct akin_model *model, const struct catalog *catalog,
                                    const struct akin_embed_settings *settings,
                                    const struct akin_model_info *info, float *vectors,
                                    struct akin_embed_report *report, struct akin_error *error)
{
    size_t count = catalog_item_count(catalog);
    struct akin_text *texts = memory_alloc(count, sizeof *texts);
    if (!texts)
        return error_memory(error);
    catalog_texts(catalog, texts);
    enum akin_status status =
        akin_model_embed(model, texts, count, settings, vectors, report, error);
    memory_free(texts);
    TRY(status);
    return catalog_write_item_vectors(catalog, info->name, akin_precision_name(info->precision),
                                      vectors, info->dimension, error);
}

static enum akin_status embed(struct akin_model *model, const struct catalog *catalog,
                              const struct akin_embed_settings *settings,
                              struct akin_catalog_embed_report *report, struct akin_error *error)
{
    struct akin_model_info info;
    model_info(model->model, &info);
    size_t count = catalog_item_count(catalog), floats;
    if (!size_mul(count, info.dimension, &floats))
        return error_memory(error);
    float *vectors = memory_alloc_aligned(floats, sizeof *vectors); /* [items][dimension] */
    if (!vectors)
        return error_memory(error);
    enum akin_status status = embed_items(model, catalog, settings, &info, vectors,
                                          &report->items, error);
    uint64_t began = clock_monotonic_ns();
    if (status == AKIN_OK)
        status = catalog_write_user_vectors(catalog, vectors, info.dimension, settings->progress,
                                            &report->users, &report->users_without_items, error);
    report->users_seconds = seconds_since(began);
    report->vectors_bytes = (uint64_t)(count + report->users) * info.dimension * sizeof *vectors;
    memory_free(vectors);
    return status;
}

enum akin_status akin_catalog_embed(struct akin_model *model, const char *data,
                                    const struct akin_embed_settings *settings,
                                    struct akin_catalog_embed_report *report,
                                    struct akin_error *error)
{
    struct akin_catalog_embed_report made = { 0 };
    struct akin_embed_settings defaults;
    struct akin_model_info info;
    struct catalog *catalog;
    model_embed_settings_default(&defaults);
    model_info(model->model, &info);
    /* Vectors that cannot be read are no reason to fail: they are about to be replaced. */
    bool current = catalog_open(data, CATALOG_ALL, &catalog, NULL) == AKIN_OK;
    if (current) {
        current = catalog_embeddings_current(catalog, info.name,
                                             akin_precision_name(info.precision));
        catalog_close(&catalog);
    }
    if (current) {
        made.current = true;
    } else {
        TRY(catalog_open(data, CATALOG_WITHOUT_EMBEDDINGS, &catalog, error));
        enum akin_status status =
            embed(model, catalog, settings ? settings : &defaults, &made, error);
        catalog_close(&catalog);
        TRY(status);
    }
    if (report)
        *report = made;
    return AKIN_OK;
}

enum akin_status akin_catalog_embed_users(struct akin_engine *engine, const char *data,
                                          struct akin_progress progress,
                                          struct akin_catalog_embed_report *report,
                                          struct akin_error *error)
{
    struct akin_catalog_embed_report made = { 0 };
    struct akin_catalog_info info;
    struct catalog *catalog = NULL;
    uint64_t began = clock_monotonic_ns();
    TRY(catalog_open(data, CATALOG_ALL, &catalog, error));
    const float *vectors = catalog_item_vectors(catalog);
    catalog_info(catalog, &info);
    enum akin_status status =
        vectors ? catalog_write_user_vectors_on(engine->pool, catalog, vectors, info.dimension,
                                                progress, &made.users,
                                                &made.users_without_items, error)
                : error_set(error, AKIN_NOT_FOUND, "%.500s: there are no item vectors: make them "
                            "with `akin data embed`", data);
    catalog_close(&catalog);
    TRY(status);
    made.users_seconds = seconds_since(began);
    made.vectors_bytes = (uint64_t)made.users * info.dimension * sizeof *vectors;
    if (report)
        *report = made;
    return AKIN_OK;
}

/* ---- reading ---------------------------------------------------------------------------- */

enum akin_status akin_catalog_open(const char *data, struct akin_catalog **catalog,
                                   struct akin_error *error)
{
    struct akin_catalog *handle = memory_alloc(1, sizeof *handle);
    if (!handle)
        return error_memory(error);
    enum akin_status status = catalog_open(data, CATALOG_ALL, &handle->catalog, error);
    if (status == AKIN_OK)
        *catalog = handle;
    else
        memory_free(handle);
    return status;
}

void akin_catalog_close(struct akin_catalog **catalog)
{
    if (!*catalog)
        return;
    catalog_close(&(*catalog)->catalog);
    memory_free(*catalog);
    *catalog = NULL;
}

void akin_catalog_info(const struct akin_catalog *catalog, struct akin_catalog_info *info)
{
    catalog_info(catalog->catalog, info);
}

void akin_catalog_item(const struct akin_catalog *catalog, size_t row, struct akin_item *item)
{
    catalog_item(catalog->catalog, row, item);
}

const float *akin_catalog_item_vector(const struct akin_catalog *catalog, size_t row)
{
    return catalog_item_vector(catalog->catalog, row);
}

enum akin_status akin_catalog_find(const struct akin_catalog *catalog, const char *title,
                                   size_t *row, struct akin_error *error)
{
    return catalog_find(catalog->catalog, title, row, error);
}

enum akin_status akin_catalog_find_id(const struct akin_catalog *catalog, const char *id,
                                      size_t *row, struct akin_error *error)
{
    return catalog_find_id(catalog->catalog, id, row, error);
}

enum akin_status akin_catalog_find_user(const struct akin_catalog *catalog, const char *id,
                                        size_t *user, struct akin_error *error)
{
    return catalog_find_user(catalog->catalog, id, user, error);
}

const char *akin_catalog_user_id(const struct akin_catalog *catalog, size_t user)
{
    return catalog_user_id(catalog->catalog, user);
}

const float *akin_catalog_user_vector(const struct akin_catalog *catalog, size_t user)
{
    return catalog_user_vector(catalog->catalog, user);
}

const struct akin_rating *akin_catalog_user_ratings(const struct akin_catalog *catalog, size_t user,
                                                    size_t *count)
{
    return catalog_user_ratings(catalog->catalog, user, count);
}
