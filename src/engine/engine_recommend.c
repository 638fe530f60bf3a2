/* include/akin/recommend.h over src/recommend, which knows no model: a query is encoded here. */
#include "akin/recommend.h"

#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "catalog/catalog.h"
#include "compute/backend.h"
#include "compute/cuda_plugin.h"
#include "engine/engine.h"
#include "model/model.h"
#include "recommend/explore.h"
#include "recommend/neighbors.h"
#include "recommend/recommend.h"
#include "recommend/space.h"
#include "recommend/speaker.h"
#include "recommend/taste_store.h"
#include "recommend/users_warm.h"

/* Numbers of a query's vector for which a request needs no memory of its own. */
enum { QUERY_NUMBERS = 1024 };

/* A query vector of another model would be compared without sense, and silently. One of another
 * precision is near enough to be of use, and is only spoken of. */
enum akin_status engine_check_model(const struct catalog *catalog, const struct model *model,
                                    const struct akin_log *log, struct akin_error *error)
{
    struct akin_catalog_info catalog_is;
    struct akin_model_info model_is;
    catalog_info(catalog, &catalog_is);
    model_info(model, &model_is);
    if (catalog_is.dimension && model_is.dimension != catalog_is.dimension)
        return error_set(
            error, AKIN_ARGUMENT,
            "model %s makes vectors of %zu numbers, the catalogue has %zu: use the model "
            "that embedded it (%s)",
            model_is.name, model_is.dimension, catalog_is.dimension,
            *catalog_is.model ? catalog_is.model : "unknown");
    if (*catalog_is.model && strcmp(catalog_is.model, model_is.name))
        return error_set(
            error, AKIN_ARGUMENT,
            "the catalogue was embedded by model %s, not by %s: use that one, or remove "
            "the folder embeddings and embed it again",
            catalog_is.model, model_is.name);
    const char *precision = akin_precision_name(model_is.precision);
    if (*catalog_is.precision && strcmp(catalog_is.precision, precision))
        log_write(log, AKIN_LOG_WARNING,
                  "the catalogue was embedded in %s and the query is in %s: similarities are a "
                  "little off; --precision %s makes them alike", catalog_is.precision, precision,
                  catalog_is.precision);
    return AKIN_OK;
}

void akin_recommender_settings_default(struct akin_recommender_settings *settings)
{
    users_settings_default(settings);
}

/* users_settings.find_vectors. */
static enum akin_status find_vectors(void *context, const float **vectors,
                                     struct akin_error *error)
{
    const struct space *space;
    TRY(recommender_space(context, &space, error));
    *vectors = space->vectors;
    return AKIN_OK;
}

static enum akin_status open_live(struct akin_recommender *handle,
                                  const struct akin_recommender_settings *settings,
                                  struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(path_join(path, sizeof path, catalog_folder(handle->catalog), "akin.db", error));
    struct users_settings live = {
        .catalog = handle->catalog, .dim = handle->dimension,
        .find_vectors = find_vectors, .vectors_context = handle->recommender,
        .kernels = cpu_kernels(handle->engine->backend),
    };
    users_settings_default(&live.live);
    if (settings)
        live.live = *settings;
    live.store_path = live.live.store ? path : NULL;
    TRY(users_open(&live, &handle->users, error));
    recommender_use_live(handle->recommender, handle->users);
    if (!live.store_path)
        return AKIN_OK;
    struct explore_settings explore = { .kernels = live.kernels, .catalog = handle->catalog,
                                        .users = handle->users, .seed = live.live.explore_seed };
    TRY(explore_create(&explore, &handle->explore, error));
    recommender_use_explore(handle->recommender, handle->explore);
    return AKIN_OK;
}

/* recommend_source.open. A taste that is of other items, or damaged, is not worth failing for:
 * texts and raters still say something, and `akin fit` makes it anew. */
