/* Every operation of the CPU backend (src/compute/backend.h) against the formula computed in double
 * here, on the shapes of MiniLM-L6, MiniLM-L12 and e5-small and on odd ones, with ragged lengths
 * from 1 to 512 tokens; and the promise about bits: a sequence has the same bits alone, in a batch,
 * and at another place of the batch.
 *
 *   backendcheck --level ref|avx2|avx512|amx|amx-emulated
 *
 * Exit status: 0 fine, 1 failed, 2 wrong use, 77 this machine lacks the level. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attend_exact.h"
#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "compute/cpu/backend_cpu.h"

/* src/compute/cpu/kernels_amx.c over tests/amx_emulation.h */
void kernels_use_amx_emulated(struct kernels *k);

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define UNIT 0x1p-24

enum { SEQUENCES_MAX = 64, TABLE_ROWS = 600 };

static const char *level;
static struct backend *backend;
static const struct backend_ops *ops;
static struct rng rng;
static int checks, failures;

static void expect(bool ok, const char *op, const char *what, size_t a, size_t b, size_t c)
{
    checks++;
    if (!ok) {
        failures++;
        printf("FAILED %s.%s %zu,%zu,%zu: %s\n", op, level, a, b, c, what);
    }
}

static void *must(void *pointer)
{
    if (!pointer) {
        fputs("backendcheck: memory ran out\n", stderr);
        exit(2);
    }
    return pointer;
}

static float *random_floats(size_t count, float spread)
{
    float *x = must(memory_alloc_aligned(count, sizeof *x));
    for (size_t i = 0; i < count; i++)
        x[i] = spread * rng_normal(&rng);
    return x;
}

static struct lane *lane_of(size_t floats)
{
    struct lane *lane = NULL;
    ops->lane_create(backend, floats, &lane, NULL);
    return must(lane);
}

static struct tensor tensor_of(struct lane *lane, size_t rows, size_t cols, const float *values)
{
    struct tensor tensor = ops->tensor_take(lane, rows, cols);
    must(tensor.data);
    if (values)
        memcpy(tensor.data, values, rows * cols * sizeof *values);
    return tensor;
}

static bool same_bits(const float *a, const float *b, size_t count)
{
    return !memcmp(a, b, count * sizeof *a);
}

/* ---- batches ---------------------------------------------------------------------------- */

struct batch {
    struct packed_batch packed;
    uint32_t offsets[SEQUENCES_MAX + 1];
    int32_t *ids, *positions;
};

static void batch_init(struct batch *batch, const uint32_t *lengths, size_t sequences)
{
    uint32_t tokens = 0;
    batch->offsets[0] = 0;
    for (size_t s = 0; s < sequences; s++)
        batch->offsets[s + 1] = tokens += lengths[s];
    batch->ids = must(memory_alloc(tokens, sizeof *batch->ids));
    batch->positions = must(memory_alloc(tokens, sizeof *batch->positions));
    for (size_t s = 0; s < sequences; s++)
        for (uint32_t t = batch->offsets[s]; t < batch->offsets[s + 1]; t++) {
            batch->ids[t] = (int32_t)rng_below(&rng, TABLE_ROWS);
            batch->positions[t] = (int32_t)(t - batch->offsets[s]);
        }
    batch->packed = (struct packed_batch){ .ids = batch->ids, .positions = batch->positions,
                                           .offsets = batch->offsets, .tokens = tokens,
                                           .sequences = sequences };
}

static void batch_deinit(struct batch *batch)
{
    memory_free(batch->ids);
    memory_free(batch->positions);
}

/* ---- linear ----------------------------------------------------------------------------- */

static double activated(double x, enum activation activation)
{
    if (activation == ACTIVATION_GELU)
        return 0.5 * x * erfc(-x * M_SQRT1_2);
    return activation == ACTIVATION_RELU && x < 0 ? 0 : x;
}

