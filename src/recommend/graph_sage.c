/* See graph_sage.h. */
#include "recommend/graph_sage.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "compute/cpu/kernels.h"
#include "compute/train_ops.h"

enum { LINEARS = 2 * GRAPH_TOWERS + 1, WARM = 20 };

struct graph_trainer {
    const struct graph_lesson *lesson;
    struct graph_settings settings;
    struct train_device *device;
    const struct train_ops *ops;
    struct train_feed_forward towers[GRAPH_TOWERS];
    struct train_linear links;          /* the batch's items as the weights of a projection */
    float *values, *gradients, *first, *second;
    size_t count;                       /* of each of these */
    float *near_x, *near_y, *near_gradient;             /* [batch * GRAPH_PEOPLE][dim] */
    float *item_x, *item_y, *item_gradient;             /* [batch][dim] */
    float *user_x, *user_y, *user_gradient;
    float *bias, *bias_gradient;                        /* [batch] */
    void *saved[GRAPH_TOWERS];
    int32_t *labels;
    double *loss;
    size_t *fans, *fan_offsets;         /* people of each item */
    uint32_t *link_users, *link_items, *order;          /* [events] */
    size_t *people;                     /* [batch] neighbours of each item that were drawn */
    uint64_t step;
};

void graph_settings_default(struct graph_settings *settings)
{
    *settings = (struct graph_settings){ .epochs = 1, .pairs = 24000, .batch = 256, .rate = 1e-3f,
                                         .decay = 0.01f, .dropout = 0.3f, .alone = 0.5f,
                                         .seed = 1 };
}

/* ---- use -------------------------------------------------------------------------------- */

void graph_sage_deinit(struct graph_sage *graph)
{
    memory_free(graph->values);
    memory_free(graph->rows);
    *graph = (struct graph_sage){ 0 };
}

enum akin_status graph_sage_init(size_t dim, struct graph_sage *g, struct akin_error *error)
{
    *g = (struct graph_sage){ .dim = dim };
    g->values = memory_alloc(GRAPH_TOWERS * graph_tower_values(dim), sizeof(float));
    g->rows = memory_alloc(GRAPH_TOWERS * 2 * dim, sizeof *g->rows);
    if (!g->values || !g->rows) {
        graph_sage_deinit(g);
        return error_memory(error);
    }
    for (size_t t = 0; t < GRAPH_TOWERS; t++)
        for (size_t m = 0; m < 2; m++)
            for (size_t r = 0; r < dim; r++)
                g->rows[(t * 2 + m) * dim + r] =
                    g->values + t * graph_tower_values(dim) + m * (dim * dim + dim) + r * dim;
    return AKIN_OK;
}

void graph_sage_towers(const struct graph_sage *g, const struct kernels *kernels,
                       enum graph_tower tower, float *x, size_t count, float *scratch)
{
    size_t dim = g->dim, square = dim * dim;
    const float *values = g->values + (size_t)tower * graph_tower_values(dim);
    const float *const *rows = g->rows + (size_t)tower * 2 * dim;
    float *wide = scratch, *sums = scratch + count * dim;
    kernels->score_dot_f32(wide, x, count, rows, dim, dim);
    for (size_t i = 0; i < count; i++)
        kernels->add_f32(wide + i * dim, values + square, dim);
    kernels->relu_f32(wide, dim, count, dim);
    kernels->score_dot_f32(sums, wide, count, rows + dim, dim, dim);
    for (size_t i = 0; i < count; i++) {
        kernels->add_f32(sums + i * dim, values + 2 * square + dim, dim);
        kernels->layernorm_f32(x + i * dim, x + i * dim, sums + i * dim,
                               values + 2 * square + 2 * dim, values + 2 * square + 3 * dim, 1e-5f,
                               dim);
    }
}

void graph_sage_tower(const struct graph_sage *g, const struct kernels *kernels,
                      enum graph_tower tower, float *x, float *scratch)
{
    graph_sage_towers(g, kernels, tower, x, 1, scratch);
}

