/* Gradients written out, Adam with decoupled decay (Loshchilov and Hutter, 2019). One step takes
 * whole lists until there are `batch` positions, and goes through these phases, each shared among
 * the threads so that nobody adds to what another adds to:
 *     lists    u of every position, with dropout on the history's entries
 *     panels   logits of a panel of items
 *     rows     softmax over unseen items, D = (softmax - onehot) / rows, dU = D O
 *     panels   dO = D' U, Adam on O and b
 *     lists    dA of the list's items, ds; then added up list by list
 *     items    Adam on A */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "base/thread.h"
#include "compute/cpu/kernels.h"
#include "recommend/sequence.h"

enum { ROW_BLOCK = 16 };
static const float beta1 = 0.9f, beta2 = 0.99f, epsilon = 1e-8f, masked = -1e9f;

struct list_task {              /* a list of this step */
    const uint32_t *items;
    size_t count, rows, first;  /* positions, and where they begin among the rows of the step */
    size_t first_item;          /* where its gradients begin */
    uint64_t seed;
};

struct trainer {
    const struct kernels *kernels;
    struct thread_pool *pool;
    const struct item_lists *lists;
    struct sequence_settings settings;
    struct sequence_model *model;
    size_t row_max, dim_padded, panels, nr;
    float weights[SEQUENCE_HEADS][SEQUENCE_LIST_MAX], totals[SEQUENCE_HEADS][SEQUENCE_LIST_MAX + 1];
    float *history_gradient, *history_mean, *history_square;    /* [items][dim] */
    float *output_mean, *output_square;                         /* like output */
    float *turned;              /* [panels][dim_padded / nr][nr items][nr dims] O */
    float scale_mean[SEQUENCE_HEADS][SEQUENCE_DIM_MAX],
        scale_square[SEQUENCE_HEADS][SEQUENCE_DIM_MAX];
    /* a step */
    struct list_task *tasks;    /* [row_max] */
    size_t task_count, rows, gradient_items, gradient_capacity, step;
    uint32_t *positions;        /* [row_max] where in its list the target is */
    uint32_t *row_task;         /* [row_max] */
    float *mix;                 /* [row_max][HEADS][LIST_MAX] weights; a list's own [rows][HEADS]
                                   [count] stand together */
    float *encoded;             /* [row_max][HEADS][dim] X_h A */
    float *users, *users_turned;    /* [row_max][dim + 1], [dim + 1][row_max] */
    float *users_gradient;      /* [row_max][dim] */
    float *logits;              /* [panels][row_max][nr] */
    float *item_gradients;      /* [gradient_items][dim] */
    float *scale_gradients;     /* [row_max tasks][HEADS][dim] */
    float **scratch;            /* per worker */
    float rate, correct1, correct2;
};

/* ---- Adam -------------------------------------------------------------------------------- */

static void adam(const struct trainer *t, float *x, float *mean, float *square,
                 const float *gradient, size_t count, float decay)
{
    for (size_t i = 0; i < count; i++) {
        float g = gradient[i];
        mean[i] += (1 - beta1) * (g - mean[i]);
        square[i] += (1 - beta2) * (g * g - square[i]);
        x[i] -= t->rate * ((mean[i] * t->correct1) / (sqrtf(square[i] * t->correct2) + epsilon) +
                           decay * x[i]);
    }
}

/* ---- lists, forwards --------------------------------------------------------------------- */

/* Weights of the history of every position of the list: 0 from the target on and where dropped. */
static void fill_mix(const struct trainer *t, const struct list_task *task, float *mix)
{
    struct rng rng;
    rng_seed(&rng, task->seed);
    size_t n = task->count;
    float kept = 1 / (1 - t->settings.dropout);
    uint64_t bar = (uint64_t)((double)t->settings.dropout * 65536), bits = 0;
    for (size_t r = 0; r < task->rows; r++) {
        size_t target = t->positions[task->first + r], left = 0;
        float *to = mix + r * SEQUENCE_HEADS * n;
        memset(to, 0, SEQUENCE_HEADS * n * sizeof *to);
        for (size_t k = 0; k < target; k++, bits >>= 16, left--) {
            if (!left) {
                bits = rng_next(&rng);
                left = 4;
            }
            if ((bits & 65535) < bar)
                continue;
            for (size_t h = 0; h < SEQUENCE_HEADS; h++)
                to[h * n + k] = kept * t->weights[h][target - 1 - k] / t->totals[h][target];
        }
    }
}

