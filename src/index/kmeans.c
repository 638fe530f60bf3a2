/* Lloyd's iterations over a sample. The nearest centroid of x is the one with the greatest
 * x c - |c|^2 / 2: a linear map with a bias, which the backend has. Members are summed cluster by
 * cluster in order of row, so the partition of the work changes no bit. A cluster without members
 * takes half of the largest one, as in faiss. */
#include "index/kmeans.h"

#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "compute/cpu/kernels.h"

enum { CHUNK_ROWS = 96, SAMPLE_MAX = 65536, MEAN_ROWS = 16384, ITERATIONS = 6, NARROW_FROM = 64 };

enum akin_status kmeans_mean(struct backend *backend, const struct segment_rows *rows,
                             uint64_t seed, float *mean, struct akin_error *error)
{
    size_t dim = rows->dim, count = rows->count < MEAN_ROWS ? rows->count : MEAN_ROWS;
    uint32_t *sample = memory_alloc(count, sizeof *sample);
    double *sums = memory_alloc(dim, sizeof *sums);
    float *row = memory_alloc_aligned(dim, sizeof *row);
    bool done = sample && sums && row;
    if (done)
        sample_rows(seed, rows->count, count, sample);
    for (size_t i = 0; done && i < count; i++) {
        segment_row(backend, rows, sample[i], NULL, row);
        for (size_t d = 0; d < dim; d++)
            sums[d] += (double)row[d];
    }
    for (size_t d = 0; done && d < dim; d++)
        mean[d] = count ? (float)(sums[d] / (double)count) : 0;
    memory_free(row);
    memory_free(sums);
    memory_free(sample);
    return done ? AKIN_OK : error_memory(error);
}

/* ---- the nearest centroid --------------------------------------------------------------- */

struct kmeans_assigner {
    struct backend *backend;
    struct thread_pool *pool;
    const struct segment_rows *rows;
    const float *origin;
    size_t clusters, lane_count;
    struct linear *linear;
    struct lane **lanes;            /* [threads] */
};

struct assignment {
    const struct kmeans_assigner *assigner;
    const uint32_t *which;
    size_t begin, end;
    uint32_t *cells;
};

static void assign_chunk(void *context, size_t chunk, int worker)
{
    const struct assignment *a = context;
    const struct kmeans_assigner *w = a->assigner;
    const struct backend_ops *ops = w->backend->ops;
    struct lane *lane = w->lanes[worker];
    size_t first = a->begin + chunk * CHUNK_ROWS, dim = w->rows->dim;
    size_t count = a->end - first < CHUNK_ROWS ? a->end - first : CHUNK_ROWS;
    ops->lane_reset(lane);
    struct tensor x = ops->tensor_take(lane, count, dim);
    struct tensor scores = ops->tensor_take(lane, count, w->clusters);
    ASSERT(x.data && scores.data);
    for (size_t i = 0; i < count; i++)
        segment_row(w->backend, w->rows, a->which ? a->which[first + i] : first + i, w->origin,
                    x.data + i * dim);
    ops->linear(lane, &scores, &x, w->linear, ACTIVATION_NONE);
    cpu_kernels(w->backend)->argmax_f32(a->cells + (first - a->begin), scores.data, w->clusters,
                                        count, w->clusters);
}

void kmeans_assign(struct kmeans_assigner *assigner, const uint32_t *which, size_t begin,
                   size_t end, uint32_t *cells)
{
    struct assignment assignment = {assigner, which, begin, end, cells};
    thread_pool_each(assigner->pool, (end - begin + CHUNK_ROWS - 1) / CHUNK_ROWS, assign_chunk,
                     &assignment);
}

/* -|c|^2 / 2 of each centroid. */
static void half_norms(const float *centroids, size_t clusters, size_t dim, float *bias)
{
    for (size_t c = 0; c < clusters; c++) {
        double sum = 0;
        for (size_t d = 0; d < dim; d++)
            sum += (double)centroids[c * dim + d] * (double)centroids[c * dim + d];
        bias[c] = (float)(-sum / 2);
    }
}