/* ---- memory ----------------------------------------------------------------------------- */

static enum akin_status take(struct graph_trainer *t, size_t count, size_t bytes, void *place,
                             struct akin_error *error)
{
    void *memory;
    size_t total;
    if (!size_mul(count, bytes, &total))
        return error_memory(error);
    TRY(t->ops->allocate(t->device, total, &memory, error));
    *(void **)place = memory;
    return AKIN_OK;
}

static struct train_feed_forward tower_of(const struct graph_trainer *t, size_t tower)
{
    size_t dim = t->lesson->dim, square = dim * dim, at = tower * graph_tower_values(dim);
    float *v = t->values + at, *g = t->gradients + at;
    return (struct train_feed_forward){
        .up = { .weight = v, .bias = v + square, .weight_gradient = g,
                .bias_gradient = g + square, .outputs = dim, .inputs = dim },
        .down = { .weight = v + square + dim, .bias = v + 2 * square + dim,
                  .weight_gradient = g + square + dim, .bias_gradient = g + 2 * square + dim,
                  .outputs = dim, .inputs = dim },
        .norm = { v + 2 * square + 2 * dim, v + 2 * square + 3 * dim, g + 2 * square + 2 * dim,
                  g + 2 * square + 3 * dim, dim },
        .site = (uint32_t)(2 * tower),
    };
}

static enum akin_status take_all(struct graph_trainer *t, struct akin_error *error)
{
    size_t dim = t->lesson->dim, batch = t->settings.batch, events;
    float **blocks[] = { &t->values, &t->gradients, &t->first, &t->second };
    float **near[] = { &t->near_x, &t->near_y, &t->near_gradient };
    float **ends[] = { &t->item_x, &t->item_y, &t->item_gradient, &t->user_x, &t->user_y,
                       &t->user_gradient };
    events = t->lesson->histories->event_count;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        TRY(take(t, t->count, sizeof(float), blocks[i], error));
    for (size_t i = 0; i < sizeof near / sizeof *near; i++)
        TRY(take(t, batch * GRAPH_PEOPLE * dim, sizeof(float), near[i], error));
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        TRY(take(t, batch * dim, sizeof(float), ends[i], error));
    TRY(take(t, batch, sizeof(float), &t->bias, error));
    TRY(take(t, batch, sizeof(float), &t->bias_gradient, error));
    TRY(take(t, batch, sizeof(int32_t), &t->labels, error));
    TRY(take(t, 1, sizeof *t->loss, &t->loss, error));
    for (size_t tower = 0; tower < GRAPH_TOWERS; tower++) {
        size_t rows = tower == GRAPH_NEAR ? batch * GRAPH_PEOPLE : batch;
        t->towers[tower] = tower_of(t, tower);
        TRY(take(t, t->ops->feed_forward_saved_bytes(t->device, &t->towers[tower], rows), 1,
                 &t->saved[tower], error));
    }
    t->links = (struct train_linear){ .weight = t->item_y, .bias = t->bias,
                                      .weight_gradient = t->item_gradient,
                                      .bias_gradient = t->bias_gradient, .outputs = batch,
                                      .inputs = dim };
    t->fans = memory_alloc(events, sizeof *t->fans);
    t->fan_offsets = memory_alloc(t->lesson->histories->item_count + 2, sizeof *t->fan_offsets);
    t->link_users = memory_alloc(events, sizeof *t->link_users);
    t->link_items = memory_alloc(events, sizeof *t->link_items);
    t->order = memory_alloc(events, sizeof *t->order);
    t->people = memory_alloc(batch, sizeof *t->people);
    return t->fans && t->fan_offsets && t->link_users && t->link_items && t->order && t->people
               ? AKIN_OK
               : error_memory(error);
}

