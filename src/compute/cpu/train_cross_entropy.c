/* The projection to the vocabulary, its loss and all gradients, without the logits of more than a
 * few rows. A block of rows makes its logits and e^(logit - top) of them, which stand for the
 * gradients: those are (e - [is label] sum) * factor / sum, and the last factor, one for each row,
 * is left to what the products give (dx) or take (x, the weights of the bias). Meanwhile they are
 * packed for the gradient of the weight, which takes a chunk of blocks at a time. */
#include <math.h>
#include <string.h>

#include "base/thread.h"
#include "compute/cpu/train_cpu.h"

enum {
    BLOCK_ROWS = 24,        /* whose logits, and the weight passing by, fit a second-level cache */
    CHUNK_BLOCKS = 40,      /* at least */
    LINE = 16,              /* numbers: rows lie an odd number of lines apart, else those of a power
                               of two evict each other */
};

struct entropy {
    struct cpu_train *train;
    const struct train_linear *projection;
    const int32_t *labels;  /* of this chunk, as what follows */
    const float *x;
    float *gradient;        /* may be NULL */
    struct panels left, right;
    double *losses;         /* [rows] */
    float *factors;         /* [rows] and a zero behind */
    float factor;
    size_t rows, stride;
};

/* What a worker has for a block. */
struct block {
    float *logits, *x;      /* [BLOCK_ROWS][stride], [BLOCK_ROWS][inputs] */
    uint16_t *halves;       /* [BLOCK_ROWS][stride]; bfloat16 only */
};

/* The losses of a block; logits become what stands for their gradients, in halves where they are
 * there. */
static void losses_of(const struct entropy *e, const struct block *b, size_t first, size_t rows)
{
    const struct cpu_train *t = e->train;
    size_t cols = e->projection->outputs;
    for (size_t r = 0; r < rows; r++) {
        bool counts = e->labels[first + r] >= 0;
        size_t label = counts ? (size_t)e->labels[first + r] : 0;
        float *row = b->logits + r * e->stride, of_label = row[label], sums[2];
        if (b->halves) {
            uint16_t *halves = b->halves + r * e->stride;
            t->products.exp_row_bf16(halves, row, cols, sums);
            if (cols % 2)
                halves[cols] = 0;
            float without = expf(of_label - sums[0]) - sums[1];
            t->kernels.narrow_bf16(halves + label, &without, 1, 1);
        } else {
            t->products.exp_row_f32(row, cols, sums);
            row[label] -= sums[1];
        }
        double loss = (double)sums[0] + log((double)sums[1]) - (double)of_label;
        e->losses[first + r] = counts ? loss : 0;
        e->factors[first + r] = counts ? e->factor / sums[1] : 0;
    }
}

/* Row r of to = row r of from times its factor. */
static void scale_rows(const struct entropy *e, float *to, const float *from, size_t first,
                       size_t rows)
{
    size_t cols = e->projection->inputs;
    for (size_t r = 0; r < rows; r++) {
        if (to != from)
            memcpy(to + r * cols, from + r * cols, cols * sizeof *to);
        e->train->kernels.scale_f32(to + r * cols, e->factors[first + r], cols);
    }
}

static void entropy_block(const struct entropy *e, struct train_worker *w, const struct block *b,
                          size_t first, size_t rows)
{
    const struct cpu_train *t = e->train;
    const struct train_linear *l = e->projection;
    struct operand x = { e->x + first * l->inputs, l->inputs, false };
    product_forward(w, l, x, rows, b->logits, e->stride);
    losses_of(e, b, first, rows);
    if (!e->gradient)
        return;
    float *gradient = e->gradient + first * l->inputs;
    struct operand dy = { b->logits, e->stride, false };
    if (b->halves)
        dy = (struct operand){ b->halves, e->stride, true };
    product_backward(w, l, dy, rows, gradient, l->inputs, false);
    scale_rows(e, gradient, gradient, first, rows);
    pack_panels(t, &e->left, dy, first, rows);
    scale_rows(e, b->x, x.values, first, rows);
    x.values = b->x;
    pack_panels(t, &e->right, x, first, rows);
}