/* What a weights file would hold, in the element type asked for. */
static struct host_matrix narrowed(float *values, size_t rows, size_t cols, enum element_type type)
{
    if (type == ELEMENT_F32)
        return (struct host_matrix){ values, type, rows, cols };
    uint16_t *halves = must(memory_alloc(rows * cols, sizeof *halves));
    for (size_t i = 0; i < rows * cols; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        if (type == ELEMENT_BF16)
            halves[i] = (uint16_t)(bits >> 16);
        else    /* normal numbers of half precision, cut off */
            halves[i] = (uint16_t)(bits >> 16 & 0x8000) |
                        (uint16_t)(15 + (int)rng_below(&rng, 3) - 4) << 10 |
                        (uint16_t)(bits >> 13 & 0x3ff);
    }
    struct host_matrix matrix = { halves, type, rows, cols };
    host_matrix_to_f32(&matrix, values);
    return matrix;
}

static void check_linear(size_t rows, size_t in, size_t out, enum activation activation,
                         enum element_type type)
{
    float *weight = random_floats(in * out, 0.05f), *bias = random_floats(out, 0.1f),
          *x = random_floats(rows * in, 1);
    struct host_matrix matrix = narrowed(weight, out, in, type);
    struct linear *linear = NULL;
    enum akin_status status =
        ops->linear_create(backend, &matrix, bias, NULL, COMPUTE_FP32, &linear, NULL);
    expect(status == AKIN_OK, "linear", "create", rows, in, out);
    struct lane *lane = lane_of(2 * rows * (in + out));
    struct tensor xt = tensor_of(lane, rows, in, x), y = tensor_of(lane, rows, out, NULL);
    ops->linear(lane, &y, &xt, linear, activation);
    bool right = true;
    for (size_t r = 0; r < rows; r += rows > 40 ? 13 : 1)
        for (size_t c = 0; c < out; c += out > 400 ? 7 : 1) {
            double sum = (double)bias[c], magnitude = fabs(sum);
            for (size_t k = 0; k < in; k++) {
                double term = (double)x[r * in + k] * (double)weight[c * in + k];
                sum += term;
                magnitude += fabs(term);
            }
            double exact = activated(sum, activation),
                   bound = 1.2 * ((double)in + 3) * UNIT * magnitude;
            right &= fabs((double)y.data[r * out + c] - exact) <= bound + 10 * UNIT * fabs(exact);
        }
    expect(right, "linear", "wrong value", rows, in, out);
    size_t row = rows / 2;
    struct tensor alone = tensor_of(lane, 1, in, x + row * in),
                  result = tensor_of(lane, 1, out, NULL);
    ops->linear(lane, &result, &alone, linear, activation);
    expect(same_bits(result.data, y.data + row * out, out), "linear", "a row alone has other bits",
           rows, in, out);
    expect(ops->linear_bytes(linear) >= in * out * sizeof(float), "linear", "bytes", rows, in, out);
    ops->linear_destroy(&linear);
    ops->lane_destroy(&lane);
    if (type != ELEMENT_F32)
        memory_free((void *)matrix.data);
    memory_free(weight);
    memory_free(bias);
    memory_free(x);
}

/* ---- linear in eight and sixteen bits ---------------------------------------------------- */

struct narrow_case {
    size_t rows, in, out;
    float *weight, *bias, *x, *equalizer;   /* [out][in], [out], [rows][in], [in] or NULL */
};

