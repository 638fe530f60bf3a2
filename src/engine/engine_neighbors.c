/* include/akin/neighbors.h over src/recommend/neighbors.h. The cache computes on a backend of one
 * thread, its own, so that requests never wait for its turn on the engine's threads. */
#include "akin/neighbors.h"

#include "base/memory.h"
#include "base/status.h"
#include "base/thread.h"
#include "catalog/catalog.h"
#include "compute/backend.h"
#include "engine/engine.h"
#include "recommend/neighbors.h"
#include "recommend/policy.h"

struct akin_neighbors {
    struct thread_pool *pool;
    struct backend *backend;
    struct neighbors_vectors vectors;
    struct neighbors *neighbors;
};

void akin_neighbors_settings_default(struct akin_neighbors_settings *settings)
{
    neighbors_settings_default(settings);
}

static enum akin_status open_parts(struct akin_neighbors *handle, const struct akin_engine *engine,
                                   const struct catalog *catalog,
                                   const struct akin_neighbors_settings *settings,
                                   struct akin_error *error)
{
    struct akin_catalog_info info;
    struct akin_cache_event *history = NULL;
    size_t count = 0;
    catalog_info(catalog, &info);
    handle->pool = thread_pool_create(1);
    if (!handle->pool)
        return error_memory(error);
    TRY(cpu_backend_create(engine->cpu_flags, handle->pool, &handle->backend, error));
    handle->vectors = (struct neighbors_vectors){
        handle->backend, catalog_item_vectors(catalog), info.items, info.dimension
    };
    if (!settings->ignore_history)
        TRY(neighbors_history(catalog, &history, &count, error));
    struct neighbors_source source = { neighbors_compute_vectors, &handle->vectors, info.items };
    enum akin_status status =
        neighbors_open(&source, settings, history, count, &handle->neighbors, error);
    memory_free(history);
    return status;
}

enum akin_status akin_neighbors_open(struct akin_engine *engine,
                                     const struct akin_catalog *catalog,
                                     const struct akin_neighbors_settings *settings,
                                     struct akin_neighbors **neighbors, struct akin_error *error)
{
    if (!catalog_item_vectors(catalog->catalog))
        return error_set(error, AKIN_NOT_FOUND,
                         "the catalogue has no vectors yet: make them with `akin data embed`");
    struct akin_neighbors *handle = memory_alloc(1, sizeof *handle);
    if (!handle)
        return error_memory(error);
    enum akin_status status = open_parts(handle, engine, catalog->catalog, settings, error);
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
    neighbors_close(&handle->neighbors);
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
