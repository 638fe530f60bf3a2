/* AVX-512 BF16: two products of bfloat16 numbers into one float32 lane. */
#include "compute/cpu/kernels.h"

#include <immintrin.h>
#include <math.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* 12 x 2 accumulators, two registers of the panel, one broadcast: 27 of 32. */
enum { ROWS = 12, VECTORS = 2, COLS = 16 * VECTORS };

static inline __mmask16 first_lanes(size_t live)
{
    return live >= 16 ? 0xffff : (__mmask16)((1u << live) - 1);
}

static inline __m512bh load_pairs(const uint16_t *p)
{
    return (__m512bh)_mm512_loadu_si512(p);
}

static inline __m512bh set_pair(const uint16_t *p)
{
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}

/* `rows` is a constant where this is inlined, so the accumulators are registers. */
ALWAYS_INLINE void tile(float *out, size_t out_stride, const uint16_t *x, size_t x_stride,
                        const uint16_t *panel, size_t depth, const int rows, size_t cols,
                        const float *bias)
{
    __m512 sums[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        sums[r][0] = bias ? _mm512_loadu_ps(bias) : _mm512_setzero_ps();
        sums[r][1] = bias ? _mm512_loadu_ps(bias + 16) : _mm512_setzero_ps();
    }
    for (size_t k = 0; k < depth; k += 2) {
        const uint16_t *at = panel + k * COLS;
        __m512bh b0 = load_pairs(at), b1 = load_pairs(at + 32);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            __m512bh a = set_pair(x + (size_t)r * x_stride + k);
            sums[r][0] = _mm512_dpbf16_ps(sums[r][0], a, b0);
            sums[r][1] = _mm512_dpbf16_ps(sums[r][1], a, b1);
        }
    }
    __mmask16 low = first_lanes(cols), high = first_lanes(cols > 16 ? cols - 16 : 0);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        float *to = out + (size_t)r * out_stride;
        _mm512_mask_storeu_ps(to, low, sums[r][0]);
        _mm512_mask_storeu_ps(to + 16, high, sums[r][1]);
    }
}

static void gemm_bf16(float *out, size_t out_stride, const uint16_t *x, size_t x_stride,
                      const uint16_t *panel, size_t depth, size_t rows, size_t cols,
                      const float *bias)
{
    switch (rows) {
#define CASE(n)                                                                                 \
    case n:                                                                                     \
        tile(out, out_stride, x, x_stride, panel, depth, n, cols, bias);                        \
        break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#undef CASE
    }
}

static void narrow_bf16(uint16_t *out, const float *x, size_t count, size_t padded)
{
    for (size_t i = 0; i < padded; i += 16) {
        __mmask16 live = i < count ? first_lanes(count - i) : 0, written = first_lanes(padded - i);
        __m256i halves = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(live, x + i));
        _mm256_mask_storeu_epi16(out + i, written, halves);
    }
}

/* ---- attention --------------------------------------------------------------------------- */

/* As attend_wide.h, with pairs of bfloat16 numbers where that has float32 numbers: pairs of
 * dimensions of keys and queries, pairs of keys of weights and values. Scores are in units of ln 2,
 * so that the exponential is a power of two. */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t round_up(size_t value, size_t step)
{
    return (value + step - 1) / step * step;
}

