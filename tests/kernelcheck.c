/* Every version of every inner loop (src/compute/cpu/kernels.h) against its contract, and --bench
 * times the same loops, but only after all of them passed.
 *
 *   kernelcheck --level LEVEL [--seed N] [--only NAME] [--bench [--json]]
 *
 * LEVEL is ref, avx2, avx512, amx, or amx-emulated: the AMX kernels over tiles in plain C.
 *
 * Exit status: 0 fine, 1 failed, 2 wrong use, 77 this machine lacks the level.
 * Inputs end at an unreadable page and are misaligned by their odd sizes; outputs lie between
 * canaries; what may not be used is NaN. A crash is reported with its operation, size and seed, and
 * the check goes on with the next operation. Expected values are computed here in double, from the
 * contract and not from the reference kernels, which are checked in the same way. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "compute/cpu/kernels.h"
#include "kernelcheck.h"

struct rng rng;
struct kernels reference;
static uint64_t seed = 1;
static const char *level;
const struct train_row_kernels *train_rows_peer;
const struct kernels *peer;         /* must give the same bits: avx2 for avx512 and above */
static int checks, failures;

/* What is running, for the failure line; volatile because a signal handler reads it. */
static const char *volatile now_op;
static volatile size_t now_size[3];
static sigjmp_buf crashed;

void at(size_t a, size_t b, size_t c)
{
    now_size[0] = a;
    now_size[1] = b;
    now_size[2] = c;
}

static void fail(const char *what)
{
    failures++;
    printf("FAILED %s.%s size %zu,%zu,%zu seed %llu: %s\n", now_op, level, now_size[0], now_size[1],
           now_size[2], (unsigned long long)seed, what);
}

bool expect(bool ok, const char *what)
{
    checks++;
    if (!ok)
        fail(what);
    return ok;
}

static void on_crash(int signal_number)
{
    siglongjmp(crashed, signal_number);
}

/* ---- memory ----------------------------------------------------------------------------- */

static struct {
    void *base;
    size_t bytes;
} blocks[4096];
static size_t block_count;

/* `bytes` that end at an unreadable page, with a canary of a page's rest in front. */
void *guarded_bytes(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (bytes + 64 + page - 1) / page * page;
    char *base =
        mmap(NULL, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + body, page, PROT_NONE) ||
        block_count == COUNT_OF(blocks)) {
        perror("kernelcheck: mmap");
        exit(2);
    }
    blocks[block_count].base = base;
    blocks[block_count++].bytes = body + page;
    memset(base, 0x5a, body - bytes);
    return base + body - bytes;
}

float *guarded(size_t count)
{
    return guarded_bytes(count * sizeof(float));
}

void release_all(void)
{
    while (block_count) {
        block_count--;
        munmap(blocks[block_count].base, blocks[block_count].bytes);
    }
}

bool canary_intact(const void *start)
{
    for (size_t i = 1; i <= 64; i++)
        if (((const unsigned char *)start)[-(ptrdiff_t)i] != 0x5a)
            return false;
    return true;
}

/* ---- values ----------------------------------------------------------------------------- */

static float random_value(enum values kind, size_t i)
{
    float x = 2 * rng_float(&rng) - 1;
    switch (kind) {
    case WIDE:
        return ldexpf(x, (int)rng_below(&rng, 40) - 20);
    case CANCELLING:
        return (i & 1 ? -1e15f : 1e15f) + x;
    case TINY:
        return i % 3 == 0 ? -0.0f : ldexpf(x, -130 - (int)rng_below(&rng, 20));
    default:
        return x;
    }
}

float *random_floats(size_t count, enum values kind)
{
    float *x = guarded(count);
    for (size_t i = 0; i < count; i++)
        x[i] = random_value(kind, i);
    return x;
}

float *copy_of(const float *x, size_t count)
{
    float *copy = guarded(count);
    memcpy(copy, x, count * sizeof *x);
    return copy;
}

bool same_bits(const float *a, const float *b, size_t count)
{
    return !memcmp(a, b, count * sizeof *a);
}

/* The same bits, or both NaN. */
bool same_values(const float *a, const float *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) && !(isnan(a[i]) && isnan(b[i])))
            return false;
    return true;
}

