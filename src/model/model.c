/* Opening a model folder and asking about it. */
#include "model/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/thread.h"
#include "model/config.h"
#include "model/embed.h"
#include "model/encoder.h"
#include "model/safetensors.h"
#include "text/tokenizer.h"

struct model {
    char name[128];
    struct backend *backend;
    struct model_config config;
    struct safetensors *weights;
    struct tokenizer *tokenizer;
    struct encoder *encoder;
    struct embedder *embedder;
    enum akin_precision precision;
    bool narrowed;                      /* the matrices came from the file kept beside the model */
    struct mutex *scratch_lock;
    struct tokenizer_scratch *scratch;  /* of model_tokenize while nobody uses it; under the lock */
};

/* ---- open, close ------------------------------------------------------------------------ */

static enum akin_status check_precision(const struct backend *backend, enum akin_precision asked,
                                        enum compute_precision *compute, struct akin_error *error)
{
    *compute = COMPUTE_FP32;
    const char *name = "";
    switch (asked) {
    case AKIN_PRECISION_FP32:
        return AKIN_OK;
    case AKIN_PRECISION_BF16:
        *compute = COMPUTE_BF16;
        name = "bf16";
        break;
    case AKIN_PRECISION_INT8:
        *compute = COMPUTE_INT8;
        name = "int8";
        break;
    case AKIN_PRECISION_FP16:
        return error_set(error, AKIN_UNSUPPORTED,
                         "precision fp16 is not available on device %s; fp32 is",
                         backend->ops->name);
    default:
        return error_set(error, AKIN_ARGUMENT, "precision %d is not known", (int)asked);
    }
    if (!backend->ops->supports(backend, *compute))
        return error_set(error, AKIN_UNSUPPORTED,
                         "precision %s is not available on device %s (bf16 needs AVX-512 BF16, and "
                         "AKIN_CPU must allow it); fp32 is", name, backend->ops->name);
    return AKIN_OK;
}

enum akin_status model_open_weights(const char *folder, struct safetensors **weights,
                                    struct akin_error *error)
{
    char path[PATH_BYTES_MAX], other[PATH_BYTES_MAX];
    TRY(path_join(path, sizeof path, folder, "model.safetensors", error));
    if (path_exists(path))
        return safetensors_open(path, weights, error);
    TRY(path_join(other, sizeof other, folder, "model.safetensors.index.json", error));
    if (path_exists(other))
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: weights in several files are not supported; save the model as one "
                         "model.safetensors", other);
    TRY(path_join(other, sizeof other, folder, "pytorch_model.bin", error));
    if (path_exists(other))
        return error_set(
            error, AKIN_UNSUPPORTED,
            "%s: weights pickled by PyTorch are not read; save them as model.safetensors "
            "(save_pretrained(..., safe_serialization=True)) or pull a revision that has "
            "it",
            other);
    return error_set(error, AKIN_NOT_FOUND, "%s: there is no such file", path);
}

static enum akin_status open_tokenizer(struct model *model, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(path_join(path, sizeof path, model->config.folder, "tokenizer.json", error));
    TRY(tokenizer_open(path, &model->tokenizer, error));
    uint32_t ids = tokenizer_vocabulary_size(model->tokenizer);
    uint32_t special = tokenizer_special_tokens(model->tokenizer);
    if (ids > model->config.vocabulary)
        return error_set(error, AKIN_FORMAT,
                         "%s: has ids up to %u, but config.json has vocab_size %zu", path, ids - 1,
                         model->config.vocabulary);
    if (special >= model->config.tokens_max)
        return error_set(error, AKIN_FORMAT,
                         "%s: adds %u special tokens, but a text may only have %zu", path, special,
                         model->config.tokens_max);
    return AKIN_OK;
}

/* With the narrowed weights beside it where they are there and fit; otherwise from the weights. */
static enum akin_status create_encoder(struct model *model, enum compute_precision compute,
                                       const struct akin_log *log, struct akin_error *error)
{
    char weights[PATH_BYTES_MAX], path[PATH_BYTES_MAX];
    const struct model_config *config = &model->config;
    const char *name = quantized_file_name(compute);
    struct quantized *narrowed = NULL;
    struct akin_error reason = { 0 };
    if (name) {
        TRY(path_join(weights, sizeof weights, config->folder, "model.safetensors", error));
        TRY(path_join(path, sizeof path, config->folder, name, error));
        enum akin_status status =
            quantized_open(path, weights, compute, false, &narrowed, &reason);
        if (status == AKIN_OK)
            status = encoder_create(model->backend, model->weights, config, compute, narrowed,
                                    &model->encoder, &reason);
        quantized_close(&narrowed);
        model->narrowed = status == AKIN_OK;
        if (status == AKIN_OK)
            return AKIN_OK;
        if (status != AKIN_NOT_FOUND)
            log_write(log, AKIN_LOG_WARNING, "not used: %s", reason.message);
    }
    return encoder_create(model->backend, model->weights, config, compute, NULL, &model->encoder,
                          error);
}

