/* The loops of src/compute/cpu/train_kernels.h against their contract, and their speed. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "compute/cpu/half.h"
#include "kernelcheck.h"

const struct train_kernels *train_peer;

static float upper(uint32_t pair)
{
    return bf16_to_f32((uint16_t)(pair >> 16));
}

static float lower(uint32_t pair)
{
    return bf16_to_f32((uint16_t)pair);
}

/* ---- products --------------------------------------------------------------------------- */

struct product_case {
    size_t rows, cols, depth, left_row, left_k, right_k, out_stride;
    float *left, *right, *bias, *before;        /* of pairs: their bits */
    bool accumulate;
};

static float *random_pairs(size_t count)
{
    float *pairs = guarded(count);
    reference.narrow_bf16((uint16_t *)pairs, random_floats(2 * count, PLAIN), 2 * count, 2 * count);
    return pairs;
}

/* Rows that follow each other, as forwards, or columns, as for a gradient. */
static struct product_case product_case(size_t rows, size_t cols, size_t depth, bool columns,
                                        int start, bool pairs)
{
    struct product_case p = { .rows = rows, .cols = cols, .depth = depth,
                              .left_row = columns ? 1 : depth + 3,
                              .left_k = columns ? rows + 2 : 1, .right_k = cols + 1,
                              .out_stride = cols + 5, .accumulate = start == 2 };
    size_t lefts = (rows - 1) * p.left_row + (depth - 1) * p.left_k + 1;
    size_t rights = (depth - 1) * p.right_k + cols;
    p.left = pairs ? random_pairs(lefts) : random_floats(lefts, PLAIN);
    p.right = pairs ? random_pairs(rights) : random_floats(rights, PLAIN);
    p.bias = start == 1 ? random_floats(cols, PLAIN) : NULL;
    p.before = random_floats((rows - 1) * p.out_stride + cols, PLAIN);
    return p;
}

static void run_case(const struct train_kernels *k, const struct product_case *p, bool pairs,
                     float *out, size_t row, size_t rows, size_t first, size_t depth)
{
    bool accumulate = p->accumulate || first;
    size_t left = row * p->left_row + first * p->left_k, right = first * p->right_k;
    out += row * p->out_stride;
    if (pairs)
        k->product_bf16(out, p->out_stride, (const uint32_t *)p->left + left, p->left_row,
                        p->left_k, (const uint32_t *)p->right + right, p->right_k, depth, rows,
                        p->cols, p->bias, accumulate);
    else
        k->product_f32(out, p->out_stride, p->left + left, p->left_row, p->left_k,
                       p->right + right, p->right_k, depth, rows, p->cols, p->bias, accumulate);
}

static bool product_right(const struct product_case *p, bool pairs, const float *out)
{
    for (size_t r = 0; r < p->rows; r++)
        for (size_t c = 0; c < p->cols; c++) {
            size_t at = r * p->out_stride + c;
            double exact = p->accumulate ? (double)p->before[at] : p->bias ? (double)p->bias[c] : 0;
            double terms = fabs(exact), n = (double)p->depth * (pairs ? 2 : 1) + 3;
            for (size_t k = 0; k < p->depth; k++) {
                const float *a = &p->left[r * p->left_row + k * p->left_k];
                const float *b = &p->right[k * p->right_k + c];
                uint32_t x, y;
                memcpy(&x, a, 4);
                memcpy(&y, b, 4);
                double one = pairs ? (double)upper(x) * (double)upper(y) : (double)*a * (double)*b;
                double two = pairs ? (double)lower(x) * (double)lower(y) : 0;
                exact += one + two;
                terms += fabs(one) + fabs(two);
            }
            if (!within(out[at], exact, n * UNIT * terms + (double)p->depth * (double)FLT_MIN))
                return false;
        }
    return true;
}

