/* Parsing and validation of safetensors files. */
#include "model/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"

struct safetensors {
    struct file_map map;                /* mapped false: the bytes are the caller's */
    char *path;
    json_t *header;                     /* owns the names */
    struct safetensors_tensor *tensors; /* in the order of the header */
    size_t count;
    struct string_map by_name;
    size_t file_bytes;
};

static const struct {
    const char *name;
    size_t bytes;
} types[] = {
#define X(type, size) [SAFETENSORS_##type] = { #type, size },
    SAFETENSORS_TYPES(X)
#undef X
};

const char *safetensors_type_name(enum safetensors_type type)
{
    return types[type].name;
}

size_t safetensors_type_bytes(enum safetensors_type type)
{
    return types[type].bytes;
}

static enum akin_status read_type(const struct safetensors *file, const json_t *entry,
                                  struct safetensors_tensor *tensor, struct akin_error *error)
{
    const char *text = json_string_value(json_object_get(entry, "dtype"));
    for (size_t i = 0; text && i < SAFETENSORS_TYPE_COUNT; i++)
        if (!strcmp(text, types[i].name)) {
            tensor->type = (enum safetensors_type)i;
            return AKIN_OK;
        }
    return error_set(error, AKIN_FORMAT, "%s: tensor %s: dtype %s is not known", file->path,
                     tensor->name, text ? text : "(no string)");
}

/* A JSON integer that is a size. */
static bool as_size(const json_t *value, size_t *size)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *size = (size_t)json_integer_value(value);
    return true;
}

static enum akin_status read_shape(const struct safetensors *file, const json_t *entry,
                                   struct safetensors_tensor *tensor, struct akin_error *error)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_DIMS_MAX)
        return error_set(error, AKIN_FORMAT,
                         "%s: tensor %s: shape is not a list of at most %d sizes", file->path,
                         tensor->name, SAFETENSORS_DIMS_MAX);
    tensor->dims = json_array_size(shape);
    tensor->elements = 1;
    for (size_t i = 0; i < tensor->dims; i++)
        if (!as_size(json_array_get(shape, i), &tensor->shape[i]) ||
            !size_mul(tensor->elements, tensor->shape[i], &tensor->elements))
            return error_set(error, AKIN_FORMAT,
                             "%s: tensor %s: shape[%zu] is no size, or the product overflows",
                             file->path, tensor->name, i);
    if (!size_mul(tensor->elements, types[tensor->type].bytes, &tensor->bytes))
        return error_set(error, AKIN_FORMAT, "%s: tensor %s: the bytes of its shape overflow",
                         file->path, tensor->name);
    return AKIN_OK;
}

static enum akin_status read_offsets(const struct safetensors *file, const json_t *entry,
                                     const unsigned char *data, size_t data_bytes,
                                     struct safetensors_tensor *tensor, struct akin_error *error)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    size_t begin = 0, end = 0;
    if (json_array_size(offsets) != 2 || !as_size(json_array_get(offsets, 0), &begin) ||
        !as_size(json_array_get(offsets, 1), &end))
        return error_set(error, AKIN_FORMAT, "%s: tensor %s: data_offsets are not two sizes",
                         file->path, tensor->name);
    if (begin > end || end > data_bytes)
        return error_set(
            error, AKIN_FORMAT,
            "%s: tensor %s: data_offsets [%zu, %zu] leave the file, which has %zu bytes "
            "of data; is it cut short?",
            file->path, tensor->name, begin, end, data_bytes);
    if (end - begin != tensor->bytes)
        return error_set(error, AKIN_FORMAT,
                         "%s: tensor %s: data_offsets span %zu bytes, its shape and dtype need %zu",
                         file->path, tensor->name, end - begin, tensor->bytes);
    tensor->data = data + begin;
    return AKIN_OK;
}