/* Lanes of `first`, then of `second`, become pairs of one of each. */
static inline __m512i zip(__m512 first, __m512 second)
{
    static const uint16_t order[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                       21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                       11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_loadu_si512(order),
                                    (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

static inline __m512 load_first(const float *x, size_t live)
{
    return _mm512_maskz_loadu_ps(first_lanes(live), x);
}

/* halves[row][padded] = scale * x[row]; padded is a multiple of 32, zeros behind the last number */
ALWAYS_INLINE void narrow_rows(uint16_t *halves, size_t padded, const float *x, size_t stride,
                               size_t rows, size_t dim, float scale)
{
    __m512 factor = _mm512_set1_ps(scale);
    for (size_t r = 0; r < rows; r++)
        for (size_t d = 0; d < padded; d += 32) {
            const float *from = x + r * stride + d;
            __m512 low = load_first(from, dim > d ? dim - d : 0),
                   high = load_first(from + 16, dim > d + 16 ? dim - d - 16 : 0);
            __m512bh both = _mm512_cvtne2ps_pbh(_mm512_mul_ps(high, factor),
                                                _mm512_mul_ps(low, factor));
            _mm512_storeu_si512(halves + r * padded + d, (__m512i)both);
        }
}

/* values[key / 2][padded][2]; padded is a multiple of 32; an odd last key has zeros beside it */
static void zip_values(uint16_t *values, size_t padded, const struct head *head, size_t key,
                       size_t keys)
{
    for (size_t j = 0; j < keys; j += 2)
        for (size_t d = 0; d < padded; d += 16) {
            const float *from = head->v + (key + j) * head->stride + d;
            size_t live = head->dim > d ? head->dim - d : 0;
            __m512 second = load_first(from + head->stride, j + 1 < keys ? live : 0);
            _mm512_storeu_si512(values + (j / 2 * padded + d) * 2,
                                zip(load_first(from, live), second));
        }
}

/* panel[pair][COLS] = pair of dimensions of sixteen rows of halves [row][padded] */
static void transpose_pairs(uint16_t *panel, const uint16_t *halves, size_t padded)
{
    for (size_t d = 0; d < padded; d += 8) {
        __m512i z[4];
        for (size_t i = 0; i < 4; i++) {
            const uint16_t *row = halves + i * padded + d;
            z[i] = _mm512_castsi128_si512(_mm_loadu_si128((const void *)row));
#define LANE(mask, n)                                                                              \
    z[i] = _mm512_mask_broadcast_i32x4(z[i], mask,                                                 \
                                       _mm_loadu_si128((const void *)(row + 4 * (n)*padded)));
            LANE(0x00f0, 1) LANE(0x0f00, 2) LANE(0xf000, 3)
#undef LANE
        }
        __m512i a = _mm512_unpacklo_epi32(z[0], z[1]), b = _mm512_unpacklo_epi32(z[2], z[3]),
                c = _mm512_unpackhi_epi32(z[0], z[1]), e = _mm512_unpackhi_epi32(z[2], z[3]);
        uint16_t *to = panel + d * COLS;
        _mm512_storeu_si512(to, _mm512_unpacklo_epi64(a, b));
        _mm512_storeu_si512(to + 2 * COLS, _mm512_unpackhi_epi64(a, b));
        _mm512_storeu_si512(to + 4 * COLS, _mm512_unpacklo_epi64(c, e));
        _mm512_storeu_si512(to + 6 * COLS, _mm512_unpackhi_epi64(c, e));
    }
}

/* scores[key][COLS] for a number of keys that is constant where this is inlined */
ALWAYS_INLINE void score_keys(float *scores, const uint16_t *panel, const uint16_t *k,
                              size_t padded, size_t dim, const int keys, const int vectors,
                              float *top)
{
    __m512 sums[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < keys; r++)
        sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (size_t d = 0; d < dim; d += 2) {
        __m512bh b0 = load_pairs(panel + d * COLS), b1 = load_pairs(panel + d * COLS + 32);
#pragma GCC unroll 16
        for (int r = 0; r < keys; r++) {
            __m512bh a = set_pair(k + (size_t)r * padded + d);
            sums[r][0] = _mm512_dpbf16_ps(sums[r][0], a, b0);
            if (vectors > 1)
                sums[r][1] = _mm512_dpbf16_ps(sums[r][1], a, b1);
        }
    }
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
        __m512 largest = _mm512_loadu_ps(top + v * 16);
#pragma GCC unroll 16
        for (int r = 0; r < keys; r++) {
            _mm512_storeu_ps(scores + r * COLS + v * 16, sums[r][v]);
            largest = _mm512_max_ps(sums[r][v], largest);   /* NaN goes by */
        }
        _mm512_storeu_ps(top + v * 16, largest);
    }
}

ALWAYS_INLINE void score_block(float *scores, const uint16_t *panel, const uint16_t *k,
                               size_t padded, size_t dim, size_t keys, const int vectors,
                               float *top)
{
    for (size_t r = 0; r < keys; r += ROWS)
        switch (smaller(ROWS, keys - r)) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        score_keys(scores + r * COLS, panel, k + r * padded, padded, dim, n, vectors, top);        \
        break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
            CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#undef CASE
        }
}

/* 2^x for x <= 0, off by 2^-13.7 of it; 2^-127 counts as 0 later on. */
static inline __m512 power_of_two(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-127), x);     /* NaN stays */
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_sub_ps(x, n), p = _mm512_set1_ps(0x1.c3f760p-5f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.f0de1ap-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.62f31ap-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.fff692p-1f));
    return _mm512_scalef_ps(p, n);
}

