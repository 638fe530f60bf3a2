/* Packed weights of eight and sixteen bits to rows and back. The panels are those that
 * backend_cpu.h describes; how floats are narrowed is narrow.c's affair and not repeated here. */
#include "compute/stored.h"

#include <string.h>

#include "base/limits.h"
#include "compute/cpu/backend_cpu.h"

/* Where input k of output c lies: an index into panels of bytes, or of halves. */
static size_t panel_index(const struct linear *l, size_t c, size_t k)
{
    size_t nr = l->blocks.nr, group = l->precision == COMPUTE_INT8 ? 4 : 2;
    size_t first = c / nr * nr * l->depth + k / l->piece * l->piece * nr;
    size_t in_piece = k % l->piece;
    return first + (in_piece / group * nr + c % nr) * group + in_piece % group;
}

bool cpu_linear_describe(const struct linear *l, struct stored_linear *stored)
{
    if (l->precision == COMPUTE_FP32)
        return false;
    *stored = (struct stored_linear){ .precision = l->precision, .out = l->out, .in = l->in,
                                      .piece = min_size(l->piece, l->in),
                                      .input_factor = l->factor };
    return true;
}

void cpu_linear_store(const struct linear *l, void *values, float *scales)
{
    bool int8 = l->precision == COMPUTE_INT8;
    size_t pieces = stored_pieces(l->in, l->piece);
    for (size_t c = 0; c < l->out; c++) {
        for (size_t k = 0; k < l->in; k++) {
            size_t at = panel_index(l, c, k);
            if (int8)
                ((int8_t *)values)[c * l->in + k] = ((const int8_t *)l->panels)[at];
            else
                memcpy((char *)values + 2 * (c * l->in + k), (const uint16_t *)l->panels + at, 2);
        }
        for (size_t piece = 0; int8 && piece < pieces; piece++)
            scales[c * pieces + piece] = l->scale[piece * l->padded + c];
    }
}

/* ---- and back --------------------------------------------------------------------------- */

/* A linear of one output and as many inputs, for its sizes: they are linear.c's to choose. */
static enum akin_status pattern(struct backend *backend, const struct stored_linear *stored,
                                struct linear **linear, struct akin_error *error)
{
    float *zeros = memory_alloc(stored->in, sizeof *zeros);
    if (!zeros)
        return error_memory(error);
    struct host_matrix row = { .data = zeros, .type = ELEMENT_F32, .rows = 1, .cols = stored->in };
    enum akin_status status =
        cpu_linear_create(backend, &row, NULL, NULL, stored->precision, linear, error);
    memory_free(zeros);
    return status;
}

/* Gives it room for all outputs; zeros behind the last one. */
static bool grow(struct linear *l, const struct stored_linear *stored)
{
    size_t count;
    memory_free(l->panels);
    memory_free(l->bias);
    memory_free(l->scale);
    memory_free(l->sum);
    l->panels = NULL;
    l->bias = l->scale = l->sum = NULL;
    l->out = stored->out;
    l->padded = round_up(l->out, l->blocks.nr);
    if (!size_mul(l->padded, l->depth, &count))
        return false;
    size_t bytes = l->precision == COMPUTE_INT8 ? 1 : 2;
    l->panels = memory_alloc_aligned(count, bytes);
    l->bias = memory_alloc(l->padded, sizeof *l->bias);
    if (l->precision == COMPUTE_INT8) {
        l->scale = memory_alloc(l->pieces * l->padded, sizeof *l->scale);
        l->sum = memory_alloc(l->pieces * l->padded, sizeof *l->sum);
    }
    if (stored->input_factor) {
        l->factor = memory_alloc(l->in, sizeof *l->factor);
        if (l->factor)
            memcpy(l->factor, stored->input_factor, l->in * sizeof *l->factor);
    }
    if (l->panels)
        memset(l->panels, 0, count * bytes);
    return l->panels && l->bias && (l->precision != COMPUTE_INT8 || (l->scale && l->sum)) &&
           (!stored->input_factor || l->factor);
}

/* Output c of int8, and the sums of its pieces. */
static void fill_bytes(struct linear *l, const int8_t *row, size_t c)
{
    size_t nr = l->blocks.nr;
    for (size_t k = 0, piece = 0; piece < l->pieces; piece++) {
        size_t end = min_size(l->in, (piece + 1) * l->piece), at = panel_index(l, c, k);
        int8_t *to = (int8_t *)l->panels + at;
        int32_t sum = 0;
        for (size_t i = 0; k < end; i++, k++) {
            to[i / 4 * nr * 4 + i % 4] = row[k];
            sum += row[k];
        }
        l->sum[piece * l->padded + c] = (float)sum;
    }
}

static void fill(struct linear *l, const struct stored_linear *stored)
{
    size_t nr = l->blocks.nr;
    for (size_t c = 0; c < l->out; c++) {
        if (l->precision == COMPUTE_INT8) {
            fill_bytes(l, (const int8_t *)stored->values + c * l->in, c);
            for (size_t piece = 0; piece < l->pieces; piece++)
                l->scale[piece * l->padded + c] = stored->scales[c * l->pieces + piece];
            continue;
        }
        const char *row = (const char *)stored->values + 2 * c * l->in;
        uint16_t *to = (uint16_t *)l->panels + panel_index(l, c, 0);
        for (size_t k = 0; k < l->in; k++)
            memcpy(to + k / 2 * nr * 2 + k % 2, row + 2 * k, 2);
    }
}

enum akin_status cpu_linear_restore(struct backend *backend, const struct stored_linear *stored,
                                    const float *bias, struct linear **linear,
                                    struct akin_error *error)
{
    struct linear *l;
    if (!stored->out || stored->out > VOCABULARY_MAX || stored->precision == COMPUTE_FP32)
        return error_set(error, AKIN_ARGUMENT, "stored weights of %zu outputs", stored->out);
    TRY(pattern(backend, stored, &l, error));
    enum akin_status status = AKIN_OK;
    /* A linear whose last pieces are empty has more pieces than are stored. */
    if (stored->piece != min_size(l->piece, l->in) ||
        stored_pieces(l->in, stored->piece) != l->pieces)
        status = error_set(error, AKIN_FORMAT,
                           "stored weights in pieces of %zu inputs; this processor's kernels "
                           "take %zu", stored->piece, l->piece);
    else if (!grow(l, stored))
        status = error_memory(error);
    if (status != AKIN_OK) {
        cpu_linear_destroy(&l);
        return status;
    }
    fill(l, stored);
    if (bias)
        memcpy(l->bias, bias, l->out * sizeof *bias);
    *linear = l;
    return AKIN_OK;
}
