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
    BIAS_PANELS = 4,        /* of outputs whose bias is summed at once */
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
    t->products.pack_pairs_f32(to, nr, step, rows, inputs, live, inputs);
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
            t->products.pack_f32(floats + first * nr, nr, step, rows, l->inputs, live, l->inputs);
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

size_t panels_bytes(const struct cpu_train *train, size_t cols, size_t width, size_t rows)
{
    return scratch_bytes(panels_of(cols, width) * width * depth_of(train, rows), sizeof(float));
}

void pack_panels(const struct cpu_train *train, const struct panels *to, struct operand x,
                 size_t first, size_t rows)
{
    const struct train_kernels *k = &train->products;
    size_t width = to->width, step = to->depth * width;
    float *floats = to->values;
    uint32_t *pairs = to->values;
    if (train->precision == TRAIN_FP32)
        k->pack_f32(floats + first * width, width, step, x.values, x.stride, rows, to->cols);
    else if (x.narrow)
        k->pack_pairs_bf16(pairs + first / 2 * width, width, step, x.values, x.stride, rows,
                           to->cols);
    else
        k->pack_pairs_f32(pairs + first / 2 * width, width, step, x.values, x.stride, rows,
                          to->cols);
}

struct panels panels_of_rows(const struct cpu_train *train, size_t cols, size_t width, size_t rows,
                             void *values)
{
    return (struct panels){ values, cols, width, depth_of(train, rows) };
}

struct gradient {
    struct cpu_train *train;
    const struct train_linear *linear;
    const struct panels *dy, *x;
    const float *weights;       /* of the rows in the sums of the bias; NULL: ones */
};

static void gradient_tile(const struct gradient *g, size_t o, size_t i)
{
    const struct train_kernels *k = &g->train->products;
    const struct train_linear *l = g->linear;
    size_t mr = k->product.mr, nr = k->product.nr, depth = g->dy->depth;
    size_t rows = smaller(mr, l->outputs - o), cols = smaller(nr, l->inputs - i);
    float *out = l->weight_gradient + o * l->inputs + i;
    if (g->train->precision == TRAIN_FP32)
        k->product_f32(out, l->inputs, (const float *)g->dy->values + o * depth, 1, mr,
                       (const float *)g->x->values + i * depth, nr, depth, rows, cols, NULL, true);
    else
        k->product_bf16(out, l->inputs, (const uint32_t *)g->dy->values + o * depth, 1, mr,
                        (const uint32_t *)g->x->values + i * depth, nr, depth, rows, cols, NULL,
                        true);
}

/* Of panels [first, end) of the outputs. */
static void gradient_bias(const struct gradient *g, size_t first, size_t end)
{
    const struct train_kernels *k = &g->train->products;
    size_t mr = k->product.mr, o = first * mr, step = g->dy->depth * mr;
    size_t cols = smaller(end * mr, g->linear->outputs) - o;
    float *sums = g->linear->bias_gradient + o;
    if (g->train->precision == TRAIN_FP32)
        k->sum_panels_f32(sums, (const float *)g->dy->values + o * g->dy->depth, mr, step,
                          g->dy->depth, cols, g->weights);
    else
        k->sum_panels_bf16(sums, (const uint32_t *)g->dy->values + o * g->dy->depth, mr, step,
                           g->dy->depth, cols, g->weights);
}

/* Tile t is panel t % across of the inputs and t / across of the outputs; a few panels of dy stay
 * in the second-level cache meanwhile. Whoever has the first tile of a panel has its bias. */
static void gradient_tiles(void *context, size_t begin, size_t end, int worker)
{
    const struct gradient *g = context;
    size_t mr = g->train->products.product.mr, nr = g->train->products.product.nr;
    size_t across = panels_of(g->linear->inputs, nr), next = panels_of(begin, across);
    size_t last = panels_of(end, across);
    (void)worker;
    for (size_t tile = begin; tile < end; tile++) {
        if (tile / across == next && g->linear->bias_gradient) {
            size_t few = smaller(next + BIAS_PANELS, last);
            gradient_bias(g, next, few);
            next = few;
        }
        gradient_tile(g, tile / across * mr, tile % across * nr);
    }
}

void gradient_add(struct cpu_train *train, const struct train_linear *linear,
                  const struct panels *dy, const struct panels *x, const float *weights)
{
    struct gradient g = { train, linear, dy, x, weights };
    if (linear->weight_gradient)
        thread_pool_run(train->pool, panels_of(linear->outputs, dy->width) *
                        panels_of(linear->inputs, x->width), gradient_tiles, &g);
}

/* Rows of both operands, from the first of a chunk on, and the panels they become. */
struct pack {
    const struct cpu_train *train;
    struct operand dy, x;
    struct panels left, right;
    size_t rows;
};

static void pack_operands(void *context, size_t begin, size_t end, int worker)
{
    const struct pack *p = context;
    size_t first = begin * PACK_ROWS, rows = smaller(end * PACK_ROWS, p->rows) - first;
    struct operand dy = p->dy, x = p->x;
    (void)worker;
    dy.values = row_of(&dy, first);
    x.values = row_of(&x, first);
    pack_panels(p->train, &p->left, dy, first, rows);
    pack_panels(p->train, &p->right, x, first, rows);
}

size_t gradient_scratch_bytes(const struct cpu_train *train, const struct train_linear *linear,
                              size_t rows)
{
    size_t chunk = smaller(rows, GRADIENT_ROWS);
    return panels_bytes(train, linear->outputs, train->products.product.mr, chunk) +
           panels_bytes(train, linear->inputs, train->products.product.nr, chunk);
}

void product_gradient(struct cpu_train *train, const struct train_linear *linear,
                      struct operand dy, struct operand x, size_t rows)
{
    size_t mr = train->products.product.mr, nr = train->products.product.nr;
    size_t used = train->shared.used;
    size_t left = panels_bytes(train, linear->outputs, mr, smaller(rows, GRADIENT_ROWS));
    char *panels = arena_alloc(&train->shared, 1, gradient_scratch_bytes(train, linear, rows));
    ASSERT(panels);
    for (size_t r = 0; r < rows && linear->weight_gradient; r += GRADIENT_ROWS) {
        size_t live = smaller(GRADIENT_ROWS, rows - r);
        struct pack p = { .train = train, .dy = dy, .x = x, .rows = live,
                          .left = panels_of_rows(train, linear->outputs, mr, live, panels),
                          .right = panels_of_rows(train, linear->inputs, nr, live, panels + left) };
        p.dy.values = row_of(&dy, r);
        p.x.values = row_of(&x, r);
        thread_pool_run(train->pool, (live + PACK_ROWS - 1) / PACK_ROWS, pack_operands, &p);
        gradient_add(train, linear, &p.left, &p.right, NULL);
    }
    train->shared.used = used;
}