/* Vectors [count][dim] as panels [dim_padded / nr][count][nr]. */
static void gather(const struct trainer *t, const struct list_task *task, float *panels)
{
    size_t dim = t->model->dim, nr = t->nr, n = task->count;
    memset(panels, 0, n * t->dim_padded * sizeof *panels);
    for (size_t k = 0; k < n; k++) {
        const float *from = t->model->history + task->items[k] * dim;
        for (size_t d = 0; d < dim; d++)
            panels[(d / nr * n + k) * nr + d % nr] = from[d];
    }
}

/* out [rows][dim] = x [rows][depth] times panels [dim_padded / nr][depth][nr] */
static void multiply(const struct trainer *t, float *out, const float *x, const float *panels,
                     size_t depth, size_t rows)
{
    size_t dim = t->model->dim, nr = t->nr, mr = t->kernels->gemm.mr;
    for (size_t p = 0; p * nr < dim; p++)
        for (size_t r = 0; r < rows; r += mr)
            t->kernels->gemm_f32(out + r * dim + p * nr, dim, x + r * depth, depth,
                                 panels + p * depth * nr, depth, rows - r < mr ? rows - r : mr,
                                 dim - p * nr < nr ? dim - p * nr : nr, NULL, false);
}

static void encode_list(void *context, size_t number, int worker)
{
    struct trainer *t = context;
    const struct list_task *task = &t->tasks[number];
    size_t dim = t->model->dim;
    float *mix = t->mix + task->first * SEQUENCE_HEADS * SEQUENCE_LIST_MAX;
    fill_mix(t, task, mix);
    gather(t, task, t->scratch[worker]);
    multiply(t, t->encoded + task->first * SEQUENCE_HEADS * dim, mix, t->scratch[worker],
             task->count, task->rows * SEQUENCE_HEADS);
    for (size_t r = task->first; r < task->first + task->rows; r++) {
        float *user = t->users + r * (dim + 1);
        const float *encoded = t->encoded + r * SEQUENCE_HEADS * dim;
        for (size_t d = 0; d < dim; d++) {
            user[d] = 0;
            for (size_t h = 0; h < SEQUENCE_HEADS; h++)
                user[d] += t->model->scale[h][d] * encoded[h * dim + d];
        }
        user[dim] = 1;
        for (size_t d = 0; d <= dim; d++)
            t->users_turned[d * t->row_max + r] = user[d];
    }
}

/* ---- softmax ----------------------------------------------------------------------------- */

static void panel_logits(void *context, size_t panel, int worker)
{
    struct trainer *t = context;
    size_t depth = t->model->dim + 1, mr = t->kernels->gemm.mr, nr = t->nr;
    (void)worker;
    for (size_t r = 0; r < t->rows; r += mr)
        t->kernels->gemm_f32(t->logits + (panel * t->row_max + r) * nr, nr, t->users + r * depth,
                             depth, t->model->output + panel * depth * nr, depth,
                             t->rows - r < mr ? t->rows - r : mr, nr, NULL, false);
}

static float *logit_at(const struct trainer *t, size_t row, size_t item)
{
    return t->logits + (item / t->nr * t->row_max + row) * t->nr + item % t->nr;
}

