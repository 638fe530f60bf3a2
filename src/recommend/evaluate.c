/* Learns, judges (judge.h) every row of the table, and adds up. */
#include "recommend/evaluate.h"

#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"
#include "recommend/blend_learn.h"
#include "recommend/cold.h"
#include "recommend/judge.h"

/* Of a row of the table for a point: the metrics, and NDCG less that of the first two rows and
 * of the last. */
enum { OVER_POPULARITY = METRIC_COUNT, OVER_RECENT, OVER_LAST, COLUMNS };

enum { ROW_POPULARITY, ROW_RECENT };

struct evaluating {
    const struct backend *backend;
    const struct akin_evaluate_settings *settings;
    const struct split *split;
    struct graph_card card;
    struct evaluation_plan plan;
    struct split_text text;
    struct taste *taste;
    struct graph_model graph;
    struct blend own;           /* with weights that were learned */
    const struct blend *table[AKIN_EVALUATION_ROWS_MAX];
    size_t row_count;
    struct judged judged;
    struct akin_training training;
};

void evaluate_settings_default(struct akin_evaluate_settings *settings)
{
    *settings = (struct akin_evaluate_settings){ .replay_points = 25, .seed = 1 };
}

/* ---- the table --------------------------------------------------------------------------- */

static struct akin_estimate estimate(struct interval i)
{
    return (struct akin_estimate){ i.mean, i.low, i.high };
}

static enum akin_status fill_row(const struct evaluating *e, size_t r,
                                 const struct interval *intervals, uint32_t *listed,
                                 struct akin_evaluation_row *row, struct akin_error *error)
{
    const struct interval *own = intervals + r * COLUMNS;
    size_t total = 0;
    *row = (struct akin_evaluation_row){
        .name = e->table[r]->name, .formula = e->table[r]->formula,
        .ndcg = estimate(own[METRIC_NDCG]), .recall = estimate(own[METRIC_RECALL]),
        .hit_rate = estimate(own[METRIC_HIT]), .mrr = estimate(own[METRIC_MRR]),
        .difference = estimate(own[OVER_POPULARITY]), .over_recent = estimate(own[OVER_RECENT]),
        .over_last = estimate(own[OVER_LAST])
    };
    for (size_t at = 0; at < e->plan.point_count; at++) {
        if (!e->plan.points[at].positive_count)
            continue;
        size_t list = at * e->row_count + r;
        memcpy(listed + total, e->judged.lists + list * METRICS_K,
               e->judged.list_counts[list] * sizeof *listed);
        total += e->judged.list_counts[list];
    }
    return metrics_of_catalogue(listed, total, e->taste->chosen, e->split->item_count,
                                e->plan.learned_users, &row->coverage, &row->novelty, error);
}

/* values [judged][rows][COLUMNS] */
static void fill_values(const struct evaluating *e, double *values)
{
    size_t rows = e->row_count;
    for (size_t i = 0; i < e->plan.judged; i++)
        for (size_t r = 0; r < rows; r++) {
            const double *point = e->judged.values + i * rows * METRIC_COUNT;
            const double *from = point + r * METRIC_COUNT;
            double *to = values + (i * rows + r) * COLUMNS;
            memcpy(to, from, METRIC_COUNT * sizeof *to);
            to[OVER_POPULARITY] =
                from[METRIC_NDCG] - point[ROW_POPULARITY * METRIC_COUNT + METRIC_NDCG];
            to[OVER_LAST] =
                from[METRIC_NDCG] - point[(rows - 1) * METRIC_COUNT + METRIC_NDCG];
            to[OVER_RECENT] = from[METRIC_NDCG] - point[ROW_RECENT * METRIC_COUNT + METRIC_NDCG];
        }
}

static enum akin_status fill_table(const struct evaluating *e, struct akin_evaluation *evaluation,
                                   struct akin_error *error)
{
    struct interval intervals[AKIN_EVALUATION_ROWS_MAX * COLUMNS];
    size_t columns = e->row_count * COLUMNS;
    uint32_t *listed = memory_alloc(e->plan.point_count * METRICS_K, sizeof *listed);
    double *values = memory_alloc(e->plan.judged * columns, sizeof *values);
    enum akin_status status = listed && values ? AKIN_OK : error_memory(error);
    if (status == AKIN_OK) {
        fill_values(e, values);
        status = metrics_intervals(values, e->plan.judged, columns, e->settings->seed, intervals,
                                   error);
    }
    for (size_t r = 0; status == AKIN_OK && r < e->row_count; r++)
        status = fill_row(e, r, intervals, listed, &evaluation->rows[r], error);
    evaluation->row_count = e->row_count;
    memory_free(listed);
    memory_free(values);
    return status;
}

