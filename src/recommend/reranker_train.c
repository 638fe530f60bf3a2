/* Training of the reranker over the parts of a training device: windows of LENGTH events of each
 * list, cut anew in every epoch, each event predicting the next by a softmax over all items. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "compute/cpu/kernels.h"
#include "recommend/reranker.h"

enum { HEAD_ALIGN = 32 };       /* of what follows dim numbers in a row of the projection */

enum { LINEARS = 6, SLICE = 8, WARM = 20, PATIENCE = 2, NOT_JUDGED = -1, ATTEND_SITE = 0,
       FORWARD_SITE = 2 };

static const float start_match = 0.7f;      /* about what a genre that is told is worth, in nats */

struct window {
    uint32_t list, first, count;        /* inputs are events first to first + count - 1 */
};

struct learner {
    const struct reranker_lesson *lesson;
    struct reranker_settings settings;
    struct reranker_layout layout;
    struct train_device *device;
    const struct train_ops *ops;
    struct train_attention attention;
    struct train_feed_forward forward;
    struct train_linear projection;
    float *values, *gradients, *first, *second, *best;  /* [layout.values] */
    float *past, *x[3], *gradient, *past_gradient;      /* [SLICE * LENGTH][dim] */
    float *wanted;              /* [SLICE * LENGTH][layout.wanted + 1] of rows of C */
    /* The projection reads W and D beside each other, and what comes of it likewise: rows of
     * `head` numbers. */
    size_t head;                /* dim, and padded what can be wanted */
    float *head_weight, *head_gradient;         /* [items][head] */
    float *head_x, *head_x_gradient;            /* [SLICE * LENGTH][head] */
    void *saved[2];
    int32_t *ids, *labels;      /* [SLICE * LENGTH] */
    double *loss;
    struct window *windows;
    size_t window_count, window_capacity;
    uint64_t step;
    size_t judged;              /* rows with a label since loss was cleared */
};

void reranker_settings_default(struct reranker_settings *settings)
{
    *settings = (struct reranker_settings){ .epochs = 5, .batch = 16, .rate = 3e-3f,
                                            .decay = 0.01f, .dropout = 0.3f, .left_out = 0.2f,
                                            .wanted_share = 0.5f, .precision = TRAIN_BF16,
                                            .seed = 1 };
}

/* ---- the parts -------------------------------------------------------------------------- */

/* Of rows [first, first + outputs) of the weight. */
static struct train_linear linear_of(const struct learner *l, enum reranker_tensor weight,
                                     enum reranker_tensor bias, size_t first, size_t outputs)
{
    size_t dim = l->layout.dim, w = l->layout.at[weight].offset + first * dim;
    size_t b = l->layout.at[bias].offset + first;
    return (struct train_linear){ .weight = l->values + w, .bias = l->values + b,
                                  .weight_gradient = l->gradients + w,
                                  .bias_gradient = l->gradients + b, .outputs = outputs,
                                  .inputs = dim };
}

static struct train_norm norm_of(const struct learner *l, enum reranker_tensor gain,
                                 enum reranker_tensor offset)
{
    size_t g = l->layout.at[gain].offset, o = l->layout.at[offset].offset;
    return (struct train_norm){ l->values + g, l->values + o, l->gradients + g, l->gradients + o,
                                l->layout.dim };
}

