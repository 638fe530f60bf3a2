/* Writing one segment out of the live rows of parts; and whole new files in that way. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "compute/cpu/kernels.h"
#include "index/collection_parts.h"

/* ---- which rows -------------------------------------------------------------------------- */

int origin_order(const void *a, const void *b)
{
    const struct origin *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static enum akin_status gather(struct job *job, struct akin_error *error)
{
    job->origins = memory_alloc(job->rows, sizeof *job->origins);
    if (!job->origins)
        return error_memory(error);
    size_t count = 0;
    bool ascending = true;
    for (size_t i = 0; i < job->count; i++) {
        const struct view *view = &job->sources[i];
        for (size_t row = 0; row < view->rows; row++) {
            if (!bits_alive(view->bits, row))
                continue;
            int64_t id = part_id(view->part, row);
            ascending = ascending && (!count || id > job->origins[count - 1].id);
            job->origins[count++] = (struct origin){ id, (uint32_t)i, (uint32_t)row };
        }
    }
    ASSERT(count == job->rows);
    if (!ascending)
        qsort(job->origins, count, sizeof *job->origins, origin_order);
    return AKIN_OK;
}

static const struct part *part_of(const struct job *job, size_t i)
{
    return job->sources[job->origins[i].source].part;
}

static struct text text_of(const struct job *job, size_t i, enum collection_field field)
{
    return part_text(part_of(job, i), job->origins[i].row, field);
}

/* All rows of one part as they lie there. */
static bool in_place(const struct job *job)
{
    const struct part *part = job->sources[0].part;
    if (job->count != 1 || part->element != ELEMENT_F32 || (uintptr_t)part->vectors % 64)
        return false;
    for (size_t i = 0; i < job->rows; i++)
        if (job->origins[i].row != i)
            return false;
    return true;
}

/* ---- blocks ------------------------------------------------------------------------------ */

struct writer {
    const struct collection *c;
    struct job *job;
    const struct segment_sink *sink;
    const void *vectors;                /* [rows][dim], ordered: what a kind is built from */
    void *copy;                         /* where they had to be */
};

static enum akin_status begin(const struct writer *w, uint32_t type, struct akin_error *error)
{
    return w->sink->begin(w->sink->context, type, error);
}

static enum akin_status put(const struct writer *w, const void *data, size_t bytes,
                            struct akin_error *error)
{
    return bytes ? w->sink->append(w->sink->context, data, bytes, error) : AKIN_OK;
}

/* Rows in order, in half precision or in float32. */
static enum akin_status copy_vectors(struct writer *w, struct akin_error *error)
{
    const struct job *job = w->job;
    const struct kernels *k = cpu_kernels(w->c->host.backend);
    size_t dim = w->c->dim;
    bool half = collection_element(w->c) == ELEMENT_F16;
    float row[INDEX_DIMENSION_MAX];
    w->copy = memory_alloc_aligned(job->rows, dim * (half ? sizeof(uint16_t) : sizeof(float)));
    if (!w->copy)
        return error_memory(error);
    for (size_t i = 0; i < job->rows; i++) {
        part_row(w->c, part_of(job, i), job->origins[i].row, row);
        if (half)
            k->narrow_f16((uint16_t *)w->copy + i * dim, row, dim);
        else
            memcpy((float *)w->copy + i * dim, row, dim * sizeof *row);
    }
    w->vectors = w->copy;
    return AKIN_OK;
}

static enum akin_status put_vectors(struct writer *w, struct akin_error *error)
{
    const struct job *job = w->job;
    enum element_type element = collection_element(w->c);
    if (element != ELEMENT_F16 && in_place(job))
        w->vectors = job->sources[0].part->vectors;
    else
        TRY(copy_vectors(w, error));
    if (element != ELEMENT_I8) {
        TRY(begin(w, STORE_BLOCK_VECTORS, error));
        TRY(put(w, w->vectors, job->rows * w->c->dim * element_bytes(element), error));
    }
    TRY(begin(w, STORE_BLOCK_IDS, error));
    for (size_t i = 0; i < job->rows; i++)
        TRY(put(w, &job->origins[i].id, sizeof job->origins[i].id, error));
    return AKIN_OK;
}

static enum akin_status put_keys(const struct writer *w, struct akin_error *error)
{
    const enum collection_field field = COLLECTION_KEY;
    uint64_t at = 0;
    TRY(begin(w, COLLECTION_BLOCK_KEYS, error));
    for (size_t i = 0; i < w->job->rows; i++) {
        TRY(put(w, &at, sizeof at, error));
        at += text_of(w->job, i, field).count;
    }
    TRY(put(w, &at, sizeof at, error));
    for (size_t i = 0; i < w->job->rows; i++) {
        struct text text = text_of(w->job, i, field);
        TRY(put(w, text.bytes, text.count, error));
    }
    return AKIN_OK;
}

static int by_key(const void *a, const void *b, void *context)
{
    const struct job *job = context;
    struct text x = text_of(job, *(const uint32_t *)a, COLLECTION_KEY);
    struct text y = text_of(job, *(const uint32_t *)b, COLLECTION_KEY);
    if (!x.count || !y.count)
        return !x.count - !y.count;
    int order = memcmp(x.bytes, y.bytes, x.count < y.count ? x.count : y.count);
    return order ? order : x.count < y.count ? -1 : x.count > y.count;
}

static enum akin_status put_key_order(const struct writer *w, struct akin_error *error)
{
    size_t rows = w->job->rows;
    uint32_t *order = memory_alloc(rows, sizeof *order);
    if (!order)
        return error_memory(error);
    for (size_t i = 0; i < rows; i++)
        order[i] = (uint32_t)i;
    qsort_r(order, rows, sizeof *order, by_key, w->job);
    enum akin_status status = begin(w, COLLECTION_BLOCK_KEY_ORDER, error);
    if (status == AKIN_OK)
        status = put(w, order, rows * sizeof *order, error);
    memory_free(order);
    return status;
}

static bool any_text(const struct job *job, enum collection_field field)
{
    for (size_t i = 0; i < job->rows; i++)
        if (text_of(job, i, field).count)
            return true;
    return false;
}

static bool may_have(const struct job *job, enum collection_field field)
{
    for (size_t i = 0; i < job->count; i++) {
        const struct part *part = job->sources[i].part;
        bool keys = part->own_keys || part->keys.offsets;
        bool metadata = part->own_columns || part->borrowed || part->columns.texts.starts;
        if (field == COLLECTION_KEY ? keys : metadata)
            return any_text(job, field);
    }
    return false;
}

static const char *metadata_at(const void *context, size_t row, size_t *bytes)
{
    struct text text = text_of(context, row, COLLECTION_METADATA);
    *bytes = text.count;
    return text.bytes;
}

enum akin_status job_write(const struct collection *c, struct job *job,
                           const struct segment_sink *sink, struct akin_error *error)
{
    struct writer w = { .c = c, .job = job, .sink = sink };
    enum akin_status status = AKIN_OK;
    TRY_DONE(gather(job, error));
    TRY_DONE(put_vectors(&w, error));
    if (job->why[0]) {
        TRY_DONE(begin(&w, COLLECTION_BLOCK_WHY, error));
        TRY_DONE(put(&w, job->why, strlen(job->why), error));
    }
    if (may_have(job, COLLECTION_KEY)) {
        TRY_DONE(put_keys(&w, error));
        TRY_DONE(put_key_order(&w, error));
    }
    if (may_have(job, COLLECTION_METADATA)) {
        struct columns_rows rows = { .count = job->rows, .context = job, .text = metadata_at };
        TRY_DONE(columns_build(&rows, sink, error));
    }
    struct segment_build build = {
        .backend = job->backend, .pool = job->pool,
        .rows = { .vectors = w.vectors, .element = collection_element(c), .count = job->rows,
                  .dim = c->dim, .score = collection_score(c) },
        .settings = { .seed = c->creation.seed, .nlist = c->creation.nlist,
                      .pq_bytes = c->creation.pq_bytes, .pq_bits = c->creation.pq_bits,
                      .degree = c->creation.degree, .beam = c->creation.beam,
                      .like = job->like ? segment_flat(job->like->segment) : NULL },
    };
    if (job->progress)
        build.settings.progress = *job->progress;
    status = segment_build(job->kind, &build, sink, error);
done:
    memory_free(w.copy);
    return status;
}

/* ---- a new file -------------------------------------------------------------------------- */

static enum akin_status take_keys(struct part *part, const struct akin_index_rows *rows,
                                  struct akin_error *error)
{
    struct string_map seen = { 0 };
    enum akin_status status = AKIN_OK;
    part->own_keys = memory_alloc(rows->count, sizeof *part->own_keys);
    if (!part->own_keys)
        return error_memory(error);
    for (size_t i = 0; i < rows->count && status == AKIN_OK; i++) {
        const char *key = rows->keys[i] ? rows->keys[i] : "";
        size_t bytes = strlen(key);
        uint64_t before;
        bool added;
        part->own_keys[i] = (struct text){ key, bytes };
        if (!bytes || bytes > INDEX_KEY_BYTES_MAX)
            status = error_set(error, bytes ? AKIN_LIMIT : AKIN_ARGUMENT,
                               "row %zu: a key has 1 to %d bytes", i, INDEX_KEY_BYTES_MAX);
        else if (!string_map_put(&seen, key, bytes, i, &before, &added))
            status = error_memory(error);
        else if (!added)
            status = error_set(error, AKIN_ARGUMENT, "rows %" PRIu64 " and %zu have the same key",
                               before, i);
    }
    string_map_deinit(&seen);
    return status;
}

enum akin_status check_metadata(const struct text *texts, size_t count, struct akin_error *error)
{
    for (size_t i = 0; i < count; i++) {
        char where[32];
        snprintf(where, sizeof where, "row %zu", i);
        if (texts[i].count)
            TRY(columns_row_check(texts[i].bytes, texts[i].count, where, error));
    }
    return AKIN_OK;
}

static enum akin_status take_metadata(struct part *part, const struct akin_index_rows *rows,
                                      struct akin_error *error)
{
    struct text *texts = memory_alloc(rows->count, sizeof *texts);
    if (!texts)
        return error_memory(error);
    part->borrowed = texts;
    for (size_t i = 0; i < rows->count; i++) {
        texts[i].bytes = rows->metadata[i] ? rows->metadata[i] : "";
        texts[i].count = strlen(texts[i].bytes);
    }
    return check_metadata(texts, rows->count, error);
}

enum akin_status part_borrow(const struct collection *c, struct part *part, const float *vectors,
                             size_t count, struct akin_error *error)
{
    bool unit = true;
    part->rows = count;
    part->dim = c->dim;
    part->vectors = vectors;
    for (size_t i = 0; c->metric == AKIN_METRIC_COSINE && unit && i < count; i++)
        unit = is_unit_row(vectors + i * c->dim, c->dim);
    if (unit)
        return AKIN_OK;
    part->own_vectors = memory_alloc_aligned(count, c->dim * sizeof(float));
    if (!part->own_vectors)
        return error_memory(error);
    for (size_t i = 0; i < count; i++)
        unit_row(vectors + i * c->dim, c->dim, part->own_vectors + i * c->dim);
    part->vectors = part->own_vectors;
    return AKIN_OK;
}

static enum akin_status borrow(const struct collection *c, const struct akin_index_rows *rows,
                               struct part *part, struct akin_error *error)
{
    part->ids = rows->ids;
    TRY(check_finite(rows->vectors, rows->count, c->dim, "row", error));
    TRY(check_range(c, rows->vectors, rows->count, error));
    for (size_t i = 0; rows->ids && i < rows->count; i++)
        if (rows->ids[i] < 0)
            return error_set(error, AKIN_ARGUMENT,
                             "row %zu: its id is %" PRId64 ": ids must not be negative", i,
                             rows->ids[i]);
    TRY(part_borrow(c, part, rows->vectors, rows->count, error));
    if (rows->keys)
        TRY(take_keys(part, rows, error));
    return rows->metadata ? take_metadata(part, rows, error) : AKIN_OK;
}

static enum akin_status check_ids(const struct job *job, struct akin_error *error)
{
    const struct origin *o = job->origins;
    for (size_t i = 1; i < job->rows; i++)
        if (o[i].id == o[i - 1].id)
            return error_set(error, AKIN_ARGUMENT,
                             "rows %" PRIu32 " and %" PRIu32 " have the same id %" PRId64,
                             o[i - 1].row < o[i].row ? o[i - 1].row : o[i].row,
                             o[i - 1].row < o[i].row ? o[i].row : o[i - 1].row, o[i].id);
    return AKIN_OK;
}

static enum akin_status write_segment(struct collection *c, struct job *job,
                                      const struct akin_progress *progress,
                                      struct akin_error *error)
{
    struct store_segment_writer *writer = NULL;
    struct store_segment_ref ref = { 0 };
    enum akin_status status = AKIN_OK;
    plan_segment(c, job);
    job->backend = c->host.backend;
    job->pool = c->host.pool;
    job->progress = progress;
    TRY(store_segment_begin(c->store, &writer, error));
    struct segment_sink sink = store_segment_sink(writer);
    TRY_DONE(job_write(c, job, &sink, error));
    TRY_DONE(check_ids(job, error));
    TRY_DONE(store_segment_end(&writer, job->kind, job->rows, &ref.frame, error));
    int64_t last = job->origins[job->rows - 1].id;
    struct collection_state state = { .version = 1,
                                      .next_id = last == INT64_MAX ? last : last + 1 };
    struct store_layout layout = {
        .segments = &ref, .segment_count = 1, .state = &state, .state_bytes = sizeof state,
    };
    status = store_publish(c->store, &layout, error);
done:
    store_segment_abort(&writer);
    return status;
}

enum akin_status collection_build(const struct collection_host *host, const char *path,
                                  const struct akin_index_rows *rows, size_t dimension,
                                  const struct akin_index_settings *settings,
                                  struct akin_error *error)
{
    struct collection *c = NULL;
    struct akin_index_settings standard;
    struct part part = { 0 };
    struct view view = { .part = &part, .rows = rows->count };
    struct job job = { .sources = &view, .count = 1, .rows = rows->count };
    enum akin_status status = AKIN_OK;
    collection_settings_default(&standard);
    if (!settings)
        settings = &standard;
    if (rows->ids && rows->keys)
        return error_set(error, AKIN_ARGUMENT, "rows are named by ids or by keys, not by both");
    if (rows->count > UINT32_MAX)
        return error_set(error, AKIN_LIMIT, "%zu vectors: an index takes up to %" PRIu32,
                         rows->count, UINT32_MAX);
    TRY(collection_init(host, path, &c, error));
    TRY_DONE(collection_set_creation(c, dimension, settings, error));
    TRY_DONE(borrow(c, rows, &part, error));
    struct store_settings store_settings = collection_store_settings(c);
    TRY_DONE(store_create(path, &store_settings, &c->store, error));
    if (rows->count)
        TRY_DONE(write_segment(c, &job, &settings->progress, error));
    status = store_appear(c->store, NULL, error);
done:
    memory_free(job.origins);
    memory_free(part.own_vectors);
    memory_free(part.own_keys);
    memory_free((void *)part.borrowed);
    collection_close(&c);
    return status;
}
