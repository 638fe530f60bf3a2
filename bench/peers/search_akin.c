/* akin as search_engines.py calls it: plain C functions over libakin, made into a shared library
 * and called from Python like every peer. What depends on the shape of akin's index API is here.
 *
 * Functions that can fail return 0, or 1 with one line in `message` [1024]. */
#include <akin/akin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct handle {
    struct akin_engine *engine;
    struct akin_index *index;
    char kind[16];
};

static int told(enum akin_status status, const struct akin_error *error, char *message)
{
    if (status != AKIN_OK)
        snprintf(message, 1024, "%s", error->message);
    return status != AKIN_OK;
}

static enum akin_status open_engine(int threads, struct akin_engine **engine,
                                    struct akin_error *error)
{
    struct akin_engine_settings settings;
    akin_engine_settings_default(&settings);
    settings.threads = threads;
    return akin_engine_open(&settings, engine, error);
}

/* One JSON object a row for the filters "p10=1", "p1=1", "p01=1": bits 0, 1, 2 of `selected`. */
static const char **make_metadata(const unsigned char *selected, size_t rows)
{
    static const char *const objects[8] = {
        "{\"p10\":0,\"p1\":0,\"p01\":0}", "{\"p10\":1,\"p1\":0,\"p01\":0}",
        "{\"p10\":0,\"p1\":1,\"p01\":0}", "{\"p10\":1,\"p1\":1,\"p01\":0}",
        "{\"p10\":0,\"p1\":0,\"p01\":1}", "{\"p10\":1,\"p1\":0,\"p01\":1}",
        "{\"p10\":0,\"p1\":1,\"p01\":1}", "{\"p10\":1,\"p1\":1,\"p01\":1}",
    };
    const char **metadata = selected ? malloc(rows * sizeof *metadata) : NULL;
    for (size_t i = 0; metadata && i < rows; i++)
        metadata[i] = objects[selected[i] & 7];
    return metadata;
}

EXPORT int sa_build(const char *path, const char *kind, const float *vectors,
                    const unsigned char *selected, size_t rows, size_t dimension, int threads,
                    char *message)
{
    struct akin_engine *engine = NULL;
    struct akin_index_settings settings;
    struct akin_error error = {0};
    const char **metadata = make_metadata(selected, rows);
    const struct akin_index_rows all = {.vectors = vectors, .metadata = metadata, .count = rows};
    enum akin_status status = open_engine(threads, &engine, &error);
    akin_index_settings_default(&settings);
    settings.kind = kind;
    if (status == AKIN_OK)
        status = akin_index_build(engine, path, &all, dimension, &settings, &error);
    akin_engine_close(&engine);
    free(metadata);
    return told(status, &error, message);
}

/* Adds all rows to a new flat index, `batch` at a time, each batch durable before the next. */
EXPORT int sa_insert(const char *path, const float *vectors, size_t rows, size_t dimension,
                     size_t batch, int threads, char *message)
{
    struct akin_engine *engine = NULL;
    struct akin_index *index = NULL;
    struct akin_index_settings settings;
    struct akin_error error = {0};
    enum akin_status status = open_engine(threads, &engine, &error);
    akin_index_settings_default(&settings);
    settings.kind = "flat";
    if (status == AKIN_OK)
        status = akin_index_create(engine, path, dimension, &settings, &error);
    if (status == AKIN_OK)
        status = akin_index_open(engine, path, AKIN_INDEX_WRITE, &index, &error);
    for (size_t at = 0; at < rows && status == AKIN_OK; at += batch) {
        const struct akin_index_rows part = {.vectors = vectors + at * dimension,
                                             .count = rows - at < batch ? rows - at : batch};
        status = akin_index_add(index, &part, &error);
        if (status == AKIN_OK)
            status = akin_index_sync(index, NULL, &error);
    }
    akin_index_close(&index);
    akin_engine_close(&engine);
    return told(status, &error, message);
}

EXPORT struct handle *sa_open(const char *path, int threads, char *message)
{
    struct handle *h = calloc(1, sizeof *h);
    struct akin_error error = {0};
    struct akin_index_info info;
    if (!h)
        return NULL;
    enum akin_status status = open_engine(threads, &h->engine, &error);
    if (status == AKIN_OK)
        status = akin_index_open(h->engine, path, AKIN_INDEX_READ, &h->index, &error);
    if (told(status, &error, message)) {
        akin_engine_close(&h->engine);
        free(h);
        return NULL;
    }
    akin_index_info(h->index, &info);
    snprintf(h->kind, sizeof h->kind, "%s", info.kind);
    return h;
}

EXPORT const char *sa_kind(const struct handle *h)
{
    return h->kind;
}

EXPORT const char *sa_kernels(const struct handle *h)
{
    return akin_engine_kernels(h->engine);
}

/* `recall` 0 with `exact` 0: the library's own choice. */
EXPORT int sa_search(const struct handle *h, const float *queries, size_t count, size_t k,
                     float recall, int exact, const char *filter, int64_t *ids, float *scores,
                     char *message)
{
    struct akin_error error = {0};
    const struct akin_index_query query = {.vectors = queries, .count = count, .k = k,
                                           .filter = filter, .recall = recall, .exact = exact};
    enum akin_status status = akin_index_search(h->index, &query, ids, scores, &error);
    return told(status, &error, message);
}

EXPORT void sa_close(struct handle *h)
{
    if (!h)
        return;
    akin_index_close(&h->index);
    akin_engine_close(&h->engine);
    free(h);
}