static enum akin_status open_taste(void *context, struct recommend_inputs *inputs,
                                   struct akin_error *error)
{
    struct akin_recommender *handle = context;
    const struct kernels *kernels = cpu_kernels(handle->engine->backend);
    struct akin_error why;
    enum akin_status status = taste_open(kernels, catalog_folder(handle->catalog), handle->catalog,
                                         &handle->taste, &why);
    if (status == AKIN_MEMORY)
        return error_memory(error);
    if (status != AKIN_OK && status != AKIN_NOT_FOUND)
        log_write(&handle->engine->log, AKIN_LOG_WARNING, "the learned taste is left aside: %s",
                  why.message);
    if (status != AKIN_OK)
        return AKIN_OK;
    if (handle->taste->left_aside.status != AKIN_OK)
        log_write(&handle->engine->log, AKIN_LOG_WARNING,
                  "recommendations go on without the reranker: %s",
                  handle->taste->left_aside.message);
    if (handle->taste->graph_aside.status != AKIN_OK)
        log_write(&handle->engine->log, AKIN_LOG_WARNING,
                  "recommendations go on without the graph: %s",
                  handle->taste->graph_aside.message);
    status = speaker_create(handle->taste, kernels, &handle->speaker, error);
    if (status == AKIN_OK)
        *inputs = (struct recommend_inputs){ .fitted = true, .speaker = handle->speaker,
                                             .graph = handle->taste->graph,
                                             .query_weight = handle->taste->query_weight };
    else
        taste_destroy(&handle->taste);
    return status;
}

enum akin_status akin_recommender_open(struct akin_engine *engine,
                                       const struct akin_catalog *catalog, struct akin_model *model,
                                       const struct akin_recommender_settings *settings,
                                       struct akin_recommender **recommender,
                                       struct akin_error *error)
{
    if (model)
        TRY(engine_check_model(catalog->catalog, model->model, &engine->log, error));
    struct akin_recommender *handle = memory_alloc(1, sizeof *handle);
    if (!handle)
        return error_memory(error);
    struct akin_catalog_info info;
    catalog_info(catalog->catalog, &info);
    handle->model = model;
    handle->dimension = info.dimension;
    handle->engine = engine;
    handle->catalog = catalog->catalog;
    enum akin_status status =
        recommender_open(engine->backend, catalog->catalog, &handle->recommender, error);
    if (status == AKIN_OK)
        status = open_live(handle, settings, error);
    if (status != AKIN_OK) {
        akin_recommender_close(&handle);
        return status;
    }
    recommender_use_source(handle->recommender, &(struct recommend_source){ open_taste, handle });
    *recommender = handle;
    return AKIN_OK;
}

void akin_recommender_close(struct akin_recommender **recommender)
{
    if (!*recommender)
        return;
    explore_destroy(&(*recommender)->explore);
    users_close(&(*recommender)->users);    /* who live in the recommender's space */
    recommender_close(&(*recommender)->recommender);
    speaker_destroy(&(*recommender)->speaker);
    taste_destroy(&(*recommender)->taste);
    memory_free(*recommender);
    *recommender = NULL;
}

void akin_request_default(struct akin_request *request)
{
    recommend_request_default(request);
}

static enum akin_status encode(const struct akin_recommender *recommender, const char *query,
                               float *vector, struct akin_error *error)
{
    if (!recommender->model)
        return error_set(error, AKIN_ARGUMENT, "a query needs a model, and none was given");
    struct akin_embed_settings settings;
    model_embed_settings_default(&settings);
    struct akin_text text = { query, strlen(query) };
    return akin_model_embed(recommender->model, &text, 1, &settings, vector, NULL, error);
}

enum akin_status akin_recommender_prepare(struct akin_recommender *recommender,
                                          struct akin_progress progress, struct akin_error *error)
{
    const struct cuda_plugin *plugin = NULL;
    const struct akin_engine *engine = recommender->engine;
    struct akin_error reason = { 0 };
    int ordinal = 0;
    TRY(recommender_prepare(recommender->recommender, progress, error));
    TRY(engine_card_of(engine, CARD_SEARCH, &plugin, &ordinal, error));
    enum akin_status status = AKIN_OK;
    if (plugin)
        status = recommender_use_card(recommender->recommender, plugin->search, ordinal, &reason);
    if (status != AKIN_OK && engine_cards_required(engine))
        return error_set(error, status, "%s", reason.message);
    if (status != AKIN_OK)
        log_write(&engine->log, AKIN_LOG_WARNING, "searching on the CPU: %s", reason.message);
    if (!plugin || status != AKIN_OK)
        return AKIN_OK;
    /* Requests that are no more than searches on the card are still right. */
    status = recommender_use_personal(recommender->recommender, plugin->personal, ordinal, &reason);
    if (status != AKIN_OK)
        log_write(&engine->log, AKIN_LOG_WARNING,
                  "requests are searched on the GPU and ranked on the CPU: %s", reason.message);
    return AKIN_OK;
}