/* weights[key / 2][COLS][2] from scores; returns their sums. weights may be where scores are:
 * nothing is overwritten that is still needed. */
static __m512 weigh(uint16_t *weights, const float *scores, size_t keys, __m512 top)
{
    __m512 total = _mm512_setzero_ps();
    for (size_t j = 0; j < keys; j += 2) {
        __m512 first = power_of_two(_mm512_sub_ps(_mm512_loadu_ps(scores + j * COLS), top)),
               second = _mm512_setzero_ps();
        if (j + 1 < keys)
            second = power_of_two(_mm512_sub_ps(_mm512_loadu_ps(scores + (j + 1) * COLS), top));
        _mm512_storeu_si512(weights + j * COLS, zip(first, second));
        total = _mm512_add_ps(total, _mm512_add_ps(first, second));
    }
    return total;
}

/* One block of keys for some queries. */
struct weights {
    const uint16_t *weights;    /* [pair of keys][COLS][2] */
    const uint16_t *values;     /* [pair of keys][padded][2] */
    size_t padded, pairs;
    const float *before, *after;    /* [query] factors of what `out` holds (NULL: nothing), and of
                                       the result (NULL: 1) */
};

/* out[query][c] = (out * before + sum of weights * values) * after */
ALWAYS_INLINE void weigh_values(float *out, size_t out_stride, const struct weights *w,
                                size_t query, size_t c, const int rows, size_t cols)
{
    __m512 sums[ROWS][VECTORS];
    __mmask16 low = first_lanes(cols), high = first_lanes(cols > 16 ? cols - 16 : 0);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        const float *from = out + (size_t)r * out_stride;
        sums[r][0] = sums[r][1] = _mm512_setzero_ps();
        if (w->before) {
            __m512 factor = _mm512_set1_ps(w->before[query + (size_t)r]);
            sums[r][0] = _mm512_mul_ps(_mm512_maskz_loadu_ps(low, from), factor);
            sums[r][1] = _mm512_mul_ps(_mm512_maskz_loadu_ps(high, from + 16), factor);
        }
    }
    for (size_t pair = 0; pair < w->pairs; pair++) {
        const uint16_t *at = w->values + (pair * w->padded + c) * 2;
        __m512bh b0 = load_pairs(at), b1 = load_pairs(at + 32);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            __m512bh a = set_pair(w->weights + (pair * COLS + query + (size_t)r) * 2);
            sums[r][0] = _mm512_dpbf16_ps(sums[r][0], a, b0);
            sums[r][1] = _mm512_dpbf16_ps(sums[r][1], a, b1);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        float *to = out + (size_t)r * out_stride;
        __m512 factor = _mm512_set1_ps(w->after ? w->after[query + (size_t)r] : 1);
        _mm512_mask_storeu_ps(to, low, _mm512_mul_ps(sums[r][0], factor));
        _mm512_mask_storeu_ps(to + 16, high, _mm512_mul_ps(sums[r][1], factor));
    }
}

