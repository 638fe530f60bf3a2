/* See trained_file.h. */
#include "recommend/trained_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t second(const struct trained_tensor *t)
{
    return t->dims == 2 ? t->shape[1] : 1;
}

static size_t tensor_bytes(const struct trained_tensor *t)
{
    return t->shape[0] * second(t) * safetensors_type_bytes(t->type);
}

/* ---- writing ---------------------------------------------------------------------------- */

void trained_describe(const struct trained_kind *kind, const char *identity, const size_t *numbers,
                      struct safetensors_header *header)
{
    char text[32];
    snprintf(text, sizeof text, "%d", kind->version);
    safetensors_describe_text(header, kind->key, text);
    safetensors_describe_text(header, "items", identity);
    for (size_t i = 0; i < kind->count; i++) {
        snprintf(text, sizeof text, "%zu", numbers[i]);
        safetensors_describe_text(header, kind->numbers[i].key, text);
    }
}

static enum akin_status write_tensors(struct safetensors_header *header,
                                      const struct trained_tensor *tensors, size_t count,
                                      struct file_writer *writer, struct akin_error *error)
{
    for (size_t t = 0; t < count; t++)
        safetensors_describe_tensor(header, tensors[t].name, tensors[t].type, tensors[t].dims,
                                    tensors[t].shape);
    TRY(safetensors_put_header(header, writer, error));
    for (size_t t = 0; t < count; t++)
        TRY(file_writer_write(writer, tensors[t].data, tensor_bytes(&tensors[t]), error));
    return AKIN_OK;
}

enum akin_status trained_write(const char *path, struct safetensors_header *header,
                               const struct trained_tensor *tensors, size_t count,
                               struct akin_error *error)
{
    struct file_writer *writer = NULL;
    enum akin_status status = file_writer_open(path, &writer, error);
    if (status == AKIN_OK)
        status = write_tensors(header, tensors, count, writer, error);
    safetensors_header_deinit(header);
    if (status == AKIN_OK)
        return file_writer_commit(&writer, error);
    if (writer)
        file_writer_abort(&writer);
    return status;
}

/* ---- reading ---------------------------------------------------------------------------- */

static enum akin_status check_identity(const struct trained_kind *kind,
                                       const struct safetensors *file, const char *identity,
                                       struct akin_error *error)
{
    const char *path = safetensors_path(file);
    const char *version = safetensors_metadata(file, kind->key);
    const char *items = safetensors_metadata(file, "items");
    if (!version || !items)
        return error_set(error, AKIN_FORMAT, "%s: no %s: __metadata__ does not say so; %s", path,
                         kind->noun, kind->again);
    if (strtol(version, NULL, 10) != kind->version)
        return error_set(error, AKIN_FORMAT, "%s: version %.20s, this program reads %d; %s", path,
                         version, kind->version, kind->again);
    if (strcmp(items, identity))
        return error_set(error, AKIN_FORMAT, "%s: %s other items than this catalogue's; %s", path,
                         kind->made, kind->again);
    return AKIN_OK;
}

enum akin_status trained_check(const struct trained_kind *kind, const struct safetensors *file,
                               const char *identity, size_t *numbers, struct akin_error *error)
{
    TRY(check_identity(kind, file, identity, error));
    for (size_t i = 0; i < kind->count; i++) {
        const struct trained_number *n = &kind->numbers[i];
        const char *text = safetensors_metadata(file, n->key);
        char *end = NULL;
        unsigned long value = text ? strtoul(text, &end, 10) : 0;
        if (!text || end == text || *end || value < n->least || value > n->most)
            return error_set(error, AKIN_FORMAT, "%s: __metadata__: %s: no number that a %s has; "
                             "%s", safetensors_path(file), n->key, kind->noun, kind->again);
        numbers[i] = value;
    }
    return AKIN_OK;
}

enum akin_status trained_read(const struct trained_kind *kind, const struct safetensors *file,
                              const struct trained_tensor *tensor, struct akin_error *error)
{
    const char *path = safetensors_path(file);
    const struct safetensors_tensor *t = safetensors_find(file, tensor->name);
    if (!t)
        return error_set(error, AKIN_FORMAT, "%s: tensor %s is missing; %s", path, tensor->name,
                         kind->again);
    if (t->type != tensor->type || t->dims != tensor->dims || t->shape[0] != tensor->shape[0] ||
        (t->dims == 2 && t->shape[1] != tensor->shape[1]))
        return error_set(error, AKIN_FORMAT, "%s: tensor %s: another type or shape than %s "
                         "[%zu, %zu]; %s", path, tensor->name,
                         safetensors_type_name(tensor->type), tensor->shape[0], second(tensor),
                         kind->again);
    memcpy(tensor->data, t->data, t->bytes);
    const float *values = tensor->data;
    for (size_t i = 0; t->type == SAFETENSORS_F32 && i < t->elements; i++)
        if (!isfinite(values[i]))
            return error_set(error, AKIN_FORMAT, "%s: tensor %s: number %zu is not finite; %s",
                             path, tensor->name, i, kind->again);
    return AKIN_OK;
}
