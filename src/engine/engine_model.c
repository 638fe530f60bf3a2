/* include/akin/model.h over src/model: handles in, handles out. */
#include "akin/akin.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/thread.h"
#include "compute/cuda_plugin.h"
#include "engine/engine.h"
#include "model/hub.h"
#include "model/model.h"
#include "model/precision.h"

static const char *const precisions[] = {
    [AKIN_PRECISION_AUTO] = "auto", [AKIN_PRECISION_FP32] = "fp32", [AKIN_PRECISION_BF16] = "bf16",
    [AKIN_PRECISION_FP16] = "fp16", [AKIN_PRECISION_INT8] = "int8",
};

const char *akin_precision_name(enum akin_precision precision)
{
    return (size_t)precision < sizeof precisions / sizeof *precisions ? precisions[precision] : "?";
}

bool akin_precision_parse(const char *name, enum akin_precision *precision)
{
    for (size_t i = 0; i < sizeof precisions / sizeof *precisions; i++)
        if (!strcmp(precisions[i], name)) {
            *precision = (enum akin_precision)i;
            return true;
        }
    return false;
}

/* About the CPU where `cards` is NULL. */
static enum akin_status verdict_of(struct akin_engine *engine, const struct encoder_cards *cards,
                                   const char *directory, enum akin_verdict_ask ask,
                                   struct akin_verdict *verdict, struct akin_error *error)
{
    /* Kernels change between commits, speeds and bits with them. */
    char version[128], names[192];
    snprintf(version, sizeof version, "%s %s", akin_version(), akin_commit());
    struct precision_place place = { .backend = engine->backend, .pool = engine->pool,
                                     .directory = directory, .home = engine->home,
                                     .kernels = engine->instruction_sets, .version = version,
                                     .cards = cards, .log = &engine->log };
    if (cards) {
        const struct cuda_plugin *plugin;
        struct cuda_description card;
        TRY(engine_plugin_load(engine, &plugin, error));
        TRY(plugin->device_describe(cards->ordinals[0], &card, error));
        snprintf(names, sizeof names, "%zu x %s", cards->count, card.name);
        place.kernels = names;
    }
    return precision_verdict(&place, ask, verdict, error);
}

enum akin_status akin_model_verdict(struct akin_engine *engine, const char *directory,
                                    enum akin_verdict_ask ask, struct akin_verdict *verdict,
                                    struct akin_error *error)
{
    const struct encoder_cards *cards;
    TRY(engine_cards_find(engine, &cards, error));
    return verdict_of(engine, cards, directory, ask, verdict, error);
}

/* The verdict about cards, where there is one or can be; the caller frees it. */
static struct akin_verdict *verdict_on_cards(struct akin_engine *engine,
                                             const struct encoder_cards *cards,
                                             const char *directory)
{
    struct akin_error why = { 0 };
    struct akin_verdict *v = memory_alloc(1, sizeof *v);
    if (v && verdict_of(engine, cards, directory, AKIN_VERDICT_IF_NONE, v, &why) == AKIN_OK)
        return v;
    log_write(&engine->log, AKIN_LOG_WARNING, "precisions on the GPU are not known: %s",
              v ? why.message : "memory ran out");
    memory_free(v);
    return NULL;
}

/* int8 where that passes and is faster, else fp16. */
static enum akin_precision choose_on_cards(struct akin_engine *engine,
                                           const struct encoder_cards *cards,
                                           const char *directory)
{
    struct akin_verdict *v = verdict_on_cards(engine, cards, directory);
    enum akin_precision chosen = v ? v->chosen : AKIN_PRECISION_FP16;
    log_write(&engine->log, AKIN_LOG_INFO, "precision auto on the GPU: %s",
              akin_precision_name(chosen));
    memory_free(v);
    return chosen;
}

/* Who asks for int8 gets it, and is told where it is not what it should be. */
static void warn_of_int8(struct akin_engine *engine, const struct encoder_cards *cards,
                         const char *directory)
{
    struct akin_verdict *v = verdict_on_cards(engine, cards, directory);
    const struct akin_precision_figures *f = v ? precision_figures(v, AKIN_PRECISION_INT8) : NULL;
    if (f && !f->passes)
        log_write(&engine->log, AKIN_LOG_WARNING, "int8 does not pass the gate of GPUs with this "
                  "model: cosine to fp32 %.5f, least %.5f, %.1f %% of neighbours kept; 0.999, "
                  "0.999 and 99 %% are asked for. fp16 does", f->cosine_mean, f->cosine_min,
                  100 * f->neighbours_kept);
    memory_free(v);
}

