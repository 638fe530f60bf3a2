/* The feed-forward sublayer, a block of rows at a time: both products and what lies between and
 * behind them while the block is in the caches. A hidden number is positive only where neither ReLU
 * nor dropout took it, so that the way back needs neither again. */
#include <string.h>

#include "base/thread.h"
#include "compute/cpu/train_cpu.h"

enum { CHUNK_ROWS = 1024 };     /* whose gradients wait for those of the weights; even */

struct sublayer {
    struct cpu_train *train;
    const struct train_feed_forward *layer;
    struct dropout inside, behind;
    const float *x;
    float *s;                   /* saved: x + drop(down(..)), what the norm reads */
    void *hidden;               /* saved: after ReLU and dropout, [rows][inner] */
    float *y;                   /* or the gradient */
    void *down_gradient, *hidden_gradient;      /* of this chunk */
    uint64_t first_row;         /* of all ranks */
    size_t rows, first;         /* of all; of this chunk */
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static struct sublayer sublayer_of(struct train_device *device, const struct train_pass *pass,
                                   const struct train_feed_forward *layer, size_t samples,
                                   size_t rows_per_sample, const float *x, const void *saved,
                                   float *y)
{
    struct cpu_train *t = cpu_train_of(device);
    size_t rows = samples * rows_per_sample;
    char *block = (char *)saved;
    return (struct sublayer){
        .train = t, .layer = layer, .inside = dropout_of(pass, layer->site),
        .behind = dropout_of(pass, layer->site + 1), .x = x, .y = y, .hidden = block,
        .s = (float *)(block + scratch_bytes(1, operand_bytes(t, rows, layer->up.outputs))),
        .first_row = (uint64_t)pass->first_sample * rows_per_sample, .rows = rows,
    };
}

size_t cpu_feed_forward_saved_bytes(const struct train_device *device,
                                    const struct train_feed_forward *layer, size_t rows)
{
    const struct cpu_train *t = (const struct cpu_train *)device;
    return scratch_bytes(1, operand_bytes(t, rows, layer->up.outputs)) +
           rows * layer->down.outputs * sizeof(float);
}

/* The bits of a row of dropout; the buffer has those of the widest. */
static const uint8_t *keep_row(const struct sublayer *f, const struct dropout *d, size_t row,
                               size_t cols, uint8_t *keep)
{
    size_t blocks = dropout_blocks(cols);
    f->train->rows.dropout_bits(keep, d, (f->first_row + row) * blocks, blocks);
    return keep;
}

static size_t worker_bytes(const struct cpu_train *t, const struct train_feed_forward *layer)
{
    size_t inner = layer->up.outputs, dim = layer->down.outputs;
    size_t up = product_scratch_bytes(t, &layer->up), down = product_scratch_bytes(t, &layer->down);
    return scratch_bytes(TRAIN_ROWS * inner, sizeof(float)) +
           scratch_bytes(TRAIN_ROWS * dim, sizeof(float)) +
           scratch_bytes(dropout_blocks(inner > dim ? inner : dim), 1) + (up > down ? up : down);
}

/* What a block needs beside. */
struct block {
    float *inner, *dim;         /* [TRAIN_ROWS][..] */
    uint8_t *keep;
};

static struct block block_of(struct train_worker *w, const struct train_feed_forward *layer)
{
    size_t inner = layer->up.outputs, dim = layer->down.outputs;
    struct block b;
    b.inner = arena_alloc(&w->scratch, TRAIN_ROWS * inner, sizeof(float));
    b.dim = arena_alloc(&w->scratch, TRAIN_ROWS * dim, sizeof(float));
    b.keep = arena_alloc(&w->scratch, dropout_blocks(inner > dim ? inner : dim), 1);
    ASSERT(b.inner && b.dim && b.keep);
    return b;
}

/* ReLU and dropout of a block, to what is saved. */
static void hide_rows(const struct sublayer *f, struct block b, size_t first, size_t rows)
{
    const struct cpu_train *t = f->train;
    size_t inner = f->layer->up.outputs, padded = operand_stride(inner);
    bool drop = f->inside.threshold != 0;
    for (size_t r = 0; r < rows; r++) {
        size_t at = (first + r) * padded;
        const float *row = b.inner + r * inner;
        const uint8_t *keep = drop ? keep_row(f, &f->inside, first + r, inner, b.keep) : NULL;
        float scale = drop ? f->inside.scale : 1;
        if (t->precision == TRAIN_FP32) {
            t->products.hide_f32((float *)f->hidden + at, row, keep, scale, inner);
        } else {
            uint16_t *hidden = (uint16_t *)f->hidden + at;
            t->products.hide_bf16(hidden, row, keep, scale, inner);
            if (padded > inner)
                hidden[inner] = 0;
        }
    }
}

static void forward_block(const struct sublayer *f, struct train_worker *w, struct block b,
                          size_t first, size_t rows)
{
    const struct cpu_train *t = f->train;
    const struct train_feed_forward *l = f->layer;
    size_t inner = l->up.outputs, dim = l->down.outputs;
    struct operand x = { f->x + first * dim, dim, false },
                   hidden = operand_at(t, f->hidden, inner, first);
    product_forward(w, &l->up, x, rows, b.inner, inner);
    hide_rows(f, b, first, rows);
    product_forward(w, &l->down, hidden, rows, b.dim, dim);
    for (size_t r = 0; r < rows; r++) {
        const float *row = f->x + (first + r) * dim;
        float *s = f->s + (first + r) * dim, *sum = b.dim + r * dim;
        if (f->behind.threshold) {
            t->rows.dropout_add(s, row, sum, keep_row(f, &f->behind, first + r, dim, b.keep),
                                f->behind.scale, dim);
        } else {
            memcpy(s, row, dim * sizeof *s);
            t->kernels.add_f32(s, sum, dim);
        }
    }
    norm_rows(w, &l->norm, f->s + first * dim, rows, f->y + first * dim);
}

static void forward_blocks(void *context, size_t begin, size_t end, int worker)
{
    const struct sublayer *f = context;
    struct train_worker *w = &f->train->workers[worker];
    size_t used = w->scratch.used;
    struct block b = block_of(w, f->layer);
    for (size_t r = begin * TRAIN_ROWS; r < smaller(end * TRAIN_ROWS, f->rows); r += TRAIN_ROWS)
        forward_block(f, w, b, r, smaller(TRAIN_ROWS, f->rows - r));
    w->scratch.used = used;
}

void cpu_feed_forward_forward(struct train_device *device, const struct train_pass *pass,
                              const struct train_feed_forward *layer, size_t samples,
                              size_t rows_per_sample, const float *x, float *y, void *saved)
{
    struct sublayer f = sublayer_of(device, pass, layer, samples, rows_per_sample, x, saved, y);
    if (train_reserve(f.train, worker_bytes(f.train, layer), 0))
        thread_pool_run(f.train->pool, (f.rows + TRAIN_ROWS - 1) / TRAIN_ROWS, forward_blocks, &f);
}

/* `first` counts from the first row of the chunk. */
static void backward_block(const struct sublayer *f, struct train_worker *w, struct block b,
                           size_t first, size_t rows)
{
    const struct cpu_train *t = f->train;
    const struct train_feed_forward *l = f->layer;
    size_t inner = l->up.outputs, dim = l->down.outputs, at = f->first + first;
    float *gradient = f->y + at * dim, *down = gradient;
    norm_rows_backward(w, &l->norm, f->s + at * dim, rows, gradient);
    for (size_t r = 0; r < rows && f->behind.threshold; r++) {
        down = b.dim;
        t->rows.dropout_scale(down + r * dim, gradient + r * dim,
                              keep_row(f, &f->behind, at + r, dim, b.keep), f->behind.scale, dim);
    }
    struct operand dy = operand_at(t, f->down_gradient, dim, first);
    operand_store(t, (void *)dy.values, down, dim, rows, dim);
    product_backward(w, &l->down, dy, rows, b.inner, inner, false);
    float scale = f->inside.threshold ? f->inside.scale : 1;
    for (size_t r = 0; r < rows; r++) {
        struct operand hidden = operand_at(t, f->hidden, inner, at + r);
        if (hidden.narrow)
            t->products.mask_bf16(b.inner + r * inner, hidden.values, scale, inner);
        else
            t->products.mask_f32(b.inner + r * inner, hidden.values, scale, inner);
    }
    dy = operand_at(t, f->hidden_gradient, inner, first);
    operand_store(t, (void *)dy.values, b.inner, inner, rows, inner);
    product_backward(w, &l->up, dy, rows, gradient, dim, true);
}

static void backward_blocks(void *context, size_t begin, size_t end, int worker)
{
    const struct sublayer *f = context;
    struct train_worker *w = &f->train->workers[worker];
    size_t used = w->scratch.used, chunk = smaller(CHUNK_ROWS, f->rows - f->first);
    struct block b = block_of(w, f->layer);
    for (size_t r = begin * TRAIN_ROWS; r < smaller(end * TRAIN_ROWS, chunk); r += TRAIN_ROWS)
        backward_block(f, w, b, r, smaller(TRAIN_ROWS, chunk - r));
    w->scratch.used = used;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

void cpu_feed_forward_backward(struct train_device *device, const struct train_pass *pass,
                               const struct train_feed_forward *layer, size_t samples,
                               size_t rows_per_sample, const float *x, const void *saved,
                               float *gradient)
{
    struct sublayer f =
        sublayer_of(device, pass, layer, samples, rows_per_sample, x, saved, gradient);
    struct cpu_train *t = f.train;
    size_t inner = layer->up.outputs, dim = layer->down.outputs;
    size_t chunk = smaller(CHUNK_ROWS, f.rows);
    size_t panels = larger(gradient_scratch_bytes(t, &layer->up, chunk),
                           gradient_scratch_bytes(t, &layer->down, chunk));
    if (!train_reserve(t, worker_bytes(t, layer),
                       scratch_bytes(chunk, 2 * sizeof(float)) +
                       scratch_bytes(1, operand_bytes(t, chunk, dim)) +
                       scratch_bytes(1, operand_bytes(t, chunk, inner)) + panels))
        return;
    f.down_gradient = arena_alloc(&t->shared, 1, operand_bytes(t, chunk, dim));
    float (*moments)[2] = arena_alloc(&t->shared, chunk, sizeof *moments);
    f.hidden_gradient = arena_alloc(&t->shared, 1, operand_bytes(t, chunk, inner));
    for (; f.first < f.rows; f.first += CHUNK_ROWS) {
        size_t rows = smaller(CHUNK_ROWS, f.rows - f.first), at = f.first * dim;
        norm_gradients(t, &layer->norm, f.s + at, gradient + at, rows, moments);
        thread_pool_run(t->pool, (rows + TRAIN_ROWS - 1) / TRAIN_ROWS, backward_blocks, &f);
        product_gradient(t, &layer->down, operand_at(t, f.down_gradient, dim, 0),
                         operand_at(t, f.hidden, inner, f.first), rows);
        struct operand rows_of_x = { x + at, dim, false };
        product_gradient(t, &layer->up, operand_at(t, f.hidden_gradient, inner, 0), rows_of_x,
                         rows);
    }
}