enum akin_status kmeans_assigner_create(struct backend *backend, struct thread_pool *pool,
                                        const struct segment_rows *rows, const float *origin,
                                        const float *centroids, size_t clusters,
                                        struct kmeans_assigner **assigner, struct akin_error *error)
{
    size_t dim = rows->dim, threads = (size_t)thread_pool_size(pool), floats;
    struct kmeans_assigner *made = memory_alloc(1, sizeof *made);
    float *bias = memory_alloc(clusters, sizeof *bias);
    enum akin_status status = AKIN_OK;
    if (!made || !bias)
        TRY_DONE(error_memory(error));
    *made = (struct kmeans_assigner){
        .backend = backend, .pool = pool, .rows = rows, .origin = origin, .clusters = clusters };
    half_norms(centroids, clusters, dim, bias);
    struct host_matrix weight = { centroids, ELEMENT_F32, clusters, dim };
    enum compute_precision precision = dim < NARROW_FROM ? COMPUTE_FP32 : COMPUTE_INT8;
    TRY_DONE(backend->ops->linear_create(backend, &weight, bias, NULL, precision, &made->linear,
                                         error));
    made->lanes = memory_alloc(threads, sizeof(struct lane *));
    if (!made->lanes || !size_mul(CHUNK_ROWS, clusters + dim, &floats) ||
        !size_add(floats, 64, &floats))
        TRY_DONE(error_memory(error));
    for (; made->lane_count < threads; made->lane_count++)
        TRY_DONE(backend->ops->lane_create(backend, floats, &made->lanes[made->lane_count], error));
    *assigner = made;
    made = NULL;
done:
    memory_free(bias);
    kmeans_assigner_destroy(&made);
    return status;
}

void kmeans_assigner_destroy(struct kmeans_assigner **assigner)
{
    struct kmeans_assigner *a = *assigner;
    if (!a)
        return;
    for (size_t i = 0; i < a->lane_count; i++)
        a->backend->ops->lane_destroy(&a->lanes[i]);
    memory_free(a->lanes);
    if (a->linear)
        a->backend->ops->linear_destroy(&a->linear);
    memory_free(a);
    *assigner = NULL;
}

/* ---- training --------------------------------------------------------------------------- */

struct training {
    struct backend *backend;
    const struct segment_rows *rows;
    const float *origin;
    size_t clusters, sample_count;
    uint32_t *sample, *cells;       /* [sample_count]: rows and their clusters */
    uint32_t *members, *starts;     /* [sample_count], [clusters + 1]: rows by cluster */
    float *centroids, *scratch;     /* [clusters][dim]; [threads][dim] */
};

static void sort_members(struct training *t)
{
    memset(t->starts, 0, (t->clusters + 1) * sizeof *t->starts);
    for (size_t i = 0; i < t->sample_count; i++)
        t->starts[t->cells[i]]++;
    uint32_t sum = 0;
    for (size_t c = 0; c <= t->clusters; c++) {
        uint32_t count = t->starts[c];
        t->starts[c] = sum;
        sum += count;
    }
    for (size_t i = 0; i < t->sample_count; i++)
        t->members[t->starts[t->cells[i]]++] = t->sample[i];
    memmove(t->starts + 1, t->starts, t->clusters * sizeof *t->starts);
    t->starts[0] = 0;
}

static void update_centroids(void *context, size_t begin, size_t end, int worker)
{
    const struct training *t = context;
    const struct kernels *k = cpu_kernels(t->backend);
    size_t dim = t->rows->dim;
    float *row = t->scratch + (size_t)worker * dim;
    for (size_t c = begin; c < end; c++) {
        uint32_t count = t->starts[c + 1] - t->starts[c];
        float *centroid = t->centroids + c * dim;
        if (!count)
            continue;
        memset(centroid, 0, dim * sizeof *centroid);
        for (uint32_t i = t->starts[c]; i < t->starts[c + 1]; i++) {
            segment_row(t->backend, t->rows, t->members[i], t->origin, row);
            k->add_f32(centroid, row, dim);
        }
        k->scale_f32(centroid, 1 / (float)count, dim);
    }
}