/* The row of D in place of its logits. */
static void softmax_row(const struct trainer *t, size_t row)
{
    const struct list_task *task = &t->tasks[t->row_task[row]];
    size_t nr = t->nr, stride = t->row_max * nr, target = t->positions[row];
    float top[GEMM_NR_MAX], *at = t->logits + row * nr, largest, total = 0;
    for (size_t k = 0; k < target; k++)
        *logit_at(t, row, task->items[k]) = masked;
    for (size_t i = t->model->items; i < t->panels * nr; i++)
        *logit_at(t, row, i) = masked;
    memcpy(top, at, nr * sizeof *top);
    for (size_t p = 1; p < t->panels; p++)
        t->kernels->max_f32(top, at + p * stride, nr);
    largest = top[0];
    for (size_t c = 1; c < nr; c++)
        largest = top[c] > largest ? top[c] : largest;
    for (size_t p = 0; p < t->panels; p++)
        total += t->kernels->exp_sum_f32(at + p * stride, largest, nr);
    float factor = 1 / (total * (float)t->rows);
    for (size_t p = 0; p < t->panels; p++)
        t->kernels->scale_f32(at + p * stride, factor, nr);
    *logit_at(t, row, task->items[target]) -= 1 / (float)t->rows;
}

static void softmax_block(void *context, size_t block, int worker)
{
    struct trainer *t = context;
    size_t dim = t->model->dim, nr = t->nr, mr = t->kernels->gemm.mr, first = block * ROW_BLOCK,
           end = first + ROW_BLOCK < t->rows ? first + ROW_BLOCK : t->rows;
    (void)worker;
    for (size_t r = first; r < end; r++)
        softmax_row(t, r);
    for (size_t p = 0; p < t->panels; p++)
        for (size_t q = 0; q * nr < dim; q++)
            for (size_t r = first; r < end; r += mr)
                t->kernels->gemm_f32(t->users_gradient + r * dim + q * nr, dim,
                                     t->logits + (p * t->row_max + r) * nr, nr,
                                     t->turned + (p * (t->dim_padded / nr) + q) * nr * nr, nr,
                                     end - r < mr ? end - r : mr,
                                     dim - q * nr < nr ? dim - q * nr : nr, NULL, p > 0);
}

/* O of a panel of items, the other way round. */
static void turn_panel(const struct trainer *t, size_t panel)
{
    size_t dim = t->model->dim, nr = t->nr;
    const float *from = t->model->output + panel * (dim + 1) * nr;
    float *to = t->turned + panel * t->dim_padded * nr;
    for (size_t d = 0; d < dim; d++)
        for (size_t c = 0; c < nr; c++)
            to[(d / nr * nr + c) * nr + d % nr] = from[d * nr + c];
}

static void update_panel(void *context, size_t panel, int worker)
{
    struct trainer *t = context;
    size_t depth = t->model->dim + 1, nr = t->nr, mr = t->kernels->gemm.mr,
           at = panel * depth * nr;
    float *gradient = t->scratch[worker];
    for (size_t d = 0; d < depth; d += mr)
        t->kernels->gemm_f32(gradient + d * nr, nr, t->users_turned + d * t->row_max, t->row_max,
                             t->logits + panel * t->row_max * nr, t->rows,
                             depth - d < mr ? depth - d : mr, nr, NULL, false);
    adam(t, t->model->output + at, t->output_mean + at, t->output_square + at, gradient,
         (depth - 1) * nr, t->settings.decay);
    at += (depth - 1) * nr;
    adam(t, t->model->output + at, t->output_mean + at, t->output_square + at,
         gradient + (depth - 1) * nr, nr, 0);
    turn_panel(t, panel);
}

/* ---- lists, backwards -------------------------------------------------------------------- */

