/* The loops of src/compute/cpu/train_rows.h against their contract, and their speed. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/philox.h"
#include "kernelcheck.h"

static struct dropout some_dropout(float rate)
{
    struct train_pass pass = { .dropout = rate, .seed = rng_next(&rng), .step = 77 };
    return dropout_of(&pass, 0x80000005u);
}

/* ---- dropout ---------------------------------------------------------------------------- */

/* From the definition in train_ops.h */
static bool is_kept(const struct dropout *d, uint64_t e)
{
    uint32_t words[4], key[2] = { (uint32_t)d->keys[0], (uint32_t)d->keys[1] };
    uint32_t counter[4] = { (uint32_t)(e / 8), (uint32_t)(e / 8 >> 32), d->site, d->step };
    philox_4x32(counter, key, words);
    return (words[e % 8 / 2] >> e % 2 * 16 & 0xffff) >= d->threshold;
}

void check_dropout_bits(const struct train_row_kernels *k)
{
    static const uint64_t firsts[] = { 0, 12345, 0xfffffffau, 0x123456789abull,
                                       UINT64_MAX / 8 - 99 };
    static const float rates[] = { 0.00001f, 0.1f, 0.5f, 0.9999f, 1 };
    for (size_t f = 0; f < COUNT_OF(firsts); f++)
        for (size_t blocks = 1; blocks < 40; blocks += blocks < 20 ? 1 : 7) {
            struct dropout d = some_dropout(rates[(f + blocks) % COUNT_OF(rates)]);
            at(blocks, f, d.threshold);
            uint8_t *keep = guarded_bytes(blocks);
            k->dropout_bits(keep, &d, firsts[f], blocks);
            bool right = true;
            for (size_t i = 0; i < 8 * blocks; i++)
                right &= (keep[i / 8] >> i % 8 & 1) == is_kept(&d, firsts[f] * 8 + i);
            expect(right && canary_intact(keep), "wrong bits");
            release_all();
        }
    struct dropout d = some_dropout(0.1f);
    size_t dropped = 0, all = 1 << 16;
    uint8_t *keep = guarded_bytes(all / 8);
    k->dropout_bits(keep, &d, 0, all / 8);
    for (size_t i = 0; i < all; i++)
        dropped += !(keep[i / 8] >> i % 8 & 1);
    expect(fabs((double)dropped / (double)all - 0.1) < 0.006, "not a tenth is dropped");
}

static const size_t row_counts[] = { 1, 2, 7, 8, 9, 15, 16, 17, 24, 25, 33, 48, 100, 128, 130 };

static uint8_t *random_bits(size_t count)
{
    uint8_t *keep = guarded_bytes((count + 7) / 8);
    for (size_t i = 0; i < (count + 7) / 8; i++)
        keep[i] = (uint8_t)rng_below(&rng, 256);
    return keep;
}

void check_dropout_scale(const struct train_row_kernels *k)
{
    for (size_t c = 0; c < COUNT_OF(row_counts); c++) {
        size_t count = row_counts[c];
        at(count, 0, 0);
        float *x = odd_floats(count), *out = guarded(count), *want = guarded(count);
        uint8_t *keep = random_bits(count);
        for (size_t i = 0; i < count; i++)
            want[i] = keep[i / 8] >> i % 8 & 1 ? x[i] * 1.25f : 0;
        k->dropout_scale(out, x, keep, 1.25f, count);
        expect(same_values(out, want, count) && canary_intact(out), "wrong value");
        k->dropout_scale(x, x, keep, 1.25f, count);
        expect(same_values(x, want, count), "wrong value in place");
        release_all();
    }
}

