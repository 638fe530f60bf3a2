/* include/akin/index.h over src/index: handles in, handles out. */
#include "akin/index.h"

#include "base/memory.h"
#include "base/status.h"
#include "engine/engine.h"
#include "index/index.h"

const char *akin_metric_name(enum akin_metric metric)
{
    return index_metric_name(metric);
}

bool akin_metric_parse(const char *name, enum akin_metric *metric)
{
    return index_metric_parse(name, metric);
}

void akin_index_settings_default(struct akin_index_settings *settings)
{
    index_settings_default(settings);
}

enum akin_status akin_index_build(struct akin_engine *engine, const char *path,
                                  const float *vectors, const int64_t *ids, size_t count,
                                  size_t dimension, const struct akin_index_settings *settings,
                                  struct akin_error *error)
{
    (void)engine;       /* flat indexes are written as they come; trained kinds will compute */
    return index_build(path, vectors, ids, count, dimension, settings, error);
}

enum akin_status akin_index_open(struct akin_engine *engine, const char *path,
                                 struct akin_index **index, struct akin_error *error)
{
    struct akin_index *handle = memory_alloc(1, sizeof *handle);
    if (!handle)
        return error_memory(error);
    enum akin_status status = index_open(engine->backend, path, &handle->index, error);
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
    index_close(&(*index)->index);
    memory_free(*index);
    *index = NULL;
}

void akin_index_info(const struct akin_index *index, struct akin_index_info *info)
{
    index_info(index->index, info);
}

enum akin_status akin_index_search(const struct akin_index *index, const float *queries,
                                   size_t query_count, size_t k, int64_t *ids, float *scores,
                                   struct akin_error *error)
{
    return index_search(index->index, queries, query_count, k, NULL, ids, scores, error);
}

enum akin_status akin_index_check(const char *path, struct akin_error *error)
{
    return index_check(path, error);
}
