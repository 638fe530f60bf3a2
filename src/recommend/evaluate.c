/* Learns, ranks for every point and every row of the table, adds up. Points are shared among the
 * threads; each has its own place for what comes out. */
#include "recommend/evaluate.h"

#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/thread.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"

enum { POINTS_AT_ONCE = 64 };   /* between two reports of progress */
enum { DIFFERENCE = METRIC_COUNT, COLUMNS };    /* of a row of the table for a point */

struct judge {
    const struct kernels *kernels;
    const struct split *split;
    const struct evaluation_plan *plan;
    const struct split_text *text;
    const struct taste *taste;
    const struct blend *table[AKIN_EVALUATION_ROWS_MAX];
    size_t row_count, first_point;
    unsigned parts;
    struct judge_scratch *scratch;      /* [threads] */
    uint32_t *lists;            /* [points][rows][METRICS_K] */
    uint8_t *list_counts;       /* [points][rows] */
    double *values;             /* [judged][rows][COLUMNS] */
    size_t *places;             /* [points] among the judged */
};

struct judge_scratch {
    struct taste_features features;
    float *scores, *texts;      /* [items] */
    float *person, *vector;     /* [2][dim], [dim] */
    bool *seen;                 /* [items] */
};

void evaluate_settings_default(struct akin_evaluate_settings *settings)
{
    *settings = (struct akin_evaluate_settings){ .replay_points = 25, .seed = 1 };
}

/* ---- one point --------------------------------------------------------------------------- */

/* The greatest scores of unseen items, ties by number; a NaN is never among them. */
static size_t best_items(const float *scores, const bool *seen, size_t items, uint32_t *list)
{
    float best[METRICS_K];
    size_t count = 0;
    for (size_t i = 0; i < items; i++) {
        if (seen[i] || !(scores[i] == scores[i]) ||
            (count == METRICS_K && !(scores[i] > best[METRICS_K - 1])))
            continue;
        size_t at = count < METRICS_K ? count++ : METRICS_K - 1;
        for (; at > 0 && best[at - 1] < scores[i]; at--) {
            best[at] = best[at - 1];
            list[at] = list[at - 1];
        }
        best[at] = scores[i];
        list[at] = (uint32_t)i;
    }
    return count;
}

static void score_row(const struct judge *j, const struct judged_point *point,
                      const struct blend *row, struct judge_scratch *s)
{
    taste_blend(j->taste, j->kernels, &s->features, row->weights, s->scores);
    if (row->text == BLEND_TEXT_NONE)
        return;
    split_text_say(j->text, j->kernels, row->text, point->history[point->count - 1], s->person,
                   s->vector, s->texts);
    j->kernels->add_scaled_f32(s->scores, s->texts, row->text_weight, j->split->item_count);
}

static void judge_point(void *context, size_t number, int worker)
{
    const struct judge *j = context;
    size_t at = j->first_point + number, items = j->split->item_count;
    const struct judged_point *point = &j->plan->points[at];
    struct judge_scratch *s = &j->scratch[worker];
    for (size_t e = 0; e < point->count; e++)
        s->seen[point->history[e]] = true;
    taste_say(j->taste, j->kernels, point->history, point->count, j->parts, &s->features);
    if (j->text->space)
        split_text_read(j->text, j->kernels, point->history, point->count, s->person);
    for (size_t r = 0; r < j->row_count; r++) {
        uint32_t *list = j->lists + (at * j->row_count + r) * METRICS_K;
        score_row(j, point, j->table[r], s);
        size_t count = best_items(s->scores, s->seen, items, list);
        j->list_counts[at * j->row_count + r] = (uint8_t)count;
        if (point->positive_count)
            metrics_of_list(list, count, j->plan->positives + point->first_positive,
                            point->positive_count,
                            j->values + (j->places[at] * j->row_count + r) * COLUMNS);
    }
    for (size_t e = 0; e < point->count; e++)
        s->seen[point->history[e]] = false;
}

static enum akin_status judge_all(struct judge *j, struct thread_pool *pool,
                                  const struct akin_progress *progress, struct akin_error *error)
{
    for (size_t at = 0, judged = 0; at < j->plan->point_count; at++) {
        j->places[at] = judged;
        judged += j->plan->points[at].positive_count > 0;
    }
    for (j->first_point = 0; j->first_point < j->plan->point_count;
         j->first_point += POINTS_AT_ONCE) {
        size_t rest = j->plan->point_count - j->first_point;
        thread_pool_each(pool, rest < POINTS_AT_ONCE ? rest : POINTS_AT_ONCE, judge_point, j);
        if (progress->update && !progress->update(progress->cookie, "ranking", j->first_point,
                                                  j->plan->point_count))
            return error_set(error, AKIN_CANCELLED, "interrupted");
    }
    return AKIN_OK;
}

