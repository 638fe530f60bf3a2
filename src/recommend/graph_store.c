/* See graph_store.h. */
#include "recommend/graph_store.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/safetensors_write.h"

#define AGAIN "run akin fit --graph again"

enum { TENSORS = 9 };

/* All that is in the file. */
struct graph_tensor {
    const char *name;
    enum safetensors_type type;
    size_t dims, shape[2];
    void *data;
};

static void list_tensors(const struct graph_model *m, float *spread,
                         struct graph_tensor tensors[TENSORS])
{
    size_t dim = m->dim, basis = m->kin.basis;
    const struct graph_tensor all[TENSORS] = {
        { "sage", SAFETENSORS_F32, 2, { GRAPH_TOWERS, graph_tower_values(dim) }, m->sage.values },
        { "kin.texts", SAFETENSORS_F32, 2, { basis, dim }, m->kin.texts },
        { "kin.genres", SAFETENSORS_U64, 1, { basis, 0 }, m->kin.genres },
        { "kin.years", SAFETENSORS_I32, 1, { basis, 0 }, m->kin.years },
        { "kin.weights", SAFETENSORS_F32, 2, { m->rank, basis }, m->kin.weights },
        { "vectors", SAFETENSORS_F32, 2, { m->items, dim + m->rank }, m->vectors },
        { "new", SAFETENSORS_U8, 1, { m->items, 0 }, m->fresh },
        { "middle", SAFETENSORS_F32, 1, { 2 * dim + m->rank, 0 }, m->middle },
        { "spread", SAFETENSORS_F32, 1, { 1, 0 }, spread },
    };
    memcpy(tensors, all, sizeof all);
}

static size_t tensor_bytes(const struct graph_tensor *t)
{
    return t->shape[0] * (t->dims == 2 ? t->shape[1] : 1) * safetensors_type_bytes(t->type);
}

/* ---- writing ---------------------------------------------------------------------------- */

static const char *const shape_keys[] = { "dimension", "basis", "rank" };

enum { SHAPE_KEYS = sizeof shape_keys / sizeof *shape_keys };

static enum akin_status write_tensors(const struct graph_model *m,
                                      struct safetensors_header *header,
                                      struct file_writer *writer, struct akin_error *error)
{
    struct graph_tensor tensors[TENSORS];
    float spread = m->spread;
    list_tensors(m, &spread, tensors);
    for (size_t t = 0; t < TENSORS; t++)
        safetensors_describe_tensor(header, tensors[t].name, tensors[t].type, tensors[t].dims,
                                    tensors[t].shape);
    TRY(safetensors_put_header(header, writer, error));
    for (size_t t = 0; t < TENSORS; t++)
        TRY(file_writer_write(writer, tensors[t].data, tensor_bytes(&tensors[t]), error));
    return AKIN_OK;
}

enum akin_status graph_model_write(const struct graph_model *m, const char *path,
                                   const char *identity, struct akin_error *error)
{
    struct safetensors_header header = { 0 };
    struct file_writer *writer;
    char text[32];
    const size_t shape[SHAPE_KEYS] = { m->dim, m->kin.basis, m->rank };
    TRY(file_writer_open(path, &writer, error));
    snprintf(text, sizeof text, "%d", GRAPH_FORMAT);
    safetensors_describe_text(&header, "akin_graph", text);
    safetensors_describe_text(&header, "items", identity);
    for (size_t k = 0; k < SHAPE_KEYS; k++) {
        snprintf(text, sizeof text, "%zu", shape[k]);
        safetensors_describe_text(&header, shape_keys[k], text);
    }
    enum akin_status status = write_tensors(m, &header, writer, error);
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
    const char *version = safetensors_metadata(file, "akin_graph");
    const char *items = safetensors_metadata(file, "items");
    if (!version || !items)
        return error_set(error, AKIN_FORMAT, "%s: no graph: __metadata__ does not say so; " AGAIN,
                         path);
    if (strtol(version, NULL, 10) != GRAPH_FORMAT)
        return error_set(error, AKIN_FORMAT, "%s: version %.20s, this program reads %d; " AGAIN,
                         path, version, GRAPH_FORMAT);
    if (strcmp(items, identity))
        return error_set(error, AKIN_FORMAT, "%s: learned from other items than this catalogue's; "
                         AGAIN, path);
    return AKIN_OK;
}