bool within(float value, double exact, double bound)
{
    return fabs((double)value - exact) <= bound + FLT_TRUE_MIN;
}

/* |value - exact| in units in the last place of exact; what is below FLT_MIN counts as 0. */
static double ulps(float value, double exact)
{
    double error = fabs((double)value - exact);
    if (error <= (double)FLT_MIN)
        return 0;
    int exponent;
    frexp(exact, &exponent);
    return error / ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

static const size_t counts[] = {1,  2,  7,  8,  9,  15,  16,  17,  31,  32,   33,
                                47, 48, 63, 64, 65, 100, 127, 384, 385, 1000, 1536};

/* ---- gemm_f32 --------------------------------------------------------------------------- */

struct gemm_case {
    float *x, *panel, *bias, *out;
    size_t x_stride, out_stride, depth, rows, cols;
    bool accumulate;
};

static void gemm(const struct kernels *k, const struct gemm_case *g, float *out, size_t r,
                 size_t rows)
{
    k->gemm_f32(out + r * g->out_stride, g->out_stride, g->x + r * g->x_stride, g->x_stride,
                g->panel, g->depth, rows, g->cols, g->bias, g->accumulate);
}

static bool gemm_right(const struct gemm_case *g, const float *before, const float *after)
{
    size_t nr_used = g->cols;
    for (size_t r = 0; r < g->rows; r++)
        for (size_t c = 0;
             c < g->out_stride && r * g->out_stride + c < (g->rows - 1) * g->out_stride + g->cols;
             c++) {
            float was = before[r * g->out_stride + c], is = after[r * g->out_stride + c];
            if (c >= nr_used) {
                if (!same_bits(&was, &is, 1))
                    return false;   /* wrote between the rows */
                continue;
            }
            double exact = g->accumulate ? (double)was : g->bias ? (double)g->bias[c] : 0;
            double magnitude = fabs(exact);
            for (size_t k = 0; k < g->depth; k++) {
                double term =
                    (double)g->x[r * g->x_stride + k] * (double)g->panel[k * peer->gemm.nr + c];
                exact += term;
                magnitude += fabs(term);
            }
            if (!within(is, exact,
                        ((double)g->depth + 3) * UNIT * magnitude +
                            (double)g->depth * FLT_TRUE_MIN))
                return false;
        }
    return true;
}

static void gemm_one(const struct kernels *k, size_t rows, size_t cols, size_t depth,
                     enum values kind, int start)
{
    size_t nr = k->gemm.nr;
    struct gemm_case g = {.x_stride = depth + 3,
                          .out_stride = cols + 5,
                          .depth = depth,
                          .rows = rows,
                          .cols = cols,
                          .accumulate = start == 2};
    size_t outs = (rows - 1) * g.out_stride + cols;
    at(rows, cols, depth);
    g.x = random_floats((rows - 1) * g.x_stride + depth, kind);
    for (size_t r = 0; r + 1 < rows; r++)
        for (size_t i = 0; i < 3; i++)
            g.x[r * g.x_stride + depth + i] = NAN;
    g.panel = random_floats(depth * nr, kind == CANCELLING ? PLAIN : kind);
    for (size_t i = 0; i < depth * nr; i++)
        if (i % nr >= cols)
            g.panel[i] = NAN;
    g.bias = start == 1 ? random_floats(cols, kind) : NULL;
    float *before = random_floats(outs, kind), *out = copy_of(before, outs),
          *again = copy_of(before, outs);
    gemm(k, &g, out, 0, rows);
    expect(gemm_right(&g, before, out), "wrong value, or wrote between the rows");
    expect(canary_intact(out), "wrote in front of the output");
    for (size_t r = 0; r < rows; r++)
        gemm(k, &g, again, r, 1);
    expect(same_bits(out, again, outs), "a row alone has other bits than in a tile");
    if (depth > 1) {
        struct gemm_case first = g, second = g;
        memcpy(again, before, outs * sizeof *again);
        first.depth = depth / 3 + 1;
        second.depth = depth - first.depth;
        second.x += first.depth;
        second.panel += first.depth * nr;
        second.accumulate = true;
        gemm(k, &first, again, 0, rows);
        gemm(k, &second, again, 0, rows);
        expect(same_bits(out, again, outs), "cutting the depth changes bits");
    }
    release_all();
}

static void check_gemm_f32(const struct kernels *k)
{
    static const size_t depths[] = { 0, 1, 2, 7, 32, 64, 385 };
    const struct kernels *kept = peer;
    peer = k; /* gemm_right needs the panel's width; panels of two levels differ, so no other use */
    for (size_t rows = 1; rows <= k->gemm.mr; rows++)
        for (size_t c = 0; counts[c] <= k->gemm.nr; c++)
            for (size_t d = 0; d < COUNT_OF(depths); d++)
                gemm_one(k, rows, counts[c], depths[d], (enum values)((rows + c + d) % VALUES),
                         (int)((rows + d) % 3));
    peer = kept;
}

/* One element of the product on the panels of two levels: sums are in order of k, so bits agree. */
static void check_gemm_peer(const struct kernels *k)
{
    float x[385], a[385 * GEMM_NR_MAX], b[385 * GEMM_NR_MAX], bias = 0.5f, left, right;
    for (size_t i = 0; i < 385; i++) {
        x[i] = random_value(PLAIN, i);
        a[i * k->gemm.nr] = b[i * peer->gemm.nr] = random_value(PLAIN, i);
        for (size_t c = 1; c < GEMM_NR_MAX; c++) {
            if (c < k->gemm.nr)
                a[i * k->gemm.nr + c] = 0;
            if (c < peer->gemm.nr)
                b[i * peer->gemm.nr + c] = 0;
        }
    }
    k->gemm_f32(&left, 1, x, 385, a, 385, 1, 1, &bias, false);
    peer->gemm_f32(&right, 1, x, 385, b, 385, 1, 1, &bias, false);
    expect(same_bits(&left, &right, 1), "other bits than the level below");
}

/* ---- scores ----------------------------------------------------------------------------- */

typedef void score_fn(float *, const float *, size_t, const float *const *, size_t, size_t);

static double score_exact(const float *a, const float *b, size_t dim, bool l2, double *magnitude)
{
    double sum = 0;
    *magnitude = 0;
    for (size_t i = 0; i < dim; i++) {
        double d = (double)a[i] - (double)b[i], term = l2 ? -d * d : (double)a[i] * (double)b[i];
        sum += term;
        *magnitude += fabs(term);
    }
    return sum;
}

static void score_one(score_fn *score, score_fn *ref, size_t queries, size_t row_count, size_t dim,
                      enum values kind, bool l2)
{
    const float *rows[16];
    at(queries, row_count, dim);
    float *a = random_floats(queries * dim, kind), *out = guarded(queries * row_count),
          *same = guarded(queries * row_count);
    for (size_t r = 0; r < row_count; r++)
        rows[r] = random_floats(dim, kind == CANCELLING ? PLAIN : kind);
    score(out, a, queries, rows, row_count, dim);
    expect(canary_intact(out), "wrote in front of the output");
    bool right = true, alone = true;
    for (size_t q = 0; q < queries; q++)
        for (size_t r = 0; r < row_count; r++) {
            double magnitude, exact = score_exact(a + q * dim, rows[r], dim, l2, &magnitude);
            float got = out[q * row_count + r], single;
            double terms = l2 ? 2 * (double)dim + 2 : (double)dim;
            right &=
                within(got, exact, (terms + 2) * UNIT * magnitude + (double)dim * FLT_TRUE_MIN);
            score(&single, a + q * dim, 1, &rows[r], 1, dim);
            alone &= same_bits(&got, &single, 1);
        }
    expect(right, "wrong value");
    expect(alone, "a pair alone has other bits than in a tile");
    ref(same, a, queries, rows, row_count, dim);
    expect(same_bits(out, same, queries * row_count), "other bits than the reference");
    release_all();
}

static void check_score(score_fn *score, score_fn *ref, bool l2)
{
    static const size_t sizes[] = { 1, 2, 3, 4, 5, 7, 8, 9 };
    for (size_t q = 0; q < COUNT_OF(sizes); q++)
        for (size_t r = 0; r < COUNT_OF(sizes); r++)
            for (size_t d = (q + r) % 3; d < COUNT_OF(counts); d += 3)
                score_one(score, ref, sizes[q], sizes[r], counts[d],
                          (enum values)((q + r + d) % VALUES), l2);
}

static void check_score_dot_f32(const struct kernels *k)
{
    check_score(k->score_dot_f32, reference.score_dot_f32, false);
}

static void check_score_l2_f32(const struct kernels *k)
{
    check_score(k->score_l2_f32, reference.score_l2_f32, true);
}

/* ---- rows ------------------------------------------------------------------------------- */

static void layernorm_one(const struct kernels *k, size_t count, float mean, float spread,
                          bool with_y)
{
    float epsilon = 1e-12f, *x = guarded(count), *y = with_y ? random_floats(count, PLAIN) : NULL;
    float *gamma = random_floats(count, PLAIN), *beta = random_floats(count, PLAIN),
          *out = guarded(count);
    double sum = 0, absolute = 0, squares = 0;
    at(count, (size_t)mean, with_y);
    for (size_t i = 0; i < count; i++) {
        x[i] = mean + spread * (2 * rng_float(&rng) - 1);
        sum += (double)(y ? x[i] + y[i] : x[i]);
        absolute += fabs((double)(y ? x[i] + y[i] : x[i]));
    }
    sum /= (double)count;
    absolute /= (double)count;
    for (size_t i = 0; i < count; i++)
        squares += pow((double)(y ? x[i] + y[i] : x[i]) - sum, 2);
    double sigma = sqrt(squares / (double)count + (double)epsilon);
    k->layernorm_f32(out, x, y, gamma, beta, epsilon, count);
    bool right = true;
    for (size_t i = 0; i < count; i++) {
        double s = (double)(y ? x[i] + y[i] : x[i]),
               exact = (s - sum) / sigma * (double)gamma[i] + (double)beta[i];
        double bound = ((double)count / 16 + 12) * UNIT * (fabs(s) + absolute) / sigma *
                       fabs((double)gamma[i]);
        right &= within(out[i], exact, bound + 4 * UNIT * fabs(exact));
    }
    expect(right, "wrong value");
    expect(canary_intact(out), "wrote in front of the output");
    if (peer) {
        float *same = guarded(count);
        peer->layernorm_f32(same, x, y, gamma, beta, epsilon, count);
        expect(same_bits(out, same, count), "other bits than the level below");
    }
    k->layernorm_f32(x, x, y, gamma, beta, epsilon, count);
    expect(same_bits(x, out, count), "other bits in place");
    release_all();
}

static void check_layernorm_f32(const struct kernels *k)
{
    for (size_t c = 0; c < COUNT_OF(counts); c++)
        for (int y = 0; y < 2; y++) {
            layernorm_one(k, counts[c], 0, 1, y);
            layernorm_one(k, counts[c], 0.5f, 1e4f, y);
            layernorm_one(k, counts[c], 100, 0.5f, y);
            layernorm_one(k, counts[c], 3, 0, y);
        }
}

static void check_gelu_f32(const struct kernels *k)
{
    enum { BLOCK = 1 << 12 };
    float *x = guarded(BLOCK), *was = guarded(BLOCK), *same = guarded(BLOCK);
    double worst = 0;
    for (uint32_t bits = 0; bits < 0xffffffffu - BLOCK * 1009u; ) {
        at(bits, 0, 0);
        for (size_t i = 0; i < BLOCK; i++, bits += 1009)
            memcpy(&was[i], &bits, sizeof bits);
        memcpy(x, was, BLOCK * sizeof *x);
        k->gelu_f32(x, BLOCK, 1, BLOCK);
        bool nan_right = true;
        for (size_t i = 0; i < BLOCK; i++) {
            if (isnan(was[i]) || isinf(was[i])) {
                nan_right &= isnan(was[i]) ? isnan(x[i]) : x[i] == fmaxf(was[i], 0);
                continue;
            }
            double exact = 0.5 * (double)was[i] * erfc(-(double)was[i] * M_SQRT1_2);
            worst = fmax(worst, ulps(x[i], exact));
        }
        expect(nan_right, "NaN or infinity");
        if (peer) {
            memcpy(same, was, BLOCK * sizeof *same);
            peer->gelu_f32(same, BLOCK, 1, BLOCK);
            expect(same_values(x, same, BLOCK), "other bits than the level below");
        }
    }
    fprintf(stderr, "gelu_f32.%s: worst error %.2f ulp\n", level, worst);
    expect(worst <= 5, "more than 5 ulp");
    release_all();
    for (size_t c = 0; c < COUNT_OF(counts); c++)
        for (size_t rows = 1; rows < 4; rows++) {
            size_t cols = counts[c], stride = cols + 3, total = (rows - 1) * stride + cols;
            at(rows, cols, 0);
            float *a = random_floats(total, WIDE), *b = copy_of(a, total);
            k->gelu_f32(a, stride, rows, cols);
            for (size_t r = 0; r < rows; r++)
                for (size_t i = 0; i < cols; i++)
                    k->gelu_f32(&b[r * stride + i], 1, 1, 1);
            expect(same_bits(a, b, total) && canary_intact(a),
                   "one number alone has other bits, or a gap was written");
            release_all();
        }
}

/* ---- exact, elementwise ----------------------------------------------------------------- */

float *odd_floats(size_t count)
{
    static const float odd[] = {0,       -0.0f,    1,        -1,        FLT_TRUE_MIN, -FLT_TRUE_MIN,
                                FLT_MAX, -FLT_MAX, INFINITY, -INFINITY, NAN};
    float *x = random_floats(count, WIDE);
    for (size_t i = 0; i < count; i++)
        if (rng_below(&rng, 3) == 0)
            x[i] = odd[rng_below(&rng, COUNT_OF(odd))];
    return x;
}

typedef void two_fn(float *, const float *, size_t);

static void check_two(two_fn *fn, two_fn *ref)
{
    for (size_t c = 0; c < COUNT_OF(counts); c++)
        for (int round = 0; round < 8; round++) {
            size_t count = counts[c];
            at(count, 0, 0);
            float *x = odd_floats(count), *y = odd_floats(count), *same = copy_of(x, count);
            fn(x, y, count);
            ref(same, y, count);
            expect(same_values(x, same, count) && canary_intact(x),
                   "other bits than the reference");
            release_all();
        }
}

static void check_add_f32(const struct kernels *k)
{
    check_two(k->add_f32, reference.add_f32);
    float x = 1, y = 2;
    k->add_f32(&x, &y, 1);
    expect(x == 3, "1 + 2");
}

static void check_max_f32(const struct kernels *k)
{
    check_two(k->max_f32, reference.max_f32);
    float x[4] = { 1, 2, NAN, 3 }, y[4] = { 2, 1, 0, NAN };
    k->max_f32(x, y, 4);
    expect(x[0] == 2 && x[1] == 2 && isnan(x[2]) && isnan(x[3]), "of 1 and 2, or NaN lost");
}

static void check_scale_f32(const struct kernels *k)
{
    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        size_t count = counts[c];
        at(count, 0, 0);
        float *x = odd_floats(count), *was = copy_of(x, count);
        k->scale_f32(x, 0.37f, count);
        for (size_t i = 0; i < count; i++)
            was[i] *= 0.37f;
        expect(same_values(x, was, count) && canary_intact(x), "wrong value");
        release_all();
    }
}

