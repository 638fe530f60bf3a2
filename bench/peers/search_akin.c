/* akin as search_engines.py calls it: plain C functions over libakin, made into a shared library
 * and called from Python like every peer. What depends on the shape of akin's index API is here.
 *
 * Functions that can fail return 0, or 1 with one line in `message` [1024]. */
#include <akin/akin.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

/* Adds all rows to a new flat index, `batch` at a time; with `sync`, each batch is durable before
 * the next, without it, all are when this returns. */
EXPORT int sa_insert(const char *path, const float *vectors, size_t rows, size_t dimension,
                     size_t batch, int threads, int sync, char *message)
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
        if (status == AKIN_OK && (sync || at + batch >= rows))
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

/* ---- searches while rows come in ------------------------------------------------------------- */

enum { TIMES_MAX = 1 << 20, ADD_ROWS = 100, SYNC_ROWS = 1000 };

struct reader {
    const struct akin_index *index;
    const float *queries;
    size_t count, dimension;
    float recall;
    atomic_int stop;
    double *us;
    size_t calls;
    int failed;
    struct akin_error error;
};

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void *read_on(void *argument)
{
    struct reader *r = argument;
    int64_t ids[10];
    float scores[10];
    for (r->calls = 0; !atomic_load(&r->stop) && r->calls < TIMES_MAX && !r->failed; r->calls++) {
        const struct akin_index_query query = {
            .vectors = r->queries + r->calls % r->count * r->dimension, .count = 1, .k = 10,
            .recall = r->recall};
        const double begin = now_us();
        r->failed = akin_index_search(r->index, &query, ids, scores, &r->error) != AKIN_OK;
        r->us[r->calls] = now_us() - begin;
    }
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void percentiles(struct reader *r, double out[2])
{
    qsort(r->us, r->calls, sizeof *r->us, by_value);
    out[0] = r->calls ? r->us[r->calls / 2] : 0;
    out[1] = r->calls ? r->us[r->calls * 99 / 100] : 0;
}

static void pause_us(double us)
{
    const struct timespec t = {.tv_sec = (time_t)(us / 1e6),
                               .tv_nsec = (long)(us - (time_t)(us / 1e6) * 1e6) * 1000};
    nanosleep(&t, NULL);
}

/* Adds rows at a rate for so long; rate 0: as fast as it goes. */
static enum akin_status write_on(struct akin_index *index, const float *vectors, size_t rows,
                                 size_t dimension, double rate, double us, double out[2],
                                 struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    const double begin = now_us();
    size_t done = 0;
    double slowest = 0;
    while (status == AKIN_OK && now_us() - begin < us) {
        if (rate > 0 && done >= (now_us() - begin) / 1e6 * rate) {
            pause_us(500);
            continue;
        }
        const struct akin_index_rows part = {
            .vectors = vectors + done % (rows - ADD_ROWS) * dimension, .count = ADD_ROWS};
        const double at = now_us();
        status = akin_index_add(index, &part, error);
        done += ADD_ROWS;
        if (status == AKIN_OK && done % SYNC_ROWS == 0)
            status = akin_index_sync(index, NULL, error);
        slowest = now_us() - at > slowest ? now_us() - at : slowest;
    }
    out[0] = done / ((now_us() - begin) / 1e6);
    out[1] = slowest;
    return status;
}

/* Searches of one thread in the index at `path`, first alone, then while another thread adds rows.
 * out: p50 and p99 of the first, p50 and p99 of the second, in microseconds; rows added a second;
 * the slowest add with its sync. */
EXPORT int sa_live(const char *path, const float *vectors, size_t rows, size_t dimension,
                   const float *queries, size_t count, float recall, double rate, double seconds,
                   double out[6], char *message)
{
    struct akin_engine *engine = NULL;
    struct akin_index *index = NULL;
    struct akin_error error = {0};
    struct reader reader = {.queries = queries, .count = count, .dimension = dimension,
                            .recall = recall, .us = malloc(TIMES_MAX * sizeof(double))};
    enum akin_status status = open_engine(1, &engine, &error);
    if (status == AKIN_OK)
        status = akin_index_open(engine, path, AKIN_INDEX_WRITE, &index, &error);
    reader.index = index;
    for (int busy = 0; busy < 2 && status == AKIN_OK && reader.us; busy++) {
        pthread_t thread;
        atomic_store(&reader.stop, 0);
        if (pthread_create(&thread, NULL, read_on, &reader))
            break;
        if (busy)
            status = write_on(index, vectors, rows, dimension, rate, seconds * 1e6, out + 4,
                              &error);
        else
            pause_us(seconds * 1e6);
        atomic_store(&reader.stop, 1);
        pthread_join(thread, NULL);
        percentiles(&reader, out + 2 * busy);
    }
    if (reader.failed)
        status = AKIN_ARGUMENT, error = reader.error;
    free(reader.us);
    akin_index_close(&index);
    akin_engine_close(&engine);
    return told(status, &error, message);
}