static size_t worker_bytes(const struct cpu_train *t, const struct train_linear *l, size_t stride)
{
    return scratch_bytes(BLOCK_ROWS * stride, sizeof(float)) +
           scratch_bytes(BLOCK_ROWS * l->inputs, sizeof(float)) +
           scratch_bytes(BLOCK_ROWS * stride, sizeof(uint16_t)) + product_scratch_bytes(t, l);
}

static void entropy_blocks(void *context, size_t begin, size_t end, int worker)
{
    const struct entropy *e = context;
    struct train_worker *w = &e->train->workers[worker];
    size_t used = w->scratch.used;
    struct block b = {
        .logits = arena_alloc(&w->scratch, BLOCK_ROWS * e->stride, sizeof(float)),
        .x = arena_alloc(&w->scratch, BLOCK_ROWS * e->projection->inputs, sizeof(float)),
    };
    if (e->train->precision != TRAIN_FP32)
        b.halves = arena_alloc(&w->scratch, BLOCK_ROWS * e->stride, sizeof(uint16_t));
    for (size_t r = begin * BLOCK_ROWS; r < end * BLOCK_ROWS && r < e->rows; r += BLOCK_ROWS)
        entropy_block(e, w, &b, r, e->rows - r < BLOCK_ROWS ? e->rows - r : BLOCK_ROWS);
    w->scratch.used = used;
}

void cpu_cross_entropy(struct train_device *device, const struct train_pass *pass,
                       const struct train_linear *projection, const int32_t *labels,
                       const float *x, size_t rows, double row_weight, double *loss_sum,
                       float *gradient)
{
    struct cpu_train *t = cpu_train_of(device);
    size_t mr = t->products.product.mr, nr = t->products.product.nr;
    size_t workers = (size_t)t->worker_count, cols = projection->outputs;
    size_t chunk = (workers > CHUNK_BLOCKS / 2 ? 2 * workers : CHUNK_BLOCKS) * BLOCK_ROWS;
    chunk = chunk < rows ? chunk : rows;
    size_t stride = ((cols + 2 * LINE - 1) / (2 * LINE) * 2 + 1) * LINE;
    size_t left = panels_bytes(t, cols, mr, chunk);
    size_t right = panels_bytes(t, projection->inputs, nr, chunk);
    if (!train_reserve(t, worker_bytes(t, projection, stride),
                       left + right + scratch_bytes(chunk, sizeof(double)) +
                       scratch_bytes(chunk + 1, sizeof(float))))
        return;
    struct entropy e = { .train = t, .projection = projection, .stride = stride,
                         .factor = (float)((double)pass->loss_scale * row_weight) };
    char *panels = arena_alloc(&t->shared, 1, left + right);
    e.losses = arena_alloc(&t->shared, chunk, sizeof *e.losses);
    e.factors = arena_alloc(&t->shared, chunk + 1, sizeof *e.factors);
    for (size_t first = 0; first < rows; first += chunk) {
        e.rows = rows - first < chunk ? rows - first : chunk;
        e.labels = labels + first;
        e.x = x + first * projection->inputs;
        e.gradient = gradient ? gradient + first * projection->inputs : NULL;
        e.left = panels_of_rows(t, cols, mr, e.rows, panels);
        e.right = panels_of_rows(t, projection->inputs, nr, e.rows, panels + left);
        e.factors[e.rows] = 0;
        thread_pool_run(t->pool, (e.rows + BLOCK_ROWS - 1) / BLOCK_ROWS, entropy_blocks, &e);
        for (size_t r = 0; r < e.rows; r++)
            *loss_sum += e.losses[r];
        if (gradient)
            gradient_add(t, projection, &e.left, &e.right, e.factors);
    }
}