/* Half a level of x and of the weight in every product. */
static bool int8_right(const struct narrow_case *n, const float *y, const double *factor)
{
    double *row = must(memory_alloc(n->in, sizeof *row)),
           *column = must(memory_alloc(n->in, sizeof *column));
    bool right = true;
    for (size_t r = 0; r < n->rows; r += n->rows > 40 ? 13 : 1) {
        double low = 0, high = 0;
        for (size_t k = 0; k < n->in; k++) {
            row[k] = (double)n->x[r * n->in + k] * factor[k];
            low = fmin(low, row[k]);
            high = fmax(high, row[k]);
        }
        double half_x = (high - low) / 255 * 0.501;
        for (size_t c = 0; c < n->out; c += n->out > 400 ? 7 : 1) {
            double exact = (double)n->bias[c], largest = 0, bound = 0;
            for (size_t k = 0; k < n->in; k++) {
                column[k] = (double)n->weight[c * n->in + k] / factor[k];
                largest = fmax(largest, fabs(column[k]));
            }
            double half_w = largest / 127 * 0.501;
            for (size_t k = 0; k < n->in; k++) {
                exact += row[k] * column[k];
                bound += fabs(row[k]) * half_w + fabs(column[k]) * half_x + half_x * half_w;
            }
            /* The zero point is rounded too: the end of the range may be cut by half a level. */
            right &= fabs((double)y[r * n->out + c] - exact) <=
                     bound + half_x * largest + 1e-5 * (1 + fabs(exact));
        }
    }
    memory_free(row);
    memory_free(column);
    return right;
}

static bool bf16_right(const struct narrow_case *n, const float *y)
{
    for (size_t r = 0; r < n->rows; r += n->rows > 40 ? 13 : 1)
        for (size_t c = 0; c < n->out; c += n->out > 400 ? 7 : 1) {
            double exact = (double)n->bias[c], magnitude = fabs(exact);
            for (size_t k = 0; k < n->in; k++) {
                double term = (double)n->x[r * n->in + k] * (double)n->weight[c * n->in + k];
                exact += term;
                magnitude += fabs(term);
            }
            double bound = (0x1.02p-7 + ((double)n->in + 3) * UNIT) * magnitude;
            if (fabs((double)y[r * n->out + c] - exact) > bound)
                return false;
        }
    return true;
}

static void check_narrow(size_t rows, size_t in, size_t out, enum compute_precision precision,
                         bool equalized)
{
    const char *name = precision == COMPUTE_INT8 ? "linear int8" : "linear bf16";
    struct narrow_case n = { rows, in, out, random_floats(in * out, 0.05f),
                             random_floats(out, 0.1f), random_floats(rows * in, 1),
                             equalized ? random_floats(in, 1) : NULL };
    for (size_t k = 0; equalized && k < in; k++)    /* a few columns are much larger */
        n.equalizer[k] = k % 37 == 5 ? 40 : fabsf(n.equalizer[k]) + 0.01f;
    for (size_t i = 0; equalized && i < rows * in; i++)
        n.x[i] *= n.equalizer[i % in];
    struct host_matrix matrix = { n.weight, ELEMENT_F32, out, in };
    struct linear *linear = NULL;
    enum akin_status status =
        ops->linear_create(backend, &matrix, n.bias, n.equalizer, precision, &linear, NULL);
    expect(status == AKIN_OK, name, "create", rows, in, out);
    struct lane *lane = lane_of(4 * rows * (in + out));
    struct tensor x = tensor_of(lane, rows, in, n.x), y = tensor_of(lane, rows, out, NULL);
    ops->linear(lane, &y, &x, linear, ACTIVATION_NONE);
    double *factor = must(memory_alloc(in, sizeof *factor));
    for (size_t k = 0; k < in; k++)
        factor[k] = equalized ? 1 / (double)n.equalizer[k] : 1;
    expect(precision == COMPUTE_INT8 ? int8_right(&n, y.data, factor) : bf16_right(&n, y.data),
           name, "wrong value", rows, in, out);
    size_t row = rows / 2;
    struct tensor alone = tensor_of(lane, 1, in, n.x + row * in),
                  result = tensor_of(lane, 1, out, NULL);
    ops->linear(lane, &result, &alone, linear, ACTIVATION_NONE);
    expect(same_bits(result.data, y.data + row * out, out), name, "a row alone has other bits",
           rows, in, out);
    size_t least = in * out * (precision == COMPUTE_INT8 ? 1 : 2);
    expect(ops->linear_bytes(linear) >= least && ops->linear_bytes(linear) < 4 * least + 16384,
           name, "bytes", rows, in, out);
    n.x[row * in] = NAN;
    x = tensor_of(lane, rows, in, n.x);
    ops->linear(lane, &y, &x, linear, ACTIVATION_NONE);
    expect(isnan(y.data[row * out]) && isnan(y.data[row * out + out - 1]), name, "a NaN vanished",
           rows, in, out);
    ops->linear_destroy(&linear);
    ops->lane_destroy(&lane);
    memory_free(factor);
    memory_free(n.weight);
    memory_free(n.bias);
    memory_free(n.x);
    memory_free(n.equalizer);
}