static enum akin_status decide(struct akin_engine *engine, const char *directory,
                               enum akin_precision *precision, struct akin_error *error)
{
    struct akin_verdict *verdict = memory_alloc(1, sizeof *verdict);
    if (!verdict)
        return error_memory(error);
    enum akin_status status =
        verdict_of(engine, NULL, directory, AKIN_VERDICT_IF_NONE, verdict, error);
    if (status == AKIN_OK)
        *precision = verdict->chosen;
    memory_free(verdict);
    return status;
}

enum akin_status akin_model_quantize(struct akin_engine *engine, const char *directory,
                                     enum akin_precision precision, const char *path,
                                     char *written, size_t written_bytes, struct akin_error *error)
{
    return model_quantize(engine->backend, directory, precision, path, written, written_bytes,
                          error);
}

enum akin_status akin_model_quantized(const char *directory, enum akin_precision precision,
                                      struct akin_quantized *state, struct akin_error *error)
{
    return model_quantized(directory, precision, state, error);
}

/* What the CPU computes in where a card does not: it has no fp16, and fp32 is as good. */
static enum akin_precision spare_of(enum akin_precision precision)
{
    return precision == AKIN_PRECISION_FP16 ? AKIN_PRECISION_FP32 : precision;
}

static enum akin_status open_on_cards(struct akin_engine *engine,
                                      const struct encoder_cards *cards, const char *directory,
                                      enum akin_precision precision, struct akin_model **model,
                                      struct akin_error *error)
{
    struct akin_model *m = memory_alloc(1, sizeof *m);
    enum akin_status status = AKIN_OK;
    if (!m)
        return error_memory(error);
    bool named = precision == AKIN_PRECISION_INT8;
    if (precision == AKIN_PRECISION_AUTO)
        precision = choose_on_cards(engine, cards, directory);
    m->engine = engine;
    m->spare_precision = spare_of(precision);
    if (!engine_cards_required(engine)) {
        m->directory = memory_copy_string(directory);
        m->spare_lock = mutex_create();
        if (!m->directory || !m->spare_lock)
            status = error_memory(error);
    }
    if (status == AKIN_OK)
        status = model_open_on_cards(cards, engine->pool, directory, precision, &engine->log,
                                     &m->model, error);
    if (status == AKIN_OK && named)
        warn_of_int8(engine, cards, directory);
    if (status == AKIN_OK)
        *model = m;
    else
        akin_model_close(&m);
    return status;
}

static enum akin_status open_on_cpu(struct akin_engine *engine, const char *directory,
                                    enum akin_precision precision, struct model **model,
                                    struct akin_error *error)
{
    if (precision == AKIN_PRECISION_AUTO)
        TRY(decide(engine, directory, &precision, error));
    return model_open(engine->backend, engine->pool, directory, precision, &engine->log, model,
                      error);
}

/* What a card may do, as opposed to what is asked of it. */
static bool is_of_card(enum akin_status status)
{
    return status == AKIN_UNSUPPORTED || status == AKIN_MEMORY || status == AKIN_IO;
}

