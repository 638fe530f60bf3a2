/* Linear maps in eight and sixteen bits: packing of the weights, and the loops around the
 * micro-kernels. A block of rows is narrowed once, then all panels pass by.
 *
 * int8: weights are symmetric per output, activations asymmetric per row and measured as they come
 * (no calibration). A long depth is cut into pieces with scales of their own; their dequantised
 * products are added in float32, in order. Whoever makes the linear may equalise the columns of x;
 * the division happens while x is quantised. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "compute/cpu/backend_cpu.h"

/* ---- packing ---------------------------------------------------------------------------- */

static bool invert(struct linear *l, const float *equalizer)
{
    l->factor = memory_alloc(l->in, sizeof *l->factor);
    for (size_t k = 0; l->factor && k < l->in; k++)
        l->factor[k] = 1 / equalizer[k];
    return l->factor != NULL;
}

/* Inputs of a piece: all but the last one are full. */
static size_t piece_inputs(const struct linear *l, size_t piece)
{
    return min_size(l->piece, l->in - piece * l->piece);
}

/* A piece of column c of the panels from its weights [piece_inputs]; a NaN or an infinity makes all
 * of it NaN. */
static void quantize_column(struct linear *l, size_t piece, size_t c, const float *row)
{
    size_t nr = l->blocks.nr, live = piece_inputs(l, piece), at = piece * l->padded + c;
    int8_t *to = (int8_t *)l->panels + (piece * l->padded + c / nr * nr) * l->piece + c % nr * 4;
    float largest = 0, poison = 0;
    int32_t sum = 0;
    for (size_t k = 0; k < live; k++) {
        largest = fmaxf(largest, fabsf(row[k]));
        poison += row[k] * 0;
    }
    l->scale[at] = largest / 127 + poison;
    for (size_t k = 0; k < l->piece; k++) {
        bool used = k < live && l->scale[at] >= FLT_MIN;
        int8_t value = used ? (int8_t)lrintf(row[k] / l->scale[at]) : 0;
        to[k / 4 * nr * 4 + k % 4] = value;
        sum += value;
    }
    l->sum[at] = (float)sum;
}

static void round_column(struct linear *l, size_t c, const float *row, uint16_t *halves)
{
    size_t nr = l->blocks.nr;
    uint16_t *to = (uint16_t *)l->panels + c / nr * nr * l->depth + c % nr * 2;
    l->kernels->narrow_bf16(halves, row, l->in, l->depth);
    for (size_t k = 0; k < l->depth; k++)
        to[k / 2 * nr * 2 + k % 2] = halves[k];
}

bool pack_narrow(struct linear *l, const struct host_matrix *weight, const float *equalizer)
{
    float *row = memory_alloc_aligned(l->in, sizeof *row);
    uint16_t *halves = memory_alloc_aligned(l->depth, sizeof *halves);
    bool int8 = l->precision == COMPUTE_INT8;
    bool done = row && halves;
    if (done && int8 && equalizer)
        done = invert(l, equalizer);
    for (size_t c = 0; done && c < l->padded; c++) {
        if (c < l->out)
            widen_row(l->kernels, weight, c, row);
        else
            memset(row, 0, l->in * sizeof *row);
        for (size_t k = 0; l->factor && k < l->in; k++)
            row[k] *= equalizer[k];
        for (size_t piece = 0; int8 && piece < l->pieces; piece++)
            quantize_column(l, piece, c, row + piece * l->piece);
        if (!int8)
            round_column(l, c, row, halves);
    }
    memory_free(halves);
    memory_free(row);
    return done;
}

/* ---- the product ------------------------------------------------------------------------ */

/* A block of narrowed rows times all panels; threads may share the panels. */
struct block {
    const struct narrow_scratch *s;
    const struct linear *w;
    enum activation activation;
    float *out;                 /* [rows][out] */
    size_t rows;
};