static int compare_begin(const void *a, const void *b)
{
    const struct safetensors_tensor *x = *(struct safetensors_tensor *const *)a;
    const struct safetensors_tensor *y = *(struct safetensors_tensor *const *)b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);   /* empty ones first */
}

static enum akin_status check_overlap(const struct safetensors *file, struct akin_error *error)
{
    const struct safetensors_tensor **sorted = memory_alloc(file->count, sizeof *sorted);
    if (!sorted)
        return error_memory(error);
    for (size_t i = 0; i < file->count; i++)
        sorted[i] = &file->tensors[i];
    qsort(sorted, file->count, sizeof *sorted, compare_begin);
    enum akin_status status = AKIN_OK;
    for (size_t i = 1; status == AKIN_OK && i < file->count; i++)
        if (sorted[i - 1]->data + sorted[i - 1]->bytes > sorted[i]->data)
            status = error_set(error, AKIN_FORMAT, "%s: tensors %s and %s overlap", file->path,
                               sorted[i - 1]->name, sorted[i]->name);
    memory_free(sorted);
    return status;
}

static enum akin_status read_tensors(struct safetensors *file, const unsigned char *data,
                                     size_t data_bytes, struct akin_error *error)
{
    file->tensors = memory_alloc(json_object_size(file->header), sizeof *file->tensors);
    if (!file->tensors)
        return error_memory(error);
    const char *name;
    json_t *entry;
    json_object_foreach(file->header, name, entry) {
        if (!strcmp(name, "__metadata__"))
            continue;
        struct safetensors_tensor *tensor = &file->tensors[file->count];
        tensor->name = name;
        if (!json_is_object(entry))
            return error_set(error, AKIN_FORMAT, "%s: tensor %s: expected an object, found %s",
                             file->path, name, json_type_name(entry));
        TRY(read_type(file, entry, tensor, error));
        TRY(read_shape(file, entry, tensor, error));
        TRY(read_offsets(file, entry, data, data_bytes, tensor, error));
        if (!string_map_put(&file->by_name, name, strlen(name), file->count, NULL, NULL))
            return error_memory(error);
        file->count++;
    }
    return check_overlap(file, error);
}

static enum akin_status parse(struct safetensors *file, const unsigned char *bytes, size_t count,
                              struct akin_error *error)
{
    file->file_bytes = count;
    if (count < 8)
        return error_set(error, AKIN_FORMAT, "%s: %zu bytes are too few for a safetensors file",
                         file->path, count);
    uint64_t header_bytes = 0;
    for (int i = 7; i >= 0; i--)
        header_bytes = header_bytes << 8 | bytes[i];
    if (header_bytes > count - 8)
        return error_set(
            error, AKIN_FORMAT,
            "%s: the header says it has %llu bytes, the file has %zu; is it a safetensors "
            "file, and whole?",
            file->path, (unsigned long long)header_bytes, count);
    if (header_bytes > SAFETENSORS_HEADER_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "%s: a header of %llu bytes is above the limit of %zu",
                         file->path, (unsigned long long)header_bytes,
                         SAFETENSORS_HEADER_BYTES_MAX);
    json_error_t problem;
    file->header = json_loadb((const char *)bytes + 8, (size_t)header_bytes, JSON_REJECT_DUPLICATES,
                              &problem);
    if (!file->header)
        return error_set(error, AKIN_FORMAT, "%s: header: not valid JSON at byte %d: %s",
                         file->path, problem.position, problem.text);
    if (!json_is_object(file->header))
        return error_set(error, AKIN_FORMAT, "%s: header: expected an object, found %s", file->path,
                         json_type_name(file->header));
    return read_tensors(file, bytes + 8 + header_bytes, count - 8 - (size_t)header_bytes, error);
}

static struct safetensors *create(const char *path)
{
    struct safetensors *file = memory_alloc(1, sizeof *file);
    if (file && !(file->path = memory_copy_string(path))) {
        memory_free(file);
        return NULL;
    }
    return file;
}