static void check_blend_f32(const struct kernels *k)
{
    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        size_t count = counts[c];
        at(count, 0, 0);
        float *x = odd_floats(count), *y = odd_floats(count), *was = copy_of(x, count);
        k->blend_f32(x, 0.7f, y, 0.24f, count);
        for (size_t i = 0; i < count; i++) {
            float kept = 0.7f * was[i], taken = 0.24f * y[i];
            was[i] = kept + taken;
        }
        expect(same_values(x, was, count) && canary_intact(x), "wrong value");
        release_all();
    }
}

static void check_add_scaled_f32(const struct kernels *k)
{
    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        size_t count = counts[c];
        at(count, 0, 0);
        float *x = odd_floats(count), *y = odd_floats(count), *same = copy_of(x, count);
        k->add_scaled_f32(x, y, 0.37f, count);
        for (size_t i = 0; i < count; i++)
            same[i] = fmaf(0.37f, y[i], same[i]);
        expect(same_values(x, same, count) && canary_intact(x), "wrong value");
        release_all();
    }
}

static void check_exp_sum_f32(const struct kernels *k)
{
    for (size_t c = 0; c < COUNT_OF(counts); c++)
        for (int round = 0; round < 8; round++) {
            size_t count = counts[c];
            at(count, 0, 0);
            float *x = random_floats(count, PLAIN), top = x[0];
            for (size_t i = 0; i < count; i++) {
                x[i] *= round < 4 ? 3 : 60;     /* the latter also below FLT_MIN */
                top = i == 0 || x[i] > top ? x[i] : top;
            }
            x[count / 2] = round % 2 ? -1e9f : x[count / 2];
            float *was = copy_of(x, count), *same = copy_of(x, count);
            double sum = 0;
            float returned = k->exp_sum_f32(x, top, count);
            bool right = true;
            for (size_t i = 0; i < count; i++) {
                right &= ulps(x[i], exp((double)(was[i] - top))) <= 2;
                sum += (double)x[i];
            }
            expect(right && canary_intact(x), "wrong value");
            expect(within(returned, sum, ((double)count + 2) * UNIT * sum), "wrong sum");
            if (peer)
                expect(peer->exp_sum_f32(same, top, count) == returned && same_bits(x, same, count),
                       "other bits than the level below");
            release_all();
        }
}