static void make_parts(struct learner *l)
{
    size_t dim = l->layout.dim;
    l->attention = (struct train_attention){
        .query = linear_of(l, RERANKER_IN, RERANKER_IN_BIAS, 0, dim),
        .memory = linear_of(l, RERANKER_IN, RERANKER_IN_BIAS, dim, 2 * dim),
        .out = linear_of(l, RERANKER_OUT, RERANKER_OUT_BIAS, 0, dim),
        .norm = norm_of(l, RERANKER_GAIN1, RERANKER_OFFSET1), .heads = RERANKER_HEADS,
        .causal = true, .site = ATTEND_SITE
    };
    l->forward = (struct train_feed_forward){
        .up = linear_of(l, RERANKER_UP, RERANKER_UP_BIAS, 0, dim),
        .down = linear_of(l, RERANKER_DOWN, RERANKER_DOWN_BIAS, 0, dim),
        .norm = norm_of(l, RERANKER_GAIN2, RERANKER_OFFSET2), .site = FORWARD_SITE
    };
    l->projection = linear_of(l, RERANKER_ITEMS, RERANKER_BIAS, 0, l->layout.items);
    l->projection.weight = l->head_weight;
    l->projection.weight_gradient = l->head_gradient;
    l->projection.inputs = l->head;
}

static void linears_of(struct learner *l, struct train_linear *linears[LINEARS])
{
    linears[0] = &l->attention.query;
    linears[1] = &l->attention.memory;
    linears[2] = &l->attention.out;
    linears[3] = &l->forward.up;
    linears[4] = &l->forward.down;
    linears[5] = &l->projection;
}

/* Rows [rows] of `count` numbers, one every `from_width` numbers, to one every `to_width`. */
static void copy_columns(const float *from, size_t from_width, float *to, size_t to_width,
                         size_t count, size_t rows)
{
    for (size_t row = 0; row < rows; row++)
        memcpy(to + row * to_width, from + row * from_width, count * sizeof *to);
}

static enum akin_status prepare(struct learner *l, struct akin_error *error)
{
    struct train_linear *linears[LINEARS];
    copy_columns(l->values + l->layout.at[RERANKER_ITEMS].offset, l->layout.dim, l->head_weight,
                 l->head, l->layout.dim, l->layout.items);
    copy_columns(l->values + l->layout.at[RERANKER_MATCH].offset, l->layout.wanted,
                 l->head_weight + l->layout.dim, l->head, l->layout.wanted, l->layout.items);
    linears_of(l, linears);
    for (size_t i = 0; i < LINEARS; i++)
        TRY(l->ops->linear_prepare(l->device, linears[i], error));
    return AKIN_OK;
}

/* ---- memory ----------------------------------------------------------------------------- */

static enum akin_status take(struct learner *l, size_t count, size_t bytes, void *place,
                             struct akin_error *error)
{
    void *memory;
    size_t total;
    if (!size_mul(count, bytes, &total))
        return error_memory(error);
    TRY(l->ops->allocate(l->device, total, &memory, error));
    *(void **)place = memory;
    return AKIN_OK;
}

static enum akin_status take_all(struct learner *l, struct akin_error *error)
{
    size_t rows = SLICE * RERANKER_LENGTH, dim = l->layout.dim, values = l->layout.values;
    float **blocks[] = { &l->values, &l->gradients, &l->first, &l->second, &l->best };
    float **tensors[] = { &l->past, &l->x[0], &l->x[1], &l->x[2], &l->gradient,
                          &l->past_gradient };
    int32_t **numbers[] = { &l->ids, &l->labels };
    struct train_shape shape = { SLICE, RERANKER_LENGTH, RERANKER_LENGTH };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        TRY(take(l, values, sizeof(float), blocks[i], error));
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        TRY(take(l, rows * dim, sizeof(float), tensors[i], error));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        TRY(take(l, rows, sizeof(int32_t), numbers[i], error));
    TRY(take(l, rows * (l->layout.wanted + 1), sizeof(float), &l->wanted, error));
    TRY(take(l, l->layout.items * l->head, sizeof(float), &l->head_weight, error));
    TRY(take(l, l->layout.items * l->head, sizeof(float), &l->head_gradient, error));
    TRY(take(l, rows * l->head, sizeof(float), &l->head_x, error));
    TRY(take(l, rows * l->head, sizeof(float), &l->head_x_gradient, error));
    TRY(take(l, 1, sizeof *l->loss, &l->loss, error));
    make_parts(l);
    TRY(take(l, l->ops->attention_saved_bytes(l->device, &l->attention, &shape), 1, &l->saved[0],
             error));
    return take(l, l->ops->feed_forward_saved_bytes(l->device, &l->forward, rows), 1, &l->saved[1],
                error);
}

