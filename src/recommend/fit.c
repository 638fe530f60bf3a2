/* See fit.h. The weights are learned first, from a part of the events; then the taste from all. */
#include "recommend/fit.h"

#include <stdio.h>

#include "base/clock.h"
#include "catalog/catalog.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"
#include "recommend/blend_learn.h"
#include "recommend/fit_events.h"
#include "recommend/graph_model.h"
#include "recommend/request.h"

struct fitting {
    const struct fit_lesson *lesson;
    struct fit_events events;
    struct split_text text;
    struct taste_weights weights[BLEND_CONTEXTS];
    float query_weight;
    struct akin_fit_report report;
};

/* blend_lesson.held */
static enum akin_status learn_query(void *context, const struct evaluation_plan *plan,
                                    const struct taste *taste, struct akin_error *error)
{
    struct fitting *f = context;
    struct query_lesson lesson = { .backend = f->lesson->backend, .catalog = f->lesson->catalog,
                                   .seed = f->lesson->settings->seed,
                                   .encode = f->lesson->encode, .context = f->lesson->context };
    return query_learn(&lesson, plan, taste, &f->query_weight, &f->report.query, error);
}

static enum akin_status learn_weights(struct fitting *f, struct akin_error *error)
{
    const struct akin_fit_settings *settings = f->lesson->settings;
    struct blend_lesson lesson = { .events = f->events.events, .count = f->events.count,
                                   .users = f->events.users,
                                   .items = catalog_item_count(f->lesson->catalog),
                                   .text = &f->text, .items_max = settings->items_max,
                                   .seed = settings->seed, .progress = settings->progress,
                                   .reranker = settings->reranker,
                                   .curve = &f->report.reranker, .context = f };
    f->query_weight = BLEND_QUERY;
    snprintf(f->report.query.formula, sizeof f->report.query.formula, "%.2g",
             (double)f->query_weight);
    if (f->lesson->encode && f->text.space)
        lesson.held = learn_query;
    TRY(blend_learn(f->lesson->backend, &lesson, BLEND_NEXT, &f->weights[BLEND_NEXT],
                    &f->report.goes_on, error));
    return blend_learn(f->lesson->backend, &lesson, BLEND_RETURN, &f->weights[BLEND_RETURN],
                       &f->report.comes_back, error);
}

static enum akin_status learn_graph(const struct fitting *f, const struct histories *histories,
                                    struct taste *taste, struct akin_error *error)
{
    struct graph_model_lesson lesson = { .backend = f->lesson->backend,
                                         .catalog = f->lesson->catalog, .histories = histories,
                                         .text = &f->text, .seed = f->lesson->settings->seed,
                                         .card = f->lesson->card,
                                         .progress = f->lesson->settings->progress };
    taste->graph = memory_alloc(1, sizeof *taste->graph);
    return taste->graph ? graph_model_learn(&lesson, taste->graph, error) : error_memory(error);
}

static enum akin_status learn_taste(struct fitting *f, struct taste **taste,
                                    struct akin_error *error)
{
    const struct fit_lesson *lesson = f->lesson;
    struct histories histories;
    struct taste_settings wanted;
    taste_settings_default(&wanted);
    wanted.items_max = lesson->settings->items_max;
    wanted.sequence.seed = wanted.reranker.seed = lesson->settings->seed;
    wanted.cpu_flags = cpu_flags(lesson->backend);
    wanted.texts = f->text.space ? f->text.rows : NULL;
    wanted.text_dim = f->text.dim;
    wanted.situations = f->text.space ? &f->text.situations : NULL;
    if (lesson->settings->reranker) {
        wanted.parts |= TASTE_BIT(TASTE_ATTENTION);
        wanted.reranker.fixed = f->report.reranker.best ? f->report.reranker.best : 1;
    }
    wanted.progress = lesson->settings->progress;
    TRY(fit_histories(lesson->catalog, &f->events, &histories, error));
    enum akin_status status = taste_learn(cpu_kernels(lesson->backend),
                                          cpu_threads(lesson->backend), &histories, &wanted, taste,
                                          error);
    uint64_t began = clock_monotonic_ns();
    if (status == AKIN_OK && lesson->settings->graph) {
        status = learn_graph(f, &histories, *taste, error);
        f->report.graph_seconds = seconds_since(began);
    }
    histories_deinit(&histories);
    return status == AKIN_OK ? taste_cut(*taste, lesson->settings->row_max, error) : status;
}

static enum akin_status fit(struct fitting *f, struct taste **taste, struct akin_error *error)
{
    const struct fit_lesson *lesson = f->lesson;
    TRY(fit_events_read(lesson->catalog, &f->events, error));
    if (!f->events.count)
        return error_set(error, AKIN_ARGUMENT,
                         "nobody has chosen anything yet: there is nothing to learn from");
    TRY(split_text_create(lesson->backend, lesson->catalog, NULL, &f->text, error));
    if (lesson->settings->graph && !f->text.space)
        return error_set(error, AKIN_ARGUMENT, "the graph is made of texts, and the catalogue has "
                         "no vectors: make them with `akin data embed`");
    TRY(learn_weights(f, error));
    TRY(learn_taste(f, taste, error));
    (*taste)->weights[BLEND_NEXT] = f->weights[BLEND_NEXT];
    (*taste)->weights[BLEND_RETURN] = f->weights[BLEND_RETURN];
    (*taste)->query_weight = f->query_weight;
    f->report.items = catalog_item_count(lesson->catalog);
    f->report.users = f->events.users;
    f->report.events = f->events.count;
    f->report.live_events = f->events.live;
    f->report.learned_items = (*taste)->size;
    f->report.bytes = taste_bytes(*taste);
    for (size_t i = 0; (*taste)->graph && i < (*taste)->graph->items; i++)
        f->report.new_items += (*taste)->graph->fresh[i];
    f->report.reranker.seconds += (*taste)->curve.seconds;
    return AKIN_OK;
}

enum akin_status fit_catalog(const struct fit_lesson *lesson, struct taste **taste,
                             struct akin_fit_report *report, struct akin_error *error)
{
    struct fitting f = { .lesson = lesson };
    *taste = NULL;
    enum akin_status status = fit(&f, taste, error);
    if (status == AKIN_OK)
        *report = f.report;
    else
        taste_destroy(taste);
    split_text_deinit(&f.text);
    fit_events_deinit(&f.events);
    return status;
}