static void product_one(const struct train_kernels *k, const struct product_case *p, bool pairs)
{
    size_t outs = (p->rows - 1) * p->out_stride + p->cols;
    float *out = copy_of(p->before, outs), *again = copy_of(p->before, outs);
    at(p->rows, p->cols, p->depth);
    run_case(k, p, pairs, out, 0, p->rows, 0, p->depth);
    expect(product_right(p, pairs, out) && canary_intact(out), "wrong value");
    bool gaps = true;
    for (size_t i = 0; i < outs; i++)
        gaps &= i % p->out_stride < p->cols || same_bits(&out[i], &p->before[i], 1);
    expect(gaps, "wrote between the rows");
    for (size_t r = 0; r < p->rows; r++) {
        size_t cut = p->depth / 3;
        if (cut)
            run_case(k, p, pairs, again, r, 1, 0, cut);
        run_case(k, p, pairs, again, r, 1, cut, p->depth - cut);
    }
    expect(same_bits(out, again, outs), "rows alone, or a cut depth, have other bits");
    if (train_peer && !pairs && p->rows <= train_peer->product.mr &&
        p->cols <= train_peer->product.nr) {
        memcpy(again, p->before, outs * sizeof *again);
        run_case(train_peer, p, pairs, again, 0, p->rows, 0, p->depth);
        expect(same_bits(out, again, outs), "other bits than the level below");
    }
}

static void check_products(const struct train_kernels *k, bool pairs)
{
    static const size_t depths[] = { 1, 2, 3, 16, 65 };
    for (size_t rows = 1; rows <= k->product.mr; rows++)
        for (size_t cols = 1; cols <= k->product.nr; cols += cols < 3 ? 1 : cols == 31 ? 1 : 7)
            for (size_t d = 0; d < COUNT_OF(depths); d++) {
                struct product_case p = product_case(rows, cols, depths[d], (rows + d) % 2,
                                                     (int)((cols + d) % 3), pairs);
                product_one(k, &p, pairs);
                release_all();
            }
    struct product_case p = product_case(k->product.mr, k->product.nr, 40, true, 2, pairs);
    product_one(k, &p, pairs);
    release_all();
}

void check_product_f32(const struct train_kernels *k)
{
    check_products(k, false);
}

void check_product_bf16(const struct train_kernels *k)
{
    check_products(k, true);
}

/* ---- packing ---------------------------------------------------------------------------- */

static const size_t widths[] = { 6, 8, 12, 16, 32 };
static const size_t col_counts[] = { 1, 2, 11, 12, 13, 31, 32, 33, 64, 100 };

/* `pairs`: of rows, from float32 or from `halves`. */
static void check_pack(const struct train_kernels *k, bool pairs, bool halves)
{
    for (size_t w = 0; w < COUNT_OF(widths); w++)
        for (size_t c = 0; c < COUNT_OF(col_counts); c++) {
            size_t width = widths[w], cols = col_counts[c], rows = 1 + (w + c) % 6;
            size_t depth = pairs ? (rows + 1) / 2 : rows, step = depth * width + 3;
            size_t stride = cols + 1, panels = (cols + width - 1) / width;
            size_t count = (panels - 1) * step + (depth - 1) * width + (cols - 1) % width + 1;
            at(rows, cols, width);
            float *x = odd_floats((rows - 1) * stride + cols), *out = guarded(count);
            uint16_t *narrow = guarded_bytes(((rows - 1) * stride + cols) * 2);
            size_t all = (rows - 1) * stride + cols;
            reference.narrow_bf16(narrow, x, all, all);
            memset(out, 0xee, count * sizeof *out);
            if (!pairs)
                k->pack_f32(out, width, step, x, stride, rows, cols);
            else if (halves)
                k->pack_pairs_bf16((uint32_t *)out, width, step, narrow, stride, rows, cols);
            else
                k->pack_pairs_f32((uint32_t *)out, width, step, x, stride, rows, cols);
            bool right = true;
            for (size_t d = 0; d < depth; d++)
                for (size_t i = 0; i < cols; i++) {
                    uint32_t got, want = 0;
                    memcpy(&got, &out[i / width * step + d * width + i % width], 4);
                    if (!pairs)
                        memcpy(&want, &x[d * stride + i], 4);
                    else
                        want = (uint32_t)narrow[2 * d * stride + i] << 16 |
                               (2 * d + 1 < rows ? narrow[(2 * d + 1) * stride + i] : 0);
                    right &= got == want;
                }
            uint32_t gap = 0xeeeeeeee;
            for (size_t p = 0; p + 1 < panels; p++)
                right &= !memcmp(&out[p * step + depth * width], &gap, 4);
            expect(right && canary_intact(out), "wrong panels");
            release_all();
        }
}