static void check_relu_f32(const struct kernels *k)
{
    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        size_t count = counts[c], stride = count + 3, total = 2 * stride + count;
        at(count, 0, 0);
        float *x = odd_floats(total), *was = copy_of(x, total);
        k->relu_f32(x, stride, 3, count);
        for (size_t i = 0; i < total; i++)
            was[i] = i % stride < count && was[i] < 0 ? 0 : was[i];
        expect(same_values(x, was, total) && canary_intact(x), "wrong value");
        release_all();
    }
}

typedef void widen_fn(float *, const void *, size_t);

/* All numbers that there are, from an odd address; then every short count up to the guard page. */
static void check_widen(widen_fn *fn, widen_fn *ref, double (*exact)(uint16_t))
{
    enum { ALL = 65536 };
    float *out = guarded(ALL), *same = guarded(ALL);
    unsigned char *in = (unsigned char *)guarded_bytes(2 * ALL + 1);
    for (uint32_t i = 0; i < ALL; i++) {
        uint16_t value = (uint16_t)i;
        memcpy(in + 2 * i, &value, 2);
    }
    at(ALL, 0, 0);
    fn(out, in, ALL);
    bool right = true;
    for (uint32_t i = 0; i < ALL; i++) {
        double want = exact((uint16_t)i);
        right &= isnan(want) ? isnan(out[i])
                             : (double)out[i] == want && !signbit(out[i]) == !signbit(want);
    }
    expect(right, "wrong value");
    ref(same, in, ALL);
    expect(same_bits(out, same, ALL), "other bits than the reference");
    release_all();
    for (size_t count = 1; count < 40; count++) {
        at(count, 0, 0);
        out = guarded(count), same = guarded(count), in = guarded_bytes(2 * count);
        fn(out, in, count);
        ref(same, in, count);
        expect(same_values(out, same, count) && canary_intact(out), "a short row");
        release_all();
    }
}

