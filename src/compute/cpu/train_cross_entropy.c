/* The projection to the vocabulary, its loss and all gradients, without the logits of more than a
 * chunk of rows: blocks of rows make their logits, turn them into gradients where they lie, and
 * multiply these by the weight; then the gradient of the weight takes the chunk. */
#include <math.h>

#include "base/thread.h"
#include "compute/cpu/train_cpu.h"

enum {
    BLOCK_ROWS = 24,        /* whose logits, and the weight passing by, fit a second-level cache */
    CHUNK_BLOCKS = 10,      /* at least; even for the pairs of bfloat16 */
    LINE = 16,              /* numbers: rows lie an odd number of lines apart, else those of a power
                               of two evict each other */
};

struct entropy {
    struct cpu_train *train;
    const struct train_linear *projection;
    const int32_t *labels;  /* of this chunk, as what follows */
    const float *x;
    float *gradient;        /* may be NULL */
    void *logits;           /* [rows][stride]: their gradients, float32 or bfloat16 */
    double *losses;         /* [rows] */
    float factor;
    size_t rows, stride;
};

/* The losses of a block, and what follows from them in place of the logits [rows][stride]. */
static void losses_of(const struct entropy *e, float *logits, size_t first, size_t rows)
{
    const struct cpu_train *t = e->train;
    size_t cols = e->projection->outputs;
    for (size_t r = 0; r < rows; r++) {
        float *row = logits + r * e->stride, sums[2], *of_label = row + e->labels[first + r];
        double label = (double)*of_label;
        t->products.softmax_f32(row, cols, e->factor, sums);
        e->losses[first + r] = (double)sums[0] + log((double)sums[1]) - label;
        *of_label -= e->factor;
    }
}

static void entropy_blocks(void *context, size_t begin, size_t end, int worker)
{
    const struct entropy *e = context;
    const struct cpu_train *t = e->train;
    const struct train_linear *l = e->projection;
    struct train_worker *w = &e->train->workers[worker];
    bool narrow = t->precision != TRAIN_FP32;
    size_t used = w->scratch.used;
    float *block = narrow ? arena_alloc(&w->scratch, BLOCK_ROWS * e->stride, sizeof *block) : NULL;
    for (size_t first = begin * BLOCK_ROWS; first < end * BLOCK_ROWS && first < e->rows;
         first += BLOCK_ROWS) {
        size_t rows = e->rows - first < BLOCK_ROWS ? e->rows - first : BLOCK_ROWS;
        float *logits = narrow ? block : (float *)e->logits + first * e->stride;
        struct operand x = { e->x + first * l->inputs, l->inputs, false };
        product_forward(w, l, x, rows, logits, e->stride);
        losses_of(e, logits, first, rows);
        if (!e->gradient)
            continue;
        struct operand dy = { logits, e->stride, narrow };
        if (narrow) {
            uint16_t *halves = (uint16_t *)e->logits + first * e->stride;
            for (size_t r = 0; r < rows; r++)
                t->kernels.narrow_bf16(halves + r * e->stride, logits + r * e->stride, l->outputs,
                                       operand_stride(l->outputs));
            dy.values = halves;
        }
        product_backward(w, l, dy, rows, e->gradient + first * l->inputs, l->inputs, false);
    }
    w->scratch.used = used;
}

/* An odd number of cache lines, for either precision. */
static size_t logits_stride(const struct cpu_train *t, size_t cols)
{
    size_t line = t->precision == TRAIN_FP32 ? LINE : 2 * LINE, lines = (cols + line - 1) / line;
    return (lines | 1) * line;
}

void cpu_cross_entropy(struct train_device *device, const struct train_pass *pass,
                       const struct train_linear *projection, const int32_t *labels,
                       const float *x, size_t rows, double row_weight, double *loss_sum,
                       float *gradient)
{
    struct cpu_train *t = cpu_train_of(device);
    size_t blocks = (size_t)t->worker_count > CHUNK_BLOCKS / 2
                    ? 2 * (size_t)t->worker_count : CHUNK_BLOCKS;
    size_t chunk = blocks * BLOCK_ROWS, stride = logits_stride(t, projection->outputs);
    size_t number = t->precision == TRAIN_FP32 ? sizeof(float) : sizeof(uint16_t);
    size_t worker = scratch_bytes(BLOCK_ROWS * stride, sizeof(float)) +
                    product_scratch_bytes(t, projection);
    size_t left = gradient_worker_bytes(t, chunk);
    if (!train_reserve(t, worker > left ? worker : left,
                       scratch_bytes(chunk * stride, number) +
                       scratch_bytes(chunk, sizeof(double)) +
                       gradient_scratch_bytes(t, projection, chunk)))
        return;
    struct entropy e = { .train = t, .projection = projection, .stride = stride,
                         .factor = (float)((double)pass->loss_scale * row_weight) };
    e.logits = arena_alloc(&t->shared, chunk * stride, number);
    e.losses = arena_alloc(&t->shared, chunk, sizeof *e.losses);
    for (size_t first = 0; first < rows; first += chunk) {
        e.rows = rows - first < chunk ? rows - first : chunk;
        e.labels = labels + first;
        e.x = x + first * projection->inputs;
        e.gradient = gradient ? gradient + first * projection->inputs : NULL;
        thread_pool_run(t->pool, (e.rows + BLOCK_ROWS - 1) / BLOCK_ROWS, entropy_blocks, &e);
        for (size_t r = 0; r < e.rows; r++)
            *loss_sum += e.losses[r];
        struct operand dy = { e.logits, stride, t->precision != TRAIN_FP32 };
        struct operand rows_of_x = { e.x, projection->inputs, false };
        if (gradient)
            product_gradient(t, projection, dy, rows_of_x, e.rows);
    }
}