static void release_all(struct learner *l)
{
    struct train_linear *linears[LINEARS];
    void *blocks[] = { l->values, l->gradients, l->first, l->second, l->best, l->past, l->x[0],
                       l->x[1], l->x[2], l->gradient, l->past_gradient, l->wanted, l->ids,
                       l->head_weight, l->head_gradient, l->head_x, l->head_x_gradient,
                       l->labels, l->loss, l->saved[0], l->saved[1] };
    linears_of(l, linears);
    for (size_t i = 0; i < LINEARS; i++)
        l->ops->linear_forget(l->device, linears[i]);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        l->ops->release(l->device, blocks[i]);
    memory_free(l->windows);
}

/* ---- the start -------------------------------------------------------------------------- */

static void draw(const struct learner *l, struct rng *rng, enum reranker_tensor tensor, float size,
                 float *values)
{
    const struct reranker_place *at = &l->layout.at[tensor];
    for (size_t i = 0; i < at->rows * at->cols; i++)
        values[at->offset + i] = size * rng_normal(rng);
}

static void draw_all(const struct learner *l, float *values)
{
    const struct reranker_lesson *lesson = l->lesson;
    size_t dim = l->layout.dim;
    struct rng rng;
    rng_seed(&rng, l->settings.seed);
    float spread = 1 / sqrtf((float)dim);
    draw(l, &rng, RERANKER_ITEMS, lesson->texts ? 0.02f : spread, values);
    draw(l, &rng, RERANKER_WANTED, 0.02f, values);
    draw(l, &rng, RERANKER_POSITIONS, 0.02f, values);
    static const enum reranker_tensor matrices[] = { RERANKER_IN, RERANKER_OUT, RERANKER_UP,
                                                     RERANKER_DOWN };
    for (size_t m = 0; m < sizeof matrices / sizeof *matrices; m++)
        draw(l, &rng, matrices[m], spread, values);
    double mean = 0;
    for (size_t i = 0; i < l->layout.items; i++)
        mean += log1p(lesson->counts[i]) / (double)l->layout.items;
    for (size_t i = 0; i < l->layout.items; i++) {
        float *item = values + l->layout.at[RERANKER_ITEMS].offset + i * dim;
        values[l->layout.at[RERANKER_BIAS].offset + i] = (float)(log1p(lesson->counts[i]) - mean);
        if (lesson->texts)
            lesson->kernels->add_f32(item, lesson->texts[i], dim);
    }
    const struct situations *told = l->layout.wanted ? lesson->situations : NULL;
    for (size_t i = 0; told && i < l->layout.items; i++)
        for (size_t g = told->offsets[i]; g < told->offsets[i + 1]; g++)
            values[l->layout.at[RERANKER_MATCH].offset + i * told->terms + told->of[g] - 1] =
                start_match;
    for (size_t d = 0; d < dim; d++)
        values[l->layout.at[RERANKER_GAIN1].offset + d] =
            values[l->layout.at[RERANKER_GAIN2].offset + d] = 1;
}

/* ---- windows ---------------------------------------------------------------------------- */

/* Events of a list that are learned from. */
static size_t learned(const struct learner *l, size_t list)
{
    size_t count = l->lesson->lists->offsets[list + 1] - l->lesson->lists->offsets[list];
    return l->settings.fixed || !count ? count : count - 1;
}

static enum akin_status add_window(struct learner *l, size_t list, size_t first, size_t count,
                                   struct akin_error *error)
{
    if (!array_reserve((void **)&l->windows, &l->window_capacity, l->window_count + 1,
                       sizeof *l->windows))
        return error_memory(error);
    l->windows[l->window_count++] = (struct window){ (uint32_t)list, (uint32_t)first,
                                                     (uint32_t)count };
    return AKIN_OK;
}