static void weigh_block(const struct head *head, const struct weights *w, size_t first,
                        size_t queries)
{
    for (size_t c = 0; c < head->dim; c += COLS)
        for (size_t r = 0; r < queries; r += ROWS) {
            float *out = head->out + (first + r) * head->out_stride + c;
            switch (smaller(ROWS, queries - r)) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        weigh_values(out, head->out_stride, w, r, c, n, head->dim - c);                            \
        break;
                CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
                CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#undef CASE
            }
        }
}

/* Some queries against one block of keys: their part of `out`, and the running softmax. */
static void attend_block(const struct head *head, struct attend_scratch *s, size_t query,
                         size_t queries, size_t key, size_t keys)
{
    uint16_t rows[16 * ATTEND_DIMS], *panel = (uint16_t *)s->queries,
             *weights = (uint16_t *)s->weights;
    float scale = 0x1.715476p+0f / sqrtf((float)head->dim), factor[COLS], inverse[COLS];
    float *top = s->top + query, *total = s->total + query;
    size_t padded = round_up(head->dim, COLS);
    const int vectors = queries > 16 ? 2 : 1;
    __m512 old[VECTORS];
    for (int v = 0; v < vectors; v++) {
        size_t first = (size_t)v * 16, live = smaller(16, queries - first);
        narrow_rows(rows, padded, head->q + (query + first) * head->stride, head->stride, live,
                    head->dim, scale);
        transpose_pairs(panel + first * 2, rows, padded);
        old[v] = key ? _mm512_loadu_ps(top + first) : _mm512_set1_ps(-INFINITY);
        _mm512_storeu_ps(top + first, old[v]);
    }
    if (vectors > 1)
        score_block(s->scores, panel, s->keys, padded, head->dim, keys, 2, top);
    else
        score_block(s->scores, panel, s->keys, padded, head->dim, keys, 1, top);
    for (int v = 0; v < vectors; v++) {
        size_t first = (size_t)v * 16;
        __m512 largest = _mm512_loadu_ps(top + first),
               sum = weigh(weights + first * 2, s->scores + first, keys, largest);
        if (key) {
            __m512 f = power_of_two(_mm512_sub_ps(old[v], largest));
            _mm512_storeu_ps(factor + first, f);
            sum = _mm512_fmadd_ps(_mm512_loadu_ps(total + first), f, sum);
        }
        _mm512_storeu_ps(total + first, sum);
        _mm512_storeu_ps(inverse + first, _mm512_div_ps(_mm512_set1_ps(1), sum));
    }
    struct weights w = { .weights = weights, .values = s->values, .padded = padded,
                         .pairs = (keys + 1) / 2, .before = key ? factor : NULL,
                         .after = key + keys == head->keys ? inverse : NULL };
    weigh_block(head, &w, query, queries);
}

static void attend_rough(const struct head *head, struct attend_scratch *s)
{
    size_t padded = round_up(head->dim, COLS);
    for (size_t key = 0; key < head->keys; key += ATTEND_KEYS) {
        size_t keys = smaller(ATTEND_KEYS, head->keys - key);
        narrow_rows(s->keys, padded, head->k + key * head->stride, head->stride, keys, head->dim,
                    1);
        zip_values(s->values, padded, head, key, keys);
        for (size_t query = 0; query < head->queries; query += COLS)
            attend_block(head, s, query, smaller(COLS, head->queries - query), key, keys);
    }
}

void kernels_use_avx512bf16(struct kernels *k)
{
    k->gemm_bf16 = gemm_bf16;
    k->attend_rough = attend_rough;
    k->narrow_bf16 = narrow_bf16;
    k->bf16 = (struct gemm_blocks){ .mr = ROWS, .nr = COLS, .rows = 96, .granule = 2 };
}
