/* include/akin/evaluate.h over src/recommend. */
#include "akin/evaluate.h"

#include "base/clock.h"
#include "catalog/catalog.h"
#include "compute/backend.h"
#include "engine/engine.h"
#include "recommend/evaluate.h"
#include "recommend/fit_events.h"
#include "recommend/taste_store.h"

void akin_fit_settings_default(struct akin_fit_settings *settings)
{
    *settings = (struct akin_fit_settings){ .items_max = TASTE_ITEMS_MAX,
                                            .row_max = TASTE_ROW_MAX, .seed = 1 };
}

static enum akin_status learn(struct akin_engine *engine, const struct catalog *catalog,
                              const struct akin_fit_settings *settings, struct taste **taste,
                              struct fit_counts *counts, struct akin_error *error)
{
    struct histories histories;
    struct taste_settings wanted;
    taste_settings_default(&wanted);
    wanted.items_max = settings->items_max;
    wanted.sequence.seed = settings->seed;
    wanted.progress = settings->progress;
    TRY(fit_histories(catalog, &histories, counts, error));
    enum akin_status status = taste_learn(cpu_kernels(engine->backend), engine->pool, &histories,
                                          &wanted, taste, error);
    histories_deinit(&histories);
    if (status == AKIN_OK)
        status = taste_cut(*taste, settings->row_max, error);
    return status;
}

enum akin_status akin_fit(struct akin_engine *engine, const char *data,
                          const struct akin_fit_settings *settings, struct akin_fit_report *report,
                          struct akin_error *error)
{
    struct catalog *catalog;
    struct akin_catalog_info info;
    struct taste *taste = NULL;
    struct fit_counts counts;
    uint64_t began = clock_monotonic_ns();
    if (!settings->row_max)
        return error_set(error, AKIN_ARGUMENT,
                         "row_max is 0; at least one weight of a row is kept");
    TRY(catalog_open(data, CATALOG_WITHOUT_EMBEDDINGS, &catalog, error));
    catalog_info(catalog, &info);
    enum akin_status status = learn(engine, catalog, settings, &taste, &counts, error);
    if (status == AKIN_OK)
        status = taste_write(taste, data, catalog, error);
    if (status == AKIN_OK && report)
        *report = (struct akin_fit_report){
            .items = info.items, .users = counts.users, .events = taste->events,
            .live_events = counts.live,
            .learned_items = taste->size, .bytes = taste_bytes(taste),
            .seconds = (double)(clock_monotonic_ns() - began) * 1e-9
        };
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
    return evaluate(engine->backend, catalog ? catalog->catalog : NULL, settings, evaluation,
                    error);
}