/* ---- feed_forward ------------------------------------------------------------------------ */

static struct linear *random_linear(size_t in, size_t out, enum compute_precision precision)
{
    float *weight = random_floats(in * out, 0.05f), *bias = random_floats(out, 0.1f);
    struct host_matrix matrix = { weight, ELEMENT_F32, out, in };
    struct linear *linear = NULL;
    ops->linear_create(backend, &matrix, bias, NULL, precision, &linear, NULL);
    memory_free(weight);
    memory_free(bias);
    return must(linear);
}

/* The bits of two linears, however many rows the scratch has. */
static void check_feed_forward(size_t rows, size_t hidden, size_t inner, size_t wide_rows,
                               enum compute_precision precision, enum activation activation)
{
    struct linear *up = random_linear(hidden, inner, precision),
                  *down = random_linear(inner, hidden, precision);
    struct lane *lane = lane_of((rows + wide_rows) * (inner + 3 * hidden) + 256);
    float *values = random_floats(rows * hidden, 1);
    struct tensor x = tensor_of(lane, rows, hidden, values),
                  between = tensor_of(lane, rows, inner, NULL),
                  want = tensor_of(lane, rows, hidden, NULL),
                  got = tensor_of(lane, rows, hidden, NULL),
                  wide = tensor_of(lane, wide_rows, inner, NULL);
    ops->linear(lane, &between, &x, up, activation);
    ops->linear(lane, &want, &between, down, ACTIVATION_NONE);
    ops->feed_forward(lane, &got, &x, &wide, up, down, activation);
    expect(same_bits(got.data, want.data, rows * hidden), "feed_forward",
           "other bits than two linears", rows, hidden, inner);
    expect(same_bits(x.data, values, rows * hidden), "feed_forward", "x changed", rows, hidden,
           inner);
    ops->linear_destroy(&up);
    ops->linear_destroy(&down);
    ops->lane_destroy(&lane);
    memory_free(values);
}

static void check_feed_forwards(void)
{
    static const size_t shapes[][2] = {{384, 1536}, {48, 1030}, {64, 1025},
                                       {40, 600},   {33, 100},  {1030, 50}};
    static const size_t rows[][2] = {{1, 1}, {13, 96}, {96, 96}, {100, 7}, {130, 130}};
    for (int precision = COMPUTE_FP32; precision <= COMPUTE_INT8; precision++)
        for (size_t s = 0; s < COUNT_OF(shapes); s++)
            for (size_t r = 0; r < COUNT_OF(rows); r++)
                if (ops->supports(backend, (enum compute_precision)precision))
                    check_feed_forward(rows[r][0], shapes[s][0], shapes[s][1], rows[r][1],
                                       (enum compute_precision)precision,
                                       (enum activation)((s + r) % 3));
}

/* ---- attention -------------------------------------------------------------------------- */

