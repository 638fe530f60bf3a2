/* See cold.h. */
#include "recommend/cold.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"
#include "recommend/graph_model.h"
#include "recommend/metrics.h"

enum { HELD_OUT = 5 };                          /* one of so many items */
enum { FEW = 3 };                               /* choices that a new person has */
enum way { WAY_TEXT, WAY_MEAN, WAY_GRAPH, WAYS };
/* Ways of everybody; two of new people; what the graph gains over text, the mean, and text of new
 * people. */
enum { FEW_TEXT = WAYS, FEW_GRAPH, OVER_TEXT, OVER_MEAN, FEW_OVER_TEXT, ALL_COLUMNS };

struct testing {
    const struct cold_lesson *lesson;
    const struct kernels *kernels;
    bool *taken;                /* [items] */
    uint32_t *cold;             /* [cold_count] */
    size_t cold_count, people;
    struct histories rest;
    struct graph_model graph;
    struct graph_person graph_person;
    const float **rows;         /* [cold_count] texts */
    float *person, *user;       /* [2][dim], [dim] */
    float *scores;              /* [cold_count] */
    double *values;             /* [people][ALL_COLUMNS] */
};

/* ---- what is taken out ------------------------------------------------------------------ */

static enum akin_status choose_cold(struct testing *t, struct akin_error *error)
{
    const struct histories *h = t->lesson->histories;
    size_t *chosen = memory_alloc(h->item_count, sizeof *chosen), known = 0;
    struct rng rng;
    t->taken = memory_alloc(h->item_count, sizeof *t->taken);
    t->cold = memory_alloc(h->item_count, sizeof *t->cold);
    if (!chosen || !t->taken || !t->cold) {
        memory_free(chosen);
        return error_memory(error);
    }
    for (size_t e = 0; e < h->event_count; e++)
        chosen[h->items[e]]++;
    for (size_t i = 0; i < h->item_count; i++)
        if (chosen[i] >= COLD_LEAST)
            t->cold[known++] = (uint32_t)i;
    memory_free(chosen);
    rng_seed(&rng, t->lesson->seed);
    rng_shuffle(&rng, t->cold, known);
    t->cold_count = known / HELD_OUT;
    for (size_t c = 0; c < t->cold_count; c++)
        t->taken[t->cold[c]] = true;
    return AKIN_OK;
}

static enum akin_status take_out(struct testing *t, struct akin_error *error)
{
    const struct histories *h = t->lesson->histories;
    struct history_event *events = memory_alloc(h->event_count, sizeof *events);
    size_t kept = 0;
    if (!events)
        return error_memory(error);
    for (size_t u = 0; u < h->user_count; u++) {
        size_t count;
        const uint32_t *items = histories_of(h, u, &count);
        for (size_t e = 0; e < count; e++)
            if (!t->taken[items[e]])
                events[kept++] = (struct history_event){ (uint32_t)u, items[e], (int64_t)e };
    }
    enum akin_status status =
        histories_create(events, kept, h->user_count, h->item_count, &t->rest, error);
    memory_free(events);
    return status;
}

/* ---- who is asked ----------------------------------------------------------------------- */

/* The share of `items` that were taken out among the first COLD_K by scores, ties by place. */
static double recall(const struct testing *t, const uint32_t *items, size_t count)
{
    size_t wanted = 0, found = 0;
    for (size_t e = 0; e < count; e++) {
        if (!t->taken[items[e]])
            continue;
        size_t place = 0, before = 0;
        while (t->cold[place] != items[e])
            place++;
        for (size_t c = 0; c < t->cold_count; c++)
            before += t->scores[c] > t->scores[place] ||
                      (t->scores[c] == t->scores[place] && c < place);
        wanted++;
        found += before < COLD_K;
    }
    return wanted ? (double)found / (double)wanted : NAN;
}

static void score_text(const struct testing *t, float *scores)
{
    const float *only = t->user;
    size_t dim = t->lesson->text->dim;
    float squares;
    t->kernels->score_dot_f32(&squares, t->user, 1, &only, 1, dim);
    if (squares > 0)
        t->kernels->scale_f32(t->user, 1 / sqrtf(squares), dim);
    t->kernels->score_dot_f32(scores, t->user, 1, t->rows, t->cold_count, dim);
}

static void score_graph(struct testing *t, const uint32_t *rest, size_t count)
{
    const struct split_text *text = t->lesson->text;
    struct graph_person *p = &t->graph_person;
    graph_person_begin(&t->graph, p);
    for (size_t e = 0; e < count; e++)
        graph_person_take(&t->graph, t->kernels, p, rest[e], text->rows[rest[e]]);
    graph_person_end(&t->graph, t->kernels, p);
    for (size_t c = 0; c < t->cold_count; c++)
        t->scores[c] = graph_model_score(&t->graph, t->kernels, p, t->cold[c], t->rows[c]);
}