/* Every event but the last is an input once; the cuts lie elsewhere in every epoch. */
static enum akin_status cut_windows(struct learner *l, size_t epoch, struct akin_error *error)
{
    struct rng rng;
    rng_seed(&rng, l->settings.seed * 4096 + epoch + 1);
    l->window_count = 0;
    for (size_t list = 0; list < l->lesson->lists->count; list++) {
        size_t inputs = learned(l, list), begin = 0;
        if (inputs < 2)
            continue;
        inputs--;
        size_t end = inputs <= RERANKER_LENGTH ? inputs : 1 + rng_below(&rng, RERANKER_LENGTH);
        for (; begin < inputs; begin = end, end += RERANKER_LENGTH) {
            end = end < inputs ? end : inputs;
            TRY(add_window(l, list, begin, end - begin, error));
        }
    }
    for (size_t i = l->window_count; i > 1; i--) {
        size_t other = rng_below(&rng, i);
        struct window w = l->windows[i - 1];
        l->windows[i - 1] = l->windows[other];
        l->windows[other] = w;
    }
    return AKIN_OK;
}

/* One for each list: what comes before its last event. */
static enum akin_status last_windows(struct learner *l, struct akin_error *error)
{
    l->window_count = 0;
    for (size_t list = 0; list < l->lesson->lists->count; list++) {
        size_t inputs = learned(l, list);
        if (inputs < 2)
            continue;
        size_t first = inputs > RERANKER_LENGTH ? inputs - RERANKER_LENGTH : 0;
        TRY(add_window(l, list, first, inputs - first, error));
    }
    return AKIN_OK;
}

/* What is told of event `at` of a list, to the weights of row `row`. */
static void tell_situation(struct learner *l, size_t list, size_t at, struct rng *rng, size_t row)
{
    const struct reranker_lesson *lesson = l->lesson;
    size_t first = lesson->lists->offsets[list], width = l->layout.wanted + 1;
    float *wanted = l->wanted + row * width, sum = 0;
    memset(wanted, 0, width * sizeof *wanted);
    if (rng && l->layout.wanted) {
        struct situation_events events = { lesson->lists->items + first, lesson->times + first,
                                           learned(l, list), at, lesson->times[first + at] };
        situation_draw(lesson->situations, l->settings.wanted_share, &events, rng, wanted + 1);
    }
    for (size_t w = 1; w < width; w++)
        sum += wanted[w];
    wanted[0] = sum == 0;
}

/* rng NULL: nothing is left out or wanted, and only the last event of a window is judged. */
static void fill_window(struct learner *l, const struct window *w, size_t at, struct rng *rng)
{
    const uint32_t *items = l->lesson->lists->items + l->lesson->lists->offsets[w->list] + w->first;
    for (size_t e = 0; e < RERANKER_LENGTH; e++) {
        size_t row = at * RERANKER_LENGTH + e;
        bool there = e < w->count;
        bool left_out = !there || (rng && rng_float(rng) < l->settings.left_out);
        bool judged = there && (rng || e + 1 == w->count);
        l->ids[row] = left_out ? (int32_t)l->layout.items : (int32_t)items[e];
        l->labels[row] = judged ? (int32_t)items[e + 1] : NOT_JUDGED;
        tell_situation(l, w->list, w->first + e + 1, there ? rng : NULL, row);
    }
}

/* ---- one slice -------------------------------------------------------------------------- */

/* x = past + C wanted, or, on the way back, C's gradient += that of x. */
static void add_situations(struct learner *l, size_t rows, bool back)
{
    const struct kernels *k = l->lesson->kernels;
    size_t dim = l->layout.dim, width = l->layout.wanted + 1;
    size_t table = l->layout.at[RERANKER_WANTED].offset;
    for (size_t row = 0; row < rows; row++)
        for (size_t w = 0; w < width; w++) {
            float weight = l->wanted[row * width + w];
            if (weight != 0 && back)
                k->add_scaled_f32(l->gradients + table + w * dim, l->gradient + row * dim, weight,
                                  dim);
            else if (weight != 0)
                k->add_scaled_f32(l->x[0] + row * dim, l->values + table + w * dim, weight, dim);
        }
}

