/* include/akin/neighbors.h over src/recommend/neighbors.h. Requests never wait for the cache: by
 * vectors it computes on a backend of one thread, its own; by parts it asks a recommender that is
 * prepared, whose single requests need no threads. */
#include "akin/neighbors.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/thread.h"
#include "catalog/catalog.h"
#include "compute/cuda_plugin.h"
#include "compute/search_device.h"
#include "engine/engine.h"
#include "recommend/neighbors.h"
#include "recommend/policy.h"
#include "recommend/recommend.h"

struct akin_neighbors {
    struct akin_recommender *recommender;
    struct thread_pool *pool;
    struct backend *backend;
    struct neighbors_vectors vectors;
    struct neighbors_answers answers;
    struct neighbors *neighbors;
};

void akin_neighbors_settings_default(struct akin_neighbors_settings *settings)
{
    neighbors_settings_default(settings);
}

/* A card for the lists, beside the one of requests, so that none waits for another. */
static enum akin_status take_card(struct akin_neighbors *handle, struct akin_error *error)
{
    const struct akin_engine *engine = handle->recommender->engine;
    struct neighbors_vectors *v = &handle->vectors;
    struct akin_error reason = { 0 };
    const struct cuda_plugin *plugin;
    int ordinal = 0;
    TRY(engine_card_of(engine, CARD_CACHE, &plugin, &ordinal, error));
    v->card_ops = plugin ? plugin->search : NULL;
    enum akin_status status = v->card_ops ? v->card_ops->create(ordinal, v->vectors, v->items,
                                                                v->dim, &v->card, &reason)
                                          : AKIN_OK;
    /* lists are longer than what int8 is first for */
    if (v->card && v->card_ops->drop_int8)
        v->card_ops->drop_int8(v->card);
    if (status == AKIN_OK)
        return AKIN_OK;
    if (engine_cards_required(engine))
        return error_set(error, status, "%s", reason.message);
    log_write(&engine->log, AKIN_LOG_WARNING, "lists of neighbours on the CPU: %s", reason.message);
    return AKIN_OK;
}

/* Where lists come from, by what the recommender takes for an item alone. */
static enum akin_status open_source(struct akin_neighbors *handle, struct neighbors_source *source,
                                    struct akin_error *error)
{
    const struct akin_recommender *r = handle->recommender;
    struct akin_catalog_info info;
    bool by_parts;
    catalog_info(r->catalog, &info);
    *source = (struct neighbors_source){ .items = info.items };
    TRY(recommender_fitted(r->recommender, &by_parts, error));
    if (by_parts) {
        TRY(recommender_prepare(r->recommender, (struct akin_progress){ 0 }, error));
        handle->answers = (struct neighbors_answers){ r->recommender, r->catalog };
        source->compute = neighbors_compute_answers;
        source->context = &handle->answers;
        return AKIN_OK;
    }
    handle->pool = thread_pool_create(1);
    if (!handle->pool)
        return error_memory(error);
    TRY(cpu_backend_create(r->engine->cpu_flags, handle->pool, &handle->backend, error));
    handle->vectors = (struct neighbors_vectors){
        .backend = handle->backend, .vectors = catalog_item_vectors(r->catalog),
        .items = info.items, .dim = info.dimension,
    };
    TRY(take_card(handle, error));
    source->compute = neighbors_compute_vectors;
    if (handle->vectors.card)
        source->batch = neighbors_batch_vectors;
    source->context = &handle->vectors;
    return AKIN_OK;
}

static enum akin_status open_parts(struct akin_neighbors *handle,
                                   const struct akin_neighbors_settings *settings,
                                   struct akin_error *error)
{
    struct akin_cache_event *history = NULL;
    struct neighbors_source source;
    size_t count = 0;
    TRY(open_source(handle, &source, error));
    if (!settings->ignore_history)
        TRY(neighbors_history(handle->recommender->catalog, &history, &count, error));
    enum akin_status status =
        neighbors_open(&source, settings, history, count, &handle->neighbors, error);
    memory_free(history);
    TRY(status);
    TRY(recommender_use_neighbors(handle->recommender->recommender, handle->neighbors, error));
    handle->recommender->neighbors = handle->neighbors;
    return AKIN_OK;
}

enum akin_status akin_neighbors_open(struct akin_recommender *recommender,
                                     const struct akin_neighbors_settings *settings,
                                     struct akin_neighbors **neighbors, struct akin_error *error)
{
    if (recommender->neighbors)
        return error_set(error, AKIN_ARGUMENT, "this recommender has a neighbour cache already: "
                         "close that one first");
    struct akin_neighbors *handle = memory_alloc(1, sizeof *handle);
    if (!handle)
        return error_memory(error);
    handle->recommender = recommender;
    enum akin_status status = open_parts(handle, settings, error);
    if (status == AKIN_OK)
        *neighbors = handle;
    else
        akin_neighbors_close(&handle);
    return status;
}

void akin_neighbors_close(struct akin_neighbors **neighbors)
{
    struct akin_neighbors *handle = *neighbors;
    if (!handle)
        return;
    if (handle->neighbors && handle->recommender->neighbors == handle->neighbors) {
        (void)recommender_use_neighbors(handle->recommender->recommender, NULL, NULL);
        handle->recommender->neighbors = NULL;
    }
    neighbors_close(&handle->neighbors);
    if (handle->vectors.card)
        handle->vectors.card_ops->destroy(&handle->vectors.card);
    cpu_backend_destroy(&handle->backend);
    thread_pool_destroy(&handle->pool);
    memory_free(handle);
    *neighbors = NULL;
}

bool akin_neighbors_lookup(struct akin_neighbors *neighbors, size_t row, struct akin_neighbor *list,
                           size_t *found)
{
    return neighbors_lookup(neighbors->neighbors, row, list, found);
}

enum akin_status akin_neighbors_record(struct akin_neighbors *neighbors, size_t row, double rating,
                                       int64_t timestamp, struct akin_error *error)
{
    return neighbors_record(neighbors->neighbors, row, rating, timestamp, error);
}

void akin_neighbors_refresh(struct akin_neighbors *neighbors)
{
    neighbors_refresh(neighbors->neighbors);
}

enum akin_status akin_neighbors_wait(struct akin_neighbors *neighbors, struct akin_error *error)
{
    return neighbors_wait(neighbors->neighbors, error);
}

void akin_neighbors_count(struct akin_neighbors *neighbors, struct akin_neighbors_counts *counts)
{
    neighbors_count(neighbors->neighbors, counts);
}

enum akin_status akin_cache_replay(const struct akin_cache_event *events, size_t count,
                                   size_t items, const struct akin_neighbors_settings *settings,
                                   uint64_t *hits, struct akin_error *error)
{
    return policy_replay(events, count, items, settings, hits, error);
}