void check_pack_f32(const struct train_kernels *k)
{
    check_pack(k, false, false);
}

void check_pack_pairs_f32(const struct train_kernels *k)
{
    check_pack(k, true, false);
}

void check_pack_pairs_bf16(const struct train_kernels *k)
{
    check_pack(k, true, true);
}

static void check_sums(const struct train_kernels *k, bool pairs)
{
    for (size_t c = 0; c < COUNT_OF(col_counts); c++)
        for (size_t weighted = 0; weighted < 2; weighted++) {
            size_t cols = col_counts[c], width = 6 + 2 * (c % 6), rows = 1 + 5 * (c % 4);
            size_t step = rows * width + 2, numbers = pairs ? 2 * rows : rows;
            size_t count = (cols + width - 1) / width * step;
            at(rows, cols, width);
            float *x = pairs ? random_pairs(count) : random_floats(count, PLAIN);
            float *sums = random_floats(cols, PLAIN);
            float *was = copy_of(sums, cols), *w = weighted ? random_floats(numbers, PLAIN) : NULL;
            const uint32_t *halves = (const uint32_t *)x;
            if (pairs)
                k->sum_panels_bf16(sums, halves, width, step, rows, cols, w);
            else
                k->sum_panels_f32(sums, x, width, step, rows, cols, w);
            bool right = true;
            for (size_t i = 0; i < cols; i++) {
                double exact = (double)was[i], terms = fabs(exact);
                for (size_t r = 0; r < numbers; r++) {
                    size_t from = i / width * step + (pairs ? r / 2 : r) * width + i % width;
                    double value = !pairs ? (double)x[from] : r % 2 ? (double)lower(halves[from])
                                                                    : (double)upper(halves[from]);
                    exact += (w ? (double)w[r] : 1) * value;
                    terms += fabs((w ? (double)w[r] : 1) * value);
                }
                right &= within(sums[i], exact, ((double)numbers + 3) * UNIT * terms);
            }
            expect(right && canary_intact(sums), "wrong sum");
            release_all();
        }
}

void check_sum_panels_f32(const struct train_kernels *k)
{
    check_sums(k, false);
}

void check_sum_panels_bf16(const struct train_kernels *k)
{
    check_sums(k, true);
}

/* ---- rows ------------------------------------------------------------------------------- */

static const size_t row_counts[] = { 1, 2, 15, 16, 17, 63, 64, 65, 100, 128, 131, 1000 };

static void check_exp(const struct train_kernels *k, bool halves)
{
    for (size_t c = 0; c < COUNT_OF(row_counts); c++) {
        size_t cols = row_counts[c];
        at(cols, 0, 0);
        float *x = random_floats(cols, PLAIN), sums[2];
        for (size_t i = 0; i < cols; i++)
            x[i] *= c % 2 ? 100 : 5;
        float *was = copy_of(x, cols), top = was[0];
        for (size_t i = 1; i < cols; i++)
            top = fmaxf(top, was[i]);
        uint16_t *out = guarded_bytes(cols * 2);
        if (halves)
            k->exp_row_bf16(out, x, cols, sums);
        else
            k->exp_row_f32(x, cols, sums);
        double sum = 0;
        bool right = sums[0] == top;
        for (size_t i = 0; i < cols; i++) {
            double exact = exp((double)(was[i] - top));
            float got = halves ? bf16_to_f32(out[i]) : x[i];
            sum += exact;
            right &= within(got, exact, (halves ? 0x1.01p-8 : 4 * UNIT) * exact + (double)FLT_MIN);
            right &= !halves || same_bits(&x[i], &was[i], 1);
        }
        right &= within(sums[1], sum, ((double)cols + 6) * UNIT * sum);
        expect(right && canary_intact(x) && canary_intact(out), "wrong value");
        was[cols / 2] = NAN;
        if (halves)
            k->exp_row_bf16(out, was, cols, sums);
        else
            k->exp_row_f32(was, cols, sums);
        expect(isnan(sums[1]), "a NaN is lost");
        release_all();
    }
}

