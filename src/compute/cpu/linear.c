/* The matrix product over packed weights: packing, and the loops around the micro-kernel.
 *
 * Weights [out][in] are stored once as panels of nr columns, [in][nr], so that the micro-kernel
 * reads them front to back. x is used where it lies: it is read by broadcast, along its rows. The
 * loops are those of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication"
 * (2008), without the packing of x: a block of x rows stays in the second-level cache while all
 * panels pass by. Cutting the depth changes no bit (kernels.h, gemm_f32). */
#include <string.h>

#include "base/limits.h"
#include "compute/cpu/backend_cpu.h"

static enum akin_status check_shape(const struct backend *backend, const struct host_matrix *weight,
                                    enum compute_precision precision, struct akin_error *error)
{
    if (!backend->ops->supports(backend, precision))
        return error_set(error, AKIN_UNSUPPORTED,
                         "bf16 needs a processor with AVX-512 BF16, and AKIN_CPU must allow it; "
                         "ask for fp32 or int8");
    size_t in_max = precision == COMPUTE_FP32 ? VOCABULARY_MAX : NARROW_DEPTH_MAX;
    if (!weight->rows || !weight->cols || weight->rows > VOCABULARY_MAX || weight->cols > in_max)
        return error_set(error, AKIN_ARGUMENT,
                         "a weight matrix of %zu x %zu; its sizes must be in 1..%d and 1..%zu",
                         weight->rows, weight->cols, VOCABULARY_MAX, in_max);
    return AKIN_OK;
}

static bool pack_panels(struct linear *l, const struct host_matrix *weight)
{
    size_t nr = l->blocks.nr;
    float *row = memory_alloc_aligned(l->in, sizeof *row), *panels = l->panels;
    for (size_t c = 0; row && c < l->padded; c++) {
        if (c < l->out)
            widen_row(l->kernels, weight, c, row);
        else
            memset(row, 0, l->in * sizeof *row);
        float *to = panels + c / nr * nr * l->in + c % nr;
        for (size_t k = 0; k < l->in; k++)
            to[k * nr] = row[k];
    }
    memory_free(row);
    return row != NULL;
}

static size_t int8_pieces(size_t depth)
{
    return depth >= INT8_FOUR_FROM ? INT8_PIECES : depth >= INT8_TWO_FROM ? 2 : 1;
}

/* Sizes and memory; the weights follow. */
static bool linear_init(struct linear *l)
{
    static const size_t bytes[] = {
        [COMPUTE_FP32] = sizeof(float), [COMPUTE_BF16] = 2, [COMPUTE_INT8] = 1
    };
    size_t count;
    l->padded = round_up(l->out, l->blocks.nr);
    l->pieces = l->precision != COMPUTE_INT8 ? 1 : int8_pieces(l->in);
    l->piece = round_up((l->in + l->pieces - 1) / l->pieces,
                        l->pieces > 1 ? INT8_PIECE_STEP : l->blocks.granule);
    l->depth = l->pieces * l->piece;
    if (!size_mul(l->padded, l->depth, &count))
        return false;
    l->panels = memory_alloc_aligned(count, bytes[l->precision]);
    l->bias = memory_alloc(l->padded, sizeof *l->bias);
    if (l->precision == COMPUTE_INT8) {
        l->scale = memory_alloc(l->pieces * l->padded, sizeof *l->scale);
        l->sum = memory_alloc(l->pieces * l->padded, sizeof *l->sum);
    }
    return l->panels && l->bias && (l->precision != COMPUTE_INT8 || (l->scale && l->sum));
}

enum akin_status cpu_linear_create(struct backend *backend, const struct host_matrix *weight,
                                   const float *bias, const float *equalizer,
                                   enum compute_precision precision, struct linear **linear,
                                   struct akin_error *error)
{
    TRY(check_shape(backend, weight, precision, error));
    const struct kernels *k = &((struct cpu_backend *)backend)->kernels;
    struct linear *l = memory_alloc(1, sizeof *l);
    if (!l)
        return error_memory(error);
    *l = (struct linear){
        .kernels = k, .precision = precision, .in = weight->cols, .out = weight->rows,
        .blocks = precision == COMPUTE_FP32 ? k->gemm : precision == COMPUTE_INT8 ? k->u8s8
                                                                                  : k->bf16};
    bool done = linear_init(l) && (precision == COMPUTE_FP32 ? pack_panels(l, weight)
                                                             : pack_narrow(l, weight, equalizer));
    if (!done) {
        cpu_linear_destroy(&l);
        return error_memory(error);
    }
    if (bias)
        memcpy(l->bias, bias, l->out * sizeof *bias);
    *linear = l;
    return AKIN_OK;
}

void cpu_linear_destroy(struct linear **linear)
{
    if (!*linear)
        return;
    memory_free((*linear)->panels);
    memory_free((*linear)->bias);
    memory_free((*linear)->scale);
    memory_free((*linear)->sum);
    memory_free((*linear)->factor);
    memory_free(*linear);
    *linear = NULL;
}