static void release_all(struct graph_trainer *t)
{
    void *device[] = { t->values, t->gradients, t->first, t->second, t->near_x, t->near_y,
                       t->near_gradient, t->item_x, t->item_y, t->item_gradient, t->user_x,
                       t->user_y, t->user_gradient, t->bias, t->bias_gradient, t->labels, t->loss,
                       t->saved[0], t->saved[1], t->saved[2] };
    void *host[] = { t->fans, t->fan_offsets, t->link_users, t->link_items, t->order, t->people };
    for (size_t tower = 0; tower < GRAPH_TOWERS; tower++) {
        t->ops->linear_forget(t->device, &t->towers[tower].up);
        t->ops->linear_forget(t->device, &t->towers[tower].down);
    }
    t->ops->linear_forget(t->device, &t->links);
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        t->ops->release(t->device, device[i]);
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        memory_free(host[i]);
}

/* ---- the graph -------------------------------------------------------------------------- */

static void list_links(struct graph_trainer *t)
{
    const struct histories *h = t->lesson->histories;
    size_t *ends = t->fan_offsets + 1, link = 0;
    for (size_t e = 0; e < h->event_count; e++)
        ends[h->items[e] + 1]++;
    for (size_t i = 0; i < h->item_count; i++)
        ends[i + 1] += ends[i];
    for (size_t u = 0; u < h->user_count; u++) {
        size_t count;
        const uint32_t *items = histories_of(h, u, &count);
        for (size_t e = 0; e < count; e++, link++) {
            t->link_users[link] = (uint32_t)u;
            t->link_items[link] = items[e];
            t->order[link] = (uint32_t)link;
            t->fans[ends[items[e]]++] = u;      /* becomes where the next item begins */
        }
    }
}

/* The mean of the texts of up to GRAPH_ITEMS items that a person chose, drawn, without `left`. */
static void mean_text(const struct graph_trainer *t, size_t user, uint32_t left, struct rng *rng,
                      float *to)
{
    size_t count, taken = 0, dim = t->lesson->dim;
    const uint32_t *items = histories_of(t->lesson->histories, user, &count);
    memset(to, 0, dim * sizeof *to);
    for (size_t tries = 0; tries < GRAPH_ITEMS; tries++) {
        uint32_t item = items[rng_below(rng, count)];
        if (item == left)
            continue;
        t->lesson->kernels->add_f32(to, t->lesson->texts[item], dim);
        taken++;
    }
    if (taken)
        t->lesson->kernels->scale_f32(to, 1 / (float)taken, dim);
}

/* Inputs of one link; the neighbours that are not there are zeros, and weigh nothing. */
static void draw_link(struct graph_trainer *t, size_t at, uint32_t link, struct rng *rng)
{
    uint32_t user = t->link_users[link], item = t->link_items[link];
    size_t dim = t->lesson->dim, begin = t->fan_offsets[item], fans = t->fan_offsets[item + 1] -
                                                                     begin;
    float *near = t->near_x + at * GRAPH_PEOPLE * dim;
    bool alone = rng_float(rng) < t->settings.alone;
    mean_text(t, user, item, rng, t->user_x + at * dim);
    memcpy(t->item_x + at * dim, t->lesson->texts[item], dim * sizeof *near);
    memset(near, 0, GRAPH_PEOPLE * dim * sizeof *near);
    t->people[at] = 0;
    for (size_t p = 0; p < GRAPH_PEOPLE && !alone; p++) {
        size_t fan = t->fans[begin + rng_below(rng, fans)];
        if (fan != user)        /* the link itself is what is asked for */
            mean_text(t, fan, item, rng, near + t->people[at]++ * dim);
    }
    t->bias[at] = -logf((float)fans / (float)t->lesson->histories->event_count);
    t->labels[at] = (int32_t)at;
}

/* ---- a step ----------------------------------------------------------------------------- */

static void tower_forward(struct graph_trainer *t, const struct train_pass *pass, size_t tower,
                          size_t rows, const float *x, float *y)
{
    t->ops->feed_forward_forward(t->device, pass, &t->towers[tower], rows, 1, x, y,
                                 t->saved[tower]);
}

