/* See reranker_store.h. */
#include "recommend/reranker_store.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/safetensors_write.h"

#define AGAIN "run akin fit --reranker again"
#define TERM_KEY "wanted.%zu"

static const char *const shape_keys[] = { "dimension", "wanted" };

enum { SHAPE_KEYS = sizeof shape_keys / sizeof *shape_keys };

/* ---- writing ---------------------------------------------------------------------------- */

/* Nothing can be told. */
static bool is_absent(const struct reranker *r, int tensor)
{
    return tensor == RERANKER_MATCH && !r->layout.wanted;
}

static enum akin_status write_tensors(const struct reranker *r, struct safetensors_header *header,
                                      struct file_writer *writer, struct akin_error *error)
{
    for (int t = 0; t < RERANKER_TENSORS; t++) {
        const struct reranker_place *at = &r->layout.at[t];
        if (is_absent(r, t))
            continue;
        safetensors_describe_tensor(header, reranker_tensor_name((enum reranker_tensor)t),
                                    SAFETENSORS_F32, at->cols ? 2 : 1,
                                    (const size_t[]){ at->rows, at->cols });
    }
    TRY(safetensors_put_header(header, writer, error));
    for (int t = 0; t < RERANKER_TENSORS; t++) {
        const struct reranker_place *at = &r->layout.at[t];
        if (is_absent(r, t))
            continue;
        TRY(file_writer_write(writer, r->values + at->offset,
                              at->rows * (at->cols ? at->cols : 1) * sizeof(float), error));
    }
    return AKIN_OK;
}

enum akin_status reranker_write(const struct reranker *r, const char *path, const char *identity,
                                struct akin_error *error)
{
    struct safetensors_header header = { 0 };
    struct file_writer *writer;
    char text[32];
    const size_t shape[SHAPE_KEYS] = { r->layout.dim, r->layout.wanted };
    TRY(file_writer_open(path, &writer, error));
    snprintf(text, sizeof text, "%d", RERANKER_FORMAT);
    safetensors_describe_text(&header, "akin_reranker", text);
    safetensors_describe_text(&header, "items", identity);
    for (size_t k = 0; k < SHAPE_KEYS; k++) {
        snprintf(text, sizeof text, "%zu", shape[k]);
        safetensors_describe_text(&header, shape_keys[k], text);
    }
    for (size_t w = 1; w <= r->layout.wanted; w++) {
        snprintf(text, sizeof text, TERM_KEY, w);
        safetensors_describe_text(&header, text, r->names[w].text);
    }
    enum akin_status status = write_tensors(r, &header, writer, error);
    safetensors_header_deinit(&header);
    if (status == AKIN_OK)
        return file_writer_commit(&writer, error);
    file_writer_abort(&writer);
    return status;
}

/* ---- reading ---------------------------------------------------------------------------- */

static enum akin_status check_identity(const struct safetensors *file, const char *identity,
                                       struct akin_error *error)
{
    const char *path = safetensors_path(file);
    const char *version = safetensors_metadata(file, "akin_reranker");
    const char *items = safetensors_metadata(file, "items");
    if (!version || !items)
        return error_set(error, AKIN_FORMAT, "%s: no reranker: __metadata__ does not say so; "
                         AGAIN, path);
    if (strtol(version, NULL, 10) != RERANKER_FORMAT)
        return error_set(error, AKIN_FORMAT, "%s: version %.20s, this program reads %d; " AGAIN,
                         path, version, RERANKER_FORMAT);
    if (strcmp(items, identity))
        return error_set(error, AKIN_FORMAT, "%s: trained on other items than this catalogue's; "
                         AGAIN, path);
    return AKIN_OK;
}

