/* See blend_learn.h. */
#include "recommend/blend_learn.h"

#include <stdlib.h>

#include "base/thread.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"
#include "recommend/judge.h"

enum { ROWS_MAX = 128, TENTHS = 10, FIRST_CUT = 5, AXES_MAX = 4, STEPS_MAX = 5 };

/* What is varied: a part, or TASTE_PARTS for the text. The default is among the steps. */
struct axis {
    int part;
    size_t steps;
    float values[STEPS_MAX];
};

static const struct axis next_axes[] = {
    { TASTE_PARTS, 4, { 0, 1, 2, 4 } },
    { TASTE_POPULARITY, 3, { 0.35f, 0.65f, 1 } },
    { TASTE_SEQUENCE, 3, { 0.25f, 0.5f, 1 } },
    { TASTE_ATTENTION, 3, { 0, 0.25f, 0.5f } },     /* the last: only where one is trained */
};
static const struct axis return_axes[] = {
    { TASTE_PARTS, 3, { 0, 1, 2 } },
    { TASTE_YOUNG, 5, { 0, 0.1f, 0.2f, 0.4f, 0.6f } },
    { TASTE_BACK, 3, { 0.4f, 0.8f, 1.2f } },
};

struct grid {
    struct blend blends[ROWS_MAX];
    const struct blend *rows[ROWS_MAX];     /* the default first */
    size_t count;
};

struct learning {
    const struct backend *backend;
    const struct blend_lesson *lesson;
    enum blend_context context;
    struct grid grid;
    uint32_t *order;            /* [events] by time */
    double *gains;              /* [points][rows] NDCG@10 */
    size_t points, capacity;
};

/* ---- the grid --------------------------------------------------------------------------- */

static float *weight_of(struct taste_weights *weights, int part)
{
    return part == TASTE_PARTS ? &weights->text : &weights->part[part];
}

static void make_grid(struct grid *grid, enum blend_context context, bool text, bool reranker)
{
    const struct axis *axes = context == BLEND_NEXT ? next_axes : return_axes;
    size_t axis_count = context == BLEND_NEXT ? sizeof next_axes / sizeof *next_axes
                                              : sizeof return_axes / sizeof *return_axes;
    struct blend start = { .text = text ? blend_text_of(context) : BLEND_TEXT_NONE,
                           .weights = *blend_default(context) };
    start.weights.text = text ? start.weights.text : 0;
    grid->blends[0] = start;
    grid->count = 1;
    for (size_t a = 0; a < axis_count; a++) {
        size_t known = grid->count;
        if ((axes[a].part == TASTE_PARTS && !text) ||
            (axes[a].part == TASTE_ATTENTION && !reranker))
            continue;
        for (size_t row = 0; row < known; row++)
            for (size_t s = 0; s < axes[a].steps; s++) {
                struct blend varied = grid->blends[row];
                float *weight = weight_of(&varied.weights, axes[a].part);
                if (*weight == axes[a].values[s])
                    continue;
                *weight = axes[a].values[s];
                ASSERT(grid->count < ROWS_MAX);
                grid->blends[grid->count++] = varied;
            }
    }
    for (size_t row = 0; row < grid->count; row++)
        grid->rows[row] = &grid->blends[row];
}

/* ---- events held back ------------------------------------------------------------------- */

struct timed {
    int64_t timestamp;
    uint32_t event;
};

static int by_time(const void *a, const void *b)
{
    const struct timed *x = a, *y = b;
    if (x->timestamp != y->timestamp)
        return x->timestamp < y->timestamp ? -1 : 1;
    return (x->event > y->event) - (x->event < y->event);
}

static enum akin_status order_events(struct learning *l, struct akin_error *error)
{
    size_t count = l->lesson->count;
    struct timed *timed = memory_alloc(count, sizeof *timed);
    l->order = memory_alloc(count, sizeof *l->order);
    if (!timed || !l->order) {
        memory_free(timed);
        return error_memory(error);
    }
    for (size_t e = 0; e < count; e++)
        timed[e] = (struct timed){ l->lesson->events[e].timestamp, (uint32_t)e };
    qsort(timed, count, sizeof *timed, by_time);
    for (size_t e = 0; e < count; e++)
        l->order[e] = timed[e].event;
    memory_free(timed);
    return AKIN_OK;
}

