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
    int8_t *to = (int8_t *)l->panels + c / nr * nr * l->depth + piece * l->piece * nr + c % nr * 4;
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

/* A block of narrowed rows times panels; threads may share the panels. */
struct block {
    const struct narrow_scratch *s;
    const struct linear *w;
    enum activation activation;
    float *out;                 /* [rows][stride], its first column is column `first` of w */
    size_t stride, rows, first;
};

/* One panel of one piece times all rows: the first piece writes, the others add. */
static void int8_panel(const struct block *b, size_t piece, size_t first)
{
    const struct linear *w = b->w;
    size_t nr = w->blocks.nr, mr = w->blocks.mr, cols = min_size(nr, w->out - first);
    size_t at = piece * w->padded + first;
    struct s8_panel panel = { .values = (const int8_t *)w->panels + first * w->depth +
                                        piece * w->piece * nr,
                              .scale = w->scale + at, .sum = w->sum + at,
                              .bias = w->bias + first };
    const uint8_t *bytes = (const uint8_t *)b->s->values + piece * w->piece;
    for (size_t r = 0; r < b->rows; r += mr) {
        struct u8_rows part = { .values = bytes + r * w->depth, .stride = w->depth,
                                .scale = b->s->scale[piece] + r,
                                .zero_point = b->s->zero_point[piece] + r };
        size_t live = min_size(mr, b->rows - r);
        float *to = b->out + r * b->stride + first - b->first;
        w->kernels->gemm_u8s8(to, b->stride, &part, &panel, w->piece, live, cols, piece > 0);
        if (piece + 1 == w->pieces)
            activate_tile(w, b->activation, to, b->stride, live, cols);
    }
}

static void int8_panels(void *context, size_t begin, size_t end, int worker)
{
    const struct block *b = context;
    size_t nr = b->w->blocks.nr;
    (void)worker;
    for (size_t first = b->first + begin * nr; first < b->first + end * nr; first += nr)
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
    for (size_t first = b->first + begin * nr; first < b->first + end * nr; first += nr) {
        size_t cols = min_size(nr, w->out - first);
        const uint16_t *panel = (const uint16_t *)w->panels + first * w->depth;
        for (size_t r = 0; r < b->rows; r += mr) {
            size_t live = min_size(mr, b->rows - r);
            float *to = b->out + r * b->stride + first - b->first;
            w->kernels->gemm_bf16(to, b->stride, halves + r * w->depth, w->depth, panel, w->depth,
                                  live, cols, w->bias + first);
            activate_tile(w, b->activation, to, b->stride, live, cols);
        }
    }
}

/* The next `cols` columns of a block, as many as its w has or as its stride. */
static void multiply(const struct lane *lane, struct block *block, size_t cols)
{
    size_t nr = block->w->blocks.nr;
    lane_share(lane, (cols + nr - 1) / nr,
               block->w->precision == COMPUTE_INT8 ? int8_panels : bf16_panels, block);
}

/* What the inputs [first, first + cols) of w are in its precision. x [rows][stride] begins at input
 * `first`; whole pieces only. */
static void narrow_columns(struct narrow_scratch *s, const struct linear *w, const float *x,
                           size_t stride, size_t rows, size_t first, size_t cols)
{
    const struct kernels *k = w->kernels;
    uint8_t *bytes = s->values;
    uint16_t *halves = s->values;
    size_t padded = first + cols == w->in ? w->depth - first : cols;
    for (size_t r = 0; r < rows; r++) {
        const float *row = x + r * stride;
        if (w->precision == COMPUTE_BF16)
            k->narrow_bf16(halves + r * w->depth + first, row, cols, padded);
        else
            for (size_t at = first; at < first + cols; at += w->piece)
                k->quantize_u8(bytes + r * w->depth + at, row + at - first,
                               w->factor ? w->factor + at : NULL, min_size(w->piece, w->in - at),
                               w->piece, &s->scale[at / w->piece][r],
                               &s->zero_point[at / w->piece][r]);
    }
}

/* Rows that pass through w together. */
static size_t block_rows(const struct linear *w)
{
    size_t bytes = w->precision == COMPUTE_INT8 ? 1 : 2;
    return min_size(w->blocks.rows, NARROW_BYTES / (w->depth * bytes));
}

void narrow_linear(struct lane *lane, struct tensor *out, const struct tensor *x,
                   const struct linear *w, enum activation activation)
{
    size_t step = block_rows(w);
    for (size_t r = 0; r < x->rows; r += step) {
        struct block block = { .s = &lane->narrow, .w = w, .activation = activation,
                               .out = out->data + r * w->out, .stride = w->out,
                               .rows = min_size(step, x->rows - r) };
        narrow_columns(&lane->narrow, w, x->data + r * w->in, w->in, block.rows, 0, w->in);
        multiply(lane, &block, w->out);
    }
}

void narrow_feed_forward(struct lane *lane, struct tensor *out, const struct tensor *x,
                         struct tensor *wide, const struct linear *up, const struct linear *down,
                         enum activation activation)
{
    size_t step = min_size(min_size(block_rows(up), block_rows(down)), wide->rows);
    size_t chunk = lane->team                            ? down->in
                   : down->precision == COMPUTE_INT8 ? down->piece
                                                     : WIDE_COLUMNS;
    for (size_t r = 0; r < x->rows; r += step) {
        size_t rows = min_size(step, x->rows - r);
        narrow_columns(&lane->narrow, up, x->data + r * up->in, up->in, rows, 0, up->in);
        for (size_t first = 0; first < down->in; first += chunk) {
            size_t cols = min_size(chunk, down->in - first);
            struct block block = { .s = &lane->narrow, .w = up, .activation = activation,
                                   .out = wide->data, .stride = cols, .rows = rows,
                                   .first = first };
            multiply(lane, &block, cols);
            narrow_columns(&lane->narrow_wide, down, wide->data, cols, rows, first, cols);
        }
        struct block block = { .s = &lane->narrow_wide, .w = down, .activation = ACTIVATION_NONE,
                               .out = out->data + r * down->out, .stride = down->out,
                               .rows = rows };
        multiply(lane, &block, down->out);
    }
}