enum akin_status akin_model_open(struct akin_engine *engine, const char *directory,
                                 enum akin_precision precision, struct akin_model **model,
                                 struct akin_error *error)
{
    const struct encoder_cards *cards = NULL;
    bool half = precision == AKIN_PRECISION_AUTO || precision == AKIN_PRECISION_FP16;
    if (half || engine_cards_required(engine))
        TRY(engine_cards_find(engine, &cards, error));
    if (cards && !half && precision != AKIN_PRECISION_INT8)
        return error_set(error, AKIN_UNSUPPORTED, "precision %s: a GPU computes in fp16 or int8; "
                         "use precision auto, fp16 or int8, or device cpu",
                         akin_precision_name(precision));
    if (cards) {
        struct akin_error reason = { 0 };
        enum akin_status status = open_on_cards(engine, cards, directory, precision, model,
                                                &reason);
        if (status == AKIN_OK)
            return AKIN_OK;
        if (engine_cards_required(engine) || !is_of_card(status))
            return error_set(error, status, "%s", reason.message);
        log_write(&engine->log, AKIN_LOG_WARNING, "computing on the CPU: %s", reason.message);
        precision = spare_of(precision);
    }
    struct akin_model *m = memory_alloc(1, sizeof *m);
    if (!m)
        return error_memory(error);
    m->engine = engine;
    enum akin_status status = open_on_cpu(engine, directory, precision, &m->model, error);
    if (status == AKIN_OK)
        *model = m;
    else
        akin_model_close(&m);
    return status;
}

struct model *engine_model_spare(struct akin_model *model, enum akin_status status,
                                 const struct akin_error *why)
{
    if (!model->directory || !is_of_card(status))
        return NULL;
    mutex_lock(model->spare_lock);
    if (!model->spare_tried) {
        struct akin_error error = { 0 };
        const struct akin_log *log = &model->engine->log;
        model->spare_tried = true;
        log_write(log, AKIN_LOG_WARNING, "going on with the CPU: %s", why->message);
        if (open_on_cpu(model->engine, model->directory, model->spare_precision,
                        &model->spare, &error) != AKIN_OK)
            log_write(log, AKIN_LOG_WARNING, "the CPU cannot go on either: %s", error.message);
    }
    mutex_unlock(model->spare_lock);
    return model->spare;
}

void akin_model_close(struct akin_model **model)
{
    if (!*model)
        return;
    model_close(&(*model)->model);
    model_close(&(*model)->spare);
    mutex_destroy(&(*model)->spare_lock);
    memory_free((*model)->directory);
    memory_free(*model);
    *model = NULL;
}

void akin_model_info(const struct akin_model *model, struct akin_model_info *info)
{
    model_info(model->model, info);
}

bool akin_model_prompt(const struct akin_model *model, size_t i, const char **name,
                       const char **text)
{
    return model_prompt(model->model, i, name, text);
}

enum akin_status akin_model_tokenize(const struct akin_model *model, struct akin_text text,
                                     int32_t *ids, uint32_t (*offsets)[2], size_t ids_max,
                                     size_t *count, struct akin_error *error)
{
    return model_tokenize(model->model, text, ids, offsets, ids_max, count, error);
}

void akin_embed_settings_default(struct akin_embed_settings *settings)
{
    model_embed_settings_default(settings);
}

enum akin_status akin_model_embed(struct akin_model *model, const struct akin_text *texts,
                                  size_t count, const struct akin_embed_settings *settings,
                                  float *vectors, struct akin_embed_report *report,
                                  struct akin_error *error)
{
    struct akin_error why = { 0 };
    enum akin_status status = model_embed(model->model, texts, count, settings, vectors, report,
                                          &why);
    struct model *spare = status == AKIN_OK ? NULL : engine_model_spare(model, status, &why);
    if (spare)
        return model_embed(spare, texts, count, settings, vectors, report, error);
    if (status != AKIN_OK && error)
        *error = why;
    return status;
}

enum akin_status akin_model_locate(const char *home, const char *name, char *path,
                                   size_t path_bytes, struct akin_error *error)
{
    return model_locate(home, name, path, path_bytes, error);
}

enum akin_status akin_model_list(const char *home, void *cookie,
                                 void (*visit)(void *cookie, const char *name, const char *path),
                                 struct akin_error *error)
{
    return model_list(home, cookie, visit, error);
}

enum akin_status akin_model_check(struct akin_engine *engine, const char *directory,
                                  struct akin_progress progress, struct akin_error *error)
{
    return model_check(engine->backend, engine->pool, directory, &engine->log, progress, error);
}

void akin_pull_settings_default(struct akin_pull_settings *settings)
{
    model_pull_settings_default(settings);
}

enum akin_status akin_model_pull(const char *name, const struct akin_pull_settings *settings,
                                 char *path, size_t path_bytes, struct akin_error *error)
{
    return model_pull(name, settings, NULL, path, path_bytes, error);
}