static double exact_f16(uint16_t x)
{
    int exponent = x >> 10 & 31, mantissa = x & 1023;
    double magnitude = exponent == 31 ? (mantissa ? (double)NAN : (double)INFINITY)
                       : exponent     ? ldexp(1024 + mantissa, exponent - 25)
                                      : ldexp(mantissa, -24);
    return x & 0x8000 ? -magnitude : magnitude;
}

static double exact_bf16(uint16_t x)
{
    int exponent = x >> 7 & 255, mantissa = x & 127;
    double magnitude = exponent == 255 ? (mantissa ? (double)NAN : (double)INFINITY)
                       : exponent      ? ldexp(128 + mantissa, exponent - 134)
                                       : ldexp(mantissa, -133);
    return x & 0x8000 ? -magnitude : magnitude;
}

static void check_widen_f16(const struct kernels *k)
{
    check_widen(k->widen_f16, reference.widen_f16, exact_f16);
}

static void check_widen_bf16(const struct kernels *k)
{
    check_widen(k->widen_bf16, reference.widen_bf16, exact_bf16);
}

/* ---- main ------------------------------------------------------------------------------- */

/* A check of a row of one of the tables. */
struct check {
    void (*of)(const struct kernels *);
    void (*of_rows)(const struct train_row_kernels *);
    void (*of_train)(const struct train_kernels *);
};

