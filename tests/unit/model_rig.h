/* A model opened with a pool and a backend of its own, and the texts of tests/fixtures/models. */
#pragma once

#include "model_helpers.h"

#include <math.h>

#include "base/cpu.h"
#include "base/npy.h"
#include "base/rng.h"
#include "base/thread.h"
#include "compute/backend.h"
#include "model/model.h"

struct rig {
    struct topology *topology;  /* NULL: none is known */
    struct thread_pool *pool;
    struct backend *backend;
    struct model *model;
};

/* On a made-up machine (topology.h); NULL: where nothing is known. */
static inline void rig_start_on(struct rig *rig, const char *machine, int threads)
{
    struct akin_error error = { 0 };
    *rig = (struct rig){ .topology = machine ? topology_create(machine) : NULL };
    rig->pool = thread_pool_create_on(threads, rig->topology, PIN_CORES);
    assert_non_null(rig->pool);
    if (cpu_backend_create(cpu_detect(), rig->pool, &rig->backend, &error) != AKIN_OK)
        fail_msg("%s", error.message);
}

static inline void rig_start(struct rig *rig, int threads)
{
    rig_start_on(rig, NULL, threads);
}

static inline void rig_open_on(struct rig *rig, const char *machine, const char *folder,
                               int threads)
{
    struct akin_error error = { 0 };
    rig_start_on(rig, machine, threads);
    if (model_open(rig->backend, rig->pool, folder, AKIN_PRECISION_FP32, NULL, &rig->model, &error))
        fail_msg("%s", error.message);
}

static inline void rig_open(struct rig *rig, const char *folder, int threads)
{
    rig_open_on(rig, NULL, folder, threads);
}

static inline void rig_close(struct rig *rig)
{
    model_close(&rig->model);
    cpu_backend_destroy(&rig->backend);
    thread_pool_destroy(&rig->pool);
    topology_destroy(&rig->topology);
}

/* Texts, and the ids that they should give. */
struct corpus {
    json_t **rows;
    struct akin_text *texts;
    size_t count, capacity, text_capacity;
};

static inline void corpus_read(struct corpus *corpus, const char *path)
{
    *corpus = (struct corpus){ 0 };
    struct line_reader *reader;
    struct akin_error error = { 0 };
    if (line_reader_open(path, &reader, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    const char *line;
    size_t bytes;
    while (line_reader_next(reader, &line, &bytes, NULL) == AKIN_OK && line) {
        assert_true(array_reserve((void **)&corpus->rows, &corpus->capacity, corpus->count + 1,
                                  sizeof *corpus->rows));
        assert_true(array_reserve((void **)&corpus->texts, &corpus->text_capacity,
                                  corpus->count + 1, sizeof *corpus->texts));
        json_t *row = json_loadb(line, bytes, JSON_ALLOW_NUL, NULL);
        assert_non_null(row);
        const json_t *text = json_object_get(row, "text");
        corpus->rows[corpus->count] = row;
        corpus->texts[corpus->count++] = (struct akin_text){ json_string_value(text),
                                                             json_string_length(text) };
    }
    line_reader_close(&reader);
    assert_true(corpus->count > 0);
}

static inline void corpus_free(struct corpus *corpus)
{
    for (size_t i = 0; i < corpus->count; i++)
        json_decref(corpus->rows[i]);
    memory_free(corpus->rows);
    memory_free(corpus->texts);
}

static inline float *embed(struct rig *rig, const struct akin_text *texts, size_t count,
                           const struct akin_embed_settings *settings,
                           struct akin_embed_report *report)
{
    struct akin_model_info info;
    model_info(rig->model, &info);
    float *vectors = memory_alloc(count, info.dimension * sizeof *vectors);
    assert_non_null(vectors);
    struct akin_error error = { 0 };
    if (model_embed(rig->model, texts, count, settings, vectors, report, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return vectors;
}

/* Every row against the expected npy: cosine, and elementwise where error_max is not 0. */
static inline void compare_with(const float *vectors, size_t count, size_t dimension,
                                const char *path, double cosine_min, double error_max)
{
    struct npy npy;
    struct akin_error error = { 0 };
    if (npy_open_matrix(path, &npy, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    assert_true(npy.shape[0] == count && npy.shape[1] == dimension);
    double lowest = 1, largest = 0;
    for (size_t i = 0; i < count; i++) {
        const float *a = vectors + i * dimension, *b = (const float *)npy.data + i * dimension;
        double ab = 0, aa = 0, bb = 0;
        for (size_t d = 0; d < dimension; d++) {
            ab += (double)a[d] * b[d];
            aa += (double)a[d] * a[d];
            bb += (double)b[d] * b[d];
            largest = fmax(largest, fabs((double)a[d] - b[d]));
        }
        double cosine = ab / sqrt(aa * bb);
        if (!(cosine >= cosine_min))
            fail_msg("%s: row %zu: cosine %.9f", path, i, cosine);
        lowest = fmin(lowest, cosine);
    }
    print_message("%s: cosine min %.9f, error max %.2e\n", path_last(path), lowest, largest);
    if (error_max > 0 && !(largest <= error_max))
        fail_msg("%s: error %.3e is above %.1e", path, largest, error_max);
    npy_close(&npy);
}