void check_dropout_add(const struct train_row_kernels *k)
{
    for (size_t c = 0; c < COUNT_OF(row_counts); c++) {
        size_t count = row_counts[c];
        at(count, 0, 0);
        float *x = random_floats(count, WIDE), *y = random_floats(count, WIDE);
        float *out = guarded(count);
        uint8_t *keep = random_bits(count);
        k->dropout_add(out, x, y, keep, 1.1f, count);
        bool right = true;
        for (size_t i = 0; i < count; i++) {
            double term = keep[i / 8] >> i % 8 & 1 ? (double)y[i] * (double)1.1f : 0;
            right &= within(out[i], (double)x[i] + term, 3 * UNIT * (fabs((double)x[i]) +
                                                                     fabs(term)));
        }
        expect(right && canary_intact(out), "wrong value");
        k->dropout_add(y, x, y, keep, 1.1f, count);
        expect(same_bits(y, out, count), "other bits in place");
        release_all();
    }
}

/* ---- norm ------------------------------------------------------------------------------- */

static const size_t dims[] = { 1, 2, 5, 16, 17, 48, 100, 128, 130, 512 };

static void exact_moments(const float *x, size_t dim, double *mean, double *inverse)
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)x[i];
    *mean = sum / (double)dim;
    for (size_t i = 0; i < dim; i++)
        square += ((double)x[i] - *mean) * ((double)x[i] - *mean);
    *inverse = 1 / sqrt(square / (double)dim + (double)TRAIN_EPSILON);
}

void check_norm_moments(const struct train_row_kernels *k)
{
    enum { ROWS = 3 };
    for (size_t d = 0; d < COUNT_OF(dims); d++) {
        size_t dim = dims[d];
        at(ROWS, dim, 0);
        float *x = random_floats(ROWS * dim, PLAIN);
        float(*moments)[2] = guarded_bytes(ROWS * sizeof *moments);
        k->norm_moments(moments, x, ROWS, dim);
        bool right = true;
        for (size_t r = 0; r < ROWS; r++) {
            double mean, inverse, n = (double)dim + 10;
            exact_moments(x + r * dim, dim, &mean, &inverse);
            right &= within(moments[r][0], mean, n * UNIT) &&
                     within(moments[r][1], inverse, n * UNIT * inverse * (1 + inverse * UNIT));
        }
        expect(right && canary_intact(moments), "wrong value");
        release_all();
    }
}

void check_norm_backward(const struct train_row_kernels *k)
{
    enum { ROWS = 3 };
    for (size_t d = 1; d < COUNT_OF(dims); d++) {
        size_t dim = dims[d];
        at(ROWS, dim, 0);
        float *x = random_floats(ROWS * dim, PLAIN), *gain = random_floats(dim, PLAIN);
        float *gradient = random_floats(ROWS * dim, PLAIN), *was = copy_of(gradient, ROWS * dim);
        float *alone = copy_of(gradient + dim, dim);
        k->norm_backward(gradient, x, gain, ROWS, dim);
        bool right = true;
        for (size_t r = 0; r < ROWS; r++) {
            double mean, inverse, sum = 0, product = 0, sums = 0, products = 0;
            exact_moments(x + r * dim, dim, &mean, &inverse);
            for (size_t i = r * dim; i < (r + 1) * dim; i++) {
                double g = (double)was[i] * (double)gain[i - r * dim];
                double n = ((double)x[i] - mean) * inverse;
                sum += g / (double)dim, product += g * n / (double)dim;
                sums += fabs(g) / (double)dim, products += fabs(g * n) / (double)dim;
            }
            for (size_t i = r * dim; i < (r + 1) * dim; i++) {
                double g = (double)was[i] * (double)gain[i - r * dim];
                double n = ((double)x[i] - mean) * inverse;
                /* an error of n of (dim + 10) u inverse, in each place where it stands */
                double bound = ((double)dim + 10) * UNIT * inverse * (1 + inverse) *
                               (fabs(g) + sums + 3 * (fabs(n) + 1) * (products + sums));
                right &= within(gradient[i], inverse * (g - sum - n * product), bound);
            }
        }
        expect(right && canary_intact(gradient), "wrong value");
        k->norm_backward(alone, x + dim, gain, 1, dim);
        expect(same_bits(alone, gradient + dim, dim), "a row alone has other bits");
        release_all();
    }
}