/* Everything but the last of each person teaches. */
static void hold_last(const struct blend_lesson *lesson, struct split_event *events, size_t *last)
{
    for (size_t e = 0; e < lesson->count; e++)
        last[lesson->events[e].user] = e;
    for (size_t e = 0; e < lesson->count; e++)
        events[e].part = last[lesson->events[e].user] == e ? SPLIT_TEST : SPLIT_TRAIN;
}

/* The first tenths teach, the one behind them is held back, later ones are left out: what remains
 * of `events` is packed, in the order given; returns how many. */
static size_t hold_tenth(const struct learning *l, struct split_event *events, size_t tenth)
{
    size_t count = l->lesson->count, kept = 0;
    size_t begin = count * tenth / TENTHS, end = count * (tenth + 1) / TENTHS;
    for (size_t e = 0; e < count; e++)
        events[l->order[e]].part = e < begin ? SPLIT_TRAIN : e < end ? SPLIT_TEST : SPLIT_PARTS;
    for (size_t e = 0; e < count; e++)
        if (events[e].part != SPLIT_PARTS)
            events[kept++] = events[e];
    return kept;
}

static enum akin_status hold_back(const struct learning *l, size_t tenth, struct split *split,
                                  struct akin_error *error)
{
    const struct blend_lesson *lesson = l->lesson;
    size_t *last = memory_alloc(lesson->users, sizeof *last);
    *split = (struct split){ .events = memory_alloc(lesson->count, sizeof *split->events),
                             .event_count = lesson->count, .user_count = lesson->users,
                             .item_count = lesson->items };
    bool done = last && split->events;
    for (size_t e = 0; done && e < lesson->count; e++)
        split->events[e] = (struct split_event){ .user = lesson->events[e].user,
                                                 .item = lesson->events[e].item,
                                                 .timestamp = lesson->events[e].timestamp };
    if (done && l->context == BLEND_NEXT)
        hold_last(lesson, split->events, last);
    else if (done)
        split->event_count = hold_tenth(l, split->events, tenth);
    memory_free(last);
    return done ? AKIN_OK : error_memory(error);
}

/* ---- one cut ---------------------------------------------------------------------------- */

/* Of the points that can be judged so many, evenly. */
static void thin_points(struct evaluation_plan *plan)
{
    size_t kept = 0, judged = 0;
    size_t wanted = plan->judged < BLEND_POINTS_MAX ? plan->judged : BLEND_POINTS_MAX;
    for (size_t at = 0; at < plan->point_count; at++)
        if (plan->points[at].positive_count && judged++ * wanted / plan->judged == kept)
            plan->points[kept++] = plan->points[at];
    plan->point_count = plan->judged = kept;
}

static enum akin_status keep_gains(struct learning *l, const struct evaluation_plan *plan,
                                   const struct judged *judged, struct akin_error *error)
{
    size_t rows = l->grid.count;
    if (!array_reserve((void **)&l->gains, &l->capacity, (l->points + plan->judged) * rows,
                       sizeof *l->gains))
        return error_memory(error);
    for (size_t i = 0; i < plan->judged * rows; i++)
        l->gains[l->points * rows + i] = judged->values[i * METRIC_COUNT + METRIC_NDCG];
    l->points += plan->judged;
    return AKIN_OK;
}

static enum akin_status judge_grid(struct learning *l, struct evaluation_plan *plan,
                                   struct akin_error *error)
{
    const struct blend_lesson *lesson = l->lesson;
    struct taste_settings settings;
    struct taste *taste;
    struct judged judged;
    taste_settings_default(&settings);
    settings.parts = judge_parts(l->grid.rows, l->grid.count);
    settings.items_max = lesson->items_max;
    settings.sequence.seed = settings.reranker.seed = lesson->seed;
    settings.progress = lesson->progress;
    settings.cpu_flags = cpu_flags(l->backend);
    settings.texts = lesson->text->space ? lesson->text->rows : NULL;
    settings.text_dim = lesson->text->dim;
    settings.situations = lesson->text->space ? &lesson->text->situations : NULL;
    TRY(taste_learn(cpu_kernels(l->backend), cpu_threads(l->backend), &plan->learned, &settings,
                    &taste, error));
    if (lesson->curve && settings.parts & TASTE_BIT(TASTE_ATTENTION))
        *lesson->curve = taste->curve;
    thin_points(plan);
    struct judge judge = { .kernels = cpu_kernels(l->backend), .pool = cpu_threads(l->backend),
                           .plan = plan, .text = lesson->text, .taste = taste,
                           .table = l->grid.rows, .row_count = l->grid.count,
                           .progress = lesson->progress };
    enum akin_status status = judge_points(&judge, &judged, error);
    if (status == AKIN_OK)
        status = keep_gains(l, plan, &judged, error);
    if (status == AKIN_OK && lesson->held && l->context == BLEND_NEXT)
        status = lesson->held(lesson->context, plan, taste, error);
    judged_deinit(&judged);
    taste_destroy(&taste);
    return status;
}