static enum akin_status read_shape(const struct safetensors *file, size_t shape[SHAPE_KEYS],
                                   struct akin_error *error)
{
    for (size_t k = 0; k < SHAPE_KEYS; k++) {
        const char *text = safetensors_metadata(file, shape_keys[k]);
        char *end = NULL;
        unsigned long value = text ? strtoul(text, &end, 10) : 0;
        if (!text || end == text || *end || value > RERANKER_DIM_MAX)
            return error_set(error, AKIN_FORMAT, "%s: __metadata__: %s: no number that a reranker "
                             "has; " AGAIN, safetensors_path(file), shape_keys[k]);
        shape[k] = value;
    }
    return AKIN_OK;
}

static enum akin_status read_names(const struct safetensors *file, struct reranker *r,
                                   struct akin_error *error)
{
    char key[32];
    for (size_t w = 1; w <= r->layout.wanted; w++) {
        snprintf(key, sizeof key, TERM_KEY, w);
        const char *name = safetensors_metadata(file, key);
        if (!name || !*name || strlen(name) >= SITUATION_TERM_BYTES)
            return error_set(error, AKIN_FORMAT, "%s: __metadata__: %s: no name of a situation; "
                             AGAIN, safetensors_path(file), key);
        snprintf(r->names[w].text, SITUATION_TERM_BYTES, "%s", name);
    }
    return AKIN_OK;
}

static enum akin_status read_tensor(const struct safetensors *file, const struct reranker *r,
                                    enum reranker_tensor tensor, struct akin_error *error)
{
    const char *path = safetensors_path(file), *name = reranker_tensor_name(tensor);
    const struct safetensors_tensor *t = safetensors_find(file, name);
    const struct reranker_place *at = &r->layout.at[tensor];
    if (!t)
        return error_set(error, AKIN_FORMAT, "%s: tensor %s is missing; " AGAIN, path, name);
    if (t->type != SAFETENSORS_F32 || t->dims != (at->cols ? 2u : 1u) || t->shape[0] != at->rows ||
        (at->cols && t->shape[1] != at->cols))
        return error_set(error, AKIN_FORMAT, "%s: tensor %s: another type or shape than F32 "
                         "[%zu, %zu]; " AGAIN, path, name, at->rows, at->cols ? at->cols : 1);
    float *to = reranker_at(r, tensor);
    memcpy(to, t->data, t->bytes);
    for (size_t i = 0; i < t->elements; i++)
        if (!isfinite(to[i]))
            return error_set(error, AKIN_FORMAT, "%s: tensor %s: number %zu is not finite; " AGAIN,
                             path, name, i);
    return AKIN_OK;
}

static enum akin_status read_all(const struct kernels *kernels, const struct safetensors *file,
                                 const char *identity, size_t items, struct reranker *r,
                                 struct akin_error *error)
{
    size_t shape[SHAPE_KEYS];
    struct reranker_layout layout;
    struct akin_error why;
    TRY(check_identity(file, identity, error));
    TRY(read_shape(file, shape, error));
    if (reranker_lay_out(items, shape[0], shape[1], &layout, &why) != AKIN_OK)
        return error_set(error, AKIN_FORMAT, "%s: %s; " AGAIN, safetensors_path(file),
                         why.message);
    TRY(reranker_init(&layout, r, error));
    TRY(read_names(file, r, error));
    for (int t = 0; t < RERANKER_TENSORS; t++)
        if (!is_absent(r, t))
            TRY(read_tensor(file, r, (enum reranker_tensor)t, error));
    return reranker_derive(kernels, NULL, r, error);
}

enum akin_status reranker_read(const struct kernels *kernels, const char *path,
                               const char *identity, size_t items, struct reranker *reranker,
                               struct akin_error *error)
{
    struct safetensors *file;
    struct reranker made = { 0 };
    TRY(safetensors_open(path, &file, error));
    enum akin_status status = read_all(kernels, file, identity, items, &made, error);
    safetensors_close(&file);
    if (status == AKIN_OK)
        *reranker = made;
    else
        reranker_deinit(&made);
    return status;
}