/* dA = sum over positions and heads of X_h' (dU * s_h), and ds_h = sum dU * (X_h A). */
static void unwind_list(void *context, size_t number, int worker)
{
    struct trainer *t = context;
    const struct list_task *task = &t->tasks[number];
    size_t dim = t->model->dim, nr = t->nr, n = task->count, depth = task->rows * SEQUENCE_HEADS;
    const float *mix = t->mix + task->first * SEQUENCE_HEADS * SEQUENCE_LIST_MAX;
    float *turned = t->scratch[worker], *panels = turned + n * depth;
    float *scale = t->scale_gradients + number * SEQUENCE_HEADS * dim;
    memset(scale, 0, SEQUENCE_HEADS * dim * sizeof *scale);
    for (size_t k = 0; k < n; k++)
        for (size_t j = 0; j < depth; j++)
            turned[k * depth + j] = mix[j * n + k];
    memset(panels, 0, depth * t->dim_padded * sizeof *panels);
    for (size_t j = 0; j < depth; j++) {
        size_t row = task->first + j / SEQUENCE_HEADS, h = j % SEQUENCE_HEADS;
        const float *gradient = t->users_gradient + row * dim;
        const float *encoded = t->encoded + (row * SEQUENCE_HEADS + h) * dim;
        for (size_t d = 0; d < dim; d++) {
            panels[(d / nr * depth + j) * nr + d % nr] = gradient[d] * t->model->scale[h][d];
            scale[h * dim + d] += gradient[d] * encoded[d];
        }
    }
    multiply(t, t->item_gradients + task->first_item * dim, turned, panels, depth, n);
}

static void add_gradients(struct trainer *t)
{
    size_t dim = t->model->dim;
    for (size_t i = 0; i < t->task_count; i++) {
        const struct list_task *task = &t->tasks[i];
        for (size_t k = 0; k < task->count; k++)
            t->kernels->add_f32(t->history_gradient + task->items[k] * dim,
                                t->item_gradients + (task->first_item + k) * dim, dim);
    }
    for (size_t h = 0; h < SEQUENCE_HEADS; h++) {
        float sum[SEQUENCE_DIM_MAX] = { 0 };
        for (size_t i = 0; i < t->task_count; i++)
            t->kernels->add_f32(sum, t->scale_gradients + (i * SEQUENCE_HEADS + h) * dim, dim);
        adam(t, t->model->scale[h], t->scale_mean[h], t->scale_square[h], sum, dim, 0);
    }
}

static void update_items(void *context, size_t begin, size_t end, int worker)
{
    struct trainer *t = context;
    size_t dim = t->model->dim, at = begin * dim, count = (end - begin) * dim;
    (void)worker;
    adam(t, t->model->history + at, t->history_mean + at, t->history_square + at,
         t->history_gradient + at, count, t->settings.decay);
    memset(t->history_gradient + at, 0, count * sizeof *t->history_gradient);
}

/* ---- steps ------------------------------------------------------------------------------- */

static void run_step(struct trainer *t, double total_steps)
{
    double step = (double)++t->step, rest = 1 - step / total_steps;
    t->rate = t->settings.rate * (float)((step < 20 ? step / 20 : 1) * (rest > 0.05 ? rest : 0.05));
    t->correct1 = (float)(1 / (1 - pow((double)beta1, step)));
    t->correct2 = (float)(1 / (1 - pow((double)beta2, step)));
    thread_pool_each(t->pool, t->task_count, encode_list, t);
    thread_pool_each(t->pool, t->panels, panel_logits, t);
    thread_pool_each(t->pool, (t->rows + ROW_BLOCK - 1) / ROW_BLOCK, softmax_block, t);
    thread_pool_each(t->pool, t->panels, update_panel, t);
    thread_pool_each(t->pool, t->task_count, unwind_list, t);
    add_gradients(t);
    thread_pool_run(t->pool, t->model->items, update_items, t);
    t->task_count = t->rows = t->gradient_items = 0;
}