static enum akin_status open_parts(struct model *model, struct thread_pool *pool,
                                   const struct encoder_cards *cards, const char *directory,
                                   enum akin_precision precision, const struct akin_log *log,
                                   struct akin_error *error)
{
    enum compute_precision compute = precision == AKIN_PRECISION_INT8 ? COMPUTE_INT8 : COMPUTE_FP16;
    if (!cards)
        TRY(check_precision(model->backend, precision, &compute, error));
    model->precision = precision;
    TRY(model_config_load(directory, log, &model->config, error));
    const struct model_config *config = &model->config;
    TRY(model_open_weights(config->folder, &model->weights, error));
    if (cards)
        TRY(encoder_create_on_cards(cards, model->weights, config, compute, &model->encoder,
                                    error));
    else
        TRY(create_encoder(model, compute, log, error));
    TRY(open_tokenizer(model, error));
    struct embedder_parts parts = {
        .encoder = model->encoder, .tokenizer = model->tokenizer, .pool = pool,
        .dimension = config->hidden, .tokens_max = config->tokens_max,
        .position_first = config->position_first, .normalize = config->normalize,
    };
    model->scratch_lock = mutex_create();
    if (!model->scratch_lock)
        return error_memory(error);
    TRY(embedder_create(&parts, &model->embedder, error));
    log_write(
        log, AKIN_LOG_INFO,
        "model=%s architecture=%s layers=%zu hidden=%zu tokens_max=%zu pooling=%s normalize=%d",
        directory, config->architecture, config->layers, config->hidden, config->tokens_max,
        pooling_name(config->pooling), config->normalize);
    return AKIN_OK;
}