/* The lists of the last row, which is the blend that is shipped. */
static enum akin_status write_recs(const struct evaluating *e, struct akin_error *error)
{
    struct bytes out = { 0 };
    for (size_t at = 0; at < e->plan.point_count; at++) {
        const char *user = e->split->users[e->plan.points[at].user];
        size_t list = at * e->row_count + e->row_count - 1;
        bytes_append_text(&out, "{\"user\": ");
        json_append_string(&out, user, strlen(user));
        bytes_append_text(&out, ", \"items\": [");
        for (size_t i = 0; i < e->judged.list_counts[list]; i++) {
            const char *item = e->split->items[e->judged.lists[list * METRICS_K + i]];
            bytes_append_text(&out, i ? ", " : "");
            json_append_string(&out, item, strlen(item));
        }
        bytes_append_text(&out, "]}\n");
    }
    enum akin_status status = out.failed ? error_memory(error)
                                         : file_write(e->settings->recs, out.data, out.count,
                                                      error);
    bytes_deinit(&out);
    return status;
}

/* ---- what is learned --------------------------------------------------------------------- */

static void choose_rows(struct evaluating *e)
{
    size_t count;
    const struct blend *table = blend_table(e->plan.context, &count);
    ASSERT(count < AKIN_EVALUATION_ROWS_MAX);
    for (size_t r = 0; r < count; r++)
        if ((table[r].text == BLEND_TEXT_NONE || e->text.space) &&
            ((table[r].weights.part[TASTE_ATTENTION] == 0 && table[r].lift == 0) ||
             e->settings->reranker) &&
            (!(table[r].text & BLEND_TEXT_GRAPH) || e->settings->graph))
            e->table[e->row_count++] = &table[r];
    if (!e->settings->context)
        return;
    const struct blend *told = blend_situations(&count);
    const struct blend *last = e->table[--e->row_count];
    for (size_t r = 0; r < count; r++)
        e->table[e->row_count++] = &told[r];
    ASSERT(e->row_count < AKIN_EVALUATION_ROWS_MAX);
    e->table[e->row_count++] = last;
}

/* The weights that the events teach, as one more row where they are not the default. */
static enum akin_status learn_weights(struct evaluating *e, struct akin_weights_found *found,
                                      struct akin_error *error)
{
    struct history_event *events = memory_alloc(e->split->event_count, sizeof *events);
    size_t count = 0;
    if (!events)
        return error_memory(error);
    for (size_t at = 0; at < e->split->event_count; at++)
        if (e->plan.learn[at])
            events[count++] = (struct history_event){ e->split->events[at].user,
                                                      e->split->events[at].item,
                                                      e->split->events[at].timestamp };
    struct blend_lesson lesson = { .events = events, .count = count,
                                   .users = e->split->user_count, .items = e->split->item_count,
                                   .text = &e->text, .seed = e->settings->seed,
                                   .reranker = e->settings->reranker, .curve = &e->training,
                                   .progress = e->settings->progress };
    e->own = (struct blend){ .name = "blended, weights learned", .formula = "as beneath the table",
                             .text = e->text.space ? blend_text_of(e->plan.context)
                                                   : BLEND_TEXT_NONE };
    enum akin_status status = blend_learn(e->backend, &lesson, e->plan.context, &e->own.weights,
                                          found, error);
    memory_free(events);
    if (status == AKIN_OK && found->learned)
        e->table[e->row_count++] = &e->own;
    return status;
}

static enum akin_status learn_taste(struct evaluating *e, struct akin_error *error)
{
    struct taste_settings wanted;
    taste_settings_default(&wanted);
    wanted.parts = judge_parts(e->table, e->row_count);
    wanted.sequence.seed = wanted.reranker.seed = e->settings->seed;
    wanted.cpu_flags = cpu_flags(e->backend);
    wanted.texts = e->text.space ? e->text.rows : NULL;
    wanted.text_dim = e->text.dim;
    wanted.situations = e->text.space ? &e->text.situations : NULL;
    wanted.reranker.fixed = e->training.best;
    wanted.progress = e->settings->progress;
    TRY(taste_learn(cpu_kernels(e->backend), cpu_threads(e->backend), &e->plan.learned, &wanted,
                    &e->taste, error));
    if (!e->training.best)
        e->training = e->taste->curve;
    else
        e->training.seconds += e->taste->curve.seconds;
    return AKIN_OK;
}