void check_norm_gradients(const struct train_row_kernels *k)
{
    for (size_t rows = 1; rows < 60; rows += 13)
        for (size_t c = 0; c < COUNT_OF(row_counts); c++) {
            size_t cols = row_counts[c], stride = cols + 3, all = (rows - 1) * stride + cols;
            at(rows, cols, 0);
            float *x = random_floats(all, PLAIN), *gradient = random_floats(all, PLAIN);
            float *start = random_floats(2 * cols, PLAIN), *gain = copy_of(start, cols),
                  *offset = copy_of(start + cols, cols);
            float *half[2] = { copy_of(gain, cols), copy_of(offset, cols) };
            const float(*m)[2] = (const float(*)[2])random_floats(2 * rows, PLAIN);
            k->norm_gradients(gain, offset, gradient, x, m, stride, rows, cols);
            bool right = canary_intact(gain) && canary_intact(offset);
            for (size_t i = 0; i < cols; i++) {
                double sums[2] = { (double)start[i], (double)start[cols + i] };
                double sizes[2] = { fabs(sums[0]), fabs(sums[1]) };
                for (size_t r = 0; r < rows; r++) {
                    double g = (double)gradient[r * stride + i];
                    double d = (double)x[r * stride + i] - (double)m[r][0];
                    sums[0] += g * d * (double)m[r][1], sums[1] += g;
                    sizes[0] += fabs(g * d * (double)m[r][1]), sizes[1] += fabs(g);
                }
                right &= within(gain[i], sums[0], ((double)rows + 5) * UNIT * sizes[0]) &&
                         within(offset[i], sums[1], ((double)rows + 2) * UNIT * sizes[1]);
            }
            expect(right, "wrong value");
            size_t first = rows / 2;
            k->norm_gradients(half[0], half[1], gradient, x, m, stride, first, cols);
            k->norm_gradients(half[0], half[1], gradient + first * stride, x + first * stride,
                              m + first, stride, rows - first, cols);
            expect(same_bits(half[0], gain, cols) && same_bits(half[1], offset, cols),
                   "two calls have other bits than one");
            release_all();
        }
}

/* ---- attention -------------------------------------------------------------------------- */

enum { GAP = 5 };

struct attend_case {
    size_t queries, keys, dim;
    bool causal, half;
    float rate, size;           /* of dropout; of q */
};

/* q, k, v (whichever they are) as float32 beside, for the exact result. */
struct tensors {
    struct attend_head head;
    float *numbers[3];          /* [rows][dim] */
    float *out, *out_gradient, *gradients[3];
    void *saved;                /* what the way back reads of out */
    size_t stride;
};