/* ---- the table --------------------------------------------------------------------------- */

static struct akin_estimate estimate(struct interval i)
{
    return (struct akin_estimate){ i.mean, i.low, i.high };
}

static enum akin_status fill_row(const struct judge *j, size_t r, const struct interval *intervals,
                                 uint32_t *listed, struct akin_evaluation_row *row,
                                 struct akin_error *error)
{
    const struct interval *own = intervals + r * COLUMNS;
    size_t total = 0;
    *row = (struct akin_evaluation_row){
        .name = j->table[r]->name, .formula = j->table[r]->formula,
        .ndcg = estimate(own[METRIC_NDCG]), .recall = estimate(own[METRIC_RECALL]),
        .hit_rate = estimate(own[METRIC_HIT]), .mrr = estimate(own[METRIC_MRR]),
        .difference = estimate(own[DIFFERENCE])
    };
    for (size_t at = 0; at < j->plan->point_count; at++) {
        if (!j->plan->points[at].positive_count)
            continue;
        size_t list = at * j->row_count + r;
        memcpy(listed + total, j->lists + list * METRICS_K,
               j->list_counts[list] * sizeof *listed);
        total += j->list_counts[list];
    }
    return metrics_of_catalogue(listed, total, j->taste->chosen, j->split->item_count,
                                j->plan->learned_users, &row->coverage, &row->novelty, error);
}

static enum akin_status fill_table(const struct judge *j, uint64_t seed,
                                   struct akin_evaluation *evaluation, struct akin_error *error)
{
    struct interval intervals[AKIN_EVALUATION_ROWS_MAX * COLUMNS];
    size_t columns = j->row_count * COLUMNS;
    uint32_t *listed = memory_alloc(j->plan->point_count * METRICS_K, sizeof *listed);
    if (!listed)
        return error_memory(error);
    for (size_t i = 0; i < j->plan->judged; i++)
        for (size_t r = 0; r < j->row_count; r++) {
            double *point = j->values + i * columns, *own = point + r * COLUMNS;
            own[DIFFERENCE] = own[METRIC_NDCG] - point[METRIC_NDCG];
        }
    enum akin_status status =
        metrics_intervals(j->values, j->plan->judged, columns, seed, intervals, error);
    for (size_t r = 0; status == AKIN_OK && r < j->row_count; r++)
        status = fill_row(j, r, intervals, listed, &evaluation->rows[r], error);
    evaluation->row_count = j->row_count;
    memory_free(listed);
    return status;
}

/* The lists of the last row, which is the blend that is shipped. */
static enum akin_status write_recs(const struct judge *j, const char *path,
                                   struct akin_error *error)
{
    struct bytes out = { 0 };
    for (size_t at = 0; at < j->plan->point_count; at++) {
        const char *user = j->split->users[j->plan->points[at].user];
        size_t list = at * j->row_count + j->row_count - 1;
        bytes_append_text(&out, "{\"user\": ");
        json_append_string(&out, user, strlen(user));
        bytes_append_text(&out, ", \"items\": [");
        for (size_t i = 0; i < j->list_counts[list]; i++) {
            const char *item = j->split->items[j->lists[list * METRICS_K + i]];
            bytes_append_text(&out, i ? ", " : "");
            json_append_string(&out, item, strlen(item));
        }
        bytes_append_text(&out, "]}\n");
    }
    enum akin_status status =
        out.failed ? error_memory(error) : file_write(path, out.data, out.count, error);
    bytes_deinit(&out);
    return status;
}

/* ---- all of it --------------------------------------------------------------------------- */

static void choose_rows(struct judge *j)
{
    size_t count;
    const struct blend *table = blend_table(j->plan->context, &count);
    ASSERT(count <= AKIN_EVALUATION_ROWS_MAX);
    for (size_t r = 0; r < count; r++) {
        if (table[r].text != BLEND_TEXT_NONE && !j->text->space)
            continue;
        j->table[j->row_count++] = &table[r];
        for (int p = 0; p < TASTE_PARTS; p++)
            j->parts |= table[r].weights[p] != 0 ? TASTE_BIT(p) : 0;
    }
}