/* Adds a list to the step, with at most positions_max of its positions, ascending. */
static enum akin_status add_list(struct trainer *t, size_t list, size_t epoch,
                                 struct akin_error *error)
{
    size_t begin = t->lists->offsets[list], end = t->lists->offsets[list + 1];
    begin = end - begin > SEQUENCE_LIST_MAX ? end - SEQUENCE_LIST_MAX : begin;
    if (end - begin < 2)
        return AKIN_OK;
    struct rng rng;
    rng_seed(&rng, (t->settings.seed * 4096 + epoch) * 0x100000001u + list);
    struct list_task task = { .items = t->lists->items + begin, .count = end - begin,
                              .first = t->rows, .first_item = t->gradient_items,
                              .seed = rng_next(&rng) };
    size_t wanted = task.count - 1 < t->settings.positions_max ? task.count - 1
                                                               : t->settings.positions_max;
    for (size_t c = 1; c < task.count; c++)     /* each set of that size is as likely */
        if (rng_below(&rng, task.count - c) < wanted - task.rows) {
            t->row_task[t->rows + task.rows] = (uint32_t)t->task_count;
            t->positions[t->rows + task.rows++] = (uint32_t)c;
        }
    size_t floats;
    if (!size_mul(t->gradient_items + task.count, t->model->dim, &floats) ||
        !array_reserve((void **)&t->item_gradients, &t->gradient_capacity, floats,
                       sizeof *t->item_gradients))
        return error_memory(error);
    t->rows += task.rows;
    t->gradient_items += task.count;
    t->tasks[t->task_count++] = task;
    return AKIN_OK;
}

static enum akin_status run_epoch(struct trainer *t, size_t epoch, uint32_t *order,
                                  double total_steps, struct akin_error *error)
{
    const struct akin_progress *progress = &t->settings.progress;
    size_t count = t->lists->count;
    struct rng rng;
    rng_seed(&rng, t->settings.seed * 4096 + epoch);
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    rng_shuffle(&rng, order, count);
    for (size_t i = 0; i < count; i++) {
        TRY(add_list(t, order[i], epoch, error));
        if (t->rows < t->settings.batch && (i + 1 < count || !t->rows))
            continue;
        run_step(t, total_steps);
        if (progress->update &&
            !progress->update(progress->cookie, "learning what comes next",
                              epoch * count + i + 1, t->settings.epochs * count))
            return error_set(error, AKIN_CANCELLED, "interrupted");
    }
    return AKIN_OK;
}

static enum akin_status run_epochs(struct trainer *t, struct akin_error *error)
{
    double total = 0;
    for (size_t u = 0; u < t->lists->count; u++) {
        size_t count = t->lists->offsets[u + 1] - t->lists->offsets[u];
        size_t positions = count < 2 ? 0 : count - 1;
        total += (double)(positions < t->settings.positions_max ? positions
                                                                : t->settings.positions_max);
    }
    total *= (double)t->settings.epochs / (double)t->settings.batch;
    uint32_t *order = memory_alloc(t->lists->count, sizeof *order);
    enum akin_status status = order ? AKIN_OK : error_memory(error);
    for (size_t epoch = 0; status == AKIN_OK && epoch < t->settings.epochs; epoch++)
        status = run_epoch(t, epoch, order, total, error);
    memory_free(order);
    return status;
}

/* ---- memory ------------------------------------------------------------------------------ */

static void start_model(struct trainer *t, const double *counts)
{
    struct sequence_model *m = t->model;
    struct rng rng;
    double mean = 0;
    rng_seed(&rng, t->settings.seed);
    for (size_t i = 0; i < m->items * m->dim; i++)
        m->history[i] = 0.05f * rng_normal(&rng);
    for (size_t i = 0; i < m->items; i++) {
        for (size_t d = 0; d < m->dim; d++)
            *sequence_output(m, i, d) = 0.05f * rng_normal(&rng);
        mean += log1p(counts[i]) / (double)m->items;
    }
    for (size_t i = 0; i < m->items; i++)
        *sequence_output(m, i, m->dim) = (float)(log1p(counts[i]) - mean);
    for (size_t h = 0; h < SEQUENCE_HEADS; h++) {
        for (size_t d = 0; d < m->dim; d++)
            m->scale[h][d] = 1;
        for (size_t age = 0; age < SEQUENCE_LIST_MAX; age++) {
            t->weights[h][age] = sequence_weight(h, age);
            t->totals[h][age + 1] = t->totals[h][age] + t->weights[h][age];
        }
    }
    for (size_t p = 0; p < t->panels; p++)
        turn_panel(t, p);
}