size_t cpu_linear_bytes(const struct linear *l)
{
    size_t each = l->precision == COMPUTE_FP32 ? 4 : l->precision == COMPUTE_BF16 ? 2 : 1;
    size_t vectors = l->precision == COMPUTE_INT8 ? 1 + 2 * l->pieces : 1;
    return sizeof *l + l->padded * l->depth * each + vectors * l->padded * sizeof(float) +
           (l->factor ? l->in * sizeof(float) : 0);
}

void activate_tile(const struct linear *w, enum activation activation, float *out,
                   size_t stride, size_t rows, size_t cols)
{
    if (activation == ACTIVATION_GELU && w->precision == COMPUTE_FP32)
        w->kernels->gelu_f32(out, stride, rows, cols);
    else if (activation == ACTIVATION_GELU)
        w->kernels->gelu_rough_f32(out, stride, rows, cols);
    else if (activation == ACTIVATION_RELU)
        w->kernels->relu_f32(out, stride, rows, cols);
}

/* A block of rows times panels; threads may share the panels. x and out begin at input k0 and at
 * column `first` of w: whoever cuts the depth changes no bit. */
struct block {
    const struct linear *w;
    enum activation activation;
    const float *x;             /* [rows][x_stride] */
    float *out;                 /* [rows][out_stride] */
    size_t rows, x_stride, out_stride, first, k0, depth;
};

/* One panel, `depth` deep from `k` on (counted from k0); behind the last input the activation. */
static void panel_times_block(const struct block *b, size_t first, size_t k, size_t depth)
{
    const struct linear *w = b->w;
    size_t nr = w->blocks.nr, mr = w->blocks.mr, cols = min_size(nr, w->out - first);
    size_t from = b->k0 + k;
    const float *panel = (const float *)w->panels + first * w->in + from * nr;
    for (size_t r = 0; r < b->rows; r += mr) {
        size_t live = min_size(mr, b->rows - r);
        float *to = b->out + r * b->out_stride + first - b->first;
        w->kernels->gemm_f32(to, b->out_stride, b->x + r * b->x_stride + k, b->x_stride, panel,
                             depth, live, cols, w->bias + first, from > 0);
        if (from + depth == w->in)
            activate_tile(w, b->activation, to, b->out_stride, live, cols);
    }
}

static void block_panels(void *context, size_t begin, size_t end, int worker)
{
    const struct block *b = context;
    size_t nr = b->w->blocks.nr, step = b->w->blocks.depth;
    (void)worker;
    for (size_t k = 0; k < b->depth; k += step)
        for (size_t panel = begin; panel < end; panel++)
            panel_times_block(b, b->first + panel * nr, k, min_size(step, b->depth - k));
}

static void multiply(const struct lane *lane, struct block *block, size_t cols)
{
    size_t nr = block->w->blocks.nr;
    lane_share(lane, (cols + nr - 1) / nr, block_panels, block);
}

void cpu_linear(struct lane *lane, struct tensor *out, const struct tensor *x,
                const struct linear *w, enum activation activation)
{
    ASSERT(x->cols == w->in && out->cols == w->out && x->rows == out->rows);
    if (w->precision != COMPUTE_FP32) {
        narrow_linear(lane, out, x, w, activation);
        return;
    }
    for (size_t r = 0; r < x->rows; r += w->blocks.rows) {
        struct block block = { .w = w, .activation = activation, .x = x->data + r * w->in,
                               .out = out->data + r * w->out, .x_stride = w->in,
                               .out_stride = w->out, .depth = w->in,
                               .rows = min_size(w->blocks.rows, x->rows - r) };
        multiply(lane, &block, w->out);
    }
}

void cpu_feed_forward(struct lane *lane, struct tensor *out, const struct tensor *x,
                      struct tensor *wide, const struct linear *up, const struct linear *down,
                      enum activation activation)
{
    ASSERT(x->cols == up->in && up->out == down->in && out->cols == down->out);
    ASSERT(x->rows == out->rows && wide->rows > 0 && wide->cols == up->out);
    ASSERT(up->precision == down->precision);
    if (up->precision != COMPUTE_FP32) {
        narrow_feed_forward(lane, out, x, wide, up, down, activation);
        return;
    }
    size_t step = min_size(up->blocks.rows, wide->rows);
    size_t chunk = lane->team ? down->in : WIDE_COLUMNS;
    for (size_t r = 0; r < x->rows; r += step)
        for (size_t first = 0; first < down->in; first += chunk) {
            size_t rows = min_size(step, x->rows - r), cols = min_size(chunk, down->in - first);
            struct block in = { .w = up, .activation = activation, .x = x->data + r * up->in,
                                .out = wide->data, .rows = rows, .x_stride = up->in,
                                .out_stride = cols, .first = first, .depth = up->in };
            struct block back = { .w = down, .x = wide->data, .out = out->data + r * down->out,
                                  .rows = rows, .x_stride = cols, .out_stride = down->out,
                                  .k0 = first, .depth = cols };
            multiply(lane, &in, cols);
            multiply(lane, &back, down->out);
        }
}