static void check_attention(size_t hidden, size_t heads, const uint32_t *lengths, size_t sequences,
                            enum compute_precision precision)
{
    struct batch batch;
    batch_init(&batch, lengths, sequences);
    size_t tokens = batch.packed.tokens, dim = hidden / heads;
    float *values = random_floats(tokens * 3 * hidden, 1);
    struct lane *lane = lane_of(tokens * 4 * hidden);
    struct tensor qkv = tensor_of(lane, tokens, 3 * hidden, values),
                  out = tensor_of(lane, tokens, hidden, NULL);
    ops->attention(lane, &out, &qkv, &batch.packed, heads, precision);
    double *exact = must(memory_alloc(dim, sizeof *exact)),
           *p = must(memory_alloc(tokens, sizeof *p)),
           *bound = must(memory_alloc(dim, sizeof *bound));
    for (size_t s = 0; s < sequences; s++) {
        size_t first = batch.offsets[s], length = lengths[s];
        const float *from = values + first * 3 * hidden;
        bool right = true;
        for (size_t t = 0; t < length; t += length > 40 ? 17 : 1) {
            const float *q = from + rng_below(&rng, heads) * dim;
            struct head head = { .q = q, .k = q + hidden, .v = q + 2 * hidden,
                                 .stride = 3 * hidden, .keys = length, .dim = dim };
            const float *row = out.data + (first + t) * hidden + (q - from);
            attend_exact(&head, t, precision != COMPUTE_FP32, p, exact, bound);
            for (size_t d = 0; d < dim; d++)
                right &= fabs((double)row[d] - exact[d]) <= bound[d];
        }
        expect(right, "attention", "wrong value", hidden, heads, length);
        uint32_t alone_offsets[2] = { 0, lengths[s] };
        struct packed_batch alone = { .offsets = alone_offsets, .tokens = length, .sequences = 1 };
        struct lane *other = lane_of(length * 4 * hidden);
        struct tensor q = tensor_of(other, length, 3 * hidden, from),
                      o = tensor_of(other, length, hidden, NULL);
        ops->attention(other, &o, &q, &alone, heads, precision);
        expect(same_bits(o.data, out.data + first * hidden, length * hidden), "attention",
               "a sequence alone has other bits", hidden, heads, length);
        ops->lane_destroy(&other);
    }
    memory_free(exact);
    memory_free(p);
    memory_free(bound);
    memory_free(values);
    ops->lane_destroy(&lane);
    batch_deinit(&batch);
}

/* ---- rows ------------------------------------------------------------------------------- */

/* Compares out with the LayerNorm of sum [cols]. */
static bool layernorm_right(const float *out, const double *sum, size_t cols, const float *gamma,
                            const float *beta, double epsilon)
{
    double mean = 0, absolute = 0, squares = 0;
    for (size_t c = 0; c < cols; c++) {
        mean += sum[c];
        absolute += fabs(sum[c]);
    }
    mean /= (double)cols;
    absolute /= (double)cols;
    for (size_t c = 0; c < cols; c++)
        squares += (sum[c] - mean) * (sum[c] - mean);
    double sigma = sqrt(squares / (double)cols + epsilon);
    for (size_t c = 0; c < cols; c++) {
        double exact = (sum[c] - mean) / sigma * (double)gamma[c] + (double)beta[c];
        double bound = ((double)cols / 16 + 16) * UNIT * (fabs(sum[c]) + absolute) / sigma *
                       fabs((double)gamma[c]);
        if (fabs((double)out[c] - exact) > bound + 4 * UNIT * fabs(exact))
            return false;
    }
    return true;
}

static void check_rows(size_t hidden, const uint32_t *lengths, size_t sequences,
                       enum element_type type)
{
    struct batch batch;
    batch_init(&batch, lengths, sequences);
    size_t tokens = batch.packed.tokens;
    float *word = random_floats(TABLE_ROWS * hidden, 0.5f),
          *position = random_floats(TABLE_ROWS * hidden, 0.5f);
    float *kind = random_floats(2 * hidden, 0.5f), *gamma = random_floats(hidden, 1),
          *beta = random_floats(hidden, 1);
    struct embedding_tables tables = { .word = narrowed(word, TABLE_ROWS, hidden, type),
                                       .position = narrowed(position, TABLE_ROWS, hidden, type),
                                       .type = narrowed(kind, 2, hidden, type),
                                       .gamma = gamma, .beta = beta, .epsilon = 1e-12f };
    struct lane *lane = lane_of(8 * (tokens + sequences) * hidden);
    struct tensor x = tensor_of(lane, tokens, hidden, NULL),
                  y = tensor_of(lane, tokens, hidden, NULL);
    double *sum = must(memory_alloc(hidden, sizeof *sum));
    ops->embed_rows(lane, &x, &batch.packed, &tables);
    bool right = true;
    for (size_t t = 0; t < tokens; t++) {
        for (size_t c = 0; c < hidden; c++)
            sum[c] = (double)word[(size_t)batch.ids[t] * hidden + c] +
                     (double)position[(size_t)batch.positions[t] * hidden + c] + (double)kind[c];
        right &= layernorm_right(x.data + t * hidden, sum, hidden, gamma, beta, 1e-12);
    }
    expect(right, "embed_rows", "wrong value", hidden, tokens, type);