void check_exp_row_f32(const struct train_kernels *k)
{
    check_exp(k, false);
}

void check_exp_row_bf16(const struct train_kernels *k)
{
    check_exp(k, true);
}

static void check_hide(const struct train_kernels *k, bool halves)
{
    for (size_t c = 0; c < COUNT_OF(row_counts); c++)
        for (int dropped = 0; dropped < 2; dropped++) {
            size_t cols = row_counts[c];
            at(cols, 0, 0);
            float *x = odd_floats(cols), *out = guarded(cols);
            uint16_t *narrow = guarded_bytes(2 * cols);
            uint8_t *keep = dropped ? guarded_bytes((cols + 7) / 8) : NULL;
            for (size_t i = 0; keep && i < (cols + 7) / 8; i++)
                keep[i] = (uint8_t)rng_below(&rng, 256);
            if (halves)
                k->hide_bf16(narrow, x, keep, 1.25f, cols);
            else
                k->hide_f32(out, x, keep, 1.25f, cols);
            bool right = true;
            for (size_t i = 0; i < cols; i++) {
                bool kept = !keep || keep[i / 8] >> i % 8 & 1;
                float want = kept ? (x[i] < 0 ? 0 : x[i]) * 1.25f : 0;
                if (halves)
                    right &= isnan(want) ? isnan(bf16_to_f32(narrow[i]))
                                         : narrow[i] % 0x8000 == f32_to_bf16(want) % 0x8000;
                else
                    right &= want == out[i] || (isnan(want) && isnan(out[i]));
            }
            expect(right && canary_intact(out) && canary_intact(narrow), "wrong value");
            release_all();
        }
}

void check_hide_f32(const struct train_kernels *k)
{
    check_hide(k, false);
}

void check_hide_bf16(const struct train_kernels *k)
{
    check_hide(k, true);
}

static void check_mask(const struct train_kernels *k, bool halves)
{
    for (size_t c = 0; c < COUNT_OF(row_counts); c++) {
        size_t cols = row_counts[c];
        at(cols, 0, 0);
        float *x = random_floats(cols, WIDE), *was = copy_of(x, cols);
        float *hidden = random_floats(cols, PLAIN);
        for (size_t i = 0; i < cols; i += 3)
            hidden[i] = i % 2 ? -0.0f : 0;
        uint16_t *narrow = guarded_bytes(2 * cols);
        reference.narrow_bf16(narrow, hidden, cols, cols);
        if (halves)
            k->mask_bf16(x, narrow, 1.1f, cols);
        else
            k->mask_f32(x, hidden, 1.1f, cols);
        bool right = true;
        for (size_t i = 0; i < cols; i++)
            right &= x[i] == (hidden[i] > 0 ? was[i] * 1.1f : 0);
        expect(right && canary_intact(x), "wrong value");
        release_all();
    }
}

void check_mask_f32(const struct train_kernels *k)
{
    check_mask(k, false);
}

void check_mask_bf16(const struct train_kernels *k)
{
    check_mask(k, true);
}

void check_all_finite(const struct train_kernels *k)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    for (size_t c = 0; c < COUNT_OF(row_counts); c++) {
        size_t count = row_counts[c];
        float *x = random_floats(count, WIDE);
        x[count - 1] = FLT_MAX;
        at(count, 0, 0);
        expect(k->all_finite(x, count), "finite numbers");
        for (size_t b = 0; b < COUNT_OF(bad); b++) {
            size_t i = (size_t)rng_below(&rng, (uint32_t)count);
            float was = x[i];
            x[i] = bad[b];
            expect(!k->all_finite(x, count), "NaN or infinity not seen");
            x[i] = was;
        }
        release_all();
    }
}

/* ---- updates ---------------------------------------------------------------------------- */