/* One panel of one piece times all rows: the first piece writes, the others add. */
static void int8_panel(const struct block *b, size_t piece, size_t first)
{
    const struct linear *w = b->w;
    size_t nr = w->blocks.nr, mr = w->blocks.mr, cols = min_size(nr, w->out - first);
    size_t at = piece * w->padded + first;
    struct s8_panel panel = { .values = (const int8_t *)w->panels + at * w->piece,
                              .scale = w->scale + at, .sum = w->sum + at,
                              .bias = w->bias + first };
    const uint8_t *bytes = (const uint8_t *)b->s->values + piece * w->piece;
    for (size_t r = 0; r < b->rows; r += mr) {
        struct u8_rows part = { .values = bytes + r * w->depth, .stride = w->depth,
                                .scale = b->s->scale[piece] + r,
                                .zero_point = b->s->zero_point[piece] + r };
        size_t live = min_size(mr, b->rows - r);
        float *to = b->out + r * w->out + first;
        w->kernels->gemm_u8s8(to, w->out, &part, &panel, w->piece, live, cols, piece > 0);
        if (piece + 1 == w->pieces)
            activate_tile(w, b->activation, to, live, cols);
    }
}

static void int8_panels(void *context, size_t begin, size_t end, int worker)
{
    const struct block *b = context;
    size_t nr = b->w->blocks.nr;
    (void)worker;
    for (size_t first = begin * nr; first < end * nr; first += nr)
        for (size_t piece = 0; piece < b->w->pieces; piece++)
            int8_panel(b, piece, first);
}

static void bf16_panels(void *context, size_t begin, size_t end, int worker)
{
    const struct block *b = context;
    const struct linear *w = b->w;
    size_t nr = w->blocks.nr, mr = w->blocks.mr;
    const uint16_t *halves = b->s->values;
    (void)worker;
    for (size_t first = begin * nr; first < end * nr; first += nr) {
        size_t cols = min_size(nr, w->out - first);
        const uint16_t *panel = (const uint16_t *)w->panels + first * w->depth;
        for (size_t r = 0; r < b->rows; r += mr) {
            size_t live = min_size(mr, b->rows - r);
            float *to = b->out + r * w->out + first;
            w->kernels->gemm_bf16(to, w->out, halves + r * w->depth, w->depth, panel, w->depth,
                                  live, cols, w->bias + first);
            activate_tile(w, b->activation, to, live, cols);
        }
    }
}

static void narrow_rows(struct narrow_scratch *s, const struct linear *w, const float *x,
                        size_t rows)
{
    const struct kernels *k = w->kernels;
    uint8_t *bytes = s->values;
    uint16_t *halves = s->values;
    for (size_t r = 0; r < rows; r++) {
        const float *row = x + r * w->in;
        for (size_t p = 0, at = 0; w->precision == COMPUTE_INT8 && p < w->pieces; p++) {
            k->quantize_u8(bytes + r * w->depth + at, row + at, w->factor ? w->factor + at : NULL,
                           piece_inputs(w, p), w->piece, &s->scale[p][r], &s->zero_point[p][r]);
            at += w->piece;
        }
        if (w->precision == COMPUTE_BF16)
            k->narrow_bf16(halves + r * w->depth, row, w->in, w->depth);
    }
}

void narrow_linear(struct lane *lane, struct tensor *out, const struct tensor *x,
                   const struct linear *w, enum activation activation)
{
    bool int8 = w->precision == COMPUTE_INT8;
    size_t step = min_size(w->blocks.rows, NARROW_BYTES / (w->depth * (int8 ? 1 : 2)));
    for (size_t r = 0; r < x->rows; r += step) {
        struct block block = { .s = &lane->narrow, .w = w, .activation = activation,
                               .out = out->data + r * w->out, .rows = min_size(step, x->rows - r) };
        narrow_rows(&lane->narrow, w, x->data + r * w->in, block.rows);
        lane_share(lane, w->padded / w->blocks.nr, int8 ? int8_panels : bf16_panels, &block);
    }
}
