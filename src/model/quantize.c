/* Making, finding and checking the narrowed weights beside a model. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "model/config.h"
#include "model/encoder.h"
#include "model/model.h"

static enum akin_status compute_of(enum akin_precision precision, enum compute_precision *compute,
                                   struct akin_error *error)
{
    if (precision != AKIN_PRECISION_INT8 && precision != AKIN_PRECISION_BF16)
        return error_set(error, AKIN_ARGUMENT,
                         "only weights of precision int8 and bf16 can be kept beside a model");
    *compute = precision == AKIN_PRECISION_INT8 ? COMPUTE_INT8 : COMPUTE_BF16;
    return AKIN_OK;
}

/* Where a model's weights lie, and where the narrowed ones belong. */
struct place {
    struct model_config config;
    char weights[PATH_BYTES_MAX], narrowed[PATH_BYTES_MAX];
};

static enum akin_status find_place(const char *directory, enum compute_precision compute,
                                   struct place *place, struct akin_error *error)
{
    TRY(model_config_load(directory, NULL, &place->config, error));
    TRY(path_join(place->weights, sizeof place->weights, place->config.folder, "model.safetensors",
                  error));
    return path_join(place->narrowed, sizeof place->narrowed, place->config.folder,
                     quantized_file_name(compute), error);
}

/* Narrows the weights in `place`, or takes them from `narrowed` where that is not NULL; path NULL:
 * for the checksum only. */
static enum akin_status make(struct backend *backend, const struct place *place,
                             enum compute_precision compute, struct quantized *narrowed,
                             const char *path, uint64_t *checksum, struct akin_error *error)
{
    struct safetensors *weights = NULL;
    struct encoder *encoder = NULL;
    struct quantized_part *parts = NULL;
    struct weights_identity identity = { 0 };
    enum akin_status status = model_open_weights(place->config.folder, &weights, error);
    /* Taken first: if the weights change meanwhile, the file is stale and not wrong. */
    if (status == AKIN_OK)
        status = weights_identify(place->weights, path != NULL, &identity, error);
    if (status == AKIN_OK)
        status = encoder_create(backend, weights, &place->config, compute, narrowed, &encoder,
                                error);
    if (status == AKIN_OK) {
        parts = memory_alloc(encoder_part_count(encoder), sizeof *parts);
        if (!parts)
            status = error_memory(error);
    }
    if (status == AKIN_OK) {
        encoder_parts(encoder, parts);
        status = quantized_write(path, &identity, compute, parts, encoder_part_count(encoder),
                                 checksum, error);
    }
    memory_free(parts);
    encoder_destroy(&encoder);
    safetensors_close(&weights);
    return status;
}

enum akin_status model_quantize(struct backend *backend, const char *directory,
                                enum akin_precision precision, const char *path, char *written,
                                size_t written_bytes, struct akin_error *error)
{
    enum compute_precision compute = COMPUTE_FP32;
    uint64_t checksum;
    TRY(compute_of(precision, &compute, error));
    if (!backend->ops->supports(backend, compute))
        return error_set(error, AKIN_UNSUPPORTED,
                         "precision bf16 is not available here (it needs AVX-512 BF16, and "
                         "AKIN_CPU must allow it); int8 is");
    struct place *place = memory_alloc(1, sizeof *place);
    if (!place)
        return error_memory(error);
    enum akin_status status = find_place(directory, compute, place, error);
    if (status == AKIN_OK && !path)
        path = place->narrowed;
    if (status == AKIN_OK && strlen(path) >= written_bytes)
        status = error_set(error, AKIN_LIMIT, "%.200s: the path is too long", path);
    if (status == AKIN_OK)
        status = make(backend, place, compute, NULL, path, &checksum, error);
    if (status == AKIN_OK)
        snprintf(written, written_bytes, "%s", path);
    model_config_deinit(&place->config);
    memory_free(place);
    return status;
}

enum akin_status model_quantized(const char *directory, enum akin_precision precision,
                                 struct akin_quantized *state, struct akin_error *error)
{
    enum compute_precision compute = COMPUTE_FP32;
    struct akin_error reason = { 0 };
    struct quantized *file = NULL;
    TRY(compute_of(precision, &compute, error));
    *state = (struct akin_quantized){ .precision = precision };
    struct place *place = memory_alloc(1, sizeof *place);
    if (!place)
        return error_memory(error);
    enum akin_status status = find_place(directory, compute, place, error);
    if (status == AKIN_OK) {
        snprintf(state->path, sizeof state->path, "%s", place->narrowed);
        state->exists = path_exists(place->narrowed);
        state->usable = quantized_open(place->narrowed, place->weights, compute, false, &file,
                                       &reason) == AKIN_OK;
        if (state->usable)
            state->bytes = quantized_bytes(file);
        else if (state->exists)
            snprintf(state->reason, sizeof state->reason, "%s", reason.message);
        quantized_close(&file);
    }
    model_config_deinit(&place->config);
    memory_free(place);
    return status;
}

/* What is kept is what would be made now; AKIN_UNSUPPORTED precisions are not looked at. */
static enum akin_status check_one(struct backend *backend, const char *directory,
                                  enum compute_precision compute, struct akin_error *error)
{
    struct quantized *file = NULL;
    uint64_t fresh = 0, kept = 0;
    struct place *place = memory_alloc(1, sizeof *place);
    if (!place)
        return error_memory(error);
    enum akin_status status = find_place(directory, compute, place, error);
    if (status == AKIN_OK && path_exists(place->narrowed)) {
        status = quantized_open(place->narrowed, place->weights, compute, true, &file, error);
        if (status == AKIN_OK)
            status = make(backend, place, compute, file, NULL, &kept, error);
        if (status == AKIN_OK)
            status = make(backend, place, compute, NULL, NULL, &fresh, error);
        if (status == AKIN_OK && fresh != kept)
            status = error_set(error, AKIN_FORMAT,
                               "%s: its tensors are not what the weights give; make it again with "
                               "\"akin model quantize\"", place->narrowed);
        quantized_close(&file);
    }
    model_config_deinit(&place->config);
    memory_free(place);
    return status;
}

enum akin_status model_check_quantized(struct backend *backend, const char *directory,
                                       struct akin_error *error)
{
    TRY(check_one(backend, directory, COMPUTE_INT8, error));
    return backend->ops->supports(backend, COMPUTE_BF16)
               ? check_one(backend, directory, COMPUTE_BF16, error)
               : AKIN_OK;
}
