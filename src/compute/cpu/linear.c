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

/* Sizes and memory; the weights follow. */
static bool linear_init(struct linear *l)
{
    static const size_t bytes[] = {
        [COMPUTE_FP32] = sizeof(float), [COMPUTE_BF16] = 2, [COMPUTE_INT8] = 1
    };
    size_t count;
    l->padded = round_up(l->out, l->blocks.nr);
    l->pieces = l->precision == COMPUTE_INT8 && l->in >= INT8_PIECES_FROM ? INT8_PIECES : 1;
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

/* One panel times a block of rows, `depth` deep from `k0`; behind the last piece the
 * activation. */
static void panel_times_block(const struct linear *w, enum activation activation, const float *x,
                              float *out, size_t rows, size_t first, size_t k0, size_t depth)
{
    const struct kernels *k = w->kernels;
    size_t cols = min_size(k->gemm.nr, w->out - first);
    const float *panel = (const float *)w->panels + first * w->in + k0 * k->gemm.nr;
    for (size_t r = 0; r < rows; r += k->gemm.mr) {
        size_t live = min_size(k->gemm.mr, rows - r);
        float *to = out + r * w->out + first;
        k->gemm_f32(to, w->out, x + r * w->in + k0, w->in, panel, depth, live, cols,
                    w->bias + first, k0 > 0);
        if (k0 + depth == w->in)
            activate_tile(w, activation, to, w->out, live, cols);
    }
}

/* A block of rows times all panels; threads may share the panels. */
struct block {
    const struct linear *w;
    enum activation activation;
    const float *x;             /* [rows][in] */
    float *out;                 /* [rows][out] */
    size_t rows;
};

static void block_panels(void *context, size_t begin, size_t end, int worker)
{
    const struct block *b = context;
    size_t nr = b->w->blocks.nr, depth = b->w->blocks.depth, in = b->w->in;
    (void)worker;
    for (size_t k0 = 0; k0 < in; k0 += depth)
        for (size_t panel = begin; panel < end; panel++)
            panel_times_block(b->w, b->activation, b->x, b->out, b->rows, panel * nr, k0,
                              min_size(depth, in - k0));
}

void cpu_linear(struct lane *lane, struct tensor *out, const struct tensor *x,
                const struct linear *w, enum activation activation)
{
    ASSERT(x->cols == w->in && out->cols == w->out && x->rows == out->rows);
    if (w->precision != COMPUTE_FP32) {
        narrow_linear(lane, out, x, w, activation);
        return;
    }
    const struct gemm_blocks *blocks = &w->blocks;
    for (size_t r = 0; r < x->rows; r += blocks->rows) {
        struct block block = { .w = w, .activation = activation, .x = x->data + r * w->in,
                               .out = out->data + r * w->out,
                               .rows = min_size(blocks->rows, x->rows - r) };
        lane_share(lane, w->padded / blocks->nr, block_panels, &block);
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
    for (size_t r = 0; r < x->rows; r += wide->rows) {
        size_t rows = min_size(wide->rows, x->rows - r);
        struct tensor from = { x->data + r * x->cols, rows, x->cols },
                      inner = { wide->data, rows, wide->cols },
                      to = { out->data + r * out->cols, rows, out->cols };
        cpu_linear(lane, &inner, &from, up, activation);
        cpu_linear(lane, &to, &inner, down, ACTIVATION_NONE);
    }
}