static void pass_forward(struct learner *l, const struct train_pass *pass, size_t samples)
{
    size_t rows = samples * RERANKER_LENGTH, dim = l->layout.dim;
    const float *values = l->values;
    struct train_shape shape = { samples, RERANKER_LENGTH, RERANKER_LENGTH };
    l->ops->embed_forward(l->device, l->ids, values + l->layout.at[RERANKER_ITEMS].offset,
                          values + l->layout.at[RERANKER_POSITIONS].offset, samples,
                          RERANKER_LENGTH, dim, l->past);
    memcpy(l->x[0], l->past, rows * dim * sizeof(float));
    add_situations(l, rows, false);
    l->ops->attention_forward(l->device, pass, &l->attention, &shape, l->x[0], l->past, l->x[1],
                              l->saved[0]);
    l->ops->feed_forward_forward(l->device, pass, &l->forward, samples, RERANKER_LENGTH, l->x[1],
                                 l->x[2], l->saved[1]);
}

static void pass_backward(struct learner *l, const struct train_pass *pass, size_t samples)
{
    size_t rows = samples * RERANKER_LENGTH, dim = l->layout.dim;
    float *gradients = l->gradients;
    struct train_shape shape = { samples, RERANKER_LENGTH, RERANKER_LENGTH };
    l->ops->feed_forward_backward(l->device, pass, &l->forward, samples, RERANKER_LENGTH, l->x[1],
                                  l->saved[1], l->gradient);
    l->ops->clear(l->device, l->past_gradient, rows * dim * sizeof(float));
    l->ops->attention_backward(l->device, pass, &l->attention, &shape, l->x[0], l->past,
                               l->saved[0], l->gradient, l->past_gradient);
    add_situations(l, rows, true);
    l->ops->add(l->device, l->past_gradient, l->gradient, rows * dim);
    l->ops->embed_backward(l->device, l->ids, l->past_gradient, samples, RERANKER_LENGTH, dim,
                           l->layout.items + 1,
                           gradients + l->layout.at[RERANKER_ITEMS].offset,
                           gradients + l->layout.at[RERANKER_POSITIONS].offset);
}

/* The softmax of what came of a slice; the gradient of it too, unless `back` is false. */
static void judge_slice(struct learner *l, const struct train_pass *pass, size_t samples,
                        double row_weight, bool back)
{
    size_t rows = samples * RERANKER_LENGTH, dim = l->layout.dim, wanted = l->layout.wanted;
    copy_columns(l->x[2], dim, l->head_x, l->head, dim, rows);
    copy_columns(l->wanted + 1, wanted + 1, l->head_x + dim, l->head, wanted, rows);
    l->ops->cross_entropy(l->device, pass, &l->projection, l->labels, l->head_x, rows, row_weight,
                          l->loss, back ? l->head_x_gradient : NULL);
    if (back)
        copy_columns(l->head_x_gradient, l->head, l->gradient, dim, dim, rows);
}

/* What the projection learned belongs to W and D. */
static void share_gradient(struct learner *l)
{
    size_t dim = l->layout.dim, wanted = l->layout.wanted;
    float *items = l->gradients + l->layout.at[RERANKER_ITEMS].offset;
    for (size_t i = 0; i < l->layout.items; i++)
        l->lesson->kernels->add_f32(items + i * dim, l->head_gradient + i * l->head, dim);
    copy_columns(l->head_gradient + dim, l->head,
                 l->gradients + l->layout.at[RERANKER_MATCH].offset, wanted, wanted,
                 l->layout.items);
}