enum akin_status safetensors_open(const char *path, struct safetensors **file,
                                  struct akin_error *error)
{
    struct safetensors *opened = create(path);
    if (!opened)
        return error_memory(error);
    enum akin_status status = file_map_open(path, &opened->map, error);
    if (status == AKIN_OK)
        status = parse(opened, opened->map.data, opened->map.bytes, error);
    if (status == AKIN_OK)
        *file = opened;
    else
        safetensors_close(&opened);
    return status;
}

enum akin_status safetensors_parse(const void *bytes, size_t count, const char *path,
                                   struct safetensors **file, struct akin_error *error)
{
    struct safetensors *opened = create(path);
    if (!opened)
        return error_memory(error);
    enum akin_status status = parse(opened, bytes, count, error);
    if (status == AKIN_OK)
        *file = opened;
    else
        safetensors_close(&opened);
    return status;
}

void safetensors_release(const struct safetensors *file)
{
    file_map_release(&file->map);
}

void safetensors_close(struct safetensors **file)
{
    struct safetensors *f = *file;
    if (!f)
        return;
    string_map_deinit(&f->by_name);
    memory_free(f->tensors);
    json_decref(f->header);
    file_map_close(&f->map);
    memory_free(f->path);
    memory_free(f);
    *file = NULL;
}

const char *safetensors_path(const struct safetensors *file)
{
    return file->path;
}

size_t safetensors_file_bytes(const struct safetensors *file)
{
    return file->file_bytes;
}

size_t safetensors_count(const struct safetensors *file)
{
    return file->count;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *file, size_t i)
{
    return &file->tensors[i];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name)
{
    uint64_t i;
    return string_map_get(&file->by_name, name, strlen(name), &i) ? &file->tensors[i] : NULL;
}

const char *safetensors_metadata(const struct safetensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

bool safetensors_element_type(const struct safetensors_tensor *tensor, enum element_type *type)
{
    switch (tensor->type) {
    case SAFETENSORS_F32:
        *type = ELEMENT_F32;
        return true;
    case SAFETENSORS_F16:
        *type = ELEMENT_F16;
        return true;
    case SAFETENSORS_BF16:
        *type = ELEMENT_BF16;
        return true;
    default:
        return false;
    }
}

static void shape_text(const struct safetensors_tensor *tensor, char *text, size_t bytes)
{
    size_t used = (size_t)snprintf(text, bytes, "[");
    for (size_t i = 0; i < tensor->dims && used < bytes; i++)
        used +=
            (size_t)snprintf(text + used, bytes - used, "%s%zu", i ? "," : "", tensor->shape[i]);
    if (used < bytes)
        snprintf(text + used, bytes - used, "]");
}

enum akin_status safetensors_matrix(const struct safetensors *file, const char *name, size_t rows,
                                    size_t cols, struct host_matrix *matrix,
                                    struct akin_error *error)
{
    const struct safetensors_tensor *tensor = safetensors_find(file, name);
    if (!tensor)
        return error_set(error, AKIN_FORMAT, "%s: tensor %s is missing", file->path, name);
    bool vector = rows == 1 && tensor->dims == 1 && tensor->shape[0] == cols;
    if (!vector && !(tensor->dims == 2 && tensor->shape[0] == rows && tensor->shape[1] == cols)) {
        char found[8 * 24];
        shape_text(tensor, found, sizeof found);
        return error_set(error, AKIN_FORMAT,
                         "%s: tensor %s: shape %s, but config.json makes it [%zu,%zu]", file->path,
                         name, found, rows, cols);
    }
    enum element_type type;
    if (!safetensors_element_type(tensor, &type))
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: tensor %s: dtype %s is not supported; F32, F16 and BF16 are",
                         file->path, name, types[tensor->type].name);
    *matrix = (struct host_matrix){.data = tensor->data, .type = type, .rows = rows, .cols = cols};
    return AKIN_OK;
}
