/* See vectors_input.h. The form is told by what a file begins with; .fvecs and its kin have nothing
 * to tell them by but the ending of the name. */
#include "cli/vectors_input.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/npy.h"
#include "base/vecs.h"
#include "cli/hdf5_input.h"

enum form { FORM_NPY, FORM_VECS, FORM_HDF5 };

struct vectors_input {
    enum form form;
    char path[PATH_BYTES_MAX];
    struct npy npy;
    struct vecs vecs;
    struct hdf5_input *hdf5;
    size_t rows, dimension, next;
    float *block; /* [block_rows][dimension]; NULL for npy */
    size_t block_rows;
};

/* ---- which file, which form -------------------------------------------------------------- */

/* "a.hdf5:train" to path and dataset, unless there is a file of that whole name. */
static enum akin_status split(const char *text, const char *standard, char *path,
                              const char **dataset, struct akin_error *error)
{
    const char *colon = strrchr(text, ':');
    size_t length = strlen(text);
    *dataset = standard;
    if (colon && colon > text && colon[1] && !path_exists(text)) {
        length = (size_t)(colon - text);
        *dataset = colon + 1;
    }
    if (length >= PATH_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "%.200s...: the path is too long", text);
    memcpy(path, text, length);
    path[length] = 0;
    if (*dataset != standard && !path_exists(path))
        return error_set(error, AKIN_NOT_FOUND, "%.400s: no such file, nor %.400s", text, path);
    return AKIN_OK;
}

static enum akin_status form_of(const char *path, enum form *form, enum vecs_type *type,
                                struct akin_error *error)
{
    static const char npy[] = "\x93NUMPY", hdf5[] = "\x89HDF\r\n\x1a\n";
    struct file_map map;
    TRY(file_map_open(path, &map, error));
    bool is_npy = map.bytes >= sizeof npy - 1 && !memcmp(map.data, npy, sizeof npy - 1);
    bool is_hdf5 = false;
    if (map.bytes >= sizeof hdf5 - 1)
        is_hdf5 = !memcmp(map.data, hdf5, sizeof hdf5 - 1);
    file_map_close(&map);
    const char *dot = strrchr(path_last(path), '.');
    if (is_npy || (dot && !strcmp(dot, ".npy")))
        *form = FORM_NPY;
    else if (is_hdf5 || (dot && (!strcmp(dot, ".hdf5") || !strcmp(dot, ".h5"))))
        *form = FORM_HDF5;
    else if (vecs_type_of(path, type))
        *form = FORM_VECS;
    else
        return error_set(
            error, AKIN_FORMAT,
            "%s: vectors are read from .npy, .fvecs, .bvecs, .ivecs and HDF5 files, and "
            "this is none of them",
            path);
    return AKIN_OK;
}

static enum akin_status open_form(struct vectors_input *in, const char *dataset, bool named,
                                  struct akin_error *error)
{
    enum vecs_type type = VECS_FLOAT32;
    TRY(form_of(in->path, &in->form, &type, error));
    if (named && in->form != FORM_HDF5)
        return error_set(error, AKIN_ARGUMENT, "%s: holds no datasets; leave out ':%.80s'",
                         in->path, dataset);
    if (in->form == FORM_NPY) {
        TRY(npy_open_matrix(in->path, &in->npy, error));
        in->rows = in->npy.shape[0];
        in->dimension = in->npy.shape[1];
    } else if (in->form == FORM_VECS) {
        TRY(vecs_open(in->path, type, &in->vecs, error));
        in->rows = in->vecs.rows;
        in->dimension = in->vecs.dimension;
    } else {
        TRY(hdf5_open(in->path, dataset, HDF5_FLOAT32, &in->hdf5, error));
        in->rows = hdf5_rows(in->hdf5);
        in->dimension = hdf5_columns(in->hdf5);
    }
    return AKIN_OK;
}

enum akin_status vectors_input_open(const char *text, const char *dataset,
                                    struct vectors_input **out, struct akin_error *error)
{
    const char *wanted;
    struct vectors_input *in = memory_alloc(1, sizeof *in);
    if (!in)
        return error_memory(error);
    enum akin_status status = split(text, dataset, in->path, &wanted, error);
    if (status == AKIN_OK)
        status = open_form(in, wanted, wanted != dataset, error);
    if (status == AKIN_OK)
        *out = in;
    else
        vectors_input_close(&in);
    return status;
}

size_t vectors_input_rows(const struct vectors_input *input)
{
    return input->rows;
}

size_t vectors_input_dimension(const struct vectors_input *input)
{
    return input->dimension;
}

const char *vectors_input_distance(const struct vectors_input *input)
{
    return input->hdf5 ? hdf5_distance(input->hdf5) : "";
}

/* ---- rows -------------------------------------------------------------------------------- */

/* `row` is the number of the first of them. */
static enum akin_status check_finite(const struct vectors_input *in, const float *rows, size_t row,
                                     size_t count, struct akin_error *error)
{
    for (size_t i = 0; i < count * in->dimension; i++)
        if (!isfinite(rows[i]))
            return error_set(error, AKIN_FORMAT, "%s: row %zu, column %zu: %s is not a number that "
                                                 "can be compared; leave the row out",
                             in->path, row + i / in->dimension, i % in->dimension,
                             isnan(rows[i]) ? "NaN" : "infinity");
    return AKIN_OK;
}