static size_t count_labels(const struct learner *l, size_t samples)
{
    size_t count = 0;
    for (size_t row = 0; row < samples * RERANKER_LENGTH; row++)
        count += l->labels[row] != NOT_JUDGED;
    return count;
}

/* ---- one step --------------------------------------------------------------------------- */

static void update(struct learner *l, size_t total_steps)
{
    double step = (double)l->step, rest = 1 - step / ((double)total_steps + 1);
    struct train_update u = {
        .optimizer = TRAIN_ADAMW, .beta1 = 0.9f, .beta2 = 0.99f, .epsilon = 1e-8f,
        .rate = l->settings.rate * (float)((step < WARM ? step / WARM : 1) *
                                           (rest > 0.05 ? rest : 0.05)),
        .step = l->step, .gradient_factor = 1,
    };
    size_t tables = l->layout.at[RERANKER_IN].offset;   /* these do not shrink */
    l->ops->update(l->device, &u, l->values, l->gradients, l->first, l->second, tables, NULL);
    u.decay = l->settings.decay;
    l->ops->update(l->device, &u, l->values + tables, l->gradients + tables, l->first + tables,
                   l->second + tables, l->layout.values - tables, NULL);
}

static enum akin_status learn_batch(struct learner *l, size_t first, size_t total_steps,
                                    struct akin_error *error)
{
    size_t rest = l->window_count - first, rows = 0;
    size_t windows = rest < l->settings.batch ? rest : l->settings.batch;
    struct rng rng;
    l->step++;
    rng_seed(&rng, l->settings.seed * 0x100000001u + l->step);
    for (size_t w = 0; w < windows; w++)
        rows += l->windows[first + w].count;
    l->ops->clear(l->device, l->gradients, l->layout.values * sizeof(float));
    l->ops->clear(l->device, l->head_gradient, l->layout.items * l->head * sizeof(float));
    for (size_t begin = 0; begin < windows; begin += SLICE) {
        size_t samples = windows - begin < SLICE ? windows - begin : SLICE;
        struct train_pass pass = { .dropout = l->settings.dropout, .seed = l->settings.seed,
                                   .step = (uint32_t)l->step, .first_sample = begin,
                                   .loss_scale = 1 };
        for (size_t s = 0; s < samples; s++)
            fill_window(l, &l->windows[first + begin + s], s, &rng);
        l->judged += count_labels(l, samples);
        pass_forward(l, &pass, samples);
        judge_slice(l, &pass, samples, 1 / (double)rows, true);
        pass_backward(l, &pass, samples);
    }
    share_gradient(l);
    update(l, total_steps);
    TRY(prepare(l, error));
    return l->ops->finish(l->device, error);
}

static enum akin_status validate(struct learner *l, double *loss, struct akin_error *error)
{
    struct train_pass pass = { .loss_scale = 1 };
    TRY(last_windows(l, error));
    *l->loss = 0;
    l->judged = 0;
    for (size_t begin = 0; begin < l->window_count; begin += SLICE) {
        size_t samples = l->window_count - begin < SLICE ? l->window_count - begin : SLICE;
        for (size_t s = 0; s < samples; s++)
            fill_window(l, &l->windows[begin + s], s, NULL);
        l->judged += count_labels(l, samples);
        pass_forward(l, &pass, samples);
        judge_slice(l, &pass, samples, 1, false);
    }
    *loss = l->judged ? *l->loss / (double)l->judged : 0;
    return l->ops->finish(l->device, error);
}

/* ---- epochs ----------------------------------------------------------------------------- */

static enum akin_status tell(const struct learner *l, size_t done, size_t total,
                             struct akin_error *error)
{
    const struct akin_progress *p = &l->settings.progress;
    if (!p->update || p->update(p->cookie, "training the reranker", done, total))
        return AKIN_OK;
    return error_set(error, AKIN_CANCELLED, "interrupted");
}