static uint16_t rounded_half(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float widened(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static struct tensors random_tensors(const struct attend_case *c, const struct dropout *d)
{
    size_t rows[] = { c->queries, c->keys, c->keys }, stride = c->dim + GAP;
    struct tensors t = { .stride = stride };
    const void *parts[3];
    for (size_t i = 0; i < 3; i++) {
        size_t count = (rows[i] - 1) * stride + c->dim;
        float *x = guarded(count);
        uint16_t *halves = guarded_bytes(2 * count);
        t.numbers[i] = guarded(rows[i] * c->dim);
        t.gradients[i] = guarded(count);
        for (size_t j = 0; j < count; j++) {
            size_t row = j / stride, col = j % stride;
            float value = col < c->dim ? (2 * rng_float(&rng) - 1) * (i ? 1 : c->size) : NAN;
            halves[j] = rounded_half(value);
            x[j] = value;
            t.gradients[i][j] = 7;
            if (col < c->dim)
                t.numbers[i][row * c->dim + col] = c->half ? widened(halves[j]) : value;
        }
        parts[i] = c->half ? (const void *)halves : x;
    }
    size_t outs = (c->queries - 1) * stride + c->dim;
    t.out = guarded(outs);
    for (size_t i = 0; i < outs; i++)
        t.out[i] = 7;
    t.out_gradient = random_floats(outs, PLAIN);
    size_t bytes = (attend_train_scratch_bytes(c->queries, c->keys, c->dim) + 63) / 64 * 64;
    t.head = (struct attend_head){
        .q = parts[0], .k = parts[1], .v = parts[2], .q_stride = stride, .kv_stride = stride,
        .queries = c->queries, .keys = c->keys, .dim = c->dim, .causal = c->causal,
        .half = c->half, .dropout = d, .block = 0xffffff00u, .top = guarded(c->queries),
        .inverse = guarded(c->queries), .scratch = guarded_bytes(bytes)
    };
    memset(t.head.scratch, 0xff, bytes);    /* NaN */
    return t;
}

/* Everything in double, from the definition; and the sums of the magnitudes of the terms. */
struct exact {
    double *out, *gradients[3], *out_size, *sizes[3];
    double *weights, *slopes;   /* [keys] */
};

static void add_term(double *sum, double *size, double term, double magnitude)
{
    *sum += term;
    *size += magnitude;
}

static void exact_query(const struct attend_case *c, const struct tensors *t, struct exact *e,
                        size_t i)
{
    size_t keys = c->causal && i + 1 < c->keys ? i + 1 : c->keys, dim = c->dim;
    const struct dropout *d = t->head.dropout;
    const float *q = t->numbers[0] + i * dim, *gradient = t->out_gradient + i * t->stride;
    double top = -INFINITY, total = 0, delta = 0, delta_size = 0, scale = 1 / sqrt((double)dim);
    double kept = d->threshold ? 65536.0 / (65536 - d->threshold) : 1;
    for (size_t j = 0; j < keys; j++) {
        double sum = 0;
        for (size_t n = 0; n < dim; n++)
            sum += (double)q[n] * (double)t->numbers[1][j * dim + n];
        e->weights[j] = sum * scale;
        top = fmax(top, e->weights[j]);
    }
    for (size_t j = 0; j < keys; j++)
        total += e->weights[j] = exp(e->weights[j] - top);
    for (size_t j = 0; j < keys; j++) {
        uint64_t number = (t->head.block + i * dropout_blocks(c->keys)) * 8 + j;
        double factor = d->threshold && !is_kept(d, number) ? 0 : kept, slope = 0, size = 0;
        e->weights[j] /= total;
        for (size_t n = 0; n < dim; n++) {
            double v = (double)t->numbers[2][j * dim + n], g = (double)gradient[n];
            double w = e->weights[j] * factor;
            add_term(&e->out[i * dim + n], &e->out_size[i * dim + n], w * v, fabs(w * v));
            add_term(&e->gradients[2][j * dim + n], &e->sizes[2][j * dim + n], w * g, fabs(w * g));
            add_term(&slope, &size, g * v * factor, fabs(g * v * factor));
        }
        e->slopes[j] = slope;
        delta += slope * e->weights[j];
        delta_size += size * e->weights[j];
    }
    for (size_t j = 0; j < keys; j++)
        for (size_t n = 0; n < dim; n++) {
            double s = e->weights[j] * (e->slopes[j] - delta) * scale;
            double magnitude = e->weights[j] * (fabs(e->slopes[j]) + delta_size) * scale;
            double k = (double)t->numbers[1][j * dim + n];
            add_term(&e->gradients[0][i * dim + n], &e->sizes[0][i * dim + n], s * k,
                     magnitude * fabs(k));
            add_term(&e->gradients[1][j * dim + n], &e->sizes[1][j * dim + n], s * (double)q[n],
                     magnitude * fabs((double)q[n]));
        }
}

static double *zeros(size_t count)
{
    double *x = guarded_bytes(count * sizeof *x);
    memset(x, 0, count * sizeof *x);
    return x;
}

static struct exact exact_of(const struct attend_case *c, const struct tensors *t)
{
    size_t queries = c->queries * c->dim, keys = c->keys * c->dim;
    struct exact e = { .out = zeros(queries), .out_size = zeros(queries),
                       .weights = zeros(c->keys), .slopes = zeros(c->keys),
                       .gradients = { zeros(queries), zeros(keys), zeros(keys) },
                       .sizes = { zeros(queries), zeros(keys), zeros(keys) } };
    for (size_t i = 0; i < c->queries; i++)
        exact_query(c, t, &e, i);
    return e;
}

/* Whether the norm of the error is small beside that of the terms; and what lies between rows is
 * still 7. */
static bool close_to(const float *x, size_t stride, const double *exact, const double *sizes,
                     size_t rows, size_t dim, double share)
{
    double error = 0, norm = 0;
    for (size_t r = 0; r < rows; r++) {
        for (size_t d = 0; d < dim; d++) {
            double off = (double)x[r * stride + d] - exact[r * dim + d];
            error += off * off;
            norm += sizes[r * dim + d] * sizes[r * dim + d];
        }
        for (size_t g = dim; g < stride && r + 1 < rows; g++)
            if (x[r * stride + g] != 7)
                return false;
    }
    return sqrt(error) <= share * sqrt(norm);
}

static void save_out(struct tensors *t, const struct attend_case *c)
{
    size_t count = (c->queries - 1) * t->stride + c->dim;
    uint16_t *halves = guarded_bytes(2 * count);
    for (size_t i = 0; i < count; i++)
        halves[i] = rounded_half(t->out[i]);
    t->saved = c->half ? (void *)halves : t->out;
}

static void attend_both(const struct train_row_kernels *k, struct tensors *t,
                        const struct attend_case *c)
{
    k->attend_forward(&t->head, t->out, t->stride);
    save_out(t, c);
    struct attend_gradients g = {
        .out_gradient = t->out_gradient, .out = t->saved, .q = t->gradients[0],
        .k = t->gradients[1], .v = t->gradients[2], .stride = t->stride, .out_stride = t->stride,
        .q_stride = t->stride, .kv_stride = t->stride
    };
    k->attend_backward(&t->head, &g);
}

/* What a rounding does, and scores of some size multiply. */
static double share_of(const struct attend_case *c)
{
    double score = 1 + (double)c->size * sqrt((double)c->dim) / 3;
    return (c->half ? 0x1p-8 : 4 * UNIT) * score;
}

static void attend_case(const struct train_row_kernels *k, struct attend_case c)
{
    at(c.queries, c.keys, c.dim);
    struct dropout d = some_dropout(c.rate);
    struct tensors t = random_tensors(&c, &d);
    attend_both(k, &t, &c);
    struct exact e = exact_of(&c, &t);
    double share = share_of(&c);
    size_t rows[] = { c.queries, c.keys, c.keys };
    expect(close_to(t.out, t.stride, e.out, e.out_size, c.queries, c.dim, share), "wrong result");
    static const char *const wrong[] = { "wrong gradient of q", "wrong gradient of k",
                                         "wrong gradient of v" };
    for (size_t i = 0; i < 3; i++)
        expect(close_to(t.gradients[i], t.stride, e.gradients[i], e.sizes[i], rows[i], c.dim,
                        share), wrong[i]);
    expect(canary_intact(t.out) && canary_intact(t.gradients[0]) && canary_intact(t.gradients[1]) &&
           canary_intact(t.gradients[2]) && canary_intact(t.head.scratch),
           "wrote where it may not");
    if (train_rows_peer && !c.half) {
        size_t outs = (c.queries - 1) * t.stride + c.dim, keys = (c.keys - 1) * t.stride + c.dim;
        float *first[] = { copy_of(t.gradients[0], outs), copy_of(t.gradients[1], keys),
                           copy_of(t.gradients[2], keys) };
        attend_both(train_rows_peer, &t, &c);
        expect(same_bits(first[0], t.gradients[0], outs) &&
               same_bits(first[1], t.gradients[1], keys) &&
               same_bits(first[2], t.gradients[2], keys), "other bits than the level below");
    }
    release_all();
}

static void attend_cases(const struct train_row_kernels *k, bool half)
{
    static const size_t lengths[] = { 1, 2, 7, 16, 31, 32, 33, 63, 64, 65, 96, 100, 129 };
    static const size_t head_dims[] = { 32, 16, 64, 1, 5, 24, 33, 48, 80 };
    for (size_t i = 0; i < COUNT_OF(lengths); i++)
        for (size_t d = 0; d < COUNT_OF(head_dims); d += d == 0 ? 1 : 1 + i % 3)
            for (int kind = 0; kind < 4; kind++)
                attend_case(k, (struct attend_case){
                    lengths[i], kind == 2 ? lengths[COUNT_OF(lengths) - 1 - i] : lengths[i],
                    head_dims[d], kind == 1 || kind == 3, half, kind == 0 ? 0 : 0.1f,
                    kind == 3 ? 8 : 1 });
    attend_case(k, (struct attend_case){ 300, 280, 32, false, half, 0.1f, 1 });
    attend_case(k, (struct attend_case){ 255, 255, 32, true, half, 0.5f, 1 });
    attend_case(k, (struct attend_case){ 20, 33, 32, true, half, 0.5f, 1 });
    attend_case(k, (struct attend_case){ 40, 7, 32, true, half, 0.5f, 1 });
}

void check_attend_forward(const struct train_row_kernels *k)
{
    attend_cases(k, false);
}

/* Both ways are checked together, here in sixteen bits. */
void check_attend_backward(const struct train_row_kernels *k)
{
    attend_cases(k, true);
}

/* ---- speed ------------------------------------------------------------------------------ */

enum { BENCH_LENGTH = 256, BENCH_WIDTH = 128, BENCH_HEAD = 32, BENCH_SIZE = 3 * 256 * 128 };

static struct {
    float *a, *b, *c, *scratch, *top, *inverse;
    uint8_t *keep;
    struct dropout dropout;
} data;

static void run_dropout_bits(const struct train_row_kernels *k)
{
    k->dropout_bits(data.keep, &data.dropout, 0, BENCH_LENGTH * BENCH_WIDTH / 8);
}

static void run_dropout_scale(const struct train_row_kernels *k)
{
    for (size_t r = 0; r < BENCH_LENGTH; r++)
        k->dropout_scale(data.c + r * BENCH_WIDTH, data.a + r * BENCH_WIDTH,
                         data.keep + r * BENCH_WIDTH / 8, 1.1f, BENCH_WIDTH);
}

static void run_dropout_add(const struct train_row_kernels *k)
{
    for (size_t r = 0; r < BENCH_LENGTH; r++)
        k->dropout_add(data.c + r * BENCH_WIDTH, data.a + r * BENCH_WIDTH,
                       data.b + r * BENCH_WIDTH, data.keep + r * BENCH_WIDTH / 8, 1.1f,
                       BENCH_WIDTH);
}

static void run_norm_moments(const struct train_row_kernels *k)
{
    k->norm_moments((float(*)[2])data.top, data.a, BENCH_LENGTH, BENCH_WIDTH);
}

static void run_norm_backward(const struct train_row_kernels *k)
{
    memcpy(data.c, data.b, BENCH_LENGTH * BENCH_WIDTH * sizeof *data.c);
    k->norm_backward(data.c, data.a, data.b, BENCH_LENGTH, BENCH_WIDTH);
}

static void run_norm_gradients(const struct train_row_kernels *k)
{
    k->norm_gradients(data.c, data.c + BENCH_WIDTH, data.b, data.a,
                      (const float(*)[2])data.top, BENCH_WIDTH, BENCH_LENGTH, BENCH_WIDTH);
}

static struct attend_head bench_head(void)
{
    return (struct attend_head){
        .q = data.a, .k = data.a + BENCH_WIDTH, .v = data.a + 2 * BENCH_WIDTH,
        .q_stride = 3 * BENCH_WIDTH, .kv_stride = 3 * BENCH_WIDTH, .queries = BENCH_LENGTH,
        .keys = BENCH_LENGTH, .dim = BENCH_HEAD, .dropout = &data.dropout, .top = data.top,
        .inverse = data.inverse, .scratch = data.scratch
    };
}

static void run_attend_forward(const struct train_row_kernels *k)
{
    struct attend_head h = bench_head();
    k->attend_forward(&h, data.b, BENCH_WIDTH);
}

static void run_attend_backward(const struct train_row_kernels *k)
{
    struct attend_head h = bench_head();
    struct attend_gradients g = {
        .out_gradient = data.b + BENCH_WIDTH, .out = data.b, .stride = BENCH_WIDTH,
        .out_stride = BENCH_WIDTH, .q = data.c, .k = data.c + BENCH_WIDTH,
        .v = data.c + 2 * BENCH_WIDTH, .q_stride = 3 * BENCH_WIDTH, .kv_stride = 3 * BENCH_WIDTH
    };
    k->attend_backward(&h, &g);
}

/* Seconds of one run: the best of a few. */
static double seconds_of(void (*run)(const struct train_row_kernels *),
                         const struct train_row_kernels *k)
{
    double best = 1;
    for (int i = 0; i < 15; i++) {
        uint64_t start = clock_monotonic_ns();
        size_t runs = 0;
        for (; clock_monotonic_ns() - start < 3000000; runs++)
            run(k);
        double seconds = (double)(clock_monotonic_ns() - start) / 1e9 / (double)runs;
        best = seconds < best ? seconds : best;
    }
    return best;
}

void train_rows_bench(const char *level, const struct train_row_kernels *k,
                      const struct train_row_kernels *below, const char *only)
{
    data.a = random_floats(BENCH_SIZE, PLAIN);
    data.b = random_floats(BENCH_SIZE, PLAIN);
    data.c = random_floats(BENCH_SIZE, PLAIN);
    data.top = guarded(2 * BENCH_LENGTH);
    data.inverse = guarded(BENCH_LENGTH);
    data.keep = guarded_bytes(BENCH_LENGTH * BENCH_WIDTH / 8);
    data.scratch = guarded_bytes(
        (attend_train_scratch_bytes(BENCH_LENGTH, BENCH_LENGTH, BENCH_HEAD) + 63) / 64 * 64);
    struct train_pass pass = { .dropout = 0.1f, .seed = 1 };
    data.dropout = dropout_of(&pass, 0);
    run_attend_forward(k);
    static const struct {
        const char *name;
        void (*run)(const struct train_row_kernels *);

    } rows[] = {
#define X(name, result, params) { #name, run_##name },
        TRAIN_ROW_KERNELS(X)
#undef X
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (!strstr(rows[i].name, only))
            continue;
        double seconds = seconds_of(rows[i].run, k);
        double flops = !strcmp(rows[i].name, "attend_forward") ? 4
                       : !strcmp(rows[i].name, "attend_backward") ? 10 : 0;
        double numbers = (double)BENCH_LENGTH * (flops > 0 ? BENCH_LENGTH : BENCH_WIDTH);
        printf("%-8s %-16s %8.3f ns a number", level, rows[i].name, seconds * 1e9 / numbers);
        if (flops > 0)
            printf(", %6.1f GFLOP/s", flops * numbers * BENCH_HEAD / seconds / 1e9);
        if (below)
            printf(", %.2f of the level below", seconds_of(rows[i].run, below) / seconds);
        printf("\n");
    }
    release_all();
}