/* The last part of the directory's path, slashes at the end left out. */
static void name_of(const char *directory, char *name, size_t bytes)
{
    size_t end = strlen(directory);
    while (end > 1 && directory[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && directory[begin - 1] != '/')
        begin--;
    snprintf(name, bytes, "%.*s", (int)(end - begin), directory + begin);
}

static enum akin_status open_anywhere(struct backend *backend, struct thread_pool *pool,
                                      const struct encoder_cards *cards, const char *directory,
                                      enum akin_precision precision, const struct akin_log *log,
                                      struct model **model, struct akin_error *error)
{
    struct model *opened = memory_alloc(1, sizeof *opened);
    if (!opened)
        return error_memory(error);
    opened->backend = backend;
    name_of(directory, opened->name, sizeof opened->name);
    enum akin_status status = open_parts(opened, pool, cards, directory, precision, log, error);
    if (status == AKIN_OK)
        *model = opened;
    else
        model_close(&opened);
    return status;
}

enum akin_status model_open(struct backend *backend, struct thread_pool *pool,
                            const char *directory, enum akin_precision precision,
                            const struct akin_log *log, struct model **model,
                            struct akin_error *error)
{
    return open_anywhere(backend, pool, NULL, directory, precision, log, model, error);
}

enum akin_status model_open_on_cards(const struct encoder_cards *cards, struct thread_pool *pool,
                                     const char *directory, enum akin_precision precision,
                                     const struct akin_log *log, struct model **model,
                                     struct akin_error *error)
{
    if (precision != AKIN_PRECISION_FP16 && precision != AKIN_PRECISION_INT8)
        return error_set(error, AKIN_UNSUPPORTED, "a GPU computes in fp16 and int8; use precision "
                         "auto, fp16 or int8, or device cpu");
    return open_anywhere(NULL, pool, cards, directory, precision, log, model, error);
}

void model_close(struct model **model)
{
    struct model *m = *model;
    if (!m)
        return;
    embedder_destroy(&m->embedder);
    tokenizer_scratch_destroy(&m->scratch);
    mutex_destroy(&m->scratch_lock);
    encoder_destroy(&m->encoder);
    tokenizer_close(&m->tokenizer);
    safetensors_close(&m->weights);
    model_config_deinit(&m->config);
    memory_free(m);
    *model = NULL;
}

/* ---- use -------------------------------------------------------------------------------- */

void model_info(const struct model *model, struct akin_model_info *info)
{
    static const char *const types[] = {
        [ELEMENT_F32] = "F32", [ELEMENT_F16] = "F16", [ELEMENT_BF16] = "BF16",
    };
    const struct model_config *config = &model->config;
    *info = (struct akin_model_info){
        .layers = config->layers, .hidden = config->hidden, .heads = config->heads,
        .intermediate = config->intermediate, .vocabulary = config->vocabulary,
        .positions = config->positions, .tokens_max = config->tokens_max,
        .dimension = config->hidden, .parameters = encoder_parameters(model->encoder),
        .file_bytes = safetensors_file_bytes(model->weights), .normalized = config->normalize,
        .precision = model->precision, .from_quantized = model->narrowed,
    };
    snprintf(info->name, sizeof info->name, "%s", model->name);
    snprintf(info->architecture, sizeof info->architecture, "%s", config->architecture);
    snprintf(info->tokenizer, sizeof info->tokenizer, "%s", tokenizer_kind(model->tokenizer));
    snprintf(info->pooling, sizeof info->pooling, "%s", pooling_name(config->pooling));
    snprintf(info->weights, sizeof info->weights, "%s",
             types[encoder_weights_type(model->encoder)]);
}

static uint64_t hash_tensor(const struct safetensors_tensor *t, uint64_t hash)
{
    enum { SAMPLE_BYTES = 4096 };
    size_t sample = t->bytes < SAMPLE_BYTES ? t->bytes : SAMPLE_BYTES;
    uint64_t outline[] = { t->type, t->dims, t->elements, t->bytes };
    hash = hash_bytes_seed(t->name, strlen(t->name), hash);
    hash = hash_bytes_seed(outline, sizeof outline, hash);
    hash = hash_bytes_seed(t->data, sample, hash);
    return hash_bytes_seed(t->data + t->bytes - sample, sample, hash);
}

void model_identity(const struct model *model, char text[MODEL_IDENTITY_BYTES])
{
    const struct model_config *config = &model->config;
    uint64_t form[] = { config->hidden, config->tokens_max, (uint64_t)config->pooling,
                        config->normalize, tokenizer_vocabulary_size(model->tokenizer) };
    uint64_t hash = hash_bytes(form, sizeof form);
    char path[PATH_BYTES_MAX];
    struct file_map map;
    for (size_t i = 0; i < safetensors_count(model->weights); i++)
        hash = hash_tensor(safetensors_at(model->weights, i), hash);
    if (path_join(path, sizeof path, config->folder, "tokenizer.json", NULL) == AKIN_OK
        && file_map_open(path, &map, NULL) == AKIN_OK) {
        hash = hash_bytes_seed(map.data, map.bytes, hash);
        file_map_close(&map);
    }
    snprintf(text, MODEL_IDENTITY_BYTES, "%016" PRIx64 "/%zu", hash, config->hidden);
}

bool model_prompt(const struct model *model, size_t i, const char **name, const char **text)
{
    if (i >= model->config.prompt_count)
        return false;
    *name = model->config.prompts[i].name;
    *text = model->config.prompts[i].text;
    return true;
}

/* The one scratch that is kept, or a new one when another thread has it. */
static enum akin_status borrow_scratch(struct model *model, struct tokenizer_scratch **scratch,
                                       struct akin_error *error)
{
    mutex_lock(model->scratch_lock);
    *scratch = model->scratch;
    model->scratch = NULL;
    mutex_unlock(model->scratch_lock);
    return *scratch ? AKIN_OK : tokenizer_scratch_create(scratch, error);
}

static void return_scratch(struct model *model, struct tokenizer_scratch *scratch)
{
    mutex_lock(model->scratch_lock);
    struct tokenizer_scratch *surplus = model->scratch;
    model->scratch = scratch;
    mutex_unlock(model->scratch_lock);
    tokenizer_scratch_destroy(&surplus);
}

enum akin_status model_tokenize(struct model *model, struct akin_text text, int32_t *ids,
                                uint32_t (*offsets)[2], size_t ids_max, size_t *count,
                                struct akin_error *error)
{
    if (ids_max > model->config.tokens_max)
        ids_max = model->config.tokens_max;
    if (ids_max < tokenizer_special_tokens(model->tokenizer))
        return error_set(error, AKIN_ARGUMENT,
                         "room for %zu ids is less than the %u special tokens", ids_max,
                         tokenizer_special_tokens(model->tokenizer));
    struct token_offset *ranges = offsets ? memory_alloc(ids_max, sizeof *ranges) : NULL;
    if (offsets && !ranges)
        return error_memory(error);
    struct tokenizer_scratch *scratch = NULL;
    enum akin_status status = borrow_scratch(model, &scratch, error);
    if (status == AKIN_OK)
        status = tokenizer_encode(model->tokenizer, text.count ? text.bytes : "", text.count,
                                  scratch, (uint32_t *)ids, ranges, ids_max, count, error);
    if (scratch)
        return_scratch(model, scratch);
    for (size_t i = 0; status == AKIN_OK && offsets && i < *count; i++) {
        offsets[i][0] = ranges[i].begin;
        offsets[i][1] = ranges[i].end;
    }
    memory_free(ranges);
    return status;
}

void model_embed_settings_default(struct akin_embed_settings *settings)
{
    *settings = (struct akin_embed_settings){ .normalize = AKIN_NORMALIZE_AS_MODEL,
                                              .deduplicate = true };
}

enum akin_status model_embed(struct model *model, const struct akin_text *texts, size_t count,
                             const struct akin_embed_settings *settings, float *vectors,
                             struct akin_embed_report *report, struct akin_error *error)
{
    struct akin_embed_settings defaults;
    if (!settings) {
        model_embed_settings_default(&defaults);
        settings = &defaults;
    }
    return embedder_embed(model->embedder, texts, count, settings, vectors, report, error);
}
