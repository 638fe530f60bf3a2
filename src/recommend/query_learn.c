/* See query_learn.h. */
#include "recommend/query_learn.h"

#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "catalog/catalog.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"
#include "recommend/blend_learn.h"
#include "recommend/recommend.h"
#include "recommend/request.h"
#include "recommend/speaker.h"

enum { KINDS = 2, STEPS = 11, DEFAULT_STEP = 7, HISTORY_MAX = 200 };

_Static_assert(BLEND_QUERY_TENTHS * (STEPS - 1) == 10 * DEFAULT_STEP, "a step of the grid");

struct asking {
    const struct query_lesson *lesson;
    const struct evaluation_plan *plan;
    struct recommender *recommender;
    struct speaker *speaker;
    size_t dimension, points;
    uint32_t *chosen;               /* [points] of the plan's points */
    char (*words)[QUERY_BYTES];     /* [points][KINDS] */
    float *vectors;                 /* [points][KINDS][dimension] */
    double *gains;                  /* [points][KINDS][STEPS] */
};

/* ---- words ------------------------------------------------------------------------------ */

/* The title without a year behind it. */
static void say_title(const struct akin_item *item, char *words)
{
    size_t bytes = strlen(item->title);
    if (bytes > 7 && item->title[bytes - 1] == ')' && item->title[bytes - 6] == '(')
        bytes -= 7;
    snprintf(words, QUERY_BYTES, "%.*s", (int)(bytes < QUERY_BYTES ? bytes : QUERY_BYTES - 1),
             item->title);
}

/* A theme of the item, or its genres; its title where it has neither. */
static void say_subject(const struct akin_item *item, struct rng *rng, char *words)
{
    size_t at = 0;
    *words = 0;
    if (item->theme_count) {
        snprintf(words, QUERY_BYTES, "%s", item->themes[rng_below(rng, item->theme_count)]);
        return;
    }
    for (size_t g = 0; g < item->genre_count && at < QUERY_BYTES; g++)
        at += (size_t)snprintf(words + at, QUERY_BYTES - at, "%s%s", g ? " " : "",
                               item->genres[g]);
    if (!*words)
        say_title(item, words);
}

static enum akin_status make_queries(struct asking *a, struct akin_error *error)
{
    struct akin_text *texts = memory_alloc(a->points * KINDS, sizeof *texts);
    struct rng rng;
    if (!texts)
        return error_memory(error);
    rng_seed(&rng, a->lesson->seed);
    for (size_t i = 0; i < a->points; i++) {
        const struct judged_point *point = &a->plan->points[a->chosen[i]];
        struct akin_item item;
        catalog_item(a->lesson->catalog, a->plan->positives[point->first_positive], &item);
        say_title(&item, a->words[i * KINDS]);
        say_subject(&item, &rng, a->words[i * KINDS + 1]);
    }
    for (size_t i = 0; i < a->points * KINDS; i++)
        texts[i] = (struct akin_text){ a->words[i], strlen(a->words[i]) };
    enum akin_status status = a->lesson->encode(a->lesson->context, texts, a->points * KINDS,
                                                a->vectors, error);
    memory_free(texts);
    return status;
}

/* ---- requests --------------------------------------------------------------------------- */

static enum akin_status ask_one(const struct asking *a, size_t i, size_t kind,
                                struct akin_error *error)
{
    const struct judged_point *point = &a->plan->points[a->chosen[i]];
    const char *history[HISTORY_MAX];
    size_t count = point->count < HISTORY_MAX ? point->count : HISTORY_MAX, found;
    struct akin_recommendation results[METRICS_K];
    struct akin_request request;
    recommend_request_default(&request);
    for (size_t h = 0; h < count; h++) {
        struct akin_item item;
        catalog_item(a->lesson->catalog, point->history[point->count - count + h], &item);
        history[h] = item.id;
    }
    request.history = history;
    request.history_count = count;
    request.ranking = AKIN_RANK_PARTS;
    request.query = a->words[i * KINDS + kind];
    for (size_t step = 0; step < STEPS; step++) {
        uint32_t rows[METRICS_K];
        double metrics[METRIC_COUNT];
        request.query_weight = (float)step / (STEPS - 1);
        TRY(recommend(a->recommender, &request, a->vectors + (i * KINDS + kind) * a->dimension,
                      results, NULL, &found, NULL, error));
        for (size_t r = 0; r < found; r++)
            rows[r] = (uint32_t)results[r].row;
        metrics_of_list(rows, found, a->plan->positives + point->first_positive,
                        point->positive_count, metrics);
        a->gains[(i * KINDS + kind) * STEPS + step] = metrics[METRIC_NDCG];
    }
    return AKIN_OK;
}