static void score_by(struct testing *t, enum way way, const uint32_t *rest, size_t count)
{
    const struct split_text *text = t->lesson->text;
    size_t dim = text->dim;
    if (way == WAY_GRAPH) {
        score_graph(t, rest, count);
        return;
    }
    if (way == WAY_TEXT) {
        split_text_read(text, t->kernels, rest, count, t->person);
        memcpy(t->user, t->person + dim, dim * sizeof *t->user);
    } else {
        memset(t->user, 0, dim * sizeof *t->user);
        for (size_t e = 0; e < count; e++)
            t->kernels->add_f32(t->user, text->rows[rest[e]], dim);
    }
    score_text(t, t->scores);
}

static void ask_everybody(struct testing *t)
{
    const struct histories *h = t->lesson->histories;
    for (size_t u = 0; u < h->user_count; u++) {
        size_t count, left;
        const uint32_t *items = histories_of(h, u, &count);
        const uint32_t *rest = histories_of(&t->rest, u, &left);
        if (left < COLD_LEAST || left == count)
            continue;
        double *values = t->values + t->people++ * ALL_COLUMNS;
        for (int way = 0; way < WAYS; way++) {
            score_by(t, (enum way)way, rest, left);
            values[way] = recall(t, items, count);
        }
        score_by(t, WAY_TEXT, rest + left - FEW, FEW);
        values[FEW_TEXT] = recall(t, items, count);
        score_by(t, WAY_GRAPH, rest + left - FEW, FEW);
        values[FEW_GRAPH] = recall(t, items, count);
        values[OVER_TEXT] = values[WAY_GRAPH] - values[WAY_TEXT];
        values[OVER_MEAN] = values[WAY_GRAPH] - values[WAY_MEAN];
        values[FEW_OVER_TEXT] = values[FEW_GRAPH] - values[FEW_TEXT];
    }
}

/* ---- all of it -------------------------------------------------------------------------- */

static enum akin_status make_room(struct testing *t, struct akin_error *error)
{
    size_t dim = t->lesson->text->dim;
    t->rows = memory_alloc(t->cold_count, sizeof *t->rows);
    t->person = memory_alloc(2 * dim, sizeof *t->person);
    t->user = memory_alloc(dim, sizeof *t->user);
    t->scores = memory_alloc(t->cold_count, sizeof *t->scores);
    t->values = memory_alloc(t->lesson->histories->user_count,
                             ALL_COLUMNS * sizeof *t->values);
    return t->rows && t->person && t->user && t->scores && t->values ? AKIN_OK
                                                                     : error_memory(error);
}

static enum akin_status learn(struct testing *t, struct akin_error *error)
{
    const struct cold_lesson *l = t->lesson;
    struct graph_model_lesson lesson = { .backend = l->backend, .catalog = l->catalog,
                                         .histories = &t->rest, .text = l->text, .seed = l->seed,
                                         .card = l->card, .progress = l->progress };
    TRY(graph_model_learn(&lesson, &t->graph, error));
    for (size_t c = 0; c < t->cold_count; c++)
        t->rows[c] = l->text->rows[t->cold[c]];
    return graph_person_init(&t->graph, &t->graph_person) ? AKIN_OK : error_memory(error);
}

static struct akin_estimate estimate(struct interval i)
{
    return (struct akin_estimate){ i.mean, i.low, i.high };
}

static enum akin_status test(struct testing *t, struct akin_cold *cold, struct akin_error *error)
{
    struct interval intervals[ALL_COLUMNS];
    TRY(choose_cold(t, error));
    TRY(take_out(t, error));
    TRY(make_room(t, error));
    TRY(learn(t, error));
    ask_everybody(t);
    if (!t->people)
        return error_set(error, AKIN_ARGUMENT,
                         "nobody chose %d items and one of those that were held back", COLD_LEAST);
    TRY(metrics_intervals(t->values, t->people, ALL_COLUMNS, t->lesson->seed, intervals, error));
    *cold = (struct akin_cold){
        .items = t->cold_count, .people = t->people, .text = estimate(intervals[WAY_TEXT]),
        .mean_text = estimate(intervals[WAY_MEAN]), .graph = estimate(intervals[WAY_GRAPH]),
        .over_text = estimate(intervals[OVER_TEXT]),
        .over_mean_text = estimate(intervals[OVER_MEAN]),
        .few_text = estimate(intervals[FEW_TEXT]), .few_graph = estimate(intervals[FEW_GRAPH]),
        .few_over_text = estimate(intervals[FEW_OVER_TEXT])
    };
    return AKIN_OK;
}

enum akin_status cold_evaluate(const struct cold_lesson *lesson, struct akin_cold *cold,
                               struct akin_error *error)
{
    struct testing t = { .lesson = lesson, .kernels = cpu_kernels(lesson->backend) };
    uint64_t began = clock_monotonic_ns();
    enum akin_status status = test(&t, cold, error);
    if (status == AKIN_OK)
        cold->seconds = seconds_since(began);
    void *blocks[] = { t.taken, t.cold, t.rows, t.person, t.user, t.scores, t.values };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        memory_free(blocks[i]);
    histories_deinit(&t.rest);
    graph_person_deinit(&t.graph_person);
    graph_model_deinit(&t.graph);
    return status;
}