/* item_x += mean of the people's; or the gradient of that, the other way. */
static void join(const struct graph_trainer *t, bool backwards)
{
    size_t dim = t->lesson->dim;
    for (size_t at = 0; at < t->settings.batch; at++)
        for (size_t p = 0; p < GRAPH_PEOPLE; p++) {
            size_t row = (at * GRAPH_PEOPLE + p) * dim;
            float weight = p < t->people[at] ? 1 / (float)t->people[at] : 0;
            if (backwards)
                memset(t->near_gradient + row, 0, dim * sizeof(float));
            if (weight != 0)
                t->lesson->kernels->add_scaled_f32(
                    backwards ? t->near_gradient + row : t->item_x + at * dim,
                    backwards ? t->item_gradient + at * dim : t->near_y + row, weight, dim);
        }
}

static enum akin_status prepare(struct graph_trainer *t, struct akin_error *error)
{
    for (size_t tower = 0; tower < GRAPH_TOWERS; tower++) {
        TRY(t->ops->linear_prepare(t->device, &t->towers[tower].up, error));
        TRY(t->ops->linear_prepare(t->device, &t->towers[tower].down, error));
    }
    return AKIN_OK;
}

static enum akin_status learn_batch(struct graph_trainer *t, const uint32_t *links,
                                    size_t total_steps, struct akin_error *error)
{
    size_t batch = t->settings.batch, dim = t->lesson->dim;
    struct rng rng;
    rng_seed(&rng, t->settings.seed * 0x100000001u + ++t->step);
    struct train_pass pass = { .dropout = t->settings.dropout, .seed = t->settings.seed,
                               .step = (uint32_t)t->step, .loss_scale = 1 };
    for (size_t at = 0; at < batch; at++)
        draw_link(t, at, links[at], &rng);
    t->ops->clear(t->device, t->gradients, t->count * sizeof(float));
    t->ops->clear(t->device, t->item_gradient, batch * dim * sizeof(float));
    tower_forward(t, &pass, GRAPH_NEAR, batch * GRAPH_PEOPLE, t->near_x, t->near_y);
    join(t, false);
    tower_forward(t, &pass, GRAPH_ITEM, batch, t->item_x, t->item_y);
    tower_forward(t, &pass, GRAPH_USER, batch, t->user_x, t->user_y);
    TRY(t->ops->linear_prepare(t->device, &t->links, error));
    t->ops->cross_entropy(t->device, &pass, &t->links, t->labels, t->user_y, batch,
                          1 / (double)batch, t->loss, t->user_gradient);
    t->ops->feed_forward_backward(t->device, &pass, &t->towers[GRAPH_USER], batch, 1, t->user_x,
                                  t->saved[GRAPH_USER], t->user_gradient);
    t->ops->feed_forward_backward(t->device, &pass, &t->towers[GRAPH_ITEM], batch, 1, t->item_x,
                                  t->saved[GRAPH_ITEM], t->item_gradient);
    join(t, true);
    t->ops->feed_forward_backward(t->device, &pass, &t->towers[GRAPH_NEAR], batch * GRAPH_PEOPLE,
                                  1, t->near_x, t->saved[GRAPH_NEAR], t->near_gradient);
    double rest = 1 - (double)t->step / (double)(total_steps + 1), step = (double)t->step;
    struct train_update u = {
        .optimizer = TRAIN_ADAMW, .beta1 = 0.9f, .beta2 = 0.99f, .epsilon = 1e-8f,
        .rate = t->settings.rate * (float)((step < WARM ? step / WARM : 1) * rest),
        .decay = t->settings.decay, .step = t->step, .gradient_factor = 1
    };
    t->ops->update(t->device, &u, t->values, t->gradients, t->first, t->second, t->count, NULL);
    TRY(prepare(t, error));
    return t->ops->finish(t->device, error);
}

/* ---- all of it -------------------------------------------------------------------------- */