static enum akin_status read_shape(const struct safetensors *file, size_t dim,
                                   size_t shape[SHAPE_KEYS], struct akin_error *error)
{
    const size_t most[SHAPE_KEYS] = { GRAPH_DIM_MAX, KIN_BASIS_MAX, KIN_RANK_MAX };
    for (size_t k = 0; k < SHAPE_KEYS; k++) {
        const char *text = safetensors_metadata(file, shape_keys[k]);
        char *end = NULL;
        unsigned long value = text ? strtoul(text, &end, 10) : 0;
        if (!text || end == text || *end || value < 1 || value > most[k])
            return error_set(error, AKIN_FORMAT, "%s: __metadata__: %s: no number that a graph "
                             "has; " AGAIN, safetensors_path(file), shape_keys[k]);
        shape[k] = value;
    }
    if (shape[0] != dim)
        return error_set(error, AKIN_FORMAT, "%s: of vectors of %zu numbers, the catalogue has "
                         "%zu; " AGAIN, safetensors_path(file), shape[0], dim);
    return AKIN_OK;
}

static enum akin_status check_finite(const struct graph_tensor *tensor, const char *path,
                                     struct akin_error *error)
{
    const float *values = tensor->data;
    size_t count = tensor_bytes(tensor) / sizeof *values;
    for (size_t i = 0; tensor->type == SAFETENSORS_F32 && i < count; i++)
        if (!isfinite(values[i]))
            return error_set(error, AKIN_FORMAT, "%s: tensor %s: number %zu is not finite; " AGAIN,
                             path, tensor->name, i);
    return AKIN_OK;
}

static enum akin_status read_tensor(const struct safetensors *file,
                                    const struct graph_tensor *tensor, struct akin_error *error)
{
    const char *path = safetensors_path(file);
    const struct safetensors_tensor *t = safetensors_find(file, tensor->name);
    if (!t)
        return error_set(error, AKIN_FORMAT, "%s: tensor %s is missing; " AGAIN, path,
                         tensor->name);
    if (t->type != tensor->type || t->dims != tensor->dims || t->shape[0] != tensor->shape[0] ||
        (t->dims == 2 && t->shape[1] != tensor->shape[1]))
        return error_set(error, AKIN_FORMAT, "%s: tensor %s: another type or shape than %s "
                         "[%zu, %zu]; " AGAIN, path, tensor->name,
                         safetensors_type_name(tensor->type), tensor->shape[0],
                         tensor->dims == 2 ? tensor->shape[1] : 1);
    memcpy(tensor->data, t->data, t->bytes);
    return check_finite(tensor, path, error);
}

static enum akin_status read_all(const struct safetensors *file, const char *identity,
                                 size_t items, size_t dim, struct graph_model *m,
                                 struct akin_error *error)
{
    size_t shape[SHAPE_KEYS];
    struct graph_tensor tensors[TENSORS];
    TRY(check_identity(file, identity, error));
    TRY(read_shape(file, dim, shape, error));
    TRY(graph_model_init(items, shape[0], shape[1], shape[2], m, error));
    list_tensors(m, &m->spread, tensors);
    for (size_t t = 0; t < TENSORS; t++)
        TRY(read_tensor(file, &tensors[t], error));
    TRY(graph_bytes_make(&m->sage, GRAPH_USER, &m->user, error));
    for (size_t i = 0; i < items; i++)
        if (m->fresh[i] > 1)
            return error_set(error, AKIN_FORMAT, "%s: tensor new: number %zu is neither 0 nor 1; "
                             AGAIN, safetensors_path(file), i);
    return AKIN_OK;
}

enum akin_status graph_model_read(const char *path, const char *identity, size_t items,
                                  size_t dim, struct graph_model *model,
                                  struct akin_error *error)
{
    struct safetensors *file;
    struct graph_model made = { 0 };
    TRY(safetensors_open(path, &file, error));
    enum akin_status status = read_all(file, identity, items, dim, &made, error);
    safetensors_close(&file);
    if (status == AKIN_OK)
        *model = made;
    else
        graph_model_deinit(&made);
    return status;
}
