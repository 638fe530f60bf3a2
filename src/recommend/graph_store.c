/* See graph_store.h. */
#include "recommend/graph_store.h"

#include <string.h>

#include "recommend/trained_file.h"

#define AGAIN "run akin fit --graph again"

enum { TENSORS = 9 };

enum { DIMENSION, BASIS, RANK, NUMBERS };

static const struct trained_number numbers[NUMBERS] = {
    { "dimension", 1, GRAPH_DIM_MAX },
    { "basis", 1, KIN_BASIS_MAX },
    { "rank", 1, KIN_RANK_MAX },
};
static const struct trained_kind kind = {
    "akin_graph", GRAPH_FORMAT, "graph", "learned from", AGAIN, numbers, NUMBERS,
};

/* All that is in the file. */
static void list_tensors(const struct graph_model *m, float *spread,
                         struct trained_tensor tensors[TENSORS])
{
    size_t dim = m->dim, basis = m->kin.basis;
    const struct trained_tensor all[TENSORS] = {
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

enum akin_status graph_model_write(const struct graph_model *m, const char *path,
                                   const char *identity, struct akin_error *error)
{
    struct safetensors_header header = { 0 };
    struct trained_tensor tensors[TENSORS];
    float spread = m->spread;
    trained_describe(&kind, identity, (size_t[]){ m->dim, m->kin.basis, m->rank }, &header);
    list_tensors(m, &spread, tensors);
    return trained_write(path, &header, tensors, TENSORS, error);
}

static enum akin_status read_all(const struct safetensors *file, const char *identity,
                                 size_t items, size_t dim, struct graph_model *m,
                                 struct akin_error *error)
{
    size_t found[NUMBERS];
    struct trained_tensor tensors[TENSORS];
    TRY(trained_check(&kind, file, identity, found, error));
    if (found[DIMENSION] != dim)
        return error_set(error, AKIN_FORMAT, "%s: of vectors of %zu numbers, the catalogue has "
                         "%zu; " AGAIN, safetensors_path(file), found[DIMENSION], dim);
    TRY(graph_model_init(items, dim, found[BASIS], found[RANK], m, error));
    list_tensors(m, &m->spread, tensors);
    for (size_t t = 0; t < TENSORS; t++)
        TRY(trained_read(&kind, file, &tensors[t], error));
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