static bool trainer_init(struct trainer *t)
{
    size_t dim = t->model->dim, items = t->model->items, nr = t->nr, rows = t->row_max;
    size_t mixed = rows * SEQUENCE_HEADS, positions = t->settings.positions_max * SEQUENCE_HEADS;
    size_t scratch = (SEQUENCE_LIST_MAX + positions) * t->dim_padded +
                     SEQUENCE_LIST_MAX * positions + (dim + 1) * nr;
    t->history_gradient = memory_alloc(items * dim, sizeof(float));
    t->history_mean = memory_alloc(items * dim, sizeof(float));
    t->history_square = memory_alloc(items * dim, sizeof(float));
    t->output_mean = memory_alloc(t->panels * nr * (dim + 1), sizeof(float));
    t->output_square = memory_alloc(t->panels * nr * (dim + 1), sizeof(float));
    t->turned = memory_alloc(t->panels * nr * t->dim_padded, sizeof(float));
    t->tasks = memory_alloc(rows, sizeof *t->tasks);
    t->positions = memory_alloc(rows, sizeof *t->positions);
    t->row_task = memory_alloc(rows, sizeof *t->row_task);
    t->mix = memory_alloc(mixed * SEQUENCE_LIST_MAX, sizeof(float));
    t->encoded = memory_alloc(mixed * dim, sizeof(float));
    t->users = memory_alloc(rows * (dim + 1), sizeof(float));
    t->users_turned = memory_alloc(rows * (dim + 1), sizeof(float));
    t->users_gradient = memory_alloc(rows * dim, sizeof(float));
    t->logits = memory_alloc_aligned(t->panels * nr * rows, sizeof(float));
    t->scale_gradients = memory_alloc(mixed * dim, sizeof(float));
    t->scratch = memory_alloc((size_t)thread_pool_size(t->pool), sizeof *t->scratch);
    bool done = t->scratch != NULL;
    for (int w = 0; done && w < thread_pool_size(t->pool); w++)
        done = (t->scratch[w] = memory_alloc(scratch, sizeof(float))) != NULL;
    return done && t->history_gradient && t->history_mean && t->history_square &&
           t->output_mean && t->output_square && t->turned && t->tasks && t->positions &&
           t->row_task && t->mix && t->encoded && t->users && t->users_turned &&
           t->users_gradient && t->logits && t->scale_gradients;
}

static void trainer_deinit(struct trainer *t)
{
    void *blocks[] = { t->history_gradient, t->history_mean, t->history_square, t->output_mean,
                       t->output_square, t->turned, t->tasks, t->positions, t->row_task, t->mix,
                       t->encoded, t->users, t->users_turned, t->users_gradient, t->logits,
                       t->item_gradients, t->scale_gradients };
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        memory_free(blocks[i]);
    for (int w = 0; t->scratch && w < thread_pool_size(t->pool); w++)
        memory_free(t->scratch[w]);
    memory_free(t->scratch);
}

enum akin_status sequence_train(const struct kernels *kernels, struct thread_pool *pool,
                                const struct item_lists *lists, const double *counts,
                                const struct sequence_settings *settings,
                                struct sequence_model *model, struct akin_error *error)
{
    ASSERT(settings->batch && settings->positions_max && settings->dropout < 1);
    struct sequence_model made;
    TRY(sequence_model_init(kernels, lists->item_count, settings->dim, &made, error));
    size_t nr = made.nr;
    struct trainer *t = memory_alloc(1, sizeof *t);
    enum akin_status status = t ? AKIN_OK : error_memory(error);
    if (status == AKIN_OK) {
        *t = (struct trainer){ .kernels = kernels, .pool = pool, .lists = lists,
                               .settings = *settings, .model = &made, .nr = nr,
                               .panels = made.panel_count,
                               .dim_padded = (made.dim + nr - 1) / nr * nr,
                               .row_max = settings->batch + settings->positions_max };
        status = trainer_init(t) ? AKIN_OK : error_memory(error);
        if (status == AKIN_OK) {
            start_model(t, counts);
            status = run_epochs(t, error);
        }
        trainer_deinit(t);
        memory_free(t);
    }
    if (status == AKIN_OK)
        *model = made;
    else
        sequence_model_deinit(&made);
    return status;
}