static bool judge_init(struct judge *j, size_t threads)
{
    size_t items = j->split->item_count, lists = j->plan->point_count * j->row_count;
    j->lists = memory_alloc(lists, METRICS_K * sizeof *j->lists);
    j->list_counts = memory_alloc(lists, sizeof *j->list_counts);
    j->values = memory_alloc(j->plan->judged * j->row_count, COLUMNS * sizeof *j->values);
    j->places = memory_alloc(j->plan->point_count, sizeof *j->places);
    j->scratch = memory_alloc(threads, sizeof *j->scratch);
    bool done = j->lists && j->list_counts && j->values && j->places && j->scratch;
    for (size_t t = 0; done && t < threads; t++) {
        struct judge_scratch *s = &j->scratch[t];
        s->scores = memory_alloc(items, sizeof *s->scores);
        s->texts = memory_alloc(items, sizeof *s->texts);
        s->person = memory_alloc(j->text->dim, 2 * sizeof *s->person);
        s->vector = memory_alloc(j->text->dim, sizeof *s->vector);
        s->seen = memory_alloc(items, sizeof *s->seen);
        done = s->scores && s->texts && s->person && s->vector && s->seen &&
               taste_features_init(j->taste, &s->features, NULL) == AKIN_OK;
    }
    return done;
}

static void judge_deinit(struct judge *j, size_t threads)
{
    for (size_t t = 0; j->scratch && t < threads; t++) {
        memory_free(j->scratch[t].scores);
        memory_free(j->scratch[t].texts);
        memory_free(j->scratch[t].person);
        memory_free(j->scratch[t].vector);
        memory_free(j->scratch[t].seen);
        taste_features_deinit(&j->scratch[t].features);
    }
    memory_free(j->scratch);
    memory_free(j->lists);
    memory_free(j->list_counts);
    memory_free(j->values);
    memory_free(j->places);
}

static enum akin_status judge_run(struct judge *j, struct thread_pool *pool,
                                  const struct akin_evaluate_settings *settings,
                                  struct akin_evaluation *evaluation, struct akin_error *error)
{
    size_t threads = (size_t)thread_pool_size(pool);
    uint64_t began = clock_monotonic_ns();
    enum akin_status status = judge_init(j, threads)
                                  ? judge_all(j, pool, &settings->progress, error)
                                  : error_memory(error);
    if (status == AKIN_OK)
        status = fill_table(j, settings->seed, evaluation, error);
    if (status == AKIN_OK && settings->recs)
        status = write_recs(j, settings->recs, error);
    judge_deinit(j, threads);
    evaluation->judge_seconds = (double)(clock_monotonic_ns() - began) * 1e-9;
    return status;
}

static enum akin_status learn_and_judge(struct judge *j, struct thread_pool *pool,
                                        const struct akin_evaluate_settings *settings,
                                        struct akin_evaluation *evaluation,
                                        struct akin_error *error)
{
    struct taste_settings wanted;
    struct taste *taste = NULL;
    choose_rows(j);
    taste_settings_default(&wanted);
    wanted.parts = j->parts;
    wanted.sequence.seed = settings->seed;
    wanted.progress = settings->progress;
    uint64_t began = clock_monotonic_ns();
    TRY(taste_learn(j->kernels, pool, &j->plan->learned, &wanted, &taste, error));
    evaluation->learn_seconds = (double)(clock_monotonic_ns() - began) * 1e-9;
    evaluation->learned_items = taste->size;
    j->taste = taste;
    enum akin_status status = judge_run(j, pool, settings, evaluation, error);
    taste_destroy(&taste);
    return status;
}

enum akin_status evaluate(const struct backend *backend, const struct catalog *catalog,
                          const struct akin_evaluate_settings *settings,
                          struct akin_evaluation *evaluation, struct akin_error *error)
{
    struct split split;
    struct evaluation_plan plan = { 0 };
    struct split_text text = { 0 };
    struct akin_evaluation made = { 0 };
    if (!settings->split)
        return error_set(error, AKIN_ARGUMENT, "no split file was given");
    TRY(split_read(settings->split, &split, error));
    enum akin_status status = plan_create(&split, settings, &plan, error);
    if (status == AKIN_OK)
        status = split_text_create(backend, catalog, &split, &text, error);
    struct judge judge = { .kernels = cpu_kernels(backend), .split = &split, .plan = &plan,
                           .text = &text };
    if (status == AKIN_OK)
        status = learn_and_judge(&judge, cpu_threads(backend), settings, &made, error);
    if (status == AKIN_OK) {
        made.users = split.user_count;
        made.items = split.item_count;
        made.learned_events = plan.learned.event_count;
        made.learned_users = plan.learned_users;
        made.judged = plan.judged;
        made.later = plan.context == BLEND_RETURN;
        made.text = text.space != NULL;
        *evaluation = made;
    }
    split_text_deinit(&text);
    plan_deinit(&plan);
    split_deinit(&split);
    return status;
}