static const struct update_terms terms = { .factor = 0.5f, .keep = 0.999f, .decay = 0.01f,
                                           .beta1 = 0.9f, .take1 = 0.1f, .beta2 = 0.99f,
                                           .take2 = 0.01f, .root = 3, .epsilon = 1e-8f,
                                           .rate = 0.1f };

void check_update_adam(const struct train_kernels *k)
{
    for (size_t c = 0; c < COUNT_OF(row_counts); c++) {
        size_t count = row_counts[c];
        at(count, 0, 0);
        float *x = random_floats(count, PLAIN), *g = random_floats(count, PLAIN);
        float *m = random_floats(count, PLAIN), *v = random_floats(count, PLAIN);
        for (size_t i = 0; i < count; i++)
            v[i] = fabsf(v[i]);
        float *xs = copy_of(x, count), *ms = copy_of(m, count), *vs = copy_of(v, count);
        k->update_adam(x, g, m, v, &terms, count);
        bool right = true;
        for (size_t i = 0; i < count; i++) {
            float decayed = terms.decay * xs[i], scaled = g[i] * terms.factor;
            float gradient = scaled + decayed, kept = terms.beta1 * ms[i];
            float taken = terms.take1 * gradient, square = terms.take2 * gradient;
            ms[i] = kept + taken;
            kept = terms.beta2 * vs[i];
            square = square * gradient;
            vs[i] = kept + square;
            float root = sqrtf(vs[i]) * terms.root, step = terms.rate * ms[i];
            root = root + terms.epsilon;
            step = step / root;
            kept = xs[i] * terms.keep;
            xs[i] = kept - step;
        }
        right = same_bits(x, xs, count) && same_bits(m, ms, count) && same_bits(v, vs, count);
        expect(right && canary_intact(x), "other bits");
        release_all();
    }
}

void check_update_sgd(const struct train_kernels *k)
{
    for (size_t c = 0; c < COUNT_OF(row_counts); c++) {
        size_t count = row_counts[c];
        at(count, 0, 0);
        float *x = random_floats(count, PLAIN), *g = random_floats(count, PLAIN);
        float *want = copy_of(x, count);
        for (size_t i = 0; i < count; i++) {
            float scaled = g[i] * terms.factor, decayed = terms.decay * want[i];
            float step = scaled + decayed;
            step = terms.rate * step;
            want[i] = want[i] - step;
        }
        k->update_sgd(x, g, &terms, count);
        expect(same_bits(x, want, count) && canary_intact(x), "other bits");
        release_all();
    }
}

/* ---- speed ------------------------------------------------------------------------------ */

/* A block of rows, or as many rows of a gradient, of the sizes of a small Transformer. */
enum { BENCH_ROWS = 48, BENCH_DIM = 128, BENCH_COUNT = BENCH_DIM * BENCH_ROWS };

static struct {
    float *a, *b, *c, *d;
} data;

static void bench_product(const struct train_kernels *k, bool pairs, bool gradient)
{
    size_t mr = k->product.mr, nr = k->product.nr, depth = pairs ? BENCH_DIM / 2 : BENCH_DIM;
    for (size_t r = 0; r + mr <= BENCH_ROWS; r += mr) {
        const float *left = data.a + r * depth;
        size_t row = gradient ? 1 : depth, step = gradient ? mr : 1;
        if (pairs)
            k->product_bf16(data.c + r * nr, nr, (const uint32_t *)left, row, step,
                            (const uint32_t *)data.b, nr, depth, mr, nr, NULL, gradient);
        else
            k->product_f32(data.c + r * nr, nr, left, row, step, data.b, nr, depth, mr, nr, NULL,
                           gradient);
    }
}

#define RUN(name, call)                                                                          \
    static void run_##name(const struct train_kernels *k)                                        \
    {                                                                                            \
        call;                                                                                    \
    }
RUN(product_f32, bench_product(k, false, true))
RUN(product_bf16, bench_product(k, true, true))
RUN(pack_f32, k->pack_f32(data.c, k->product.mr, BENCH_ROWS * k->product.mr, data.a, BENCH_DIM,
                          BENCH_ROWS, BENCH_DIM))