    for (size_t i = 0; i < tokens * hidden; i++)
        y.data[i] = rng_normal(&rng);
    struct tensor before = tensor_of(lane, tokens, hidden, x.data),
                  one = tensor_of(lane, 1, hidden, x.data);
    struct tensor one_y = tensor_of(lane, 1, hidden, y.data);
    ops->residual_layernorm(lane, &x, &y, gamma, beta, 1e-5f);
    ops->residual_layernorm(lane, &one, &one_y, gamma, beta, 1e-5f);
    right = true;
    for (size_t t = 0; t < tokens; t++) {
        for (size_t c = 0; c < hidden; c++)
            sum[c] = (double)before.data[t * hidden + c] + (double)y.data[t * hidden + c];
        right &= layernorm_right(x.data + t * hidden, sum, hidden, gamma, beta, 1e-5);
    }
    expect(right, "residual_layernorm", "wrong value", hidden, tokens, type);
    expect(same_bits(one.data, x.data, hidden), "residual_layernorm", "a row alone has other bits",
           hidden, tokens, type);

    for (int pooling = POOLING_MEAN; pooling <= POOLING_MAX; pooling++) {
        struct tensor out = tensor_of(lane, sequences, hidden, NULL);
        ops->pool(lane, &out, &x, &batch.packed, (enum pooling)pooling);
        right = true;
        for (size_t s = 0; s < sequences; s++)
            for (size_t c = 0; c < hidden; c++) {
                const float *column = x.data + batch.offsets[s] * hidden + c;
                double mean = 0, magnitude = 0, max = -INFINITY;
                for (size_t t = 0; t < lengths[s]; t++) {
                    mean += (double)column[t * hidden] / lengths[s];
                    magnitude += fabs((double)column[t * hidden]) / lengths[s];
                    max = fmax(max, (double)column[t * hidden]);
                }
                double exact = pooling == POOLING_MEAN  ? mean
                               : pooling == POOLING_CLS ? (double)column[0]
                                                        : max;
                double bound = pooling == POOLING_MEAN ? (lengths[s] + 2.0) * UNIT * magnitude : 0;
                right &= fabs((double)out.data[s * hidden + c] - exact) <= bound;
            }
        expect(right, "pool", "wrong value", hidden, tokens, (size_t)pooling);
    }
    if (type != ELEMENT_F32) {
        memory_free((void *)tables.word.data);
        memory_free((void *)tables.position.data);
        memory_free((void *)tables.type.data);
    }
    memory_free(word);
    memory_free(position);
    memory_free(kind);
    memory_free(gamma);
    memory_free(beta);
    memory_free(sum);
    ops->lane_destroy(&lane);
    batch_deinit(&batch);
}

static void check_normalize(void)
{
    static const float spreads[] = { 1, 1e-3f, 1e-20f, 1e-30f, 1e19f, 1e30f };
    enum { COLS = 385 };
    struct lane *lane = lane_of(COUNT_OF(spreads) * 2 * COLS);
    for (size_t s = 0; s < COUNT_OF(spreads); s++) {
        float *values = random_floats(COLS, spreads[s]);
        struct tensor x = tensor_of(lane, 1, COLS, values);
        double squares = 0;
        bool right = true;
        for (size_t c = 0; c < COLS; c++)
            squares += (double)values[c] * (double)values[c];
        ops->normalize(lane, &x);
        for (size_t c = 0; c < COLS; c++) {
            double exact = (double)values[c] / sqrt(squares);
            right &= fabs((double)x.data[c] - exact) <= (COLS / 2.0 + 4) * UNIT * fabs(exact);
        }
        expect(right, "normalize", "wrong value", s, COLS, 0);
        memory_free(values);
    }
    ops->lane_reset(lane);
    struct tensor zeros = tensor_of(lane, 1, COLS, NULL);
    memset(zeros.data, 0, COLS * sizeof(float));
    ops->normalize(lane, &zeros);
    bool right = true;
    for (size_t c = 0; c < COLS; c++)
        right &= zeros.data[c] == 0;
    expect(right, "normalize", "a row of zeros changed", 0, COLS, 0);
    ops->lane_destroy(&lane);
}

