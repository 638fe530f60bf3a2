/* include/akin/evaluate.h over src/recommend. */
#include "akin/evaluate.h"

#include "base/clock.h"
#include "catalog/catalog.h"
#include "compute/backend.h"
#include "compute/cuda_plugin.h"
#include "engine/engine.h"
#include "model/model.h"
#include "recommend/evaluate.h"
#include "recommend/fit.h"
#include "recommend/taste_store.h"

void akin_fit_settings_default(struct akin_fit_settings *settings)
{
    *settings = (struct akin_fit_settings){ .items_max = TASTE_ITEMS_MAX,
                                            .row_max = TASTE_ROW_MAX, .seed = 1 };
}

/* fit_lesson.encode */
static enum akin_status encode(void *context, const struct akin_text *texts, size_t count,
                               float *vectors, struct akin_error *error)
{
    struct akin_embed_settings settings;
    model_embed_settings_default(&settings);
    return akin_model_embed(context, texts, count, &settings, vectors, NULL, error);
}

/* With its vectors, where they are there and belong to it. */
static enum akin_status open_catalog(const char *data, struct catalog **catalog,
                                     struct akin_error *error)
{
    if (catalog_open(data, CATALOG_ALL, catalog, NULL) == AKIN_OK)
        return AKIN_OK;
    return catalog_open(data, CATALOG_WITHOUT_EMBEDDINGS, catalog, error);
}

/* The card that places the items of a graph, where one is learned. */
static enum akin_status find_card(const struct akin_engine *engine, bool graph,
                                  struct graph_card *card, struct akin_error *error)
{
    const struct cuda_plugin *plugin = NULL;
    int ordinal = 0;
    *card = (struct graph_card){ .ops = NULL };
    if (!graph)
        return AKIN_OK;
    TRY(engine_card_of(engine, CARD_GRAPH, &plugin, &ordinal, error));
    if (plugin)
        *card = (struct graph_card){ plugin->graph, ordinal,
                                     engine_cards_required(engine) ? NULL : &engine->log };
    return AKIN_OK;
}

enum akin_status akin_fit(struct akin_engine *engine, const char *data, struct akin_model *model,
                          const struct akin_fit_settings *settings, struct akin_fit_report *report,
                          struct akin_error *error)
{
    struct catalog *catalog;
    struct taste *taste = NULL;
    struct akin_fit_report made;
    uint64_t began = clock_monotonic_ns();
    if (!settings->row_max)
        return error_set(error, AKIN_ARGUMENT,
                         "row_max is 0; at least one weight of a row is kept");
    TRY(open_catalog(data, &catalog, error));
    struct fit_lesson lesson = { .backend = engine->backend, .catalog = catalog,
                                 .settings = settings };
    enum akin_status status = find_card(engine, settings->graph, &lesson.card, error);
    if (status == AKIN_OK && model && catalog_item_vectors(catalog)) {
        status = engine_check_model(catalog, model->model, &engine->log, error);
        lesson.encode = encode;
        lesson.context = model;
    }
    if (status == AKIN_OK)
        status = fit_catalog(&lesson, &taste, &made, error);
    if (status == AKIN_OK)
        status = taste_write(taste, data, catalog, error);
    made.seconds = seconds_since(began);
    if (status == AKIN_OK && report)
        *report = made;
    taste_destroy(&taste);
    catalog_close(&catalog);
    return status;
}

void akin_evaluate_settings_default(struct akin_evaluate_settings *settings)
{
    evaluate_settings_default(settings);
}

enum akin_status akin_evaluate(struct akin_engine *engine, const struct akin_catalog *catalog,
                               const struct akin_evaluate_settings *settings,
                               struct akin_evaluation *evaluation, struct akin_error *error)
{
    struct graph_card card;
    TRY(find_card(engine, settings->graph, &card, error));
    return evaluate(engine->backend, catalog ? catalog->catalog : NULL, &card, settings, evaluation,
                    error);
}