static enum akin_status judge_cut(struct learning *l, size_t tenth, struct akin_error *error)
{
    struct split split;
    struct evaluation_plan plan;
    struct akin_error why;
    struct akin_evaluate_settings settings = { .split = "validation", .seed = l->lesson->seed };
    enum akin_status status = hold_back(l, tenth, &split, error);
    if (status == AKIN_OK) {
        status = plan_create(&split, &settings, &plan, &why);
        split_deinit(&split);
        if (status == AKIN_ARGUMENT)    /* nobody came back in this tenth */
            return AKIN_OK;
        if (status != AKIN_OK)
            return error_set(error, status, "%s", why.message);
        status = judge_grid(l, &plan, error);
        plan_deinit(&plan);
    } else {
        split_deinit(&split);
    }
    return status;
}

/* ---- the choice ------------------------------------------------------------------------- */

/* The best of a grid is partly luck: half of the way to it. */
static void go_halfway(struct taste_weights *weights, const struct taste_weights *best)
{
    weights->text = (weights->text + best->text) / 2;
    for (int p = 0; p < TASTE_PARTS; p++)
        weights->part[p] = (weights->part[p] + best->part[p]) / 2;
}

bool blend_beyond_doubt(const struct interval *gain, size_t points)
{
    return points >= BLEND_POINTS_MIN && gain->mean > BLEND_DOUBT * (gain->high - gain->low) / 3.92;
}

static enum akin_status choose(const struct learning *l, struct taste_weights *weights,
                               struct akin_weights_found *found, struct akin_error *error)
{
    enum { BEFORE, AFTER, GAIN, COLUMNS };
    size_t rows = l->grid.count, best = 0;
    double most = -1;
    for (size_t row = 0; row < rows; row++) {
        double sum = 0;
        for (size_t i = 0; i < l->points; i++)
            sum += l->gains[i * rows + row];
        if (sum > most) {
            most = sum;
            best = row;
        }
    }
    double *values = memory_alloc(l->points, COLUMNS * sizeof *values);
    struct interval intervals[COLUMNS];
    if (!values)
        return error_memory(error);
    for (size_t i = 0; i < l->points; i++) {
        const double *own = l->gains + i * rows;
        values[i * COLUMNS + BEFORE] = own[0];
        values[i * COLUMNS + AFTER] = own[best];
        values[i * COLUMNS + GAIN] = own[best] - own[0];
    }
    enum akin_status status =
        metrics_intervals(values, l->points, COLUMNS, l->lesson->seed, intervals, error);
    memory_free(values);
    if (status != AKIN_OK)
        return status;
    found->points = l->points;
    found->ndcg_default = intervals[BEFORE].mean;
    found->ndcg_best = intervals[AFTER].mean;
    found->gain = (struct akin_estimate){ intervals[GAIN].mean, intervals[GAIN].low,
                                          intervals[GAIN].high };
    found->learned = best && blend_beyond_doubt(&intervals[GAIN], l->points);
    if (found->learned)
        go_halfway(weights, &l->grid.blends[best].weights);
    return AKIN_OK;
}

enum akin_status blend_learn(const struct backend *backend, const struct blend_lesson *lesson,
                             enum blend_context context, struct taste_weights *weights,
                             struct akin_weights_found *found, struct akin_error *error)
{
    struct learning l = { .backend = backend, .lesson = lesson, .context = context };
    enum akin_status status = AKIN_OK;
    *weights = *blend_default(context);
    *found = (struct akin_weights_found){ 0 };
    make_grid(&l.grid, context, lesson->text->space != NULL, lesson->reranker);
    if (context == BLEND_NEXT) {
        status = judge_cut(&l, 0, error);
    } else {
        status = order_events(&l, error);
        for (size_t tenth = FIRST_CUT; status == AKIN_OK && tenth < TENTHS; tenth++)
            status = judge_cut(&l, tenth, error);
    }
    if (status == AKIN_OK && l.points)
        status = choose(&l, weights, found, error);
    blend_formula(weights, found->formula, sizeof found->formula);
    memory_free(l.order);
    memory_free(l.gains);
    return status;
}
