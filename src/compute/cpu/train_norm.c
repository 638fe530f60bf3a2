/* LayerNorm of the CPU device of training: rows in blocks on the pool, and the gradients of gain
 * and offset over columns, each adding the rows in order. Nothing is kept from the way forward: the
 * moments of a row cost less than reading them back. */
#include "base/thread.h"
#include "compute/cpu/train_cpu.h"

struct norm_work {
    struct cpu_train *train;
    const struct train_norm *norm;
    const float *x;
    float *y;                   /* or the gradient */
    float (*moments)[2];
    size_t rows;
};

static size_t blocks_of(size_t rows)
{
    return (rows + TRAIN_ROWS - 1) / TRAIN_ROWS;
}

static size_t rows_of(size_t block, size_t rows)
{
    size_t left = rows - block * TRAIN_ROWS;
    return left < TRAIN_ROWS ? left : TRAIN_ROWS;
}

void norm_rows(const struct train_worker *worker, const struct train_norm *norm, const float *s,
               size_t rows, float *y)
{
    for (size_t r = 0; r < rows; r++)
        worker->train->kernels.layernorm_f32(y + r * norm->dim, s + r * norm->dim, NULL, norm->gain,
                                             norm->offset, TRAIN_EPSILON, norm->dim);
}

void norm_rows_backward(const struct train_worker *worker, const struct train_norm *norm,
                        const float *s, size_t rows, float *gradient)
{
    worker->train->rows.norm_backward(gradient, s, norm->gain, rows, norm->dim);
}

static void forward_rows(void *context, size_t begin, size_t end, int worker)
{
    const struct norm_work *w = context;
    for (size_t block = begin; block < end; block++) {
        size_t at = block * TRAIN_ROWS * w->norm->dim;
        norm_rows(&w->train->workers[worker], w->norm, w->x + at, rows_of(block, w->rows),
                  w->y + at);
    }
}

static void backward_rows(void *context, size_t begin, size_t end, int worker)
{
    const struct norm_work *w = context;
    for (size_t block = begin; block < end; block++) {
        size_t at = block * TRAIN_ROWS * w->norm->dim;
        norm_rows_backward(&w->train->workers[worker], w->norm, w->x + at, rows_of(block, w->rows),
                           w->y + at);
    }
}

static void moment_rows(void *context, size_t begin, size_t end, int worker)
{
    const struct norm_work *w = context;
    (void)worker;
    for (size_t block = begin; block < end; block++)
        w->train->rows.norm_moments(w->moments + block * TRAIN_ROWS,
                                    w->x + block * TRAIN_ROWS * w->norm->dim,
                                    rows_of(block, w->rows), w->norm->dim);
}

enum { COLUMNS = 16 };

static void gradient_columns(void *context, size_t begin, size_t end, int worker)
{
    const struct norm_work *w = context;
    (void)worker;
    size_t first = begin * COLUMNS, dim = w->norm->dim;
    size_t cols = (end * COLUMNS < dim ? end * COLUMNS : dim) - first;
    w->train->rows.norm_gradients(w->norm->gain_gradient + first, w->norm->offset_gradient + first,
                                  w->y + first, w->x + first, (const float (*)[2])w->moments, dim,
                                  w->rows, cols);
}

void norm_gradients(struct cpu_train *train, const struct train_norm *norm, const float *s,
                    const float *gradient, size_t rows, float (*moments)[2])
{
    if (!norm->gain_gradient || !norm->offset_gradient)
        return;
    /* the gradient is only read */
    struct norm_work work = { train, norm, s, (float *)gradient, moments, rows };
    thread_pool_run(train->pool, blocks_of(rows), moment_rows, &work);
    thread_pool_run(train->pool, (norm->dim + COLUMNS - 1) / COLUMNS, gradient_columns, &work);
}

void cpu_norm_forward(struct train_device *device, const struct train_norm *norm, const float *x,
                      size_t rows, float *y)
{
    struct cpu_train *train = cpu_train_of(device);
    struct norm_work work = { .train = train, .norm = norm, .x = x, .y = y, .rows = rows };
    thread_pool_run(train->pool, blocks_of(rows), forward_rows, &work);
}

void cpu_norm_backward(struct train_device *device, const struct train_norm *norm, const float *x,
                       size_t rows, float *gradient)
{
    struct cpu_train *train = cpu_train_of(device);
    struct norm_work work = { .train = train, .norm = norm, .x = x, .y = gradient, .rows = rows };
    if (!train_reserve(train, 0, rows * sizeof *work.moments))
        return;
    work.moments = arena_alloc(&train->shared, rows, sizeof *work.moments);
    norm_gradients(train, norm, x, gradient, rows, work.moments);
    thread_pool_run(train->pool, blocks_of(rows), backward_rows, &work);
}