RUN(pack_pairs_f32, k->pack_pairs_f32((uint32_t *)data.c, k->product.mr,
                                      BENCH_ROWS / 2 * k->product.mr, data.a, BENCH_DIM, BENCH_ROWS,
                                      BENCH_DIM))
RUN(pack_pairs_bf16, k->pack_pairs_bf16((uint32_t *)data.c, k->product.mr,
                                        BENCH_ROWS / 2 * k->product.mr, (const uint16_t *)data.a,
                                        BENCH_DIM, BENCH_ROWS, BENCH_DIM))
RUN(sum_panels_f32, k->sum_panels_f32(data.c, data.a, 8, BENCH_ROWS * 8, BENCH_ROWS, BENCH_DIM,
                                      data.b))
RUN(sum_panels_bf16, k->sum_panels_bf16(data.c, (const uint32_t *)data.a, 8, BENCH_ROWS / 2 * 8,
                                        BENCH_ROWS / 2, BENCH_DIM, data.b))
RUN(exp_row_f32, memcpy(data.c, data.a, BENCH_COUNT * sizeof(float));
    k->exp_row_f32(data.c, BENCH_COUNT, data.d))
RUN(exp_row_bf16, k->exp_row_bf16((uint16_t *)data.c, data.a, BENCH_COUNT, data.d))
RUN(hide_f32, k->hide_f32(data.c, data.a, (const uint8_t *)data.b, 1.1f, BENCH_COUNT))
RUN(hide_bf16, k->hide_bf16((uint16_t *)data.c, data.a, (const uint8_t *)data.b, 1.1f, BENCH_COUNT))
RUN(mask_f32, k->mask_f32(data.c, data.a, 1, BENCH_COUNT))
RUN(mask_bf16, k->mask_bf16(data.c, (const uint16_t *)data.a, 1, BENCH_COUNT))
RUN(all_finite, k->all_finite(data.a, BENCH_COUNT))
RUN(update_adam, k->update_adam(data.c, data.a, data.b, data.d, &terms, BENCH_COUNT))
RUN(update_sgd, k->update_sgd(data.c, data.a, &terms, BENCH_COUNT))

/* Nanoseconds of one run: the best of a few. */
static double best_ns(void (*run)(const struct train_kernels *), const struct train_kernels *k)
{
    double best = 1e9;
    for (int i = 0; i < 15; i++) {
        uint64_t start = clock_monotonic_ns();
        size_t runs = 0;
        for (; clock_monotonic_ns() - start < 2000000; runs++)
            run(k);
        best = fmin(best, (double)(clock_monotonic_ns() - start) / (double)runs);
    }
    return best;
}

void train_bench(const char *level, const struct train_kernels *k,
                 const struct train_kernels *below, const char *only)
{
    data.a = random_floats(BENCH_COUNT, PLAIN);
    data.b = random_floats(BENCH_COUNT, PLAIN);
    data.c = random_floats(BENCH_COUNT + BENCH_ROWS * 64, PLAIN);
    data.d = random_floats(BENCH_COUNT, PLAIN);
    for (size_t i = 0; i < BENCH_COUNT; i++)
        data.d[i] = fabsf(data.d[i]);
    static const struct {
        const char *name;
        void (*run)(const struct train_kernels *);
    } rows[] = {
#define X(name, result, params) { #name, run_##name },
        TRAIN_KERNELS(X)
#undef X
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (!strstr(rows[i].name, only))
            continue;
        double ns = best_ns(rows[i].run, k);
        size_t tiles = BENCH_ROWS / k->product.mr * k->product.mr * k->product.nr;
        if (!strncmp(rows[i].name, "product", 7))
            printf("%-8s %-16s %8.1f GFLOP/s", level, rows[i].name,
                   2.0 * BENCH_DIM * (double)tiles / ns);
        else
            printf("%-8s %-16s %8.3f ns a number", level, rows[i].name, ns / BENCH_COUNT);
        if (below && strncmp(rows[i].name, "product", 7))
            printf(", %.2f of the level below", best_ns(rows[i].run, below) / ns);
        printf("\n");
    }
    release_all();
}