static enum akin_status run_epoch(struct learner *l, size_t epoch, double *loss,
                                  struct akin_error *error)
{
    TRY(cut_windows(l, epoch, error));
    size_t steps = (l->window_count + l->settings.batch - 1) / l->settings.batch;
    *l->loss = 0;
    l->judged = 0;
    for (size_t s = 0; s < steps; s++) {
        TRY(learn_batch(l, s * l->settings.batch, steps * l->settings.epochs, error));
        TRY(tell(l, epoch * steps + s + 1, l->settings.epochs * steps, error));
    }
    *loss = l->judged ? *l->loss / (double)l->judged : 0;
    if (isfinite(*loss))
        return AKIN_OK;
    return error_set(error, AKIN_NUMERIC, "training the reranker: the loss is not finite");
}

static enum akin_status run_epochs(struct learner *l, struct akin_training *curve,
                                   struct akin_error *error)
{
    double least = INFINITY;
    size_t most = l->settings.fixed ? l->settings.fixed : l->settings.epochs;
    size_t bytes = l->layout.values * sizeof(float);
    for (size_t epoch = 0; epoch < most; epoch++) {
        double *validation = &curve->validation[epoch];
        TRY(run_epoch(l, epoch, &curve->loss[epoch], error));
        curve->epochs = epoch + 1;
        if (!l->settings.fixed)
            TRY(validate(l, validation, error));
        if (l->settings.fixed || *validation < least) {
            least = *validation;
            curve->best = epoch + 1;
            l->ops->download(l->device, l->best, l->values, bytes);
        } else if (epoch + 1 - curve->best >= PATIENCE) {
            break;
        }
    }
    return AKIN_OK;
}

static enum akin_status train(struct learner *l, struct reranker *made,
                              struct akin_training *curve, struct akin_error *error)
{
    TRY(take_all(l, error));
    draw_all(l, made->values);
    l->ops->upload(l->device, l->values, made->values, l->layout.values * sizeof(float));
    memcpy(l->best, made->values, l->layout.values * sizeof(float));
    TRY(prepare(l, error));
    TRY(run_epochs(l, curve, error));
    memcpy(made->values, l->best, l->layout.values * sizeof(float));
    return reranker_derive(l->lesson->kernels, l->lesson->pool, made, error);
}

enum akin_status reranker_train(const struct reranker_lesson *lesson,
                                const struct reranker_settings *settings,
                                struct reranker *reranker, struct akin_training *curve,
                                struct akin_error *error)
{
    ASSERT(settings->epochs <= AKIN_TRAINING_EPOCHS_MAX && settings->batch &&
           settings->fixed <= AKIN_TRAINING_EPOCHS_MAX);
    struct learner l = { .lesson = lesson, .settings = *settings };
    struct reranker made = { 0 };
    uint64_t began = clock_monotonic_ns();
    *curve = (struct akin_training){ 0 };
    bool situations = lesson->situations && lesson->times;
    TRY(reranker_lay_out(lesson->lists->item_count, lesson->dim,
                         situations ? lesson->situations->terms : 0, &l.layout, error));
    TRY(cpu_train_create(lesson->cpu_flags, lesson->pool, settings->precision, &l.device,
                         error));
    l.ops = l.device->ops;
    l.head = l.layout.dim + (l.layout.wanted + HEAD_ALIGN - 1) / HEAD_ALIGN * HEAD_ALIGN;
    enum akin_status status = reranker_init(&l.layout, &made, error);
    if (status == AKIN_OK && situations)
        memcpy(made.names, lesson->situations->names, (l.layout.wanted + 1) * sizeof *made.names);
    if (status == AKIN_OK)
        status = train(&l, &made, curve, error);
    release_all(&l);
    l.ops->destroy(&l.device);
    curve->seconds = seconds_since(began);
    if (status == AKIN_OK)
        *reranker = made;
    else
        reranker_deinit(&made);
    return status;
}