static enum akin_status reserve(struct vectors_input *in, size_t rows, struct akin_error *error)
{
    size_t cells;
    if (rows <= in->block_rows)
        return AKIN_OK;
    if (!size_mul(rows, in->dimension, &cells))
        return error_set(error, AKIN_LIMIT, "%s: %zu rows of %zu dimensions are too many", in->path,
                         rows, in->dimension);
    memory_free(in->block);
    in->block_rows = 0;
    in->block = memory_alloc_aligned(cells, sizeof(float));
    if (!in->block)
        return error_set(error, AKIN_MEMORY, "%s: no memory for %zu rows of %zu dimensions",
                         in->path, rows, in->dimension);
    in->block_rows = rows;
    return AKIN_OK;
}

enum akin_status vectors_input_next(struct vectors_input *in, size_t rows_max, const float **rows,
                                    size_t *count, struct akin_error *error)
{
    size_t left = in->rows - in->next, n = rows_max < left ? rows_max : left;
    const float *from = NULL;
    ASSERT(rows_max > 0);
    if (in->form == FORM_NPY) {
        from = (const float *)in->npy.data + in->next * in->dimension;
    } else if (n > 0) {
        TRY(reserve(in, n, error));
        from = in->block;
        if (in->form == FORM_VECS)
            TRY(vecs_read(&in->vecs, in->next, n, in->block, error));
        else
            TRY(hdf5_read(in->hdf5, in->block, n, error));
    }
    TRY(check_finite(in, from, in->next, n, error));
    in->next += n;
    *rows = from;
    *count = n;
    return AKIN_OK;
}

enum akin_status vectors_input_all(struct vectors_input *in, const float **rows,
                                   struct akin_error *error)
{
    size_t count;
    ASSERT(in->next == 0);
    return vectors_input_next(in, in->rows ? in->rows : 1, rows, &count, error);
}

void vectors_input_close(struct vectors_input **input)
{
    if (!*input)
        return;
    npy_close(&(*input)->npy);
    vecs_close(&(*input)->vecs);
    hdf5_close(&(*input)->hdf5);
    memory_free((*input)->block);
    memory_free(*input);
    *input = NULL;
}

/* ---- ids --------------------------------------------------------------------------------- */

static enum akin_status alloc_ids(struct vectors_ids *ids, size_t rows, size_t columns,
                                  struct akin_error *error)
{
    size_t cells;
    if (!size_mul(rows, columns, &cells))
        return error_set(error, AKIN_LIMIT, "%zu rows of %zu ids are too many", rows, columns);
    ids->ids = memory_alloc(cells, sizeof *ids->ids);
    ids->rows = rows;
    ids->columns = columns;
    return ids->ids ? AKIN_OK : error_memory(error);
}

static enum akin_status ids_of_npy(const char *path, struct vectors_ids *ids,
                                   struct akin_error *error)
{
    struct npy npy;
    TRY(npy_open(path, &npy, error));
    enum akin_status status = AKIN_OK;
    if (npy.dims != 2 || (npy.type != NPY_INT32 && npy.type != NPY_INT64))
        status = error_set(error, AKIN_FORMAT,
                           "%s: expected a matrix of int32 or int64, found %s with %zu dimensions",
                           path, npy.descr, npy.dims);
    else
        status = alloc_ids(ids, npy.shape[0], npy.shape[1], error);
    for (size_t i = 0; status == AKIN_OK && i < ids->rows * ids->columns; i++)
        ids->ids[i] = npy.type == NPY_INT32 ? ((const int32_t *)npy.data)[i]
                                            : ((const int64_t *)npy.data)[i];
    npy_close(&npy);
    return status;
}

static enum akin_status ids_of_vecs(const char *path, enum vecs_type type, struct vectors_ids *ids,
                                    struct akin_error *error)
{
    struct vecs vecs;
    TRY(vecs_open(path, type, &vecs, error));
    enum akin_status status = alloc_ids(ids, vecs.rows, vecs.dimension, error);
    if (status == AKIN_OK)
        status = vecs_read_ids(&vecs, 0, vecs.rows, ids->ids, error);
    vecs_close(&vecs);
    return status;
}

static enum akin_status ids_of_hdf5(const char *path, const char *dataset, struct vectors_ids *ids,
                                    struct akin_error *error)
{
    struct hdf5_input *hdf5 = NULL;
    TRY(hdf5_open(path, dataset, HDF5_INT64, &hdf5, error));
    enum akin_status status = alloc_ids(ids, hdf5_rows(hdf5), hdf5_columns(hdf5), error);
    if (status == AKIN_OK)
        status = hdf5_read(hdf5, ids->ids, ids->rows, error);
    hdf5_close(&hdf5);
    return status;
}

enum akin_status vectors_input_ids(const char *text, const char *dataset, struct vectors_ids *out,
                                   struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    const char *wanted;
    enum form form;
    enum vecs_type type = VECS_INT32;
    struct vectors_ids ids = {0};
    TRY(split(text, dataset, path, &wanted, error));
    TRY(form_of(path, &form, &type, error));
    enum akin_status status = form == FORM_NPY    ? ids_of_npy(path, &ids, error)
                              : form == FORM_VECS ? ids_of_vecs(path, type, &ids, error)
                                                  : ids_of_hdf5(path, wanted, &ids, error);
    if (status == AKIN_OK)
        *out = ids;
    else
        memory_free(ids.ids);
    return status;
}