/* An empty cluster and the largest become the two sides of the largest. */
static void repair_empty(struct training *t)
{
    size_t dim = t->rows->dim;
    uint32_t *counts = t->cells;    /* no longer needed; there are at least as many rows */
    for (size_t c = 0; c < t->clusters; c++)
        counts[c] = t->starts[c + 1] - t->starts[c];
    for (size_t c = 0; c < t->clusters; c++) {
        if (counts[c])
            continue;
        size_t most = 0;
        for (size_t i = 1; i < t->clusters; i++)
            most = counts[i] > counts[most] ? i : most;
        if (counts[most] < 2)
            return;
        float *from = t->centroids + most * dim, *to = t->centroids + c * dim;
        for (size_t d = 0; d < dim; d++) {
            float step = from[d] * (d % 2 ? 0x1p-6f : -0x1p-6f);
            to[d] = from[d] + step;
            from[d] -= step;
        }
        counts[c] = counts[most] / 2;
        counts[most] -= counts[c];
    }
}

static bool training_init(struct training *t, size_t threads)
{
    t->sample = memory_alloc(t->sample_count, sizeof *t->sample);
    t->cells = memory_alloc(t->sample_count, sizeof *t->cells);
    t->members = memory_alloc(t->sample_count, sizeof *t->members);
    t->starts = memory_alloc(t->clusters + 1, sizeof *t->starts);
    t->scratch = memory_alloc_aligned(threads * t->rows->dim, sizeof *t->scratch);
    return t->sample && t->cells && t->members && t->starts && t->scratch;
}

static enum akin_status iterate(struct training *t, struct thread_pool *pool,
                                struct akin_error *error)
{
    struct kmeans_assigner *assigner = NULL;
    TRY(kmeans_assigner_create(t->backend, pool, t->rows, t->origin, t->centroids, t->clusters,
                               &assigner, error));
    kmeans_assign(assigner, t->sample, 0, t->sample_count, t->cells);
    kmeans_assigner_destroy(&assigner);
    sort_members(t);
    thread_pool_run(pool, t->clusters, update_centroids, t);
    repair_empty(t);
    return AKIN_OK;
}

enum akin_status kmeans_train(struct backend *backend, struct thread_pool *pool,
                              const struct segment_rows *rows, const float *origin,
                              const struct kmeans_settings *settings, float *centroids,
                              struct akin_error *error)
{
    size_t clusters = settings->clusters, dim = rows->dim;
    ASSERT(clusters >= 1 && clusters <= rows->count);
    size_t wanted = settings->sample_max ? settings->sample_max : SAMPLE_MAX;
    size_t iterations = settings->iterations ? settings->iterations : ITERATIONS;
    wanted = wanted < 4 * clusters ? 4 * clusters : wanted;
    struct training t = { .backend = backend, .rows = rows, .origin = origin,
                          .clusters = clusters, .centroids = centroids,
                          .sample_count = rows->count < wanted ? rows->count : wanted };
    enum akin_status status = AKIN_OK;
    if (!training_init(&t, (size_t)thread_pool_size(pool)))
        TRY_DONE(error_memory(error));
    sample_rows(settings->seed, rows->count, t.sample_count, t.sample);
    sample_rows(settings->seed + 1, t.sample_count, clusters, t.cells);
    for (size_t c = 0; c < clusters; c++)
        segment_row(backend, rows, t.sample[t.cells[c]], origin, centroids + c * dim);
    for (size_t i = 0; i < iterations; i++) {
        const struct akin_progress *p = &settings->progress;
        if (p->update && !p->update(p->cookie, "cells", i, iterations))
            TRY_DONE(error_set(error, AKIN_CANCELLED, "stopped while the cells were trained"));
        TRY_DONE(iterate(&t, pool, error));
    }
done:
    memory_free(t.scratch);
    memory_free(t.starts);
    memory_free(t.members);
    memory_free(t.cells);
    memory_free(t.sample);
    return status;
}
