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
#include "compute/cpu/half.h"

/* Weights are narrowed to nothing here, but widened one at a time: they are packed once. */
static float element(const struct host_matrix *matrix, size_t index)
{
    const unsigned char *at =
        (const unsigned char *)matrix->data + index * element_bytes(matrix->type);
    if (matrix->type == ELEMENT_F32) {
        float value;
        memcpy(&value, at, sizeof value);
        return value;
    }
    uint16_t half;
    memcpy(&half, at, sizeof half);
    return matrix->type == ELEMENT_F16 ? f16_to_f32(half) : bf16_to_f32(half);
}

static void pack_panels(float *panels, const struct host_matrix *weight, size_t nr)
{
    size_t out = weight->rows, in = weight->cols;
    for (size_t first = 0; first < out; first += nr) {
        float *panel = panels + first * in;
        for (size_t c = 0; c < nr; c++)
            for (size_t k = 0; k < in; k++)
                panel[k * nr + c] = first + c < out ? element(weight, (first + c) * in + k) : 0;
    }
}

enum akin_status cpu_linear_create(struct backend *backend, const struct host_matrix *weight,
                                   const float *bias, enum compute_precision precision,
                                   struct linear **linear, struct akin_error *error)
{
    if (!backend->ops->supports(backend, precision))
        return error_set(error, AKIN_UNSUPPORTED,
                         "the CPU backend computes in fp32 only; ask for fp32");
    if (!weight->rows || !weight->cols || weight->rows > VOCABULARY_MAX ||
        weight->cols > VOCABULARY_MAX)
        return error_set(error, AKIN_ARGUMENT,
                         "a weight matrix of %zu x %zu; both sizes must be in "
                         "1..%d",
                         weight->rows, weight->cols, VOCABULARY_MAX);
    const struct kernels *k = &((struct cpu_backend *)backend)->kernels;
    size_t padded = (weight->rows + k->gemm.nr - 1) / k->gemm.nr * k->gemm.nr, floats;
    struct linear *l = memory_alloc(1, sizeof *l);
    if (!l)
        return error_memory(error);
    *l = (struct linear){
        .kernels = k, .precision = precision, .in = weight->cols, .out = weight->rows};
    if (size_mul(padded, l->in, &floats)) {
        l->panels = memory_alloc_aligned(floats, sizeof *l->panels);
        l->bias = memory_alloc_aligned(padded, sizeof *l->bias);
    }
    if (!l->panels || !l->bias) {
        cpu_linear_destroy(&l);
        return error_memory(error);
    }
    pack_panels(l->panels, weight, k->gemm.nr);
    for (size_t c = 0; c < padded; c++)
        l->bias[c] = bias && c < l->out ? bias[c] : 0;
    *linear = l;
    return AKIN_OK;
}

void cpu_linear_destroy(struct linear **linear)
{
    if (!*linear)
        return;
    memory_free((*linear)->panels);
    memory_free((*linear)->bias);
    memory_free(*linear);
    *linear = NULL;
}

size_t cpu_linear_bytes(const struct linear *linear)
{
    size_t nr = linear->kernels->gemm.nr, padded = (linear->out + nr - 1) / nr * nr;
    return sizeof *linear + (padded * linear->in + padded) * sizeof(float);
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* One panel times a block of rows, `depth` deep from `k0`; behind the last piece the activation,
 * while the block's columns are still in the first-level cache. */
static void panel_times_block(const struct linear *w, enum activation activation, const float *x,
                              float *out, size_t rows, size_t first, size_t k0, size_t depth)
{
    const struct kernels *k = w->kernels;
    size_t cols = min_size(k->gemm.nr, w->out - first);
    const float *panel = w->panels + first * w->in + k0 * k->gemm.nr;
    for (size_t r = 0; r < rows; r += k->gemm.mr)
        k->gemm_f32(out + r * w->out + first, w->out, x + r * w->in + k0, w->in, panel, depth,
                    min_size(k->gemm.mr, rows - r), cols, w->bias + first, k0 > 0);
    if (k0 + depth < w->in)
        return;
    if (activation == ACTIVATION_GELU)
        k->gelu_f32(out + first, w->out, rows, cols);
    else if (activation == ACTIVATION_RELU)
        k->relu_f32(out + first, w->out, rows, cols);
}

void cpu_linear(struct lane *lane, struct tensor *out, const struct tensor *x,
                const struct linear *w, enum activation activation)
{
    (void)lane;
    ASSERT(x->cols == w->in && out->cols == w->out && x->rows == out->rows);
    const struct gemm_blocks *blocks = &w->kernels->gemm;
    for (size_t r = 0; r < x->rows; r += blocks->rows) {
        size_t rows = min_size(blocks->rows, x->rows - r);
        for (size_t k0 = 0; k0 < w->in; k0 += blocks->depth)
            for (size_t first = 0; first < w->out; first += blocks->nr)
                panel_times_block(w, activation, x->data + r * w->in, out->data + r * w->out, rows,
                                  first, k0, min_size(blocks->depth, w->in - k0));
    }
}