static void guarded_check(const char *name, struct check check, const void *table)
{
    static const int signals[] = { SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGALRM };
    struct sigaction action = { .sa_handler = on_crash };
    for (size_t i = 0; i < COUNT_OF(signals); i++)
        sigaction(signals[i], &action, NULL);
    now_op = name;
    at(0, 0, 0);
    rng_seed(&rng, seed);
    int signal_number = sigsetjmp(crashed, 1);
    if (signal_number == 0) {
        alarm(120);
        if (check.of)
            check.of(table);
        else if (check.of_rows)
            check.of_rows(table);
        else
            check.of_train(table);
    } else {
        fail(strsignal(signal_number));
    }
    alarm(0);
    release_all();
}

static int usage(void)
{
    fputs("usage: kernelcheck --level ref|avx2|avx512|amx|amx-emulated [--seed N] [--only NAME] "
          "[--bench [--json]]\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    const char *only = "";
    bool timing = false, json = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--bench"))
            timing = true;
        else if (!strcmp(argv[i], "--json"))
            json = true;
        else if (!strcmp(argv[i], "--level") && i + 1 < argc)
            level = argv[++i];
        else if (!strcmp(argv[i], "--only") && i + 1 < argc)
            only = argv[++i];
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 0);
        else
            return usage();
    }
    unsigned flags;
    bool emulated = level && !strcmp(level, "amx-emulated");
    if (!level || !cpu_level(emulated ? "ref" : level, cpu_detect(), &flags))
        return usage();
    if (!emulated && strcmp(cpu_level_name(flags), level)) {
        printf("skipped: this machine has no %s\n", level);
        return 77;
    }
    struct kernels k, avx2, below;
    kernels_use_ref(&reference);
    kernels_select(&k, flags);
    if (emulated)
        kernels_use_amx_emulated(&k);
    kernels_select(&avx2, flags & CPU_AVX2);
    kernels_select(&below, flags & CPU_AVX512 ? flags & CPU_AVX2 : 0);
    peer = flags & CPU_AVX512 ? &avx2 : NULL;
    /* A row of the table without a check_<name> does not compile. */