/* The towers begin next to what their norms make of the texts; the norms' gain is such that the
 * products of two vectors are about 20 cosines. */
static void draw_values(const struct graph_trainer *t, float *values)
{
    size_t dim = t->lesson->dim, square = dim * dim;
    struct rng rng;
    rng_seed(&rng, t->settings.seed);
    for (size_t tower = 0; tower < GRAPH_TOWERS; tower++) {
        float *v = values + tower * graph_tower_values(dim);
        for (size_t i = 0; i < square; i++) {
            v[i] = rng_normal(&rng) / sqrtf((float)dim);
            v[square + dim + i] = 0.1f * rng_normal(&rng) / sqrtf((float)dim);
        }
        for (size_t d = 0; d < dim; d++)
            v[2 * square + 2 * dim + d] =
                tower == GRAPH_NEAR ? 1 / sqrtf((float)dim) : 1 / powf((float)dim, 0.25f);
    }
}

static enum akin_status run_epochs(struct graph_trainer *t, struct akin_error *error)
{
    size_t events = t->lesson->histories->event_count, batch = t->settings.batch;
    size_t pairs = t->settings.pairs < events ? t->settings.pairs : events;
    size_t steps = pairs / batch, total = steps * t->settings.epochs;
    const struct akin_progress *progress = &t->settings.progress;
    for (size_t epoch = 0; epoch < t->settings.epochs; epoch++) {
        struct rng rng;
        rng_seed(&rng, t->settings.seed * 4096 + epoch);
        rng_shuffle(&rng, t->order, events);
        *t->loss = 0;
        for (size_t s = 0; s < steps; s++) {
            TRY(learn_batch(t, t->order + s * batch, total, error));
            if (progress->update && !progress->update(progress->cookie, "training the graph",
                                                      epoch * steps + s + 1, total))
                return error_set(error, AKIN_CANCELLED, "interrupted");
        }
        if (!isfinite(*t->loss))
            return error_set(error, AKIN_NUMERIC, "training the graph: the loss is not finite");
    }
    return AKIN_OK;
}

static enum akin_status train(struct graph_trainer *t, struct graph_sage *made,
                              struct akin_error *error)
{
    TRY(take_all(t, error));
    list_links(t);
    draw_values(t, made->values);
    t->ops->upload(t->device, t->values, made->values, t->count * sizeof(float));
    TRY(prepare(t, error));
    TRY(run_epochs(t, error));
    t->ops->download(t->device, made->values, t->values, t->count * sizeof(float));
    return AKIN_OK;
}

enum akin_status graph_sage_train(const struct graph_lesson *lesson,
                                  const struct graph_settings *settings, struct graph_sage *graph,
                                  struct akin_error *error)
{
    struct graph_trainer t = { .lesson = lesson, .settings = *settings,
                               .count = GRAPH_TOWERS * graph_tower_values(lesson->dim) };
    struct graph_sage made;
    if (!lesson->dim || lesson->dim % 16 || lesson->dim > GRAPH_DIM_MAX)
        return error_set(error, AKIN_ARGUMENT,
                         "vectors of %zu numbers; the graph needs a multiple of 16, up to %d",
                         lesson->dim, GRAPH_DIM_MAX);
    if (lesson->histories->event_count < settings->batch || !settings->batch)
        return error_set(error, AKIN_ARGUMENT,
                         "%zu choices; the graph is learned from at least %zu",
                         lesson->histories->event_count, settings->batch);
    TRY(graph_sage_init(lesson->dim, &made, error));
    enum akin_status status =
        cpu_train_create(lesson->cpu_flags, lesson->pool, TRAIN_BF16, &t.device, error);
    if (status == AKIN_OK) {
        t.ops = t.device->ops;
        status = train(&t, &made, error);
        release_all(&t);
        t.ops->destroy(&t.device);
    }
    if (status == AKIN_OK)
        *graph = made;
    else
        graph_sage_deinit(&made);
    return status;
}