/* ---- the choice ------------------------------------------------------------------------- */

static enum akin_status choose(const struct asking *a, float *weight,
                               struct akin_weights_found *found, struct akin_error *error)
{
    enum { BEFORE, AFTER, GAIN, COLUMNS };
    size_t count = a->points * KINDS, best = DEFAULT_STEP;
    double sums[STEPS] = { 0 };
    struct interval intervals[COLUMNS];
    double *values = memory_alloc(count, COLUMNS * sizeof *values);
    if (!values)
        return error_memory(error);
    for (size_t i = 0; i < count * STEPS; i++)
        sums[i % STEPS] += a->gains[i];
    for (size_t step = 0; step < STEPS; step++)
        best = sums[step] > sums[best] ? step : best;
    for (size_t i = 0; i < count; i++) {
        values[i * COLUMNS + BEFORE] = a->gains[i * STEPS + DEFAULT_STEP];
        values[i * COLUMNS + AFTER] = a->gains[i * STEPS + best];
        values[i * COLUMNS + GAIN] = values[i * COLUMNS + AFTER] - values[i * COLUMNS + BEFORE];
    }
    enum akin_status status =
        metrics_intervals(values, count, COLUMNS, a->lesson->seed, intervals, error);
    memory_free(values);
    if (status != AKIN_OK)
        return status;
    *found = (struct akin_weights_found){
        .points = count, .ndcg_default = intervals[BEFORE].mean,
        .ndcg_best = intervals[AFTER].mean,
        .gain = { intervals[GAIN].mean, intervals[GAIN].low, intervals[GAIN].high },
        .learned = best != DEFAULT_STEP && blend_beyond_doubt(&intervals[GAIN], count),
    };
    if (found->learned)
        *weight = (*weight + (float)best / (STEPS - 1)) / 2;
    return AKIN_OK;
}

static enum akin_status learn(struct asking *a, float *weight, struct akin_weights_found *found,
                              struct akin_error *error)
{
    a->chosen = memory_alloc(QUERY_POINTS_MAX, sizeof *a->chosen);
    a->words = memory_alloc(QUERY_POINTS_MAX, KINDS * sizeof *a->words);
    a->vectors = memory_alloc_aligned(QUERY_POINTS_MAX * a->dimension,
                                      KINDS * sizeof *a->vectors);
    a->gains = memory_alloc(QUERY_POINTS_MAX, KINDS * STEPS * sizeof *a->gains);
    if (!a->chosen || !a->words || !a->vectors || !a->gains)
        return error_memory(error);
    size_t count = a->plan->point_count;    /* all of them can be judged */
    size_t wanted = count < QUERY_POINTS_MAX ? count : QUERY_POINTS_MAX;
    for (size_t at = 0; at < count; at++)
        if (at * wanted / count == a->points)
            a->chosen[a->points++] = (uint32_t)at;
    if (!a->points)
        return AKIN_OK;
    TRY(make_queries(a, error));
    recommender_use_inputs(a->recommender, &(struct recommend_inputs){
        .fitted = true, .speaker = a->speaker, .query_weight = BLEND_QUERY });
    for (size_t i = 0; i < a->points; i++)
        for (size_t kind = 0; kind < KINDS; kind++)
            TRY(ask_one(a, i, kind, error));
    return choose(a, weight, found, error);
}

enum akin_status query_learn(const struct query_lesson *lesson, const struct evaluation_plan *plan,
                             const struct taste *taste, float *weight,
                             struct akin_weights_found *found, struct akin_error *error)
{
    struct akin_catalog_info info;
    struct asking a = { .lesson = lesson, .plan = plan };
    catalog_info(lesson->catalog, &info);
    a.dimension = info.dimension;
    *weight = BLEND_QUERY;
    *found = (struct akin_weights_found){ 0 };
    enum akin_status status =
        recommender_open(lesson->backend, lesson->catalog, &a.recommender, error);
    if (status == AKIN_OK)
        status = speaker_create(taste, cpu_kernels(lesson->backend), &a.speaker, error);
    if (status == AKIN_OK)
        status = learn(&a, weight, found, error);
    snprintf(found->formula, sizeof found->formula, "%.2g", (double)*weight);
    recommender_close(&a.recommender);
    speaker_destroy(&a.speaker);
    memory_free(a.chosen);
    memory_free(a.words);
    memory_free(a.vectors);
    memory_free(a.gains);
    return status;
}