#define X(name, result, params)                                                      \
    if (strstr(#name, only))                                                         \
        guarded_check(#name, (struct check){ .of = check_##name }, &k);
    KERNELS(X)
#undef X
    struct train_row_kernels rows, rows_below;
    train_rows_select(&rows, flags);
    train_rows_select(&rows_below, flags & CPU_AVX512 ? flags & CPU_AVX2 : 0);
    train_rows_peer = peer ? &rows_below : NULL;
#define X(name, result, params)                                                      \
    if (strstr(#name, only))                                                         \
        guarded_check(#name, (struct check){ .of_rows = check_##name }, &rows);
    TRAIN_ROW_KERNELS(X)
#undef X
    struct train_kernels train, train_below;
    train_kernels_select(&train, flags);
    train_kernels_select(&train_below, flags & CPU_AVX512 ? flags & CPU_AVX2 : 0);
    train_peer = peer ? &train_below : NULL;
#define X(name, result, params)                                                      \
    if (strstr(#name, only))                                                         \
        guarded_check(#name, (struct check){ .of_train = check_##name }, &train);
    TRAIN_KERNELS(X)
#undef X
    if (peer && strstr("gemm_f32", only))
        guarded_check("gemm_f32", (struct check){ .of = check_gemm_peer }, &k);
    fprintf(json ? stderr : stdout, "%s: %d checks, %d failures, seed %llu\n", level, checks,
            failures, (unsigned long long)seed);
    if (failures)
        return 1;
    if (timing) {
        kernelbench(level, &k, flags & CPU_AVX2 ? &below : NULL, flags, json);
        if (!json) {
            train_bench(level, &train, flags & CPU_AVX2 ? &train_below : NULL, only);
            train_rows_bench(level, &rows, flags & CPU_AVX2 ? &rows_below : NULL, only);
        }
    }
    return 0;
}
