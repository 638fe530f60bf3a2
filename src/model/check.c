/* model_check: whether a model folder is what it claims and computes what it should. */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/checksums.h"
#include "model/config.h"
#include "model/model.h"
#include "model/safetensors.h"

static enum akin_status tell(struct akin_progress progress, const char *stage, uint64_t done,
                             uint64_t total, struct akin_error *error)
{
    if (progress.update && !progress.update(progress.cookie, stage, done, total))
        return error_set(error, AKIN_CANCELLED, "stopped while checking %s", stage);
    return AKIN_OK;
}

static enum akin_status check_sums(const char *directory, struct akin_progress progress,
                                   struct akin_error *error)
{
    struct checksums sums;
    TRY(checksums_read(directory, &sums, error));
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; status == AKIN_OK && i < sums.count; i++) {
        status = checksums_verify(directory, &sums, i, error);
        if (status == AKIN_OK)
            status = tell(progress, "checksums", i + 1, sums.count, error);
    }
    checksums_deinit(&sums);
    return status;
}

/* ---- tensors ---------------------------------------------------------------------------- */

/* The exponent bits of an element; all of them set means NaN or infinity. */
static bool find_not_finite(const struct safetensors_tensor *tensor, enum element_type type,
                            size_t *at)
{
    for (size_t i = 0; i < tensor->elements; i++) {
        bool wrong;
        if (type == ELEMENT_F32) {
            uint32_t bits;
            memcpy(&bits, tensor->data + 4 * i, sizeof bits);
            wrong = (bits & 0x7f800000) == 0x7f800000;
        } else {
            uint16_t bits, mask = type == ELEMENT_F16 ? 0x7c00 : 0x7f80;
            memcpy(&bits, tensor->data + 2 * i, sizeof bits);
            wrong = (bits & mask) == mask;
        }
        if (wrong) {
            *at = i;
            return true;
        }
    }
    return false;
}

static enum akin_status check_tensors(const char *folder, struct akin_progress progress,
                                      struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(path_join(path, sizeof path, folder, "model.safetensors", error));
    struct safetensors *file;
    TRY(safetensors_open(path, &file, error));
    enum akin_status status = AKIN_OK;
    uint64_t done = 0, total = safetensors_file_bytes(file);
    for (size_t i = 0; status == AKIN_OK && i < safetensors_count(file); i++) {
        const struct safetensors_tensor *tensor = safetensors_at(file, i);
        enum element_type type;
        size_t at;
        if (safetensors_element_type(tensor, &type) && find_not_finite(tensor, type, &at))
            status = error_set(error, AKIN_FORMAT, "%s: tensor %s: element %zu is not finite", path,
                               tensor->name, at);
        done += tensor->bytes;
        if (status == AKIN_OK)
            status = tell(progress, "tensors", done, total, error);
    }
    safetensors_close(&file);
    return status;
}

/* ---- self-test -------------------------------------------------------------------------- */

static const char *const samples[] = {
    "a",
    "",
    "Toy Story (1995). Genres: Adventure, Animation, Children.",
    "a dark thriller set in deep space",
    "\xc3\xa9t\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x98\x80",
    "a longer text, as the shorter ones need one beside them in a batch to mean anything",
    "1 2 3",
    "query: films about friendship",
};

enum { SAMPLES = sizeof samples / sizeof *samples };

/* Embeds the samples, in reverse when asked, into the rows of their numbers. */
static enum akin_status embed_samples(struct model *model, bool reverse, size_t batch_texts,
                                      size_t dimension, float *vectors, float *scratch,
                                      struct akin_error *error)
{
    struct akin_text texts[SAMPLES];
    for (size_t i = 0; i < SAMPLES; i++) {
        const char *text = samples[reverse ? SAMPLES - 1 - i : i];
        texts[i] = (struct akin_text){ .bytes = text, .count = strlen(text) };
    }
    struct akin_embed_settings settings;
    model_embed_settings_default(&settings);
    settings.batch_texts = batch_texts;
    TRY(model_embed(model, texts, SAMPLES, &settings, scratch, NULL, error));
    for (size_t i = 0; i < SAMPLES; i++)
        memcpy(vectors + (reverse ? SAMPLES - 1 - i : i) * dimension, scratch + i * dimension,
               dimension * sizeof *vectors);
    return AKIN_OK;
}

static enum akin_status judge(const char *directory, const struct akin_model_info *info,
                              const float *a, const float *b, struct akin_error *error)
{
    for (size_t i = 0; i < SAMPLES; i++) {
        const float *row = a + i * info->dimension;
        double sum = 0;
        for (size_t d = 0; d < info->dimension; d++)
            sum += (double)row[d] * row[d];
        if (!isfinite(sum))
            return error_set(error, AKIN_FORMAT, "%s: self-test: text %zu gives NaN or infinity",
                             directory, i);
        if (info->normalized && fabs(sqrt(sum) - 1) > 1e-5)
            return error_set(error, AKIN_FORMAT,
                             "%s: self-test: the vector of text %zu has length %.7f", directory, i,
                             sqrt(sum));
        if (memcmp(row, b + i * info->dimension, info->dimension * sizeof *row))
            return error_set(error, AKIN_FORMAT,
                             "%s: self-test: text %zu has other bits in another batch", directory,
                             i);
    }
    return AKIN_OK;
}

static enum akin_status self_test(struct model *model, const char *directory,
                                  struct akin_progress progress, struct akin_error *error)
{
    struct akin_model_info info;
    model_info(model, &info);
    size_t floats;
    if (!size_mul(SAMPLES, info.dimension, &floats))
        return error_memory(error);
    float *a = memory_alloc(floats, sizeof *a), *b = memory_alloc(floats, sizeof *b);
    float *scratch = memory_alloc(floats, sizeof *scratch);
    enum akin_status status = a && b && scratch ? AKIN_OK : error_memory(error);
    if (status == AKIN_OK)
        status = embed_samples(model, false, 0, info.dimension, a, scratch, error);
    if (status == AKIN_OK)
        status = embed_samples(model, true, 1, info.dimension, b, scratch, error);
    if (status == AKIN_OK)
        status = judge(directory, &info, a, b, error);
    if (status == AKIN_OK)
        status = tell(progress, "self-test", SAMPLES, SAMPLES, error);
    memory_free(a);
    memory_free(b);
    memory_free(scratch);
    return status;
}

enum akin_status model_check(struct backend *backend, struct thread_pool *pool,
                             const char *directory, const struct akin_log *log,
                             struct akin_progress progress, struct akin_error *error)
{
    TRY(check_sums(directory, progress, error));
    struct model *model = NULL;
    TRY(model_open(backend, pool, directory, AKIN_PRECISION_FP32, log, &model, error));
    struct model_config config;
    enum akin_status status = model_config_load(directory, NULL, &config, error);
    if (status == AKIN_OK)
        status = check_tensors(config.folder, progress, error);
    model_config_deinit(&config);
    if (status == AKIN_OK)
        status = self_test(model, directory, progress, error);
    model_close(&model);
    if (status == AKIN_OK)
        status = model_check_quantized(backend, directory, error);
    return status;
}