enum akin_status akin_recommender_wake(struct akin_recommender *recommender, size_t users_max,
                                       struct akin_progress progress,
                                       struct akin_wake_report *report, struct akin_error *error)
{
    const struct akin_engine *engine = recommender->engine;
    const struct cuda_plugin *plugin = NULL;
    struct users_warming warming = { .users_max = users_max, .pool = engine->pool,
                                     .progress = progress };
    struct users_warmed made = { 0 };
    uint64_t began = clock_monotonic_ns();
    TRY(engine_card_of(engine, CARD_USERS, &plugin, &warming.card.ordinal, error));
    if (plugin) {
        warming.card.ops = plugin->users;
        warming.card.log = engine_cards_required(engine) ? NULL : &engine->log;
    }
    TRY(users_warm(recommender->users, &warming, &made, error));
    if (report)
        *report = (struct akin_wake_report){ made.users, made.ratings, seconds_since(began),
                                             made.on_card, made.card_ms, made.card_bytes };
    return AKIN_OK;
}

static void warn_of_card(const struct akin_recommender *recommender)
{
    struct akin_error why;
    if (recommender_card_failed(recommender->recommender, &why))
        log_write(&recommender->engine->log, AKIN_LOG_WARNING,
                  "recommending on the CPU from now on, the GPU failed: %s", why.message);
}

enum akin_status akin_recommend(struct akin_recommender *recommender,
                                const struct akin_request *request,
                                struct akin_recommendation *results, size_t *found,
                                struct akin_recommend_timing *timing, struct akin_error *error)
{
    return akin_recommend_explained(recommender, request, results, NULL, found, timing, error);
}

enum akin_status akin_recommend_explained(struct akin_recommender *recommender,
                                          const struct akin_request *request,
                                          struct akin_recommendation *results,
                                          struct akin_explanation *explanations, size_t *found,
                                          struct akin_recommend_timing *timing,
                                          struct akin_error *error)
{
    struct recommender *r = recommender->recommender;
    if (!request->query) {
        enum akin_status answered =
            recommend(r, request, NULL, results, explanations, found, timing, error);
        warn_of_card(recommender);
        return answered;
    }
    uint64_t began = clock_monotonic_ns();
    _Alignas(64) float few[QUERY_NUMBERS];
    bool fits = recommender->dimension <= QUERY_NUMBERS;
    float *vector =
        fits ? few : memory_alloc_aligned(recommender->dimension, sizeof *vector);
    if (!vector)
        return error_memory(error);
    enum akin_status status = encode(recommender, request->query, vector, error);
    double encode_ms = ms_since(began);
    if (status == AKIN_OK)
        status = recommend(r, request, vector, results, explanations, found, timing, error);
    warn_of_card(recommender);
    if (status == AKIN_OK && timing) {
        timing->encode_ms = encode_ms;
        timing->total_ms += encode_ms;
    }
    if (!fits)
        memory_free(vector);
    return status;
}

/* The queries of requests, encoded together, to `vectors`; query_vectors[i] NULL: there is none. */
static enum akin_status encode_all(const struct akin_recommender *r,
                                   const struct akin_request *requests, size_t count,
                                   struct akin_text *texts, float *vectors,
                                   const float **query_vectors, struct akin_error *error)
{
    struct akin_embed_settings settings;
    size_t queries = 0;
    model_embed_settings_default(&settings);
    for (size_t i = 0; i < count; i++) {
        query_vectors[i] = NULL;
        if (!requests[i].query || !r->model)
            continue;
        query_vectors[i] = vectors + queries * r->dimension;
        texts[queries++] =
            (struct akin_text){ requests[i].query, strlen(requests[i].query) };
    }
    return queries ? akin_model_embed(r->model, texts, queries, &settings, vectors, NULL, error)
                   : AKIN_OK;
}

