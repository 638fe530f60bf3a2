/* include/akin/index.h over src/index: handles in, handles out. */
#include "akin/index.h"

#include "base/memory.h"
#include "base/status.h"
#include "compute/cuda_plugin.h"
#include "engine/engine.h"
#include "index/collection.h"
#include "index/index.h"
#include "index/segment_card.h"

const char *akin_metric_name(enum akin_metric metric)
{
    return index_metric_name(metric);
}

bool akin_metric_parse(const char *name, enum akin_metric *metric)
{
    return index_metric_parse(name, metric);
}

const char *akin_storage_name(enum akin_storage storage)
{
    return index_storage_name(storage);
}

bool akin_storage_parse(const char *name, enum akin_storage *storage)
{
    return index_storage_parse(name, storage);
}

void akin_index_settings_default(struct akin_index_settings *settings)
{
    collection_settings_default(settings);
}

static struct collection_host host_of(const struct akin_engine *engine)
{
    return (struct collection_host){ .backend = engine->backend, .pool = engine->pool,
                                     .cpu_flags = engine->cpu_flags };
}

/* collection_host.find_card: asking loads a driver, so that is left to the first search. */
static enum akin_status find_card(void *context, struct index_card *card,
                                  struct akin_error *error)
{
    const struct akin_index *index = context;
    const struct cuda_plugin *plugin = NULL;
    *card = (struct index_card){ .required = engine_cards_required(index->engine),
                                 .log = &index->engine->log };
    TRY(engine_card_of(index->engine, CARD_SEARCH, &plugin, &card->ordinal, error));
    if (plugin) {
        card->search = plugin->search;
        card->ivf = plugin->ivf;
    }
    return AKIN_OK;
}

enum akin_status akin_index_build(struct akin_engine *engine, const char *path,
                                  const struct akin_index_rows *rows, size_t dimension,
                                  const struct akin_index_settings *settings,
                                  struct akin_error *error)
{
    struct collection_host host = host_of(engine);
    return collection_build(&host, path, rows, dimension, settings, error);
}

enum akin_status akin_index_create(struct akin_engine *engine, const char *path, size_t dimension,
                                   const struct akin_index_settings *settings,
                                   struct akin_error *error)
{
    struct akin_index_rows none = { 0 };
    return akin_index_build(engine, path, &none, dimension, settings, error);
}

enum akin_status akin_index_open(struct akin_engine *engine, const char *path,
                                 enum akin_index_mode mode, struct akin_index **index,
                                 struct akin_error *error)
{
    struct akin_index *handle = memory_alloc(1, sizeof *handle);
    if (!handle)
        return error_memory(error);
    handle->engine = engine;
    struct collection_host host = host_of(engine);
    host.find_card = find_card;
    host.card_context = handle;
    enum akin_status status = collection_open(&host, path, mode, &handle->collection, error);
    if (status == AKIN_OK)
        *index = handle;
    else
        memory_free(handle);
    return status;
}

void akin_index_close(struct akin_index **index)
{
    if (!*index)
        return;
    collection_close(&(*index)->collection);
    memory_free(*index);
    *index = NULL;
}

enum akin_status akin_index_refresh(struct akin_index *index, struct akin_error *error)
{
    return collection_refresh(index->collection, error);
}

void akin_index_info(const struct akin_index *index, struct akin_index_info *info)
{
    collection_info(index->collection, info);
}

enum akin_status akin_index_add(struct akin_index *index, const struct akin_index_rows *rows,
                                struct akin_error *error)
{
    return collection_add(index->collection, rows, false, error);
}

enum akin_status akin_index_update(struct akin_index *index, const struct akin_index_rows *rows,
                                   struct akin_error *error)
{
    return collection_add(index->collection, rows, true, error);
}

enum akin_status akin_index_delete(struct akin_index *index, const int64_t *ids, size_t count,
                                   size_t *deleted, struct akin_error *error)
{
    return collection_delete(index->collection, ids, NULL, count, deleted, error);
}

enum akin_status akin_index_delete_keys(struct akin_index *index, const char *const *keys,
                                        size_t count, size_t *deleted, struct akin_error *error)
{
    return collection_delete(index->collection, NULL, keys, count, deleted, error);
}

enum akin_status akin_index_sync(struct akin_index *index, size_t *rows, struct akin_error *error)
{
    return collection_sync(index->collection, rows, error);
}

enum akin_status akin_index_compact(struct akin_index *index, const struct akin_progress *progress,
                                    struct akin_error *error)
{
    return collection_compact(index->collection, progress, error);
}

enum akin_status akin_index_search(const struct akin_index *index,
                                   const struct akin_index_query *query, int64_t *ids,
                                   float *scores, struct akin_error *error)
{
    return collection_search(index->collection, query, ids, scores, error);
}

enum akin_status akin_index_card_seconds(const struct akin_index *index,
                                         const struct akin_index_query *query, double *seconds,
                                         struct akin_error *error)
{
    return collection_card_seconds(index->collection, query, seconds, error);
}

enum akin_status akin_index_filter_hint(const struct akin_index *index, const char *filter,
                                        char *hint, size_t bytes, struct akin_error *error)
{
    return collection_hint(index->collection, filter, hint, bytes, error);
}

enum akin_status akin_index_read(const struct akin_index *index, int64_t from, size_t count,
                                 int64_t *ids, float *vectors, size_t *found,
                                 struct akin_error *error)
{
    return collection_read(index->collection, from, count, ids, vectors, found, error);
}

enum akin_status akin_index_key(const struct akin_index *index, int64_t id, char *text,
                                size_t bytes, struct akin_error *error)
{
    return collection_text(index->collection, id, COLLECTION_KEY, text, bytes, error);
}

enum akin_status akin_index_metadata(const struct akin_index *index, int64_t id, char *text,
                                     size_t bytes, struct akin_error *error)
{
    return collection_text(index->collection, id, COLLECTION_METADATA, text, bytes, error);
}

enum akin_status akin_index_check(struct akin_engine *engine, const char *path,
                                  struct akin_error *error)
{
    struct collection_host host = host_of(engine);
    return collection_check(&host, path, error);
}
