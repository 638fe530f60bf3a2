/* The three matrix products of a linear map that learns: y = x W^T + b, dx = dy W and
 * dW = dy^T x. The first two take a block of rows and weights packed once a step; the third packs
 * the rows of both operands into panels and runs over tiles of the weight, so that each of its
 * numbers is one chain of multiply-adds over the rows, in order. In bfloat16 pairs lie along what
 * is summed over: inputs, outputs or rows. */
#include <string.h>

#include "base/thread.h"
#include "compute/cpu/train_cpu.h"

enum {
    DEPTH = 512,            /* numbers of a depth that a panel keeps in the second-level cache */
    GRADIENT_ROWS = 512,    /* rows that are packed at a time; even */
    PACK_ROWS = 32,         /* of them by one item of the phase; even */
    LEFT_PANELS = 4,        /* of outputs that a worker packs at a time */
};

/* Weights as product_f32 or product_bf16 read them from the right: panels of nr columns, zeros
 * behind the last column, elements float32 or pairs. */
struct packed {
    void *forward;          /* [outputs / nr][depth of inputs][nr] */
    void *backward;         /* [inputs / nr][depth of outputs][nr] */
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t panels_of(size_t cols, size_t width)
{
    return (cols + width - 1) / width;
}

/* Elements along what is summed over: numbers, or pairs. */
static size_t depth_of(const struct cpu_train *t, size_t numbers)
{
    return t->precision == TRAIN_FP32 ? numbers : (numbers + 1) / 2;
}

static size_t row_bytes(const struct operand *x)
{
    return x->stride * (x->narrow ? sizeof(uint16_t) : sizeof(float));
}

static const void *row_of(const struct operand *x, size_t r)
{
    return (const char *)x->values + r * row_bytes(x);
}

struct operand operand_at(const struct cpu_train *train, const void *values, size_t cols, size_t r)
{
    struct operand x = { values, operand_stride(cols), train->precision != TRAIN_FP32 };
    x.values = row_of(&x, r);
    return x;
}

struct operand operand_store(const struct cpu_train *train, void *values, const float *x,
                             size_t stride, size_t rows, size_t cols)
{
    size_t padded = operand_stride(cols);
    for (size_t r = 0; r < rows; r++)
        if (train->precision == TRAIN_FP32)
            memcpy((float *)values + r * padded, x + r * stride, cols * sizeof *x);
        else
            train->kernels.narrow_bf16((uint16_t *)values + r * padded, x + r * stride, cols,
                                       padded);
    return operand_at(train, values, cols, 0);
}

/* ---- packing of weights ------------------------------------------------------------------- */

struct packing {
    struct cpu_train *train;
    const struct train_linear *linear;
    struct packed *packed;
};

/* Outputs [first, first + live) of the weight as one panel of `forward`. */
static void pack_forward(struct train_worker *w, const struct train_linear *l, void *panel,
                         size_t first, size_t live)
{
    const struct cpu_train *t = w->train;
    size_t nr = t->products.product.nr, depth = depth_of(t, l->inputs);
    const float *rows = l->weight + first * l->inputs;
    if (t->precision == TRAIN_FP32) {
        float *to = panel;
        for (size_t k = 0; k < depth; k++)
            for (size_t c = 0; c < live; c++)
                to[k * nr + c] = rows[c * l->inputs + k];
        return;
    }
    size_t used = w->scratch.used;
    uint32_t *to = panel, *pairs = arena_alloc(&w->scratch, live * depth, sizeof *pairs);
    operand_store(t, pairs, rows, l->inputs, live, l->inputs);
    for (size_t k = 0; k < depth; k++)
        for (size_t c = 0; c < live; c++)
            to[k * nr + c] = pairs[c * depth + k];
    w->scratch.used = used;
}

/* Outputs as the depth of `backward` in pairs. Rows of dy have their pairs as memory has them, the
 * earlier number in the lower half. */
static void pack_backward_pairs(const struct cpu_train *t, uint32_t *to, size_t step,
                                const float *rows, size_t live, size_t inputs)
{
    size_t nr = t->products.product.nr, pairs = (live + 1) / 2 * nr;
    t->products.pack_pairs_f32(to, nr, step, rows, inputs, live, inputs, NULL);
    for (size_t c = 0; c < inputs; c += nr, to += step)
        for (size_t i = 0; i < pairs; i++)
            to[i] = to[i] << 16 | to[i] >> 16;
}

/* A panel of `forward` of the outputs, and the same outputs as the depth of all of `backward`. */
static void pack_outputs(void *context, size_t begin, size_t end, int worker)
{
    const struct packing *p = context;
    const struct train_linear *l = p->linear;
    struct cpu_train *t = p->train;
    size_t nr = t->products.product.nr, step = depth_of(t, l->outputs) * nr;
    for (size_t panel = begin; panel < end; panel++) {
        size_t first = panel * nr, live = smaller(nr, l->outputs - first);
        char *forward = p->packed->forward;
        pack_forward(&t->workers[worker], l, forward + first * depth_of(t, l->inputs) * 4, first,
                     live);
        const float *rows = l->weight + first * l->inputs;
        float *floats = p->packed->backward;
        uint32_t *pairs = p->packed->backward;
        if (t->precision == TRAIN_FP32)
            t->products.pack_f32(floats + first * nr, nr, step, rows, l->inputs, live, l->inputs,
                                 NULL);
        else
            pack_backward_pairs(t, pairs + first / 2 * nr, step, rows, live, l->inputs);
    }
}

static size_t packing_scratch(const struct cpu_train *t, const struct train_linear *l)
{
    return t->precision == TRAIN_FP32
           ? 0 : scratch_bytes(t->products.product.nr * depth_of(t, l->inputs), sizeof(uint32_t));
}

static void *panels_alloc(const struct cpu_train *t, size_t cols, size_t numbers)
{
    size_t nr = t->products.product.nr, count = panels_of(cols, nr) * nr * depth_of(t, numbers);
    void *panels = memory_alloc_aligned(count, sizeof(float));
    if (panels)
        memset(panels, 0, count * sizeof(float));
    return panels;
}

enum akin_status cpu_linear_prepare(struct train_device *device, struct train_linear *linear,
                                    struct akin_error *error)
{
    struct cpu_train *t = cpu_train_of(device);
    struct packed *packed = linear->prepared;
    if (!packed) {
        packed = memory_alloc(1, sizeof *packed);
        linear->prepared = packed;
        if (packed) {
            packed->forward = panels_alloc(t, linear->outputs, linear->inputs);
            packed->backward = panels_alloc(t, linear->inputs, linear->outputs);
        }
        if (!packed || !packed->forward || !packed->backward) {
            cpu_linear_forget(device, linear);
            return error_set(error, AKIN_MEMORY,
                             "no memory for a packed weight of %zu x %zu numbers: a smaller model "
                             "needs less", linear->outputs, linear->inputs);
        }
    }
    if (!train_reserve(t, packing_scratch(t, linear), 0))
        return error_set(error, AKIN_MEMORY, "no memory to pack a weight of %zu x %zu numbers",
                         linear->outputs, linear->inputs);
    struct packing p = { t, linear, packed };
    thread_pool_run(t->pool, panels_of(linear->outputs, t->products.product.nr), pack_outputs, &p);
    return AKIN_OK;
}

void cpu_linear_forget(struct train_device *device, struct train_linear *linear)
{
    struct packed *packed = linear->prepared;
    (void)device;
    if (packed) {
        memory_free(packed->forward);
        memory_free(packed->backward);
    }
    memory_free(packed);
    linear->prepared = NULL;
}

/* ---- products of a block of rows ---------------------------------------------------------- */

size_t product_scratch_bytes(const struct cpu_train *train, const struct train_linear *linear)
{
    size_t widest = linear->inputs > linear->outputs ? linear->inputs : linear->outputs;
    return train->precision == TRAIN_FP32
           ? 0 : scratch_bytes(TRAIN_ROWS * operand_stride(widest), sizeof(uint16_t));
}

/* Where the products of a block go. */
struct target {
    float *out;
    size_t stride, cols;
    const float *bias;
    bool accumulate;
};

/* x [rows] of the device's precision times panels of `numbers` of depth. */
static void multiply(const struct cpu_train *t, const struct operand *x, size_t rows,
                     const void *panels, size_t numbers, const struct target *to)
{
    const struct train_kernels *k = &t->products;
    size_t mr = k->product.mr, nr = k->product.nr, depth = depth_of(t, numbers);
    size_t cut = depth_of(t, DEPTH), stride = x->narrow ? x->stride / 2 : x->stride;
    for (size_t first = 0; first < depth; first += cut) {
        size_t live = smaller(cut, depth - first);
        bool add = to->accumulate || first;
        for (size_t c = 0; c < to->cols; c += nr) {
            size_t cols = smaller(nr, to->cols - c), panel = c * depth + first * nr;
            const float *bias = to->bias ? to->bias + c : NULL;
            for (size_t r = 0; r < rows; r += mr) {
                float *out = to->out + r * to->stride + c;
                if (x->narrow)
                    k->product_bf16(out, to->stride, (const uint32_t *)row_of(x, r) + first,
                                    stride, 1, (const uint32_t *)panels + panel, nr, live,
                                    smaller(mr, rows - r), cols, bias, add);
                else
                    k->product_f32(out, to->stride, (const float *)row_of(x, r) + first, stride,
                                   1, (const float *)panels + panel, nr, live,
                                   smaller(mr, rows - r), cols, bias, add);
            }
        }
    }
}

/* The same of rows in any form, a block at a time. */
static void multiply_rows(struct train_worker *w, const struct operand *x, size_t rows,
                          const void *panels, size_t numbers, struct target to)
{
    const struct cpu_train *t = w->train;
    bool narrow = t->precision != TRAIN_FP32 && !x->narrow;
    size_t used = w->scratch.used;
    void *halves = narrow ? arena_alloc(&w->scratch, TRAIN_ROWS * operand_stride(numbers),
                                        sizeof(uint16_t)) : NULL;
    for (size_t r = 0; r < rows; r += TRAIN_ROWS) {
        size_t live = smaller(TRAIN_ROWS, rows - r);
        struct operand block = { row_of(x, r), x->stride, x->narrow };
        if (narrow)
            block = operand_store(t, halves, block.values, x->stride, live, numbers);
        multiply(t, &block, live, panels, numbers, &to);
        to.out += TRAIN_ROWS * to.stride;
    }
    w->scratch.used = used;
}

void product_forward(struct train_worker *worker, const struct train_linear *linear,
                     struct operand x, size_t rows, float *out, size_t out_stride)
{
    const struct packed *packed = linear->prepared;
    struct target to = { out, out_stride, linear->outputs, linear->bias, false };
    multiply_rows(worker, &x, rows, packed->forward, linear->inputs, to);
}

void product_backward(struct train_worker *worker, const struct train_linear *linear,
                      struct operand dy, size_t rows, float *dx, size_t dx_stride,
                      bool accumulate)
{
    const struct packed *packed = linear->prepared;
    struct target to = { dx, dx_stride, linear->inputs, NULL, accumulate };
    multiply_rows(worker, &dy, rows, packed->backward, linear->outputs, to);
}

/* ---- the gradient of a weight -------------------------------------------------------------- */

/* Rows of x as panels [inputs / nr][depth][nr] that all workers read, and of dy as panels
 * [..][depth][mr] that each worker makes of the outputs at hand; depth counts rows, or pairs of
 * rows with the earlier one in the upper half. */
struct gradient {
    struct cpu_train *train;
    const struct train_linear *linear;
    struct operand dy, x;       /* from the first row of this chunk */
    void *right;
    size_t rows, depth;
};

/* Columns [column, column + cols) of rows [first, first + rows) of x as panels, and their sums;
 * first is even. */
static void pack_rows(const struct gradient *g, const struct operand *x, size_t column, size_t cols,
                      size_t width, void *panels, size_t first, size_t rows, float *sums)
{
    const struct train_kernels *k = &g->train->products;
    size_t step = g->depth * width;
    const void *from = row_of(x, first);
    if (g->train->precision == TRAIN_FP32)
        k->pack_f32((float *)panels + first * width, width, step, (const float *)from + column,
                    x->stride, rows, cols, sums);
    else if (x->narrow)
        k->pack_pairs_bf16((uint32_t *)panels + first / 2 * width, width, step,
                           (const uint16_t *)from + column, x->stride, rows, cols, sums);
    else
        k->pack_pairs_f32((uint32_t *)panels + first / 2 * width, width, step,
                          (const float *)from + column, x->stride, rows, cols, sums);
}

static void pack_right(void *context, size_t begin, size_t end, int worker)
{
    const struct gradient *g = context;
    size_t first = begin * PACK_ROWS, rows = smaller(end * PACK_ROWS, g->rows) - first;
    (void)worker;
    pack_rows(g, &g->x, 0, g->linear->inputs, g->train->products.product.nr, g->right, first, rows,
              NULL);
}

/* The tile of outputs from o on, which `left` has, and inputs from i on. */
static void gradient_tile(const struct gradient *g, const void *left, size_t o, size_t i)
{
    const struct train_kernels *k = &g->train->products;
    const struct train_linear *l = g->linear;
    size_t mr = k->product.mr, nr = k->product.nr;
    size_t rows = smaller(mr, l->outputs - o), cols = smaller(nr, l->inputs - i);
    float *out = l->weight_gradient + o * l->inputs + i;
    if (g->train->precision == TRAIN_FP32)
        k->product_f32(out, l->inputs, left, 1, mr, (const float *)g->right + i * g->depth, nr,
                       g->depth, rows, cols, NULL, true);
    else
        k->product_bf16(out, l->inputs, left, 1, mr, (const uint32_t *)g->right + i * g->depth, nr,
                        g->depth, rows, cols, NULL, true);
}

/* Panels [o, o + count) of the outputs; the bias gets the sums of what is packed. */
static void pack_left(const struct gradient *g, size_t o, size_t count, void *panels, bool bias)
{
    size_t mr = g->train->products.product.mr, first = o * mr;
    size_t cols = smaller(count * mr, g->linear->outputs - first);
    float *sums = bias && g->linear->bias_gradient ? g->linear->bias_gradient + first : NULL;
    pack_rows(g, &g->dy, first, cols, mr, panels, 0, g->rows, sums);
}

/* Tile t is panel t % across of the inputs and t / across of the outputs. Whoever has the first of
 * a row of tiles has its bias. */
static void gradient_tiles(void *context, size_t begin, size_t end, int worker)
{
    const struct gradient *g = context;
    struct train_worker *w = &g->train->workers[worker];
    size_t mr = g->train->products.product.mr, nr = g->train->products.product.nr;
    size_t across = panels_of(g->linear->inputs, nr), last = (end - 1) / across, packed = 0, next = 0;
    size_t used = w->scratch.used;
    char *panels = arena_alloc(&w->scratch, LEFT_PANELS * mr * g->depth, sizeof(float));
    ASSERT(panels);
    for (size_t tile = begin; tile < end; tile++) {
        size_t o = tile / across;
        if (tile == begin || o == next) {
            size_t count = tile % across ? 1 : smaller(LEFT_PANELS, last + 1 - o);
            pack_left(g, o, count, panels, tile % across == 0);
            packed = o;
            next = o + count;
        }
        gradient_tile(g, panels + (o - packed) * mr * g->depth * sizeof(float), o * mr,
                      tile % across * nr);
    }
    w->scratch.used = used;
}

static size_t gradient_depth(const struct cpu_train *t, size_t rows)
{
    return depth_of(t, smaller(rows, GRADIENT_ROWS));
}

size_t gradient_scratch_bytes(const struct cpu_train *train, const struct train_linear *linear,
                              size_t rows)
{
    size_t nr = train->products.product.nr;
    return scratch_bytes(panels_of(linear->inputs, nr) * nr * gradient_depth(train, rows),
                         sizeof(float));
}

size_t gradient_worker_bytes(const struct cpu_train *train, size_t rows)
{
    return scratch_bytes(LEFT_PANELS * train->products.product.mr * gradient_depth(train, rows),
                         sizeof(float));
}

void product_gradient(struct cpu_train *train, const struct train_linear *linear,
                      struct operand dy, struct operand x, size_t rows)
{
    if (!linear->weight_gradient)
        return;
    size_t mr = train->products.product.mr, nr = train->products.product.nr;
    size_t tiles = panels_of(linear->outputs, mr) * panels_of(linear->inputs, nr);
    size_t used = train->shared.used;
    void *right = arena_alloc(&train->shared, 1, gradient_scratch_bytes(train, linear, rows));
    ASSERT(right);
    for (size_t r = 0; r < rows; r += GRADIENT_ROWS) {
        size_t live = smaller(GRADIENT_ROWS, rows - r);
        struct gradient g = { .train = train, .linear = linear, .dy = dy, .x = x, .right = right,
                              .rows = live, .depth = depth_of(train, live) };
        g.dy.values = row_of(&dy, r);
        g.x.values = row_of(&x, r);
        thread_pool_run(train->pool, (live + PACK_ROWS - 1) / PACK_ROWS, pack_right, &g);
        thread_pool_run(train->pool, tiles, gradient_tiles, &g);
    }
    train->shared.used = used;
}