enum akin_status akin_recommend_batch(struct akin_recommender *recommender,
                                      const struct akin_request *requests, size_t count,
                                      struct akin_answer *answers, struct akin_error *error)
{
    size_t queries = 0;
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; i < count; i++)
        queries += requests[i].query != NULL;
    struct akin_text *texts = memory_alloc(queries + 1, sizeof *texts);
    const float **query_vectors = memory_alloc(count + 1, sizeof *query_vectors);
    float *vectors = memory_alloc_aligned(queries + 1, recommender->dimension * sizeof *vectors);
    if (!texts || !query_vectors || !vectors)
        TRY_DONE(error_memory(error));
    TRY_DONE(encode_all(recommender, requests, count, texts, vectors, query_vectors, error));
    status = recommend_batch(recommender->recommender, requests, query_vectors, count, answers,
                             error);
    warn_of_card(recommender);
done:
    memory_free(texts);
    memory_free(query_vectors);
    memory_free(vectors);
    return status;
}

enum akin_status akin_recommend_vectors(struct akin_recommender *recommender, const float *vectors,
                                        size_t count, size_t k, const char *filter,
                                        struct akin_recommendation *results, size_t *found,
                                        struct akin_error *error)
{
    enum akin_status status = recommend_vectors(recommender->recommender, vectors, count, k, filter,
                                                results, found, error);
    warn_of_card(recommender);
    return status;
}

enum akin_status akin_recommender_knows(struct akin_recommender *recommender, const char *user,
                                        bool *knows, struct akin_error *error)
{
    return recommender_knows(recommender->recommender, user, knows, error);
}

enum akin_status akin_recommend_report(struct akin_recommender *recommender,
                                       const struct akin_recommendation *results, size_t count,
                                       struct akin_list_report *report, struct akin_error *error)
{
    return recommend_report(recommender->recommender, results, count, report, error);
}

enum akin_status akin_recommender_count(struct akin_recommender *recommender, const char *filter,
                                        size_t *count, struct akin_error *error)
{
    return recommender_count(recommender->recommender, filter, count, error);
}

enum akin_status akin_recommender_arms(struct akin_recommender *recommender,
                                       struct akin_arm *arms, size_t capacity, size_t *count,
                                       struct akin_error *error)
{
    *count = 0;
    if (!recommender->explore)
        return AKIN_OK;
    return explore_arms(recommender->explore, clock_unix_seconds(), arms, capacity, count, error);
}

void akin_recommender_memory(const struct akin_recommender *recommender,
                             struct akin_recommender_memory *memory)
{
    struct users_counts counts;
    recommender_memory(recommender->recommender, memory);
    users_count(recommender->users, &counts);
    memory->active_users = counts.used_bytes;
    memory->active_users_reserved = counts.block_bytes;
    memory->total += counts.used_bytes;
}

/* What is rated is in demand. */
static void tell_neighbors(const struct akin_recommender *r, const struct akin_feedback *feedback,
                           size_t count)
{
    size_t row;
    for (size_t i = 0; r->neighbors && i < count; i++)
        if (catalog_find_id(r->catalog, feedback[i].item, &row, NULL) == AKIN_OK)
            (void)neighbors_record(r->neighbors, row, (double)feedback[i].rating,
                                   feedback[i].timestamp, NULL);
}

enum akin_status akin_recommend_update(struct akin_recommender *recommender, const char *user,
                                       const char *item, float rating, int64_t timestamp,
                                       struct akin_error *error)
{
    struct akin_feedback feedback = { user, item, rating, timestamp };
    TRY(users_update(recommender->users, &feedback, error));
    tell_neighbors(recommender, &feedback, 1);
    return AKIN_OK;
}

enum akin_status akin_recommend_update_batch(struct akin_recommender *recommender,
                                             const struct akin_feedback *feedback, size_t count,
                                             size_t *refused, struct akin_error *error)
{
    TRY(users_update_batch(recommender->users, feedback, count, refused, error));
    tell_neighbors(recommender, feedback, count);
    return AKIN_OK;
}