static enum akin_status learn_graph(struct evaluating *e, const struct catalog *catalog,
                                    struct akin_error *error)
{
    if (!e->settings->graph)
        return AKIN_OK;
    if (!e->text.space)
        return error_set(error, AKIN_ARGUMENT,
                         "the graph is made of texts, and there is no catalogue with vectors");
    struct graph_model_lesson lesson = { .backend = e->backend, .catalog = catalog,
                                         .histories = &e->plan.learned, .text = &e->text,
                                         .seed = e->settings->seed, .card = e->card,
                                         .progress = e->settings->progress };
    return graph_model_learn(&lesson, &e->graph, error);
}

static enum akin_status judge_cold(const struct evaluating *e, const struct catalog *catalog,
                                   struct akin_cold *cold, struct akin_error *error)
{
    if (!e->settings->graph)
        return AKIN_OK;
    struct cold_lesson lesson = { .backend = e->backend, .catalog = catalog,
                                  .histories = &e->plan.learned, .text = &e->text,
                                  .seed = e->settings->seed, .card = e->card,
                                  .progress = e->settings->progress };
    return cold_evaluate(&lesson, cold, error);
}

/* ---- all of it --------------------------------------------------------------------------- */

static enum akin_status judge_table(struct evaluating *e, struct akin_evaluation *evaluation,
                                    struct akin_error *error)
{
    const struct graph_model *graph = e->settings->graph ? &e->graph : NULL;
    struct judge judge = { .kernels = cpu_kernels(e->backend), .pool = cpu_threads(e->backend),
                           .plan = &e->plan, .text = &e->text, .taste = e->taste,
                           .graph = graph, .table = e->table, .row_count = e->row_count,
                           .seed = e->settings->seed,
                           .progress = e->settings->progress };
    TRY(judge_points(&judge, &e->judged, error));
    TRY(fill_table(e, evaluation, error));
    return e->settings->recs ? write_recs(e, error) : AKIN_OK;
}

static enum akin_status run(struct evaluating *e, const struct catalog *catalog,
                            struct akin_evaluation *evaluation, struct akin_error *error)
{
    TRY(plan_create(e->split, e->settings, &e->plan, error));
    TRY(split_text_create(e->backend, catalog, e->split, &e->text, error));
    uint64_t began = clock_monotonic_ns();
    choose_rows(e);
    TRY(learn_weights(e, &evaluation->weights, error));
    TRY(learn_taste(e, error));
    TRY(learn_graph(e, catalog, error));
    uint64_t learned = clock_monotonic_ns();
    TRY(judge_table(e, evaluation, error));
    TRY(judge_cold(e, catalog, &evaluation->cold, error));
    evaluation->learn_seconds = (double)(learned - began) * 1e-9;
    evaluation->judge_seconds = seconds_since(learned);
    evaluation->users = e->split->user_count;
    evaluation->items = e->split->item_count;
    evaluation->learned_events = e->plan.learned.event_count;
    evaluation->learned_users = e->plan.learned_users;
    evaluation->learned_items = e->taste->size;
    evaluation->judged = e->plan.judged;
    evaluation->later = e->plan.context == BLEND_RETURN;
    evaluation->text = e->text.space != NULL;
    evaluation->reranker = e->training;
    return AKIN_OK;
}

enum akin_status evaluate(const struct backend *backend, const struct catalog *catalog,
                          const struct graph_card *card,
                          const struct akin_evaluate_settings *settings,
                          struct akin_evaluation *evaluation, struct akin_error *error)
{
    struct split split;
    struct akin_evaluation made = { 0 };
    if (!settings->split)
        return error_set(error, AKIN_ARGUMENT, "no split file was given");
    if (settings->context && !(settings->replay && settings->reranker && catalog))
        return error_set(error, AKIN_ARGUMENT, "situations are told in a replay, to the reranker, "
                         "by the genres of a catalogue: one of these is missing");
    TRY(split_read(settings->split, &split, error));
    struct evaluating e = { .backend = backend, .settings = settings, .split = &split };
    if (card)
        e.card = *card;
    enum akin_status status = run(&e, catalog, &made, error);
    if (status == AKIN_OK)
        *evaluation = made;
    judged_deinit(&e.judged);
    taste_destroy(&e.taste);
    graph_model_deinit(&e.graph);
    split_text_deinit(&e.text);
    plan_deinit(&e.plan);
    split_deinit(&split);
    return status;
}