/* ---- main ------------------------------------------------------------------------------- */

static void check_all(void)
{
    static const size_t shapes[][2] = {{384, 1152}, {384, 384}, {384, 1536}, {1536, 384},
                                       {7, 5},      {1, 1},     {33, 100},   {600, 50}};
    static const size_t row_counts[] = { 1, 7, 33, 100 };
    for (size_t s = 0; s < COUNT_OF(shapes); s++)
        for (size_t r = 0; r < COUNT_OF(row_counts); r++)
            check_linear(row_counts[r], shapes[s][0], shapes[s][1], (enum activation)((s + r) % 3),
                         (enum element_type)(s % 3));
    for (int precision = COMPUTE_BF16; precision <= COMPUTE_INT8; precision++)
        for (size_t s = 0; s < COUNT_OF(shapes); s++)
            for (size_t r = 0; r < COUNT_OF(row_counts); r++)
                if (ops->supports(backend, (enum compute_precision)precision))
                    check_narrow(row_counts[r], shapes[s][0], shapes[s][1],
                                 (enum compute_precision)precision, (s + r) % 2);
    check_feed_forwards();
    static const uint32_t ragged[] = { 17, 1, 23, 64, 5, 12, 13, 512, 300, 256, 257 };
    static const uint32_t small[] = { 3, 1, 40, 300 };
    for (int precision = COMPUTE_FP32; precision <= COMPUTE_INT8; precision++) {
        enum compute_precision p = (enum compute_precision)precision;
        check_attention(384, 12, ragged, COUNT_OF(ragged), p);
        check_attention(128, 2, small, COUNT_OF(small), p);
        check_attention(48, 3, small, COUNT_OF(small), p);
        check_attention(260, 1, small, COUNT_OF(small), p);
        check_attention(5, 5, small, COUNT_OF(small), p);
    }
    for (int type = ELEMENT_F32; type <= ELEMENT_BF16; type++) {
        check_rows(384, ragged, 8, (enum element_type)type);
        check_rows(50, small, COUNT_OF(small), (enum element_type)type);
    }
    check_normalize();
}

int main(int argc, char **argv)
{
    unsigned flags;
    bool emulated = argc == 3 && !strcmp(argv[2], "amx-emulated");
    if (argc != 3 || strcmp(argv[1], "--level") ||
        !cpu_level(emulated ? "ref" : argv[2], cpu_detect(), &flags)) {
        fputs("usage: backendcheck --level ref|avx2|avx512|amx|amx-emulated\n", stderr);
        return 2;
    }
    level = argv[2];
    if (!emulated && strcmp(cpu_level_name(flags), level)) {
        printf("skipped: this machine has no %s\n", level);
        return 77;
    }
    rng_seed(&rng, 7);
    struct thread_pool *pool = must(thread_pool_create(1));
    cpu_backend_create(flags, pool, &backend, NULL);
    ops = ((struct backend *)must(backend))->ops;
    if (emulated) {
        struct cpu_backend *cpu = (struct cpu_backend *)backend;
        kernels_use_amx_emulated(&cpu->kernels);
        cpu->flags |= CPU_AVX512 | CPU_AVX512_BF16;
    }
    check_all();
    cpu_backend_destroy(&backend);
    thread_pool_destroy(&pool);
    printf("%s: %d checks, %d failures\n", level, checks, failures);
    return failures != 0;
}
